"""FVD's network. The real file is not at hand where these tests run: a small one is called by the same convention."""

import math

import pytest
import torch
from torch import Tensor, nn

from diffusab_core.metrics import MissingWeightsError, evaluate_samples, reference
from diffusab_core.metrics.networks import video_features


class _Stand(nn.Module):
    """400 numbers that say what arrives: pixels near the corners and the centre, the range, the switches."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if rescale or resize or not return_features:
            raise RuntimeError("called by another convention")
        if x.shape[1] != 3 or x.shape[3] != 224 or x.shape[4] != 224:
            raise RuntimeError("clips of another shape")
        pooled = torch.nn.functional.adaptive_avg_pool3d(x, [5, 5, 5]).flatten(1)  # (N, 375)
        return torch.cat([pooled, x.flatten(1).amax(1, True), x.flatten(1).amin(1, True), pooled[:, :23]], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("i3d")
    torch.jit.script(_Stand()).save(str(place / "i3d_torchscript.pt"))
    return place


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def clips(n, seed=0, frames=10, height=32, width=32):
    return torch.rand(n, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_file_a_folder_and_the_cache_open_the_same_frozen_network(folder, tmp_path):
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "i3d_torchscript.pt").write_bytes((folder / "i3d_torchscript.pt").read_bytes())
    x = clips(2)
    opened = [video_features(where) for where in (folder, folder / "i3d_torchscript.pt", None)]
    assert {(f.name, f.dimensions, f.digest) for f in opened} == {("i3d", 400, opened[0].digest)}
    assert len(opened[0].digest) == 8
    found = [f(x) for f in opened]
    assert found[0].shape == (2, 400)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not opened[0].train().training


def test_clips_are_clamped_resized_and_cropped_to_the_centre(folder):
    features = video_features(folder)
    ramp = torch.linspace(-3, 3, 448).expand(1, 3, 10, 224, 448)  # wider than high: the middle half is seen
    found = features(ramp)[0]
    seen = torch.linspace(-3, 3, 448)[112:336].clamp(-1, 1)
    assert found[375].item() == seen.max().item() == 1
    assert found[376].item() == seen.min().item() == -1
    columns = torch.nn.functional.adaptive_avg_pool1d(seen[None], 5)[0]
    torch.testing.assert_close(found[:5], columns)
    small = clips(2, height=56, width=56)
    enlarged = torch.nn.functional.interpolate(
        small, size=(10, 224, 224), mode="trilinear", align_corners=False
    )  # of unchanged time, so bilinear frame by frame
    torch.testing.assert_close(features(small), features.network(enlarged, False, False, True))
    assert features(clips(1, height=30, width=41)).shape == (1, 400)


def test_fvd_through_the_same_function_as_fid(folder):
    features = video_features(folder)
    real = reference(clips(24).split(5), features, progress=False)
    with pytest.raises(ValueError, match="24 reference images are too few for the 400 features of i3d"):
        evaluate_samples(clips(24).split(5), real, features, progress=False)
    same = evaluate_samples(clips(24).split(6), real, features, few=True, progress=False)
    assert same["frechet_i3d"] == pytest.approx(0, abs=1e-5)
    other = evaluate_samples((clips(24, 1) * 0.5).split(6), real, features, few=True, progress=False)
    assert other["frechet_i3d"] > 0.01
    assert math.isfinite(other["precision"])
    assert "inception_score" not in other


def test_refusals(folder, tmp_path):
    features = video_features(folder)
    with pytest.raises(ValueError, match=r"must be \(N, 3, T, H, W\), got \(2, 3, 32, 32\)"):
        features(clips(2)[:, :, 0])
    with pytest.raises(ValueError, match="at least 10 frames, got 9"):
        features(clips(2, frames=9))
    with pytest.raises(MissingWeightsError) as error:
        video_features()
    assert f"{tmp_path}/torch/hub/checkpoints/i3d_torchscript.pt" in str(error.value)
    broken = tmp_path / "i3d_torchscript.pt"
    broken.write_bytes((folder / "i3d_torchscript.pt").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"i3d_torchscript\.pt does not hold I3D as TorchScript"):
        video_features(tmp_path)
    torch.save({"a": torch.zeros(1)}, broken)
    with pytest.raises(ValueError, match=r"i3d_torchscript\.pt does not hold I3D as TorchScript"):
        video_features(broken)
