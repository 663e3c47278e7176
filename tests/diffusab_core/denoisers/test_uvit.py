"""U-ViT: sizes against the published ones, the network against a plain implementation, and where its skips go."""

import math

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn

from diffusab_core import denoisers
from diffusab_core.denoisers import SelfConditioned, UViT

CHANNELS, SIDE, CLASSES = 3, 8, 5


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(size=(SIDE, SIDE), classes=CLASSES, prediction="noise", random=True, **options):
    """A small model; with ``random`` all weights are drawn."""
    torch.manual_seed(0)
    options = {"patch": 2, "width": 32, "depth": 4, "heads": 2} | options
    model = UViT(CHANNELS, size, classes, prediction=prediction, **options)
    if random:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.15)
    return model.eval()


def batch(n=3, size=(SIDE, SIDE), seed=0):
    t = torch.randint(1, 1001, (n,), generator=torch.Generator().manual_seed(seed)) / 1000
    return normal(n, CHANNELS, *size, seed=seed), t, torch.arange(n) % CLASSES


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def on_paper(name, channels=32, classes=1000, side=16):
    with torch.device("meta"):
        return denoisers.build(name, in_channels=channels, input_size=side, num_classes=classes)


# ---------------------------------------------------------------------------------------------------------------------
# Sizes


@pytest.mark.parametrize(
    ("name", "millions"),
    [("UViT-S/1", 44.79), ("UViT-H/1", 500.87), ("USiT-H/1", 500.87), ("USiT-2B/1", 1580.40), ("UViT-2B/1", 1580.40)],
)
def test_published_parameters(name, millions):
    assert round(parameters(on_paper(name)) / 1e6, 2) == millions
    assert round(parameters(on_paper(name, side=8)) / 1e6, 2) < millions  # so it is 16 x 16 that was counted


