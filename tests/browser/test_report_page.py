"""The page of ``diffusab report`` on two shipped models and a diffusers folder, opened from disk without a network."""

import pytest

from diffusab_book.report import Options, Plan, measure, write
from diffusab_book.report.charts import CHARTS
from diffusab_core import autoencoders

LINES = """key => document.querySelectorAll(
  `#chart-${key} .js-line, #chart-${key} .scatterlayer .points path, #chart-${key} .barlayer .point path`).length"""
LUMINANCE = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + Number(b), 0)"
WIDE = """() => [...document.querySelectorAll('.chart .legendtext, .chart .xtitle, .chart .ytitle')]
  .filter(text => { const r = text.getBoundingClientRect(); return r.right > innerWidth + 1 || r.left < -1 })
  .map(text => text.textContent)"""
PLAN = Plan(
    decoder_images=2, cut_ratios=(0.0, 0.45, 0.75), grating_frequencies=(0.05, 0.2, 0.4), grating_images=1,
    angles=(0.0,), cutoffs=(0.1, 0.2, 0.7072),
)  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    autoencoders.load("kl-f4c16-se").module.save_pretrained(folder / "fine-tuned")
    models = ("kl-f4c16", "kl-f8c64", str(folder / "fine-tuned"))
    options = Options(models=models, samples=2, resolution=64, device="cpu")
    write(measure(options, PLAN, progress=False), folder)
    return folder / "report.html"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")], ids=["wide", "dark", "phone"]
)
def test_page_opens_from_disk_and_draws(browser, page_file, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    page.wait_for_selector("#chart-cutoff .js-line")
    for key in ("profile", *CHARTS):
        assert page.evaluate(LINES, key) >= 3, key  # one for each model at least
        legend = page.text_content(f"#chart-{key} .legend")
        for name in ("kl-f4c16", "kl-f8c64", "fine-tuned"):
            assert name in legend, key
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDE) == []
    assert (page.evaluate(LUMINANCE) < 200) == (scheme == "dark")
    drawn, shown = page.evaluate("() => (i => [i.naturalWidth, i.clientWidth])(document.querySelector('.opening img'))")
    assert drawn == (624 if width == 390 else 1280)
    assert drawn / shown < 2  # letters of 10 points, 22 pixels as drawn, are 11 or more on the page
    assert page.locator("#next + ol pre").count() >= 2
    pictures = page.evaluate("() => [...document.querySelectorAll('.pictures img')].map(i => i.naturalWidth)")
    assert pictures == [64] * (2 * (1 + 3 * 3))
    page.click("#chart-cut + figcaption + details summary")
    assert page.is_visible("#chart-cut + figcaption + details td")
    own = [url for url in requests if url != page_file.as_uri() and not url.startswith("data:")]
    assert own == []
    assert complaints == []
    context.close()


@pytest.mark.browser
def test_numbers_are_there_where_scripts_are_off(browser, page_file):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.is_visible("noscript p")
    assert page.locator("details.numbers").count() == 1 + len(CHARTS) + 3  # and the bands of each model
    context.close()
