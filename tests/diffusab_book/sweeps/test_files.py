"""Sweep files: what is read, and one clear line for what cannot be."""

import re

import pytest
from tiny_sweeps import write_sweep

from diffusab_book.sweeps import files
from diffusab_book.sweeps.files import Reference, SweepError


def read(tmp_path, **changes):
    return files.read(write_sweep(tmp_path / "one.yaml", **changes), tmp_path)


def test_arms_take_the_parameters_of_all_and_their_own(tmp_path):
    sweep = read(
        tmp_path, parameters={"steps": 7, "rate": 0.1}, arms={"plain": {}, "more": {"rate": 1.5, "seeds": [4]}}
    )
    arms = sweep.arms()
    assert arms["plain"].parameters == {"steps": 7, "rate": 0.1}
    assert arms["plain"].seeds == (0, 1)
    assert arms["more"].parameters == {"steps": 7, "rate": 1.5}
    assert arms["more"].seeds == (4,)


def test_a_grid_multiplies_the_arms(tmp_path):
    grid = {"steps": [600, 2400], "source": {"a": {"sweep": "other", "arm": "x"}, "b": "kl"}}
    arms = read(tmp_path, grid=grid, arms={"plain": {}, "more": {"rate": 1.5}}).arms()
    assert list(arms) == [f"{arm}-steps{n}-{s}" for arm in ("plain", "more") for n in (600, 2400) for s in ("a", "b")]
    assert arms["more-steps2400-a"].parameters == {
        "rate": 1.5, "steps": 2400, "source": Reference("other", "x"),
    }  # fmt: skip


def test_a_size_says_what_is_different(tmp_path):
    sweep = read(
        tmp_path, parameters={"steps": 7, "rate": 0.1}, grid={"source": ["a", "b"]},
        arms={"plain": {}, "more": {"rate": 1.5, "flag": True}},
        sizes={"gpu": {"parameters": {"steps": None}, "seeds": [5], "grid": {}, "metric": "finer",
                       "arms": {"more": {"flag": None, "rate": 2.5}, "new": {}}},
               "paper": {"arms": {"more": None}}},
    )  # fmt: skip
    gpu = sweep.arms("gpu")
    assert list(gpu) == ["plain", "more", "new"]
    assert {name: arm.parameters for name, arm in gpu.items()} == {
        "plain": {"rate": 0.1}, "more": {"rate": 2.5}, "new": {"rate": 0.1},
    }  # fmt: skip
    assert {arm.seeds for arm in gpu.values()} == {(5,)}
    assert list(sweep.arms("paper")) == ["plain-sourcea", "plain-sourceb"]
    assert list(sweep.arms("laptop")) == list(sweep.arms("smoke"))
    assert [sweep.metric_at(size) for size in ("gpu", "paper")] == ["finer", "score"]


def test_single_arms_get_further_seeds_at_the_size_of_the_file(tmp_path):
    sweep = read(tmp_path, grid={"steps": [1, 2]}, more_seeds={"plain-steps2": [3, 4]}, sizes={"gpu": {}})
    assert {name: arm.seeds for name, arm in sweep.arms().items() if name.startswith("plain")} == {
        "plain-steps1": (0, 1), "plain-steps2": (0, 1, 3, 4),
    }  # fmt: skip
    assert {arm.seeds for arm in sweep.arms("gpu").values()} == {(0, 1)}
    assert sweep.arms("smoke")["plain-steps2"].seeds == (0,)


@pytest.mark.parametrize(
    ("control", "found"),
    [
        ("plain", {"plain-a": None, "plain-b": None, "more-a": "plain-a", "more-b": "plain-b"}),  # one for each place
        ("a", {"plain-a": None, "plain-b": "plain-a", "more-a": None, "more-b": "more-a"}),  # one value of the grid
        ("more-b", {"plain-a": "more-b", "plain-b": "more-b", "more-a": "more-b", "more-b": None}),  # one for all
    ],
)
def test_what_each_arm_is_compared_with(tmp_path, control, found):
    sweep = read(tmp_path, control=control, grid={"source": {"a": "x", "b": "y"}})
    arms = sweep.arms()
    assert {name: sweep.control_of(arm, arms) for name, arm in arms.items()} == found


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"metric": ...}, "metric"),
        ({"title": 3}, "3"),
        ({"better": "more"}, "more"),
        ({"margin": 5}, "5"),
        ({"margin": True}, "True"),
        ({"size": "huge"}, "huge"),
        ({"sizes": {"huge": {}}}, "huge"),
        ({"sizes": {"gpu": {"control": "more"}}}, "control"),
        ({"seeds": []}, "[]"),
        ({"seeds": [0, 0]}, "[0, 0]"),
        ({"seeds": [0.5]}, "[0.5]"),
        ({"arms": {}}, "arms"),
        ({"arms": ["plain"]}, "['plain']"),
        ({"arms": {"plain/x": {}}}, "plain/x"),
        ({"arms": {"plain-seed3": {}}}, "plain-seed3"),
        ({"arms": {"plain": None, "more": 3}}, "3"),
        ({"arms": {"plain": {"source": {"sweep": "other"}}}}, "{'sweep': 'other'}"),
        ({"arms": {"plain": {"source": {"sweep": "other", "arm": "x", "size": "gpu"}}}}, "gpu"),
        ({"control": "nobody"}, "nobody"),
        ({"grid": {"rate": [1.0]}}, "rate"),  # which an arm sets, too
        ({"grid": {"steps": [1, 1]}}, "[1, 1]"),
        ({"grid": {"steps": 3}}, "3"),
        ({"more_seeds": {"plian": [3]}}, "plian"),
        ({"more_seeds": {"plain": [1, 2]}}, "has some of [1, 2] already"),
        ({"more_seeds": {"plain": 3}}, "3"),
        ({"grid": {"source": ["a/b"]}}, "a/b"),
        ({"arms": {"plain": {}, "plain-steps1": {}}, "grid": {"steps": [1]}, "parameters": {"steps": 2}}, "steps"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_value(tmp_path, changes, named):
    with pytest.raises(SweepError, match=re.escape(named)) as caught:
        read(tmp_path, **changes)
    assert "one.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_that_makes_a_name_twice_is_refused(tmp_path):
    with pytest.raises(SweepError, match="plain-a-b"):
        read(tmp_path, grid={"steps": {"b": 1, "a-b": 2}}, arms={"plain": {}, "plain-a": {}})


def test_an_arm_that_stands_twice_is_refused(tmp_path):
    path = write_sweep(tmp_path / "one.yaml", arms=...)
    path.write_text(path.read_text() + "arms:\n  plain: {}\n  more: {rate: 1.0}\n  plain: {rate: 2.0}\n")
    with pytest.raises(SweepError, match="plain"):
        files.read(path, tmp_path)


def test_no_yaml_is_one_line(tmp_path):
    (tmp_path / "one.yaml").write_text("title: [\n")
    with pytest.raises(SweepError, match=r"one\.yaml"):
        files.read("one", tmp_path)


def test_an_unknown_sweep_lists_those_there_are(tmp_path):
    write_sweep(tmp_path / "one.yaml")
    with pytest.raises(FileNotFoundError, match="one"):
        files.read("two", tmp_path)
