"""The page of a diffusability report: one HTML file that holds everything it shows, plotly.js included.

The page forbids itself every request (its Content-Security-Policy), so it is the same with and without a network. Every
chart has its numbers in a table below it, which are also there where scripts are off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from diffusab_core import report_output
from diffusab_core.diagnosis_charts import CAPTIONS, Chart, charts
from diffusab_core.diagnosis_findings import (
    TOLD_CUT,
    TOLD_CUTOFF,
    TOPICS,
    compared,
    findings,
    fine_amplitude,
    finest,
    nearest,
    thresholds,
    tiny,
)
from diffusab_core.diagnosis_types import Diagnosis, DiagnosisReport, Noise, Numbers
from diffusab_core.report_page import (
    STYLE,
    escaped,
    image_lists,
    model_styles,
    percent,
    script_json,
    table_row,
    white_share,
)

NAMES = ("report.json", "report.html")


def write(report: DiagnosisReport, out: str | os.PathLike) -> tuple[Path, ...]:
    """Write ``report.json`` and ``report.html`` into an existing folder, both whole or none; returns their paths.

    Raises:
        ReportError: A file cannot be written; no temporary file is left.
    """
    contents = {
        "report.json": (json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "report.html": page(report).encode(),
    }
    return report_output.write_together({Path(out) / name: contents[name] for name in NAMES})


def summary(report: DiagnosisReport) -> list[str]:
    """The report in a few lines for a shell."""
    said = [f"measured on {report.images.described}"]
    if len(report.images.names) < report.options.samples:
        said.append(f"{report.options.samples} images were asked for, {len(report.images.names)} are there")
    if report.images.skipped:
        file, reason = report.images.skipped[0]
        said.append(f"skipped {len(report.images.skipped)} files, all named in the page; the first is {file}: {reason}")
    for model in report.models:
        said += [
            f"{model.name}: {finding.text}"
            for finding in findings(model, report.rgb_like(model), report.options.block_size)
        ]
    return said


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def _db(value: float | None) -> str:
    return "∞" if value is None else f"{value:.1f}"


def _missing(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def comparison(report: DiagnosisReport) -> Iterator[tuple[str, ...]]:
    """Rows of the table of models: what is measured, with its unit, and one cell a model."""
    plan = report.plan
    cut, cutoff = nearest(plan.cut_ratios, TOLD_CUT), nearest(plan.cutoffs, TOLD_CUTOFF)
    told, r = f"{plan.cut_ratios[cut]:.0%} of frequencies cut", f"{plan.split_radius:g} cycles per latent pixel"

    def row(what: str, cell: Callable[[Diagnosis], str], part: str | None = None) -> tuple[str, ...]:
        """A dash where the part was not measured."""
        there = [part is None or getattr(m, part) is not None for m in report.models]
        return (what, *(cell(m) if has else "–" for m, has in zip(report.models, there, strict=True)))

    def noise(what: str, cell: Callable[[Noise], str]) -> tuple[str, ...]:
        return row(what, lambda m: "deterministic" if m.noise.deterministic else cell(m.noise))

    yield row("Latent, channels × height × width", lambda m: " × ".join(map(str, m.profile.shape)))
    yield row("Compression of each side", lambda m: f"{m.profile.compression}×")
    yield row("Parameters", lambda m: _missing(m.parameters, ","))
    yield row("PSNR, dB", lambda m: _db(m.reconstruction.psnr_db))
    yield row("SSIM", lambda m: _missing(m.reconstruction.ssim, ".3f"))
    yield row("LPIPS (AlexNet)", _lpips)
    yield row("High-frequency share", lambda m: percent(m.profile.high_frequency_share))
    yield row("High-frequency share of RGB at that size", lambda m: percent(report.rgb_like(m).high_frequency_share))
    yield row("High-frequency energy ratio", lambda m: f"{m.profile.high_frequency_energy_ratio:.1e}")
    yield row(
        "High-frequency energy ratio of RGB at that size",
        lambda m: f"{report.rgb_like(m).high_frequency_energy_ratio:.1e}",
    )
    yield row(f"PSNR with {told}, dB", lambda m: _db(m.cut.latent_db[cut]), "cut")
    yield row(f"RGB with {told}, dB", lambda m: _db(m.cut.rgb_db[cut]), "cut")
    yield noise("KL to N(0, 1), nats per number", lambda n: _missing(n.averaged_kl, ".3g"))
    yield noise("Noise share of variance", lambda n: tiny(n.share).replace("less than", "<"))
    yield noise("Silent channels", lambda n: f"{n.silent_channels} of {len(n.by_channel)}")
    for k, s in enumerate(plan.scales):
        yield row(f"Dec(S z) to S x at ×{s}, dB", lambda m, k=k: _db(m.scale.to_image_db[k]), "scale")
        yield row(f"Dec(S z) to S Dec(z) at ×{s}, dB", lambda m, k=k: _db(m.scale.to_reconstruction_db[k]), "scale")
    yield row(f"PSNR from up to {r}, dB", lambda m: _db(m.dependence.low_db), "dependence")
    yield row(f"PSNR from beyond {r}, dB", lambda m: _db(m.dependence.high_db), "dependence")
    yield row(
        "Decoded error of gratings beyond Nyquist",
        lambda m: _missing(finest(m.gratings, "reconstruction_error"), ".2f"), "gratings",
    )  # fmt: skip
    yield row(
        "Folded share of their response", lambda m: _missing(finest(m.gratings, "folded_share"), ".0%"), "gratings"
    )
    yield row(
        f"Fine latent amplitude at cutoff {plan.cutoffs[cutoff]:g}, unfiltered = 1",
        lambda m: f"{fine_amplitude(m.cutoff)[cutoff]:.2f}", "cutoff",
    )  # fmt: skip


def _lpips(model: Diagnosis) -> str:
    return "not measured" if "lpips" in model.not_measured else _missing(model.reconstruction.lpips, ".3f")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str, kind: str = "narrow") -> str:
    cells = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    body = "".join(table_row(row) for row in rows)
    return (
        f'<div class="scroll {kind}" tabindex="0" role="region" aria-label="{escaped(label)}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _numbers(chart: Chart) -> str:
    """A chart's numbers, folded away."""
    columns = list(chart.columns.values())
    rows = [
        (str(place), *("–" if column[i] is None else f"{column[i]:.4g}" for column in columns))
        for i, place in enumerate(chart.places)
    ]
    table = _table((chart.x_label, *chart.columns), rows, f"Numbers of the chart: {chart.x_label}")
    return f'<details class="numbers"><summary>Numbers</summary>{table}</details>'


