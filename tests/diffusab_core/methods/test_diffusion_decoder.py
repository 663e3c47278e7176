"""The three decoders on known conditional distributions, their terms, and whole trainings with exact resume."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffusab_core import autoencoders, data, flow, metrics
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.autoencoders.diffusion import DiffusionAutoencoder
from diffusab_core.experiments import autoencoder as evaluating
from diffusab_core.experiments import decoders, pretraining
from diffusab_core.experiments.pretraining import Pretraining, train_autoencoder
from diffusab_core.files import SettingsError
from diffusab_core.methods import diffusion_decoder
from diffusab_core.methods.diffusion_decoder import DecoderTraining
from diffusab_core.training.order import generator_at
from diffusab_core.training.state import CheckpointError

SMALL = Pretraining(channels=(8, 8, 8), norm_groups=1, latent_channels=4, resolution=16, batch_size=2, steps=4,
                    evaluation_resolution=32, evaluation_crops=4, statistics_crops=4)  # fmt: skip
DIFFUSION = replace(SMALL, decoder="diffusion", decoder_steps=2)
GAN = replace(SMALL, decoder="gan", discriminator_layers=1, adversarial_start=2)
QUICK = {"progress": False, "checkpoint_every": 1, "snapshots": 2}


# ---------------------------------------------------------------------------------------------------------------------
# A known p(x | z): the latent is the mean of each 2 x 2 block, and the picture has a checkerboard of either sign on it

BOARD = 0.5 * (1 - 2 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)).float()  # (8, 8), means of blocks are zero
TOY = Pretraining(channels=(8, 8), norm_groups=1, latent_channels=3, resolution=8, batch_size=32, decoder_steps=16,
                  z_dropout=0.0, decoder_network="UNet-XXS/1", kl_weight=0.0, l1_weight=0.0)  # fmt: skip


class BlockMeans(nn.Module):
    """In place of an encoder: what it sees is known, and the posterior is a point."""

    def forward(self, x):
        mean = nn.functional.avg_pool2d(x, 2)
        return torch.cat([mean, torch.full_like(mean, -30.0)], dim=1)


def draw(step, sign=True):
    """A batch: its block means, and the pictures with boards of random signs, or without any."""
    generator = generator_at(1, step)
    means = torch.rand(32, 3, 4, 4, generator=generator) - 0.5
    signs = torch.randint(0, 2, (32, 1, 1, 1), generator=generator) * 2.0 - 1
    smooth = means.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return means, smooth + signs * BOARD if sign else smooth + BOARD


def train_toy(decoder, steps, sign=True):
    settings = replace(TOY, decoder=decoder)
    torch.manual_seed(0)
    autoencoder = pretraining.build(settings)
    autoencoder.module.encoder = BlockMeans()
    loss = pretraining.loss_of(autoencoder, settings, lambda step: draw(step, sign)[1])
    optimiser = torch.optim.AdamW([p for p in autoencoder.module.parameters() if p.requires_grad], 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for step in range(steps):
        optimiser.zero_grad()
        loss(step, generator_at(0, step))[0].backward()
        optimiser.step()
        schedule.step()
    autoencoder.module.eval()
    return autoencoder


@torch.no_grad()
def test_a_flow_decoder_draws_both_modes_and_a_gaussian_one_their_mean():
    z, _ = draw(10_000)
    smooth = z.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.enable_grad():
        sampling, gaussian = train_toy("diffusion", 400), train_toy("gaussian", 200)
    pictures = torch.stack([sampling.decode(z, seed=seed) for seed in range(4)])  # (4, 32, 3, 8, 8)
    sign = ((pictures - smooth) * BOARD).mean((-3, -2, -1)) / BOARD.square().mean()
    assert 0.3 < (sign > 0).float().mean() < 0.7
    assert 0.8 < sign.abs().mean() < 1.1
    assert (sign.abs() > 0.6).float().mean() > 0.9
    to_nearest = (pictures - smooth - sign.sign()[..., None, None, None] * BOARD).square().mean()
    assert to_nearest < 0.35 * BOARD.square().mean()
    mixed = [len(set(signs.sign().tolist())) == 2 for signs in sign.T]  # of one latent, by seed
    assert sum(mixed) > 20
    blurred = gaussian.decode(z)
    assert (((blurred - smooth) * BOARD).mean((-3, -2, -1)) / BOARD.square().mean()).abs().max() < 0.25
    assert (blurred - smooth).square().mean() < 0.1 * BOARD.square().mean()


@torch.no_grad()
def test_one_step_and_many_agree_where_the_latent_tells_all():
    with torch.enable_grad():
        autoencoder = train_toy("diffusion", 400, sign=False)
    z, x = draw(10_000, sign=False)
    one, many = autoencoder.decode(z, steps=1), autoencoder.decode(z, steps=32)
    power = x.square().mean()
    assert (one - many).square().mean() < 0.2 * power  # the board alone has 0.75 of it
    assert (many - x).square().mean() < 0.2 * power


# ---------------------------------------------------------------------------------------------------------------------
# Terms


def small_module(**config):
    torch.manual_seed(0)
    config = {"block_out_channels": (8, 8), "latent_channels": 3, "norm_num_groups": 4, "decoder_steps": 2} | config
    return DiffusionAutoencoder(**config)


def test_the_exact_velocity_has_no_loss_and_its_estimate_is_the_picture():
    x = torch.rand(4, 3, 8, 8) * 2 - 1
    module = small_module(z_dropout=0.0)
    module.velocity = lambda x_t, t, z, kept: (x_t - x) / t[:, None, None, None]
    seen = []

    def perceptual(target, y):
        seen.append((target, y))
        return 2 * (target - y).square().mean()

    terms, estimate = diffusion_decoder.loss_terms(
        module, x, DecoderTraining(), generator_at(0, 0), kl_weight=0.5, perceptual=perceptual
    )
    assert list(terms) == ["flow", "perceptual", "kl"]
    assert terms["flow"] < 1e-8
    torch.testing.assert_close(estimate, x, atol=1e-4, rtol=0)
    assert torch.equal(seen[0][0], x)
    posterior = module.encode(x).latent_dist
    expected = posterior.kl() / posterior.mean[0].numel()  # diffusers' is a sum over all but the batch
    assert terms["kl"].item() == pytest.approx(0.5 * expected.mean().item(), rel=1e-5)


def test_terms_depend_on_the_generator_alone_and_latents_are_left_out_as_often_as_asked_for():
    module, x = small_module(z_dropout=0.5), torch.rand(4, 3, 8, 8)

    def flow_term(seed, **settings):
        settings = DecoderTraining(decoder="diffusion", **settings)
        return diffusion_decoder.loss_terms(module, x, settings, generator_at(seed, 0), kl_weight=0.0)[0]["flow"]

    assert torch.equal(flow_term(0), flow_term(0))
    assert not torch.equal(flow_term(0), flow_term(1))
    kept = []
    module.velocity = lambda x, t, z, k: kept.append(k) or x
    for seed in range(200):
        flow_term(seed, z_dropout=0.25)
    assert torch.cat(kept).float().mean().item() == pytest.approx(0.75, abs=0.05)


def test_times_are_uniform_or_logit_normal():
    uniform = diffusion_decoder.draw_times(4000, 0.0, None, generator_at(0, 0))
    assert uniform.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
    late = diffusion_decoder.draw_times(4000, 1.0, 0.5, generator_at(0, 0))
    assert torch.equal(late, flow.logit_normal_times(4000, 1.0, 0.5, generator_at(0, 0)))


def test_distillation_asks_for_what_the_teacher_makes_of_that_noise():
    teacher, student = small_module(), small_module()
    nn.init.normal_(teacher.decoder.conv_out.weight, std=0.05)
    x = torch.rand(2, 3, 8, 8)
    terms = diffusion_decoder.distillation_terms(student, teacher, x, generator_at(0, 0))
    term = terms["distillation"]
    generator = generator_at(0, 0)
    z = teacher.encode(x).latent_dist.sample(generator)
    noise = torch.randn(x.shape, generator=generator)
    wanted = teacher.sample(z, noise)
    torch.testing.assert_close(term, wanted.square().mean())  # a fresh student's pictures are grey
    term.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.decoder.conv_out.weight.grad.any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"decoder": "vq"}, "'vq'"),
        ({"perceptual": "vgg19"}, "'vgg19'"),
        ({"perceptual_weight": -1.0}, r"-1\.0"),
        ({"decoder": "diffusion", "decoder_network": "UNet-XXS/8"}, "UNet-XXS/8"),
        ({"decoder": "diffusion", "z_dropout": 1.0}, r"1\.0"),
        ({"decoder": "diffusion", "time_scale": 0.0}, r"0\.0"),
        ({"decoder": "diffusion", "decoder_steps": 0}, "decoder_steps"),
        ({"decoder": "gan"}, "24 pixels, got 16"),
        ({"decoder": "gan", "discriminator_layers": 1, "adversarial_start": 4}, "got 4"),
        ({"decoder": "gan", "discriminator_layers": 1, "adversarial_weight": 0.0}, r"0\.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises((SettingsError, autoencoders.AutoencoderError), match=said):
        replace(SMALL, **wrong)


def test_a_gaussian_decoder_is_the_run_that_it_was():
    known = {"decoder", "decoder_network", "z_dropout", "adversarial_weight", "distillation_steps", "time_scale"}
    assert not known & SMALL.as_values().keys()
    assert known & GAN.as_values().keys() == {"decoder", "adversarial_weight"}
    assert known & DIFFUSION.as_values().keys() == known - {"adversarial_weight"}
    assert "perceptual_weight" not in SMALL.as_values()


@pytest.mark.parametrize("decoder", ["gaussian", "gan", "diffusion"])
def test_every_decoder_has_the_perceptual_term_of_the_crops_asked_for(decoder):
    settings = replace(GAN, decoder=decoder, perceptual="hed", perceptual_weight=0.5, perceptual_crops=1)
    crops = data.stack(data.Photos(16, "train", length=2), range(2))
    found = {}
    for weight in (0.0, 0.5):
        torch.manual_seed(0)
        autoencoder = pretraining.build(settings)
        _, adversary = decoders.join_adversary(autoencoder, settings)
        loss = pretraining.loss_of(
            autoencoder, replace(settings, perceptual_weight=weight), lambda step: crops, adversary
        )
        found[weight] = loss(0, generator_at(0, 0))
    with_term, without = found[0.5][0], found[0.0][0]
    said = found[0.5][1]["perceptual"].item() * (1 if decoder == "diffusion" else 0.5)  # what a flow logs is weighted
    assert (with_term - without).item() == pytest.approx(said, rel=1e-3)
    assert said > 0.01


# ---------------------------------------------------------------------------------------------------------------------
# Whole trainings


def kept(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a diffusion decoder, trained for four steps, and its record."""
    folder = tmp_path_factory.mktemp("trained") / "own"
    return folder, train_autoencoder(DIFFUSION, folder, **QUICK).record


