"""The page and the files of a diffusability report, from numbers that are made up here."""

import errno
import json
import os
import re
from dataclasses import replace

import pytest
from plotly.offline import get_plotlyjs

from diffusab_book.report import diagnosis_charts, diagnosis_page, diagnosis_tables, report_output
from diffusab_book.report.diagnosis_types import (
    Cut,
    Cutoff,
    Dependence,
    Diagnosis,
    DiagnosisReport,
    GratingResponse,
    Noise,
    Plan,
    Reconstruction,
    ScaleEquivariance,
)
from diffusab_book.report.report_images import Images
from diffusab_book.report.report_page import model_styles
from diffusab_book.report.report_types import Options, Profile, ReportError
from diffusab_core.experiments import records
from diffusab_core.spectrum import STATISTICS

PIXEL = "data:image/png;base64,iVBORw0KGgo="
EDGES = (0.0, 0.25, 0.5, 0.7072)


def profile(name, kind="model", side=8, compression=4):
    curves = {key: [1.0 / (1 + k) for k in range(64)] for key in STATISTICS}
    return Profile(name, kind, name, (4, side, side), 3, 12, 0, curves, 0.01, 0.1, compression)


def diagnosis(name, compression=4, deterministic=False, side=8):
    noise = Noise(True, None, 0.0, (0.0,) * 4, (0.0,) * 64)
    if not deterministic:
        noise = Noise(False, 1.5, 0.05, (0.1, 0.2, 0.3, 0.4), tuple(0.001 * (k + 1) for k in range(64)))
    return Diagnosis(
        profile(name, side=side, compression=compression), 1000, noise, Reconstruction(3, 30.0, 1.0, 0.9),
        Cut(3, (0.0, 0.75), (30.0, 25.0), (None, 40.0)),
        Dependence(3, EDGES, 30.0, (10.0, 22.0, 25.0), (9.0, 21.0, 24.0), 0.25, 22.0, 11.0),
        ScaleEquivariance((2, 4), (20.0, 18.0), (25.0, None), (31.0, 32.0)),
        Cutoff(3, (0.2, 0.7072), EDGES, ((2.0, 1.1, 1.1), (2.0, 1.0, 1.0))),
        GratingResponse(
            2, 64, (0.05, 0.3), (0.0, 1.0), (4.0, 1.0), (0.0, 0.6), (0.1, None), (0.1, 0.7), 0.5 / compression
        ),
        {"lpips": "weights not on disk"}, ((PIXEL, PIXEL, PIXEL),),
    )  # fmt: skip


def report(*models):
    run = records.start("report", parameters={}, seed=0, size="laptop", data="made up")
    rgb = tuple(profile(f"RGB at {n}×{n}", "rgb", n) for n in dict.fromkeys(m.profile.shape[-1] for m in models))
    return DiagnosisReport(
        Options(samples=4, resolution=32),
        Plan(cut_ratios=(0.0, 0.75), cutoffs=(0.2, 0.7072), edges=EDGES), models, rgb,
        (0.0, 0.1, 0.7072), (0.9, 0.1), Images(None, ("a.png", "b.png", "c.png"), "3 images", (("d.txt", "no image"),)),
        ("a.png", "c.png"), ("a.png",), (PIXEL,), run.finish(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def two():
    return report(diagnosis("first"), diagnosis("second", 8, side=4))


def without_plotly(page):
    return page.replace(get_plotlyjs(), "")


def fetched(page):
    """Everything that a browser would fetch; anchors of the page itself are not."""
    tags = re.findall(r"<[a-z][^>]*?\s(?:src|href|action|data|poster)\s*=\s*[\"']?([^\"'\s>]+)", page, re.IGNORECASE)
    found = tags + re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", page)
    return [a for a in found if not str(a).startswith(("data:image/", "#"))]


def test_page_holds_everything_and_fetches_nothing(two):
    page = diagnosis_page.page(two)
    assert get_plotlyjs() in page
    page = without_plotly(page)
    assert fetched(page) == []
    assert "Content-Security-Policy" in page
    assert set(re.findall(r'href="#(\w+)"', page)) == set(re.findall(r'<h2 id="(\w+)"', page))
    keys = re.findall(r'data-key="([\w-]+)"', page)
    assert keys == list(diagnosis_charts.CAPTIONS) == list(diagnosis_charts.charts(two))
    assert page.count("<summary>Numbers</summary>") == len(keys)
    for words in (
        "not measured: weights not on disk", two.record.identity, "d.txt: no image", "cycles per latent pixel",
        "drawn by the seed", "Skorokhodov et al. 2025", "first, second",
    ):  # fmt: skip
        assert words in page


def test_a_model_has_one_colour_in_all_charts(two):
    colours, _ = model_styles(2)
    for chart in diagnosis_charts.charts(two).values():
        for trace in chart.figure.data:
            colour = (trace.line.color if trace.type == "scatter" and trace.line.color else None) or trace.marker.color
            if trace.name in ("first", "second"):
                assert colour == colours[trace.name == "second"], chart.key
            else:
                assert colour == "#7F7F7F", (chart.key, trace.name)
        assert len(chart.alt) > 40
        assert all(len(column) == len(chart.places) for column in chart.columns.values()), chart.key


def test_charts_show_the_numbers(two):
    charts = diagnosis_charts.charts(two)
    assert charts["dependence"].columns["first, removed"] == (20.0, 8.0, 5.0)
    assert charts["gain"].columns["first"] == (1.0, 0.25)
    assert charts["arrival"].columns["first, elsewhere"] == (0.1, None)
    assert charts["cutoff"].columns["first"] == pytest.approx((1.1, 1.0))
    assert charts["noise-channel"].columns["first"] == (0.4, 0.3, 0.2, 0.1)
    assert list(charts["cut"].columns) == ["RGB, blocks of 32²", "RGB, blocks of 64²", "first", "second"]


def test_what_was_not_measured_has_no_chart_and_a_reason():
    lacking = replace(
        diagnosis("point", deterministic=True), scale=None, gratings=None, dependence=None, pictures=(),
        not_measured={"scale": "one size only", "gratings": "too small", "dependence": "no band"},
    )  # fmt: skip
    made = report(lacking)
    assert set(diagnosis_charts.charts(made)) == {"profile", "cut", "cutoff"}
    page = without_plotly(diagnosis_page.page(made))
    for words in ("point, not measured: one size only.", "too small", "no band", "Deterministic, a point"):
        assert words in page
    rows = {row[0]: row[1] for row in diagnosis_tables.comparison(made)}
    assert rows["Noise share of variance"] == "deterministic"
    assert rows["Dec(S z) to S x at ×2, dB"] == "–"


def test_page_escapes_names():
    page = without_plotly(diagnosis_page.page(report(diagnosis("<img src=x>$a$</script>"))))
    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page
    assert page.count("</script>") == 3  # data, plotly, own


def test_files_are_written_together_or_not_at_all(two, tmp_path, monkeypatch):
    written = diagnosis_page.write(two, tmp_path)
    assert [path.name for path in written] == list(diagnosis_page.NAMES)
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert records.RunRecord.model_validate(read["record"]) == two.record
    before = {path: path.read_bytes() for path in written}

    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(report_output.os, "fsync", full)
    with pytest.raises(ReportError, match=r"cannot write .*report.html: No space left"):
        diagnosis_page.write(report(diagnosis("other")), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_summary_for_a_shell(two):
    said = diagnosis_page.summary(two)
    assert said[:2] == ["measured on 3 images", "4 images were asked for, 3 are there"]
    assert "skipped 1 files" in said[2]
    assert sum(line.startswith("first: ") for line in said) == 8
