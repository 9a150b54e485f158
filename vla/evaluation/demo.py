"""`vla demo`: ten episodes of a policy with ten instructions, a video of them and a report."""

import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from vla import assets
from vla.evaluation.console import print_summary, progress_bar
from vla.evaluation.episode import Play
from vla.evaluation.evaluate import WORDS_EVERY_S, EvalOptions, make_document
from vla.evaluation.pool import Job, play_all
from vla.evaluation.report import write_report
from vla.evaluation.setup import Setup, media_path
from vla.evaluation.video import join_videos
from vla.policies import check_policy, device_of
from vla.processes import default_workers
from vla.runtime.loop import Policy, Timing

EPISODES, SEED, S2_DELAY_S = 10, 500_000, 0.2
EMBEDDED_VIDEOS = 6


def demo(
    policy: str = "tabletop",
    out: Path = Path("outputs/demo"),
    episodes: int = EPISODES,
    workers: int | None = None,
    loaded: Policy | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Play `episodes` scenes, going through the task families; writes rollout.mp4 and report.html to `out`.

    workers: processes, by default one per core up to four, and one where the policy is on a GPU. `loaded` is used
    instead of loading `policy`. Returns the document of `vla.evaluation.evaluate`. Raises UserError for an unknown
    policy or a folder that cannot be written.
    """
    if loaded is None:
        check_policy(policy)
    assets.check_folder_writable(out)
    workers = workers or min(4, default_workers(device_of(policy, device)))
    options = EvalOptions(timing=Timing(s2_delay=S2_DELAY_S))
    play = Play(timing=options.timing, choice="tour", words_every=WORDS_EVERY_S)
    jobs = [Job(index, SEED + index) for index in range(episodes)]
    with ExitStack() as stack:
        media = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vla-demo-")))
        setup = Setup(policy, "tabletop", play=play, media=str(media), videos=episodes, sheets=episodes, device=device)
        results = []
        with progress_bar("demo", episodes, lines=True) as show:
            for result in stack.enter_context(closing(play_all(setup, jobs, workers, loaded))):
                results.append(result)
                show(result)
        results.sort(key=lambda result: result.index)
        document = make_document(policy, "tabletop", SEED, results, options)
        join_videos(out / "rollout.mp4", [media_path(media, result.index, "mp4") for result in results])
        for result in results[EMBEDDED_VIDEOS:]:  # the report stays light: the rest is in rollout.mp4
            media_path(media, result.index, "mp4").unlink()
        write_report(out / "report.html", document, results, media)
    print_summary(document)
    print(f"video:  {out / 'rollout.mp4'}\nreport: {out / 'report.html'}")
    return document
