"""The book's Sphinx extension: figures, runtimes, the fingerprint, offline pages, the API page."""

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import book_api
import book_drawings
import book_figures
import book_fingerprint
import book_notebooks
import book_numbers
import book_quiz
import book_runtimes
import offline_book
import pytest
from docutils import nodes
from docutils.utils import new_document
from script_modules import load_script
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from diffusab_book import locks

ROOT = Path(__file__).resolve().parents[2]
FIGURE = {
    "data": [{"type": "scatter", "y": [1, 2], "name": "</script><b>"}],
    "layout": {"height": 333, "meta": {"alt": 'Two "points" & <more>'}},
}


class Recorder:
    """Stands for myst-nb's renderer; keeps the warnings."""

    def __init__(self):
        self.warnings = []
        self.logger = SimpleNamespace(warning=lambda text, **_: self.warnings.append(text))


def handle(mime, content, inline=False):
    recorder = Recorder()
    data = SimpleNamespace(mime_type=mime, content=content, string=json.dumps(content), line=1)
    return book_figures.PlotlyFigures.handle_mime(recorder, data, inline), recorder.warnings


def test_a_figure_survives_its_page():
    page = book_figures.figure_html(FIGURE)
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL).group(1)
    assert json.loads(data) == FIGURE
    assert 'aria-label="Two &quot;points&quot; &amp; &lt;more&gt;"' in page
    assert 'role="img"' in page
    assert "min-height:333px" in page
    assert "<noscript><p>Two &quot;points&quot;" in page


def test_a_figure_is_rendered_without_complaint():
    nodes, warnings = handle(book_figures.PLOTLY_MIME, FIGURE)
    assert len(nodes) == 1
    assert "book-figure" in nodes[0].astext()
    assert warnings == []


@pytest.mark.parametrize("layout", [{}, {"meta": {}}, {"meta": {"alt": " "}}, {"meta": "text"}])
def test_a_figure_without_alt_text_is_a_warning(layout):
    _, warnings = handle(book_figures.PLOTLY_MIME, {"data": [], "layout": layout})
    assert len(warnings) == 1
    assert "alt text" in warnings[0]


def test_a_live_widget_is_a_warning_and_not_published():
    nodes, warnings = handle(book_figures.WIDGET_MIME, {"model_id": "1"})
    assert nodes == []
    assert "DIFFUSAB_PUBLISH" in warnings[0]


def test_other_outputs_are_left_to_myst_nb():
    assert handle("image/png", "…") == (None, [])


def test_a_drawing_becomes_one_picture_of_the_page():
    page = book_drawings.embed('<svg viewBox="0 0 1 1"><text>a</text></svg>', 'two\n"words"')
    assert page == (
        '<div class="book-drawing"><svg role="img" aria-label="two &quot;words&quot;" viewBox="0 0 1 1">'
        "<text>a</text></svg></div>"
    )
    with pytest.raises(ValueError, match="do not see it"):
        book_drawings.embed("<svg></svg>", " ")


@pytest.mark.parametrize("path", sorted((ROOT / "book" / "drawings").glob("*.svg")), ids=lambda path: path.stem)
def test_drawings_have_names_of_their_own_and_colours_for_pages_without_a_theme(path):
    text = path.read_text()
    ElementTree.fromstring(text)
    names = set(re.findall(r'id="([^"]+)"', text))
    assert {name for name in names if not name.startswith(f"{path.stem}-")} == set()
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', text)) <= names
    assert re.findall(r"var\(--[\w-]+\)", text) == [], "a variable has something to fall back to"
    used = [page for page in (ROOT / "notebooks").glob("*.py") if f"drawings/{path.name}" in page.read_text()]
    assert used


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("after 9 600 steps", "after 9_600 steps"),
        ("after 2\n400 and 1 302 720", "after 2_400 and 1_302_720"),
        ("in 2026 100 runs, 600 steps of 64, 10 1000", "in 2026 100 runs, 600 steps of 64, 10 1000"),
    ],
)
def test_a_number_stays_on_its_line(text, kept):
    assert book_numbers.keep_together(text) == kept.replace("_", "\N{NO-BREAK SPACE}")


def test_numbers_in_code_stand_as_they_are():
    page = new_document("page")
    words, code = nodes.paragraph("", "after 9 600 steps, "), nodes.literal("", "x 9 600")
    words += code
    page += words
    page += nodes.literal_block("", "2 400")
    book_numbers.KeepNumbersTogether(page).run()
    assert page.astext() == "after 9\N{NO-BREAK SPACE}600 steps, x 9 600\n\n2 400"


