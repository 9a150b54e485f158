"""The look of a report: one page, nothing loaded from elsewhere, light or dark as the reader's system is."""

import base64
from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --ink: #1c1f23; --soft: #646b75; --line: #e2e3e1; --card: #ffffff;
  --accent: #1f8a7d; --warm: #d07c1e; --bad: #b8433c; --good: #2e7d4f; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --ink: #e9ebee; --soft: #98a0aa; --line: #2d3137;
  --card: #1b1e22; --accent: #4db6ac; --warm: #f0a448; --bad: #e58078; --good: #7cc898; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 1.05rem; font-weight: 600; margin: 0; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 48px 0 12px; }
h3 { font-size: .85rem; font-weight: 600; color: var(--soft); margin: 0 0 10px; }
p { margin: 0 0 8px; } .soft, .none { color: var(--soft); }
.headline { font-size: clamp(2.6rem, 9vw, 4rem); line-height: 1.1; font-weight: 600;
  letter-spacing: -.03em; margin: 12px 0 4px; }
.headline small { font-size: 1rem; font-weight: 400; letter-spacing: 0; color: var(--soft); white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; font-size: .85rem; color: var(--soft); }
th, td { padding: 7px 16px 7px 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
td.n, th.n { text-align: right; white-space: nowrap; } th:last-child, td:last-child { padding-right: 0; }
tr.total td { font-weight: 600; }
.next { margin-top: 28px; }
.charts { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px; min-width: 0; }
svg { width: 100%; height: auto; display: block; font-size: 13px; fill: var(--ink); }
svg .tick { font-size: 11px; fill: var(--soft); } svg .grid, svg .axis { stroke: var(--line); }
svg .bar { fill: var(--accent); } svg .bar.bad { fill: var(--bad); }
svg .median { stroke: var(--ink); stroke-dasharray: 2 3; }
svg .whisker line { stroke: var(--ink); stroke-width: 1.5; }
.key { font-size: .8rem; color: var(--soft); margin: 8px 0 0; }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px;
  background: var(--accent); }
.key i.bad { background: var(--bad); margin-left: 14px; }
figure { margin: 0 0 28px; }
img, video { width: 100%; height: auto; display: block; border-radius: 6px; background: #14161a; }
figcaption { font-size: .92rem; margin-top: 8px; } figcaption .soft { font-size: .85rem; }
.sheet img { min-width: 680px; }
.videos { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.videos figure { margin: 0; }
.yes { color: var(--good); } .no { color: var(--bad); }
code { font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { margin: 0 0 8px; padding: 12px 14px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  white-space: pre-wrap; }
details summary { cursor: pointer; color: var(--soft); margin-bottom: 8px; }
"""


def page(title: str, body: str) -> str:
    """A whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def table(header: list[tuple[str, bool]], rows: list[list[str]], last_is_total: bool = False) -> str:
    """Cells are HTML already; header: (text, whether the column holds numbers)."""
    marks = [' class="n"' if number else "" for _, number in header]
    head = "".join(f"<th{mark}>{escape(text)}</th>" for (text, _), mark in zip(header, marks, strict=True))
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td{mark}>{cell}</td>" for cell, mark in zip(row, marks, strict=True))
        total = ' class="total"' if last_is_total and index == len(rows) - 1 else ""
        lines.append(f"<tr{total}>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def data_url(data: bytes, kind: str) -> str:
    """What a page can hold of a picture or film; kind: its media type, such as "image/jpeg"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
