"""Every supported class behind the face, with shrunken models that are saved to and loaded from a folder."""

import importlib.util

import diffusers
import pytest
import torch
from diffusers.models import autoencoders as of_diffusers

from diffusab_core.autoencoders import Autoencoder, AutoencoderError, load
from diffusab_core.autoencoders.families import FAMILIES, OF_OTHER_THINGS, check_trainable, family_of

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

BLOCKS = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
HUNYUAN = {"block_out_channels": (8,) * 4, "layers_per_block": 1, "latent_channels": 4, "scaling_factor": 0.5}
HUNYUAN |= {"spatial_compression_ratio": 8, "temporal_compression_ratio": 4}
BY_CHANNEL = {"latents_mean": [1.0, 2.0, 3.0], "latents_std": [0.5, 2.0, 4.0]}

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
    "AsymmetricAutoencoderKL": {
        **BLOCKS,
        "down_block_out_channels": (8, 8, 8),
        "up_block_out_channels": (8, 16, 16),
        "latent_channels": 5,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    },
    "AutoencoderKLAllegro": {
        "down_block_types": ("AllegroDownBlock3D",) * 3,
        "up_block_types": ("AllegroUpBlock3D",) * 3,
        "block_out_channels": (8, 8, 8),
        "temporal_downsample_blocks": (True, True, False),
        "temporal_upsample_blocks": (False, True, True),
        "latent_channels": 5,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": 16,
        "scaling_factor": 0.5,
    },
    "AutoencoderKLFlux2": {**BLOCKS, "block_out_channels": (8, 8, 8), "latent_channels": 5, "norm_num_groups": 4},
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 1,
        "spatial_compression_ratio": 4,
        "sample_size": 32,
        "scaling_factor": 0.5,
    },
    "AutoencoderKLHunyuanImageRefiner": HUNYUAN,
    "AutoencoderKLHunyuanVideo15": HUNYUAN,
    "AutoencoderKLHunyuanVideo": HUNYUAN | {"norm_num_groups": 4},
    "AutoencoderKLKVAE": {
        "channels": 32,
        "num_enc_blocks": 1,
        "num_dec_blocks": 1,
        "z_channels": 5,
        "ch_mult": (1, 1, 1),
    },
    "AutoencoderKLKVAEVideo": {
        "ch": 32,
        "ch_mult": (1, 1, 1),
        "num_res_blocks": 1,
        "z_channels": 5,
        "temporal_compress_times": 2,
    },
    "AutoencoderKLLTX2Video": {
        "latent_channels": 6,
        "block_out_channels": (8,) * 4,
        "decoder_block_out_channels": (8, 16, 32),
        "layers_per_block": (1,) * 5,
        "decoder_layers_per_block": (1,) * 4,
    },
    "AutoencoderKLMagvit": {
        "block_out_channels": (8,) * 4,
        "layers_per_block": 1,
        "latent_channels": 5,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    },
    "AutoencoderKLMiniMaxH3": {
        "latent_channels": 3,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "spatial_downsample_factors": (2, 2),
        "temporal_downsample_factors": (2, 2),
        "norm_num_groups": 4,
        "decoder_num_layers": 2,
        "decoder_num_attention_heads": 2,
        "decoder_attention_head_dim": 32,
        **BY_CHANNEL,
    },
    "AutoencoderKLMochi": {
        "encoder_block_out_channels": (32,) * 4,
        "decoder_block_out_channels": (32,) * 4,
        "latent_channels": 3,
        "layers_per_block": (1,) * 5,
        "add_attention_block": (False,) * 5,
        **BY_CHANNEL,
    },
    "AutoencoderKLQwenImage": {"base_dim": 4, "z_dim": 3, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1, **BY_CHANNEL},
    "AutoencoderKLQwenImage21": {
        "base_dim": 4,
        "decoder_base_dim": 8,
        "z_dim": 3,
        "dim_mult": [1, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True],
        "scale_factor_spatial": 4,
        **BY_CHANNEL,
    },
    "AutoencoderKLTemporalDecoder": {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "block_out_channels": (32, 32, 32),
        "layers_per_block": 2,
        "latent_channels": 5,
        "scaling_factor": 0.5,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8),
        "num_encoder_blocks": (1, 1, 1),
        "num_decoder_blocks": (1, 1, 1),
        "latent_channels": 5,
    },
    "AutoencoderVidTok": {"ch": 8, "ch_mult": [1, 1, 1, 1], "z_channels": 5, "num_res_blocks": 1},
    "ConsistencyDecoderVAE": {
        "encoder_block_out_channels": (8, 8, 8),
        "encoder_down_block_types": ("DownEncoderBlock2D",) * 3,
        "encoder_norm_num_groups": 4,
        "encoder_layers_per_block": 1,
        "decoder_block_out_channels": (8, 8),
        "decoder_down_block_types": ("ResnetDownsampleBlock2D",) * 2,
        "decoder_up_block_types": ("ResnetUpsampleBlock2D",) * 2,
        "decoder_norm_num_groups": 4,
        "decoder_layers_per_block": 1,
        "scaling_factor": 0.5,
    },
    "Kandinsky6SRVAE": {
        "latent_channels": 4,
        "encoder_block_out_channels": (32,) * 4,
        "decoder_block_out_channels": (32,) * 4,
        "layers_per_block": 1,
        "scaling_factor": 0.5,
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
    "AsymmetricAutoencoderKL": (4, None, None, 5),
    "AutoencoderKLAllegro": (4, 4, 8, 5),
    "AutoencoderKLFlux2": (4, None, None, 5),
    "AutoencoderKLHunyuanImage": (4, None, None, 4),
    "AutoencoderKLHunyuanImageRefiner": (8, None, None, 4),
    "AutoencoderKLHunyuanVideo": (8, 4, 5, 4),
    "AutoencoderKLHunyuanVideo15": (8, 4, 5, 4),
    "AutoencoderKLKVAE": (4, None, None, 5),
    "AutoencoderKLKVAEVideo": (4, 2, 5, 5),
    "AutoencoderKLLTX2Video": (32, 8, 9, 6),
    "AutoencoderKLMagvit": (8, 4, 5, 5),
    "AutoencoderKLMiniMaxH3": (4, None, None, 3),
    "AutoencoderKLMochi": (8, 6, 7, 3),
    "AutoencoderKLQwenImage": (8, 4, 5, 3),
    "AutoencoderKLQwenImage21": (4, None, None, 3),
    "AutoencoderKLTemporalDecoder": (4, None, None, 5),
    "AutoencoderTiny": (4, None, None, 5),
    "AutoencoderVidTok": (8, 4, 5, 5),
    "ConsistencyDecoderVAE": (4, None, None, 4),
    "Kandinsky6SRVAE": (8, 4, 5, 4),
}
VIDEO = [name for name, (_, temporal, _, _) in EXPECTED.items() if temporal]
STILL = [name for name in EXPECTED if name not in VIDEO]
DETERMINISTIC = ("VQModel", "AutoencoderDC", "AutoencoderKLCosmos", "AutoencoderKLKVAEVideo", "AutoencoderTiny")
NO_BLOCKS = ("AutoencoderTiny", "ConsistencyDecoderVAE")


