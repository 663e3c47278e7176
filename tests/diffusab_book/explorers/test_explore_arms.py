"""Arms beside their control are drawn from the runs that they say."""

import pytest

from diffusab_book.explorers import arms, dial
from diffusab_core.experiments import records

ALT = "Two arms beside one another, along the training."
GAPS = {("with", 600): 2.4, ("without", 600): 2.0, ("with", 2400): 0.9, ("without", 2400): 1.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, write):
    root = tmp_path_factory.mktemp("arms")
    for (arm, steps), gap in GAPS.items():
        for seed in (0, 1):
            write(root, f"{arm}-steps{steps}", seed, gap * (1 + seed), steps=steps, autoencoder=arm)
            file = root / f"{arm}-steps{steps}-seed{seed}.json"
            series = {
                "error_0.5": [gap / 10, gap / (5 + seed)],
                "shift": [1.0, 2.0],
                "shift_gap_offline": [gap, gap / 2],
            }
            records.read(file).model_copy(update={"series": series}).write(file)
    found = dial.read(root)
    return found.assign(arm=[arm.partition("-")[0] for arm in found.arm])


def test_samples_are_those_of_each_arm_after_the_length(runs):
    explorer = arms.samples_explorer(runs, ALT)
    assert explorer.defaults == {"steps": 600}
    fig = explorer.draw(steps=2400)
    assert [note.text for note in fig.layout.annotations] == ["with", "without"]
    shown = dial.samples(runs, arm="without", steps=2400).data[0].source
    assert fig.data[1].source == shown != fig.data[0].source


def test_errors_are_means_over_seeds_with_the_bound_in_the_same_colour(runs):
    fig = arms.errors_explorer(runs, {"with": [0.5, 0.6], "without": [0.4, 0.7]}, ALT).draw(steps=600)
    drawn = {trace.name: trace for trace in fig.data}
    assert drawn["with"].y == pytest.approx([0.24, 2.4 * (1 / 5 + 1 / 6) / 2])
    assert drawn["without, each coefficient alone"].y == (0.4, 0.7)
    for arm in ("with", "without"):
        assert drawn[arm].line.color == drawn[f"{arm}, each coefficient alone"].line.color
    assert drawn["with"].line.color != drawn["without"].line.color


def test_gaps_over_shifts_have_a_marker_for_each_run(runs):
    fig = arms.shifts_explorer(runs, ALT).draw(steps=600)
    drawn = {trace.name: trace for trace in fig.data}
    assert drawn["with: runs"].y == pytest.approx([2.4, 2.4, 1.2, 1.2])
    assert drawn["without"].y == pytest.approx([2.0, 1.0])