# ---------------------------------------------------------------------------------------------------------------------
# Sections


def _chart(made: Mapping[str, Chart], key: str, caption: str) -> str:
    if key not in made:
        return ""
    chart = made[key]
    return (
        f'<figure><div class="chart" id="chart-{key}" data-key="{key}" role="img" aria-label="{escaped(chart.alt)}">'
        f"</div><figcaption>{caption}</figcaption>{_numbers(chart)}</figure>"
    )


def _not_measured(report: DiagnosisReport, *topics: str) -> str:
    said = [
        f"<p>{escaped(m.name)}, not measured: {escaped(m.not_measured[topic])}.</p>"
        for m in report.models for topic in topics if topic in m.not_measured
    ]  # fmt: skip
    return "".join(said)


def _no_quality(report: DiagnosisReport) -> str:
    """Metrics that no model has, each with its reason once."""
    said = {
        (metric.upper(), reason): None
        for m in report.models
        for metric, reason in m.not_measured.items()
        if metric in ("lpips", "ssim")
    }
    return "".join(f'<p class="soft"><b>{name}</b> not measured: {escaped(reason)}.</p>' for name, reason in said)


def _findings(report: DiagnosisReport) -> str:
    colours, _ = model_styles(len(report.models))
    parts = []
    for model, colour in zip(report.models, colours, strict=True):
        said = findings(model, report.rgb_like(model), report.options.block_size)
        items = "".join(f"<li><b>{TOPICS[f.topic]}.</b> {escaped(f.text)}</li>" for f in said)
        parts.append(
            f'<h3><span class="swatch" style="background:{colour}"></span>{escaped(model.name)}</h3><ul>{items}</ul>'
        )
    both = compared(report.models)
    if both:
        parts.append("<h3>Compared</h3><ul>" + "".join(f"<li>{escaped(s)}</li>" for s in both) + "</ul>")
    return "".join(parts)


