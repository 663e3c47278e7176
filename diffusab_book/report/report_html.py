"""What the pages of reports share: one HTML file that holds everything it shows, plotly.js included.

A page forbids itself every request (its Content-Security-Policy), so it is the same with and without a network.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from diffusab_book.report.report_images import Images
from diffusab_core.experiments.records import RunRecord


def document(title: str, main: str, data: Any, script: str, style: str = "") -> str:
    """The whole file.

    Args:
        title: The title, as text.
        main: What the page shows, as HTML.
        data: What ``script`` finds in ``given``, as plain JSON values; not-a-number is a ``ValueError``.
        script: JavaScript of the page, which draws with ``THEME``.
        style: CSS of the page, after ``STYLE``.
    """
    return _DOCUMENT.substitute(
        title=escaped(title),
        style=STYLE + style,
        main=main,
        data=script_json(data),
        plotly=get_plotlyjs(),
        script=THEME + script,
    )


def escaped(value: Any) -> str:
    """Text for HTML."""
    return html.escape(str(value))


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def table_row(cells: Sequence[str]) -> str:
    """A row of a table, the first cell its heading."""
    first, *rest = map(escaped, cells)
    return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>\n"


def definition_list(rows: Iterable[tuple[str, str]]) -> str:
    """Terms, each with what is said of it."""
    return "<dl>" + "".join(f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in rows) + "</dl>"


def record_rows(record: RunRecord) -> Iterator[tuple[str, str]]:
    """Where and when a report was measured, and with what: terms and values from its run record."""
    yield "Device", record.device
    yield "Time", f"{record.started:%Y-%m-%d %H:%M} UTC, {record.wall_time_s:.1f} s"
    yield "Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield "Git revision", record.git_revision or "not in a git checkout"
    yield "Run", record.identity


def image_lists(images: Images) -> str:
    """Which images were used and which were skipped, as two lists that unfold."""
    skipped = "".join(f"<li>{escaped(file)}: {escaped(reason)}</li>" for file, reason in images.skipped)
    used = "".join(f"<li>{escaped(name)}</li>" for name in images.names)
    rest = f"<p>{images.not_opened:,} further files were not needed.</p>" if images.not_opened else ""
    parts = [f"<details><summary>Images used ({len(images.names):,})</summary>{rest}<ul>{used}</ul></details>"]
    if skipped:
        parts.insert(
            0, f"<details><summary>Files skipped ({len(images.skipped):,})</summary><ul>{skipped}</ul></details>"
        )
    return "".join(parts)


STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1f2430; --soft: #5b6472; --line: #d9dde3; --raised: #f6f7f9;
  --accent: #0067a3; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --text: #e6e8ec; --soft: #a3acba; --line: #363c47;
  --raised: #1d2128; --accent: #6cb8ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; } h1 small { color: var(--soft); font-weight: 400;
  display: block; font-size: 1rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; } h3 { font-size: 1rem;
  margin: 1.2rem 0 .2rem; } p { margin: .4rem 0; max-width: 46rem; } .soft { color: var(--soft); }
figure { margin: 1.2rem 0 0; } figcaption { color: var(--soft); font-size: .92rem; max-width: 46rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; width: 100%; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; } thead th { white-space: normal; vertical-align: bottom; color: var(--soft);
  font-weight: 600; min-width: 5.2rem; } tr > :first-child { text-align: left; white-space: normal; min-width: 8.5rem; }
@media (min-width: 50rem) { tr > :first-child { min-width: 11rem; } }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .92rem; } dt {
  color: var(--soft); max-width: 14rem; } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
details { margin: .5rem 0; font-size: .92rem; } summary { cursor: pointer; color: var(--accent); }
details ul { max-height: 18rem; overflow: auto; padding-left: 1.2rem; overflow-wrap: anywhere; }
"""

# Text and grid of the charts take the page's colours, which follow the reader's light or dark setting. A page's script
# calls show() for each chart inside a function that it hands to keepDrawn(), and may ask whether the page is narrow.
THEME = """
  const given = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 36rem)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const show = (chart, data, layout, { legend, top, height }) => {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"),
      zeroline: false, automargin: true };
    Plotly.react(chart, data, { ...layout, font: { ...layout.font, color: colour("--soft") },
      xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") },
        namelength: -1 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: legend, yanchor: "top", font: { color: colour("--text") } },
      height, margin: { l: 8, r: 8, t: top, b: 8 },
    }, { responsive: true, displaylogo: false, displayModeBar: false });
  };
  const keepDrawn = (draw) => {
    for (const query of [dark, narrow]) query.addEventListener("change", draw);
    draw();
  };
"""

_DOCUMENT = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$main</main>
<script type="application/json" id="data">$data</script>
<script>$plotly</script>
<script>
(() => {$script})();
</script>
</body>
</html>
""")
