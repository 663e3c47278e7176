"""The teaching kit: no solution in a student notebook, a difficulty on every exercise, plain Markdown throughout."""

import ast
import builtins
import re
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from script_modules import SCRIPTS, load_script

sys.path[:0] = [str(SCRIPTS), str(SCRIPTS.parent / "book" / "_ext")]  # neither is part of the installed packages

import book_quiz  # noqa: E402
from kit import claims, notebooks, plain, sheets, slides, sources  # noqa: E402

CHAPTERS = sources.read_chapters()
KNOWN = sources.collect_references(CHAPTERS)
IDS = [chapter.name for chapter in CHAPTERS]


def text_of(notebook, kind="markdown"):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)


def solutions_in(chapter):
    return [
        part
        for text in chapter.markdown()
        for part in plain.split_blocks(text, {"solution"})
        if isinstance(part, plain.Block)
    ]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_every_exercise_has_a_difficulty(chapter):
    found = sources.list_exercises(chapter)
    assert len(found) == len(re.findall(r"^`{3,}\{exercise\}", "\n".join(chapter.markdown()), flags=re.MULTILINE))
    assert [e.label for e in found if e.stars not in (1, 2, 3)] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_students_get_no_solution(chapter):
    students = notebooks.write_notebook(chapter, KNOWN, solved=False)
    nbformat.validate(students)
    solutions = solutions_in(chapter)
    assert len(solutions) == len(sources.list_exercises(chapter))
    everything = "\n".join(cell.source for cell in students.cells)
    assert "**Solution" not in everything
    for solution in solutions:
        code = re.findall(r"^```python\n(.*?)^```", solution.body, flags=re.DOTALL | re.MULTILINE)
        prose = re.sub(r"^```.*?^```", "", solution.body, flags=re.DOTALL | re.MULTILINE)
        pieces = [*code, *plain.make_plain(prose, KNOWN).split("\n\n")]
        assert [piece for piece in pieces if piece.strip() and piece.strip() in everything] == []
    answers = [c.metadata.get("exercise") for c in students.cells if c.metadata.get("tags") == ["answer"]]
    assert answers[::2] == answers[1::2] == [e.label for e in sources.list_exercises(chapter)]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_solutions_are_whole_and_their_code_is_code(chapter):
    solved = notebooks.write_notebook(chapter, KNOWN, solved=True)
    nbformat.validate(solved)
    cells = [c for c in solved.cells if c.metadata.get("tags") == ["solution"]]
    of = {c.metadata["exercise"] for c in cells}
    assert of == {e.label for e in sources.list_exercises(chapter)}
    code = [c.source for c in cells if c.cell_type == "code"]
    assert len(code) == sum(s.body.count("```python") for s in solutions_in(chapter))
    for source in code:
        ast.parse(source)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_students_get_no_claims_of_the_book(chapter):
    """No assertion of that section, and still every name that a cell takes is there."""
    solved, students = (notebooks.write_notebook(chapter, KNOWN, solved) for solved in (True, False))
    assert claims.HEADING in text_of(solved)
    assert claims.HEADING not in text_of(students)
    of_book = text_of(chapter.notebook, "code")
    section = of_book[of_book.index(claimed_code(chapter)[0]) :]
    asserted = {ast.unparse(node) for node in ast.walk(ast.parse(section)) if isinstance(node, ast.Assert)}
    code = text_of(students, "code")
    assert asserted, "the section asserts something"
    assert asserted & {ast.unparse(node) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)} == set()
    missing = claims.names_needed(ast.parse(code).body) - claims.names_needed(ast.parse(of_book).body)
    assert missing - set(dir(builtins)) == set()
    assert text_of(students).count("## Check yourself") == 1


def claimed_code(chapter):
    """The cells of code of the section."""
    cells = chapter.notebook.cells
    [start] = [i for i, cell in enumerate(cells) if cell.cell_type == "markdown" and claims.HEADING in cell.source]
    following = [cell.cell_type for cell in cells[start + 1 :]]
    return [cell.source for cell in cells[start + 1 : start + 1 + following.index("markdown")]]


