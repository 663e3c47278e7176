"""What a warm-up shows, by frequency, against constructed latents; the cost of the switch against a simulation."""

import pytest
import torch

from diffusab_book.explorers.opposite import Exposure, exposure, mismatch_loss, ranked, second_moments, warmup_explorer
from diffusab_core import data, flow
from diffusab_core.spectrum import block_idct, zigzag_order
from diffusab_core.spectrum.radial import radial_split


def coefficients(seed, n=4000, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 2, 64, generator=generator, dtype=torch.float64)


def test_ranks_are_in_zigzag_order_and_blocks_are_samples():
    wanted = coefficients(0, n=6)  # 6 blocks of 2 channels
    natural = torch.empty_like(wanted)
    natural[..., zigzag_order(8)] = wanted
    # Two latents of 8 x 24: three blocks side by side in each.
    blocks = natural.unflatten(-1, (8, 8)).unflatten(0, (2, 1, 3)).permute(0, 3, 1, 2, 4, 5)
    torch.testing.assert_close(ranked(block_idct(blocks)), wanted)


def test_exposure_of_a_known_gain():
    """Halving the amplitude at one rank leaves a quarter of the energy there, at distance (1 - 1/2)²."""
    whole = coefficients(1)
    low = whole.clone()
    low[..., 40] = 0.5 * whole[..., 40] - 0.5 * whole[..., 40].mean(0) + whole[..., 40].mean(0)
    low[..., 50] = whole[..., 50].mean(0)  # nothing but the right mean
    found = exposure(whole, low)
    expected = torch.ones(64, dtype=torch.float64)
    expected[40], expected[50] = 0.25, 0
    torch.testing.assert_close(found.ratio, expected)
    assert found.distance[40].item() == pytest.approx(0.25, rel=1e-6)
    assert found.distance[50].item() == pytest.approx(1, rel=1e-6)
    others = torch.ones(64, dtype=torch.bool)
    others[[40, 50]] = False
    assert found.distance[others].max() < 1e-9
    torch.testing.assert_close(found.energy, whole.var(0, correction=0).mean(0))


def test_no_coupling_is_cheaper_than_the_distance():
    """The distance is the least mean squared change that turns one into the other: pairing the images costs more."""
    x = data.stack(data.Photos(32, "train", seed=3, length=40), range(40)).double()
    whole, low = ranked(x), ranked(radial_split(x, 0.2)[0])
    paired = (whole - low).square().sum(1).mean(0) / second_moments(whole)[1].diagonal(dim1=1, dim2=2).sum(1)
    found = exposure(whole, low)
    assert (found.distance <= paired + 1e-9).all()
    assert found.distance.max() > 0.1  # and it is not nothing


def test_mismatch_against_a_simulation():
    """A linear denoiser of the one spectrum on data of the other, noise and all."""
    believed, energy = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 1.0, 0.01], [1.0, 0.2, 0.01]))
    generator = torch.Generator().manual_seed(2)
    n = 400_000
    x = energy.sqrt() * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    t = torch.sigmoid(torch.randn(n, 1, generator=generator, dtype=torch.float64))
    state, wanted = (1 - t) * x + t * noise, noise - x
    losses = []
    for lam in (believed, energy):
        slope = (t - (1 - t) * lam) / ((1 - t) ** 2 * lam + t**2)
        losses.append((slope * state - wanted).square().mean(0))
    found = mismatch_loss(believed, energy)
    torch.testing.assert_close(losses[0] - losses[1], found, rtol=0.05, atol=0.005)
    torch.testing.assert_close(losses[1], flow.mean_least_loss(energy), rtol=0.02, atol=0)
    assert found[2].item() == pytest.approx(0, abs=1e-12)
    assert (found[:2] > 0.05).all()


def explored():
    whole = coefficients(4, n=200)
    return {name: {r: exposure(whole, whole * gain**r) for r in (0.1, 0.2)} for name, gain in (("a", 0.5), ("b", 0.1))}


def test_explorer_draws_and_states_what_was_measured():
    found = explored()
    explorer = warmup_explorer(data.photo("coffee")[:, 100:132, 200:232], found)
    assert explorer.defaults == {"r0": 0.2}
    figure = explorer.draw(r0=0.1)
    assert [trace.name for trace in figure.data[1:]] == ["a", "a", "b", "b"]
    assert list(figure.data[1].y) == pytest.approx(found["a"][0.1].ratio.tolist(), rel=1e-3)
    assert list(figure.data[4].y) == pytest.approx(found["b"][0.1].distance.tolist(), rel=1e-3)
    said = figure.layout.annotations[2].text
    assert said.endswith(f"a × {0.5**0.2:.2f}, b × {0.1**0.2:.2f}")
    assert len(explorer.published().frames) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exposure(coefficients(0), coefficients(0)[:, :1]), r"\(4000, 1, 64\) do not compare"),
        (lambda: exposure(torch.zeros(4, 1, 64, dtype=torch.float64), coefficients(0)[:, :1]), "vary at rank 0"),
        (lambda: mismatch_loss(torch.tensor([0.0]), torch.tensor([1.0])), "positive, the smallest is 0"),
        (lambda: mismatch_loss(torch.tensor([1.0]), torch.tensor([-1.0])), "positive, the smallest is -1"),
        (lambda: warmup_explorer(torch.zeros(3, 8, 8), {}), "same cutoffs"),
        (
            lambda: warmup_explorer(
                torch.zeros(3, 8, 8), {"a": explored()["a"], "b": {0.1: Exposure(*torch.ones(3, 64))}}
            ),
            "same cutoffs",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
