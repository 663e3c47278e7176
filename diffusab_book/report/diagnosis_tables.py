"""Tables of a diffusability report: models side by side, and the numbers of a chart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from diffusab_book.report.diagnosis_charts import Chart
from diffusab_book.report.diagnosis_findings import TOLD_CUT, TOLD_CUTOFF, fine_amplitude, finest, nearest, tiny
from diffusab_book.report.diagnosis_types import Diagnosis, DiagnosisReport, Noise
from diffusab_book.report.report_html import escaped, table_row
from diffusab_book.report.report_page import percent


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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str, kind: str = "narrow") -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        head: Headings of the columns.
        rows: Cells; the first of each row is its heading.
        label: What the table holds, for somebody who cannot see it.
        kind: ``narrow``, as wide as its cells, or ``compare``, as wide as the page with its first column kept in sight.
    """
    cells = "".join(f'<th scope="col">{escaped(cell)}</th>' for cell in head)
    body = "".join(table_row(row) for row in rows)
    return (
        f'<div class="scroll {kind}" tabindex="0" role="region" aria-label="{escaped(label)}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def numbers(chart: Chart) -> str:
    """A chart's numbers, folded away."""
    columns = list(chart.columns.values())
    rows = [
        (str(place), *("–" if column[i] is None else f"{column[i]:.4g}" for column in columns))
        for i, place in enumerate(chart.places)
    ]
    inner = table((chart.x_label, *chart.columns), rows, f"Numbers of the chart: {chart.x_label}")
    return f'<details class="numbers"><summary>Numbers</summary>{inner}</details>'
