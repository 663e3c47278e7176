"""Tables of recorded runs: means, spread, and arrows only where every run lies on one side."""

import pytest

from diffusab_core import records, summaries
from diffusab_core.summaries import Column

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
