"""Draw the README's picture from the package: the landing page's explorer at 30% of the frequencies, as a PNG."""

import argparse
import shutil
from pathlib import Path

import plotly.io as pio
from playwright.sync_api import sync_playwright

from diffusab_book.explorers import spectra

OUT = Path(__file__).resolve().parents[1] / "book" / "_static" / "readme.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.3, help="share of the low frequencies that is kept")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    figure = spectra.landing_explorer().draw(share=options.share)
    figure.update_layout(paper_bgcolor="white", width=820, height=500)
    page_source = pio.to_html(figure, include_plotlyjs=True, config={"staticPlot": True})
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 840, "height": 520}, device_scale_factor=1.5)
        page.set_content(page_source)
        page.wait_for_selector(".main-svg image")
        page.locator(".js-plotly-plot").screenshot(path=str(options.out))
        browser.close()
    print(f"{options.out}: {options.out.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
