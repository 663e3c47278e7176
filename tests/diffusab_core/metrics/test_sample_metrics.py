"""Judging samples in a stream: against the same computed at once, by scipy, and by several processes."""

import hashlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.multiprocessing
from safetensors.torch import save_file
from small_features import Toy, known, on_one_rank, pictures, quiet
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from diffusab_core.data import Photos
from diffusab_core.data.pixels import stack
from diffusab_core.metrics import (
    frechet_distance,
    offline_features,
)
from diffusab_core.metrics.networks import dinov2_features, inception_features
from diffusab_core.metrics.samples import frechet_to, load_reference, quantise
from diffusab_core.metrics.sets import FeatureStatistics, precision_recall


def inception_score(probabilities, splits=10):
    found = FeatureStatistics(splits=splits)
    for batch in probabilities:
        found.update(batch, batch)
    return found.inception_score


# ---------------------------------------------------------------------------------------------------------------------
# Against other ways to compute the same


@torch.no_grad()
def test_agrees_with_scipy_and_with_all_features_at_once():
    toy, real, fake = Toy(), pictures(150, 0), pictures(120, 1, 0.6)
    found = quiet(fake.split(17), known(real.split(40), toy), toy, k=2)
    a, b = (toy(quantise(x)).double().numpy() for x in (real, fake))
    cov = [np.cov(x, rowvar=False) for x in (a, b)]
    root = scipy.linalg.sqrtm(cov[0] @ cov[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov[0] + cov[1] - 2 * root)
    assert found["frechet_toy"] == pytest.approx(expected, rel=1e-6)
    assert (found["samples"], found["reference_samples"], found["precision_recall_samples"]) == (120, 150, 120)
    probabilities = toy.class_probabilities(torch.tensor(b).float())
    assert (found["inception_score"], found["inception_score_std"]) == pytest.approx(inception_score([probabilities]))


@torch.no_grad()
def test_precision_and_recall_are_over_equal_numbers():
    toy, real, fake = Toy(), pictures(90, 0), pictures(60, 1)
    ref = known(real.split(7), toy)
    features = toy(quantise(fake))
    found = quiet(fake.split(8), ref, toy)
    expected = precision_recall(ref.neighbours[:60], features)
    assert (found["precision"], found["recall"]) == pytest.approx(expected)
    everything = toy(quantise(real))
    torch.testing.assert_close(ref.neighbours.sort(0).values, everything.sort(0).values)
    found = quiet(fake.split(8), ref, toy, precision_recall=25)
    assert found["precision_recall_samples"] == 25
    assert not {"precision", "recall"} & quiet(fake.split(8), ref, toy, precision_recall=0).keys()
    assert frechet_to(ref, fake.split(8), toy) == found["frechet_toy"]


@pytest.mark.parametrize("batch", [1, 13, 200])
def test_how_the_stream_is_cut_does_not_matter(batch):
    toy, real, fake = Toy(), pictures(200, 0), pictures(150, 1)
    whole = quiet([fake], known([real], toy, neighbours_up_to=50), toy, precision_recall=40)
    cut = quiet(fake.split(batch), known(real.split(batch), toy, neighbours_up_to=50), toy, precision_recall=40)
    assert cut == pytest.approx(whole, rel=1e-5)  # float32 products differ with the batch
    assert cut["precision_recall_samples"] == 40


def test_zero_for_the_same_images_and_growing_with_damage():
    images = stack(Photos(64, "test", length=80), range(80))
    features = offline_features()
    ref = known(images.split(20), features)
    same = quiet(images.split(16), ref, features)
    assert same["frechet_offline"] == pytest.approx(0, abs=1e-6)
    assert (same["precision"], same["recall"]) == (1, 1)
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=g)
    noisy = [images + s * noise for s in (0.05, 0.15, 0.4)]
    blurred = [gaussian_blur(images, 13, sigma) for sigma in (0.5, 1, 3)]
    for damaged in (noisy, blurred):
        row = [quiet([x], ref, features, precision_recall=0)["frechet_offline"] for x in damaged]
        assert same["frechet_offline"] < row[0] < row[1] < row[2]


