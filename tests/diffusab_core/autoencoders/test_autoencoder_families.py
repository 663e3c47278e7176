"""Every supported class behind the face, with shrunken models that are saved to and loaded from a folder."""

import diffusers
import pytest
import torch

from diffusab_core.autoencoders import Autoencoder, load
from diffusab_core.autoencoders.families import FAMILIES

DC_STAGES = {
    "encoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
    "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
    "encoder_block_out_channels": (8, 16, 16),
    "decoder_block_out_channels": (8, 16, 16),
    "encoder_layers_per_block": (0, 1, 1),
    "decoder_layers_per_block": (0, 1, 1),
    "encoder_qkv_multiscales": ((),) * 3,
    "decoder_qkv_multiscales": ((),) * 3,
    "decoder_norm_types": ("batch_norm", "batch_norm", "rms_norm"),
    "decoder_act_fns": ("relu", "relu", "silu"),
}
LTX = {
    "latent_channels": 6,
    "block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "layers_per_block": (1,) * 5,
    "decoder_layers_per_block": (1,) * 5,
}

#: Shrunken configurations: compression, temporal compression and channels differ from each other wherever they can.
SMALL = {
    "AutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 8),
        "latent_channels": 5,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
        "shift_factor": 0.25,
    },
    "VQModel": {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "latent_channels": 6,
        "vq_embed_dim": 4,
        "num_vq_embeddings": 32,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    },
    "AutoencoderDC": {"latent_channels": 4, "attention_head_dim": 8, "scaling_factor": 0.5, **DC_STAGES},
    "AutoencoderKLCogVideoX": {
        "block_out_channels": (8, 8, 8, 8),
        "latent_channels": 5,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    },
    "AutoencoderKLLTXVideo": LTX,
    "AutoencoderKLWan": {
        "base_dim": 4,
        "decoder_base_dim": 8,
        "z_dim": 3,
        "dim_mult": [1, 1, 2, 2],
        "num_res_blocks": 1,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "latents_mean": [1.0, 2.0, 3.0],
        "latents_std": [0.5, 2.0, 4.0],
    },
    "AutoencoderKLCosmos": {
        "latent_channels": 4,
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decode_block_out_channels": (8, 8, 8, 8),
        "num_layers": 1,
        "attention_resolutions": (),
        "latents_mean": [float(i) for i in range(8)],  # 4 channels, 2 latent frames
        "latents_std": [2.0] * 8,
    },
}

#: Class: compression, temporal compression (None: images only), frames of the clip to try, latent channels.
EXPECTED = {
    "AutoencoderKL": (4, None, None, 5),
    "VQModel": (2, None, None, 4),
    "AutoencoderDC": (4, None, None, 4),
    "AutoencoderKLCogVideoX": (8, 4, 9, 5),
    "AutoencoderKLLTXVideo": (32, 8, 9, 6),
    "AutoencoderKLWan": (16, 4, 5, 3),
    "AutoencoderKLCosmos": (8, 8, 9, 4),
}
VIDEO = [name for name, (_, temporal, _, _) in EXPECTED.items() if temporal]
STILL = [name for name in EXPECTED if name not in VIDEO]
DETERMINISTIC = ("VQModel", "AutoencoderDC", "AutoencoderKLCosmos")