def test_every_family_is_tested():
    # AutoencoderRAE needs a package that the environment has not, see below.
    assert set(SMALL) == set(EXPECTED) == set(FAMILIES) - {"AutoencoderRAE"}


def test_every_class_of_diffusers_is_known():
    classes = [(name, kind) for name, kind in vars(of_diffusers).items() if isinstance(kind, type)]
    both = {name for name, kind in classes if hasattr(kind, "encode") or hasattr(kind, "decode")}
    assert len(both) > 35
    assert both == set(FAMILIES) | set(OF_OTHER_THINGS)
    with pytest.raises(AutoencoderError, match="AutoencoderOobleck is an autoencoder of sound"):
        family_of("AutoencoderOobleck", "somewhere")
    if importlib.util.find_spec("transformers") is None:
        with pytest.raises(AutoencoderError, match="AutoencoderRAE needs the package transformers: pip install"):
            family_of("AutoencoderRAE", "somewhere")


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
    t = 1 + (frames - 1) // temporal if class_name != "AutoencoderKLAllegro" else frames // temporal
    assert autoencoder.latent_shape(2 * f, 2 * f, frames) == (channels, t, 2, 2)
    clip = noise(2, 3, frames, 2 * f, 2 * f)
    z = autoencoder.encode(clip).mean
    assert z.shape == (2, channels, t, 2, 2)
    assert autoencoder.decode(z).shape == clip.shape
    if class_name == "AutoencoderKLAllegro":
        still = clip[:, :, :1].expand(-1, -1, temporal, -1, -1)
        z = autoencoder.encode(still).mean
        torch.testing.assert_close(z.squeeze(2), autoencoder.encode(clip[:, :, 0]).mean)
        torch.testing.assert_close(autoencoder.decode(z)[:, :, 0], autoencoder.decode(z.squeeze(2)))
        return

    z = autoencoder.encode(clip[:, :, :1]).mean  # a clip of one frame keeps its time axis
    assert z.shape == (2, channels, 1, 2, 2)
    torch.testing.assert_close(z.squeeze(2), autoencoder.encode(clip[:, :, 0]).mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(autoencoder.decode(z).squeeze(2), autoencoder.decode(z.squeeze(2)))


@pytest.mark.parametrize("class_name", VIDEO)
def test_clip_lengths_that_do_not_fit_are_named(small, class_name):
    f, temporal, _, _ = EXPECTED[class_name]
    autoencoder = small(class_name)
    step, rest = autoencoder.clip_step, 0 if class_name == "AutoencoderKLAllegro" else 1
    assert step == (8 if class_name == "AutoencoderKLCogVideoX" else temporal)
    for frames in (step - 1 + rest, 2 * step - 1 + rest):
        with pytest.raises(ValueError, match=rf"{step}k( \+ 1)? frames, got {frames}; cut to"):
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
    with pytest.raises(ValueError, match=r"images \(N, 3, H, W\), got shape \(1, 3, 9, 16, 16\)"):
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
    unused = {"VQModel": ("quantize.",), "AsymmetricAutoencoderKL": ("decoder.condition_encoder.",)}
    unused["ConsistencyDecoderVAE"] = ("decoder_unet.class_embedding.",)
    unused["AutoencoderKLMiniMaxH3"] = ("decoder.register_tokens",)
    if class_name == "AutoencoderKLQwenImage21":  # an image has one frame, and these mix several
        without = {name for name in without if ".time_conv." not in name}
    assert not {name for name in without if not name.startswith(unused.get(class_name, ("nothing",)))}
    autoencoder.module.zero_grad()


# ---------------------------------------------------------------------------------------------------------------------
# What is particular to one class


@torch.no_grad()
def test_face_agrees_with_the_classes_where_they_do_not_clamp(small):
    # Those left out are used in a way of their own, and have tests of their own.
    own = ("AutoencoderKLAllegro", "AutoencoderVidTok", "AutoencoderKLMiniMaxH3", "AutoencoderKLQwenImage21")
    own += ("ConsistencyDecoderVAE", "AutoencoderKLTemporalDecoder", "AutoencoderKLHunyuanImageRefiner")
    for class_name, (f, _, _, _) in EXPECTED.items():
        if class_name in own:
            continue
        autoencoder, x = small(class_name), noise(1, 3, 2 * f, 2 * f)
        x5 = x.unsqueeze(2) if class_name in VIDEO else x
        output = autoencoder.module.encode(x5)
        if class_name in ("VQModel", "AutoencoderTiny"):
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
def test_allegro_agrees_with_one_tile_of_its_class(small):
    autoencoder, clip = small("AutoencoderKLAllegro"), noise(1, 3, 24, 16, 16)
    module = autoencoder.module
    module.enable_tiling()
    posterior = module.encode(clip).latent_dist
    torch.testing.assert_close(autoencoder.encode(clip).mean, posterior.mean)
    torch.testing.assert_close(autoencoder.encode(clip).std, posterior.std)
    torch.testing.assert_close(autoencoder.decode(posterior.mean), module.decode(posterior.mean).sample.transpose(1, 2))
    module.disable_tiling()


@torch.no_grad()
def test_vidtok_agrees_with_its_forward_and_quantises_when_decoding(small):
    autoencoder, clip = small("AutoencoderVidTok"), noise(1, 3, 5, 16, 16)
    expected = autoencoder.module(clip, sample_posterior=False).sample
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(clip).mean), expected)
    torch.manual_seed(0)
    settings = SMALL["AutoencoderVidTok"] | {"regularizer": "fsq", "z_channels": 2, "codebook_size": 64}
    module = diffusers.AutoencoderVidTok(**settings, double_z=False).eval()
    quantising = Autoencoder("fsq", module)
    posterior = quantising.encode(clip)
    assert not posterior.std.any()
    torch.testing.assert_close(quantising.decode(posterior.mean), module(clip).sample)
    assert not torch.allclose(module.regularization(posterior.mean)[0], posterior.mean)


