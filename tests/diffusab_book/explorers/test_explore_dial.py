"""What the explorers and figures of the spectrum dial show is what the records say."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from diffusab_book import results
from diffusab_book.explorers import dial
from diffusab_core.latents import TensorLatents
from diffusab_core.methods import reshaping
from diffusab_core.spectrum import whole_dct, zigzag_order

LENGTHS, DOSES, SEEDS = (600, 2400, 9600), (0.5, 1.0, 1.25), (0, 1, 2)
BEST = {600: 0.5, 2400: 0.9, 9600: 1.1}


def gap(dose, steps, seed):
    """A parabola in the logarithm whose lowest place moves with the length, and with the seed."""
    best = BEST[steps] + 0.02 * (seed - 1)
    return 600 / steps * math.exp((dose - best) ** 2) * (1 + 0.1 * seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write):
    root = tmp_path_factory.mktemp("dial")
    for steps in LENGTHS:
        for dose in DOSES:
            for seed in SEEDS:
                write(root, f"a{dose:g}-steps{steps}", seed, gap(dose, steps, seed), power=dose, steps=steps)
    write(root, "a0-steps600", 0, 5.0, power=0.0, steps=600)  # a dose that other lengths lack
    return root


@pytest.fixture(scope="module")
def runs(folder):
    return dial.read(folder)


def source(runs, dose, steps, seed=0):
    return dial.samples(runs, seed, power=dose, steps=steps).data[0].source


def test_runs_are_read_once_with_their_samples(folder, runs):
    assert len(runs) == len(LENGTHS) * len(DOSES) * len(SEEDS) + 1
    assert len(dial.read(folder, folder)) == len(runs)
    assert len({source(runs, dose, steps) for dose in DOSES for steps in LENGTHS}) == 9


def test_lengths_and_seeds_that_lack_a_dose_wait(runs):
    whole = dial.complete(runs)
    assert set(whole[whole.steps == 600].seed) == {0}  # the one with a = 0
    assert len(whole) == 4 + 2 * len(DOSES) * len(SEEDS)  # which does not hold up other lengths
    same = runs[runs.power > 0]
    assert len(dial.complete(same)) == len(same)
    assert len(dial.complete(same.assign(side=same.steps, steps=0), within="side")) == len(same)
    fewer = dial.complete(same[(same.steps != 2400) | (same.seed != 1) | (same.power != 1.25)])
    assert len(fewer) == len(same) - 3
    assert set(fewer[fewer.steps == 2400].seed) == {0, 2}


def test_lengths_may_have_other_numbers_of_seeds(runs):
    """While more come in: no interval where a single seed is, and those of others stay what they are."""
    some = dial.complete(runs[(runs.power > 0) & ((runs.seed == 0) | (runs.steps == 9600))])
    table = results.cross(some, "best_gap_offline", "power", "steps", 1.0)
    assert ["[" in cell for cell in table.loc["0.5"]] == [False, False, True]
    assert len(dial.dial_explorer(some).published().frames) == 9
    for fig in (dial.crossing(some), dial.optimum_map({"patch 2": some})):
        assert [len(t.x) for t in fig.data if t.mode == "lines+markers"] == [3] * len(fig.data)  # and no band


def test_the_filter_is_shown_as_it_is_applied():
    x = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = TensorLatents(x + x.roll(1, 2) + x.roll(1, 3), torch.full_like(x, 0.01))
    decoded = []

    def decode(z):
        decoded.append(z)
        return z[:, :1].expand(-1, 3, -1, -1)

    explorer = dial.filter_explorer(latents, decode, (0.5, 1.0), (0.3, 0.6), shown=9)
    energies = reshaping.measure_energies(latents)
    by_rank = energies.flatten()[zigzag_order(8)].numpy()
    for a in (0.5, 1.0):
        fig = explorer.draw(a=a, t=0.6)
        lines = {trace.name: np.array(trace.y, dtype=float) for trace in fig.data if trace.type == "scatter"}
        np.testing.assert_allclose(lines["signal as encoded"], 0.16 * by_rank, rtol=1e-3)
        wanted = by_rank**a * by_rank.sum() / (by_rank**a).sum()
        np.testing.assert_allclose(lines["signal"], 0.16 * wanted, rtol=1e-3)
        np.testing.assert_allclose(lines["noise"], 0.36, rtol=1e-6)
    coloured, white = decoded  # the same noise, brought to the energies that the power leaves it
    apart = whole_dct(coloured - white).square().mean((0, 1))
    gains = reshaping.filter_gains(energies, 0.5)
    assert np.corrcoef(apart.flatten().log(), (1 / gains - 1).square().flatten().log())[0, 1] > 0.9
    assert len(explorer.published().frames) == 4


def test_samples_need_one_run_that_has_some(runs):
    with pytest.raises(ValueError, match=r"power 0\.7"):
        dial.samples(runs, power=0.7, steps=600)
    with pytest.raises(ValueError, match="3 runs"):
        dial.samples(runs, power=0.5)
    with pytest.raises(ValueError, match="no grid"):
        dial.samples(runs.assign(samples_file=None), power=0.5, steps=600)


def test_the_dial_shows_the_samples_of_its_dose_and_length(runs):
    explorer = dial.dial_explorer(runs)
    assert explorer.slider.options == DOSES
    for dose in DOSES:
        for steps in LENGTHS:
            fig = explorer.draw(a=dose, steps=steps)
            assert [trace.source for trace in fig.data if trace.type == "image"] == [
                source(runs, dose, steps), source(runs, 1.0, steps),
            ]  # fmt: skip
            (line,) = fig.layout.shapes
            assert line.x0 == line.x1 == dose
    drawn = {
        t.name: t for t in explorer.draw(a=0.5, steps=600).data if t.type == "scatter" and t.mode == "lines+markers"
    }
    assert list(drawn["600 steps"].x) == [0.0, *DOSES]
    wanted = [np.mean([gap(dose, 9600, seed) for seed in SEEDS]) for dose in DOSES]
    np.testing.assert_allclose(drawn["9\N{NO-BREAK SPACE}600 steps"].y, wanted)
    published = explorer.published()
    assert len(published.frames) == len(DOSES) * len(LENGTHS)
    assert published.layout.meta["alt"]


def test_the_dial_slides_along_the_training_too(runs):
    explorer = dial.dial_explorer(runs, over_length=True)
    assert explorer.slider.options == LENGTHS
    assert len(explorer.published().frames) == len(DOSES) * len(LENGTHS)


def test_the_filter_taken_apart(tmp_path, write):
    numbers = {"none": (1.0, "NLC", 4.0), "NL": (0.5, "NL", 3.0), "N": (0.5, "N", 5.0), "NLC": (1.5, "NLC", 8.0)}
    for arm, (power, parts, number) in numbers.items():
        for seed in (0, 1):
            write(tmp_path, arm, seed, number + 0.1 * seed * (power != 1), power=power, parts=parts)
    fig = dial.taken_apart(dial.read(tmp_path))
    bars = {trace.name: dict(zip(trace.x, trace.y, strict=True)) for trace in fig.data}
    assert bars == {"a = 0.5": pytest.approx({"NL": -23.75, "N": 26.25}), "a = 1.5": pytest.approx({"NLC": 101.25})}
    assert list(fig.data[0].x) == ["NL", "N"]
    assert fig.data[0].error_y.array[0] == pytest.approx(1.25)  # the seeds lie 25 and 22.5% below


def test_a_dial_needs_its_reference(runs):
    with pytest.raises(ValueError, match="1"):
        dial.dial_explorer(runs[runs.power != 1])


def test_the_crossing_is_of_paired_differences(runs):
    fig = dial.crossing(runs)
    lines = {trace.name: trace for trace in fig.data if trace.mode == "lines+markers"}
    assert set(lines) == {"a = 0", "a = 0.5", "a = 1.25"}
    assert list(lines["a = 1.25"].x) == list(LENGTHS)
    control = [gap(1.0, 600, seed) for seed in SEEDS]
    differences = [(gap(0.5, 600, seed) - c) / np.mean(control) for seed, c in zip(SEEDS, control, strict=True)]
    assert lines["a = 0.5"].y[0] == pytest.approx(100 * np.mean(differences))
    assert lines["a = 0.5"].y[0] < 0 < lines["a = 0.5"].y[2]
    band = next(t for t in fig.data if t.legendgroup == "a = 0.5" and t.fill == "toself")
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert band.y[0] == pytest.approx(100 * high)
    assert band.y[-1] == pytest.approx(100 * low)


def test_the_optimum_is_found_where_it_was_put(runs):
    of = runs[(runs.steps == 2400)]
    found = results.optimum(of, "best_gap_offline", "power")
    assert found.values == pytest.approx([0.88, 0.90, 0.92], abs=1e-9)  # the fit is exact for such a parabola
    low, high = stats.t.interval(0.95, 2, 0.9, stats.sem([0.88, 0.90, 0.92]))
    assert (found.mean, found.low, found.high) == pytest.approx((0.9, low, high))
    assert not found.at_edge
    edge = results.optimum(runs[(runs.steps == 600) & (runs.power > 0)], "best_gap_offline", "power")
    assert edge.at_edge
    assert edge.mean == pytest.approx(0.5)
    alone = results.optimum(of[of.seed == 0], "best_gap_offline", "power")
    assert math.isnan(alone.low)
    for wrong in (of[of.power != 1], of[(of.power != 1) | (of.seed != 1)], of.assign(best_gap_offline=0.0)):
        with pytest.raises(ValueError, match="best_gap_offline"):
            results.optimum(wrong, "best_gap_offline", "power")


def test_the_map_draws_the_optimum_of_each_length(runs):
    some = runs[runs.power > 0]
    fig = dial.optimum_map({"patch 2": some, "patch 1": some[some.steps > 600]}, marks={"SE": 1.25})
    lines = {trace.name: trace for trace in fig.data if trace.mode == "lines+markers"}
    assert list(lines["patch 2"].x) == list(LENGTHS)
    assert list(lines["patch 2"].y) == pytest.approx([0.5, 0.9, 1.1], abs=0.01)
    assert list(lines["patch 2"].marker.symbol) == ["circle-open", "circle", "circle"]
    assert list(lines["patch 1"].x) == [2400, 9600]
    single = dial.optimum_map({"patch 2": some, "patch 1": some[some.steps == 600]}).data
    whiskers = {trace.name: trace.error_y.array for trace in single if trace.mode == "lines+markers"}
    assert whiskers["patch 2"] is None
    assert len(whiskers["patch 1"]) == 1
    (line,) = fig.layout.shapes
    assert line.y0 == 1.25