def test_every_family_is_tested():
    assert set(SMALL) == set(EXPECTED) == set(FAMILIES)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Shrunken models by class name, each saved to and loaded from a folder."""
    loaded = {}

    def get(class_name):
        if class_name not in loaded:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("models") / class_name
            getattr(diffusers, class_name)(**SMALL[class_name]).save_pretrained(path, safe_serialization=True)
            loaded[class_name] = load(path)
        return loaded[class_name]

    return get


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ---------------------------------------------------------------------------------------------------------------------
# Images and clips through shrunken models


@pytest.mark.parametrize("class_name", EXPECTED)
@torch.no_grad()
def test_images_go_through_every_class(small, class_name):
    f, temporal, _, channels = EXPECTED[class_name]
    autoencoder = small(class_name)
    assert (autoencoder.compression, autoencoder.latent_channels) == (f, channels)
    assert autoencoder.temporal_compression == (temporal or 1)
    assert autoencoder.latent_shape(2 * f, 4 * f) == (channels, 2, 4)

    posterior = autoencoder.encode(noise(2, 3, 2 * f, 4 * f))
    assert posterior.mean.shape == posterior.std.shape == (2, channels, 2, 4)
    assert (posterior.std == 0).all() == (class_name in DETERMINISTIC)
    if class_name in DETERMINISTIC:
        assert torch.equal(posterior.sample(), posterior.mean)
    channels_last = noise(2, 2 * f, 4 * f, 3).permute(0, 3, 1, 2)  # as image readers give them
    expected = autoencoder.encode(channels_last.contiguous()).mean
    torch.testing.assert_close(autoencoder.encode(channels_last).mean, expected, rtol=1e-4, atol=1e-4)
    images = autoencoder.decode(posterior.mean)
    assert images.shape == (2, 3, 2 * f, 4 * f)
    assert images.isfinite().all()
    assert images.std() > 0


@pytest.mark.parametrize("class_name", VIDEO)
@torch.no_grad()
def test_clips_go_through_video_classes(small, class_name):
    f, temporal, frames, channels = EXPECTED[class_name]
    autoencoder = small(class_name)
    t = 1 + (frames - 1) // temporal
    assert autoencoder.latent_shape(2 * f, 2 * f, frames) == (channels, t, 2, 2)
    clip = noise(2, 3, frames, 2 * f, 2 * f)
    z = autoencoder.encode(clip).mean
    assert z.shape == (2, channels, t, 2, 2)
    assert autoencoder.decode(z).shape == clip.shape

    z = autoencoder.encode(clip[:, :, :1]).mean  # a clip of one frame keeps its time axis
    assert z.shape == (2, channels, 1, 2, 2)
    torch.testing.assert_close(z.squeeze(2), autoencoder.encode(clip[:, :, 0]).mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(autoencoder.decode(z).squeeze(2), autoencoder.decode(z.squeeze(2)))


@pytest.mark.parametrize("class_name", VIDEO)
def test_clip_lengths_that_do_not_fit_are_named(small, class_name):
    f, temporal, _, _ = EXPECTED[class_name]
    autoencoder = small(class_name)
    step = autoencoder.clip_step
    assert step == (8 if class_name == "AutoencoderKLCogVideoX" else temporal)
    for frames in (step, step + 2):
        with pytest.raises(ValueError, match=rf"{step}k \+ 1 frames, got {frames}; cut to"):
            autoencoder.encode(torch.zeros(1, 3, frames, f, f))
    with pytest.raises(ValueError, match="got 0"):
        autoencoder.latent_shape(f, f, frames=0)


@torch.no_grad()
def test_cogvideox_gives_the_length_back_for_8k_plus_1_frames_only(small):
    autoencoder = small("AutoencoderKLCogVideoX")
    module = autoencoder.module
    z = module.encode(torch.zeros(1, 3, 13, 16, 16)).latent_dist.mean  # 4k + 1, as fourfold compression suggests
    assert module.decode(z).sample.shape[2] == 16
    with pytest.raises(ValueError, match=r"8k \+ 1 frames, and 4 latent frames .* give 2k \+ 1"):
        autoencoder.decode(z)
    z = autoencoder.encode(torch.zeros(1, 3, 17, 16, 16)).mean
    assert z.shape[2] == 5
    assert autoencoder.decode(z).shape[2] == 17


@pytest.mark.parametrize("class_name", STILL)
def test_image_classes_refuse_clips(small, class_name):
    autoencoder = small(class_name)
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\), got shape \(1, 3, 9, 16, 16\)"):
        autoencoder.encode(torch.zeros(1, 3, 9, 16, 16))
    with pytest.raises(ValueError, match="not clips of 9 frames"):
        autoencoder.latent_shape(16, 16, frames=9)


@pytest.mark.parametrize("class_name", EXPECTED)
def test_gradients_flow_through_encoder_and_decoder(small, class_name):
    f, _, frames, _ = EXPECTED[class_name]
    autoencoder = small(class_name)
    x = noise(1, 3, *([frames] if frames else []), 2 * f, 2 * f).requires_grad_()
    autoencoder.decode(autoencoder.encode(x).sample()).square().mean().backward()
    assert x.grad.abs().sum() > 0
    without = {name for name, p in autoencoder.module.named_parameters() if p.grad is None}
    assert without == ({"quantize.embedding.weight"} if class_name == "VQModel" else set())
    autoencoder.module.zero_grad()


# ---------------------------------------------------------------------------------------------------------------------
# What is particular to one class


@torch.no_grad()
def test_face_agrees_with_the_classes_where_they_do_not_clamp(small):
    for class_name, (f, _, _, _) in EXPECTED.items():
        autoencoder, x = small(class_name), noise(1, 3, 2 * f, 2 * f)
        x5 = x.unsqueeze(2) if class_name in VIDEO else x
        output = autoencoder.module.encode(x5)
        if class_name == "VQModel":
            z = output.latents
        elif class_name == "AutoencoderDC":
            z = output.latent
        else:
            z = output.latent_dist.mode()
        mine = autoencoder.encode(x).mean
        assert torch.equal(mine, z.reshape(mine.shape)), class_name
        decoded = autoencoder.decode(mine).clamp(-1, 1)
        expected = autoencoder.module.decode(z).sample.clamp(-1, 1)
        assert torch.equal(decoded, expected.reshape(decoded.shape)), class_name


def test_wan_decodes_without_clamp_and_keeps_nothing(small):
    autoencoder = small("AutoencoderKLWan")
    with torch.no_grad():
        z = autoencoder.encode(noise(1, 3, 9, 32, 32)).mean * 1e3
        clip = autoencoder.decode(z)
        expected = autoencoder.module.decode(z).sample
    bias = autoencoder.module.decoder.conv_out.bias
    with torch.no_grad():
        bias += 3
        high, clamped = autoencoder.decode(z), autoencoder.module.decode(z).sample
        bias -= 3
    assert high.max() > 1 >= clamped.max()
    torch.testing.assert_close(clip.clamp(-1, 1), expected)
    torch.testing.assert_close(high.clamp(-1, 1), clamped)
    assert clip.shape[2] == 9  # three latent frames, each fed with what is left of the ones before

    def kept():
        return [x for x in (*autoencoder.module._feat_map, *autoencoder.module._enc_feat_map) if x is not None]

    autoencoder.encode(noise(1, 3, 5, 32, 32))
    assert not kept()
    calls = []

    def fail_in_the_second_piece(module, args):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError

    handle = autoencoder.module.encoder.register_forward_pre_hook(fail_in_the_second_piece)
    with pytest.raises(MemoryError):
        autoencoder.encode(noise(1, 3, 5, 32, 32))
    handle.remove()
    assert not kept()


@torch.no_grad()
def test_vq_latents_are_those_before_quantisation_and_decoding_quantises(small):
    autoencoder = small("VQModel")
    z = autoencoder.encode(noise(1, 3, 16, 16)).mean
    book = autoencoder.module.quantize.embedding.weight
    tokens = z.permute(0, 2, 3, 1).reshape(-1, 4)
    nearest = book[torch.cdist(tokens, book).argmin(1)]
    assert not torch.allclose(tokens, nearest)
    quantised = nearest.reshape(1, 8, 8, 4).permute(0, 3, 1, 2)
    torch.testing.assert_close(autoencoder.decode(z), autoencoder.decode(quantised))


@torch.no_grad()
def test_dc_batch_norm_moves_in_train_mode_only(small):
    module = small("AutoencoderDC").module
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert any("running_mean" in name for name in before)
    small("AutoencoderDC").decode(noise(2, 4, 4, 4))
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    copy = diffusers.AutoencoderDC(**SMALL["AutoencoderDC"]).train()
    copy.load_state_dict(module.state_dict())
    Autoencoder("training", copy).decode(noise(2, 4, 4, 4))
    assert not all(torch.equal(buffer, before[name]) for name, buffer in copy.named_buffers())


@torch.no_grad()
def test_ltx_decoders_with_a_timestep_get_that_of_a_clean_latent():
    torch.manual_seed(0)
    module = diffusers.AutoencoderKLLTXVideo(**LTX, timestep_conditioning=True).eval()
    autoencoder = Autoencoder("LTX 0.9.1", module)
    z = noise(2, 6, 2, 2)
    images = autoencoder.decode(z)
    assert images.shape == (2, 3, 64, 64)
    assert torch.equal(images, module.decode(z.unsqueeze(2), torch.zeros(2)).sample.squeeze(2))
    assert not torch.equal(images, module.decode(z.unsqueeze(2), torch.ones(2)).sample.squeeze(2))


# ---------------------------------------------------------------------------------------------------------------------
# Normalisation


@pytest.mark.parametrize("class_name", EXPECTED)
def test_normalisation_has_an_inverse(small, class_name):
    autoencoder = small(class_name)
    for shape in [(2,), (2, 2)] if class_name in VIDEO else [(2,)]:
        z = noise(2, autoencoder.latent_channels, *shape, 3)
        torch.testing.assert_close(autoencoder.denormalise(autoencoder.normalise(z)), z)


def test_normalisation_by_factors(small):
    for class_name in ("VQModel", "AutoencoderDC", "AutoencoderKLCogVideoX"):
        z = noise(1, small(class_name).latent_channels, 2, 2)
        torch.testing.assert_close(small(class_name).normalise(z), z * 0.5)


def test_normalisation_by_channel(small):
    wan, mean, std = small("AutoencoderKLWan"), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.0, 4.0])
    z = noise(2, 3, 4, 5)
    torch.testing.assert_close(wan.normalise(z), (z - mean[:, None, None]) / std[:, None, None])
    clip = noise(2, 3, 2, 4, 5)
    torch.testing.assert_close(wan.normalise(clip)[:, :, 1], wan.normalise(clip[:, :, 1]))


def test_ltx_statistics_are_buffers_that_travel_with_the_weights(tmp_path):
    module = diffusers.AutoencoderKLLTXVideo(**LTX, scaling_factor=2.0)
    module.latents_mean.copy_(torch.arange(6.0))
    module.latents_std.fill_(4.0)
    module.save_pretrained(tmp_path, safe_serialization=True)
    z = noise(1, 6, 2, 2)
    expected = (z - torch.arange(6.0)[:, None, None]) * 2 / 4
    torch.testing.assert_close(load(tmp_path).normalise(z), expected)


def test_cosmos_statistics_go_by_channel_and_latent_frame(small):
    cosmos = small("AutoencoderKLCosmos")
    clip = torch.zeros(1, 4, 2, 1, 1)
    torch.testing.assert_close(-2 * cosmos.normalise(clip).flatten(), torch.arange(8.0))
    torch.testing.assert_close(-2 * cosmos.normalise(clip[:, :, 0]).flatten(), torch.tensor([0.0, 2, 4, 6]))
    with pytest.raises(ValueError, match="at most 2 latent frames, got 3"):
        cosmos.normalise(torch.zeros(1, 4, 3, 1, 1))


# ---------------------------------------------------------------------------------------------------------------------
# What fine-tuning freezes


@pytest.mark.parametrize("class_name", EXPECTED)
def test_frozen_names_are_the_end_of_the_decoder(small, class_name):
    autoencoder = small(class_name)
    norm = "conv_norm_out" if class_name in ("AutoencoderKL", "VQModel") else "norm_out"
    names = autoencoder.frozen_for_finetuning()
    assert {name.split(".")[1] for name in names} <= {norm, "conv_out"}
    assert any(name.startswith("decoder.conv_out.") for name in names)
    assert any(norm in name for name in names) == (class_name != "AutoencoderKLLTXVideo")  # LTX's has no parameters

    blocks = len(autoencoder.module.decoder.up_blocks)
    last = 1 if class_name == "AutoencoderDC" else blocks - 1  # DC: from last to first, and its block 0 is empty
    more = set(autoencoder.frozen_for_finetuning(up_blocks=1)) - set(names)
    assert more
    assert all(name.startswith(f"decoder.up_blocks.{last}.") for name in more)
    total = sum(p.numel() for p in autoencoder.parameters())
    assert autoencoder.trainable_count() == total
    rest = sum(p.numel() for name, p in autoencoder.module.named_parameters() if name in names)
    assert autoencoder.trainable_count(names) == total - rest < total


@pytest.mark.parametrize("class_name", EXPECTED)
@torch.no_grad()
def test_frozen_up_blocks_are_the_ones_that_run_last(small, class_name):
    autoencoder = small(class_name)
    order, handles = [], []
    for i, block in enumerate(autoencoder.module.decoder.up_blocks):
        if list(block.parameters()):
            handles.append(block.register_forward_hook(lambda *_, i=i: order.append(i)))
    autoencoder.decode(noise(1, autoencoder.latent_channels, 2, 2))
    for handle in handles:
        handle.remove()
    frozen = {name.split(".")[2] for name in autoencoder.frozen_for_finetuning(1) if ".up_blocks." in name}
    assert frozen == {str(order[-1])}


def test_freezing_says_what_is_impossible(small):
    autoencoder = small("AutoencoderDC")
    with pytest.raises(ValueError, match="2 up blocks, 3 of them"):
        autoencoder.frozen_for_finetuning(up_blocks=3)
    with pytest.raises(ValueError, match="-1 of them"):
        autoencoder.frozen_for_finetuning(up_blocks=-1)
    with pytest.raises(ValueError, match=r"no parameter 'decoder\.conv_ou'"):
        autoencoder.trainable_count(["decoder.conv_ou"])
