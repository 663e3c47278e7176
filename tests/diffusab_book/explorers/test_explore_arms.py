"""Arms beside their control are drawn from the runs that they say."""

import pytest

from diffusab_book import results
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


def test_each_arm_stands_beside_its_own_control(runs):
    named = runs.assign(arm=[f"{arm}-{steps}" for arm, steps in zip(runs.arm, runs.steps, strict=True)])
    controls = {"without-600": {"with-600": "early"}, "without-2400": {"with-2400": "late"}}
    fig = arms.against_controls(named, controls, {"best_gap_offline": "gap"}, ALT)
    assert list(fig.data[0].x) == ["early", "late"]
    # Seeds 0 and 1 differ by 0.4 and 0.8 from controls of 2 and 4, by -0.1 and -0.2 from those of 1 and 2.
    assert fig.data[0].y == pytest.approx([20.0, 100 * -0.15 / 1.5])
    assert fig.data[0].error_y.array == pytest.approx([100 * 0.2 / 3, 100 * 0.05 / 1.5])
    expected = results.paired(named, "best_gap_offline", "with-600", "without-600", relative=True)
    assert fig.data[0].y[0] == pytest.approx(100 * expected.mean)


def test_an_arm_without_its_control_is_refused(runs):
    with pytest.raises(ValueError, match="no arm 'none'"):
        arms.against_controls(runs[runs.steps == 600], {"none": {"with": "x"}}, {"best_gap_offline": "gap"}, ALT)
