"""The section "diffusability": only with a calibration, measured as the calibration was, and honest about its worth."""

import json
from dataclasses import replace

import pytest
import torch
from made_up import make_model, make_report

from diffusab_book import diffusability
from diffusab_book.diffusability import Calibration
from diffusab_book.report import Options, Plan, findings, measurement, page, score
from diffusab_book.report.score import Crops
from diffusab_core import data
from diffusab_core.autoencoders import Posterior, wrap
from diffusab_core.experiments import scoring

CALIBRATION = Calibration(
    steps=9600, candidates=("token_share",), weights=(0.0, 1.0), reference={"token_share": (0.1, 0.2, 0.3, 0.4)},
    spaces={"dial-a1-p2": 0.5, "kl-beta0-p2": 0.125, "kl-beta1-p2": 0.375, "mask-blocks-p2": 0.875},
    residuals=(-0.2, 0.3), rho=(0.85, 0.7, 0.93), held_out=(0.6, 0.1, 0.8), published=(0.2, -0.1),
    families=("dial", "kl", "mask"), items=64,
)  # fmt: skip


class Quarter:
    """The latent is the image, averaged over 4 x 4 pixels."""

    def encode(self, x):
        return torch.nn.functional.avg_pool2d(x, 4)

    def decode(self, z):
        return torch.nn.functional.interpolate(z, scale_factor=4)