def _pictures(report: DiagnosisReport) -> str:
    """Originals, and of each model what the whole latent, its low and its high part decode to."""
    r = f"{report.plan.split_radius:g}"
    parts = []
    for k, (name, original) in enumerate(zip(report.shown, report.originals, strict=True)):
        rows = []
        for model in report.models:
            if model.pictures:
                words = ("whole latent", f"up to {r}", f"beyond {r}")
                cells = "".join(
                    f"<div>{_picture(uri, f'{name}, {model.name}: {word}')}<p>{word}</p></div>"
                    for uri, word in zip(model.pictures[k], words, strict=True)
                )
                rows.append(f'<p><b>{escaped(model.name)}</b></p><div class="row">{cells}</div>')
        if rows:
            whole = f"<div><p><b>Image</b></p>{_picture(original, f'{name}: the image')}<p>{escaped(name)}</p></div>"
            parts.append(f'<div class="pictures">{whole}<div>{"".join(rows)}</div></div>')
    return "".join(parts)


def _picture(uri: str, alt: str) -> str:
    return f'<img alt="{escaped(alt)}" src="{uri}">'


def _bands(edges: Sequence[float], shares: Numbers) -> str:
    rows = [(f"{a:g} to {b:.3g}", percent(v)) for a, b, v in zip(edges, edges[1:], shares, strict=False)]
    return _table(("Band, cycles per RGB pixel", "Share of energy"), rows, "Energy of the images by band")


def _provenance(report: DiagnosisReport) -> Iterator[tuple[str, str]]:
    options, plan, record = report.options, report.plan, report.record
    for model in report.models:
        yield model.name, model.profile.source
    yield "Images", report.images.described
    yield (
        "Seen once by encoder and decoder",
        f"{len(report.images.names):,} images: spectrum, noise, reconstruction, scale",
    )
    yield (
        "Seen many times",
        (
            f"{len(report.subset)} of them, drawn by the seed: cut curve, decoder's dependence, amplitude by cutoff, "
            f"energy of the images; gratings on {plan.grating_images} of these, of amplitude "
            f"{plan.grating_amplitude:g} of [-1, 1], at {', '.join(f'{a:g}°' for a in plan.angles)} and two phases"
        ),
    )
    yield "Latent of an image", "posterior mean, raw"
    yield "DCT", f"{options.block_size} × {options.block_size} blocks, orthonormal, zigzag order"
    yield "Precision of the models", options.dtype
    yield "Batch size", str(options.batch_size)
    yield "Seed", str(options.seed)
    yield "Device", record.device
    yield "Time", f"{record.started:%Y-%m-%d %H:%M} UTC, {record.wall_time_s:.1f} s"
    yield "Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield "Git revision", record.git_revision or "not in a git checkout"
    yield "Run", record.identity


