"""HED: the shipped network and the distance over it."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import gaussian_blur

from diffusab_core import data
from diffusab_core.experiments import finetune
from diffusab_core.files import digest_file
from diffusab_core.methods import finetuning
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.metrics import hed_distance, open_perceptual, perceptual
from diffusab_core.metrics.networks import NetworkError


@pytest.fixture(scope="module")
def hed():
    return hed_distance()


@pytest.fixture(scope="module")
def crops():
    return data.stack(data.Photos(48, "train", seed=5, length=6), range(6))


def test_the_shipped_file_is_the_first_three_stages_in_half_precision(hed):
    state = load_file(perceptual.HED_WEIGHTS)
    assert sum(tensor.numel() for tensor in state.values()) == 1_735_488
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert perceptual.HED_WEIGHTS.stat().st_size < 3.6e6
    assert all(torch.isfinite(tensor.float()).all() for tensor in state.values())
    assert not any(parameter.requires_grad for parameter in hed.parameters())
    card = perceptual.HED_WEIGHTS.with_suffix(".md").read_text()
    assert "1 735 488" in card
    assert "MIT License" in card
    assert "Permission is hereby granted" in card


def test_features_are_those_of_plain_convolutions_with_the_shipped_weights(hed, crops):
    state = {name: tensor.float() for name, tensor in load_file(perceptual.HED_WEIGHTS).items()}
    levels = (crops + 1) * 127.5  # (N, 3, H, W), RGB
    means = torch.tensor([104.00699, 116.66877, 122.67892])
    x = levels[:, [2, 1, 0]] - means[None, :, None, None]  # BGR
    names = [["0.0", "0.2"], ["1.1", "1.3"], ["2.1", "2.3", "2.5"]]
    for stage, (layers, found) in enumerate(zip(names, hed.features(crops), strict=True)):
        if stage:
            x = F.max_pool2d(x, 2)
        for name in layers:
            x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()
        assert found.shape == x.shape == (6, 64 * 2**stage, 48 // 2**stage, 48 // 2**stage)
        assert torch.allclose(found, x / (x.square().sum(1, keepdim=True) + 1).sqrt(), atol=1e-5)


def test_it_is_a_symmetric_distance_that_grows_with_blur_and_noise(hed, crops):
    g = torch.Generator().manual_seed(0)
    assert hed(crops, crops).abs().max() == 0
    other = crops.roll(1, 0)
    assert torch.allclose(hed(crops, other), hed(other, crops))
    assert hed(crops, other).shape == (6,)
    assert ((hed(crops, other) > 0.2) & (hed(crops, other) < 2)).all()
    blurred = torch.stack([hed(crops, gaussian_blur(crops, 13, s)) for s in (0.5, 0.8, 1.2, 2.0, 3.0)])
    assert (blurred.diff(dim=0) > 0).all(), "for every crop"
    noise = torch.randn(crops.shape, generator=g)
    noisy = torch.stack([hed(crops, crops + s * noise) for s in (0.01, 0.03, 0.1, 0.3)])
    assert (noisy.diff(dim=0) > 0).all()


def test_gradients_reach_the_picture_and_point_to_the_target(hed, crops):
    y = gaussian_blur(crops[:2], 9, 1.5).requires_grad_()
    before = hed(crops[:2], y).mean()
    before.backward()
    assert torch.isfinite(y.grad).all()
    assert (y.grad.abs().amax((1, 2, 3)) > 0).all()
    assert hed(crops[:2], y.detach() - 0.5 * y.grad).mean() < before
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)  # no features to speak of: nothing divides by zero
    hed(flat.detach() + 0.01, flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_odd_sides_and_small_crops_are_taken_other_shapes_refused(hed):
    x = torch.zeros(1, 3, 9, 11)
    assert hed(x, x + 0.5).shape == (1,)
    for a, b in ((x, x[..., :8]), (x[0], x[0]), (x[:, :1], x[:, :1])):
        with pytest.raises(NetworkError, match=rf"\({a.shape[0]}, "):
            hed(a, b)


def test_broken_weights_are_refused(tmp_path):
    state = load_file(perceptual.HED_WEIGHTS)
    del state["2.5.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(NetworkError, match=r"2\.5\.bias|less\.safetensors"):
        hed_distance(tmp_path / "less.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(perceptual.HED_WEIGHTS.read_bytes()[:100_000])
    with pytest.raises(NetworkError, match=r"cut\.safetensors"):
        open_perceptual("hed", cut)
    with pytest.raises(NetworkError, match="'squeeze'"):
        open_perceptual("squeeze")


def test_finetuning_takes_it_and_its_record_says_so(tmp_path):
    settings = Finetuning(method="plain", resolution=32, steps=2, batch_size=2, perceptual="hed", perceptual_weight=0.1)
    distance = finetuning.distance_of(settings)
    assert isinstance(distance, partial)
    x, y = torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.5)
    assert distance(x, y) == pytest.approx(0.25 + 0.1 * hed_distance()(x, y).item(), rel=1e-5)
    pair = torch.cat([x, x]), torch.cat([y, torch.zeros_like(y)])
    of_first = finetuning.distance_of(replace(settings, perceptual_crops=1, mse_weight=0.0))(*pair)
    assert of_first == pytest.approx(0.1 * hed_distance()(x, y).item(), rel=1e-5)
    probe = data.stack(data.Photos(64, "test", seed=0, length=2), range(2))
    done = finetune(settings, tmp_path / "out", probe=probe, snapshots=1, progress=False)
    digest = digest_file(perceptual.HED_WEIGHTS)[:8]
    assert done.record.notes == f"perceptual loss: HED, backbone hed.safetensors, sha256 {digest}."
    assert "steps, HED;" in " ".join((tmp_path / "out" / "README.md").read_text().split())
    without = finetune(Finetuning(method="plain", resolution=32, steps=2, batch_size=2), probe=probe, progress=False)
    assert done.record.series["loss"][0] > without.record.series["loss"][0]