def test_samples_are_rounded_as_the_reference_was():
    toy, images = Toy(), pictures(50, 0) * 3  # beyond [-1, 1] in places
    rounded, raw = known([images], toy), known([images], toy, quantise=False)
    files = quantise(images)
    assert torch.equal(files, quantise(files))
    levels = (files + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-4
    assert quiet([files], rounded, toy)["frechet_toy"] == pytest.approx(0, abs=1e-9)
    assert quiet([images], rounded, toy)["frechet_toy"] == pytest.approx(0, abs=1e-9)
    assert quiet([images], raw, toy)["frechet_toy"] == pytest.approx(0, abs=1e-9)
    assert quiet([files], raw, toy)["frechet_toy"] > 1e-3


def test_streams_are_consumed_one_batch_at_a_time():
    toy, alive, most = Toy(), 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def stream(n):
        import weakref

        nonlocal alive, most
        for i in range(n):
            batch = pictures(10, i)
            alive += 1
            most = max(most, alive)
            weakref.finalize(batch, gone)
            yield batch

    quiet(stream(30), known(stream(20), toy), toy)
    assert most <= 2  # the one in work and the one that is being made


# ---------------------------------------------------------------------------------------------------------------------
# The Inception Score


def test_inception_score_where_it_is_known():
    assert inception_score([torch.full((40, 5), 0.2)]) == pytest.approx((1, 0))
    assert inception_score([torch.eye(5).repeat(20, 1)], splits=4) == pytest.approx((5, 0))
    assert inception_score([torch.eye(5)[:1].repeat(30, 1)]) == pytest.approx((1, 0))
    # Sorted by class, as folders are: consecutive splits would see one class each and score 1.
    assert inception_score([torch.eye(5).repeat_interleave(20, 0)], splits=4) == pytest.approx((5, 0))


def test_inception_score_agrees_with_torchmetrics(monkeypatch):
    image = pytest.importorskip("torchmetrics.image.inception")
    logits = torch.randn(120, 7, generator=torch.Generator().manual_seed(0)) * 2
    peer = image.InceptionScore(nn.Identity(), splits=4)
    # It shuffles and cuts into consecutive splits, here without shuffling and from an order that makes them ours.
    monkeypatch.setattr(torch, "randperm", torch.arange)
    peer.update(logits)
    mean, std = peer.compute()
    mine = logits.reshape(4, 30, 7).transpose(0, 1).reshape(120, 7).softmax(1)
    found = inception_score(mine.split(11), splits=4)
    assert found[0] == pytest.approx(mean.item(), rel=1e-5)
    assert found[1] == pytest.approx(std.item() * math.sqrt(3 / 4), rel=1e-4)  # population, not sample deviation


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (torch.rand(20, 3) + 1, "each row summing to 1"),
        (torch.tensor([[1.5, -0.5]]), "each row summing to 1"),
        (torch.tensor([[torch.nan, 1.0]]), "NaN or Inf"),
    ],
)
def test_what_are_no_probabilities_is_refused(probabilities, message):
    with pytest.raises(ValueError, match=message):
        inception_score([probabilities])


def test_an_extractor_without_classes_has_no_inception_score():
    toy = Toy()
    plain = SimpleNamespace(name="plain", dimensions=6, digest="1")
    extractor = type("Plain", (), {"__call__": lambda self, x: toy(x).detach(), **vars(plain)})()
    found = quiet([pictures(30, 1)], known([pictures(30, 0)], extractor), extractor)
    assert "frechet_plain" in found
    assert "inception_score" not in found
    assert "inception_score" not in quiet([pictures(9, 1)], known([pictures(30, 0)], toy), toy)  # 9 images, 10 splits


# ---------------------------------------------------------------------------------------------------------------------
# The subset


def test_a_subset_is_random_and_its_beginning_too():
    found = FeatureStatistics(keep=500)
    for part in torch.arange(20_000.0)[:, None].split(333):
        found.update(part)
    rows = found.subset.flatten()
    assert len(rows.unique()) == 500
    for some in (rows, rows[:100]):
        counts, _ = np.histogram(some, bins=5, range=(0, 20_000))
        assert (np.abs(counts - len(some) / 5) < 4 * np.sqrt(len(some) * 0.16)).all()


# ---------------------------------------------------------------------------------------------------------------------
# Too few, and what does not belong together


@pytest.mark.parametrize("n", [0, 2, 6])
def test_too_few_samples_or_reference_images_are_refused(n):
    toy = Toy()
    enough = known([pictures(30, 0)], toy)
    with pytest.raises(ValueError, match=rf"{n} samples are too few for the 6 features of toy.*; few=True") as caught:
        quiet([pictures(n, 1)] if n else [], enough, toy)
    assert "--few" not in str(caught.value)
    if n:
        scarce = known([pictures(n, 1)], toy)
        with pytest.raises(ValueError, match=rf"{n} reference images are too few for the 6 features"):
            quiet([pictures(30, 2)], scarce, toy)
        found = quiet([pictures(n, 3)], enough, toy, few=True, precision_recall=0)
        assert found["frechet_toy"] > 0