def page(report: DiagnosisReport) -> str:
    """The whole page."""
    names = ", ".join(model.name for model in report.models[:3])
    names += f" and {len(report.models) - 3} more" if len(report.models) > 3 else ""
    made = charts(report)
    b, r = report.options.block_size, f"{report.plan.split_radius:g}"
    deterministic = [m.name for m in report.models if m.noise.deterministic]
    return _PAGE.substitute(
        title=escaped(f"Diffusability report: {names}"),
        heading=escaped(names),
        images=escaped(report.images.described),
        findings=_findings(report),
        thresholds="".join(f"<li>{escaped(said)}</li>" for said in thresholds()),
        comparison=_table(("", *(m.name for m in report.models)), comparison(report), "Models side by side", "compare"),
        white=percent(white_share(b)),
        block=b,
        radius=r,
        subset=len(report.subset),
        deterministic=f"<p>Deterministic, a point and no distribution: {escaped(', '.join(deterministic))}.</p>"
        if deterministic
        else "",
        pictures=_pictures(report),
        bands=_bands(report.rgb_edges, report.rgb_energy),
        provenance="".join(f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in _provenance(report)),
        lists=image_lists(report.images),
        data=script_json({key: json.loads(chart.figure.to_json()) for key, chart in made.items()}),
        style=STYLE + _MORE_STYLE,
        scripts=f"<script>{get_plotlyjs()}</script>\n<script>{_SCRIPT}</script>",
        **{
            f"chart_{key.replace('-', '_')}": _chart(made, key, caption.replace("{block}", str(b)))
            for key, caption in CAPTIONS.items()
        },
        **{
            f"no_{topic}": _not_measured(report, topic)
            for topic in ("cut", "scale", "dependence", "gratings", "cutoff")
        },
        no_quality=_no_quality(report),
    )


_MORE_STYLE = """
.chart { min-height: 380px; } .swatch { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
  margin-right: .5rem; vertical-align: -.05rem; } ul { padding-left: 1.2rem; max-width: 46rem; }
li { margin: .25rem 0; }
.narrow table { width: auto; } .numbers .scroll { max-height: 22rem; overflow: auto; }
.compare td { white-space: normal; min-width: 5.5rem; } .compare tr > :first-child { min-width: 9rem; position: sticky;
  left: 0; background: var(--page); font-weight: 500; }
.pictures { margin: 1rem 0 1.8rem; display: grid; gap: 0 1rem; } .pictures p { margin: .15rem 0; font-size: .85rem;
  color: var(--soft); } .pictures img { width: 100%; max-width: 200px; display: block; }
.row { display: grid; grid-template-columns: repeat(3, minmax(0, 200px)); gap: .5rem; margin-bottom: .4rem; }
@media (min-width: 50rem) { .compare tr > :first-child { min-width: 22rem; }
  .pictures { grid-template-columns: 200px 1fr; } }
nav { font-size: .92rem; margin: .8rem 0 0; } nav a { margin-right: .9rem; } a { color: var(--accent); }
code { font-size: .92em; } .note { border-left: 3px solid var(--line); padding-left: .8rem; }
"""

