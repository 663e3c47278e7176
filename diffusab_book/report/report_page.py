"""The page of a profile report: its numbers, sentences and chart, with a menu for the statistic that is drawn."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from string import Template
from typing import Any

import torch

from diffusab_book import figures
from diffusab_book.figures import DASHES, GREY, PALETTE
from diffusab_book.report.report_html import (
    definition_list,
    document,
    escaped,
    image_lists,
    listed,
    record_rows,
    table_row,
)
from diffusab_book.report.report_types import DEFINITIONS, Profile, Report
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
    names = listed([profile.name for profile in report.models])
    statistic = report.options.statistic
    main = _MAIN.substitute(
        heading=escaped(names),
        images=escaped(report.images.described),
        options="".join(_option(key, key == statistic) for key in STATISTICS),
        definition=escaped(_definition(statistic)),
        alt=escaped(alt_text(report, statistic)),
        picture=base64.b64encode(picture).decode(),
        rows="".join(map(table_row, _table(report))),
        readings="".join(_reading(report, model) for model in report.models),
        block=report.options.block_size,
        provenance=definition_list(_provenance(report)),
        lists=image_lists(report.images),
    )
    return document(f"Frequency profile: {names}", main, _chart(report), _SCRIPT, style=_STYLE)


def _definition(statistic: str) -> str:
    said = DEFINITIONS[statistic].replace("D_uv", "D").replace("D_00", "D₀₀")
    return said[0].upper() + said[1:]


def _chart(report: Report) -> dict[str, Any]:
    """The figure, and what changes in it with the statistic."""
    drawn = lines(report)
    curves = {profile.name: torch.zeros(1) for profile, _, _ in drawn}
    figure = figures.shorten(
        json.loads(figures.profiles(curves, alt_text(report, report.options.statistic), height=430).to_json())
    )
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
    yield ("white noise", percent(white_share(report.options.block_size)), *["–"] * 7)


def _reading(report: Report, model: Profile) -> str:
    sentences = readings(model, report.rgb_like(model), report.options.block_size)
    return f"<h3>{escaped(model.name)}</h3>" + "".join(f"<p>{escaped(sentence)}</p>" for sentence in sentences)


def _provenance(report: Report) -> Iterable[tuple[str, str]]:
    options = report.options
    for model in report.models:
        yield f"{model.name}", f"{model.source} ({model.kind})"
    yield "Images", report.images.described
    yield "Latent of an image", "posterior mean" if options.posterior == "mean" else "posterior sample"
    yield "DCT", f"{options.block_size} × {options.block_size} blocks, orthonormal, zigzag order"
    yield "Precision of the models", options.dtype
    yield "Seed", str(options.seed)
    yield from record_rows(report.record)


_STYLE = """
#chart { min-height: 430px; } noscript img { max-width: 100%; } label { color: var(--soft); margin-right: .4rem; }
select { font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line); max-width: 100%;
  border-radius: 6px; padding: .25rem .4rem; }
"""

_SCRIPT = """
  const { figure, views, drawn } = given;
  const chart = document.getElementById("chart"), menu = document.getElementById("statistic");
  const draw = () => {
    const view = views[menu.value];
    const data = figure.data.map((trace, i) => ({ ...trace, y: view.y[i] }));
    const layout = { ...figure.layout, yaxis: { ...figure.layout.yaxis, title: { text: view.label } } };
    show(chart, data, layout, { legend: -0.2, top: 12, height: narrow.matches ? 330 + 22 * data.length : 430 });
    chart.setAttribute("aria-label", view.alt);
    document.getElementById("definition").textContent = view.definition;
  };
  menu.value = drawn;
  menu.addEventListener("change", draw);
  keepDrawn(draw);
"""

_MAIN = Template("""<h1><small>Frequency profile</small>$heading</h1>
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
$provenance
$lists
""")