def test_seven_samples_are_enough_for_six_features():
    toy = Toy()
    assert quiet([pictures(7, 1)], known([pictures(7, 0)], toy), toy)["samples"] == 7


def test_another_extractor_is_refused():
    toy, other = Toy(), Toy()
    ref = known([pictures(30, 0)], toy)
    other.digest = "feedface"
    with pytest.raises(ValueError, match="another network: digest '0badcafe' -> 'feedface'"):
        quiet([pictures(30, 1)], ref, other)
    with pytest.raises(ValueError, match="another network: extractor 'toy' -> 'offline'"):
        quiet([pictures(30, 1)], ref, offline_features())


def test_k_and_a_reference_without_neighbours_are_refused_before_anything_is_read():
    toy = Toy()
    ref = known([pictures(30, 0)], toy, neighbours_up_to=0)

    def untouched():
        pytest.fail("samples were read")
        yield

    with pytest.raises(ValueError, match="neighbours_up_to=0"):
        quiet(untouched(), ref, toy)
    with pytest.raises(ValueError, match="got k=0"):
        quiet(untouched(), ref, toy, k=0)
    assert "frechet_toy" in quiet([pictures(30, 1)], ref, toy, precision_recall=0)


def test_nan_in_a_sample_is_an_error_that_says_where():
    toy = Toy()
    samples = pictures(30, 1)
    samples[4] = torch.nan
    with pytest.raises(ValueError, match="NaN or Inf in the features of 1 of 30 images, the first at 4"):
        quiet([samples], known([pictures(30, 0)], toy), toy)


# ---------------------------------------------------------------------------------------------------------------------
# The cache


def test_a_cache_is_written_once_and_read_without_looking_at_images(tmp_path):
    toy, file = Toy(), tmp_path / "new" / "reference.safetensors"
    made = known(pictures(40, 0).split(9), toy, cache=file, identity={"images": "a", "resolution": 4})

    def untouched():
        pytest.fail("images were read")
        yield

    again = known(untouched(), toy, cache=file, identity={"resolution": 4, "images": "a"})
    for name in ("mean", "covariance", "neighbours"):
        assert torch.equal(getattr(made, name), getattr(again, name))
    assert again.identity == load_reference(file).identity == {"images": "a", "resolution": 4}
    assert (again.count, again.quantised, again.digest) == (40, True, toy.digest)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    known(untouched(), toy, cache=file, identity={"resolution": 4, "images": "a"}, neighbours_up_to=20)  # fewer will do


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": {"images": "b"}}, "images 'a' -> 'b'"),
        ({"identity": {"images": "a", "crop": "random"}}, "crop None -> 'random'"),
        ({"identity": {}}, "images 'a' -> None"),
        ({"quantise": False}, "quantised True -> False"),
        ({"neighbours_up_to": 35}, "neighbours 30 -> 35"),
        ({"digest": "feedface"}, "digest '0badcafe' -> 'feedface'"),
    ],
)
def test_a_cache_of_something_else_is_refused_and_kept(change, message, tmp_path):
    toy, file = Toy(), tmp_path / "reference.safetensors"
    known([pictures(40, 0)], toy, cache=file, identity={"images": "a"}, neighbours_up_to=30)
    before = file.read_bytes()
    toy.digest = change.pop("digest", toy.digest)
    with pytest.raises(ValueError, match=message) as error:
        known([pictures(40, 0)], toy, cache=file, **({"identity": {"images": "a"}, "neighbours_up_to": 30} | change))
    assert str(file) in str(error.value)
    assert str(error.value).count(" -> ") == 1  # only what differs is named
    assert file.read_bytes() == before


@pytest.mark.parametrize("fault", ["cut off", "other tensors", "no file of this kind"])
def test_a_damaged_cache_is_refused_by_name(fault, tmp_path):
    toy, file = Toy(), tmp_path / "reference.safetensors"
    known([pictures(40, 0)], toy, cache=file)
    if fault == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif fault == "other tensors":
        save_file({"layer": torch.zeros(2)}, file)
    else:
        file.write_text("hello")
    with pytest.raises(ValueError, match=r"reference\.safetensors is damaged or holds no reference statistics"):
        known([pictures(40, 0)], toy, cache=file)
    with pytest.raises(ValueError, match="no file of reference statistics"):
        load_reference(tmp_path / "none.safetensors")


