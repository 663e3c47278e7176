"""The autoencoder that decodes by sampling: its networks, its noise, its folder."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from diffusab_core import autoencoders, flow
from diffusab_core.autoencoders import Autoencoder, AutoencoderError
from diffusab_core.autoencoders.diffusion import DiffusionAutoencoder, build_network, parse
from diffusab_core.autoencoders.families import check_trainable
from diffusab_core.files import SettingsError

SMALL = {"block_out_channels": (8, 8, 8), "latent_channels": 3, "norm_num_groups": 4, "decoder_steps": 2}


def autoencoder(**config):
    """A small one whose velocity is not zero, as it is with fresh weights."""
    torch.manual_seed(0)
    module = DiffusionAutoencoder(**SMALL | config)
    for name, parameter in module.named_parameters():
        if not parameter.any():
            parameter.data.normal_(std=0.1 if name == "null" else 0.02)
    return Autoencoder("small", module.eval())


@pytest.fixture(scope="module")
def small():
    return autoencoder()


def latents(n=5, seed=0):
    return torch.randn(n, 3, 4, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["UNet-XXS/1", "UNet-XXS/2", "UNet-XXS/4", "DiT-XXS/2", "DiT-XXS/4"])
def test_every_network_sees_image_time_and_latent(name):
    model = autoencoder(decoder_network=name).module
    x, t, z = torch.randn(2, 3, 16, 24), torch.tensor([0.3, 0.6]), latents(2)
    v = model.velocity(x, t, z)
    assert v.shape == x.shape
    for other in ((x.flip(0), t, z), (x, t.flip(0), z), (x, t, z.flip(0))):
        assert (model.velocity(*other) - v).abs().max() > 1e-4
    kept = torch.tensor([True, False])
    dropped = model.velocity(x, t, z, kept)
    torch.testing.assert_close(dropped[:1], v[:1])
    without = model.velocity(x, t, latents(2, seed=1), kept)  # another latent, and nothing seen of it
    torch.testing.assert_close(without[1:], dropped[1:])


@pytest.mark.parametrize("name", ["UNet-XXS/1", "DiT-XXS/4"])
def test_fresh_weights_predict_what_is_best_for_white_pictures(name):
    torch.manual_seed(0)
    model = DiffusionAutoencoder(**SMALL | {"decoder_network": name, "data_std": 0.4})
    x, noise, t = 0.4 * torch.randn(500, 3, 16, 16), torch.randn(500, 3, 16, 16), torch.tensor([0.3])
    x_t = 0.7 * x + 0.3 * noise
    with torch.no_grad():
        v = model.velocity(x_t, t.expand(500), torch.zeros(500, 3, 4, 4))
    torch.testing.assert_close(v, flow.gaussian_velocity(x_t, 0.3, 0.0, 0.4**2))
    left = 0.4**2 / (0.7**2 * 0.4**2 + 0.3**2)  # of the target's variance
    assert (noise - x - v).square().mean().item() == pytest.approx(left, rel=0.01)


def test_the_latent_goes_in_at_every_scale():
    network = build_network("UNet-XXS/1", latent_channels=3, compression=8)
    lifted = network.lift(torch.randn(1, 3, 2, 2))
    assert [f.shape[-1] for f in lifted] == [16, 8, 4, 2]
    torch.nn.init.normal_(network.conv_out.weight)
    for f in lifted:
        f.retain_grad()
    network(torch.randn(1, 3, 16, 16), torch.tensor([0.5]), lifted).square().sum().backward()
    assert all(f.grad.any() for f in lifted)


@pytest.mark.parametrize(
    ("name", "match"), [("UNet-XXS", "no decoder 'UNet-XXS'"), ("DiT-M/2", "DiT-M/2"), ("UNet-XXS/3", "UNet-XXS/3")]
)
def test_a_name_that_is_none_is_refused(name, match):
    with pytest.raises(AutoencoderError, match=match):
        parse(name)


def test_a_patch_larger_than_a_latent_pixel_is_refused():
    with pytest.raises(AutoencoderError, match="UNet-XXS/8 has patches of 8 pixels, the compression is 4"):
        autoencoder(decoder_network="UNet-XXS/8")


def test_one_seed_draws_the_encoder_of_the_baselines():
    from diffusers import AutoencoderKL

    torch.manual_seed(3)
    own = DiffusionAutoencoder(**SMALL)
    torch.manual_seed(3)
    kl = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8), latent_channels=3, norm_num_groups=4, use_quant_conv=False,
        use_post_quant_conv=False, mid_block_add_attention=False,
    )  # fmt: skip
    x = torch.randn(2, 3, 16, 16)
    a, b = own.encode(x).latent_dist, kl.encode(x).latent_dist
    assert torch.equal(a.mean, b.mean)
    assert torch.equal(a.logvar, b.logvar)


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def test_noise_is_a_function_of_seed_and_index(small):
    z = latents(6)
    whole = small.decode(z, seed=4)
    assert torch.equal(small.decode(z, seed=4), whole)
    for size in (1, 2, 4):
        decode = small.with_decoding(seed=4).decode_in_order()
        torch.testing.assert_close(torch.cat([decode(some) for some in z.split(size)]), whole, rtol=0, atol=1e-4)
    torch.testing.assert_close(small.decode(z[2:4], seed=4, index=[2, 3]), whole[2:4], rtol=0, atol=1e-4)
    assert torch.equal(small.decode(z, seed=4, index=range(6)), whole)
    same = z[:1].expand(2, -1, -1, -1)
    a, b = small.decode(same, seed=4)
    assert (a - b).abs().mean() > 0.1  # another index
    assert (small.decode(z, seed=5) - whole).abs().mean() > 0.1


def test_torchs_own_stream_is_left_alone(small):
    before = torch.random.get_rng_state()
    small.decode(latents(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_steps_and_guidance_are_those_asked_for(small):
    z = latents(2)
    assert torch.equal(small.decode(z), small.decode(z, steps=2, guidance=1.0, seed=0))
    assert torch.equal(small.with_decoding(steps=3).decode(z), small.decode(z, steps=3))
    assert not torch.equal(small.decode(z, steps=3), small.decode(z))
    noise = torch.randn(2, 3, 16, 24)
    one = small.module.sample(z, noise, steps=1)
    v = small.module.velocity(noise, torch.ones(2), z)
    torch.testing.assert_close(one, noise - v)
    kept = torch.zeros(2, dtype=torch.bool)
    null = small.module.velocity(noise, torch.ones(2), z, kept)
    torch.testing.assert_close(small.module.sample(z, noise, 1, 3.0), noise - (null + 3 * (v - null)))
    torch.testing.assert_close(small.module.sample(z, noise, 1, 0.0), noise - null)


def test_what_cannot_be_decoded_is_refused(small):
    z = latents(2)
    with pytest.raises(SettingsError, match="got 0"):
        small.decode(z, steps=0)
    with pytest.raises(SettingsError, match="-1"):
        small.decode(z, guidance=-1.0)
    with pytest.raises(AutoencoderError, match="got 3 indices for 2 latents"):
        small.decode(z, index=range(3))
    with pytest.raises(AutoencoderError, match=r"guidance 2\.0 needs a decoder trained with z_dropout"):
        autoencoder(z_dropout=0.0).decode(z, guidance=2.0)
    with pytest.raises(AutoencoderError, match="small cannot be fine-tuned: its decoder samples"):
        check_trainable(small.family, small.name, decoder_only=True)


def test_a_decoder_of_one_pass_takes_an_index_and_no_steps():
    kl = autoencoders.load("kl-f4c4")
    z = torch.randn(2, 4, 4, 4)
    assert torch.equal(kl.decode(z, index=[5, 6], seed=3), kl.decode(z))
    assert torch.equal(kl.decode_in_order()(z), kl.decode(z))
    with pytest.raises(AutoencoderError, match="kl-f4c4 decodes in one pass, so there are no steps"):
        kl.decode(z, steps=4)
    with pytest.raises(AutoencoderError, match="no guidance"):
        kl.with_decoding(guidance=2.0)


# ---------------------------------------------------------------------------------------------------------------------
# Folders, sizes


@pytest.mark.parametrize("network", ["UNet-XXS/2", "DiT-XXS/4"])
def test_a_saved_folder_is_the_same_autoencoder(tmp_path, network):
    made = autoencoder(decoder_network=network, scaling_factor=0.5, shift_factor=0.25)
    autoencoders.save(made, tmp_path / "own")
    opened = autoencoders.load(tmp_path / "own")
    assert (opened.compression, opened.latent_channels, opened.decoder_samples) == (4, 3, True)
    z = latents(2)
    assert torch.equal(opened.decode(z, seed=2), made.decode(z, seed=2))
    x = torch.rand(2, 3, 16, 24)
    assert torch.equal(opened.encode(x).mean, made.encode(x).mean)
    torch.testing.assert_close(opened.normalise(z), (z - 0.25) * 0.5)
    assert json.loads((tmp_path / "own" / "config.json").read_text())["decoder_network"] == network


def test_a_folder_that_is_cut_off_is_refused(tmp_path):
    autoencoders.save(autoencoder(), tmp_path / "own")
    weights = tmp_path / "own" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(AutoencoderError, match="is damaged or cut off"):
        autoencoders.load(tmp_path / "own")


@torch.no_grad()
def test_the_latent_is_lifted_once_for_all_steps(small):
    z = latents(1)

    def flops(function):
        with FlopCounterMode(display=False) as counter:
            function()
        return counter.get_total_flops()

    lift = flops(lambda: small.module.decoder.lift(z))
    step = flops(lambda: small.module.velocity(torch.zeros(1, 3, 16, 24), torch.zeros(1), z)) - lift
    assert lift > 0
    for steps in (1, 4, 32):
        assert flops(lambda n=steps: small.decode(z, steps=n)) == lift + steps * step
    assert flops(lambda: small.decode(z, steps=4, guidance=2.0)) == 2 * (lift + 4 * step)


@torch.no_grad()
def test_half_precision_decodes(small):
    half = Autoencoder("half", autoencoder().module.to(torch.bfloat16))
    y = half.decode(latents(2).bfloat16(), steps=2)
    assert y.dtype == torch.bfloat16
    assert (y.float() - small.decode(latents(2), steps=2)).abs().max() < 0.3
