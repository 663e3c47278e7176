"""A profile report as files: JSON, a picture, and a page that opens from disk without a network."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from diffusab_book.figures import DASHES
from diffusab_book.report import report_page
from diffusab_book.report.report_types import Report, ReportError

_LINE_STYLES = dict(zip(DASHES, ("solid", "dashed", "dotted", "dashdot", (0, (8, 3))), strict=True))
NAMES = ("profile.json", "profile.png", "profile.html")


def write(report: Report, out: str | os.PathLike) -> tuple[Path, ...]:
    """Write ``profile.json``, ``profile.png`` and ``profile.html`` into an existing folder.

    All three are made and written under temporary names before the first gets its own, so a file under one of these
    names is always whole. Files of an earlier report are replaced.

    Returns:
        The paths.

    Raises:
        ReportError: A file cannot be written; no temporary file is left.
    """
    picture = png(report)
    contents = {
        "profile.json": (json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "profile.png": picture,
        "profile.html": report_page.page(report, picture).encode(),
    }
    return write_together({Path(out) / name: contents[name] for name in NAMES})


def write_together(contents: Mapping[Path, bytes]) -> tuple[Path, ...]:
    """Write several files, all under temporary names before the first gets its own; returns their paths.

    Raises:
        ReportError: One cannot be written; no temporary file is left.
    """
    partial: dict[Path, Path] = {}
    path = None
    try:
        for path, data in contents.items():
            partial[path] = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            with partial[path].open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a disk that is full may say so only now
        for path, temporary in partial.items():
            temporary.replace(path)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for temporary in partial.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return tuple(contents)


@contextmanager
def output_folder(out: str | os.PathLike, names: Sequence[str] = NAMES) -> Iterator[Path]:
    """A folder that is there and can be written to; if the block fails, the folders made for it are removed again.

    ``names`` are the files that will be written into it.

    Raises:
        ReportError: It cannot be made or written to, known before anything is computed.
    """
    out = Path(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            taken = next((out / name for name in names if (out / name).is_dir()), None)
            if taken is not None:
                raise ReportError(f"cannot write {taken}: it is a folder")
            probe = out / f".{secrets.token_hex(4)}.part"
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise ReportError(f"cannot write into {out}: {error.strerror or error}") from error
        yield out
    except BaseException:
        with suppress(OSError):  # stops at the first that is not empty
            for folder in made:
                folder.rmdir()
        raise


def png(report: Report) -> bytes:
    """The drawn statistic as a picture on white, for papers and slides."""
    from matplotlib.figure import Figure  # half a second, and only here; Figure itself needs no display

    statistic = report.options.statistic
    drawn = report_page.lines(report)
    # Matplotlib reads $ as mathematics and hides labels that begin with an underscore.
    labels = [profile.name.replace("$", r"\$").removeprefix("_") for profile, _, _ in drawn]
    columns = max(1, min(3, 90 // (max(map(len, labels)) + 8)))
    figure = Figure(figsize=(8, 4.4 + 0.2 * math.ceil(len(drawn) / columns)), layout="constrained")
    axes = figure.add_subplot()
    for label, (profile, color, dash) in zip(labels, drawn, strict=True):
        values = [value or math.nan for value in profile.profiles[statistic]]  # no zero on a logarithmic axis
        width = 1.5 if profile.kind == "rgb" else 2
        axes.plot(values, label=label, color=color, linestyle=_LINE_STYLES[dash], linewidth=width)
    axes.set_yscale("log")
    axes.set_xlabel("zigzag rank (low → high frequency)")
    axes.set_ylabel(report_page.AXIS_LABELS[statistic])
    b = report.options.block_size
    axes.set_title(f"Frequency profile, {b} × {b} DCT blocks", loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()


def summary(report: Report) -> list[str]:
    """The report in a few lines for a shell."""
    said = [f"measured on {report.images.described}"]
    if len(report.images.names) < report.options.samples:
        said.append(f"{report.options.samples} images were asked for, {len(report.images.names)} are there")
    if report.images.skipped:
        file, reason = report.images.skipped[0]
        said.append(f"skipped {len(report.images.skipped)} files, all named in the page; the first is {file}: {reason}")
    for profile in (*report.models, *report.rgb):
        said.append(
            f"{profile.name}: high-frequency share {profile.high_frequency_share:.3g}, "
            f"energy ratio {profile.high_frequency_energy_ratio:.3g}"
        )
    return said
