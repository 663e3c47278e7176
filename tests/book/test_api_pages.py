"""The API pages: every example runs, every room has a section, links from sources lead to what is documented."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import book_api
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "book" / name for name in ("api.md", "api_methods.md", "api_shown.md")]
EXAMPLES = [
    pytest.param(code, id=f"{path.stem}-{i}")
    for path in PAGES
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code):
    exec(compile(code, "api.md", "exec"), {})


def test_every_room_has_its_section_and_its_row():
    rooms = {path.parent.name for path in (ROOT / "diffusab_core").glob("*/__init__.py")}
    text = "".join(path.read_text() for path in PAGES)
    assert set(re.findall(r"^\(api-(\w+)\)=\n## \1$", text, re.MULTILINE)) == rooms
    assert set(re.findall(r"<api-(\w+)>", PAGES[0].read_text())) == rooms


def test_every_part_of_the_reference_begins_with_an_example():
    parts = [part for path in PAGES for part in re.split(r"^## ", path.read_text(), flags=re.MULTILINE)[1:]]
    bare = {part.partition("\n")[0] for part in parts if "% modules of" in part and "```python" not in part}
    assert bare == {"files", "Reports", "Commands"}, "these are begun elsewhere: from a shell, or by nobody"


@pytest.fixture
def entries(monkeypatch):
    """What is documented of a package whose module ``face`` offers the class that ``inner`` defines."""

    class Offered:
        def method(self): ...

    def own(): ...

    inner, face = ModuleType("package.inner"), ModuleType("package.face")
    for thing in (Offered, own):
        thing.__module__ = "package.inner"
        setattr(inner, thing.__name__, thing)
    face.Offered, face.__all__ = Offered, ["Offered"]
    monkeypatch.setitem(sys.modules, "package.inner", inner)
    monkeypatch.setitem(sys.modules, "package.face", face)
    names = ("package.face.Offered", "package.face.Offered.method", "package.inner.LIMIT")
    return {name: SimpleNamespace(docname="book/api", node_id=name) for name in names}


@pytest.mark.parametrize(
    ("defined", "found"),
    [
        ("package.inner.Offered", "package.face.Offered"),
        ("package.inner.Offered.method", "package.face.Offered.method"),
        ("package.inner.LIMIT", "package.inner.LIMIT"),
        ("package.inner.own", None),
        ("elsewhere.thing", None),
    ],
)
def test_what_is_defined_is_found_where_it_is_documented(entries, defined, found):
    assert book_api.documented(defined, entries) == found


def test_links_from_sources_are_mended_or_dropped(entries):
    link = '<a class="viewcode-back" href="../../book/api.html#package.inner.{}">[docs]</a>'
    body = f"<pre>{link.format('Offered')}class {link.format('own')}def</pre>"
    domain = SimpleNamespace(objects=entries)
    app = SimpleNamespace(
        env=SimpleNamespace(get_domain=lambda name: domain),
        builder=SimpleNamespace(get_relative_uri=lambda here, there: f"../../{there}.html"),
    )
    context = {"body": body}
    book_api.mend_source_links(app, "_modules/package/inner", "page.html", context, None)
    assert context["body"].count("[docs]") == 1
    assert 'href="../../book/api.html#package.face.Offered">' in context["body"]
    untouched = {"body": body}
    book_api.mend_source_links(app, "notebooks/02_dct", "page.html", untouched, None)
    assert untouched["body"] == body
