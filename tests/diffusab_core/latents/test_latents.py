"""Latents from tensors: statistics of channels, normalisation, and what is refused."""

import pytest
import torch
from safetensors.torch import save_file

from diffusab_core.latents import LatentsError, TensorLatents, base, open_latents

# ---------------------------------------------------------------------------------------------------------------------
# Statistics and normalisation


def test_statistics_are_those_of_the_samples_of_each_channel():
    g = torch.Generator().manual_seed(0)
    offset, width = torch.tensor([-40.0, 0.0, 900.0]), torch.tensor([0.5, 2.0, 30.0])
    mean = torch.randn(300, 3, 5, 7, generator=g) * width[:, None, None] + offset[:, None, None]
    found = TensorLatents(mean)
    torch.testing.assert_close(found.channel_mean, mean.mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.channel_std, mean.std((0, 2, 3), correction=0), rtol=1e-4, atol=0)
    # Samples vary more than means, by the variance of the posterior: sigma^2 adds.
    sampled = TensorLatents(mean, torch.full_like(mean, 3.0))
    expected = (mean.double().var((0, 2, 3), correction=0) + 9).sqrt().float()
    torch.testing.assert_close(sampled.channel_std, expected, rtol=0.03, atol=0)
    assert sampled.channel_std[0] > 4 * found.channel_std[0]


def test_statistics_are_over_2048_items_spread_over_all():
    mean = torch.zeros(4096, 1, 1, 2)
    mean[::2] = torch.tensor([3.0, 5.0])  # every other one: exactly those that an even spread takes
    found = TensorLatents(mean)
    assert (found.channel_mean.item(), found.channel_std.item()) == (4.0, 1.0)


def test_noise_of_an_item_does_not_depend_on_how_many_there_are():
    mean, std = torch.zeros(2100, 2, 1, 1), torch.ones(2100, 2, 1, 1)
    (some,) = base._samples(TensorLatents(mean, std), [5, 2000])
    more = torch.cat(list(base._samples(TensorLatents(mean, std), list(range(2100)))))
    assert torch.equal(some, more[[5, 2000]])
    assert abs(more.std().item() - 1) < 0.05


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 2, 3, 3)])
def test_normalising_is_undone_for_any_leading_axes(shape):
    z = torch.randn(50, *shape, generator=torch.Generator().manual_seed(0)) * 3 + 7
    found = TensorLatents(z)
    n = found.normalise(z)
    assert torch.allclose(n.transpose(0, 1).flatten(1).mean(1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(n.transpose(0, 1).flatten(1).std(1, correction=0), torch.ones(4), atol=1e-5)
    for some in (z[0], z, z.unflatten(0, (5, 10))):
        torch.testing.assert_close(found.denormalise(found.normalise(some)), some)
    assert torch.equal(found.normalise(z.unflatten(0, (5, 10))).flatten(0, 1), n)
    with pytest.raises(ValueError, match="latents of 4 channels"):
        found.normalise(z[:, :3])


def test_a_constant_channel_is_refused():
    z = torch.randn(8, 3, 2, 2)
    z[:, 1] = 0.25
    with pytest.raises(LatentsError, match=r"channel 1 of the latents is 0\.25 everywhere in 8 samples"):
        _ = TensorLatents(z).channel_std


# ---------------------------------------------------------------------------------------------------------------------
# From tensors


def test_tensors_are_given_back():
    mean, std, y = torch.randn(6, 2, 3, 3), torch.rand(6, 2, 3, 3), torch.tensor([0, 2, 1, 0, 0, 2])
    found = TensorLatents(mean, std, y, flipped=(-mean, None))
    assert (len(found), found.shape, found.num_classes, found.class_names) == (6, (2, 3, 3), 3, ("0", "1", "2"))
    m, s, labels = found.posterior([5, 0, 1], [False, True, False])
    assert torch.equal(m, torch.stack([mean[5], -mean[0], mean[1]]))
    assert torch.equal(s, torch.stack([std[5], torch.zeros(2, 3, 3), std[1]]))
    assert torch.equal(labels, y[[5, 0, 1]])
    assert labels.dtype == torch.int64
    assert TensorLatents(mean).posterior([1])[2] is None
    assert TensorLatents(mean).identity == TensorLatents(mean.clone()).identity
    assert TensorLatents(mean).identity != TensorLatents(mean + 1e-6).identity


def test_what_cannot_be_given_is_refused():
    mean = torch.randn(6, 2, 3, 3)
    with pytest.raises(IndexError, match="item 6 is outside 6 latents"):
        TensorLatents(mean).posterior([0, 6])
    with pytest.raises(IndexError, match="item -1"):
        TensorLatents(mean).posterior([-1])
    with pytest.raises(LatentsError, match="stored without those of the mirrored images"):
        TensorLatents(mean).posterior([0], [True])
    with pytest.raises(LatentsError, match=r"class 3 of these latents is outside 0 \.\.\. 2"):
        TensorLatents(mean, labels=torch.tensor([0, 1, 2, 3, 0, 0]), class_names=["a", "b", "c"])
    with pytest.raises(LatentsError, match=r"shape of the mean \(6, 2, 3, 3\), got \(6, 2, 3, 4\)"):
        TensorLatents(mean, torch.zeros(6, 2, 3, 4))
    with pytest.raises(LatentsError, match="6 latents need 6 labels"):
        TensorLatents(mean, labels=torch.zeros(5, dtype=torch.long))
    with pytest.raises(LatentsError, match="the dataset is empty"):
        TensorLatents(mean[:0])


# ---------------------------------------------------------------------------------------------------------------------
# From a file


def test_latents_files_that_cannot_be_used(tmp_path):
    save_file({"a": torch.zeros(1, 1, 8, 8), "b": torch.zeros(1, 1, 8, 8)}, tmp_path / "two.safetensors")
    save_file({"a": torch.zeros(2, 8, 8)}, tmp_path / "flat.safetensors")
    save_file({"a": torch.zeros(2, 1, 8, 8, dtype=torch.int64)}, tmp_path / "int.safetensors")
    save_file({"a": torch.zeros(0, 1, 8, 8)}, tmp_path / "none.safetensors")
    whole = torch.randn(3, 2, 4, 4)
    save_file({"z": whole}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:200])
    (tmp_path / "z.pt").touch()
    for name, key, said in [
        ("nowhere.safetensors", None, "there is no file"),
        ("two.safetensors", None, r"one of its 2 tensors with --latents-key \(a, b\), not None"),
        ("two.safetensors", "c", r"one of its 2 tensors with --latents-key \(a, b\), not c"),
        ("flat.safetensors", None, r"shape \(2, 8, 8\)"),
        ("int.safetensors", None, "is I64"),
        ("none.safetensors", None, r"\(0, 1, 8, 8\)"),
        ("z.pt", None, "is a pickle"),
        ("cut.safetensors", None, "cannot be read as safetensors"),
    ]:
        with pytest.raises(LatentsError, match=said):
            open_latents(tmp_path / name, key)
    assert open_latents(tmp_path / "two.safetensors", "b").key == "b"
    found = open_latents(tmp_path / "whole.safetensors")
    assert (found.name, found.shape) == ("whole", (3, 2, 4, 4))
    assert torch.equal(found.read(1, 3), whole[1:])