def subject(calibration, resolution=64):
    model = wrap(Quarter(), "quarter", probe=32)
    made = measurement.Subject(
        "quarter", "model", "made up", (3, resolution // 4, resolution // 4), 1, Options(resolution=resolution), model
    )
    made.crops = Crops(calibration, 4)
    return made


@pytest.fixture(scope="module")
def x():
    return data.stack(data.Photos(64, "test", seed=0, length=20), range(20))


def test_all_that_is_kept_lies_on_the_processor(x, monkeypatch):
    class Elsewhere(torch.Tensor):
        def cpu(self):
            return self.as_subclass(torch.Tensor)

    monkeypatch.setattr(score, "rgb01", lambda small: small.as_subclass(Elsewhere))
    made = subject(CALIBRATION)
    made.crops.update(x, made)
    assert {type(small) for small in made.crops.small} == {torch.Tensor}


def test_crops_are_those_of_the_images_side_by_side(x):
    made = subject(CALIBRATION)
    for some in x.split(8):
        made.crops.update(some, made)
    part = made.crops.measure(made)
    assert (part["crops"], part["side"]) == (64, 32)  # of 80, as many as the calibration was measured on
    crops = torch.cat([x[:, :, i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)])
    order = torch.arange(80).reshape(4, 20).T.flatten()[:64]  # image by image
    z = Quarter().encode(crops[order])
    space = scoring.space_of(Posterior(z, torch.zeros_like(z)))
    assert part["values"] == {"token_share": pytest.approx(scoring.of_latents(space, 2).metrics["token_share"])}
    assert (part["place"], part["low"], part["high"]) == CALIBRATION.place(part["values"])
    assert part["looks_at"] == ["tokens"]


def test_candidates_of_decoder_and_posterior(x):
    both = replace(CALIBRATION, candidates=("stake_error", "noise_share"), weights=(0.1, 0.5, 0.5),
                   reference={"stake_error": (0.0, 1.0), "noise_share": (0.0, 0.5)}, items=40)  # fmt: skip
    made = subject(both)
    made.crops.update(x, made)
    part = made.crops.measure(made)
    assert part["values"]["noise_share"] == 0
    assert part["values"]["stake_error"] > 0
    assert 0 <= part["low"] <= part["place"] <= part["high"] <= 1
    said = findings.say("diffusability", findings.FACTS["diffusability"](part))
    assert "two numbers" in said
    assert "two sides" in said


def test_too_few_or_too_small_images_are_a_reason(x):
    made = subject(replace(CALIBRATION, items=2048))
    made.crops.update(x, made)
    with pytest.raises(ValueError, match=r"256 crops of 32 x 32 pixels, these images have 80"):
        made.crops.measure(made)
    counted = subject(replace(CALIBRATION, candidates=("viv",), reference={"viv": (0.0, 1.0)}, items=300))
    counted.crops.update(x, counted)
    with pytest.raises(ValueError, match="300 crops"):
        counted.crops.measure(counted)
    small = subject(CALIBRATION, resolution=16)
    small.crops.update(x[..., :16, :16], small)
    with pytest.raises(ValueError, match="these images have 0"):
        small.crops.measure(small)


# ---------------------------------------------------------------------------------------------------------------------
# The whole report


@pytest.fixture
def options(tmp_path):
    return Options(models=("kl-f8c4",), samples=2, resolution=128, batch_size=2, device="cpu")


PLAN = Plan(decoder_images=1, shown_images=1, scales=(2,))


def test_the_section_is_there_with_a_calibration_only(options, tmp_path, monkeypatch):
    path = tmp_path / "score.json"
    monkeypatch.setattr(diffusability, "CALIBRATION", path)
    monkeypatch.setattr(measurement, "parts_of_subset", lambda *_: {})  # what takes most of the time
    plain = measurement.measure(options, PLAN, progress=False)
    assert "diffusability" not in plain.models[0].parts | plain.models[0].not_measured
    assert "diffusability" not in findings.findings(plain, plain.models[0])
    assert 'id="diffusability"' not in page.render(plain, "", "")
    diffusability.write_calibration(replace(CALIBRATION, items=8), path)
    scored = measurement.measure(options, PLAN, progress=False)
    part = scored.models[0].parts["diffusability"]
    assert (part["crops"], part["side"]) == (8, 64)
    assert json.loads(json.dumps(scored.as_dict()))["models"][0]["diffusability"] == part
    text = page.render(scored, "", "")
    assert 'id="diffusability"' in text
    said = findings.findings(scored, scored.models[0])["diffusability"]
    for words in ("4 latent spaces", "9,600 steps", "+0.85 (95% interval +0.70 to +0.93)", "+0.60 (+0.10 to +0.80)",
                  "+0.20 and -0.10", "blind to", "DiT-XXS/2"):  # fmt: skip
        assert words in said
    others = {name: p for name, p in scored.models[0].parts.items() if name != "diffusability"}
    assert others == plain.models[0].parts  # nothing else has changed


def test_a_broken_calibration_is_one_line(options, tmp_path, monkeypatch):
    path = tmp_path / "score.json"
    path.write_text("{")
    monkeypatch.setattr(diffusability, "CALIBRATION", path)
    with pytest.raises(diffusability.CalibrationError, match=r"score\.json cannot be read"):
        measurement.measure(options, PLAN, progress=False)


@pytest.mark.parametrize("looks_at", ["pixels", "tokens", "latents", "autoencoder", "decoder"])
def test_what_a_score_is_blind_to_is_said_of_each_kind(looks_at):
    part = {
        "values": {"a": 0.5}, "place": 0.0, "low": 0.0, "high": 0.3, "crops": 300, "side": 32, "looks_at": [looks_at],
        "titles": ["something"], "spaces": 42, "families": ["dial"], "steps": 9600, "rho": [0.9, 0.8, 0.95],
        "held_out": [0.5, 0.2, 0.7], "published": [0.1, 0.0], "denoiser": "DiT-XXS/2", "latent_side": 8,
    }  # fmt: skip
    said = findings.say("diffusability", findings.FACTS["diffusability"](part))
    assert said.count("blind to") == 1
    assert "0% of these spaces" in said
    model = make_model("a")
    with_part = replace(model, parts={**model.parts, "diffusability": part})
    without = replace(make_model("b"), not_measured={"diffusability": "too few crops", "lpips": "none"})
    report = make_report(with_part, without, make_model("c"))
    rows = findings.tell_scores(report)
    assert [row[0] for row in rows] == ["a", "b"]
    assert rows[1][1:] == ["–"] * 5
    assert "too few crops" in page.render(report, "", "")
    assert findings.tell_scores(make_report(make_model("c"))) == []
