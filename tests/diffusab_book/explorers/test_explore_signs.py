"""What the explorers of signs show: recorded masks as recorded, and profiles as the transforms say."""

import math

import pytest
import torch

from diffusab_book.explorers import dial, signs
from diffusab_core.latents import TensorLatents
from diffusab_core.methods.reshaping import MASKS


def test_masks_show_signs_samples_and_gaps(tmp_path, write):
    numbers = {"none": 6.0, "blocks": 13.0, "checkerboard": 6.1}
    for mask, number in numbers.items():
        for seed in (0, 1):
            write(tmp_path, mask, seed, number + seed / 10, mask=mask, steps=600)
    runs = dial.read(tmp_path)
    explorer = signs.masks_explorer({"patch 1": runs, "patch 2": runs})
    assert explorer.slider.options == ("none", "checkerboard", "blocks")
    fig = explorer.draw(mask="blocks")
    pictures = [trace.source for trace in fig.data if trace.type == "image"]
    assert pictures[1] == pictures[2] == dial.samples(runs, mask="blocks").data[0].source
    assert len({explorer.draw(mask=mask).data[0].source for mask in numbers}) == 3
    means = next(trace for trace in fig.data if trace.name == "patch 2" and trace.type == "scatter")
    assert dict(zip(means.x, means.y, strict=True)) == pytest.approx({m: n + 0.05 for m, n in numbers.items()})
    assert len(explorer.published().frames) == 3
    with pytest.raises(ValueError, match="blocks"):
        signs.masks_explorer({"patch 1": runs, "patch 2": runs[runs["mask"] != "blocks"]})


def test_profiles_of_tokens_move_with_signs_between_tokens_alone():
    generator = torch.Generator().manual_seed(0)
    smooth = torch.randn(64, 3, 8, 8, generator=generator).cumsum(-1).cumsum(-2)
    explorer = signs.signs_explorer(TensorLatents(smooth), patch=2, shown=4)
    assert explorer.slider.options == tuple(MASKS)

    def curves(mask):
        found = {}
        for trace in explorer.draw(mask=mask).data:
            if trace.name == "times the signs":
                found[len(trace.y)] = torch.tensor(trace.y)
        return found[64], found[16]

    for mask in MASKS:  # no curve leaves its plot
        fig = explorer.draw(mask=mask)
        for trace in (trace for trace in fig.data if trace.type == "scatter"):
            low, high = fig.layout[trace.yaxis.replace("y", "yaxis")].range
            assert low < math.log10(min(trace.y)) <= math.log10(max(trace.y)) < high

    by_pixel, by_token = curves("none")
    for mask, moves in (("rows", False), ("checkerboard", False), ("blocks", True), ("random", True)):
        pixels, tokens = curves(mask)
        assert not torch.allclose(pixels, by_pixel, rtol=0.1)
        assert torch.allclose(tokens, by_token, rtol=1e-4) != moves
    assert len(explorer.published().frames) == len(MASKS)
