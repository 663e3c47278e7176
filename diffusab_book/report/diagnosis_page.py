"""The page of a diffusability report: findings, tables, charts and pictures.

Every chart has its numbers in a table below it, which are also there where scripts are off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from diffusab_book.report import report_output
from diffusab_book.report.diagnosis_charts import CAPTIONS, Chart, charts
from diffusab_book.report.diagnosis_findings import TOPICS, compared, findings, thresholds
from diffusab_book.report.diagnosis_tables import comparison, numbers, table
from diffusab_book.report.diagnosis_types import DiagnosisReport, Numbers
from diffusab_book.report.report_html import definition_list, document, escaped, image_lists, listed, record_rows
from diffusab_book.report.report_page import model_styles, percent, white_share

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
# Sections


def _chart(made: Mapping[str, Chart], key: str, caption: str) -> str:
    if key not in made:
        return ""
    chart = made[key]
    return (
        f'<figure><div class="chart" id="chart-{key}" data-key="{key}" role="img" aria-label="{escaped(chart.alt)}">'
        f"</div><figcaption>{caption}</figcaption>{numbers(chart)}</figure>"
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
    both = compared(report.models)
    if both:
        parts.append("<h3>Compared</h3><ul>" + "".join(f"<li>{escaped(s)}</li>" for s in both) + "</ul>")
    for model, colour in zip(report.models, colours, strict=True):
        said = findings(model, report.rgb_like(model), report.options.block_size)
        items = "".join(f"<li><b>{TOPICS[f.topic]}.</b> {escaped(f.text)}</li>" for f in said)
        parts.append(
            f'<h3><span class="swatch" style="background:{colour}"></span>{escaped(model.name)}</h3><ul>{items}</ul>'
        )
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
    return table(("Band, cycles per RGB pixel", "Share of energy"), rows, "Energy of the images by band")


def _provenance(report: DiagnosisReport) -> Iterator[tuple[str, str]]:
    options, plan = report.options, report.plan
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
    yield from record_rows(report.record)


def page(report: DiagnosisReport) -> str:
    """The whole page."""
    names = listed([model.name for model in report.models])
    made = charts(report)
    b, r = report.options.block_size, f"{report.plan.split_radius:g}"
    deterministic = [m.name for m in report.models if m.noise.deterministic]
    main = _MAIN.substitute(
        heading=escaped(names),
        images=escaped(report.images.described),
        findings=_findings(report),
        thresholds="".join(f"<li>{escaped(said)}</li>" for said in thresholds()),
        comparison=table(("", *(m.name for m in report.models)), comparison(report), "Models side by side", "compare"),
        white=percent(white_share(b)),
        block=b,
        radius=r,
        subset=len(report.subset),
        deterministic=f"<p>Deterministic, a point and no distribution: {escaped(', '.join(deterministic))}.</p>"
        if deterministic
        else "",
        pictures=_pictures(report),
        bands=_bands(report.rgb_edges, report.rgb_energy),
        provenance=definition_list(_provenance(report)),
        lists=image_lists(report.images),
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
    data = {key: json.loads(chart.figure.to_json()) for key, chart in made.items()}
    return document(f"Diffusability report: {names}", main, data, _SCRIPT, style=_STYLE)


_STYLE = """
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
nav { font-size: .92rem; margin: .8rem 0 0; } nav a { display: inline-block; margin-right: .9rem; }
a { color: var(--accent); }
code { font-size: .92em; } .note { border-left: 3px solid var(--line); padding-left: .8rem; }
"""

_SCRIPT = """
  keepDrawn(() => {
    for (const chart of document.querySelectorAll(".chart")) {
      const { data, layout } = given[chart.dataset.key];
      const named = data.filter((trace) => trace.showlegend !== false).length;
      show(chart, data, layout, { legend: narrow.matches ? -0.34 : -0.24, top: 24,
        height: narrow.matches ? 350 + 22 * named : 380 });
    }
  });
"""

_MAIN = Template("""<h1><small>Diffusability report</small>$heading</h1>
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
<b>S</b> downsamples by the factor given, Dec decodes. \
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
$provenance
$lists
""")
