"""Claims: the file is checked, statuses follow from records alone, and the page shows what the records say."""

import json
import re
import shlex

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from diffusab_book import claims, results
from diffusab_book.claims import ClaimError
from diffusab_book.cli import app
from diffusab_core.experiments import records

BOOK = claims.read()


def write(folder, arm, values, size="laptop", metric="distance", revision="a" * 40, sweep="demo", **series):
    """Records of one arm, one for each seed."""
    (folder / sweep).mkdir(exist_ok=True)
    for seed, value in enumerate(values):
        run = records.start("trial", parameters={}, seed=seed, size=size, data="none")
        run.metrics = {metric: value}
        run.series = {name: of_seed[seed] for name, of_seed in series.items()}
        made = run.finish().model_copy(update={"git_revision": revision})
        made.write(folder / sweep / f"{arm}-seed{seed}.json")


def claim(**changed):
    entry = {"id": "a-claim", "source": "ours", "place": "", "says": "It helps.", "chapter": "kl", "sweep": "demo"}
    if not changed.keys() & {"order", "value", "interaction", "exact", "not_implemented"}:
        changed = {"difference": against()} | changed
    return claims.Claim.model_validate(entry | changed)


def against(**changed):
    return {"metric": "distance", "arm": "new", "control": "plain", "expect": "lower", "margin": 0.05} | changed


def status(folder, *args, **kwargs):
    (found,) = claims.judge([claim(*args, **kwargs)], folder)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The book's own file


def test_the_book_lists_its_claims():
    assert len(BOOK.claims) >= 45
    assert {claim.source for claim in BOOK.claims} == {"se", "freqwarm", "dgae", "ours", "seen"}
    # A row has to be understood when the filter hides the one before it.
    assert [c.id for c in BOOK.claims if re.match(r"(And|So|It|Nor|Its|This) ", c.says)] == []


def test_no_status_is_written_in_the_file():
    text = claims.CLAIMS.read_text()
    assert [word for word in ("reproduced", "reversed", "undecided", "status") if word in text.lower()] == []


def test_every_claim_has_a_row_on_the_page():
    findings = claims.judge(BOOK.claims)
    assert {finding.status for finding in findings} <= set(claims.STATUSES)
    page = claims.Page(findings, BOOK)._repr_html_()
    assert re.findall(r'<tr id="claim-([^"]+)"', page) == [claim.id for claim in BOOK.claims]
    counts = claims.Counts(findings, BOOK)
    assert sum(sum(of_source.values()) for of_source in counts.by_status.values()) == len(BOOK.claims)
    drawn = re.findall(r'title="([\w ]+): (\d+)">', counts._repr_html_())
    assert {status for status, _ in drawn} == {finding.status for finding in findings}
    assert sum(int(number) for _, number in drawn) == len(BOOK.claims)


COMMANDS = sorted({command for c in BOOK.claims if c.quantity for command in c.commands})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(shlex.split(command)[2:5:2]))
def test_every_command_on_the_page_can_be_planned(command, monkeypatch):
    monkeypatch.chdir(claims.CLAIMS.parents[1])
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--dry-run"])
    assert done.exit_code == 0, done.output


# ---------------------------------------------------------------------------------------------------------------------
# Statuses


@pytest.mark.parametrize(
    ("expect", "new", "expected"),
    [
        ("lower", [8.0, 9.0, 10.2], "reproduced"),
        ("higher", [8.0, 9.0, 10.2], "reversed"),
        ("lower", [10.01, 11.02, 12.03], "no effect"),
        ("same", [10.01, 11.02, 12.03], "reproduced"),
        ("same", [8.0, 9.0, 10.2], "reversed"),
        ("lower", [8.0, 12.0, 11.0], "undecided"),
        ("lower", [5.0], "undecided"),
    ],
)
def test_status_follows_from_the_records(tmp_path, expect, new, expected):
    write(tmp_path, "plain", [10.0, 11.0, 12.0])
    write(tmp_path, "new", new)
    found = status(tmp_path, difference=against(expect=expect))
    assert found.status == expected
    assert found.seeds == tuple(range(len(new)))
    assert (found.size, found.device.partition(":")[0]) == ("laptop", "cpu")


def test_without_records_a_claim_is_not_yet_run(tmp_path):
    write(tmp_path, "plain", [10.0, 11.0])
    found = status(tmp_path)
    assert found.status == "not yet run"
    assert found.claim.commands == ["diffusab sweep sweeps/demo.yaml --size laptop --on local"]
    assert status(tmp_path, not_implemented="no such model", sweep="").status == "not implemented"