# Text and grid of the charts take the page's colours, which follow the reader's light or dark setting.
_SCRIPT = """
(() => {
  const figures = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 36rem)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const draw = () => {
    for (const chart of document.querySelectorAll(".chart")) {
      const { data, layout } = figures[chart.dataset.key];
      const named = data.filter((trace) => trace.showlegend !== false).length;
      const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line"),
        zeroline: false, automargin: true };
      Plotly.react(chart, data, { ...layout, font: { ...layout.font, color: colour("--soft") },
        xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis },
        hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") },
          namelength: -1 },
        legend: { orientation: "h", x: 0, xanchor: "left", y: narrow.matches ? -0.34 : -0.24, yanchor: "top",
          font: { color: colour("--text") } },
        height: narrow.matches ? 350 + 22 * named : 380, margin: { l: 8, r: 8, t: 24, b: 8 },
      }, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  };
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
<h1><small>Diffusability report</small>$heading</h1>
<p class="soft">How easily a diffusion model may learn these latents: what of them is fine detail, what the decoder \
needs of it, and what the encoder makes of it. Measured on $images.</p>
<nav aria-label="Sections"><a href="#findings">Findings</a><a href="#table">Side by side</a>\
<a href="#spectrum">Spectrum</a><a href="#cut">Cutting</a><a href="#noise">Noise</a><a href="#scale">Scale</a>\
<a href="#decoder">Decoder</a><a href="#encoder">Encoder</a><a href="#how">How measured</a></nav>
<noscript><p class="note">The charts need JavaScript; their numbers are in the tables below each of them.</p></noscript>
<h2 id="findings">What was found</h2>
<p class="soft">Sentences follow from the numbers by fixed thresholds, the same for every model. They say what was \
measured on these images; none of them is a measurement of a diffusion model.</p>
$findings
<details><summary>Thresholds</summary><ul>$thresholds</ul></details>
<h2 id="table">Side by side</h2>
$comparison
<p class="soft"><b>High-frequency share:</b> of the energy outside D₀₀, how much lies in the upper half of the \
zigzag order; $white in white noise. <b>High-frequency energy ratio:</b> mean energy of a coefficient in that half \
over the energy of D₀₀. <b>PSNR</b> is the mean over images, in dB, of images in [0, 1]; ∞ means identical. \
<b>Silent channels</b> are more noise than signal. \
Cuts, parts, gratings and cutoffs were measured on a subset of $subset images, so that their PSNRs are not those of \
all images.</p>
$no_quality
<h2 id="spectrum">Spectrum of the latents</h2>
$chart_profile
<h2 id="cut">Cutting high frequencies</h2>
$chart_cut
$no_cut
<h2 id="noise">Noise of the posterior</h2>
$deterministic
$chart_noise_frequency
$chart_noise_channel
<h2 id="scale">Scale equivariance</h2>
$chart_scale
$no_scale
<h2 id="decoder">What the decoder needs</h2>
$chart_dependence
$no_dependence
<p>Below, the latent is split at $radius cycles per latent pixel and each part decoded alone. The high part \
lacks the means of the channels.</p>
$pictures
<h2 id="encoder">What the encoder passes on</h2>
<p>Gratings, waves of one frequency and direction, are added to images; what they change in the latent is their \
response. A latent pixel stands for f × f pixels, so gratings finer than 1 / (2f) cycles per pixel cannot arrive at \
their own frequency: they fold to a lower one.</p>
$chart_gain
$chart_arrival
$chart_error
$no_gratings
<h3>Low-passed images</h3>
$chart_cutoff
$no_cutoff
<h3>Where the images' own energy lies</h3>
$bands
<h2 id="how">How this was measured</h2>
<p><b>Radii and frequencies</b> are in cycles per pixel: 0.5 is the Nyquist frequency of an axis, √½ ≈ 0.707 the \
corner of the spectrum. <i>Per RGB pixel</i> and <i>per latent pixel</i> differ by the compression: a frequency ν of \
the image that does not fold is fν in the latent.</p>
<p><b>Equations.</b> Profile: D are the coefficients of the orthonormal $block × $block block DCT in zigzag order \
(Skorokhodov et al. 2025, Eq. 1, with means taken before the ratio). Cut curve: PSNR(x, Dec(D⁻¹(M · D(z)))) with M \
the kept coefficients (their Fig. 8). Noise: z = μ + σε; a coefficient of a sample has energy D(μ)² + σ². KL: mean \
of (μ² + σ² − 1 − log σ²) / 2 over all numbers of the latents. Scale equivariance: Dec(S z) against S x (their Eq. \
2) and against S Dec(z). Low and high part, images' energy by band, and amplitude by cutoff: ideal radial masks, \
Findings 1 to 3 of <i>Toward Diffusible High-Dimensional Latent Spaces: A Frequency Perspective</i> (2025). \
Gratings: this project's own measurement of folding, E(x + g) − E(x).</p>
<p>Compare numbers that were measured on the same images with the same options only.</p>
<dl>$provenance</dl>
$lists
</main>
<script type="application/json" id="data">$data</script>
$scripts
</body>
</html>
""")
