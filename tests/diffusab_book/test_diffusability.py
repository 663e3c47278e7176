"""Candidates against gaps, on frames whose answer is known: perfect, none, and only between families."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from script_modules import load_script

from diffusab_book import diffusability
from diffusab_book.diffusability import Calibration, CalibrationError, calibrate, join
from diffusab_core.experiments import records
from diffusab_core.methods.diffusability import CANDIDATES

FAMILIES = {"dial": 10, "mask": 7, "kl": 7, "channels": 8, "white": 2}


def made_up(seed=0, noise=0.0):
    """Spaces whose gap grows with token_share inside each family and between them; other candidates are made of it."""
    rng = np.random.default_rng(seed)
    rows = []
    for offset, (family, count) in enumerate(FAMILIES.items()):
        within = rng.permutation(count) / count
        for i, x in enumerate(within):
            rows.append({
                "arm": f"{family}-{i}", "family": family, "token_share": x + 0.2 * offset,
                "gap_2400": math.exp(x + 0.2 * offset) + noise * rng.standard_normal(),
                "profile_share": rng.random(),  # nothing
                "viv": -(x**3) - 0.2 * offset,  # the other way round
                "kl": 10.0 * offset + rng.random(),  # tells families apart and nothing in them
                "equivariance_db": float(offset),  # the same in all of a family
            })  # fmt: skip
    frame = pd.DataFrame(rows).set_index("arm")
    frame["gap_9600"] = frame.gap_2400[::-1].to_numpy()
    return frame


@pytest.fixture(scope="module")
def spaces():
    return made_up()


@pytest.fixture(autouse=True, scope="module")
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffusability, "RESAMPLES_HELD_OUT", 40)
        yield


def judge(spaces, *names, gap="gap_2400", **how):
    return diffusability.judge(spaces, gap, names, **{"resamples": 100, **how})


# ---------------------------------------------------------------------------------------------------------------------
# The pieces


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)  # with ties
    assert diffusability.rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert diffusability.rank_correlation(np.ones(5), np.arange(5.0)) == 0
    many = np.stack([x, y])
    one = float(diffusability.rank_correlation(x, y))
    assert diffusability.rank_correlation(many, many[::-1]).tolist() == pytest.approx([one, one])


def test_places_among_others():
    reference = np.array([3.0, 1.0, 2.0, 2.0])
    found = diffusability.place_among(reference, np.array([0.0, 1.0, 2.0, 2.5, 3.0, 9.0]))
    assert found.tolist() == pytest.approx([1 / 8 - 1 / 2, 1 / 8, 1 / 2, 11 / 16, 7 / 8, 7 / 8 + 3])
    assert diffusability.place_among(np.ones(3), np.array([0.0, 1.0, 2.0])).tolist() == [0, 0.5, 1]


# ---------------------------------------------------------------------------------------------------------------------
# Known answers


def test_a_perfect_candidate(spaces):
    found = judge(spaces, "token_share")
    assert found.rho == 1
    assert (found.low, found.high) == (1, 1)
    assert found.held_out.mean == pytest.approx(1)
    assert set(found.held_out.families) == {"dial", "mask", "kl", "channels"}  # white has two spaces only
    assert found.held_out.pooled > 0.95  # a family beyond all others is put too near
    assert found.held_low > 0.99
    other = judge(spaces, "viv")  # its direction is found on the other families
    assert other.rho < -0.9
    assert other.held_out.mean == pytest.approx(1)


def test_a_candidate_that_says_nothing():
    found = [judge(made_up(seed), "profile_share") for seed in range(6)]
    assert sum(f.low <= 0 <= f.high for f in found) >= 5
    assert np.mean([f.held_out.mean for f in found]) == pytest.approx(0, abs=0.25)


def test_a_candidate_that_only_tells_families_apart(spaces):
    for name in ("kl", "equivariance_db"):
        found = judge(spaces, name)
        assert found.rho > 0.5  # looks good
        assert found.low > 0
        assert found.held_out.pooled > 0.5
        assert abs(found.held_out.mean) < 0.35  # and is not
    assert judge(spaces, "equivariance_db").held_out.families == dict.fromkeys(("dial", "mask", "kl", "channels"), 0)


def test_intervals_widen_with_fewer_spaces():
    noisy = made_up(noise=0.4)
    few = noisy.groupby("family").head(4)
    whole, part = judge(noisy, "token_share", resamples=300), judge(few, "token_share", resamples=300)
    assert whole.low < whole.rho < whole.high
    assert part.high - part.low > whole.high - whole.low
    assert whole.held_low < whole.held_out.mean < whole.held_high
    assert part.held_high - part.held_low > whole.held_high - whole.held_low
    assert judge(noisy.head(5), "token_share") is None
    assert judge(noisy.assign(viv=np.nan), "viv") is None


def test_a_pair_is_chosen_without_the_family_that_it_is_judged_on(spaces):
    rng = np.random.default_rng(3)
    # The gap is the sum of two, neither of which is enough by itself.
    both = spaces.assign(
        gap_2400=stats.rankdata(spaces.token_share) + stats.rankdata(spaces.profile_share),
        noise_share=rng.random(len(spaces)),
    )  # fmt: skip
    names = ("token_share", "profile_share", "noise_share", "kl")
    pair = diffusability.judge_pair(both, "gap_2400", names, resamples=50)
    assert set(pair.names) == {"token_share", "profile_share"}
    assert pair.rho > 0.99
    alone = [judge(both, name).held_out.mean for name in names]
    assert pair.held_out.mean > max(alone) + 0.1
    assert pair.held_out.chosen.keys() == FAMILIES.keys()


def test_the_best_of_many_pairs_of_noise_looks_good_and_is_not(spaces):
    names, found = list(CANDIDATES)[:12], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        noise = spaces.assign(**{name: rng.random(len(spaces)) for name in (*names, "gap_2400")})
        found.append(diffusability.judge_pair(noise, "gap_2400", names, resamples=2))
    assert min(chance.rho for chance in found) > 0.25
    assert np.mean([chance.held_out.mean for chance in found]) == pytest.approx(0, abs=0.2)


def test_all_candidates_in_order_as_a_table_and_a_figure(spaces):
    judged = {steps: diffusability.judge_all(spaces, f"gap_{steps}", resamples=20) for steps in (2400, 9600)}
    assert judged[2400][0].names == ("token_share",)
    assert len(judged[2400]) == 5
    table = diffusability.table(judged)
    assert table.loc[CANDIDATES["token_share"].title, "2\N{NO-BREAK SPACE}400 steps, ρ"].startswith("+1.00")
    columns = [
        f"{steps} steps, {what}"
        for steps in ("2\N{NO-BREAK SPACE}400", "9\N{NO-BREAK SPACE}600")
        for what in ("ρ", "held out", "expected")
    ]
    assert list(table.columns) == ["looks at", *columns]
    figure = diffusability.draw(judged[2400], 2400)
    assert list(figure.data[0].x) == [abs(j.rho) for j in judged[2400]]
    assert list(figure.data[1].x) == [j.held_out.mean for j in judged[2400]]
    assert "34 spaces" in figure.layout.meta["alt"]


# ---------------------------------------------------------------------------------------------------------------------
# From records


def run(experiment, arm, seed, parameters=None, **metrics):
    made = records.start(experiment, parameters=parameters or {}, seed=seed, size="smoke", data="made up")
    made.metrics = metrics
    return arm, made.finish()


def frame(*pairs):
    from diffusab_book import results

    by_arm = {}
    for arm, record in pairs:
        by_arm.setdefault(arm, []).append(record)
    return results.frame(by_arm)


def denoiser(arm, seed, best, steps=2400, floor=0.5, noise=10.5):
    gaps = {"best_gap_offline": best, "gap_floor_offline": floor, "gap_noise_offline": noise}
    return run("denoiser", arm, seed, {"steps": steps}, **gaps)


def test_spaces_from_records():
    scores = frame(run("space", "dial-a1-p2", 0, token_share=0.1, latents_time_s=3.0),
                   run("space", "kl-beta0-p2", 0, token_share=0.3, kl=2.0))  # fmt: skip
    short = [denoiser("dial-a1-p2", seed, best) for seed, best in ((0, 1.5), (1, 2.5))]
    gaps = {2400: frame(*short, denoiser("kl-beta0-p2", 0, 5.5)), 9600: frame(denoiser("dial-a1-p2", 0, 1.0, 9600))}
    found = join(scores, gaps)
    assert list(found.index) == ["dial-a1-p2", "kl-beta0-p2"]
    assert found.family.tolist() == ["dial", "kl"]
    assert found.gap_2400.tolist() == pytest.approx([0.15, 0.5])
    assert found.seeds_2400.tolist() == [2, 1]
    assert found.gap_9600.tolist() == pytest.approx([0.05, math.nan], nan_ok=True)
    assert "latents_time_s" not in found
    with pytest.raises(CalibrationError, match="'white-4-p2'"):
        join(scores, {2400: frame(denoiser("white-4-p2", 0, 1.0))})
    with pytest.raises(CalibrationError, match="600 steps"):
        join(scores, {2400: frame(denoiser("dial-a1-p2", 0, 1.0, 600))})


def test_from_recorded_sweeps_to_the_file_of_a_report(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for family in ("dial", "kl"):
        for i in range(5):
            x, arm = rng.random(), f"{family}-{i}-p2"
            runs = {"spaces_scores": run("space", arm, 0, token_share=x, profile_share=rng.random()),
                    "spaces": denoiser(arm, 0, 1 + x)}  # fmt: skip
            for sweep, (_, record) in runs.items():
                record.write(tmp_path / sweep / f"{arm}-seed0.json")
    spaces = diffusability.read_spaces(tmp_path)
    assert diffusability.lengths_of(spaces) == [2400]
    script = load_script("score")
    out = tmp_path / "score.json"
    script.main(["--records", str(tmp_path), "--write", "token_share", "--out", str(out)])
    assert diffusability.read_calibration(out).held_out[0] == pytest.approx(1)
    script.main(["--records", str(tmp_path)])
    said = capsys.readouterr().out
    assert "2\N{NO-BREAK SPACE}400 steps, held out" in said
    assert CANDIDATES["profile_share"].title in said
    for words, wrong in ((["--steps", "600"], "600"), (["--write", "viv"], "viv"), (["--records", "none"], "none")):
        with pytest.raises(SystemExit):
            script.main(["--records", str(tmp_path), *words])
        assert wrong in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# What a report reads


@pytest.fixture(scope="module")
def made(spaces):
    return calibrate(spaces, 2400, ("token_share",), denoiser="DiT-XXS/2")


def test_a_calibration_survives_its_file(made, spaces, tmp_path):
    path = diffusability.write_calibration(made, tmp_path / "score.json")
    read = diffusability.read_calibration(path)
    assert isinstance(read, Calibration)
    assert read == made
    assert read.rho[0] == 1
    assert len(read.spaces) == 34
    # The easiest is at 0, the hardest at 1, and what lies beyond stays there.
    least, most = (read.place({"token_share": v})[0] for v in (-1.0, 9.0))
    assert least == pytest.approx(0, abs=0.05)
    assert most == pytest.approx(1, abs=0.05)
    place, low, high = read.place({"token_share": float(spaces.token_share.median())})
    assert 0 <= low <= place <= high <= 1
    assert diffusability.read_calibration(tmp_path / "none.json") is None


@pytest.mark.parametrize(("change", "match"), [
    ({"format": 2}, "format"), ({"candidates": ["made_up"]}, "made_up"), ({"weights": [1.0]}, "1 weights"),
    ({"residuals": [float("nan"), 1.0]}, "no number"), ({"extra": 1}, "extra"), ("{", "cannot be read"),
    ("[1]", "cannot be read"),
])  # fmt: skip
def test_a_broken_calibration_is_refused(change, match, made, tmp_path):
    path = diffusability.write_calibration(made, tmp_path / "score.json")
    broken = change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change)
    path.write_text(broken)
    with pytest.raises(CalibrationError, match=match):
        diffusability.read_calibration(path)


def test_what_cannot_be_calibrated(spaces):
    with pytest.raises(CalibrationError, match="probe_gap"):
        calibrate(spaces.assign(probe_gap=1.0), 2400, ("probe_gap",))
    with pytest.raises(CalibrationError, match="got 3"):
        calibrate(spaces, 2400, ("token_share", "viv", "kl"))
    with pytest.raises(CalibrationError, match="too few"):
        calibrate(spaces.head(5), 2400, ("token_share",))