def test_parameters_are_folded_on_the_page():
    text = '# %% tags=["parameters"]\nn: int = 1\n\n# %%\nprint(n)\n'
    first, second = book_notebooks.read_notebook(text).cells
    assert first.metadata["tags"] == ["parameters", "hide-input"]
    assert first.metadata["mystnb"]["code_prompt_show"] == book_notebooks.PROMPT
    assert "tags" not in second.metadata


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "under a second"), (1.4, "1 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (95, "1 min 35 s")],
)
def test_durations_in_words(seconds, words):
    assert book_runtimes.seconds_in_words(seconds) == words


def test_the_machine_has_cores_and_a_python():
    assert re.match(r"\d+ CPU cores? \(.+\), \w+, Python 3\.\d+", book_runtimes.machine_in_words())


def project(root):
    """A small stand-in for the repository."""
    for name, text in {
        "diffusab_core/spectrum.py": "GAIN = 0.05\n",
        "diffusab_core/autoencoders/weights/model.bin": "weights",
        "constraints.txt": "torch==2.15.0\n",
        "notebooks/02_dct.py": "# %%\n",
        "book/results/demo/plain-seed0.webp": "samples",
        "book/index.md": "# Book\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "changed",
    [
        "diffusab_core/spectrum.py",
        "diffusab_core/autoencoders/weights/model.bin",
        "constraints.txt",
        "book/results/demo/plain-seed0.webp",
    ],
)
def test_a_change_in_what_chapters_use_means_executing_again(tmp_path, changed):
    root = project(tmp_path)
    before = book_fingerprint.execution_fingerprint(root)
    (root / changed).write_text("GAIN = 0.06\n")
    assert book_fingerprint.execution_fingerprint(root) != before


def test_a_new_module_means_executing_again(tmp_path):
    root = project(tmp_path)
    before = book_fingerprint.execution_fingerprint(root)
    (root / "diffusab_core" / "flow.py").write_text("")
    assert book_fingerprint.execution_fingerprint(root) != before


@pytest.mark.parametrize(
    "name", ["book/index.md", "book/drawings/chain.svg", "scripts/kit/plain.py", "CITATION.cff", "LICENSE"]
)
def test_a_page_makes_the_book_stale_but_keeps_outputs(tmp_path, name):
    root = project(tmp_path)
    outputs, book = book_fingerprint.execution_fingerprint(root), book_fingerprint.book_fingerprint(root)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("# The book\n")
    assert book_fingerprint.execution_fingerprint(root) == outputs
    assert book_fingerprint.book_fingerprint(root) != book


def test_a_stamp_that_a_full_disk_has_cut_off_is_none(tmp_path, monkeypatch):
    script = load_script("build_book")
    for name, path in {"ROOT": project(tmp_path), "HTML": tmp_path, "STAMP": tmp_path / "book.json"}.items():
        monkeypatch.setattr(script, name, path)
    (tmp_path / "index.html").touch()
    assert not script.is_current()
    script.STAMP.write_text(json.dumps({"fingerprint": book_fingerprint.book_fingerprint(tmp_path)}))
    assert script.is_current()
    script.STAMP.write_text("")
    assert not script.is_current()


def test_the_book_is_looked_at_and_built_by_one_process_at_a_time(tmp_path, monkeypatch, capsys):
    script, held = load_script("build_book"), tmp_path / ".lock"

    def current_and_held():
        with pytest.raises(locks.LockError), locks.alone(held, wait=False, who="the book"):
            pass
        return True

    for name, value in {"BUILD": tmp_path, "is_current": current_and_held}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(sys, "argv", ["build_book.py", "--if-stale"])
    assert script.main() == 0
    assert "up to date" in capsys.readouterr().out
    with locks.alone(held, wait=False, who="the book"):  # free again
        pass


