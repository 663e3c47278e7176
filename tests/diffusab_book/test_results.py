"""Records as a frame: rows, tables, paired differences and intervals, each against numbers worked out by hand."""

import math

import numpy as np
import pytest

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
    assert "<th>a&lt;b</th><td>2</td><td>1.5 ± 0.7</td>" in html
    assert "<td>3.0 ± 1.4<br><small>+1.5<br>[−4.9, +7.9]</small></td>" in html
    assert html.count("<tr>") == 3
    assert "..." not in repr(found)
    assert "<table" in found.loc[["c"]]._repr_html_()


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


def test_series_by_place_hold_one_value_for_each_run():
    runs = [denoiser(0, 4.0), denoiser(1, 3.0)]
    found = results.by_place(results.frame({"a": runs}), "snapshot_step", "snapshot_frechet_offline", "a")
    assert found == {"0": [9.0, 9.0], "10": [5.0, 5.0], "20": [4.0, 3.0]}
    other = results.frame({"a": [*runs, denoiser(2, 4.0, steps=(0.0, 10.0, 30.0))]})
    with pytest.raises(ValueError, match="at other places 'snapshot_step'"):
        results.by_place(other, "snapshot_step", "loss", "a")
