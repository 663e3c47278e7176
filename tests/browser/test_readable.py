"""Pages that everybody can read: whole formulas and code on any screen, the keyboard, paper, and axe's rules."""

import pytest
from test_pages import (
    AXE,
    CONTENT,
    DESK,
    FORMULAS,
    LESSONS,
    OVERFLOWING_CODE,
    PAGES,
    PHONE,
    SERIOUS,
    SMALLEST,
    figures,
    reading,
    wait_for_math,
)

pytestmark = pytest.mark.browser

PAPER = {"viewport": {"width": 718, "height": 1000}}  # A4 without its margins, in CSS pixels

COUNT_DRAWINGS = """() => {
  const drawings = new Map(), draw = window.Plotly.newPlot;
  window.drawings = () => [...document.querySelectorAll('.book-figure')].map(box => drawings.get(box) ?? 0);
  window.Plotly.newPlot = (plot, ...rest) => {
    const box = plot.closest('.book-figure');
    drawings.set(box, (drawings.get(box) ?? 0) + 1);
    return draw(plot, ...rest);
  };
}"""
PAST_THE_EDGE = """() => [...document.querySelectorAll('.book-figure')].flatMap((box, i) => {
  const edge = box.parentElement.getBoundingClientRect(), svg = box.querySelector('.main-svg');
  const shown = svg.getBoundingClientRect(), frame = box.querySelector('.svg-container').getBoundingClientRect();
  const whole = svg.viewBox.baseVal.width >= 300 && Math.abs(shown.height - frame.height) < 2;
  const inside = shown.width >= 300 && shown.right <= edge.right + 1;
  return inside && whole ? [] : [`figure ${i}: ${shown.right} > ${edge.right}`];
})"""


@pytest.mark.parametrize("name", [PAGES[0], LESSONS[3]])
def test_axe_finds_nothing_serious_in_the_dark(browser, site, name):
    with reading(browser, site, color_scheme="dark", **DESK) as page:
        page.goto(f"{site}/{name}.html")
        wait_for_math(page)
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.add_script_tag(path=str(AXE))
        assert page.evaluate(SERIOUS) == []


def test_a_formula_set_in_lines_is_put_back_on_a_wide_screen(browser, site):
    lines = "document.querySelectorAll('.bd-article div.math mjx-container [data-mml-node=mtable]').length"
    with reading(browser, site, **PHONE) as page:
        page.goto(f"{site}/notebooks/06_scale_equivariance.html")
        page.wait_for_function("() => document.documentElement.dataset.formulas === 'fit'")
        broken = page.evaluate(lines)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.wait_for_function(f"() => {lines} < {broken}")
        assert page.evaluate(FORMULAS, SMALLEST) == []


def test_a_width_that_does_not_last_draws_nothing_anew(browser, site):
    narrow = """wanted => { for (const matches of wanted) {
      window.narrow.matches = matches;
      window.narrow.dispatchEvent(new Event('change'));
    } }"""
    with reading(browser, site, **DESK) as page:
        page.add_init_script("""window.narrow = Object.assign(new EventTarget(), {matches: false});
          const ask = window.matchMedia.bind(window);
          window.matchMedia = query => query === '(max-width: 600px)' ? window.narrow : ask(query);""")
        page.goto(f"{site}/notebooks/02_dct.html")
        boxes = figures(page)
        page.evaluate(COUNT_DRAWINGS)
        page.evaluate(narrow, [True, False])
        page.wait_for_timeout(500)
        assert page.evaluate("window.drawings()") == [0] * len(boxes)
        page.evaluate(narrow, [True, False, True])
        page.wait_for_function("() => window.drawings().every(Boolean)", timeout=60_000)
        page.wait_for_timeout(300)
        assert page.evaluate("window.drawings()") == [1] * len(boxes)