@pytest.mark.parametrize("family", ["UViT", "USiT"])
@pytest.mark.parametrize("size", denoisers.UVIT_SIZES)
def test_parameters_by_formula(family, size):
    d, depth, heads = denoisers.UVIT_SIZES[size]
    for patch, channels, classes in ((1, 32, 1000), (2, 4, 0), (4, 16, 7)):
        pixels, extra = patch**2 * channels, 2 if classes else 1
        embeddings = pixels * d + d + (classes + 1 if classes else 0) * d + ((16 // patch) ** 2 + extra) * d
        blocks = (depth + 1) * (12 * d * d + 10 * d)  # attention 4 d^2 + d, MLP 8 d^2 + 5 d, two norms
        skips = depth // 2 * (2 * d * d + d)
        out = 2 * d + d * pixels + pixels
        model = on_paper(f"{family}-{size}/{patch}", channels, classes)
        assert parameters(model) == embeddings + blocks + skips + out
        assert {block.attention.heads for block in model.blocks} == {heads}


def test_shape_of_the_published_sizes():
    assert {name: size for name, size in denoisers.UVIT_SIZES.items() if name != "XXS"} == {
        "S": (512, 12, 8), "M": (768, 16, 12), "L": (1024, 20, 16), "H": (1152, 28, 16), "2B": (2048, 28, 32),
    }  # fmt: skip
    model = on_paper("UViT-H/1")
    assert [block.skip is not None for block in model.blocks] == [False] * 15 + [True] * 14


@pytest.mark.parametrize(("name", "prediction"), [("UViT-S/1", "noise"), ("USiT-S/1", "velocity")])
def test_families_differ_in_what_they_predict(name, prediction):
    assert denoisers.prediction_of(on_paper(name)) == prediction
    assert denoisers.parse(name)[0].prediction == prediction
    assert denoisers.prediction_of(on_paper("DiT-XXS/1")) == "velocity"


# ---------------------------------------------------------------------------------------------------------------------
# The network


def plain_norm(x, weight, bias):
    mean = x.mean(-1, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def plain_forward(model, x, t, y, scale):
    """A model of patch 2, written out sample by sample and head by head."""
    w = {name: value.double() for name, value in model.state_dict().items()}
    depth, width, heads = len(model.blocks) - 1, model.width, model.heads
    each = width // heads

    def linear(v, name):
        return v @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    out = []
    for item in range(len(x)):
        h, k = (side // 2 for side in x.shape[2:])
        patches = [x[item, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] for r in range(h) for c in range(k)]
        angles = torch.tensor([scale * t[item] * 10_000 ** (-2 * j / width) for j in range(width // 2)]).double()
        tokens = [w["label.weight"][y[item]], torch.cat([angles.cos(), angles.sin()])]
        tokens += [linear(patch.permute(1, 2, 0).flatten(), "embed") for patch in patches]
        tokens = torch.stack(tokens) + w["position"][0]
        kept = {}
        for i in range(depth + 1):
            name = f"blocks.{i}"
            if i > depth // 2:
                tokens = linear(torch.cat([tokens, kept[depth - i]], dim=1), f"{name}.skip")
            q, key, v = linear(
                plain_norm(tokens, w[f"{name}.norm1.weight"], w[f"{name}.norm1.bias"]), f"{name}.attention.qkv"
            ).split(width, dim=1)
            mixed = []
            for head in range(heads):
                part = slice(head * each, (head + 1) * each)
                scores = (q[:, part] @ key[:, part].T / math.sqrt(each)).exp()
                mixed.append(scores / scores.sum(1, keepdim=True) @ v[:, part])
            tokens = tokens + linear(torch.cat(mixed, dim=1), f"{name}.attention.proj")
            inner = linear(plain_norm(tokens, w[f"{name}.norm2.weight"], w[f"{name}.norm2.bias"]), f"{name}.mlp.0")
            inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
            tokens = tokens + linear(inner, f"{name}.mlp.2")
            kept[i] = tokens
        final = linear(plain_norm(tokens[2:], w["norm.weight"], w["norm.bias"]), "out")
        out.append(final.reshape(h, k, 2, 2, CHANNELS).permute(4, 0, 2, 1, 3).reshape(x.shape[1:]))
    return torch.stack(out)


@pytest.mark.parametrize(("prediction", "scale"), [("noise", 1000), ("velocity", 1)])
def test_forward_against_a_plain_implementation(prediction, scale):
    model = tiny((SIDE, 4), prediction=prediction).double()
    x, t, y = batch(size=(SIDE, 4))
    y[2] = CLASSES
    expected = plain_forward(model, x.double(), t.double(), y, scale)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(x.double(), t.double(), y), expected, rtol=1e-4, atol=1e-5)


def test_the_skips_go_to_the_mirror_images():
    model, given, made = tiny(depth=6), {}, {}

    def note(i, inputs, out):
        given[i], made[i] = inputs, out

    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _, inputs, out, i=i: note(i, inputs, out))
    model(*batch())
    for i in range(7):
        assert given[i][0] is made[i - 1] if i else True
        assert given[i][1:] == () if i <= 3 else given[i][1] is made[6 - i]


@pytest.mark.parametrize("i", [0, 1])
def test_a_skip_alone_carries_its_block_to_the_output(i):
    """With all blocks in between cut off, what a block near the input makes arrives through its skip."""
    model = tiny()
    cut = model.blocks[4 - i].skip
    with torch.no_grad():
        cut.weight[:, : model.width] = 0
    (x, t, y), moved = batch(), []
    reference = model(x, t, y)
    handle = model.blocks[2].register_forward_hook(lambda _, given, out: out + 1)  # the one in the middle
    assert torch.equal(model(x, t, y), reference)
    handle.remove()
    model.blocks[i].register_forward_hook(lambda _, given, out: moved.append(1) or out + normal(*out.shape))
    assert (model(x, t, y) - reference).abs().max() > 1e-2
    assert moved


def test_tokens_are_class_time_and_patches():
    model, seen = tiny(), []
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, t, y = batch()
    model(x, t, y)
    tokens = seen[0] - model.position
    assert tokens.shape == (3, 2 + 16, 32)
    torch.testing.assert_close(tokens[:, 0], model.label(y))
    steps = get_timestep_embedding(1000 * t, 32, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(tokens[:, 1], steps, rtol=1e-4, atol=1e-4)
    moved = x.clone()
    moved[:, :, 2:4, 4:6] += 1  # the patch of the second row and third column
    model(moved, t, y)
    changed = (seen[1] != seen[0]).any(-1)
    assert changed.nonzero()[:, 1].tolist() == [2 + 4 + 2] * 3


def test_a_model_without_classes_has_one_token_fewer():
    with_classes, without = tiny(), tiny(classes=0)
    assert without.position.shape[1] == with_classes.position.shape[1] - 1
    x, t, y = batch()
    assert without(x, t).shape == x.shape
    with pytest.raises(ValueError, match="without classes"):
        without(x, t, y)


def test_no_class_is_the_last_embedding():
    model = tiny()
    x, t, _ = batch()
    assert len(model.label.weight) == CLASSES + 1
    assert torch.equal(model(x, t), model(x, t, torch.full((3,), CLASSES)))
    assert not torch.allclose(model(x, t), model(x, t, torch.zeros(3, dtype=torch.long)))


def test_every_parameter_gets_a_gradient():
    model = tiny(random=False)
    model(*batch()).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_weights_start_as_those_of_the_reference():
    model = tiny(width=128, random=False)
    for linear in (m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name != "embed"):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert linear.bias is None or not linear.bias.any()
    assert model.position.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.embed.weight.abs().max() <= 1 / math.sqrt(4 * CHANNELS)  # as a convolution starts


def test_samples_of_a_batch_are_independent_of_one_another():
    model = tiny()
    x, t, y = batch(4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(x[order], t[order], y[order]), model(x, t, y)[order], rtol=1e-4, atol=1e-5)


def test_clips_are_taken_at_the_length_they_were_built_for():
    size = (3, SIDE, 4)
    model = tiny(size)
    x, t, y = batch(size=size)
    assert model(x, t, y).shape == x.shape
    with pytest.raises(ValueError, match=r"\(N, 3, 3, 8, 4\).*got shape \(3, 3, 5, 8, 4\)"):
        model(batch(size=(5, SIDE, 4))[0], t, y)


# ---------------------------------------------------------------------------------------------------------------------
# Ways to compute the same


def test_there_is_no_hint():
    model = tiny(prediction="velocity")
    x, t, y = batch()
    found, hint = model(x, t, y, with_hint=True)
    assert hint is None
    assert torch.equal(found, model(x, t, y))
    with pytest.raises(ValueError, match="no self-conditioning"):
        model(x, t, y, hint=normal(3, 18, 32))
    as_sampled = SelfConditioned(model)
    as_sampled(x + 1, t, y)
    assert torch.equal(as_sampled(x, t, y), found)


def gradients(model):
    out = model(*batch())
    model.zero_grad()
    out.square().mean().backward()
    return out, {name: p.grad.clone() for name, p in model.named_parameters()}


def test_activation_checkpointing_and_compiled_blocks_compute_the_same():
    out, grads = gradients(tiny())
    saving = tiny(checkpoint_activations=True)
    calls = []
    saving.blocks[-1].register_forward_pre_hook(lambda *_: calls.append(1))
    other, other_grads = gradients(saving)
    assert len(calls) == 2  # once more in the backward pass
    assert torch.equal(out, other)
    assert all(torch.equal(grad, other_grads[name]) for name, grad in grads.items())
    compiled = tiny()
    for block in compiled.blocks:
        block.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled), (out, grads))
    assert list(compiled.state_dict()) == list(saving.state_dict())


def test_bfloat16_autocast_stays_close():
    model = tiny()
    out, _ = gradients(model)
    streams = []
    model.blocks[-1].register_forward_hook(lambda _, given, made: streams.append(made.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(*batch())
    assert streams == [torch.float32]
    assert (half.float() - out).norm() / out.norm() < 0.03


def test_saved_denoisers_come_back(tmp_path):
    torch.manual_seed(1)
    config = {"denoiser": "USiT-XXS/2", "in_channels": CHANNELS, "input_size": [SIDE, SIDE], "num_classes": CLASSES}
    model = denoisers.build("USiT-XXS/2", in_channels=CHANNELS, input_size=SIDE, num_classes=CLASSES).eval()
    denoisers.save(tmp_path, model, config)
    loaded, found = denoisers.load(tmp_path)
    assert found == config
    assert loaded.prediction == "velocity"
    assert torch.equal(loaded(*batch()), model(*batch()))


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"size": (7, 8)}, r"multiples of the patch 2, got \(7, 8\)"), ({"size": (8,)}, r"got \(8,\)"),
        ({"depth": 3}, "depth must be even.*got 3"), ({"depth": 0}, "got 0"), ({"classes": -1}, "-1 classes"),
        ({"prediction": "data"}, "got 'data'"), ({"heads": 5}, "5 heads"),
    ],
)  # fmt: skip
def test_impossible_models_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        tiny(**wrong)


def test_inputs_that_do_not_fit_are_refused():
    model = tiny()
    x, t, y = batch()
    with pytest.raises(ValueError, match=r"\(N, 3, 8, 8\).*got shape \(3, 3, 4, 4\)"):
        model(x[:, :, :4, :4], t, y)
    with pytest.raises(ValueError, match=r"got shape \(3, 2, 8, 8\)"):
        model(x[:, :2], t, y)
    with pytest.raises(ValueError, match=r"class 6 is out of range.*0 to 4"):
        model(x, t, torch.tensor([0, 6, 1]))
