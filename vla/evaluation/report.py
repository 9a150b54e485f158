"""The report of an evaluation as one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from vla import assets
from vla.evaluation.charts import Rate, histogram, rate_bars
from vla.evaluation.compare import comparison_cells
from vla.evaluation.console import spread, untold
from vla.evaluation.episode import EpisodeResult
from vla.evaluation.perturbations import PERTURBATIONS
from vla.evaluation.setup import media_path
from vla.page import data_url, page, table
from vla.s2.places import plain_words

SPLIT_NAMES = {
    "train": "as in training",
    "phrasing": "phrasing held out of training",
    "pair": "colour and shape held out of training",
}
MAX_FAILURES, MAX_SUCCESSES = 12, 6


def write_report(path: Path, document: Mapping[str, Any], results: Sequence[EpisodeResult], media: Path | None) -> None:
    """Write the report of `document` (as `vla.evaluation.evaluate` returns it), whole or not at all.

    media: folder with the episodes' pictures and videos, which are copied into the file.
    """
    name = Path(str(document["policy"])).name
    body = "\n".join(
        [
            _headline(name, document),
            "<h2>Success</h2>",
            _success_table(document),
            _comparison(document),
            _sheets("Failures", [r for r in results if not r.success], MAX_FAILURES, media),
            "<h2>Measurements</h2>",
            _charts(document, results),
            _videos(results, media),
            _sheets("Successes", [r for r in results if r.success], MAX_SUCCESSES, media),
            "<h2>Episodes</h2>",
            _episode_table(results),
            _provenance(document),
        ]
    )
    assets.write_file(path, page(f"{name} in {document['env']}", body), "report")


def percent_range(interval: Sequence[float]) -> str:
    """An interval of rates as whole percents."""
    return f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f} %"


def conditions(document: Mapping[str, Any]) -> str:
    """In words: under which latency and with which changes the episodes ran."""
    options = document["options"]
    period = options["s2_delay"] if options["s2_period"] is None else options["s2_period"]
    parts = [f"S2 delay {options['s2_delay']:g} s, period {period:g} s", f"S1 delay {options['s1_delay']} steps"]
    if options["variant"] == "no-thoughts":
        parts = ["S1 alone, latents “none yet”", parts[-1]]
    elif options["variant"] != "two-speed":
        parts.append(options["variant"])
    parts += [PERTURBATIONS[name] for name in options["perturb"]]
    if note := untold(document["counts"].get("unparaphrased", 0)):
        parts.append(note)
    for key in ("task", "split"):
        if options[key] != "all":
            parts.append(f"{key} {options[key]}")
    return ", ".join(parts)


def _headline(name: str, document: Mapping[str, Any]) -> str:
    count, wins = document["episodes"], sum(document["outcomes"])
    return (
        f"<h1>Policy {escape(name)} in environment {escape(document['env'])}</h1>"
        f'<p class="headline">{100 * document["success_rate"]:.0f} % '
        f"<small>success, 95 % interval {percent_range(document['ci95'])}</small></p>"
        f'<p class="soft">{wins} of {count} episodes, seeds {document["seed"]} to {document["seed"] + count - 1}. '
        f"{escape(conditions(document))}.</p>"
    )


def _success_table(document: Mapping[str, Any]) -> str:
    def rows(groups: Mapping[str, Any]) -> list[list[str]]:
        return [
            [escape(name), str(group["episodes"]), f"{100 * group['success_rate']:.1f} %", percent_range(group["ci95"])]
            for name, group in groups.items()
        ]

    numbers = [("episodes", True), ("success", True), ("95 % interval", True)]
    tables = table([("family", False), *numbers], rows({**document["per_task"], "all": document}), last_is_total=True)
    if document["per_group"]:
        mean = ["<b>mean of the groups</b>", "", f"{100 * document['group_mean']:.1f} %", ""]
        grouped = table([("group", False), *numbers], [*rows(document["per_group"]), mean], last_is_total=True)
        tables = f'{grouped}<div class="next">{tables}</div>'
    if set(document["per_split"]) - {"train"}:
        named = {SPLIT_NAMES.get(name, name): group for name, group in document["per_split"].items()}
        tables += f'<div class="next">{table([("words and objects", False), *numbers], rows(named))}</div>'
    if note := spread(document):
        tables += f'<p class="soft">{escape(note)}</p>'
    return tables


def _comparison(document: Mapping[str, Any]) -> str:
    compared = document.get("compared")
    if compared is None:
        return ""
    columns = ("episodes", "won", "lost", "difference, points", "95 % interval")
    groups = (*compared["per_group"].items(), ("all", compared["all"]))
    rows = [[escape(name), *comparison_cells(row)] for name, row in groups]
    body = table([("group", False), *((name, True) for name in columns)], rows, last_is_total=True)
    return f"<h2>Beside {escape(Path(compared['policy']).name)}, on the same episodes</h2>{body}"


def _charts(document: Mapping[str, Any], results: Sequence[EpisodeResult]) -> str:
    by = "group" if document["per_group"] else "family"
    groups = [*(document["per_group"] or document["per_task"]).items(), ("all", document)]
    rates = [Rate(name, g["success_rate"], g["ci95"][0], g["ci95"][1], g["episodes"]) for name, g in groups]
    ages, slow, fast = ([x for one in results for x in getattr(one, key)] for key in ("s2_age_s", "s2_ms", "s1_ms"))
    steps = [("good", [r.steps for r in results if r.success]), ("bad", [r.steps for r in results if not r.success])]
    key = '<p class="key"><i></i>success<i class="bad"></i>failure</p>'
    cards = [
        (f"Success by {by}, %", rate_bars(rates)),
        ("Steps per episode", histogram(steps, "steps") + key),
        ("Age of the thought at each replan", histogram([("age", ages)], "s")),
        ("S2, time per thought", histogram([("slow", slow)], "ms")),
        ("S1, time per chunk", histogram([("fast", fast)], "ms")),
    ]
    return '<div class="charts">' + "".join(f'<div class="card"><h3>{t}</h3>{c}</div>' for t, c in cards) + "</div>"


def _videos(results: Sequence[EpisodeResult], media: Path | None) -> str:
    figures = []
    for result in results:
        path = media_path(media, result.index, "mp4") if media else None
        if path is not None and path.exists():
            source = (
                f'<video controls muted loop playsinline preload="metadata" src="{_embed(path, "video/mp4")}"></video>'
            )
            figures.append(f"<figure>{source}{_caption(result)}</figure>")
    return f'<h2>Videos</h2><div class="videos">{"".join(figures)}</div>' if figures else ""


def _sheets(title: str, results: Sequence[EpisodeResult], most: int, media: Path | None) -> str:
    if media is None:
        return ""
    shown = [r for r in results if media_path(media, r.index, "jpg").exists()][:most]
    if not shown:
        return ""
    note = f' <span class="soft">{len(shown)} of {len(results)}</span>' if len(shown) < len(results) else ""
    sections = [f"<h2>{title}{note}</h2>"]
    for result in shown:
        source = _embed(media_path(media, result.index, "jpg"), "image/jpeg")
        image = f'<img alt="{escape(result.instruction)}" src="{source}">'
        sections.append(f'<figure><div class="scroll sheet">{image}</div>{_caption(result)}</figure>')
    return "".join(sections)


def _caption(result: EpisodeResult) -> str:
    said = f"S2: “{escape(plain_words(result.words))}” · " if result.words else ""
    swapped = f" · instead of: {escape(result.original)}" if result.original else ""
    note = f"{said}{result.steps} steps · seed {result.seed}{swapped}"
    told = f"{escape(result.instruction)} {_mark(result.success)}"
    return f'<figcaption>{told}<br><span class="soft">{note}</span></figcaption>'


def _episode_table(results: Sequence[EpisodeResult]) -> str:
    header = [("seed", True), ("instruction", False), ("S2 says", False), ("steps", True), ("success", False)]
    rows = [
        [str(r.seed), escape(r.instruction), escape(plain_words(r.words)) or "–", str(r.steps), _mark(r.success)]
        for r in sorted(results, key=lambda result: result.success)  # failures first, each in seed order
    ]
    body = table(header, rows)
    return body if len(rows) <= 20 else f"<details><summary>All {len(rows)} episodes</summary>{body}</details>"


def _provenance(document: Mapping[str, Any]) -> str:
    git = document["git"] or "not a checkout"
    return (
        f"<h2>How this was made</h2><pre><code>{escape(document['command'])}</code></pre>"
        f'<p class="soft">Code <code>{escape(git)}</code>, policy <code>{escape(document["policy"])}</code>, '
        f"machine: {escape(document['machine'])}.</p>"
    )


def _mark(success: bool) -> str:
    return '<span class="yes">success</span>' if success else '<span class="no">failure</span>'


def _embed(path: Path, kind: str) -> str:
    return data_url(path.read_bytes(), kind)
