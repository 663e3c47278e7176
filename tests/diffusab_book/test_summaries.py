"""Tables of recorded runs: means, spread, and arrows only where every run lies on one side."""

import pytest

from diffusab_book import results as summaries
from diffusab_book.results import Column
from diffusab_core.experiments import records

PSNR = (Column("PSNR, dB", "psnr_db"),)


def run(seed, psnr, profile=(1.0, 0.5)):
    made = records.start("finetune", parameters={}, seed=seed, size="smoke", data="none")
    made.metrics = {"before_psnr_db": 25.0, "after_psnr_db": psnr}
    made.series = {"after_profile": list(profile)}
    return made.finish()


def test_arrows_need_every_run_on_one_side():
    arms = {
        "plain": [run(0, 26.0), run(1, 27.0), run(2, 28.0)],
        "above": [run(0, 28.5), run(1, 29.0), run(2, 29.5)],
        "overlapping": [run(0, 20.0), run(1, 26.5), run(2, 25.0)],
        "below": [run(0, 24.0)],
    }
    lines = summaries.finetuning_table(arms, "plain", PSNR).splitlines()
    assert lines[0] == "| | runs | PSNR, dB |"
    assert lines[2:] == [
        "| untouched | | 25.00 |",
        "| plain | 3 | 27.00 ± 1.00 |",
        "| above | 3 | 29.00 ± 0.50 ↑ |",
        "| overlapping | 3 | 23.83 ± 3.40 |",
        "| below | 1 | 24.00 ↓ |",
    ]
    assert "↑" not in summaries.finetuning_table(arms, columns=PSNR)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="no control 'se'"):
        summaries.finetuning_table({"plain": [run(0, 26.0)]}, "se", PSNR)
    with pytest.raises(KeyError, match="no metric 'ssim'"):
        summaries.values([run(0, 26.0)], "ssim")


def test_mean_series():
    runs = [run(0, 26.0, (1.0, 0.5)), run(1, 26.0, (1.0, 0.1))]
    assert summaries.mean_series(runs, "after_profile") == [1.0, pytest.approx(0.3)]
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        summaries.mean_series([*runs, run(2, 26.0, (1.0, 0.1, 0.1))], "after_profile")


def denoiser(seed, frechet, loss=(2.0, 1.5, 0.5), steps=(0.0, 10.0, 20.0)):
    made = records.start("denoiser-on-latents", parameters={}, seed=seed, size="smoke", data="none")
    made.metrics = {"frechet_offline": frechet, "precision": 0.5}
    made.series = {"loss": list(loss), "snapshot_step": list(steps), "snapshot_frechet_offline": [9.0, 5.0, frechet]}
    return made.finish()


DISTANCE = (Column("Fréchet distance", "frechet_offline", 1, ".1f"), Column("precision, %", "precision", 100, ".0f"))


def test_denoisers_have_no_row_before_and_keys_as_they_stand():
    arms = {"plain": [denoiser(0, 4.0), denoiser(1, 6.0)], "se": [denoiser(0, 3.0), denoiser(1, 3.5)]}
    assert summaries.denoiser_table(arms, "plain", DISTANCE).splitlines() == [
        "| | runs | Fréchet distance | precision, % |",
        "|---|---|---|---|",
        "| plain | 2 | 5.0 ± 1.4 | 50 ± 0 |",
        "| se | 2 | 3.2 ± 0.4 ↓ | 50 ± 0 |",
    ]
    with pytest.raises(ValueError, match="no control 'base'"):
        summaries.denoiser_table(arms, "base", DISTANCE)
    with pytest.raises(KeyError, match="no metric 'decoded_latents_frechet'"):
        summaries.denoiser_table(arms)


def test_tail_means_are_over_the_last_entries_of_each_run():
    runs = [denoiser(0, 4.0), denoiser(1, 4.0, loss=(1.0, 4.0, 6.0))]
    assert summaries.tail_means(runs, "loss", 2) == [1.0, 5.0]
    assert summaries.tail_means(runs, "loss", 1) == [0.5, 6.0]
    for last in (0, 4):
        with pytest.raises(ValueError, match=f"has 3 entries, not {last}"):
            summaries.tail_means(runs, "loss", last)


def test_series_by_place_hold_one_value_for_each_run():
    runs = [denoiser(0, 4.0), denoiser(1, 3.0)]
    found = summaries.at_each(runs, "snapshot_step", "snapshot_frechet_offline")
    assert found == {"0": [9.0, 9.0], "10": [5.0, 5.0], "20": [4.0, 3.0]}
    with pytest.raises(ValueError, match="at other places 'snapshot_step'"):
        summaries.at_each([*runs, denoiser(2, 4.0, steps=(0.0, 10.0, 30.0))], "snapshot_step", "loss")


def test_what_is_missing_is_told_with_its_command():
    said = summaries.not_recorded("scripts/record.py", ["a", "b", "c"], {"b": []})
    assert said.startswith("\n\n")
    assert "`python scripts/record.py a c`" in said
    assert summaries.not_recorded("scripts/record.py", ["a"], {"a"}) == ""
