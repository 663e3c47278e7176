"""The project's own feature network: what it is, what it refuses, and whether distances over it behave."""

import hashlib
import math
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file, save_file
from script_modules import load_script
from torchvision.transforms.functional import gaussian_blur

from diffusab_core import autoencoders, data, experiments, metrics
from diffusab_core.data.leaves import Leaves
from diffusab_core.experiments import records
from diffusab_core.metrics import offline_features
from diffusab_core.metrics.offline import LABELS, WEIGHTS
from diffusab_core.metrics.samples import FEATURES
from diffusab_core.metrics.sets import FeatureStatistics

FOLDER, FILE = WEIGHTS.parent, WEIGHTS.name
CHECKSUM = FILE + ".sha256"  # as sha256sum writes it

CROPS = 128


@pytest.fixture(scope="module")
def features():
    return offline_features()


@pytest.fixture(scope="module")
def held_out():
    """Crops of photographs that were never trained on, another seed than the card's."""
    return data.stack(data.Photos(64, "test", seed=7, length=2 * CROPS), range(2 * CROPS))


@pytest.fixture(scope="module")
def script():
    """``scripts/train_features.py`` as a module."""
    return load_script("train_features")


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped folder."""
    for name in (FILE, CHECKSUM):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    return tmp_path


def distance(x, y, features):
    return metrics.reconstruction_frechet_distance(x, y, features, batch_size=64)


def _blurred(x, sigma):
    return gaussian_blur(x, 2 * round(4 * sigma) + 1, sigma)


def _noisy(x, scale):
    return x + scale * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))


def _averaged(x, side):
    small = torch.nn.functional.avg_pool2d(x, side)
    return torch.nn.functional.interpolate(small, scale_factor=side)


# ---------------------------------------------------------------------------------------------------------------------
# What is shipped


def test_shipped_folder_is_small_complete_and_says_what_it_is_not():
    assert (FOLDER / FILE).stat().st_size <= 500_000
    assert sum(path.stat().st_size for path in autoencoders.WEIGHTS.rglob("*.safetensors")) <= 14 * 2**20
    assert {tensor.dtype for tensor in load_file(FOLDER / FILE).values()} == {torch.float16}
    card = (FOLDER / "README.md").read_text()
    assert "not Inception" in card
    assert all(data.PHOTOGRAPHS[name].licence in card for name in data.photo_names("train"))
    record = records.read(FOLDER / "record.json")
    assert not {"coffee", "china"} & set(record.data.replace(",", " ").split())
    assert (record.parameters["name"], record.seed) == ("offline-features", 0)


def test_labels_are_the_classes_of_the_leaves_and_the_training_photographs():
    names = Leaves(64).class_names
    assert (*names, *data.photo_names("train")) == LABELS


@torch.no_grad()
def test_it_classifies_leaves_it_has_not_seen_as_the_card_says(features):
    leaves = Leaves(64, seed=2000, length=240)
    x = torch.stack([leaves[i][0] for i in range(240)])
    right = (features.network(x)[0].argmax(1) == torch.arange(240) % 12).float().mean().item()
    claimed = records.read(FOLDER / "record.json").metrics["leaves_accuracy"]
    # Four standard deviations of the difference of shares of 240 and of 600; and far above a twelfth.
    spread = math.sqrt(claimed * (1 - claimed) * (1 / 240 + 1 / 600))
    assert right == pytest.approx(claimed, abs=4 * spread)
    assert claimed > 0.5


@torch.no_grad()
def test_it_says_how_strong_blur_and_noise_are_on_photographs_it_has_not_seen(features, held_out):
    x = held_out[:CROPS]
    for which, change, unit in ((0, _blurred, 0.5), (1, _noisy, 0.05)):
        found = [features.network(change(x, unit * s).clamp(-1, 1))[1][:, which].mean().item() for s in (1, 3, 7)]
        assert found == pytest.approx([1, 2, 3], abs=0.75)  # log2(1 + s)
        assert all(more > less + 0.5 for less, more in pairwise(found))


@torch.no_grad()
def test_features_of_images_as_in_training_have_unit_variance(features, script):
    leaves = Leaves(64, seed=2000, length=120, labels=False)
    photos = data.stack(data.Photos(64, seed=2000, length=120), range(120))
    photos, _ = script.damaged(photos, script.Recipe(), torch.Generator().manual_seed(0))
    spread = features(torch.cat([data.stack(leaves, range(120)), photos])).std(0)
    assert ((spread > 0.6) & (spread < 1.5)).all()


def test_training_damages_every_third_crop_by_the_level_it_asks_for(script):
    x = data.stack(data.Photos(64, seed=3, length=9), range(9))
    y, levels = script.damaged(x, script.Recipe(noise=(0.01, 0.02)), torch.Generator().manual_seed(0))
    assert torch.equal(y[::3], x[::3])
    assert torch.equal(levels > 0, torch.tensor([[False, False], [True, False], [False, True]] * 3))
    for i in (1, 4, 7):
        expected = _blurred(x[i], 0.5 * (2 ** levels[i, 0].item() - 1)).clamp(-1, 1)
        assert torch.allclose(y[i], expected, atol=1e-4)
    for i in (2, 5, 8):
        inside = (x[i].abs() < 0.9).expand_as(x[i])
        measured = (y[i] - x[i])[inside].std().item()
        assert measured == pytest.approx(0.05 * (2 ** levels[i, 1].item() - 1), rel=0.1)


def test_training_is_a_function_of_its_seed(script, tmp_path):
    recipe = script.Recipe(leaves=24, leaves_per_batch=6, photos_per_batch=6, steps=2)
    first, again, other = (
        script.trained(recipe, seed, tmp_path / f"{i}.pt")[0].state_dict() for i, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["classes.weight"], other["classes.weight"])


# ---------------------------------------------------------------------------------------------------------------------
# The module


def test_it_is_frozen_and_opening_it_leaves_random_numbers_alone(features):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = offline_features()
    assert torch.equal(torch.rand(3), expected)
    assert not any(p.requires_grad for p in again.parameters())
    assert not again.train().training
    x = torch.rand(2, 3, 64, 64, requires_grad=True)
    again(x).sum().backward()
    assert x.grad.abs().sum() > 0  # frozen, yet differentiable in the images
    assert torch.equal(again(x), features(x))


@torch.no_grad()
def test_images_of_any_size_are_clamped_and_resized_with_antialiasing(features, held_out):
    x = data.stack(data.Photos(128, "test", seed=7, length=4), range(4))
    assert features(x).shape == (4, features.dimensions)
    assert torch.equal(features(x), features(data.resize_to(x, 64, 64)))
    assert not torch.allclose(features(x), features(x[..., ::2, ::2]), atol=0.01)  # which would alias
    assert features(x[..., :40, :56]).shape == (4, features.dimensions)
    assert torch.equal(features(3 * held_out[:4]), features((3 * held_out[:4]).clamp(-1, 1)))


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64), (2, 3, 4, 64, 64)])
def test_other_shapes_are_refused(features, shape):
    with pytest.raises(ValueError, match=r"images must be \(N, 3, H, W\), got \(" + str(shape[0])):
        features(torch.zeros(shape))


# ---------------------------------------------------------------------------------------------------------------------
# Damage


def test_digest_is_that_of_the_file(features):
    digest = hashlib.sha256((FOLDER / FILE).read_bytes()).hexdigest()
    assert features.digest == digest[:8]
    assert (FOLDER / CHECKSUM).read_text() == f"{digest}  {FILE}\n"  # what sha256sum --check reads


@pytest.mark.parametrize("where", [0.01, 0.5, 0.999])
def test_one_flipped_bit_is_damage(folder, where):
    raw = bytearray((folder / FILE).read_bytes())
    raw[int(where * len(raw))] ^= 1
    (folder / FILE).write_bytes(raw)
    with pytest.raises(ValueError, match=rf"{FILE} is damaged: its SHA-256 begins with \w{{8}}, .* says \w{{8}}"):
        offline_features(folder)


@pytest.mark.parametrize("name", [FILE, CHECKSUM])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(metrics.MissingWeightsError, match=f"no weights for the offline features.*{name}"):
        offline_features(folder)


@pytest.mark.parametrize("change", ["lack", "shape", "no safetensors"])
def test_whole_files_of_something_else_are_refused(folder, change):
    state = load_file(folder / FILE)
    if change == "lack":
        del state["project.bias"]
    state["project.weight"] = state["project.weight"][:, :10].contiguous()
    save_file(state, folder / FILE)
    if change == "no safetensors":
        (folder / FILE).write_bytes(b"weights")
    (folder / CHECKSUM).write_text(f"{hashlib.sha256((folder / FILE).read_bytes()).hexdigest()}  {FILE}\n")
    with pytest.raises(ValueError, match=rf"{FILE} (does not hold the offline classifier|cannot be read)"):
        offline_features(folder)


def test_an_empty_checksum_is_refused(folder):
    (folder / CHECKSUM).write_text("\n")
    with pytest.raises(ValueError, match="damaged"):
        offline_features(folder)


# ---------------------------------------------------------------------------------------------------------------------
# Whether distances behave, on photographs that were never trained on


def test_images_are_at_no_distance_from_themselves(features, held_out):
    assert distance(held_out, held_out.clone(), features) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("change", "strengths"),
    [
        pytest.param(_blurred, (0.5, 1, 2, 4), id="blur"),
        pytest.param(_noisy, (0.05, 0.1, 0.2, 0.4), id="noise"),
        pytest.param(_averaged, (2, 4, 8), id="mosaic"),
    ],
)
def test_distance_grows_with_damage_to_the_images(features, held_out, change, strengths):
    x = held_out[:CROPS]
    found = [distance(x, change(x, strength), features) for strength in strengths]
    assert found == sorted(found)
    assert found[0] > 0.01
    assert all(more > 1.2 * less for less, more in pairwise(found))


def test_halves_of_one_set_are_nearer_than_damaged_ones(features, held_out):
    halves = distance(held_out[:CROPS], held_out[CROPS:], features)
    assert halves < distance(held_out[:CROPS], _blurred(held_out[:CROPS], 1), features)
    assert halves < distance(held_out[:CROPS], _noisy(held_out[:CROPS], 0.1), features)


@torch.no_grad()
def test_it_tells_classes_of_leaves_apart(features):
    def statistics(seed, label):
        found, leaves = FeatureStatistics(), Leaves(64, seed=seed, length=12 * 48, labels=False)
        found.update(features(data.stack(leaves, range(label, 12 * 48, 12))))
        return found

    rings = statistics(3, LABELS.index("rings"))
    assert rings.distance(statistics(4, LABELS.index("rings"))) < rings.distance(statistics(3, LABELS.index("bars")))


# ---------------------------------------------------------------------------------------------------------------------
# In an evaluation


def test_an_evaluation_reports_it_over_enough_images_only():
    few = experiments.evaluate(experiments.Evaluation("kl-f4c16", samples=32, resolution=64, cuts=(0.0,)))
    assert "reconstruction_frechet_offline" not in few.metrics
    assert "reconstruction_frechet_offline is left out: 32 features need more than 32 images, got 32" in few.notes
    settings = experiments.Evaluation("kl-f4c16", samples=33, resolution=64, cuts=(0.0,))
    enough = experiments.evaluate(settings)
    autoencoder, x = autoencoders.load("kl-f4c16"), data.stack(data.Photos(64, "test", seed=0, length=33), range(33))
    with torch.no_grad():
        expected = distance(x, autoencoder.decode(autoencoder.encode(x).mean), offline_features())
    assert enough.metrics["reconstruction_frechet_offline"] == pytest.approx(expected, rel=1e-3)
    assert "over 33 images and 32 features" in enough.notes
    assert offline_features().digest in enough.notes


def test_an_evaluation_takes_a_network_of_others(monkeypatch):
    opened = []

    class Mean(torch.nn.Module):
        dimensions = 3

        def forward(self, images):
            return images.mean((-2, -1))

    def load(weights):
        opened.append(weights)
        return Mean().eval()

    monkeypatch.setitem(FEATURES, "inception", load)
    settings = experiments.Evaluation("kl-f4c16", samples=4, resolution=64, cuts=(0.0,), features="inception",
                                      features_weights="folder/weights.pth")  # fmt: skip
    record = experiments.evaluate(settings)
    assert opened == ["folder/weights.pth"]
    assert record.parameters["features_weights"] == "weights.pth"
    assert record.metrics["reconstruction_frechet_inception"] > 0
    assert "over 4 images and 3 features." in record.notes


def test_an_evaluation_can_do_without():
    settings = experiments.Evaluation("kl-f4c16", samples=2, resolution=64, cuts=(0.0,), features="none")
    record = experiments.evaluate(settings)
    assert not [name for name in record.metrics if "frechet" in name]
    assert "frechet" not in record.notes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"features": "vgg"}, "got 'vgg'"),
        ({"features_weights": "x.pth"}, "not for features='offline'"),
    ],
)
def test_an_evaluation_refuses_other_networks(given, message):
    with pytest.raises(ValueError, match=message):
        experiments.Evaluation("kl-f4c16", **given)