def test_what_later_cells_need_of_the_claims_stays():
    cells = [
        nbformat.v4.new_markdown_cell(f"## Exercises\n\nOne.\n\n{claims.HEADING}\n\nGuarded."),
        nbformat.v4.new_code_cell('far = 3\nunused = [v for v in range(far)]\n# "far apart"\nassert far > 2'),
        nbformat.v4.new_code_cell("def twice(x):\n    return far * x\n\nfor i in (1, 2):\n    assert twice(i) > i"),
        nbformat.v4.new_markdown_cell("More of it.\n\n## Check yourself"),
        nbformat.v4.new_code_cell("unused = 0\nfor i in (1, 2):\n    print([twice(v) + unused for v in (i, 2)])"),
    ]
    left = claims.leave_out_claims(cells)
    assert [cell.source for cell in left] == [
        "## Exercises\n\nOne.",
        "## Check yourself",
        f"far = 3\ndef twice(x):\n    return far * x\n\n{cells[-1].source}",
    ]
    again = claims.leave_out_claims(left)
    assert [cell.source for cell in again] == [cell.source for cell in left]


@pytest.mark.parametrize("solved", [False, True])
@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_text_is_plain_markdown(chapter, solved):
    text = text_of(notebooks.write_notebook(chapter, KNOWN, solved))
    without_code = re.sub(r"^> ?", "", text, flags=re.MULTILINE)
    without_code = re.sub(r"^```.*?^```", "", without_code, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^.*(?:\{[\w:-]+\}`|`{3,}\{|^\([\w-]+\)=).*$", without_code, flags=re.MULTILINE) == []
    assert text.count("\\tag{") == sum(n.startswith(f"{chapter.number}.") for n in KNOWN.equations.values())


def test_references_become_words():
    text = "See {numref}`chap-se`, {eq}`eq-se`, {ref}`ex-control` and {cite:t}`lai2026toward` {cite}`ho2022classifier`."
    expected = "See Chapter 6, (6.2), Exercise 6.3 and Lai et al. (2026) (Ho and Salimans, 2022)."
    assert plain.make_plain(text, KNOWN) == expected
    assert plain.make_plain("See {doc}`Your own picture </book/own_picture>`.", KNOWN) == "See *Your own picture*."


@pytest.mark.parametrize("text", ["{numref}`chap-nowhere`", "{eq}`eq-none`", "{unheard}`of`", "```{unheard}\n```"])
def test_what_nobody_knows_is_refused(text):
    with pytest.raises(ValueError, match=r"nowhere|none|unheard"):
        plain.make_plain(text, KNOWN)


def test_a_directive_becomes_a_quotation():
    text = "```{admonition} In the paper\n:class: paper\n\nOne.\n\n| a |\n|---|\n```\nAfter."
    assert plain.make_plain(text, KNOWN) == "> **In the paper**\n>\n> One.\n>\n> | a |\n> |---|\nAfter."


def test_the_kit_of_two_chapters(tmp_path):
    build_kit = load_script("build_kit")
    archive = build_kit.build(tmp_path, only=[5, 18], wheel=False)
    first = archive.read_bytes()
    with zipfile.ZipFile(archive) as kit:
        names = {name.removeprefix("diffusability-course/") for name in kit.namelist()}
        index = kit.read("diffusability-course/instructor/index.md").decode()
    chapters = ("05_cutting", "18_believe")
    assert names >= {f"slides/{name}.html" for name in chapters} | {f"slides/{name}" for name in slides.VENDORED}
    assert names >= {f"{folder}/{name}.ipynb" for folder in ("students", "solutions") for name in chapters}
    assert names >= {f"instructor/{name}.md" for name in (*chapters, "index")}
    assert names >= {"students/quizzes.html", "instructor/quizzes.html"}
    assert not any(name.startswith("students/01") for name in names)
    whole = (sources.ROOT / "book" / "teaching" / "index.md").read_text(encoding="utf8")
    assert whole.count(build_kit.FOR_AUTHORS) == 1
    assert "## How to run a session" in index
    assert not re.search(r"make kit|quizzes\.yaml|who write chapters|slide_type", index), "nobody has the sources there"
    assert build_kit.build(tmp_path, only=[5, 18], wheel=False).read_bytes() == first, "the same sources, the same kit"
    with pytest.raises(ValueError, match="no chapter 99"):
        build_kit.build(tmp_path, only=[99])


def test_the_wheel_lists_what_there_is():
    build_kit = load_script("build_kit")
    assert [name for name in build_kit.WHEEL if not (sources.ROOT / Path(name)).exists()] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_slides_of_every_chapter(chapter):
    deck = slides.write_slides(chapter, KNOWN)
    nbformat.validate(deck)
    assert deck.cells[0].metadata.slideshow.slide_type == "slide"
    assert deck.cells[0].source == f"Chapter {chapter.number}\n\n# {chapter.title}", "no verdict before the votes"
    assert deck.cells[1].metadata.slideshow.slide_type == "notes"
    assert deck.cells[1].source.startswith("**In short.**")
    shown = [c.source for c in deck.cells if c.metadata.slideshow.slide_type in slides.KINDS]
    text = "\n".join(shown)
    assert len(shown) >= 6
    assert "**In short.**" not in text
    assert text.count("## To take away\n\n") == 1
    assert "## Learning goals" in text
    for exercise in sources.list_exercises(chapter):
        assert f"**{exercise.number}** {exercise.title} {'★' * exercise.stars}" in text
    assert not re.search(r"Solution of|^## (?:What this chapter claims|Check yourself)", text, flags=re.MULTILINE)
    assert [source for source in shown if not source.strip()] == []
    assert text.count("$$") % 2 == 0
    following = [cell.metadata.slideshow.slide_type for cell in deck.cells[1:]]
    alone = [cell.source for cell, kind in zip(deck.cells, following, strict=False)
             if slides.is_heading(cell) and kind not in ("-", "notes")]  # fmt: skip
    assert alone == []


def test_what_a_slide_keeps_of_a_text():
    long = "Words " * slides.WHOLE + "end"
    text = """First sentence. It leads here:

$$
a
$$

Then, of Sec. 3, comes prose. It is for the notes.

- **Head.** One. LONG.
- Three. LONG.
- Short. Whole.

**Bold begins.** This stays. LONG.

**This is one whole claim already.** LONG.

**A short one.** Whole.""".replace("LONG", long)
    assert slides.condense(text) == [
        "First sentence. It leads here:\n\n$$\na\n$$\n\n- **Head.** One.\n- Three.\n- Short. Whole.\n\n"
        "**Bold begins.** This stays.\n\n**This is one whole claim already.**\n\n**A short one.** Whole."
    ]
    assert slides.condense(f"Only prose. Two of three. {long}.") == ["Only prose. Two of three."]
    assert slides.condense(f"One of these: a thing. Two: {long}.") == ["One of these: a thing."]
    assert slides.condense("Only prose. All of it.\n\nMore.") == ["Only prose. All of it."]
    assert slides.condense("A command:\n\n```bash\nrun\n```\n\nMore.") == ["A command:\n\n```bash\nrun\n```"]
    many = "\n\n".join(f"$${letter}$$" for letter in "abcde")
    assert [part.count("$$") // 2 for part in slides.condense(many)] == [2, 2, 1]


def slide_of(kind, *sources):
    """A slide: texts, and CODE for a picture; what begins with NOTES is for the speaker."""
    cells = []
    for text in sources:
        made = nbformat.v4.new_code_cell("x") if text == "CODE" else nbformat.v4.new_markdown_cell(text)
        shown = kind if not cells else "-"
        made.metadata["slideshow"] = {"slide_type": "notes" if text.startswith("NOTES") else shown}
        cells.append(made)
    return cells


def test_nearly_empty_slides_join_others():
    def filled(*slides_of):
        made = slides.fill([cell for slide in slides_of for cell in slide])
        starts = [i for i, cell in enumerate(made) if cell.metadata.slideshow.slide_type in slides.KINDS]
        return [[cell.source for cell in made[a:b]] for a, b in zip(starts, [*starts[1:], len(made)], strict=True)]

    picture = slide_of("subslide", "### A", "CODE", "NOTES below")
    long = "words " * (slides.SHORT + 1)
    # Few words after a picture are about it.
    assert filled(picture, slide_of("slide", "### A\n\nFew.", "NOTES few")) == [
        ["### A", "x", "Few.", "NOTES below", "NOTES few"]
    ]
    assert filled(picture, slide_of("slide", "### A\n\nFew.", "NOTES below, and more")) == [
        ["### A", "x", "Few.", "NOTES below, and more"]
    ]
    # A new heading with few words leads to the picture; words that go on do not, nor does a formula.
    assert filled(slide_of("slide", "## A\n\nFew.", "NOTES few"), picture) == [
        ["## A\n\nFew.", "x", "NOTES few", "NOTES below"]
    ]
    assert len(filled(slide_of("slide", "### A\n\nFew."), picture)) == 2
    assert len(filled(slide_of("slide", "## A\n\n$$a$$"), picture)) == 2
    assert len(filled(slide_of("slide", f"## A\n\n{long}"), picture)) == 2
    assert len(filled(picture, slide_of("slide", f"### A\n\n{long}"))) == 2
    assert len(filled(picture, slide_of("slide", "### A\n\n- a list"))) == 2
    # Texts of one section.
    assert filled(slide_of("slide", f"## A\n\n{long}"), slide_of("slide", "### A\n\nFew.")) == [
        [f"## A\n\n{long}", "Few."]
    ]
    assert len(filled(slide_of("slide", f"## A\n\n{long}"), slide_of("slide", "### B\n\nFew."))) == 2


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_pictures_have_notes(chapter):
    """What the chapter says below a picture, unless a heading comes first."""
    cells = chapter.notebook.cells
    picture = [nbformat.v4.new_output("display_data", {"text/html": "<p>picture</p>"})]
    outputs = {cell.source.strip(): picture for cell in cells if cell.cell_type == "code"}
    deck = slides.write_slides(chapter, KNOWN, outputs).cells
    notes = "\n".join(cell.source for cell in deck if slides.is_notes(cell))
    pictures = [i for i, cell in enumerate(cells[:-1]) if cell.cell_type == "code" and "slideshow" in cell.metadata]
    captions = [cells[i + 1].source for i in pictures if cells[i + 1].cell_type == "markdown"]
    said = [plain.make_plain(c.split("\n\n")[0], KNOWN) for c in captions if c[0] not in "#`(|"]
    assert said or chapter.name == "18_believe"  # two cells of code in a row
    assert [text for text in said if text not in notes] == []


def test_code_and_pictures_on_slides(tmp_path):
    """Outputs are found by the cell's source; a picture becomes what figures.js draws into."""
    [chapter] = [c for c in CHAPTERS if c.name == "05_cutting"]
    tagged = [c for c in chapter.notebook.cells if c.cell_type == "code" and "slideshow" in c.metadata]
    executed = nbformat.v4.new_notebook()
    figure = {"data": [{"y": [1, 2]}], "layout": {"meta": {"alt": "Two points."}}}
    for cell in tagged[:2]:
        output = nbformat.v4.new_output("display_data", {slides.PLOTLY: figure})
        executed.cells.append(nbformat.v4.new_code_cell(cell.source, outputs=[output]))
    nbformat.write(executed, tmp_path / "executed.ipynb")
    page = slides.render(slides.write_slides(chapter, KNOWN, slides.outputs_by_source(tmp_path / "executed.ipynb")))
    assert page.count('class="book-figure"') == 2
    assert 'aria-label="Two points."' in page
    slides.write_shared(tmp_path)
    wanted = re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"([^\"]+)\"", page)
    assert [name for name in wanted if not name.startswith("data:") and not (tmp_path / name).is_file()] == []
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page)


def test_pages_for_teachers_are_plain_markdown():
    pages = sorted((sources.ROOT / "book" / "teaching").glob("*.md"))
    assert len(pages) == len(CHAPTERS) + 1
    for page in pages:
        text = plain.make_plain(page.read_text(encoding="utf8"), KNOWN)
        assert not re.search(r"\{[\w:-]+\}`[^`]+`", text), page.name


@pytest.mark.parametrize("chapter", CHAPTERS, ids=IDS)
def test_every_chapter_has_a_page_for_its_teacher(chapter):
    page = sources.ROOT / "book" / "teaching" / f"{chapter.name}.md"
    text = plain.make_plain(page.read_text(encoding="utf8"), KNOWN)
    assert f"Chapter {chapter.number}, *{chapter.title}*" in text
    heads = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    for wanted in ("Aim", "Board plan", "Questions to ask", "Expected outputs", "Where students stumble", "Exercises"):
        assert any(head.startswith(wanted) for head in heads), wanted
    minutes = [int(end) for end in re.findall(r"^\| \d+–(\d+) \|", text, flags=re.MULTILINE)]
    steps = re.findall(r"^\| \d+–\d+ \|.*\| (.+) \|$", text, flags=re.MULTILINE)
    named = {name for step in steps for name in re.split(r"; (?=\*|title)", step)} - {"title", "–"}
    assert len(steps) == len(minutes)
    assert named - {f"*{name}*" for name in sections_of_slides(chapter)} == set(), "no slide has this section"
    assert len(named) >= 2
    assert minutes, "the board plan has minutes"
    assert all(last <= 90 for last in minutes)
    for exercise in sources.list_exercises(chapter):
        assert f"Exercise {exercise.number}" in text, "every exercise is placed: in class, at home, or as a project"


def sections_of_slides(chapter):
    """Titles of the slides, every cell of code with a picture."""
    picture = [nbformat.v4.new_output("display_data", {"text/html": "<p>picture</p>"})]
    outputs = {cell.source.strip(): picture for cell in chapter.notebook.cells if cell.cell_type == "code"}
    shown = [c for c in slides.write_slides(chapter, KNOWN, outputs).cells if c.cell_type == "markdown"]
    titles = (re.match(r"##+ (.+)", c.source) for c in shown if c.metadata.slideshow.slide_type in slides.KINDS)
    return {title[1] for title in titles if title}


def test_a_picture_is_titled_by_the_section_that_it_is_in():
    """Also where the section's text is on no slide."""
    [chapter] = [c for c in CHAPTERS if c.name == "09_denoiser"]
    assert {"Tokens", "Training, live", "On the way", "Guidance"} <= sections_of_slides(chapter)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_every_chapter_has_a_quiz(chapter):
    assert "\n".join(chapter.markdown()).count("```{quiz}") == 1
    questions = KNOWN.quizzes[chapter.name]
    assert len(questions) >= 3
    for question in questions:
        options = book_quiz.order_options(question)
        assert sum(right for *_, right in options) == 1
        assert len({say for say, *_ in options}) == len(options) >= 3
    solved, students = (text_of(notebooks.write_notebook(chapter, KNOWN, solved)) for solved in (True, False))
    assert solved.count("<details><summary>") == solved.count("</details>") == 3 * len(questions)
    assert solved.count("**Right.**") == len(questions)
    assert not re.search(r"<details>|\*\*(?:Right|No)\.\*\*", students)
    for question in questions:
        options = book_quiz.order_options(question)
        said = [plain.make_plain(say, KNOWN) for say, *_ in options]
        asked = [f"- **{letter}.** {say}" for letter, say in zip("ABCDE", said, strict=False)]
        assert "\n".join(asked) in students
        assert [because for _, because, _ in options if plain.make_plain(because, KNOWN) in students] == []


def test_quizzes_on_paper():
    """The same letters on both sheets; the one for the class has no reason, no mark and no word on what is right."""
    pages = [sheets.write_quizzes(CHAPTERS, KNOWN, given) for given in (True, False)]
    answers, questions = (re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL) for page in pages)
    of_class = re.sub(r"<style>.*?</style>", "", questions, flags=re.DOTALL)
    assert not re.search(r"strong|right|key|because|why", re.sub(r">[^<]*<", "><", of_class))
    for text in (answers, questions):
        assert text.count("<section>") == len(CHAPTERS)
        assert text.count('<ol class="options">') == sum(map(len, KNOWN.quizzes.values()))
        assert not re.search(r"(?:src|href)=[\"'](?!data:)", text)
    for chapter in CHAPTERS:
        start = answers.index(f"<h1>Chapter {chapter.number}. ")
        key = re.search(r"<strong>(.*?)</strong>", answers[start:])[1]
        for i, (question, letter) in enumerate(zip(KNOWN.quizzes[chapter.name], key.split(" · "), strict=True), 1):
            options = book_quiz.order_options(question)
            assert letter == f"{i} {'ABCDEFG'[[right for *_, right in options].index(True)]}"
            places = [questions.index(str(sheets.show(say, KNOWN))) for say, *_ in options]
            assert len(set(places)) == len(options)
            for say, because, right in options:
                assert str(sheets.show(because, KNOWN)) in answers
                assert f">{sheets.show(because, KNOWN)}<" not in questions
                assert (f"<strong>{sheets.show(say, KNOWN)}</strong>" in answers) >= right


def test_the_order_of_answers_tells_nothing():
    first = [book_quiz.order_options(q)[0][2] for questions in KNOWN.quizzes.values() for q in questions]
    assert 0.1 < sum(first) / len(first) < 0.6
