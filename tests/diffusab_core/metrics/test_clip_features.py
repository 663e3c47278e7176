"""A network for images that judges clips: what it is by definition, and what of time its distance sees."""

import pytest
import torch

from diffusab_core import data
from diffusab_core.metrics import evaluate_samples, reference
from diffusab_core.metrics.clips import CLIP_FEATURES
from diffusab_core.metrics.networks import MissingWeightsError, NetworkError
from diffusab_core.metrics.samples import open_features

FRAMES, SIDE, COUNT = 6, 32, 48


@pytest.fixture(scope="module")
def network():
    return open_features("clip_offline")


def pan(seed, step=1):
    """Clips ``(N, 3, T, H, W)`` of a window that slides to the right over photographs, by so many pixels a frame."""
    wide = data.Photos(SIDE + 2 * FRAMES, "train", seed=seed, length=COUNT)
    rows = torch.stack([wide[i][:, :SIDE] for i in range(COUNT)])
    return torch.stack([rows[..., step * t : step * t + SIDE] for t in range(FRAMES)], dim=2)


def test_features_are_means_over_frames_differences_and_fringes(network):
    image = open_features("offline")
    x = pan(0)[:3]
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)).sum(1)  # (N, T, H, W)
    for i, clip in enumerate(x):
        frames = clip.transpose(0, 1)  # (T, 3, H, W)
        fringes = torch.stack([luma[i, t : t + 3] for t in range(FRAMES - 2)])
        parts = [image(frames), image((frames[1:] - frames[:-1]).clamp(-1, 1)), image(fringes)]
        expected = torch.cat([part.mean(0) for part in parts])
        torch.testing.assert_close(network(x)[i], expected, rtol=1e-4, atol=1e-5)
    assert (network.name, network.dimensions) == ("clip_offline", 96)
    assert network.digest != image.digest
    assert not network.train().training
    assert not any(p.requires_grad for p in network.parameters())


def test_every_clip_is_judged_by_itself(network):
    x = pan(1)[:5]
    torch.testing.assert_close(network(x)[[3, 0]], network(x[[3, 0]]), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def distance(network):
    known = reference(pan(0).split(16), network, progress=False)

    def measure(clips):
        found = evaluate_samples(clips.split(16), known, network, few=True, precision_recall=0, progress=False)
        return found["frechet_clip_offline"]

    return measure


def test_frozen_shuffled_and_reversed_clips_are_far_and_others_of_the_kind_near(distance):
    others = pan(1)
    floor = distance(others)
    order = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(1))
    damaged = {
        "frozen": others[:, :, :1].expand_as(others),
        "shuffled": others[:, :, order],
        "reversed": others.flip(2),
        "faster": pan(1, step=2),
        "stuttering": others[:, :, [0, 0, 2, 2, 4, 4]],
    }
    found = {name: distance(clips) for name, clips in damaged.items()}
    # With fewer clips than features the floor is high, and the same for all.
    assert min(found.values()) > 1.7 * floor, (floor, found)
    assert found["frozen"] > 3 * floor, (floor, found)


def test_frames_alone_would_not_see_any_of_it():
    image = open_features("offline")
    clips = pan(1)[:4]
    still = [image(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (4, -1)).mean(1) for x in (clips, clips.flip(2))]
    torch.testing.assert_close(*still, rtol=1e-4, atol=1e-5)


def test_what_is_no_clip_with_motion_is_refused(network):
    with pytest.raises(NetworkError, match=r"clips must be \(N, 3, T, H, W\), got \(2, 3, 32, 32\)"):
        network(torch.zeros(2, 3, 32, 32))
    with pytest.raises(NetworkError, match="at least 3 frames, got 2"):
        network(torch.zeros(2, 3, 2, 32, 32))


def test_fvd_asks_for_its_weights_and_the_others_are_at_hand(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert set(CLIP_FEATURES) == {"clip_offline", "clip_lite0p64", "i3d"}
    with pytest.raises(MissingWeightsError, match="no weights for FVD's I3D"):
        open_features("i3d")
