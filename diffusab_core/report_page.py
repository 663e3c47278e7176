"""The page of a profile report: one HTML file that holds everything it shows, plotly.js included.

The page forbids itself every request (its Content-Security-Policy), so it is the same with and without a network.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from string import Template
from typing import Any

import torch
from plotly.offline import get_plotlyjs

from diffusab_core import figures
from diffusab_core.figures import DASHES, GREY, PALETTE
from diffusab_core.report_images import Images
from diffusab_core.report_types import DEFINITIONS, Profile, Report
from diffusab_core.spectrum import STATISTICS

AXIS_LABELS: Mapping[str, str] = {
    "mean_ratio": "mean of |D / D₀₀|",
    "median_ratio": "median of |D / D₀₀|",
    "ratio_of_means": "mean |D| / mean |D₀₀|",
    "energy": "mean D² / mean D₀₀²",
}


def lines(report: Report) -> list[tuple[Profile, str, str]]:
    """What is drawn, with colour and dash: RGB in grey, models in the book's colours."""
    return [*zip(report.rgb, *rgb_styles(len(report.rgb)), strict=True),
            *zip(report.models, *model_styles(len(report.models)), strict=True)]  # fmt: skip


def rgb_styles(count: int) -> tuple[list[str], list[str]]:
    """Colours and dashes of RGB's lines."""
    return [GREY] * count, [DASHES[(i + 1) % len(DASHES)] for i in range(count)]


def model_styles(count: int) -> tuple[list[str], list[str]]:
    """Colours and dashes of the models, the same in every chart of a page."""
    colours = [colour for colour in PALETTE if colour != GREY]
    return [colours[i % len(colours)] for i in range(count)], [DASHES[i % len(DASHES)] for i in range(count)]


def trace_name(name: str) -> str:
    """A model's name as plotly takes it: no HTML, and no pair of $, which would be mathematics."""
    return html.escape(name).replace("$", "&#36;")


# ---------------------------------------------------------------------------------------------------------------------
# Numbers in words


def white_share(block_size: int) -> float:
    """The high-frequency share of white noise: all frequencies but D_00 hold the same energy."""
    return block_size**2 // 2 / (block_size**2 - 1)


def readings(model: Profile, rgb: Profile, block_size: int) -> list[str]:
    """What a model's numbers say, in plain sentences."""
    share, image, white = model.high_frequency_share, rgb.high_frequency_share, white_share(block_size)
    if share > 0.8 * white:
        verdict = "close to white noise: hardly any order from coarse to fine"
    elif share > 1.25 * image:
        verdict = "flatter than images: more of the signal is fine detail"
    elif share >= 0.8 * image:
        verdict = "falling off about as images do"
    else:
        verdict = "falling off faster than images: less of the signal is fine detail"
    said = [
        f"Spectrum {verdict}. The finer half of the frequencies holds {percent(share)} of the variation inside "
        f"blocks; in RGB of the same size it is {percent(image)}, in white noise {percent(white)}."
    ]
    mean, median = (model.profiles[key][-1] for key in ("mean_ratio", "median_ratio"))
    if mean and median and mean > 3 * median:
        said.append(
            f"Do not compare by mean_ratio here: at the finest frequency it is {number(mean / median)} times the "
            "median, carried by few blocks whose D₀₀ is near zero."
        )
    if model.excluded_blocks:
        said.append(
            f"{model.excluded_blocks:,} of {model.blocks:,} blocks have D₀₀ = 0 and are left out of mean_ratio and "
            "median_ratio."
        )
    return said


