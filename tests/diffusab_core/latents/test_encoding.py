"""Latents of a dataset, encoded when they are asked for: what they equal, what they are called, and what is refused."""

import json

import pytest
import torch

from diffusab_core import autoencoders
from diffusab_core.data import Photos
from diffusab_core.data.leaves import Leaves, leaf_clip
from diffusab_core.latents.encoded import EncodedLatents, encode_all
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.latents.identity import LatentsError, weights_digest


@pytest.fixture(scope="module")
def autoencoder():
    return autoencoders.load("kl-f4c16")


@pytest.fixture(scope="module")
def leaves():
    return Leaves(16, seed=3, length=22)


@torch.no_grad()
def test_encoding_on_the_fly_is_encoding(autoencoder, leaves):
    found = EncodedLatents(autoencoder, leaves, batch_size=2)
    assert found.shape == (16, 4, 4)
    assert found.class_names == leaves.class_names
    mean, std, y = found.posterior([7, 1, 13], [False, True, False])
    for k, (i, flip) in enumerate([(7, False), (1, True), (13, False)]):
        image, label = leaves[i]
        posterior = autoencoder.encode(image.flip(-1)[None] if flip else image[None])
        torch.testing.assert_close(mean[k], posterior.mean[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(std[k], posterior.std[0], rtol=1e-4, atol=1e-6)
        assert y[k] == label
    # The latent of the mirrored image is another thing than the mirrored latent.
    assert not torch.allclose(mean[1], found.posterior([1])[0][0].flip(-1), atol=0.05)


def test_statistics_of_a_dataset_do_not_depend_on_the_batch_size(autoencoder, leaves):
    one, other = (EncodedLatents(autoencoder, leaves, batch_size=size) for size in (1, 16))
    torch.testing.assert_close(one.channel_mean, other.channel_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.channel_std, other.channel_std, rtol=1e-4, atol=1e-5)


def test_images_in_memory_are_encoded_as_a_dataset_is(autoencoder, leaves):
    images = torch.stack([leaves[i][0] for i in range(5)])
    at_once, on_the_fly = encode_all(autoencoder, images, batch_size=2), EncodedLatents(autoencoder, leaves)
    for one, other in zip(at_once.posterior(range(5))[:2], on_the_fly.posterior(range(5))[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(LatentsError, match="number 1 of the batch is not finite, because of the image itself"):
        encode_all(autoencoder, torch.cat([images[:1], images[:1] * torch.nan]))


def test_identity_says_what_differs(autoencoder, leaves):
    identity = EncodedLatents(autoencoder, leaves).identity
    json.dumps(identity)
    assert identity == EncodedLatents(autoencoders.load("kl-f4c16"), Leaves(16, seed=3, length=22)).identity
    for key, other in {
        "weights": EncodedLatents(autoencoders.load("kl-f4c16-se"), leaves),
        "seed": EncodedLatents(autoencoder, Leaves(16, seed=4, length=22)),
        "resolution": EncodedLatents(autoencoder, Leaves(32, seed=3, length=22)),
        "count": EncodedLatents(autoencoder, Leaves(16, seed=3, length=21)),
        "images": EncodedLatents(autoencoder, Photos(16, seed=3, length=22)),
        "precision": EncodedLatents(autoencoder, leaves, precision="bf16"),
    }.items():
        assert other.identity.get(key) != identity[key], key
    images = [leaf_clip(i, 1, resolution=16)[:, 0] for i in range(3)]
    assert EncodedLatents(autoencoder, images).identity != EncodedLatents(autoencoder, images[::-1]).identity


def test_one_changed_weight_changes_the_digest(autoencoder):
    before = weights_digest(autoencoder)
    other = autoencoders.load("kl-f4c16")
    assert weights_digest(other) == before
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-6
    assert weights_digest(other) != before


def test_labels_without_names_and_odd_items_are_refused(autoencoder):
    image = torch.zeros(3, 16, 16)
    with pytest.raises(LatentsError, match="list has labels and no names"):
        EncodedLatents(autoencoder, [(image, 0)])
    named = EncodedLatents(autoencoder, [(image, 0), (image, 2)], class_names=["a", "b"])
    with pytest.raises(LatentsError, match=r"class 2 of item 0 to item 1 is outside 0 \.\.\. 1"):
        named.posterior([0, 1])
    with pytest.raises(LatentsError, match="items must be images"):
        EncodedLatents(autoencoder, [{"image": image}])
    with pytest.raises(ValueError, match="both sides must be positive multiples of 4, got 18 x 18"):
        EncodedLatents(autoencoder, [torch.zeros(3, 18, 18)])


class Broken(Photos):
    """Photographs, item 5 of which holds something that is no number."""

    def __getitem__(self, index):
        image = super().__getitem__(index)
        if index == 5:
            image[0, 0, 0] = float("nan")
        return image


def test_a_latent_that_is_not_finite_is_named(autoencoder, tmp_path):
    broken = Broken(16, length=9)
    message = rf"the latent of item 5 \({broken.source(5)}\) is not finite, because of the image itself"
    with pytest.raises(LatentsError, match=message):
        EncodedLatents(autoencoder, broken).posterior(range(9))
    with pytest.raises(LatentsError, match=message):
        extract(Extraction("kl-f4c16", resolution=16, flips=True), tmp_path / "c", dataset=broken, progress=False)