def test_an_effect_is_a_share_of_the_control_or_in_a_unit(tmp_path):
    write(tmp_path, "plain", [10.0, 20.0])
    write(tmp_path, "new", [9.0, 18.0])
    share = status(tmp_path)
    np.testing.assert_allclose(share.effect.values, [-1 / 15, -2 / 15])
    assert share.write(share.effect).startswith("−10.0% [")
    write(tmp_path, "new", [100.0, 200.0])
    tenfold = status(tmp_path)
    assert tenfold.write(tenfold.effect).endswith("] times")
    assert tenfold.write(tenfold.effect).startswith("10 [")
    write(tmp_path, "new", [9.0, 18.0])
    inches = status(tmp_path, difference=against(unit="dB"))
    np.testing.assert_allclose(inches.effect.values, [-1, -2])
    assert inches.write(inches.effect).endswith("] dB")
    assert (share.margin, inches.margin) == ("5%", "0.05 dB")


def test_a_row_of_arms_is_contradicted_by_one_step(tmp_path):
    row = {"metric": "distance", "row": ["a", "b", "c"], "expect": "lower", "margin": 0.05}
    write(tmp_path, "a", [10.0, 11.0])
    write(tmp_path, "b", [7.0, 7.7])
    write(tmp_path, "c", [5.0, 5.5])
    found = status(tmp_path, order=row)
    assert found.status == "reproduced"
    np.testing.assert_allclose(found.effect.values, [-5 / 10.5, -5.5 / 10.5])  # of three, the line joins the ends
    assert status(tmp_path, order=row | {"expect": "not higher"}).status == "reproduced"
    assert status(tmp_path, order=row | {"expect": "not lower"}).status == "reversed"
    write(tmp_path, "b", [5.0, 10.0])  # steps that no two seeds decide contradict nothing
    assert status(tmp_path, order=row | {"expect": "not higher"}).status == "reproduced"
    write(tmp_path, "b", [3.0, 3.3])
    assert status(tmp_path, order=row).status == "reversed"
    assert status(tmp_path, order=row | {"expect": "not higher"}).status == "reversed"
    assert status(tmp_path, order=row | {"expect": "higher"}).status == "reversed"


def test_a_step_that_its_seeds_do_not_decide_contradicts_nothing(tmp_path):
    """Neither one across zero where no change is expected, nor one across the margin of a bound."""
    row = {"metric": "distance", "row": ["a", "b", "c"], "margin": 0.05}
    write(tmp_path, "a", [10.0, 10.0, 10.0])
    write(tmp_path, "b", [9.0, 11.0, 10.0])
    write(tmp_path, "c", [10.0, 10.02, 10.01])
    assert status(tmp_path, order=row | {"expect": "same"}).status == "reproduced"
    write(tmp_path, "b", [10.3, 10.5, 10.7])  # from 0% to 10% higher
    write(tmp_path, "c", [9.0, 9.0, 9.1])
    assert status(tmp_path, order=row | {"expect": "not higher"}).status == "reproduced"
    write(tmp_path, "b", [12.0, 12.0, 12.1])
    assert status(tmp_path, order=row | {"expect": "same"}).status == "reversed"
    assert status(tmp_path, order=row | {"expect": "not higher"}).status == "reversed"


@pytest.mark.parametrize(
    "quantity",
    [
        {"difference": against(expect="higher")},
        {"order": {"metric": "distance", "row": ["plain", "between", "new"], "expect": "higher", "margin": 0.05}},
        {"interaction": against(expect="higher", beside={"arm": "plain", "control": "plain"})},
    ],
    ids=lambda quantity: next(iter(quantity)),
)
def test_a_control_below_zero_turns_no_sign(tmp_path, quantity):
    """As a gap, a distance above another one, can be."""
    for arm, middle in (("plain", -2.0), ("between", -1.5), ("new", -1.0)):
        write(tmp_path, arm, [middle, middle - 0.01, middle + 0.01])
    assert status(tmp_path, **quantity).status == "reproduced"


def test_several_arms_go_by_their_mean_and_across_sweeps(tmp_path):
    write(tmp_path, "a", [0, 0, 0])
    write(tmp_path, "b", [1, 0, 1], sweep="other")
    write(tmp_path, "plain", [1, 1, 1])
    counted = against(arm=["a", "other/b"], control=["plain"], unit="of the runs")
    found = status(tmp_path, difference=counted)
    assert found.effect.values == (-0.5, -1.0, -0.5)
    assert str(found.claim.quantity) == "mean of a, other/b − plain"
    assert [command.split()[2] for command in found.claim.commands] == ["sweeps/demo.yaml", "sweeps/other.yaml"]