@pytest.mark.parametrize("settings", [DIFFUSION, GAN], ids=["diffusion", "gan"])
def test_cut_off_and_gone_on_it_ends_with_the_same_weights(tmp_path, settings, trained):
    folder, whole = trained
    if settings is GAN:
        folder = tmp_path / "whole"
        whole = train_autoencoder(GAN, folder, **QUICK).record

    def until_the_third(step, values):
        if step == 2 and "profile" in values:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(settings, tmp_path / "cut", watch=until_the_third, **QUICK)
    gone_on = train_autoencoder(settings, tmp_path / "cut", **QUICK)
    assert "Resumed at step" in gone_on.record.notes
    for name, value in kept(folder).items():
        assert torch.equal(value, kept(tmp_path / "cut")[name]), name
    same = {name for name in whole.metrics if name != "training_time_s"}
    assert {n: whole.metrics[n] for n in same} == {n: gone_on.record.metrics[n] for n in same}
    with pytest.raises(CheckpointError):
        train_autoencoder(replace(settings, decoder="gaussian"), tmp_path / "cut", **QUICK)


def test_distillation_goes_on_where_it_was_cut_off_and_leaves_the_encoder(tmp_path, monkeypatch, trained):
    settings = replace(DIFFUSION, distillation_steps=3)
    whole = train_autoencoder(settings, tmp_path / "whole", **QUICK)
    original, calls = diffusion_decoder.distillation_terms, []

    def cut(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(diffusion_decoder, "distillation_terms", cut)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(settings, tmp_path / "cut", **QUICK)
    train_autoencoder(settings, tmp_path / "cut", **QUICK)
    assert len(calls) == 4  # two steps, the one that was cut off, and that once more
    before, after = kept(trained[0]), kept(tmp_path / "whole")
    for name, value in after.items():
        assert torch.equal(value, kept(tmp_path / "cut")[name]), name
        assert torch.equal(value, before[name]) or name.startswith("decoder."), name
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["decoder_steps"] == 1
    assert not torch.equal(after["decoder.conv_out.weight"], before["decoder.conv_out.weight"])
    assert len(whole.record.series["distillation_loss"]) >= 1
    assert "in 1 step:" in (tmp_path / "whole" / "README.md").read_text()


def test_the_adversary_comes_in_at_its_step(tmp_path):
    autoencoder = pretraining.build(GAN)
    whole, adversary = decoders.join_adversary(autoencoder, GAN)
    crops = data.stack(data.Photos(16, "train", length=2), range(2))
    loss = pretraining.loss_of(autoencoder, GAN, lambda step: crops, adversary)
    early, late = (loss(step, generator_at(0, 0))[1] for step in (1, 2))
    assert early["adversarial"] == early["discriminator"] == 0
    assert late["adversarial"] != 0
    assert late["discriminator"] > 0
    assert set(whole.state_dict()) > {f"autoencoder.{name}" for name in autoencoder.module.state_dict()}


@torch.no_grad()
def test_the_card_says_the_sizes_that_counting_finds(trained):
    folder, record = trained
    opened, m = autoencoders.load(folder), record.metrics
    text = " ".join((folder / "README.md").read_text().split())
    weights = kept(folder)
    assert m["parameters"] == sum(value.numel() for value in weights.values())
    of_decoder = sum(v.numel() for name, v in weights.items() if not name.startswith("encoder."))
    assert m["decoder_parameters"] == of_decoder
    with FlopCounterMode(display=False) as counter:
        opened.decode(torch.zeros(1, 4, 4, 4))
    assert 2 * m["decoder_macs"] == counter.get_total_flops()
    assert f"{m['parameters']:.0f} parameters" in text
    assert f"{of_decoder} of the parameters are the decoder's" in text
    assert f"{m['decoder_macs'] / 1e6:.1f} million multiply-accumulates for a picture of 16 pixels" in text
    assert "samples, by default in 2 steps" in text
    assert "AutoencoderKL.from_pretrained" not in text
    assert "adversarial" not in text


def test_evaluation_takes_steps_and_seed(trained):
    settings = evaluating.Evaluation(str(trained[0]), samples=3, resolution=32, cuts=(0.0,), features="none")
    few, more, other = (
        evaluating.evaluate(s)
        for s in (settings, replace(settings, decoder_steps=5), replace(settings, decoder_seed=1))
    )
    assert few.metrics["psnr_db"] != more.metrics["psnr_db"]
    assert few.metrics["psnr_db"] != other.metrics["psnr_db"]
    assert more.parameters["decoder_steps"] == 5
    assert "decoder_steps" not in few.parameters
    with pytest.raises(autoencoders.AutoencoderError, match="kl-f4c4 decodes in one pass"):
        evaluating.evaluate(replace(settings, model="kl-f4c4", decoder_steps=5))
    with pytest.raises(ValueError, match="got 0"):
        replace(settings, decoder_steps=0)


def test_judging_by_steps_is_what_decoding_gives():
    module = small_module()
    nn.init.normal_(module.decoder.conv_out.weight, std=0.02)
    own, images = Autoencoder("own", module.eval()), data.stack(data.Photos(16, "test", length=34), range(34))
    found = decoders.judge(own, images, (1, 3), seeds=2, features="offline")
    assert found.series["decoded_steps"] == [1, 2, 3]  # 2 are the model's own
    y = own.decode(own.encode(images).mean, steps=2).clamp(-1, 1)
    assert found.metrics["decoded_psnr_db"] == pytest.approx(metrics.psnr(images, y).item(), abs=1e-3)
    assert found.metrics["decoded_psnr_db"] == found.series["decoded_psnr_db_by_steps"][1]
    assert found.metrics["decoded_hf_survival"] > 1  # much of the noise is there yet
    assert found.metrics["invented_share"] > 0.5
    assert {"decoded_frechet_offline", "decoded_hed", "decoded_ssim"} <= found.metrics.keys()
    assert len(found.series["invention_variance"]) == 64
    of_kl = decoders.judge(autoencoders.load("kl-f4c4"), images, (1, 3), features="offline")
    assert of_kl.series["decoded_steps"] == [1]
    assert "invented_share" not in of_kl.metrics