def number(value: float) -> str:
    """A positive number for a reader: two digits, or whole from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def percent(value: float) -> str:
    """A share between 0 and 1 for a reader."""
    return f"{100 * value:.2g}%" if value < 0.1 else f"{100 * value:.0f}%"


def alt_text(report: Report, statistic: str) -> str:
    """What the chart of one statistic shows, for somebody who cannot see it."""
    said = []
    for profile, _, _ in lines(report):
        low, high = profile.profiles[statistic][1], profile.profiles[statistic][-1]
        if low is not None and high is not None:
            said.append(f"{profile.name} goes from {low:.2g} at the lowest frequency after the mean to {high:.2g}")
    return (
        f"Frequency profiles on a logarithmic axis, {AXIS_LABELS[statistic]}, against zigzag rank: "
        + "; ".join(said)
        + " at the highest."
    )


# ---------------------------------------------------------------------------------------------------------------------
# The page


def page(report: Report, picture: bytes) -> str:
    """The whole page.

    Args:
        report: What to show.
        picture: The PNG of the same report, shown where scripts are off.
    """
    names = ", ".join(profile.name for profile in report.models[:3])
    names += f" and {len(report.models) - 3} more" if len(report.models) > 3 else ""
    statistic = report.options.statistic
    scripts = f"<script>{get_plotlyjs()}</script>\n<script>{_SCRIPT}</script>"
    return _PAGE.substitute(
        title=escaped(f"Frequency profile: {names}"),
        heading=escaped(names),
        images=escaped(report.images.described),
        options="".join(_option(key, key == statistic) for key in STATISTICS),
        definition=escaped(_definition(statistic)),
        alt=escaped(alt_text(report, statistic)),
        picture=base64.b64encode(picture).decode(),
        rows="".join(map(table_row, _table(report))),
        readings="".join(_reading(report, model) for model in report.models),
        block=report.options.block_size,
        provenance="".join(f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in _provenance(report)),
        lists=image_lists(report.images),
        data=script_json(_chart(report)),
        style=STYLE,
        scripts=scripts,
    )


def _definition(statistic: str) -> str:
    said = DEFINITIONS[statistic].replace("D_uv", "D").replace("D_00", "D₀₀")
    return said[0].upper() + said[1:]


def escaped(value: Any) -> str:
    """Text for HTML."""
    return html.escape(str(value))


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _chart(report: Report) -> dict[str, Any]:
    """The figure, and what changes in it with the statistic."""
    drawn = lines(report)
    curves = {profile.name: torch.zeros(1) for profile, _, _ in drawn}
    figure = json.loads(figures.profiles(curves, alt_text(report, report.options.statistic), height=430).to_json())
    for trace, (profile, colour, dash) in zip(figure["data"], drawn, strict=True):
        trace["line"] = {"color": colour, "dash": dash, "width": 2}
        name = trace_name(profile.name)
        trace["hovertemplate"] = f"rank %{{x}}: %{{y:.3g}}<extra>{name}</extra>"
        trace["name"] = name
    views = {
        key: {
            "y": [[_four_digits(value) for value in profile.profiles[key]] for profile, _, _ in drawn],
            "label": AXIS_LABELS[key],
            "definition": _definition(key),
            "alt": alt_text(report, key),
        }
        for key in STATISTICS
    }
    return {"figure": figure, "views": views, "drawn": report.options.statistic}


def _four_digits(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value else None  # a zero has no place on a logarithmic axis


def _option(statistic: str, chosen: bool) -> str:
    return f'<option value="{statistic}"{" selected" if chosen else ""}>{statistic}: {AXIS_LABELS[statistic]}</option>'


def _table(report: Report) -> Iterable[tuple[str, ...]]:
    for profile in (*report.models, *report.rgb):
        factor = "1"
        if profile.kind != "rgb":
            rgb = report.rgb_like(profile).high_frequency_energy_ratio
            factor = number(profile.high_frequency_energy_ratio / rgb) if rgb else "–"
        yield (
            profile.name,
            percent(profile.high_frequency_share),
            f"{profile.high_frequency_energy_ratio:.2e}",
            factor,
            " × ".join(map(str, profile.shape)),
            f"{profile.compression}×" if profile.compression else "–",
            f"{profile.items:,}",
            f"{profile.blocks:,}",
            f"{profile.excluded_blocks:,}",
        )
    yield ("white noise", percent(white_share(report.options.block_size)), *[""] * 7)


def table_row(cells: Sequence[str]) -> str:
    """A row of a table, the first cell its heading."""
    first, *rest = map(escaped, cells)
    return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>\n"


def _reading(report: Report, model: Profile) -> str:
    sentences = readings(model, report.rgb_like(model), report.options.block_size)
    return f"<h3>{escaped(model.name)}</h3>" + "".join(f"<p>{escaped(sentence)}</p>" for sentence in sentences)


def _provenance(report: Report) -> Iterable[tuple[str, str]]:
    options, record = report.options, report.record
    for model in report.models:
        yield f"{model.name}", f"{model.source} ({model.kind})"
    yield "Images", report.images.described
    yield "Latent of an image", "posterior mean" if options.posterior == "mean" else "posterior sample"
    yield "DCT", f"{options.block_size} × {options.block_size} blocks, orthonormal, zigzag order"
    yield "Precision of the models", options.dtype
    yield "Seed", str(options.seed)
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
#chart { min-height: 430px; } noscript img { max-width: 100%; } label { color: var(--soft); margin-right: .4rem; }
select { font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line); max-width: 100%;
  border-radius: 6px; padding: .25rem .4rem; }
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

# Text and grid of the chart take the page's colours, which follow the reader's light or dark setting.
_SCRIPT = """
(() => {
  const { figure, views, drawn } = JSON.parse(document.getElementById("data").textContent);
  const chart = document.getElementById("chart"), menu = document.getElementById("statistic");
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 36rem)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const draw = () => {
    const view = views[menu.value];
    const data = figure.data.map((trace, i) => ({ ...trace, y: view.y[i] }));
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"),
      zeroline: false, automargin: true };
    const layout = { ...figure.layout, font: { ...figure.layout.font, color: colour("--soft") },
      xaxis: { ...figure.layout.xaxis, ...axis },
      yaxis: { ...figure.layout.yaxis, ...axis, title: { text: view.label } },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") },
        namelength: -1 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: -0.2, yanchor: "top", font: { color: colour("--text") } },
      height: narrow.matches ? 330 + 22 * data.length : 430, margin: { l: 8, r: 8, t: 12, b: 8 } };
    Plotly.react(chart, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    chart.setAttribute("aria-label", view.alt);
    document.getElementById("definition").textContent = view.definition;
  };
  menu.value = drawn;
  menu.addEventListener("change", draw);
  for (const query of [dark, narrow]) query.addEventListener("change", draw);
  draw();
})();
"""

_PAGE = Template("""<!doctype html>
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
<h1><small>Frequency profile</small>$heading</h1>
<p class="soft">Measured on $images.</p>
<figure>
<div><label for="statistic">Statistic</label><select id="statistic" autocomplete="off">$options</select></div>
<div id="chart" role="img" aria-label="$alt"></div>
<noscript><img alt="$alt" src="data:image/png;base64,$picture"></noscript>
<figcaption><span id="definition">$definition</span>. D is a coefficient of the $block × $block block DCT, D₀₀ the \
one that stands for the block's mean. RGB is in [0, 1] and resized to the latents' height and width; latents are raw, \
as the encoder gives them.</figcaption>
</figure>
<h2>Numbers</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Table of numbers">
<table>
<thead><tr><th scope="col">What</th><th scope="col">High-frequency share</th>\
<th scope="col">High-frequency energy ratio</th><th scope="col">Ratio, RGB of the same size = 1</th>\
<th scope="col">Shape of one item</th><th scope="col">Compression</th><th scope="col">Items</th>\
<th scope="col">Blocks</th><th scope="col">Of them D₀₀ = 0</th></tr></thead>
<tbody>
$rows</tbody>
</table>
</div>
<p class="soft"><b>High-frequency share:</b> of the energy outside D₀₀, how much lies in the upper half of the zigzag \
order. <b>High-frequency energy ratio:</b> mean energy of a coefficient in that half over the energy of D₀₀. The ratio \
depends on the offset of the values too (RGB in [0, 1] has a large D₀₀, latents scatter around zero), the share does \
not: compare models with one another by either, with RGB by the share.</p>
<h2>What they say</h2>
$readings
<h2>How to read the chart</h2>
<p>From left to right the frequencies inside a block become finer. Photographs fall off steeply: coarse structure \
is strong, detail weak. A diffusion model makes coarse structure first and detail last, and it relies on that order: \
noise hides weak fine frequencies before strong coarse ones. The flatter a latent's line, the less of this order \
is left, and Skorokhodov et al. (2025) found latents with strong high frequencies harder to learn. A profile says \
nothing about how well the autoencoder reconstructs; look at both.</p>
<p>Compare lines that were drawn with the same statistic, block size and images only.</p>
<h2>Where this comes from</h2>
<dl>$provenance</dl>
$lists
</main>
<script type="application/json" id="data">$data</script>
$scripts
</body>
</html>
""")