def test_no_worse_includes_better(tmp_path):
    write(tmp_path, "plain", [10, 10.1, 9.9])
    for arm, values, expected in (
        ("better", [5, 5.1, 4.9], "reproduced"), ("alike", [10.1, 10.2, 10.1], "reproduced"),
        ("worse", [13, 13.2, 12.8], "reversed"), ("either", [9, 12, 10], "undecided"),
    ):  # fmt: skip
        write(tmp_path, arm, values)
        assert status(tmp_path, difference=against(arm=arm, expect="not higher")).status == expected


def test_a_value_is_compared_with_a_number(tmp_path):
    write(tmp_path, "new", [2.18, 2.2, 2.22])
    value = {"metric": "distance", "arm": "new", "than": 2.0, "expect": "higher", "margin": 0.02}
    found = status(tmp_path, value=value)
    assert found.status == "reproduced"
    np.testing.assert_allclose(found.effect.values, [0.09, 0.1, 0.11])


def test_an_interaction_is_a_difference_of_effects_even_across_sweeps(tmp_path):
    write(tmp_path, "plain", [10.0, 10.0])
    write(tmp_path, "new", [8.0, 7.0])
    write(tmp_path, "plain", [4.0, 4.0], sweep="other")
    write(tmp_path, "new", [3.9, 4.1], sweep="other")
    beside = {"arm": "other/new", "control": "other/plain"}
    found = status(tmp_path, interaction=against(beside=beside))
    np.testing.assert_allclose(found.effect.values, [-0.2 + 0.025, -0.3 - 0.025])
    assert [command.split()[2] for command in found.claim.commands] == ["sweeps/demo.yaml", "sweeps/other.yaml"]


def test_what_needs_no_run_is_counted(tmp_path, monkeypatch):
    monkeypatch.setitem(claims.EXACT, "answer", lambda: 42.0)
    (tmp_path / "demo").mkdir()
    exact = {"metric": "answer", "than": 40.0, "expect": "same", "margin": 0.1}
    found = status(tmp_path, exact=exact, sweep="")
    assert (found.status, found.effect.values, found.claim.commands) == ("reproduced", (0.05,), [])
    assert status(tmp_path, exact=exact | {"margin": 0.04}, sweep="").status == "reversed"
    with pytest.raises(ClaimError, match="question"):
        status(tmp_path, exact=exact | {"metric": "question"}, sweep="")


def test_a_metric_may_be_an_entry_of_a_series(tmp_path):
    places = [[0.0, 0.5], [0.0, 0.5]]
    write(tmp_path, "plain", [1.0, 1.0], cut=places, psnr=[[30.0, 20.0], [30.0, 22.0]])
    write(tmp_path, "new", [1.0, 1.0], cut=places, psnr=[[30.0, 21.0], [30.0, 24.0]])
    found = status(tmp_path, difference=against(metric="psnr at cut=0.5", unit="dB"))
    assert found.effect.values == (1.0, 2.0)
    with pytest.raises(ClaimError, match=r"psnr at cut=0\.3"):
        status(tmp_path, difference=against(metric="psnr at cut=0.3"))


def test_a_metric_may_be_read_where_the_other_seeds_are_best(tmp_path):
    shifts = [[1.0, 2.0], [1.0, 2.0]]
    write(tmp_path, "plain", [1.0, 1.0], shift=shifts, gap=[[3.0, 2.0], [5.0, 6.0]])
    write(tmp_path, "new", [1.0, 1.0], shift=shifts, gap=[[1.0, 2.0], [1.0, 2.0]])
    found = status(tmp_path, difference=against(metric="gap at chosen shift", unit="dB"))
    assert found.effect.values == (1.0 - 3.0, 1.0 - 6.0)  # plain: seed 1 is best at 1, seed 0 at 2
    for path in (tmp_path / "demo").glob("*-seed1.json"):
        path.unlink()
    found = status(tmp_path, difference=against(metric="gap at chosen shift", unit="dB"))
    assert (found.status, found.effect, found.seeds) == ("undecided", None, (0,))
    assert "diffusab sweep" in claims.Page([found], BOOK)._repr_html_().replace("</span>", "").replace("<span>", "")


def test_smaller_sizes_and_single_seeds_do_not_count(tmp_path):
    write(tmp_path, "plain", [10.0, 11.0, 12.0], size="smoke")
    write(tmp_path, "new", [8.0, 9.0, 10.2], size="smoke")
    assert status(tmp_path).status == "not yet run"
    write(tmp_path, "plain", [10.0, 11.0, 12.0])
    write(tmp_path, "new", [8.0, 9.0])
    assert status(tmp_path).seeds == (0, 1)
    assert status(tmp_path, size="gpu").status == "not yet run"
    for arm, values in (("plain", [10.0, 11.0]), ("new", [8.0, 9.0])):
        write(tmp_path, arm, values, size="gpu")
    assert status(tmp_path).size == "gpu"