def test_leftovers_change_nothing(tmp_path):
    root = project(tmp_path)
    before = book_fingerprint.book_fingerprint(root)
    for name in ("diffusab_core/__pycache__/spectrum.pyc", "notebooks/.ipynb_checkpoints/02_dct.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("leftover")
    assert book_fingerprint.book_fingerprint(root) == before


@pytest.mark.parametrize("name", sorted(offline_book.VENDORED))
def test_shared_scripts_come_with_the_environment(name):
    path = offline_book.vendored_file(name)
    assert path.stat().st_size > 500_000
    assert path.read_bytes()[:4096].isascii()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(offline_book.VENDORED, "plotly.min.js", ("no_such_package", "x.js"))
    with pytest.raises(ExtensionError, match=r"no_such_package.*make env"):
        offline_book.vendored_file("plotly.min.js")


def test_a_moved_file_is_named(monkeypatch):
    monkeypatch.setitem(offline_book.VENDORED, "plotly.min.js", ("plotly", "gone.js"))
    with pytest.raises(ExtensionError, match=r"gone\.js.*constraints"):
        offline_book.vendored_file("plotly.min.js")


def test_scripts_from_elsewhere_are_left_out():
    def script(filename, body=None):
        return SimpleNamespace(filename=filename, attributes={"body": body} if body else {})

    local = script("_static/figures.js")
    context = {
        "script_files": [
            local,
            script("https://cdn.example/require.js"),
            script("//cdn.example/require.js"),
            script("_static/sphinx-thebe.js"),
            script(None, 'const THEBE_JS_URL = "https://unpkg.com/thebe"'),
        ]
    }
    offline_book.keep_local(None, "page", "page.html", context, None)
    assert context["script_files"] == [local]


def test_every_module_of_the_package_is_in_one_of_the_api_pages():
    pages = [ROOT / "book" / name for name in ("api.md", "api_methods.md", "api_shown.md")]
    text = "".join(book_api.expand(page.read_text(), ROOT) for page in pages)
    for package in ("diffusab_core", "diffusab_book"):
        for name in book_api.public_modules(ROOT / package):
            assert text.count(f".. automodule:: {name}\n") == 1, name
    assert not book_api.MARKER.search(text)


def test_private_modules_are_not_in_the_api_page(tmp_path):
    package = tmp_path / "package"
    for name in ("a.py", "_b.py", "sub/c.py", "_sub/d.py", "sub/__init__.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    assert book_api.public_modules(package) == ["package.a", "package.sub", "package.sub.c"]


@pytest.fixture
def package(monkeypatch):
    """A package whose module ``face`` offers what ``inner`` defines; ``inner`` also has something of its own."""

    def offered(): ...

    def own(): ...

    inner = ModuleType("package.inner")
    face = ModuleType("package.face")
    for function in (offered, own):
        function.__module__ = "package.inner"
        setattr(inner, function.__name__, function)
    face.offered, face.own, face.__all__ = offered, own, ["offered"]
    monkeypatch.setitem(sys.modules, "package.inner", inner)
    monkeypatch.setitem(sys.modules, "package.face", face)
    return inner


@pytest.mark.parametrize(
    ("module", "name", "skipped"),
    [
        ("package.face", "offered", None),
        ("package.inner", "offered", True),
        ("package.inner", "own", None),
        ("package.face", "own", True),  # merely imported there
    ],
)
def test_everything_is_documented_once_where_it_is_offered(package, module, name, skipped):
    app = SimpleNamespace(env=SimpleNamespace(temp_data={"autodoc:module": module}))
    assert book_api.skip_member(app, "module", name, getattr(package, name), False, None) is skipped


def test_constants_stay_and_built_in_defaults_go():
    app = SimpleNamespace(env=SimpleNamespace(temp_data={"autodoc:module": "package.inner"}))
    assert book_api.skip_member(app, "module", "NAMES", ("a", "b"), False, None) is None
    assert book_api.skip_member(app, "class", "text", str, False, None) is True


def test_a_quiz_checks_its_answers_in_the_page(tmp_path):
    """The directive in a page of its own: three answers that unfold, one of them right, formulas and all."""
    (tmp_path / "book" / "teaching").mkdir(parents=True)
    (tmp_path / book_quiz.QUIZZES).write_text(
        "page:\n  - ask: 'What is $x$?'\n    right: 'A *letter*.'\n    because: 'See $x$.'\n    wrong:\n"
        "      - {say: 'One.', because: 'No number.'}\n      - {say: 'Two.', because: 'No number either.'}\n"
    )
    (tmp_path / "conf.py").write_text("extensions = ['myst_parser']\nmyst_enable_extensions = ['dollarmath']\n")
    (tmp_path / "page.md").write_text("# Page\n\n```{quiz}\nFor JupyterLab.\n```\n")
    (tmp_path / "index.md").write_text("# Index\n\n```{toctree}\npage\n```\n")
    warnings = io.StringIO()
    app = Sphinx(tmp_path, tmp_path, tmp_path / "out", tmp_path / "trees", "html", status=None, warning=warnings)
    book_quiz.setup(app)
    app.build()
    page = (tmp_path / "out" / "page.html").read_text()
    assert warnings.getvalue() == ""
    assert page.count("<details") == page.count("<summary>") == page.count("</details>") == 3
    right = re.search(r'<details class="quiz-option right">\s*<summary>(.*?)</summary>\s*<p>(.*?)</p>', page, re.DOTALL)
    assert right[1] == "A <em>letter</em>."
    assert right[2].startswith('<strong>Right.</strong> See <span class="math')
    assert "For JupyterLab." not in page
