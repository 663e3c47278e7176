"""Records as a frame: rows, tables, paired differences and intervals, each against numbers worked out by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diffusab_book import results
from diffusab_core.experiments import records


def run(seed, psnr, profile=(1.0, 0.5)):
    made = records.start("finetune", parameters={}, seed=seed, size="smoke", data="none")
    made.metrics = {"before_psnr_db": 25.0, "after_psnr_db": psnr}
    made.series = {"after_profile": list(profile)}
    return made.finish()


def made(**arms):
    return results.frame({arm: [run(seed, psnr) for seed, psnr in enumerate(of_arm)] for arm, of_arm in arms.items()})


def test_a_frame_has_a_row_for_each_run_and_a_column_for_each_number(tmp_path):
    for seed in (1, 0):
        run(seed, 26.0 + seed).write(tmp_path / f"plain-seed{seed}.json")
    found = results.frame(tmp_path)
    assert found[["arm", "seed", "after_psnr_db", "size"]].to_numpy().tolist() == [
        ["plain", 0, 26.0, "smoke"], ["plain", 1, 27.0, "smoke"],
    ]  # fmt: skip
    assert found.record[1].series["after_profile"] == [1.0, 0.5]
    with pytest.raises(FileNotFoundError, match="no run record"):
        results.frame(tmp_path / "nothing")


def test_recorded_folders_are_found_by_name():
    found = results.frame("denoisers")
    assert {"plain", "se"} <= set(found.arm)
    assert sorted(found[found.arm == "se"].seed) == [0, 1, 2]
    # A metric stands before a setting of the same name.
    assert all(isinstance(value, float) for value in found.precision)


def test_renaming_selects_and_orders():
    found = results.rename(made(a=[1.0], b=[2.0], c=[3.0]), {"c": "third", "a": "first"})
    assert list(found.arm) == ["third", "first"]
    assert results.means(found, "after_psnr_db").to_dict() == {"third": 3.0, "first": 1.0}
    with pytest.raises(ValueError, match="no arm 'd'; there are third, first"):
        results.rename(found, {"d": "d"})


def test_paired_differences_and_their_interval():
    runs = made(plain=[1.0, 2.0, 3.0], se=[1.5, 2.7, 3.3])
    found = results.paired(runs, "after_psnr_db", "se", "plain")
    np.testing.assert_allclose(found.values, [0.5, 0.7, 0.3])
    half = 4.302653 * 0.2 / math.sqrt(3)  # the t quantile of two degrees of freedom
    np.testing.assert_allclose([found.mean, found.low, found.high], [0.5, 0.5 - half, 0.5 + half], rtol=1e-5)
    assert (found.sign, f"{found:.2f}", str(found)) == (1, "+0.50 [+0.00, +1.00]", "+0.50 [+0.00, +1.00]")
    assert found.within(1.0)
    assert not found.within(0.9)
    assert f"{found}" == str(found)
    relative = results.paired(runs, "after_psnr_db", "se", "plain", relative=True)
    assert f"{relative:.0%}" == "+25% [+0%, +50%]"
    assert results.paired(runs, "after_psnr_db", "plain", "se").sign == -1
    below = made(plain=[-1.0, -2.0, -3.0], se=[-0.5, -1.3, -2.7])
    assert f"{results.paired(below, 'after_psnr_db', 'se', 'plain', relative=True):.0%}" == "+25% [+0%, +50%]"
    assert results.paired(made(a=[1.0, 2.0], b=[2.0, 1.0]), "after_psnr_db", "a", "b").sign == 0


def test_what_cannot_be_paired_is_refused():
    runs = made(plain=[1.0, 2.0], se=[1.0])
    with pytest.raises(ValueError, match=r"'se' has seeds \[0\], 'plain' has \[0, 1\]"):
        results.paired(runs, "after_psnr_db", "se", "plain")
    with pytest.raises(ValueError, match="one value for each seed"):
        results.values(results.frame({"a": [run(0, 1.0), run(0, 2.0)]}), "after_psnr_db", "a")
    one = results.paired(made(plain=[1.0], se=[3.0]), "after_psnr_db", "se", "plain")
    assert (one.sign, f"{one:.1f}", one.within(100)) == (0, "+2.0", False)


def test_a_table_has_means_spread_and_differences_to_the_control():
    runs = made(plain=[26.0, 27.0, 28.0], se=[25.0, 25.5, 27.0])
    columns = {"after_psnr_db": ("PSNR, dB", ".2f"), "before_psnr_db": ("before × 10", ".0f", 10)}
    found = results.table(runs, columns, control="plain", before=None)
    assert found["PSNR, dB"].tolist() == ["27.00 ± 1.00", "25.83 ± 1.04\n−1.17 [−1.88, −0.45]"]
    assert found["before × 10"].tolist() == ["250 ± 0", "250 ± 0\n+0 [+0, +0]"]
    assert found["runs"].tolist() == ["3", "3"]
    with_before = results.table(runs, {"after_psnr_db": ("PSNR, dB", ".1f")}, before="before_")
    assert with_before.loc["untouched"].tolist() == ["", "25.0"]
    assert list(with_before.index) == ["untouched", "plain", "se"]
    with pytest.raises(ValueError, match="no arm 'base'"):
        results.table(runs, columns, control="base")
    with pytest.raises(KeyError, match="ssim"):
        results.table(runs, {"after_ssim": ("SSIM", ".2f")})


def test_a_table_shows_itself_as_html():
    found = results.table(made(**{"a<b": [1.0, 2.0], "c": [2.0, 4.0]}), {"after_psnr_db": ("PSNR", ".1f")}, "a<b")
    html = found._repr_html_()
    assert "<th>a&lt;b</th><td>2</td><td>1.5 ±&nbsp;0.7</td>" in html
    assert "<td>3.0 ±&nbsp;1.4<br><small>+1.5<br>[−4.9, +7.9]</small></td>" in html
    assert html.count("<tr>") == 3
    assert "..." not in repr(found)
    assert "<table" in found.loc[["c"]]._repr_html_()


def test_a_long_table_unfolds_on_demand():
    rows = {f"row {i}": {"n": i} for i in range(results.LONGEST_OPEN + 1)}
    folded = results.show(rows)._repr_html_()
    assert folded.startswith('<details class="book-folded"><summary>Table of 9 rows</summary>')
    assert folded.count("<tr>") == 10
    assert "<details" not in results.show(dict(list(rows.items())[1:]))._repr_html_()


def test_rows_measured_here_are_formatted():
    found = results.show({"a": {"n": 3, "share": 0.123456}, "b": {"n": 12, "note": "x"}}, {"share": ".1%"}, "model")
    assert found.loc["a"].tolist() == ["3", "12.3%", ""]
    assert found.loc["b"].tolist() == ["12", "", "x"]
    assert found.index.name == "model"
    assert results.show({"a": 0.123456}).loc["a"].tolist() == ["0.123"]


def test_what_is_missing_is_named():
    with pytest.raises(KeyError, match="ssim"):
        results.values(made(a=[26.0]), "ssim", "a")
    with pytest.raises(ValueError, match="no arm 'b'"):
        results.values(made(a=[26.0]), "after_psnr_db", "b")


def test_mean_series():
    runs = [run(0, 26.0, (1.0, 0.5)), run(1, 26.0, (1.0, 0.1))]
    assert results.mean_series(results.frame({"a": runs}), "after_profile", "a") == [1.0, pytest.approx(0.3)]
    longer = results.frame({"a": [*runs, run(2, 26.0, (1.0, 0.1, 0.1))]})
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        results.mean_series(longer, "after_profile", "a")


def denoiser(seed, frechet, loss=(2.0, 1.5, 0.5), steps=(0.0, 10.0, 20.0)):
    made = records.start("denoiser-on-latents", parameters={}, seed=seed, size="smoke", data="none")
    made.metrics = {"frechet_offline": frechet, "precision": 0.5}
    made.series = {"loss": list(loss), "snapshot_step": list(steps), "snapshot_frechet_offline": [9.0, 5.0, frechet]}
    return made.finish()


def test_tail_means_are_over_the_last_entries_of_each_run():
    runs = [denoiser(0, 4.0), denoiser(1, 4.0, loss=(1.0, 4.0, 6.0))]
    found = results.frame({"a": runs})
    assert results.tail(found, "loss", 2, "a").tolist() == [1.0, 5.0]
    assert results.tail(found, "loss", 1, "a").tolist() == [0.5, 6.0]
    for last in (0, 4):
        with pytest.raises(ValueError, match=f"has 3 entries, not {last}"):
            results.tail(found, "loss", last, "a")


def test_phases_of_a_training_are_averaged_run_by_run():
    found = results.frame({"a": [denoiser(0, 4.0), denoiser(1, 4.0, loss=(1.0, 4.0, 6.0))]})
    assert results.between(found, "loss", 0, 20, "snapshot_step") == [1.0, 5.0]  # the first place is left out
    assert results.between(found, "loss", 5, 15, "snapshot_step") == [1.5, 4.0]
    with pytest.raises(ValueError, match="no entry with 20 < snapshot_step <= 30"):
        results.between(found, "loss", 20, 30, "snapshot_step")


def test_spectra_of_generated_and_real_latents_are_compared_band_by_band():
    runs = [denoiser(0, 4.0), denoiser(1, 4.0)]
    for one, made in zip(runs, ([2.0, 4.0, 2.0, 2.0], [1.0, 1.0, 0.5, 0.5]), strict=True):
        one.series.update(generated_energy=made, real_energy=[1.0, 1.0, 1.0, 2.0])
    found = results.compare_spectra(results.frame({"a": runs}), {"low": slice(1, 2), "high": slice(2, 4)})
    assert found.Q.tolist() == [1.0, 0.5]
    assert found.q[0] == [2.0, 1.0, 0.5]
    assert found.low.tolist() == [2.0, 2.0]
    assert found.high.tolist() == [0.75, 0.75]


def test_series_are_averaged_over_bands_run_by_run():
    runs = [denoiser(0, 4.0), denoiser(1, 4.0)]
    for one, error in zip(runs, ([0.5, 1.0, 3.0], [0.1, 0.2, 0.4]), strict=True):
        one.series["error"] = error
    found = results.in_bands(results.frame({"a": runs}), "error", {"0": slice(0, 1), "1 and 2": slice(1, 3)})
    assert found["0"].tolist() == [0.5, 0.1]
    assert found["1 and 2"].tolist() == pytest.approx([2.0, 0.3])


def test_series_by_place_hold_one_value_for_each_run():
    runs = [denoiser(0, 4.0), denoiser(1, 3.0)]
    found = results.by_place(results.frame({"a": runs}), "snapshot_step", "snapshot_frechet_offline", "a")
    assert found == {"0": [9.0, 9.0], "10": [5.0, 5.0], "20": [4.0, 3.0]}
    other = results.frame({"a": [*runs, denoiser(2, 4.0, steps=(0.0, 10.0, 30.0))]})
    with pytest.raises(ValueError, match="at other places 'snapshot_step'"):
        results.by_place(other, "snapshot_step", "loss", "a")


# ---------------------------------------------------------------------------------------------------------------------
# Verdicts, power, nested seeds, places chosen on other seeds


def nested_runs(values, arm, column="autoencoder_seed"):
    """Runs from ``{autoencoder's seed: {denoiser's seed: value}}``, as rows of a frame."""
    return [
        {"arm": arm, column: outer, "seed": inner, "gap": value}
        for outer, of_one in values.items()
        for inner, value in of_one.items()
    ]


def test_nested_seeds_are_averaged_within_and_counted_without():
    ours = {0: {0: 1.0, 1: 3.0}, 1: {0: 4.0, 1: 4.0, 2: 7.0}, 2: {5: 2.0}}
    theirs = {0: {0: 0.0, 1: 1.0}, 1: {0: 2.0, 1: 3.0, 2: 1.0}, 2: {5: 1.5}}
    runs = pd.DataFrame(nested_runs(ours, "se") + nested_runs(theirs, "plain"))
    found = results.paired(runs, "gap", "se", "plain", nested="autoencoder_seed")
    by_hand = [(1 + 2) / 2, (2 + 1 + 6) / 3, 0.5]
    assert found.values == pytest.approx(by_hand)
    interval = stats.t.interval(0.95, 2, np.mean(by_hand), stats.sem(by_hand))
    assert (found.low, found.high) == pytest.approx(interval)
    share = results.paired(runs, "gap", "se", "plain", relative=True, nested="autoencoder_seed")
    assert share.mean == pytest.approx(found.mean / np.mean([0, 1, 2, 3, 1, 1.5]))
    # Six runs of three autoencoders are three independent ones, and a seed may stand twice only under two of them.
    with pytest.raises(ValueError, match="0: 4"):
        results.paired(runs, "gap", "se", "plain")
    with pytest.raises(ValueError, match="nothing to pair"):
        results.paired(runs.drop(0), "gap", "se", "plain", nested="autoencoder_seed")


@pytest.mark.parametrize(
    ("low", "high", "expected", "verdict"),
    [
        (0.06, 0.20, 1, "reproduced"),
        (0.01, 0.20, 1, "reproduced"),  # off zero; how large it is, the interval says
        (0.06, 0.20, -1, "reversed"),
        (-0.20, -0.06, -1, "reproduced"),
        (-0.20, -0.06, 1, "reversed"),
        (-0.04, 0.04, 1, "no effect"),
        (0.01, 0.04, 1, "no effect"),  # surely there, and surely too small to matter
        (-0.04, 0.20, 1, "undecided"),
        (-0.20, 0.04, -1, "undecided"),
        (-0.05, 0.04, 1, "undecided"),  # the margin itself is not within
        (-0.04, 0.04, 0, "reproduced"),
        (0.06, 0.20, 0, "reversed"),
        (0.05, 0.20, 0, "reversed"),
        (0.01, 0.20, 0, "undecided"),
        (-0.20, 0.20, 0, "undecided"),
        (math.nan, math.nan, 1, "undecided"),
        (math.nan, math.nan, 0, "undecided"),
    ],
)
def test_a_verdict_is_read_off_the_interval(low, high, expected, verdict):
    found = results.Paired((low, high), (low + high) / 2, low, high)
    assert str(results.judge(found, expected, 0.05)) == verdict
    turned = results.Paired((-high, -low), -(low + high) / 2, -high, -low)
    assert results.judge(turned, -expected, 0.05) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.30, -0.10, "reproduced"),  # better is no worse
        (-0.20, 0.04, "reproduced"),
        (0.01, 0.04, "reproduced"),
        (-0.20, 0.05, "undecided"),  # the margin itself is not within
        (0.04, 0.20, "undecided"),
        (0.05, 0.20, "reversed"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_a_bound_is_kept_or_broken(low, high, verdict):
    found = results.Paired((low, high), (low + high) / 2, low, high)
    assert str(results.judge_bound(found, 1, 0.05)) == verdict
    turned = results.Paired((-high, -low), -(low + high) / 2, -high, -low)
    assert str(results.judge_bound(turned, -1, 0.05)) == verdict
    with pytest.raises(ValueError, match="got 0"):
        results.judge_bound(found, 0, 0.05)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        results.judge_bound(found, 1, -0.1)


@pytest.mark.parametrize(("expected", "margin"), [(2, 0.05), (1, 0), (1, -0.1), (1, math.nan)])
def test_a_verdict_wants_a_sign_and_a_margin(expected, margin):
    wrong = str(expected) if expected == 2 else str(margin)
    with pytest.raises(ValueError, match=re.escape(wrong)):
        results.judge(results.summarize([0.1, 0.2]), expected, margin)


@pytest.mark.parametrize("n", [2, 3, 5, 20, 200])
def test_the_smallest_effect_is_seen_in_four_of_five_tries(n):
    scatter = np.random.default_rng(0).normal(size=n)
    found = results.summarize(scatter)
    smallest = results.smallest_effect(found)
    # The t test's power by simulation: sample means and variances of Gaussians are independent.
    rng = np.random.default_rng(n)
    sd = np.std(scatter, ddof=1)
    mean = smallest + sd / math.sqrt(n) * rng.normal(size=200_000)
    spread = sd * np.sqrt(rng.chisquare(n - 1, size=200_000) / (n - 1))
    shown = np.abs(mean) * math.sqrt(n) / spread > stats.t.ppf(0.975, n - 1)
    assert shown.mean() == pytest.approx(0.8, abs=0.005)
    if n == 200:  # the textbook's formula for large samples
        assert smallest == pytest.approx((1.959964 + 0.841621) * sd / math.sqrt(n), rel=0.01)


def test_differences_without_scatter_and_single_ones():
    same = results.summarize([0.2, 0.2, 0.2])
    assert (same.low, same.high, results.smallest_effect(same)) == (0.2, 0.2, 0)
    one = results.summarize([0.2])
    assert math.isnan(one.low)
    assert math.isnan(results.smallest_effect(one))
    with pytest.raises(ValueError, match="no difference"):
        results.summarize([])


def curve(seed, values, places=(1.0, 4.0, 16.0)):
    made = records.start("denoiser", parameters={}, seed=seed, size="smoke", data="none")
    made.series = {"shift": list(places), "gap": list(values)}
    return made.finish()


def test_a_shift_is_chosen_on_the_other_seeds():
    runs = results.frame({
        "a": [curve(0, [5, 1, 9]), curve(1, [2, 8, 9]), curve(2, [4, 7, 1])],
        "b": [curve(3, [3, 2, 1])],
    })  # fmt: skip
    found = results.choose_places(runs, "gap").set_index(["arm", "seed"])
    # Means of the other two: seed 0 of (3, 7.5, 5), seed 1 of (4.5, 4, 5), seed 2 of (3.5, 4.5, 9).
    assert found.loc["a", "chosen_shift"].tolist() == [1, 4, 1]
    assert found.loc["a", "chosen_gap"].tolist() == [5, 8, 4]
    assert found.loc["b", ["chosen_shift", "chosen_gap"]].isna().all(axis=None)
    # Never lower than the best of a run's own, which is what it guards against.
    assert all(found.loc["a", "chosen_gap"] >= [1, 2, 1])
    with pytest.raises(ValueError, match="other places"):
        results.choose_places(results.frame({"a": [curve(0, [1, 2, 3]), curve(1, [1, 2], (1.0, 2.0))]}), "gap")


def test_arms_are_compared_with_a_control_and_a_margin():
    runs = made(
        plain=[10.0, 12.0, 14.0], better=[8.0, 9.5, 11.5], worse=[12.0, 14.5, 16.0], same=[10.1, 11.9, 14.0],
        noisy=[8.0, 14.0, 14.5],
    )  # fmt: skip
    found = results.compare(runs, "after_psnr_db", "plain", 0.05)
    assert list(found.verdict[["plain", "better", "worse", "same"]]) == ["", "better", "worse", "no effect, ±5%"]
    effect = results.paired(runs, "after_psnr_db", "noisy", "plain", relative=True)
    first, second = found.verdict["noisy"].split("\n")
    assert first == "undecided"
    assert f"{results.smallest_effect(effect):.0%}" in second
    assert found.loc["noisy", "against plain"] == f"{effect:.0%}"
    turned = results.compare(runs, "after_psnr_db", "plain", 0.05, better="higher")
    assert list(turned.verdict[["better", "worse"]]) == ["worse", "better"]
    single = results.compare(made(plain=[1.0], se=[2.0]), "after_psnr_db", "plain", 0.05)
    assert single.verdict["se"] == "undecided"
    for wrong in ({"better": "smaller"}, {"control": "none"}, {"margin": 0.0}):
        with pytest.raises(ValueError, match=str(*wrong.values())):
            results.compare(runs, "after_psnr_db", **{"control": "plain", "margin": 0.05} | wrong)


def test_a_metric_by_two_settings_is_compared_within_each_column():
    numbers = {
        (1.0, 600): [4.0, 6.0],
        (0.5, 600): [3.0, 5.2],
        (1.0, 2400): [2.0],
        (0.5, 2400): [2.5],
        (2.0, 600): [8, 9],
    }
    runs = pd.concat(
        made(a=of_cell).assign(power=power, steps=steps) for (power, steps), of_cell in numbers.items()
    )  # fmt: skip
    found = results.cross(runs, "after_psnr_db", "power", "steps", 1.0, ".1f")
    assert (list(found.index), list(found.columns)) == (
        ["0.5", "1", "2"],
        ["600 steps", "2\N{NO-BREAK SPACE}400 steps"],
    )
    assert found.index.name == "after psnr db by power"
    gaps = runs.assign(best_gap_offline=runs.after_psnr_db)
    assert results.cross(gaps, "best_gap_offline", "power", "steps", 1.0).index.name == "gap by power"
    low, high = stats.ttest_1samp([-0.2, -0.16], 0).confidence_interval(0.95)
    assert found.loc["0.5", "600 steps"] == f"4.1 ± 1.6\n{-0.18:+.0%} [{low:+.0%}, {high:+.0%}]".replace("-", "−")
    assert found.loc["0.5", "2\N{NO-BREAK SPACE}400 steps"] == "2.5\n+25%"
    assert found.loc["1", "600 steps"] == "5.0 ± 1.4"
    assert found.loc["2", "2\N{NO-BREAK SPACE}400 steps"] == ""
    words = runs.assign(steps=[f"{steps} steps" for steps in runs.steps])
    assert list(results.cross(words, "after_psnr_db", "power", "steps", 1.0).columns) == ["2400 steps", "600 steps"]
    times = runs.assign(location=[-0.5 if steps == 600 else 1.0 for steps in runs.steps])
    assert list(results.cross(times, "after_psnr_db", "power", "location", 1.0).columns) == ["−0.5", "1"]
    named = runs.assign(power=[{0.5: "b", 1.0: "c", 2.0: "a"}[power] for power in runs.power])
    assert list(results.cross(named, "after_psnr_db", "power", "steps", "c").index) == ["c", "b", "a"]
    with pytest.raises(ValueError, match=r"'3\.0'"):
        results.cross(runs, "after_psnr_db", "power", "steps", 3.0)