@torch.no_grad()
def test_classes_that_are_used_for_images_alone(small):
    x, opaque = noise(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
    qwen, minimax, svd = (small(f"AutoencoderKL{name}") for name in ("QwenImage21", "MiniMaxH3", "TemporalDecoder"))
    z = qwen.module.encode(torch.cat([x, opaque], 1).unsqueeze(2)).latent_dist.mean
    assert torch.equal(qwen.encode(x).mean, z.squeeze(2))
    expected = qwen.module.decode(z).sample.squeeze(2)
    assert expected.shape == (2, 4, 8, 8)
    torch.testing.assert_close(qwen.decode(z.squeeze(2)).clamp(-1, 1), expected[:, :3])
    z = minimax.module.encode(x.unsqueeze(2)).latent_dist.mean
    assert torch.equal(minimax.encode(x).mean, z.squeeze(2))
    # Four frames, of which its decode() takes three for padding.
    torch.testing.assert_close(minimax.decode(z.squeeze(2)), minimax.module._decode_clip(z)[:, :, 3])
    refiner, wide = small("AutoencoderKLHunyuanImageRefiner"), noise(2, 3, 16, 16)
    z = refiner.module.encode(wide.unsqueeze(2)).latent_dist.mean
    assert torch.equal(refiner.encode(wide).mean, z.squeeze(2))
    assert torch.equal(refiner.decode(z.squeeze(2)), refiner.module.decode(z).sample.squeeze(2))
    z = svd.encode(x).mean
    one_by_one = torch.cat([svd.module.decode(z[i : i + 1], num_frames=1).sample for i in range(2)])
    torch.testing.assert_close(svd.decode(z), one_by_one)


@torch.no_grad()
def test_a_decoder_that_samples_gives_the_same_twice_and_is_not_trained(small):
    autoencoder = small("ConsistencyDecoderVAE")
    z = autoencoder.encode(noise(1, 3, 8, 8)).mean
    assert torch.equal(autoencoder.decode(z), autoencoder.decode(z))
    with pytest.raises(AutoencoderError, match="cannot be fine-tuned: its decoder is a consistency model"):
        check_trainable(autoencoder.family, autoencoder.name, decoder_only=True)


@torch.no_grad()
def test_flux2_normalises_patches(small):
    module = small("AutoencoderKLFlux2").module
    module.bn.running_mean.copy_(torch.arange(20.0))
    module.bn.running_var.copy_(torch.arange(1.0, 21.0))
    z = noise(2, 5, 4, 6)
    patches = z.view(2, 5, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 20, 2, 3)  # as its pipeline does
    patches = torch.nn.functional.batch_norm(patches, module.bn.running_mean, module.bn.running_var, eps=1e-4)
    expected = patches.reshape(2, 5, 2, 2, 2, 3).permute(0, 1, 4, 2, 5, 3).reshape(2, 5, 4, 6)
    torch.testing.assert_close(small("AutoencoderKLFlux2").normalise(z), expected)
    odd = small("AutoencoderKLFlux2").normalise(z[..., :3, :5])
    torch.testing.assert_close(odd, expected[..., :3, :5])
    module.bn.reset_running_stats()


RAE = {"encoder_hidden_size": 64, "encoder_num_hidden_layers": 1, "decoder_hidden_size": 32}
RAE |= {"decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32}
RAE |= {"encoder_input_size": 28, "patch_size": 16, "latents_mean": [1.0], "latents_std": [2.0]}


@torch.no_grad()
def test_rae_takes_one_size_and_is_normalised_within(tmp_path):
    pytest.importorskip("transformers", reason="AutoencoderRAE needs the package transformers")
    diffusers.AutoencoderRAE(**RAE).save_pretrained(tmp_path)
    autoencoder, x = load(tmp_path), noise(2, 3, 32, 32)
    assert (autoencoder.compression, autoencoder.latent_shape(32, 32)) == (16, (64, 2, 2))
    z = autoencoder.encode(x).mean
    torch.testing.assert_close(z, autoencoder.module.encode((x + 1) / 2).latent)
    torch.testing.assert_close(autoencoder.decode(z), autoencoder.module.decode(z).sample * 2 - 1)
    assert torch.equal(autoencoder.normalise(z), z)
    with pytest.raises(AutoencoderError, match="images of 32 x 32 only, got 64 x 64"):
        autoencoder.encode(noise(1, 3, 64, 64))
    with pytest.raises(AutoencoderError, match="--decoder-only alone: its encoder is a frozen"):
        check_trainable(autoencoder.family, autoencoder.name, decoder_only=False)
    check_trainable(autoencoder.family, autoencoder.name, decoder_only=True)
    assert any(name.startswith("decoder.decoder_pred") for name in autoencoder.frozen_for_finetuning())
    assert autoencoder.frozen_for_finetuning(1)


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
    names = autoencoder.frozen_for_finetuning()
    ends = ("norm_out", "conv_norm_out", "conv_out", "proj_out", "time_conv_out", "temp_conv_out", "layers")
    assert {name.split(".")[1] for name in names} <= set(ends)
    last = {"AutoencoderTiny": "layers", "AutoencoderKLMochi": "proj_out", "AutoencoderKLMiniMaxH3": "proj_out"}
    assert any(name.split(".")[1] == last.get(class_name, "conv_out") for name in names)
    without_norm = ("AutoencoderKLLTXVideo", "AutoencoderKLLTX2Video", "AutoencoderKLMochi", "AutoencoderTiny")
    assert any("norm_out" in name for name in names) == (class_name not in without_norm)
    if class_name in NO_BLOCKS:
        with pytest.raises(AutoencoderError, match="has 0 up blocks"):
            autoencoder.frozen_for_finetuning(up_blocks=1)
        return

    called = autoencoder.family.up_blocks[0]
    blocks = len(getattr(autoencoder.module.decoder, called))
    last = 0 if autoencoder.family.up_blocks_reversed else blocks - 1
    last = 1 if class_name == "AutoencoderDC" else last  # from last to first, and its block 0 is empty
    more = set(autoencoder.frozen_for_finetuning(up_blocks=1)) - set(names)
    assert more
    starts = tuple(f"decoder.{name}.{last}." for name in autoencoder.family.up_blocks)
    assert all(name.startswith(starts) for name in more)
    total = sum(p.numel() for p in autoencoder.parameters())
    assert autoencoder.trainable_count() == total
    rest = sum(p.numel() for name, p in autoencoder.module.named_parameters() if name in names)
    assert autoencoder.trainable_count(names) == total - rest < total


@pytest.mark.parametrize("class_name", [name for name in EXPECTED if name not in NO_BLOCKS])
@torch.no_grad()
def test_frozen_up_blocks_are_the_ones_that_run_last(small, class_name):
    autoencoder = small(class_name)
    order, handles = [], []
    called = autoencoder.family.up_blocks[0]
    for i, block in enumerate(getattr(autoencoder.module.decoder, called)):
        if list(block.parameters()):
            inner = next(layer for layer in block.modules() if list(layer.parameters(recurse=False)))
            handles.append(inner.register_forward_hook(lambda *_, i=i: order.append(i)))
    autoencoder.decode(noise(1, autoencoder.latent_channels, 2, 2))
    for handle in handles:
        handle.remove()
    frozen = {name.split(".")[2] for name in autoencoder.frozen_for_finetuning(1) if f".{called}." in name}
    assert frozen == {str(order[-1])}


def test_freezing_says_what_is_impossible(small):
    autoencoder = small("AutoencoderDC")
    with pytest.raises(ValueError, match="2 up blocks, 3 of them"):
        autoencoder.frozen_for_finetuning(up_blocks=3)
    with pytest.raises(ValueError, match="-1 of them"):
        autoencoder.frozen_for_finetuning(up_blocks=-1)
    with pytest.raises(ValueError, match=r"no parameter 'decoder\.conv_ou'"):
        autoencoder.trainable_count(["decoder.conv_ou"])
