"""The explorer of a sampling decoder shows what it is given, for each number of steps and each seed."""

import pytest
import torch

from diffusab_book.explorers.decoder import decoder_explorer
from diffusab_core.metrics.invention import Invention

PICTURE = torch.linspace(-1, 1, 64).view(1, 8, 8)
ENERGY = torch.tensor([8.0, 1.0, 0.1, 0.01])


def decode(steps, seed):
    return PICTURE * (1 - steps / 10) + seed / 10


def compare(steps):
    """The share of steps / 10 is invented, at every rank but the first."""
    variance = ENERGY * steps / 10 * torch.tensor([0.0, 1, 1, 1])
    return Invention(variance, ENERGY - variance, 2 * variance, ENERGY)


def make():
    blurred = {"squared error": ENERGY * torch.tensor([1.0, 0.5, 0.1, 0.01])}
    return decoder_explorer(PICTURE, decode, compare, blurred, (1, 2, 5), (0, 3), 2)


def test_it_draws_the_picture_what_is_decoded_and_the_energies():
    figure = make().draw(steps=5, seed=3)
    assert [trace.type for trace in figure.data[:2]] == ["image", "image"]
    lines = {trace.name: list(trace.y) for trace in figure.data[2:]}
    assert list(lines) == ["picture", "decoded", "of it, invented", "squared error"]
    assert lines["picture"] == lines["decoded"] == pytest.approx(ENERGY[1:].tolist(), rel=1e-3)
    assert lines["of it, invented"] == pytest.approx((ENERGY / 2)[1:].tolist(), rel=1e-3)
    assert figure.data[2].x[0] == 1
    assert "50% invented above rank 0" in [note.text for note in figure.layout.annotations]


def test_a_perfect_copy_and_a_wrong_one_differ_in_psnr():
    def said(steps, seed):
        return make().draw(steps=steps, seed=seed).layout.annotations[1].text

    error = (decode(1, 0) - PICTURE).square().mean() / 4  # of RGB in [0, 1]
    assert said(1, 0) == f"drawn from its latent<br>PSNR {-10 * error.log10():.1f} dB"
    assert said(5, 3) != said(5, 0) != said(1, 0)


def test_published_form_has_a_frame_for_each_number_of_steps_and_each_seed():
    figure = make().published()
    assert len(figure.frames) == 6
    sources = {frame.name: [trace.source for trace in frame.data if trace.type == "image"] for frame in figure.frames}
    assert len({tuple(found) for found in sources.values()}) == 6
    assert figure.layout.sliders[0].active == 1
