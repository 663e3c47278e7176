"""DiT: sizes against the published ones, its parts against plain implementations, and what it is invariant to."""

import json
import math

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import load_file, save_file
from torch import nn

from diffusab_core import denoisers, flow
from diffusab_core.denoisers import DenoiserError, DiT, SelfConditioned
from diffusab_core.denoisers.parts import (
    Attention,
    grid,
    patchify,
    rotary_angles,
    rotate,
    rotation,
    sinusoids,
    unpatchify,
)

CHANNELS, SIDE, CLASSES = 3, 8, 5


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tiny(size=(SIDE, SIDE), classes=CLASSES, random=True, **options):
    """A small model; with ``random`` all weights are drawn, those that start at zero too."""
    torch.manual_seed(0)
    options = {"patch": 2, "width": 32, "depth": 2, "heads": 2} | options
    model = DiT(CHANNELS, size, classes, **options)
    if random:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def batch(n=3, size=(SIDE, SIDE), seed=0):
    t = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    return normal(n, CHANNELS, *size, seed=seed), t, torch.arange(n) % CLASSES


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_paper(name, channels, classes, side=32):
    with torch.device("meta"):
        return denoisers.build(name, in_channels=channels, input_size=side, num_classes=classes)


# ---------------------------------------------------------------------------------------------------------------------
# Sizes


def test_xl_2_has_the_published_parameters_and_the_hint():
    model = on_paper("DiT-XL/2", 4, 1000)
    added = {name: p.numel() for name, p in model.named_parameters() if name.startswith("hint")}
    assert added == {"hint.weight": 1152**2}
    published = parameters(model) - 1152**2
    assert published == 674_816_272  # 674.82M
    assert published + 16 * 1152 + 16 == 674_834_720  # 674.83M with a learned variance, which doubles the outputs


def test_xl_1_of_32_channels_has_the_published_parameters():
    published = parameters(on_paper("DiT-XL/1", 32, 1000)) - 1152**2 + 32 * 1152 + 32  # published with a variance
    assert round(published / 1e6, 2) == 674.89


