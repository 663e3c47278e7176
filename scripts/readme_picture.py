"""Draw the README's picture from the package: the landing page's explorer at 30% of the frequencies, as a PNG.

With ``--card`` the picture that social networks show for a link to the book: the same pictures below its title.
"""

import argparse
import io
import shutil
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image
from playwright.sync_api import sync_playwright

from diffusab_book.explorers import spectra

STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"
CARD = (1200, 630)  # pixels; the shape that networks cut links' pictures to
CARD_PAGE = """<style>body {{ margin: 0; background: #fdfcf8; color: #1d262d; font-family: Charter, Georgia, serif }}
h1 {{ font-size: 72px; margin: 24px 48px 0; letter-spacing: -1px }} p {{ font-size: 27px; margin: 0 48px 22px }}
div {{ display: flex; justify-content: space-between; margin: 0 48px; font: 20px system-ui, sans-serif }}
span {{ width: 356px }} img {{ display: block; width: 356px; image-rendering: pixelated; margin-bottom: 6px }}</style>
<h1>Diffusability</h1>
<p>How easily a diffusion model learns a latent space: an executable book</p>
<div>{pictures}</div>"""


def photograph(page_source: str, selector: str, size: tuple[int, int], scale: float) -> bytes:
    """Return a PNG of an element of a page with a Plotly figure; ``size`` in CSS pixels."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser_path = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
        page.set_content(page_source)
        page.wait_for_selector(".main-svg image, div img")
        picture = page.locator(selector).screenshot()
        browser.close()
    return picture


def draw_card(figure: go.Figure) -> bytes:
    """Return the card, in 128 colours: a picture that is fetched for a link should weigh little."""
    sources = [trace.source for trace in figure.data if trace.type == "image"]
    titles = [note.text for note in figure.layout.annotations[: len(sources)]]
    pictures = "".join(
        f'<span><img src="{source}">{title.replace("<br>", ", ")}</span>'
        for source, title in zip(sources, titles, strict=True)
    )
    with Image.open(io.BytesIO(photograph(CARD_PAGE.format(pictures=pictures), "html", CARD, 1))) as image:
        out = io.BytesIO()
        image.convert("RGB").crop((0, 0, *CARD)).quantize(128).save(out, "PNG", optimize=True)
    return out.getvalue()


def draw_readme(figure: go.Figure) -> bytes:
    """Return the README's picture."""
    figure.update_layout(paper_bgcolor="white", width=820, height=500)
    source = pio.to_html(figure, include_plotlyjs=True, config={"staticPlot": True})
    return photograph(source, ".js-plotly-plot", (840, 520), 1.5)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=0.3, help="share of the low frequencies that is kept")
    parser.add_argument("--card", action="store_true", help="draw the card for social networks instead")
    parser.add_argument("--out", type=Path, help="where to, instead of book/_static")
    options = parser.parse_args()
    figure = spectra.landing_explorer().draw(share=options.share)
    out = options.out or STATIC / ("card.png" if options.card else "readme.png")
    out.write_bytes(draw_card(figure) if options.card else draw_readme(figure))
    print(f"{out}: {out.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__":
    main()
