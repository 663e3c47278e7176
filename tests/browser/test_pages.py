"""Every page of the built book as a reader sees it: offline, drawn, typeset, moving, on a desk and on a phone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import axe_playwright_python
import pytest
import yaml

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
LISTED = [entry for part in TOC["parts"] for entry in part["chapters"]]
PAGES = [TOC["root"], *(page["file"] for entry in LISTED for page in [entry, *entry.get("sections", [])])]
CLAIMS = next(page for page in PAGES if page.endswith("_believe"))  # prose and a table
LESSONS = [page for page in PAGES if page.startswith("notebooks/") and page != CLAIMS]
WITH_FIGURES = [TOC["root"], *LESSONS]
DRAGGED = [page for page in LESSONS if not page.endswith("_cluster")]  # chapters with sliders
DESK = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
SMALLEST = 0.62  # of the size of the text: a formula that is shrunk further cannot be read on a phone

# What a figure shows besides its own controls: curves, pictures, labels.
CONTENT = """box => {
  const copy = box.querySelector('.book-figure-plot').cloneNode(true);
  copy.querySelectorAll('.slider-container, .updatemenu-container, .menulayer, .hoverlayer').forEach(e => e.remove());
  return [...copy.querySelectorAll('.main-svg')].map(svg => svg.innerHTML).join('');
}"""

UNTYPESET = """() => [...document.querySelectorAll('.bd-article span.math, .bd-article div.math')]
  .filter(e => !e.querySelector('mjx-container svg') || e.querySelector('[data-mjx-error], mjx-merror'))
  .map(e => e.textContent.slice(0, 80))"""

TEXT_COLOUR = """box => getComputedStyle(box.querySelector('.xtick text, .ytick text, .slider-label')).fill"""

# Labels of a figure that stick out of it, or that lie over one another.
CROWDED = """box => {
  const frame = box.getBoundingClientRect();
  const labels = [...box.querySelectorAll('.xtitle, .ytitle, .annotation-text, .legendtext, .gtitle')]
    .map(e => ({text: e.textContent, r: e.getBoundingClientRect()})).filter(({r}) => r.width > 0);
  const out = labels.filter(({r}) => r.left < frame.left - 2 || r.right > frame.right + 2)
    .map(l => 'outside: ' + l.text);
  labels.forEach((a, i) => labels.slice(i + 1).forEach(b => {
    const w = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
    const h = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
    if (w > 3 && h > 3) out.push(`overlap: ${a.text} / ${b.text}`);
  }));
  return out;
}"""

# Formulas that stick out of their paragraph, or that the style sheet had to make too small.
FORMULAS = """smallest => [...document.querySelectorAll('.bd-article mjx-container')].flatMap(formula => {
  const svg = formula.querySelector('svg');
  if (!svg || !svg.getBoundingClientRect().width) return [];
  let place = formula.parentElement;
  while (getComputedStyle(place).display.startsWith('inline')) place = place.parentElement;
  const box = place.getBoundingClientRect(), shown = svg.getBoundingClientRect();
  svg.style.maxWidth = 'none';
  const natural = svg.getBoundingClientRect().width;
  svg.style.maxWidth = '';
  const scale = shown.width / natural, name = formula.closest('[id]')?.id ?? '';
  const clipped = shown.right > box.right + 1.5 || shown.left < box.left - 1.5;
  return clipped || scale < smallest ? [`${name}: ${scale.toFixed(2)}${clipped ? ' clipped' : ''}`] : [];
})"""
OVERFLOWING_CODE = """() => [...document.querySelectorAll('.bd-article pre')]
  .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"""
# Thousands of signatures look alike, and axe needs minutes for them: of reference pages it sees everything else.
SERIOUS = """async reference => (await axe.run(
    {include: [['html']], exclude: reference ? [['dl.py']] : []},
    {resultTypes: ['violations'], preload: false})).violations
  .filter(v => ['serious', 'critical'].includes(v.impact))
  .map(({id, nodes: [first, ...more]}) =>
    `${id}: ${1 + more.length} × ${first.html.slice(0, 120)} ${first.failureSummary.slice(0, 200)}`)"""

# What sticks out of the screen and cannot be scrolled to inside a box of its own.
STICKING_OUT = """() => {
  const article = document.querySelector('.bd-article');
  const boxed = e => {
    for (let a = e.parentElement; a && a !== article; a = a.parentElement)
      if (getComputedStyle(a).overflowX !== 'visible') return true;
    return false;
  };
  return [...article.querySelectorAll('*')]
    .filter(e => !e.closest('svg') || e.matches('svg'))
    .filter(e => e.getBoundingClientRect().width > 0 && e.getBoundingClientRect().right > 391 && !boxed(e))
    .map(e => e.outerHTML.slice(0, 120));
}"""


@contextmanager
def reading(browser, home: str, **options) -> Iterator:
    """A page in a fresh profile; leaving it fails on any request elsewhere, any error and any failed response."""
    context = browser.new_context(**options)
    page = context.new_page()
    problems = []

    def requested(request):
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and not request.url.startswith(home):
            problems.append(f"request elsewhere: {request.url[:200]}")

    page.on("request", requested)

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # what was still loading when the reader went on to the next page
            problems.append(f"failed request: {request.url[:200]} {request.failure}")

    def answered(response):
        if response.status >= 400:
            problems.append(f"status {response.status}: {response.url[:200]}")

    def said(message):
        if message.type in {"error", "warning"}:
            problems.append(f"console {message.type}: {message.text}")

    page.on("requestfailed", failed)
    page.on("response", answered)
    page.on("console", said)
    page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    try:
        yield page
        page.wait_for_timeout(100)
        assert problems == []
    finally:
        context.close()


def figures(page) -> list:
    """Scroll to every figure, wait until it is drawn, and return them all."""
    boxes = page.locator(".book-figure").all()
    for box in boxes:
        box.scroll_into_view_if_needed()
        page.wait_for_function("box => box.dataset.drawn === 'true'", arg=box.element_handle(), timeout=20_000)
        assert box.locator(".main-svg").count() > 0
        assert box.locator(".main-svg").first.bounding_box()["height"] > 50
    return boxes


def scroll_through(page) -> None:
    """Scroll down as a reader does, so that everything that waits to be seen is seen."""
    height = page.evaluate("document.documentElement.scrollHeight")
    for y in range(0, min(height, 60_000), 2000):
        page.evaluate(f"window.scrollTo(0, {y})")
    page.evaluate("window.scrollTo(0, 0)")


def wait_for_math(page) -> None:
    page.wait_for_function("() => !window.MathJax?.startup?.promise || window.MathJax.startup.promise.then(() => true)")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_at_a_desk(browser, site, name):
    """All that a reader sees there, in one visit: a page takes longer to draw than to look at."""
    with reading(browser, site, color_scheme="light", **DESK) as page:
        page.goto(f"{site}/{name}.html")
        wait_for_math(page)
        if name in DRAGGED:
            sees_a_picture_on_the_first_screen(page)
        page.add_script_tag(path=str(AXE))  # before figures are drawn, whose parts are many
        assert page.evaluate(SERIOUS, name.startswith("book/api")) == []
        scroll_through(page)
        boxes = figures(page)
        assert boxes or name not in WITH_FIGURES
        assert page.locator(".bd-article h1").count() == 1
        for box in boxes:
            assert box.get_attribute("role") == "img"
            assert len(box.get_attribute("aria-label")) >= 20
        assert {i: found for i, box in enumerate(boxes) if (found := box.evaluate(CROWDED))} == {}
        reads_formulas_and_code(page)
        assert page.locator("mjx-container").count() > 10 or name not in LESSONS
        if name in WITH_FIGURES:
            sees_figures_follow_the_theme(page, boxes)
        if name in DRAGGED or name == TOC["root"]:
            moves_sliders_and_menus(page, boxes)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_on_a_phone(browser, site, name):
    with reading(browser, site, **PHONE) as page:
        page.goto(f"{site}/{name}.html")
        wait_for_math(page)
        boxes = figures(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(STICKING_OUT) == []
        assert {i: found for i, box in enumerate(boxes) if (found := box.evaluate(CROWDED))} == {}
        reads_formulas_and_code(page)


def sees_a_picture_on_the_first_screen(page) -> None:
    top = page.locator(".book-figure").first.bounding_box()["y"]
    assert top < page.locator(".bd-article h2").first.bounding_box()["y"]
    assert top < DESK["viewport"]["height"]
    folded = page.locator("div.cell.tag_parameters details")
    assert folded.count() == 1
    assert not folded.evaluate("e => e.open")


def reads_formulas_and_code(page) -> None:
    """Every formula is typeset, whole and not too small, and no line of code is cut."""
    page.wait_for_function("() => document.documentElement.dataset.formulas === 'fit'")
    assert page.evaluate(UNTYPESET) == []
    assert page.evaluate(FORMULAS, SMALLEST) == []
    assert page.evaluate(OVERFLOWING_CODE) == []


def sees_figures_follow_the_theme(page, boxes: list) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    light = [box.evaluate(TEXT_COLOUR) for box in boxes if box.locator(".xtick text, .slider-label").count()]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    switch = page.locator(".theme-switch-button:visible").first
    for _ in range(3):  # the button goes round: automatic, light, dark
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            break
        switch.click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_timeout(600)
    dark = [box.evaluate(TEXT_COLOUR) for box in boxes if box.locator(".xtick text, .slider-label").count()]
    assert light
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    for box in boxes:
        assert box.evaluate("b => b.querySelector('.main-svg').style.background") in {
            "rgba(0, 0, 0, 0)",
            "rgba(0, 0, 0, 0) none",
            "",
        }


def moves_sliders_and_menus(page, boxes: list) -> None:
    moved = 0
    for box in boxes:
        for number in range(box.locator(".slider-group").count()):
            moved += 1
            rail = box.locator(".slider-group").nth(number).locator(".slider-rail-touch-rect")
            seen = [box.evaluate(CONTENT)]
            for share in (0.97, 0.55, 0.03):
                width, height = (rail.bounding_box()[side] for side in ("width", "height"))
                rail.click(position={"x": share * width, "y": height / 2}, force=True)
                page.wait_for_timeout(250)
                assert box.evaluate(CONTENT) not in seen[-1:], f"slider at {share} changes nothing"
                seen.append(box.evaluate(CONTENT))
            box.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(250)
            assert box.evaluate(CONTENT) != seen[-1], "the arrow key changes nothing"
        for number in range(box.locator(".updatemenu-header").count()):
            before = box.evaluate(CONTENT)
            box.locator(".updatemenu-header").nth(number).click(force=True)
            box.locator(".updatemenu-dropdown-button").last.click(force=True)
            page.wait_for_timeout(250)
            assert box.evaluate(CONTENT) != before, f"menu {number} changes nothing"
    assert moved > 0, "no slider on this page"


def test_a_menu_keeps_the_position_of_the_slider(browser, site):
    with reading(browser, site, **DESK) as page:
        page.goto(f"{site}/notebooks/02_dct.html")
        box = next(b for b in figures(page) if b.locator(".updatemenu-header").count() == 2)
        plot = box.locator(".book-figure-plot")
        for _ in range(2):  # not merely the default of the next entry
            box.focus()
            page.keyboard.press("ArrowLeft")
            page.wait_for_timeout(250)
        label = box.locator(".slider-label").first
        before, reached = plot.evaluate("p => p.layout.sliders[0].active"), label.text_content()
        content = box.evaluate(CONTENT)
        box.locator(".updatemenu-header").first.click(force=True)
        box.locator(".updatemenu-dropdown-button").last.click(force=True)
        page.wait_for_timeout(400)
        assert plot.evaluate("p => p.layout.sliders[0].active") == before
        assert label.text_content() == reached
        changed = box.evaluate(CONTENT)
        assert changed != content
        page.keyboard.press("ArrowRight")  # and the picture is that position's: leaving it and coming back shows it
        page.wait_for_timeout(250)
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(400)
        assert box.evaluate(CONTENT) == changed


def test_turning_a_phone_keeps_the_figure(browser, site):
    with reading(browser, site, **PHONE) as page:
        page.goto(f"{site}/{TOC['root']}.html")
        box = figures(page)[0]
        position = "box => box.querySelector('.book-figure-plot').layout.sliders[0].active"
        before = box.evaluate(position)
        box.focus()
        page.keyboard.press("ArrowRight" if before == 0 else "ArrowLeft")
        page.wait_for_timeout(300)
        reached = box.evaluate(position)
        assert reached != before
        page.set_viewport_size({"width": 844, "height": 390})
        page.wait_for_timeout(800)
        box = figures(page)[0]
        page.wait_for_timeout(300)
        assert box.evaluate(position) == reached
        assert box.locator(".book-figure-plot").count() == 1
        assert box.locator(".main-svg").first.bounding_box()["width"] > 500


def test_turning_a_phone_back_at_once_draws_each_figure_once(browser, site):
    with reading(browser, site, **PHONE) as page:
        page.goto(f"{site}/{next(name for name in WITH_FIGURES if name.endswith('_dial'))}.html")
        boxes = figures(page)
        for width in (844, 390, 844):
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_timeout(30)
        page.wait_for_timeout(3000)
        assert [box.locator(".book-figure-plot").count() for box in boxes] == [1] * len(boxes)


@pytest.mark.parametrize(("word", "found"), [("Parseval", "book/glossary"), ("zigzag", "notebooks/02_dct")])
def test_search_finds_a_word(browser, site, word, found):
    with reading(browser, site, **DESK) as page:
        page.goto(f"{site}/{TOC['root']}.html")
        page.locator(".search-button__button:visible, .search-button-field:visible").first.click()
        page.locator("input[type=search]:visible").first.fill(word)
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=*")
        page.wait_for_selector("#search-results li a")
        page.wait_for_function(
            "() => !/Searching/.test(document.querySelector('#search-results h2')?.textContent ?? '')"
        )
        assert page.locator(f"#search-results a[href*='{found}']").count() > 0


def test_a_solution_unfolds(browser, site):
    with reading(browser, site, **DESK) as page:
        chapter = next(name for name in PAGES if name.startswith("notebooks/"))
        page.goto(f"{site}/{chapter}.html")
        solution = page.locator(".admonition.solution").first
        solution.scroll_into_view_if_needed()
        folded = solution.bounding_box()["height"]
        solution.locator("button.toggle-button").click()
        page.wait_for_timeout(200)
        assert solution.bounding_box()["height"] > folded + 40


def test_the_address_alone_leads_to_the_first_page(browser, site):
    with reading(browser, site, **DESK) as page:
        page.goto(f"{site}/index.html")
        page.wait_for_url(f"{site}/{TOC['root']}.html")


def test_the_remaining_pages_work_offline(browser, site, built_book):
    """The index, the search page and the package's sources: no figures there, but scripts and styles."""
    pages = {path.relative_to(built_book).as_posix() for path in built_book.rglob("*.html")}
    rest = sorted(pages - {f"{name}.html" for name in PAGES} - {"index.html"})
    with reading(browser, site, **DESK) as page:
        for name in rest:
            if not name.startswith("_static/"):  # the theme's templates
                page.goto(f"{site}/{name}")
                page.wait_for_load_state("load")