def test_an_undecided_claim_says_what_its_seeds_could_show(tmp_path):
    write(tmp_path, "plain", [10.0, 10.0, 10.0])
    write(tmp_path, "new", [8.0, 12.0, 11.0])
    found = status(tmp_path)
    assert found.status == "undecided"
    assert found.smallest > abs(found.effect.mean)
    page = claims.Page([found], BOOK)._repr_html_()
    assert f"could show: {found.smallest:.1%}" in page


# ---------------------------------------------------------------------------------------------------------------------
# Records and the page


def test_changing_a_record_changes_the_page(tmp_path):
    write(tmp_path, "plain", [10.0, 11.0, 12.0])
    write(tmp_path, "new", [8.0, 9.0, 10.2])
    before = claims.Page([status(tmp_path)], BOOK)._repr_html_()
    path = tmp_path / "demo" / "new-seed1.json"
    record = json.loads(path.read_text())
    record["metrics"]["distance"] = 14.0
    path.write_text(json.dumps(record))
    after = claims.Page([status(tmp_path)], BOOK)._repr_html_()
    assert 'data-status="reproduced"' in before
    assert 'data-status="undecided"' in after


def test_records_of_older_code_and_of_no_commit_are_marked(tmp_path):
    write(tmp_path, "plain", [10.0, 11.0, 12.0])
    write(tmp_path, "new", [8.0, 9.0, 10.2])
    assert status(tmp_path).marks == ()
    write(tmp_path, "new", [8.0, 9.0, 10.2], revision="a" * 40 + "-dirty")
    assert status(tmp_path).marks == ("uncommitted changes",)
    path = tmp_path / "demo" / "plain-seed0.json"
    old = json.loads(path.read_text())
    old["schema_version"] = 1
    for name in ("run_identity", "upgraded_from"):
        old.pop(name, None)
    path.write_text(json.dumps(old))
    found = status(tmp_path)
    assert found.marks == ("older code", "uncommitted changes")
    assert "<em>older code</em>" in claims.Page([found], BOOK)._repr_html_()


def test_words_of_the_file_are_no_markup():
    found = claims.Finding(
        claim(says="a < b & c", not_implemented="<script>", sweep="", difference=None), "not implemented"
    )
    page = claims.Page([found], BOOK)._repr_html_()
    assert "a &lt; b &amp; c" in page
    assert page.count("<script>") == 1


# ---------------------------------------------------------------------------------------------------------------------
# Refusals


@pytest.fixture
def content():
    return yaml.safe_load(claims.CLAIMS.read_text())


def test_what_is_listed_as_not_yet_recorded_is_not_recorded():
    frames = [results.frame(path.name) for path in results.RESULTS.iterdir() if any(path.glob("*.json"))]
    recorded = {name for frame in frames for run in frame.record for name in (*run.metrics, *run.series)}
    assert not claims.NOT_YET_RECORDED & recorded, "take it out of the set: records have it now"


@pytest.mark.parametrize(
    ("change", "offender"),
    [
        (lambda c: c.update(sede="se"), "sede"),
        (lambda c: c.update(source="nobody"), "nobody"),
        (lambda c: c.update(chapter="no_such_chapter"), "no_such_chapter"),
        (lambda c: c.update(sweep="no_such_sweep"), "no_such_sweep"),
        (lambda c: c["value"].update(arm="no-such-arm"), "no-such-arm"),
        (lambda c: c["value"].update(expect="larger"), "larger"),
        (lambda c: c["value"].update(margin=-0.1), "-0.1"),
        (lambda c: c["value"].pop("than"), "than"),
        (lambda c: c.pop("value"), "wants a chapter"),
        (lambda c: c.update(not_implemented="no"), "neither a sweep nor a quantity"),
        (lambda c: c.update(id="se-channels-raise-high-frequencies"), "se-channels-raise-high-frequencies"),
    ],
)
def test_mistakes_in_the_file_are_one_clear_line(tmp_path, content, change, offender):
    change(content["claims"][0])
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ClaimError, match=re.escape(offender)) as raised:
        claims.read(path)
    assert "\n" not in str(raised.value)


def test_a_metric_that_nothing_measures_is_refused(tmp_path):
    write(tmp_path, "plain", [10.0])
    with pytest.raises(ClaimError, match="distanse"):
        status(tmp_path, difference=against(metric="distanse"))
    write(tmp_path, "new", [10.0])
    with pytest.raises(ClaimError, match="distanse"):
        status(tmp_path, difference=against(metric="distanse"))
