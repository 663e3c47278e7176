"""The page and the files of a report, from numbers that are made up: what is shown, and that nothing becomes code."""

import errno
import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from made_up import PIXEL, make_model, make_noise, make_profile, make_report
from PIL import Image
from plotly.offline import get_plotlyjs

from diffusab_book.report import Options, ReportError, charts, page
from diffusab_book.report.results import Model
from diffusab_core import files
from diffusab_core.experiments import records

NARROW = "data:image/png;base64,bmFycm93"
HOSTILE = '</script><script>alert("1")</script><!-- & $title$ {{ 7 * 7 }}'


class Elements(HTMLParser):
    """Every tag in order: its name, its attributes and the text up to the next tag."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self.found.append([f"/{tag}", {}, ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data

    def named(self, tag, **wanted):
        return [(a, text) for name, a, text in self.found if name == tag and wanted.items() <= a.items()]


@pytest.fixture(scope="module")
def two():
    return make_report(make_model("first"), make_model("second", 8, side=4))


def render(report):
    return page.render(report, PIXEL.partition(",")[2], NARROW.partition(",")[2])


def without_plotly(text):
    return text.replace(get_plotlyjs(), "")


def fetched(text):
    """Everything that a browser would fetch; anchors of the page itself are not."""
    tags = re.findall(r"<[a-z][^>]*?\s(?:src|href|action|data|poster)\s*=\s*[\"']?([^\"'\s>]+)", text, re.IGNORECASE)
    found = tags + re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", text)
    return [a for a in found if not str(a).startswith(("data:image/", "#"))]


def test_page_holds_everything_and_fetches_nothing(two):
    text = render(two)
    assert get_plotlyjs() in text
    text = without_plotly(text)
    assert fetched(text) == []
    assert set(re.findall(r'href="#(\w+)"', text)) == set(re.findall(r'<h2 id="(\w+)"', text))
    keys = re.findall(r'data-key="([\w-]+)"', text)
    assert keys == ["profile", *charts.CHARTS] == list(charts.draw_all(two))
    assert text.count("<summary>Numbers</summary>") == len(keys)
    for words in (
        "not measured: weights not on disk", two.record.identity, "d.txt: no image", "cycles per latent pixel",
        "drawn by the seed", "Skorokhodov et al. 2025", "<title>Diffusability report: first, second</title>",
        "0.1 to 0.707", "Each band of second", "Files skipped (1)", "Images used (3)", "not in a git checkout",
    ):  # fmt: skip
        assert words in without_plotly(
            render(replace(two, record=two.record.model_copy(update={"git_revision": None})))
        )


def test_a_report_opens_with_a_headline_a_picture_and_what_to_do(two):
    text = without_plotly(render(two))
    order = [
        '<p class="headline">',
        f'(max-width: 36rem)" srcset="{NARROW}"',
        f'src="{PIXEL}"',
        'id="next"',
        "diffusab extract",
        'id="findings"',
        "<table>",
    ]
    places = [text.index(mark, text.index("<main>")) for mark in order]
    assert places == sorted(places)
    assert text.count('<p class="headline">') == 2
    assert 'class="headline"' not in without_plotly(render(replace(two, plan=None)))


def test_decoded_images_stand_below_a_headline_that_says_they_are_bad():
    report = make_report(make_model("bad", psnr=11.0), make_model("sound"))
    text = without_plotly(render(report))
    below = text[text.index('<p class="headline">') : text.index('class="opening"')]
    assert below.count("<img") == 2  # the image and what the bad model makes of it
    assert "bad: decoded" in below
    assert "sound: decoded" not in below
    assert 'class="glance"' not in without_plotly(render(make_report(make_model("sound"))))


def test_a_command_in_a_reason_is_a_block():
    lacking = replace(make_model(), not_measured={"lpips": "no weights; get them with `curl -o a https://b/<c>`"})
    text = without_plotly(render(make_report(lacking)))
    assert 'no weights; get them with <pre tabindex="0">curl -o a https://b/&lt;c&gt;</pre></li>' in text
    assert "`" not in text[text.index("<body>") : text.index("<script")]


def test_the_warning_of_a_statistic_stands_beside_it():
    profile = make_profile("odd")
    model = replace(make_model("odd"), profile=replace(
        profile, profiles={**profile.profiles, "mean_ratio": [1.0] * 63 + [9.7 / 64]}))  # fmt: skip
    text = without_plotly(render(make_report(model)))
    views = json.loads(Elements(text).named("script", id="data")[0][1])["views"]
    assert "Do not compare odd by it" in views["mean_ratio"]["definition"]
    assert "compare" not in views["ratio_of_means"]["definition"]
    assert "9.7 times" not in text[: text.index("<script")]


def test_profile_is_the_first_section(two):
    text = without_plotly(render(replace(two, plan=None)))
    assert re.findall(r'data-key="([\w-]+)"', text) == ["profile"]
    for words in ("Frequency profile: first, second", "Of them D₀₀ = 0", "What they say", "white noise"):
        assert words in text
    for words in ("Side by side", "Noise of the posterior", "Thresholds"):
        assert words not in text


@pytest.mark.parametrize(("count", "said"), [(1, "m0"), (3, "m0, m1, m2"), (5, "m0, m1, m2 and 2 more")])
def test_names_in_a_heading(count, said):
    report = replace(make_report(*(make_model(f"m{i}") for i in range(count))), plan=None)
    assert f"<title>Frequency profile: {said}</title>" in render(report)


def test_page_forbids_requests_before_anything_could_ask(two):
    elements = Elements(without_plotly(render(two)))
    policy = next(a["content"] for a, _ in elements.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    sources = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert sources.pop("default-src") == ["'none'"]
    assert {word for rule in sources.values() for word in rule} == {"'unsafe-inline'", "data:", "blob:"}
    order = [tag for tag, _, _ in elements.found]
    assert max(i for i, tag in enumerate(order) if tag == "meta") < min(order.index("style"), order.index("script"))


def test_names_and_reasons_cannot_become_code():
    model = replace(make_model(HOSTILE, without=("cut",)), not_measured={"cut": HOSTILE, "lpips": HOSTILE})
    report = make_report(model)
    report = replace(
        report,
        images=replace(report.images, used=(HOSTILE,), skipped=((HOSTILE, HOSTILE),), described=HOSTILE),
        record=report.record.model_copy(update={"device": HOSTILE}), shown=((HOSTILE, PIXEL),),
    )  # fmt: skip
    elements = Elements(without_plotly(render(report)))
    assert elements.named("title")[0][1] == f"Diffusability report: {HOSTILE}"
    assert len(elements.named("script")) == 3  # data, plotly, own
    data = json.loads(elements.named("script", id="data")[0][1])
    (trace,) = (t for t in data["charts"]["gain"]["data"])
    assert "<" not in trace["name"]
    assert "$" not in trace["name"]
    assert HOSTILE in [text for _, text in elements.named("li")]
    assert f"{HOSTILE}: {HOSTILE}" in [text for _, text in elements.named("li")]
    assert HOSTILE in [text for _, text in elements.named("dd")]
    assert "alert" not in "".join(text for _, text in elements.named("script")[1:])


def test_a_number_that_is_none_cannot_be_written(tmp_path):
    report = make_report(make_model())
    profile = replace(report.models[0].profile, high_frequency_share=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        page.write(replace(report, models=(replace(report.models[0], profile=profile),)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_has_one_colour_in_all_charts(two):
    for key, fig in charts.draw_all(two).items():
        for trace in fig.data:
            line = trace.line.color if trace.type == "scatter" else None
            colour = line or trace.marker.color
            number = 0 if trace.name.startswith("first") else 1 if trace.name.startswith("second") else None
            assert colour == ("#7F7F7F" if number is None else charts.COLOURS[number]), (key, trace.name)
        assert len(fig.layout.meta["alt"]) > 40
        names, rows = charts.read_numbers(fig)
        assert names == [trace.name for trace in fig.data]
        assert {len(row) for row in rows} == {1 + len(names)}, key


def test_a_colour_stays_where_a_part_of_another_model_is_missing():
    fig = charts.draw_all(make_report(make_model("first", without=("scale", "cut")), make_model("second")))
    for key in ("scale", "cut"):
        (trace,) = (t for t in fig[key].data if t.name == "second")
        assert (trace.marker.color or trace.line.color) == charts.COLOURS[1]


def test_charts_show_the_numbers(two):
    drawn = charts.draw_all(two)
    lines = {key: {trace.name: list(trace.y) for trace in fig.data} for key, fig in drawn.items()}
    assert lines["dependence"]["first, removed"] == [20.0, 8.0, 5.0]
    assert lines["stake"]["first, permuted"] == [0.5, 0.9, 0.7]
    assert charts.read_numbers(drawn["stake"])[1][2] == ["32–63", "0.7", "1.2", "0.7", "1.2"]
    assert lines["gain"]["first"] == [1.0, 0.75, 0.5, 0.25]
    assert lines["arrival"]["first, elsewhere"] == [0.1, 0.1, 0.2, 0.4]
    assert lines["cutoff"]["first"] == pytest.approx([0.5, 1.1, 1.0])
    assert lines["noise-channel"]["first"] == [0.4, 0.3, 0.2, 0.1]
    assert list(lines["cut"]) == ["first", "second", "RGB, blocks of 32²", "RGB, blocks of 64²"]
    assert charts.read_numbers(drawn["cut"])[1] == [["0", "30", "30", "–", "–"], ["75", "25", "25", "40", "40"]]
    assert charts.read_numbers(drawn["dependence"])[1][0] == ["0 –0.25", "20", "21", "20", "21"]


def test_what_was_not_measured_has_no_chart_and_a_reason():
    point = make_noise(0.0, (0.0,), (0.0,) * 64, deterministic=True, averaged_kl=None)
    report = make_report(make_model("point", noise=point, without=("scale", "gratings", "dependence")))
    assert set(charts.draw_all(report)) == {"profile", "cut", "stake", "cutoff"}
    text = without_plotly(render(report))
    for words in ("point, not measured: no scale.", "no gratings", "no dependence", "Deterministic, a point"):
        assert words in text


@pytest.mark.parametrize(
    "part", ["reconstruction", "noise", "cut", "scale", "dependence", "stake", "gratings", "cutoff"]
)
def test_any_part_may_be_missing(part):
    text = without_plotly(render(make_report(make_model("lacking", without=(part,)), make_model("whole"))))
    assert f"Not measured: no {part}." in text


def test_a_file_of_latents_in_a_report_has_a_spectrum_only():
    latents = Model(make_profile("stored", kind="latents", compression=None))
    text = without_plotly(render(make_report(latents, make_model("whole"))))
    assert text.count("Not measured: ") == 8
    assert "stored" in charts.draw_all(make_report(latents))["profile"].data[1].name


def test_files_are_written_together_or_not_at_all(two, tmp_path, monkeypatch):
    written = page.write(two, tmp_path)
    assert [path.name for path in written] == list(page.FILES["report"])
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    assert records.RunRecord.model_validate(read["record"]) == two.record
    assert "data:image" not in (tmp_path / "report.json").read_text()
    before = {path: path.read_bytes() for path in written}

    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ReportError, match=r"cannot write .*report.html: No space left"):
        page.write(make_report(make_model("other")), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_summary_for_a_shell(two):
    said = page.summarise(two)
    assert said[:2] == ["measured on 3 images", "of up to 4 images 3 are there"]
    assert said[2].startswith("left out 1, all named in the page, such as ")
    assert sum(line.startswith("first: ") for line in said) == 9


def test_the_picture_for_a_phone_is_narrow_and_as_high(two):
    wide, narrow = (Image.open(io.BytesIO(page.png(two, *width))) for width in ((), (page.PHONE,)))
    assert (wide.width, narrow.width) == (1280, 624)
    assert narrow.height >= wide.height  # letters are no smaller, so the legend has no fewer lines


def test_running_out_of_memory_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(page, "measure", full)
    with pytest.raises(ReportError, match=r"out of memory with 5 images at a time; .*--batch-size"):
        page.make(Options(batch_size=5), tmp_path / "out")
    assert not (tmp_path / "out").exists()