def test_the_book_works_from_a_disk(browser, built_book):
    """Opened by a double click, without any server."""
    home = (built_book / f"{TOC['root']}.html").as_uri()
    with reading(browser, built_book.as_uri(), **DESK) as page:
        page.goto(home)
        assert figures(page)
        chapter = next(name for name in PAGES if name.startswith("notebooks/"))
        page.goto((built_book / f"{chapter}.html").as_uri())
        wait_for_math(page)
        assert page.evaluate(UNTYPESET) == []


@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_the_table_of_claims_can_be_filtered(browser, site, screen):
    rows = ".book-claims tbody tr"
    with reading(browser, site, **screen) as page:
        page.goto(f"{site}/{CLAIMS}.html")
        total = page.locator(rows).count()
        assert total >= 45
        page.locator(".book-claims select[name=source]").select_option("dgae")
        shown = page.locator(f"{rows}:visible")
        assert 0 < shown.count() < total
        assert {row.get_attribute("data-source") for row in shown.all()} == {"dgae"}
        assert page.locator(".book-claims output").inner_text() == f"{shown.count()} of {total}"
        page.locator(".book-claims select[name=source]").select_option("")
        page.locator(".book-claims select[name=status]").select_option("reversed")
        assert {row.get_attribute("data-status") for row in shown.all()} == {"reversed"}
        link = shown.locator("a").first.get_attribute("href")
        page.goto(f"{site}/notebooks/{link}")
        assert page.title()


def test_all_claims_are_printed(browser, site):
    with reading(browser, site, **DESK) as page:
        page.goto(f"{site}/{CLAIMS}.html")
        page.emulate_media(media="print")
        assert page.locator(".book-claims form").is_hidden()
        assert page.locator(".book-claims tbody tr:visible").count() == page.locator(".book-claims tbody tr").count()