@pytest.mark.parametrize(("size", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_sizes_of_peebles_and_xie(size, millions):
    model = on_paper(f"DiT-{size}/2", 4, 1000)
    with_variance_without_hint = parameters(model) - model.width**2 + 16 * model.width + 16
    assert round(with_variance_without_hint / 1e6) == pytest.approx(millions, abs=0.5)


@pytest.mark.parametrize("patch", denoisers.PATCHES)
@pytest.mark.parametrize("size", denoisers.DIT_SIZES)
def test_parameters_by_formula(size, patch):
    d, depth, _ = denoisers.DIT_SIZES[size]
    for channels, classes in ((4, 1000), (16, 0)):
        pixels = patch**2 * channels
        embeddings = pixels * d + d + (256 * d + d) + (d * d + d) + (classes + 1 if classes else 0) * d
        blocks = depth * (18 * d * d + 15 * d)  # attention 4, MLP 8, modulation 6
        out = 2 * d * d + 2 * d + d * pixels + pixels
        assert parameters(on_paper(f"DiT-{size}/{patch}", channels, classes)) == embeddings + blocks + out + d * d


def test_shape_of_the_published_sizes():
    sizes = {name: denoisers.DIT_SIZES[name] for name in ("S", "B", "L", "XL")}
    assert sizes == {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
    model = on_paper("DiT-L/4", 16, 0)
    assert len(model.blocks) == 24
    assert {block.attention.heads for block in model.blocks} == {16}


# ---------------------------------------------------------------------------------------------------------------------
# Start


@pytest.mark.parametrize("size", [(SIDE, SIDE), (2, SIDE, SIDE)])
def test_output_is_zero_at_the_start_and_not_after_a_step(size):
    model = tiny(size, random=False).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, t, y = batch(size=size)
    hint = normal(3, math.prod(grid(size, 2)), 32)
    for labels in (y, None):
        for previous in (hint, None):
            assert torch.equal(model(x, t, labels, hint=previous), torch.zeros_like(x))
    (model(x, t, y, hint=hint) - x).square().mean().backward()
    optimiser.step()
    assert (model(x, t, y) != 0).float().mean() > 0.9


def test_every_parameter_but_those_of_unused_inputs_gets_a_gradient():
    model = tiny()
    x, t, y = batch()
    model(x, t, y, hint=normal(3, 16, 32)).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


# ---------------------------------------------------------------------------------------------------------------------
# Patches


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("size", [(8, 12), (3, 8, 12)])
def test_unpatchify_undoes_patchify(size, patch):
    x = normal(2, 5, *size)
    tokens = patchify(x, patch)
    assert tokens.shape == (2, math.prod(grid(size, patch)), patch**2 * 5)
    assert torch.equal(unpatchify(tokens, patch, size), x)


def test_patches_are_cut_row_by_row():
    x = normal(1, 2, 4, 6)
    expected = [
        torch.stack([x[0, c, row + i, column + j] for i in range(2) for j in range(2) for c in range(2)])
        for row in range(0, 4, 2)
        for column in range(0, 6, 2)
    ]
    assert torch.equal(patchify(x, 2)[0], torch.stack(expected))


def test_a_clip_is_its_frames_one_after_the_other():
    clip = normal(2, 5, 3, 4, 8)
    assert torch.equal(patchify(clip, 2), torch.cat([patchify(clip[:, :, k], 2) for k in range(3)], dim=1))


# ---------------------------------------------------------------------------------------------------------------------
# Positions


@pytest.mark.parametrize(
    ("tokens", "width", "shares"),
    [((5, 7), 16, (4, 4)), ((2, 3), 10, (2, 2)), ((3, 4, 5), 24, (4, 4, 4)), ((2, 3, 4), 64, (12, 10, 10))],
)
def test_rotations_are_complex_exponentials(tokens, width, shares):
    pairs = width // 2
    owners = [(axis, j, share) for axis, share in enumerate(shares) for j in range(share)]
    x = normal(2, 3, math.prod(tokens), width, dtype=torch.float64)
    angles = rotary_angles(tokens, width)
    turned = rotate(x, angles.cos(), angles.sin())
    for index, position in enumerate(torch.cartesian_prod(*(torch.arange(n) for n in tokens)).tolist()):
        for pair in range(pairs):
            angle = 0.0  # of a pair that no axis has
            if pair < len(owners):
                axis, j, share = owners[pair]
                angle = position[axis] * 10_000 ** (-j / share)
            z = torch.complex(x[:, :, index, pair], x[:, :, index, pair + pairs]) * complex(
                math.cos(angle), math.sin(angle)
            )
            torch.testing.assert_close(turned[:, :, index, pair], z.real)
            torch.testing.assert_close(turned[:, :, index, pair + pairs], z.imag)


@pytest.mark.parametrize("width", [32, 64, 72, 128])
def test_positions_in_a_clip_are_those_of_wan(width):
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    theirs = WanRotaryPosEmbed(width, patch_size=(1, 2, 2), max_seq_len=16)
    cos, sin = theirs(torch.zeros(1, 16, 5, 6, 8))  # (1, L, 1, width), each pair of channels twice
    angles = rotary_angles((5, 3, 4), width)
    torch.testing.assert_close(angles.cos().float(), cos[0, :, 0, ::2].float())
    torch.testing.assert_close(angles.sin().float(), sin[0, :, 0, ::2].float())


@pytest.mark.parametrize(("tokens", "width"), [((16, 16), 64), ((5, 7), 32), ((2, 3), 10)])
def test_positions_in_a_picture_are_what_they_were_to_the_last_bit(tokens, width):
    """Recorded denoisers were trained with this expression."""
    pairs, real = width // 2, {"dtype": torch.float64}
    frequencies = 10_000.0 ** (-torch.arange(pairs // 2, **real) / (pairs // 2))
    places = torch.cartesian_prod(*(torch.arange(n, **real) for n in tokens)).reshape(-1, 2)
    angles = (places[:, :, None] * frequencies).flatten(1)
    assert torch.equal(rotary_angles(tokens, width), nn.functional.pad(angles, (0, pairs - angles.shape[1])))


@pytest.mark.parametrize(("tokens", "width"), [((6, 5), 16), ((3, 4, 5), 24)])
def test_scores_depend_on_differences_of_positions_alone(tokens, width):
    q, k = normal(width, seed=1, dtype=torch.float64), normal(width, seed=2, dtype=torch.float64)
    angles = rotary_angles(tokens, width)
    count = len(angles)
    turned = [rotate(v.expand(1, 1, count, width), angles.cos(), angles.sin())[0, 0] for v in (q, k)]
    scores = turned[0] @ turned[1].T
    positions = torch.cartesian_prod(*(torch.arange(n) for n in tokens)).tolist()
    by_difference = {}
    for a in range(count):
        for b in range(count):
            difference = tuple(p - r for p, r in zip(positions[a], positions[b], strict=True))
            by_difference.setdefault(difference, []).append(scores[a, b].item())
    for values in by_difference.values():
        assert values == pytest.approx([values[0]] * len(values), abs=1e-12)
    assert len({round(values[0], 9) for values in by_difference.values()}) == len(by_difference)
    assert by_difference[(0,) * len(tokens)][0] == pytest.approx((q @ k).item())


def test_rotation_keeps_norms_and_the_first_token():
    x = normal(1, 2, 30, 16, dtype=torch.float64)
    angles = rotary_angles((5, 6), 16)
    turned = rotate(x, angles.cos(), angles.sin())
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert (turned[:, :, 1:] != x[:, :, 1:]).any(-1).all()


def test_rotations_kept_from_another_device_or_mode_serve_in_training():
    rotation.cache_clear()
    model = tiny()
    x, t, y = batch()
    with torch.device("meta"):
        on_meta = tiny(random=False)
        assert on_meta(x.to("meta"), t.to("meta"), y.to("meta")).device.type == "meta"
    with torch.inference_mode():
        expected = model(x, t, y)
    v = model(x, t, y)
    assert torch.equal(v, expected)
    v.square().mean().backward()  # tensors of inference mode could not be kept for this
    assert model.embed.weight.grad.any()


def test_blocks_see_positions_by_their_rotations_alone():
    block = tiny().blocks[0]
    x, c = normal(2, 12, 32, seed=1), normal(2, 32, seed=2)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    angles = rotary_angles((3, 4), 16).float()
    still = torch.ones_like(angles), torch.zeros_like(angles)
    torch.testing.assert_close(block(x[:, order], c, still), block(x, c, still)[:, order], rtol=1e-4, atol=1e-5)
    turned = angles.cos(), angles.sin()
    assert (block(x[:, order], c, turned) - block(x, c, turned)[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (12, 8)])
def test_another_resolution_runs(size):
    model = tiny()
    x, t, y = batch(size=size)
    v, hint = model(x, t, y, with_hint=True)
    assert v.shape == x.shape
    assert hint.shape == (3, size[0] * size[1] // 4, 32)
    fresh = tiny(size)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(x, t, y), v)  # the size that it was built for is no part of what it computes


def test_a_clip_of_another_length_runs():
    x, t, y = batch(size=(5, 4, 8))
    assert tiny((3, SIDE, SIDE))(x, t, y).shape == x.shape


def test_all_frames_attend_to_all_and_time_has_a_direction():
    model = tiny((3, 4, 4))
    x, t, y = batch(size=(3, 4, 4))
    v = model(x, t, y)
    for changed in range(3):
        other = x.clone()
        other[:, :, changed] += 1
        assert ((model(other, t, y) - v).abs().amax((0, 1, 3, 4)) > 1e-4).all(), changed  # one sequence of all frames
    assert (model(x.flip(2), t, y).flip(2) - v).abs().max() > 1e-3  # by the positions alone: weights know no frame


def test_a_video_dit_has_the_parameters_of_its_picture_twin():
    for name, channels in (("DiT-B/2", 16), ("DiT-XL/2", 16), ("DiT-B/1", 128)):
        picture = on_paper(name, channels, 700)
        with torch.device("meta"):
            clip = denoisers.build(name, in_channels=channels, input_size=(5, 32, 32), num_classes=700)
        assert {k: v.shape for k, v in clip.state_dict().items()} == {
            k: v.shape for k, v in picture.state_dict().items()
        }


# ---------------------------------------------------------------------------------------------------------------------
# Time


def test_sinusoids_are_those_of_diffusers():
    t = torch.tensor([0.0, 0.1234, 0.5, 1.0])
    expected = get_timestep_embedding(1000 * t, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoids(1000 * t, 256), expected)
    model = tiny()
    torch.testing.assert_close(model.time(t), model.time.mlp(expected))


# ---------------------------------------------------------------------------------------------------------------------
# The whole model


def plain_norm(x):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-6).sqrt()


def plain_forward(model, x, t, y, hint):
    """A model of one block and patch 2 on square latents, written out: no fused kernel, no batched heads."""
    w = {name: value.double() for name, value in model.state_dict().items()}

    def linear(v, name):
        return v @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    out = []
    for item in range(len(x)):
        rows = columns = x.shape[-1] // 2
        patches = [x[item, :, 2 * r : 2 * r + 2, 2 * k : 2 * k + 2] for r in range(rows) for k in range(columns)]
        tokens = linear(torch.stack([patch.permute(1, 2, 0).flatten() for patch in patches]), "embed")
        tokens = tokens + linear(hint[item], "hint")
        frequencies = torch.tensor([10_000 ** (-j / 128) for j in range(128)], dtype=torch.float64) * 1000 * t[item]
        c = linear(torch.cat([frequencies.cos(), frequencies.sin()]), "time.mlp.0")
        c = linear(c * torch.sigmoid(c), "time.mlp.2") + w["label.weight"][y[item]]
        silu = c * torch.sigmoid(c)
        b1, s1, g1, b2, s2, g2 = linear(silu, "blocks.0.modulation.1").chunk(6)

        h = plain_norm(tokens) * (1 + s1) + b1
        q, k, v = linear(h, "blocks.0.attention.qkv").chunk(3, dim=-1)
        angles = rotary_angles((rows, columns), 16)
        heads = []
        for head in range(2):
            part = slice(16 * head, 16 * (head + 1))
            qh, kh = (
                torch.complex(u[:, part][:, :8], u[:, part][:, 8:]) * torch.exp(1j * angles) for u in (q, k)
            )  # fmt: skip
            scores = (qh @ kh.conj().T).real / 4  # the real part of q conj(k) is the scalar product; sqrt(16)
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
            heads.append(weights @ v[:, part])
        tokens = tokens + g1 * linear(torch.cat(heads, dim=-1), "blocks.0.attention.proj")
        h = linear(plain_norm(tokens) * (1 + s2) + b2, "blocks.0.mlp.0")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        tokens = tokens + g2 * linear(h, "blocks.0.mlp.2")

        shift, scale = linear(silu, "modulation.1").chunk(2)
        final = linear(plain_norm(tokens) * (1 + scale) + shift, "out").reshape(rows, columns, 2, 2, CHANNELS)
        out.append(final.permute(4, 0, 2, 1, 3).reshape(x.shape[1:]))
    return torch.stack(out)


def test_forward_against_a_plain_implementation():
    model = tiny(depth=1)
    x, t, y = batch()
    hint = normal(3, 16, 32, seed=9)
    expected = plain_forward(model, x.double(), t.double(), y, hint.double())
    assert expected.std() > 0.1
    torch.testing.assert_close(model(x, t, y, hint=hint).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.double()(x.double(), t.double(), y, hint=hint.double()), expected, rtol=1e-5,
                               atol=2e-6)  # fmt: skip


def test_samples_of_a_batch_are_independent_of_one_another():
    model = tiny()
    x, t, y = batch(4)
    hint = normal(4, 16, 32, seed=3)
    v = model(x, t, y, hint=hint)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(x[order], t[order], y[order], hint=hint[order]), v[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(x[:1], t[:1], y[:1], hint=hint[:1]), v[:1], rtol=1e-4, atol=1e-5)


def test_time_class_and_input_matter():
    model = tiny()
    x, t, y = batch()
    v = model(x, t, y)
    for other in (model(x + 0.1, t, y), model(x, 1 - t, y), model(x, t, (y + 1) % CLASSES)):
        assert ((other - v).flatten(1).abs().amax(1) > 1e-3).all()


def test_no_class_is_the_last_embedding():
    model = tiny()
    x, t, _ = batch()
    assert torch.equal(model(x, t), model(x, t, torch.full((3,), CLASSES)))
    assert not torch.allclose(model(x, t), model(x, t, torch.zeros(3, dtype=torch.long)))


# ---------------------------------------------------------------------------------------------------------------------
# Self-conditioning


def test_no_hint_is_a_hint_of_zeros():
    model = tiny()
    x, t, y = batch()
    assert torch.equal(model(x, t, y), model(x, t, y, hint=torch.zeros(3, 16, 32)))


def test_a_hint_matters_once_its_layer_is_trained():
    x, t, y = batch()
    for trained, model in ((True, tiny()), (False, tiny())):
        if not trained:
            nn.init.zeros_(model.hint.weight)
        v, hint = model(x, t, y, with_hint=True)
        assert torch.equal(v, model(x, t, y))
        assert torch.equal(v, model(x, t, y, hint=hint)) is not trained


def test_hint_is_the_last_block_s_output():
    model = tiny()
    seen = []
    model.blocks[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    _, hint = model(*batch(), with_hint=True)
    assert hint is seen[0]


def test_self_conditioned_calls_hand_on_the_activations():
    model = tiny()
    x, t, y = batch()
    velocity = SelfConditioned(model)
    first, second = velocity(x, t, y), velocity(x + 1, t, y=y)
    expected, hint = model(x, t, y, with_hint=True)
    assert torch.equal(first, expected)
    assert torch.equal(second, model(x + 1, t, y, hint=hint))
    assert not torch.equal(second, model(x + 1, t, y))


# ---------------------------------------------------------------------------------------------------------------------
# Ways to compute the same


def gradients(model):
    x, t, y = batch()
    v = model(x, t, y, hint=normal(3, 16, 32))
    model.zero_grad()
    v.square().mean().backward()
    return v, {name: p.grad.clone() for name, p in model.named_parameters()}


def test_activation_checkpointing_computes_the_same():
    plain, saving = tiny(), tiny(checkpoint_activations=True)
    calls = []
    saving.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    (v, grads), (other, other_grads) = gradients(plain), gradients(saving)
    assert len(calls) == 2  # once more in the backward pass
    assert torch.equal(v, other)
    for name, grad in grads.items():
        assert torch.equal(grad, other_grads[name]), name


def test_bfloat16_autocast_stays_close():
    model = tiny()
    v, grads = gradients(model)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(*batch(), hint=normal(3, 16, 32))
    assert half.dtype == torch.bfloat16
    assert (half.float() - v).norm() / v.norm() < 0.02
    model.zero_grad()
    half.float().square().mean().backward()
    for name, p in model.named_parameters():
        assert p.grad.dtype == torch.float32
        assert (p.grad - grads[name]).norm() / grads[name].norm() < 0.1, name


def test_compiling_blocks_in_place_keeps_names_and_values():
    model = tiny()
    names, (v, grads) = list(model.state_dict()), gradients(model)
    for block in model.blocks:
        block.compile(backend="eager", fullgraph=True)
    compiled, compiled_grads = gradients(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(compiled, v)
    torch.testing.assert_close(compiled_grads, grads)


# ---------------------------------------------------------------------------------------------------------------------
# On the disk

CONFIG = {"denoiser": "DiT-XXS/2", "in_channels": CHANNELS, "input_size": [SIDE, SIDE], "num_classes": CLASSES}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    model = denoisers.build("DiT-XXS/2", in_channels=CHANNELS, input_size=SIDE, num_classes=CLASSES)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    denoisers.save(tmp_path / "denoiser", model, CONFIG | {"note": "kept"})
    return tmp_path / "denoiser", model


def test_saved_denoisers_come_back(folder):
    path, model = folder
    loaded, config = denoisers.load(path)
    assert config == CONFIG | {"note": "kept"}
    assert not loaded.training
    x, t, y = batch()
    assert torch.equal(loaded(x, t, y), model.eval()(x, t, y))


@pytest.mark.parametrize("file", [denoisers.WEIGHTS_FILE, denoisers.CONFIG_FILE])
def test_a_folder_that_lacks_a_file_is_refused_by_name(folder, file):
    path, _ = folder
    (path / file).unlink()
    with pytest.raises(DenoiserError, match=f"{file} is missing"):
        denoisers.load(path)


def broken_weights(path):
    content = (path / denoisers.WEIGHTS_FILE).read_bytes()
    (path / denoisers.WEIGHTS_FILE).write_bytes(content[: len(content) // 2])


def another_weight(path):
    weights = load_file(path / denoisers.WEIGHTS_FILE)
    weights["stray.weight"] = weights.pop("hint.weight")
    save_file(weights, path / denoisers.WEIGHTS_FILE)


def with_config(**changes):
    def change(path):
        config = {name: value for name, value in (CONFIG | changes).items() if value is not None}
        (path / denoisers.CONFIG_FILE).write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (broken_weights, "denoiser"),
        (another_weight, "hint.weight"),
        (lambda path: (path / denoisers.CONFIG_FILE).write_text('{"denoiser":'), "denoiser"),
        (lambda path: (path / denoisers.CONFIG_FILE).write_bytes(b"\xff\xfe"), "denoiser"),
        (lambda path: (path / denoisers.CONFIG_FILE).write_text("[1]"), "denoiser"),
        (with_config(in_channels=None), "in_channels"),
        (with_config(in_channels="four"), "'str'"),
        (with_config(in_channels=7), "embed.weight"),
        (with_config(denoiser="DiT-XXL/2"), "DiT-XXL/2"),
        (with_config(denoiser="DiT-XXS/4"), "embed.weight"),
        (with_config(input_size=[7, 7]), r"\(7, 7\)"),
        (with_config(input_size=8), "int"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(folder, damage, said):
    path, _ = folder
    damage(path)
    with pytest.raises(DenoiserError, match=said) as caught:
        denoisers.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize("name", ["DiT-S", "DiT-S/3", "DiT-M/2", "dit-S/2", "UViT-B/1", "USiT-S/8", "DiT-S/2x", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(DenoiserError, match=r"names are DiT-SIZE/PATCH.*XL.*UViT.*USiT.*2B.*1, 2, 4") as caught:
        denoisers.build(name, in_channels=4, input_size=8)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("size", [9, (8, 9), (9, 8), (2, 8, 9), (8,), (1, 2, 8, 8), 0, (-2, 8)])
def test_a_size_that_cannot_be_cut_is_refused(size):
    shown = (size, size) if isinstance(size, int) else size
    with pytest.raises(ValueError, match="multiples of the patch 2") as caught:
        denoisers.build("DiT-XXS/2", in_channels=4, input_size=size)
    assert str(shown) in str(caught.value)


def test_impossible_channels_classes_and_heads_are_refused():
    with pytest.raises(ValueError, match="0 channels"):
        denoisers.build("DiT-XXS/1", in_channels=0, input_size=8)
    with pytest.raises(ValueError, match="-1 classes"):
        denoisers.build("DiT-XXS/1", in_channels=4, input_size=8, num_classes=-1)
    with pytest.raises(ValueError, match=r"5 heads.*32"):
        Attention(32, 5)
    with pytest.raises(ValueError, match=r"32 heads.*32"):  # one channel each, of which none can be a pair
        Attention(32, 32)


def test_inputs_that_do_not_fit_are_refused():
    model = tiny()
    x, t, y = batch()
    with pytest.raises(ValueError, match=r"\(N, 3, h, w\), got shape \(3, 4, 8, 8\)"):
        model(torch.zeros(3, 4, 8, 8), t, y)
    with pytest.raises(ValueError, match=r"got shape \(3, 3, 2, 8, 8\)"):
        model(torch.zeros(3, 3, 2, 8, 8), t, y)
    with pytest.raises(ValueError, match=r"\(N, 3, t, h, w\), got shape \(3, 3, 8, 8\)"):
        tiny((2, SIDE, SIDE))(x, t, y)
    with pytest.raises(ValueError, match="7 x 8 do not divide into patches of 2 x 2"):
        model(torch.zeros(3, 3, 7, 8), t, y)


@pytest.mark.parametrize("wrong", [-1, CLASSES + 1, 1000])
def test_a_class_out_of_range_is_refused(wrong):
    x, t, y = batch()
    y[1] = wrong
    with pytest.raises(ValueError, match=f"class {wrong} is out of range.*0 to {CLASSES - 1}"):
        tiny()(x, t, y)


def test_classes_for_a_model_without_any_are_refused():
    model = tiny(classes=0)
    x, t, y = batch()
    assert model(x, t).shape == x.shape
    with pytest.raises(ValueError, match="without classes"):
        model(x, t, y)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_walk_follows_hints_and_guidance(guidance):
    torch.manual_seed(0)
    model = denoisers.DiT(2, 4, 3, patch=2, width=16, depth=2, heads=2).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.2)
    noise, y = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])

    def velocity():
        return flow.guided(denoisers.SelfConditioned(model), denoisers.SelfConditioned(model), guidance)

    states, predictions = flow.walk(velocity(), noise, 4, y=y)
    torch.testing.assert_close(states, flow.sample(velocity(), noise, 4, y=y, trajectory=True))
    without_hints = flow.sample(model, noise, 4, y=y, trajectory=True)
    assert not torch.allclose(states[-1], without_hints[-1], atol=1e-4)  # the hint is part of the velocity
    torch.testing.assert_close(states[3], torch.lerp(predictions[2], states[2], 0.5), atol=1e-5, rtol=1e-4)
