"""The page of ``diffusab profile``, opened from disk as a reader does: drawn, changed, and without a single request."""

import pytest
import torch
from safetensors.torch import save_file

from diffusab_book.report import Options, measure, write
from diffusab_core.spectrum import STATISTICS

LINES = (
    "() => [...document.querySelectorAll('#chart-profile .scatterlayer .js-line')].map(line => line.getAttribute('d'))"
)
LUMINANCE = (
    """() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + Number(b), 0)"""
)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(8, 4, 16, 16, generator=generator)
    save_file({"z": white}, folder / "white $noise$ & <friends>.safetensors")
    save_file({"z": white.cumsum(-1).cumsum(-2)}, folder / "smooth.safetensors")
    files = sorted(str(path) for path in folder.glob("*.safetensors"))
    write(measure(Options(latents=tuple(files), samples=8, resolution=64, device="cpu")), folder)
    return folder / "profile.html"


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
    page.wait_for_selector("#chart-profile .js-line")
    assert len(page.evaluate(LINES)) == 3  # RGB and two models

    seen = {}
    for statistic in STATISTICS:
        page.select_option("#statistic", statistic)
        page.wait_for_timeout(150)
        alt = page.get_attribute("#chart-profile", "aria-label")
        seen[statistic] = (tuple(page.evaluate(LINES)), alt, page.inner_text("#definition"))
        assert "smooth goes from" in alt
    for part in zip(*seen.values(), strict=True):  # lines, alt text and definition all follow the choice
        assert len(set(part)) == len(STATISTICS)

    assert "white $noise$ & <friends>" in page.text_content("#chart-profile .legend")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert (page.evaluate(LUMINANCE) < 200) == (scheme == "dark")
    own = [url for url in requests if url != page_file.as_uri() and not url.startswith("data:")]
    assert own == []
    assert complaints == []
    context.close()


@pytest.mark.browser
def test_page_shows_the_picture_where_scripts_are_off(browser, page_file):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    picture = page.locator("noscript img")
    assert picture.bounding_box()["width"] > 300
    assert "Frequency profiles" in picture.get_attribute("alt")
    context.close()