# ---------------------------------------------------------------------------------------------------------------------
# Several processes


def test_two_processes_find_what_one_finds(tmp_path):
    toy, size, counts = Toy(), 2, 151
    ref = known(pictures(200, 0).split(50), toy, neighbours_up_to=60)
    expected = quiet(pictures(counts, 1).split(50), ref, toy, precision_recall=50)
    torch.multiprocessing.spawn(on_one_rank, (size, tmp_path, counts), nprocs=size)
    for rank in range(size):
        found, errors, neighbours = torch.load(tmp_path / f"{rank}.pt")
        assert found == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(neighbours, ref.neighbours)
        assert "images None -> 'b'" in errors[0]  # on every rank, or the others would wait
        assert "3 samples are too few" in errors[1]  # of the first rank; the second has none
        assert "samples holds other samples (seed 0 -> 1)" in errors[2]
    torch.testing.assert_close(load_reference(tmp_path / "cache.safetensors").mean, ref.mean)


def test_statistics_of_parts_are_those_of_the_whole_beyond_one_block_of_columns():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(700, 600, generator=g, dtype=torch.float64) @ torch.randn(
        600, 600, generator=g, dtype=torch.float64
    )
    whole, one = FeatureStatistics(), FeatureStatistics()
    whole.update(x + 100)
    for part in x.split(99):
        one.update(part + 100)
    torch.testing.assert_close(one.covariance(), torch.cov(x.T), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.covariance(), whole.covariance(), rtol=1e-9, atol=1e-9)
    assert torch.equal(one.covariance(), one.covariance().T)
    assert frechet_distance(one.mean(), one.covariance(), whole.mean(), whole.covariance()) < 1e-6


@pytest.mark.parametrize("samples", [64, 65, 66, 80, 1000])
@pytest.mark.parametrize("smallest", [1.0, 1e-4, 1e-8])
def test_cholesky_gives_the_distance_that_eigenvectors_give_also_near_singularity(samples, smallest, monkeypatch):
    g = torch.Generator().manual_seed(samples)
    scales = torch.logspace(0, math.log10(smallest), 64, dtype=torch.float64)
    one, other = FeatureStatistics(), FeatureStatistics()
    one.update(torch.randn(samples, 64, generator=g, dtype=torch.float64) * scales)
    other.update(torch.randn(samples, 64, generator=g, dtype=torch.float64) * scales.flip(0))
    found = one.distance(other), one.distance(one)
    with monkeypatch.context() as m:
        m.setattr(torch.linalg, "cholesky_ex", lambda x: (x, torch.tensor(1)))
        expected = one.distance(other), one.distance(one)
    assert found[0] == pytest.approx(expected[0], rel=1e-8)
    assert found[1] < 1e-8 * one.covariance().trace()


# ---------------------------------------------------------------------------------------------------------------------
# The networks of others, with random weights


def test_inception_gives_the_logits_of_its_score_with_the_features(tmp_path, monkeypatch):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network_class = fidelity.FeatureExtractorInceptionV3
    with monkeypatch.context() as m:  # its constructor wants weights
        m.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        m.setattr(network_class, "load_state_dict", lambda *_: None)
        network = network_class("inception-v3-compat", ["2048", "logits_unbiased"])
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    inception = inception_features(tmp_path / "inception.pth")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features, logits = network(pixels)
    found = inception.class_probabilities(features)
    torch.testing.assert_close(found, logits.softmax(1))
    assert (inception.name, inception.dimensions, features.shape[1], found.shape[1]) == ("inception", 2048, 2048, 1008)
    digest = hashlib.sha256((tmp_path / "inception.pth").read_bytes()).hexdigest()
    assert digest.startswith(inception.digest)


def test_dinov2_knows_its_size_and_its_weights(tmp_path):
    timm = pytest.importorskip("timm")
    model = "vit_small_patch14_dinov2"
    save_file(timm.create_model(model, num_classes=0, img_size=224).state_dict(), tmp_path / "model.safetensors")
    dinov2 = dinov2_features(tmp_path, model)
    images = torch.zeros(1, 3, 28, 28)
    assert (dinov2.name, dinov2.dimensions, dinov2(images).shape[1]) == ("dinov2", 384, 384)
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert digest.startswith(dinov2.digest)
    assert not hasattr(dinov2, "class_probabilities")
