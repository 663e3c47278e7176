"""A report as files: JSON, for a profile a picture, and one web page that opens from disk and asks for nothing."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from diffusab_book import figures
from diffusab_book.report import charts as drawings
from diffusab_book.report import findings as words
from diffusab_book.report.measurement import measure
from diffusab_book.report.options import Options, Plan, ReportError
from diffusab_book.report.results import DEFINITIONS, Report
from diffusab_book.report.stages import StageLike, silently
from diffusab_core import files
from diffusab_core.spectrum import STATISTICS

HERE = Path(__file__).parent
PHONE = 3.9  # inches: at 10 points, as on a page of 390 pixels
FILES = {"profile": ("profile.json", "profile.png", "profile.html"), "report": ("report.json", "report.html")}

# ---------------------------------------------------------------------------------------------------------------------
# The page


def render(report: Report, picture: str, narrow: str) -> str:
    """The whole page; ``picture`` is the PNG of the profile in base64, ``narrow`` that for a phone: a report opens with
    them, a profile shows the former where scripts are off."""
    drawn, views = drawings.draw_all(report), {}
    for statistic in STATISTICS:
        fig = drawings.draw_profile(report, statistic)
        said = DEFINITIONS[statistic].replace("D_uv", "D").replace("D_00", "D₀₀")
        views[statistic] = {
            "y": [list(trace.y) for trace in fig.data], "label": drawings.AXIS_LABELS[statistic],
            "alt": fig.layout.meta["alt"], "definition": f"{said[0].upper()}{said[1:]}.",
        }  # fmt: skip
    views["mean_ratio"]["definition"] += f" {words.warn_of_means(report)}".rstrip()
    rows, compared = words.compare(report)
    headlines = {m.name: words.headline(report, m) for m in report.models}
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": words.percent, "number": words.number, "split_commands": split_commands}
    return environment.get_template("page.html").render(
        report=report, plan=report.plan, options=report.options, record=report.record,
        picture=picture, narrow=narrow,
        charts=drawn, tables={key: drawings.read_numbers(fig) for key, fig in drawn.items()}, views=views,
        data=figures.shorten({"charts": {k: json.loads(fig.to_json()) for k, fig in drawn.items()}, "views": views}),
        colours=[drawings.style(i)["color"] for i in range(len(report.models))],
        findings={m.name: words.findings(report, m) for m in report.models}, titles=words.TITLES,
        poor=words.find_poor(report), headlines=headlines, steps=words.next_steps(report),
        comparison=rows, compared=compared, scored=words.tell_scores(report),
        thresholds=[words.choose(t, {}) for t in words.TEXTS["page"]["thresholds"]],
        relative_amplitude=words.relative_amplitude, white=words.white_share(report.options.block_size),
        plotly=get_plotlyjs(), css=(HERE / "page.css").read_text(), script=(HERE / "page.js").read_text(),
    )  # fmt: skip


def split_commands(text: str) -> list[tuple[str, str]]:
    """Text in pieces, each with the command between backticks that follows it, at the end none."""
    pieces = [*re.split(r"`([^`]+)`\.?", text), ""]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def png(report: Report, width: float = 8.0) -> bytes:
    """The profile by the drawn statistic as a picture on white, for papers and slides; ``width`` in inches.

    Letters have the same size at any width: as wide as a phone, they are read on one.
    """
    from matplotlib.figure import Figure  # half a second, and only here; Figure itself needs no display

    styles = dict(zip(figures.DASHES, ("solid", "dashed", "dotted", "dashdot", (0, (8, 3))), strict=True))
    statistic, drawn = report.options.statistic, drawings.drawn(report)
    # Matplotlib reads $ as mathematics and hides labels that begin with an underscore.
    labels = [profile.name.replace("$", r"\$").removeprefix("_") for profile, _ in drawn]
    columns = max(1, min(3, int(11.25 * width) // (max(map(len, labels)) + 8)))
    figure = Figure(figsize=(width, 4.4 + 0.2 * math.ceil(len(drawn) / columns)), layout="constrained")
    axes = figure.add_subplot()
    for label, (profile, how) in zip(labels, drawn, strict=True):
        values = [value or math.nan for value in profile.profiles[statistic]]  # no zero on a logarithmic axis
        width = 1.5 if profile.kind == "rgb" else 2
        axes.plot(values, label=label, color=how["color"], linestyle=styles[how["dash"]], linewidth=width)
    b = report.options.block_size
    axes.set(yscale="log", xlabel="zigzag rank (low → high frequency)", ylabel=drawings.AXIS_LABELS[statistic])
    axes.set_title(f"Frequency profile, {b} × {b} DCT blocks", loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def summarise(report: Report) -> list[str]:
    """The report in a few lines for a shell."""
    images, wanted = report.images, report.options.samples
    said = [f"measured on {images.described}"]
    if len(images.used) < wanted:
        said.append(f"of up to {wanted} images {len(images.used)} are there")
    if images.skipped:
        file, reason = min(images.skipped, key=lambda skip: skip[1].startswith("a hidden"))
        said.append(f"left out {len(images.skipped)}, all named in the page, such as {file}: {reason}")
    if report.plan:
        said += [f"{m.name}: {text}" for m in report.models for text in words.findings(report, m).values()]
        step = words.next_steps(report)[0]
        of = f"{', '.join(step['models'])}: " if len(step["models"]) < len(report.models) else ""
        return [*said, f"next: {of}{step['text']}", *(f"    {command}" for command in step["commands"])]
    return said + [
        f"{p.name}: high-frequency share {p.high_frequency_share:.3g}, energy ratio {p.high_frequency_energy_ratio:.3g}"
        for p in (*(m.profile for m in report.models), *report.rgb)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Files


def write(report: Report, out: str | os.PathLike) -> tuple[Path, ...]:
    """Write the files of a report into an existing folder; those of an earlier one are replaced.

    All are made and written under temporary names before the first gets its own, so each is always whole.

    Raises:
        ReportError: A file cannot be written; no temporary file is left.
    """
    pictures, found = (png(report), png(report, PHONE) if report.plan else b""), files.make_printable(report.as_dict())
    made = {
        "json": (json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "png": pictures[0],
        "html": files.printable(render(report, *(base64.b64encode(some).decode() for some in pictures))).encode(),
    }
    path, paths = None, tuple(Path(out) / name for name in FILES[report.kind])
    try:
        with ExitStack() as stack:
            for path in paths:
                partial = stack.enter_context(files.writing(path))
                partial.write_bytes(made[path.suffix[1:]])
                files.flush(partial)  # a disk that is full may say so only now
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from error
    return paths


def make(
    options: Options, out: str | os.PathLike, plan: Plan | None = None, progress: bool | None = None,
    stage: StageLike = silently,
) -> list[str]:  # fmt: skip
    """Measure a report (without a plan: profiles alone), write its files into a folder, and say so in a few lines.

    The folder and those above it are made; if anything fails, they are removed again.

    Raises:
        ReportError: The folder cannot be written to, known before anything is computed, or as :func:`measure`.
    """
    out, names = Path(out), FILES["report" if plan else "profile"]
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            taken = next((out / name for name in names if (out / name).is_dir()), None)
            if taken is not None:
                raise ReportError(f"cannot write {taken}: it is a folder")
            tempfile.TemporaryFile(dir=out).close()
        except OSError as error:
            raise ReportError(f"cannot write into {out}: {error.strerror or error}") from error
        try:
            report = measure(options, plan, progress, stage)
        except torch.OutOfMemoryError as error:
            advice = "choose a smaller --batch-size or --resolution, or --dtype bfloat16"
            raise ReportError(f"out of memory with {options.batch_size} images at a time; {advice}") from error
        with stage("writing"):
            paths = write(report, out)
        return [*summarise(report), *(f"wrote {path}" for path in paths)]
    except BaseException:
        with suppress(OSError):  # stops at the first that is not empty
            for folder in made:
                folder.rmdir()
        raise
