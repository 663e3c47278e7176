"""What the pages of reports share: texts and numbers of a reader cannot become code, and no page asks for anything."""

import json
import re
from html.parser import HTMLParser

import pytest

from diffusab_book.report import report_html
from diffusab_book.report.report_images import Images
from diffusab_core.experiments import records

HOSTILE = '</script><script>alert("1")</script><!-- & $title'


class Elements(HTMLParser):
    """Every tag in order: its name, its attributes and the text up to the next tag."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self.found.append([f"/{tag}", {}, ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data

    def named(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def test_json_cannot_end_its_script_element():
    written = report_html.script_json({HOSTILE: [HOSTILE, 0.5, None]})
    assert "<" not in written
    assert json.loads(written) == {HOSTILE: [HOSTILE, 0.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_html.script_json(float("nan"))


def test_document_holds_what_it_is_given():
    main = f"<h1>{report_html.escaped(HOSTILE)}</h1>"
    page = Elements(report_html.document(HOSTILE, main, {"said": HOSTILE}, "/* own */", style="h1 { margin: 0; }"))
    assert page.named("title")[0][1] == page.named("h1")[0][1] == HOSTILE
    (kind, data), (_, plotly), (_, own) = page.named("script")
    assert kind == {"type": "application/json", "id": "data"}
    assert json.loads(data) == {"said": HOSTILE}
    assert "Plotly" in plotly
    assert report_html.THEME + "/* own */" in own
    assert page.named("style")[0][1] == report_html.STYLE + "h1 { margin: 0; }"


def test_document_forbids_requests_before_anything_could_ask():
    page = Elements(report_html.document("title", "<p>text</p>", {}, ""))
    policy = next(a["content"] for a, _ in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    sources = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert sources.pop("default-src") == ["'none'"]
    assert {word for rule in sources.values() for word in rule} == {"'unsafe-inline'", "data:", "blob:"}
    order = [tag for tag, _, _ in page.found]
    assert max(i for i, tag in enumerate(order) if tag == "meta") < min(order.index("style"), order.index("script"))
    assert not [attributes for _, attributes, _ in page.found if {"src", "href"} & attributes.keys()]


@pytest.mark.parametrize(("count", "said"), [(1, "m0"), (3, "m0, m1, m2"), (5, "m0, m1, m2 and 2 more")])
def test_names_in_a_heading(count, said):
    assert report_html.listed([f"m{i}" for i in range(count)]) == said


def test_record_of_a_run_is_on_the_page():
    run = records.start("profile", parameters={}, seed=0, size="laptop", data="made up").finish()
    rows = dict(report_html.record_rows(run.model_copy(update={"git_revision": None, "device": HOSTILE})))
    assert list(rows) == ["Device", "Time", "Versions", "Git revision", "Run"]
    assert rows["Run"] == run.identity
    assert rows["Git revision"] == "not in a git checkout"
    assert f"torch {run.versions['torch']}" in rows["Versions"]
    shown = Elements(report_html.definition_list(rows.items()))
    assert [text for _, text in shown.named("dt")] == list(rows)
    assert [text for _, text in shown.named("dd")] == list(rows.values())


def test_lists_of_images_name_each_file():
    used, skipped = (f"{HOSTILE}.png", "b.png"), (("d.txt", HOSTILE),)
    shown = Elements(report_html.image_lists(Images(None, used, "2 images", skipped)))
    assert [text for _, text in shown.named("li")] == [f"d.txt: {HOSTILE}", *used]
    assert [text for _, text in shown.named("summary")] == ["Files skipped (1)", "Images used (2)"]
    assert re.findall("skipped", report_html.image_lists(Images(None, used, "2 images", ()))) == []