@pytest.mark.parametrize(("screen", "scheme"), [(DESK, "dark"), (PHONE, "light")], ids=["desk, dark", "phone, light"])
def test_the_drawing_of_the_chain_can_be_read(browser, site, screen, scheme):
    with reading(browser, site, color_scheme=scheme, **screen) as page:
        page.goto(f"{site}/notebooks/01_latent_diffusion.html")
        drawing = page.locator(".book-drawing svg[role=img]")
        assert len(drawing.get_attribute("aria-label")) > 100
        sizes = drawing.locator("text").evaluate_all("all => all.map(text => text.getBoundingClientRect().height)")
        assert len(sizes) >= 15
        assert min(sizes) > 10, "in pixels, of one line"
        inside = drawing.bounding_box()
        assert inside["x"] >= 0
        assert inside["x"] + inside["width"] <= screen["viewport"]["width"]
        ink, paper = drawing.locator("text").first.evaluate(
            "text => [getComputedStyle(text).fill, getComputedStyle(document.body).color]"
        )
        assert ink == paper, "its letters have the colour of the page's"


def test_a_long_table_unfolds_for_the_pointer_the_keyboard_and_paper(browser, site):
    with reading(browser, site, **PHONE) as page:
        page.set_viewport_size({"width": 240, "height": 600})  # too narrow for this table, which then scrolls
        page.goto(f"{site}/notebooks/07_chopping.html")
        folded = page.locator("details.book-folded").first
        table = folded.locator(".book-table")
        assert table.is_hidden()
        folded.locator("summary").focus()
        page.keyboard.press("Enter")
        assert table.is_visible()
        page.wait_for_function("table => table.tabIndex === 0", arg=table.element_handle())
        page.keyboard.press("Enter")
        assert table.is_hidden()
        page.emulate_media(media="print")
        assert table.is_visible()
        assert folded.locator("summary").is_hidden()


def test_menus_are_reached_by_the_keyboard(browser, site):
    with reading(browser, site, **DESK) as page:
        page.goto(f"{site}/notebooks/02_dct.html")
        box = next(b for b in figures(page) if b.locator(".updatemenu-header").count() == 2)
        lists = box.locator("xpath=preceding-sibling::*[1]").locator("select")
        assert lists.count() == 2
        lists.first.evaluate("e => { const a = document.createElement('a'); a.href = '#'; e.before(a); a.focus(); }")
        page.keyboard.press("Tab")
        assert lists.first.evaluate("e => e === document.activeElement")
        assert lists.first.bounding_box()["height"] > 15, "a list that has the focus is seen"
        entry, before = lists.first.input_value(), box.evaluate(CONTENT)
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(500)
        assert lists.first.input_value() != entry
        assert box.evaluate(CONTENT) != before
        box.locator(".updatemenu-header").first.click(force=True)
        box.locator(".updatemenu-dropdown-button").first.click(force=True)
        page.wait_for_timeout(300)
        assert lists.first.input_value() == "0", "the list follows the pointer"


def test_a_page_on_paper_is_whole(browser, site):
    with reading(browser, site, **DESK) as page:
        page.goto(f"{site}/notebooks/02_dct.html")
        figures(page)
        page.emulate_media(media="print")
        page.set_viewport_size(PAPER["viewport"])
        assert page.evaluate(PAST_THE_EDGE) == []
        assert page.evaluate(OVERFLOWING_CODE) == []
        shown = page.evaluate("document.querySelector('.bd-article').innerText")
        assert "Show code" not in shown
        for pressed in ("details.hide > summary", ".copybtn", ".updatemenu-container"):
            assert page.locator(f"{pressed}:visible").count() == 0
        kept = page.locator(".book-figure").evaluate_all("boxes => boxes.map(b => getComputedStyle(b).breakInside)")
        assert set(kept) == {"avoid"}


def test_panels_under_one_another_have_numbers_of_their_own(browser, site):
    bare = """() => [...document.querySelectorAll('.book-figure-plot')].flatMap((plot, i) =>
      Object.entries(plot._fullLayout).filter(([name, axis]) => /^yaxis\\d*$/.test(name) && axis.matches
        && axis.showticklabels === false && plot._fullLayout[`x${name.slice(1)}`]?.domain?.[0] === 0)
      .map(([name]) => `figure ${i}: ${name}`))"""
    with reading(browser, site, **PHONE) as page:
        page.goto(f"{site}/notebooks/15_encoder_decoder.html")
        figures(page)
        assert page.evaluate(bare) == []
