"""Ways into the book: addresses, buttons, notebooks that are handed out, the citation, the map of chapters."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import book_address
import book_buttons
import book_map
import jupytext
import nbformat
import pytest
import yaml
from docutils import nodes
from docutils.core import publish_doctree
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
URL = "https://github.com/owner/name"
LAUNCH = {"branch": "launch", "binder": "https://binder.example/v2/gh", "colab": "https://colab.example/github"}
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))


def test_the_repository_has_one_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Documentation"] == CONFIG["repository"]["url"]
    assert book_buttons.repository_slug(CONFIG["repository"]["url"])
    assert CONFIG["html"]["baseurl"].endswith("/"), "the card's address is made by appending to it"


@pytest.mark.parametrize("url", ["https://github.com/owner", "https://github.com/owner/name/tree/main", ""])
def test_an_address_that_is_no_repository_is_refused(url):
    with pytest.raises(ValueError, match="owner/name"):
        book_buttons.repository_slug(url)


def test_launch_buttons_lead_to_the_built_notebook():
    binder, colab = (button["url"] for button in book_buttons.launch_buttons(URL, LAUNCH, "notebooks/02_dct"))
    assert binder == "https://binder.example/v2/gh/owner/name/launch?urlpath=lab/tree/notebooks/02_dct.ipynb"
    assert colab == "https://colab.example/github/owner/name/blob/launch/notebooks/02_dct.ipynb"


def groups(pagename):
    context = {"header_buttons": [{"label": "download-buttons"}], "pathto": lambda doc: f"to/{doc}.html"}
    options = {"repository_url": URL}
    config = SimpleNamespace(html_theme_options=options, book_launch=LAUNCH, root_doc="book/index")
    app = SimpleNamespace(config=config)
    book_buttons.add_groups(app, pagename, "page.html", context, None)
    return {group["label"]: [b["url"] for b in group.get("buttons", ())] for group in context["header_buttons"]}


def test_chapters_launch_and_every_page_cites():
    chapter, page = groups("notebooks/02_dct"), groups("genindex")
    assert len(chapter["launch-buttons"]) == 2
    assert "launch-buttons" not in page
    assert chapter["about-buttons"] == page["about-buttons"]
    anchors = {url.rpartition("#")[2] for url in page["about-buttons"]}
    headings = re.findall(r"^## (.+)$", (ROOT / "book" / "about.md").read_text(), re.MULTILINE)
    assert anchors <= {heading.lower().replace(" ", "-") for heading in headings}


def executed():
    figure = {"data": [{"type": "scatter", "y": [0.123456789]}], "layout": {}}
    output = nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": figure})
    about = {"execution": {"iopub.busy": "now"}, "tags": ["x"]}
    cell = nbformat.v4.new_code_cell("1", outputs=[output], metadata=about)
    return nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}, "kernelspec": KERNEL})


def test_a_notebook_that_is_handed_out_is_whole_and_light():
    original = executed()
    handed = book_buttons.publish_notebook(original, URL)
    nbformat.validate(handed)
    assert "widgets" in original.metadata, "the one that was executed stays as it is"
    assert set(handed.metadata) == {"kernelspec"}
    assert handed.cells[1].metadata == {"tags": ["x"]}
    (number,) = handed.cells[1].outputs[0].data["application/vnd.plotly.v1+json"]["data"][0]["y"]
    assert number == pytest.approx(0.123456789, rel=1e-3)
    assert len(str(number)) < 8


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_its_text_is_plain_markdown(path):
    original = jupytext.read(path)
    handed = book_buttons.publish_notebook(original, URL, path.stem)
    assert [c.source for c in original.cells] != [c.source for c in handed.cells[1:]]
    text = "\n\n".join(cell.source for cell in handed.cells if cell.cell_type == "markdown")
    without_code = re.sub(r"^(> ?)?```.*?^(> ?)?```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^.*(?:\{[\w:-]+\}`|`{3,}\{|^\([\w-]+\)=).*$", without_code, flags=re.MULTILINE) == []
    exercises = sum(len(re.findall(r"^`{3,}\{exercise\}", c.source, re.MULTILINE)) for c in original.cells)
    assert text.count("<summary>Solution of Exercise") == exercises
    assert text.count("<details>") == text.count("</details>")
    assert ("**Right.**" in text) == any("{quiz}" in cell.source for cell in original.cells)
    assert "book/drawings" not in text


@pytest.mark.parametrize(
    ("there", "installs"), [(True, []), (False, [f'install -q "diffusab-core[{book_buttons.EXTRAS}] @ git+{URL}"'])]
)
def test_its_first_cell_installs_the_package_only_where_it_is_missing(monkeypatch, there, installs):
    source = TransformerManager().transform_cell(book_buttons.publish_notebook(executed(), URL).cells[0].source)
    asked = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: asked.append(line) if name == "pip" else None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if there else None)
    exec(compile(source, "cell", "exec"), {"get_ipython": lambda: shell})
    assert asked == installs


def test_the_extras_of_the_first_cell_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(book_buttons.EXTRAS.split(",")) <= set(extras)
    assert f"[{book_buttons.EXTRAS}]" in (ROOT / "scripts" / "kit" / "README.md").read_text()


def test_the_launch_branch_holds_the_notebooks_and_their_environment(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import launch_branch

    built, launch = tmp_path / "built", tmp_path / "launch"
    built.mkdir()
    with pytest.raises(FileNotFoundError, match="make book"):
        launch_branch.write_launch(built, launch)
    nbformat.write(executed(), built / "02_dct.ipynb")
    launch_branch.write_launch(built, launch)
    written = {path.relative_to(launch).as_posix() for path in launch.rglob("*.*")}
    assert written == {"notebooks/02_dct.ipynb", "requirements.txt", "runtime.txt", "README.md"}
    index, package = (launch / "requirements.txt").read_text().splitlines()
    assert index.endswith("/cpu")
    assert package.endswith(f"git+{CONFIG['repository']['url']}@{CONFIG['repository']['branch']}")


def test_install_lines_end_in_the_folder_that_was_cloned():
    lines = book_address.install_lines(f"{URL}/", "diffusab doctor").splitlines()
    assert lines == [f"git clone {URL}/", "cd name", "make env", "diffusab doctor"]


def test_the_citation_is_that_of_the_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    entry = book_address.bibtex(citation, URL)
    assert f"title   = {{{{{citation['title']}}}}}," in entry
    assert entry.count("{") == entry.count("}")
    two = {**citation, "authors": [{"family-names": "B", "given-names": "A"}, {"name": "The C"}]}
    assert "author  = {B, A and {The C}}," in book_address.bibtex(two, URL)


def test_the_card_is_one_that_networks_take():
    path = ROOT / "book" / CONFIG["sphinx"]["config"]["ogp_image"]
    with Image.open(path) as card:
        assert card.size == (1200, 630)
    assert path.stat().st_size < 150_000


def test_the_landing_pages_snippet_runs(tmp_path, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "book" / "index.md").read_text(), re.DOTALL)
    for seed in range(2):
        Image.effect_noise((64, 64), 40 + seed).convert("RGB").save(tmp_path / f"{seed}.png")
    code = code.replace("path/to/your/vae", "kl-f4c16").replace("path/to/images", str(tmp_path))
    assert "resolution=256" in code
    exec(compile(code.replace("resolution=256", "resolution=64"), "index.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "tensor([1.0000" in printed
    assert 0 < float(printed.splitlines()[-1]) < 10


def test_words_that_are_read_are_counted():
    document = publish_doctree("Three short words\n\n::\n\n    not these at all\n\nnor :math:`x + y`.\n")
    assert book_map.count_words(document) == 4
    solution = nodes.container("", nodes.paragraph("", "folded away"), classes=["solution"])
    document += solution
    assert book_map.count_words(document) == 4


@pytest.mark.parametrize(("words", "minutes"), [(0, 1), (200, 1), (201, 2), (4000, 20)])
def test_minutes_to_read(words, minutes):
    assert book_map.minutes_to_read(words) == minutes


def test_what_another_need_brings_along_is_left_out():
    assert book_map.reduce_needs({1: {}, 2: {1}, 3: {1, 2}, 4: {3, 1}, 5: set()}) == {
        1: (), 2: (1,), 3: (2,), 4: (3,), 5: (),
    }  # fmt: skip


def test_needs_lie_above_and_no_boxes_overlap():
    needs = {1: (), 2: (), 3: (1, 2), 4: (1,), 5: (2,), 6: (3, 4)}
    spots, (width, height) = book_map.place(needs)
    for number, near in needs.items():
        assert all(spots[other][1] < spots[number][1] for other in near)
    for a in needs:
        x, y = spots[a]
        assert book_map.BOX[0] / 2 <= x <= width - book_map.BOX[0] / 2
        assert y + book_map.BOX[1] / 2 <= height
        assert all(abs(x - spots[b][0]) >= book_map.BOX[0] for b in needs if b != a and spots[b][1] == y)


def test_a_line_past_a_row_runs_between_its_boxes():
    needs = {1: (), 2: (), 3: (1,), 4: (1,), 5: (3, 4), 6: (5, 2)}
    chain = book_map.chains(needs)[2, 6]
    assert chain == [2, (2, 6, 1), (2, 6, 2), 6]
    spots, _ = book_map.place(needs)
    for gap in chain[1:-1]:
        x, y = spots[gap]
        beside = [spots[number][0] for number in needs if spots[number][1] == y]
        assert beside
        assert all(abs(x - other) > book_map.BOX[0] / 2 for other in beside)


def test_the_drawing_links_and_names_every_chapter():
    chapters = {
        1: book_map.Chapter("notebooks/01", 1, "A & B", (), 10, 1.0),
        2: book_map.Chapter("notebooks/02", 2, "A title of more words than a box of three lines holds", (1,), 20, None),
    }
    drawing = book_map.draw(chapters, {1: "01.html", 2: "02.html"})
    assert re.findall(r'<a href="([^"]+)"', drawing) == ["01.html", "02.html"]
    assert drawing.count("<path") == 1
    assert "<title>A &amp; B</title>" in drawing
    assert "…</tspan>" in drawing


def test_the_table_sums_what_is_known():
    chapters = {
        1: book_map.Chapter("notebooks/01", 1, "A", (), 50, 61.0),
        2: book_map.Chapter("notebooks/02", 2, "B", (1,), 20, None),
    }
    rows = [row.astext().split("\n\n") for row in book_map.map_table(chapters).findall(nodes.row)]
    assert rows[2] == ["2", "B", "1", "20 min", "not run"]
    assert rows[-1][-2:] == ["1 h 10 min", "1 min 1 s"]


def test_every_chapter_builds_on_earlier_ones():
    labels = {re.search(r"^# \((chap-[\w-]+)\)=", p.read_text(), re.M)[1]: i for i, p in enumerate(CHAPTERS)}
    named = {path.stem: book_map.named_needs(path) for path in CHAPTERS}
    assert sum(needs is not None for needs in named.values()) >= 15
    for number, path in enumerate(CHAPTERS):
        assert all(labels[name] < number for name in named[path.stem] or ()), path.stem


def test_the_text_of_a_notebook_keeps_what_it_builds_on(tmp_path):
    (tmp_path / "jupytext.toml").write_text((ROOT / "jupytext.toml").read_text())
    notebook = executed()
    notebook.metadata["book"] = {"needs": ["chap-x"]}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    command = [sys.executable, "-m", "jupytext", "--to", "py:percent", "a.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert book_map.named_needs(tmp_path / "a.py") == ["chap-x"]
