"""Figures: exact pixels, alt text, and content that agrees with the package."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffusab_book import figures
from diffusab_core.spectrum import zigzag_order


def test_pixels_are_clamped_and_rounded():
    image = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).expand(3, 1, 5)
    np.testing.assert_array_equal(figures.to_uint8(image)[0, :, 0], [0, 0, 128, 255, 255])
    with pytest.raises(ValueError, match=r"\(5, 4, 4\)"):
        figures.to_uint8(torch.zeros(5, 4, 4))


def test_lossless_uri_round_trips():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    uri = figures.data_uri(pixels, quality=None)
    decoded = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    np.testing.assert_array_equal(np.asarray(decoded), pixels)
    assert figures.data_uri(pixels, 80).startswith("data:image/webp;base64,")


def test_alt_text_is_required():
    with pytest.raises(ValueError, match="alt text"):
        figures.profiles({"a": torch.ones(4)}, alt="curve")
    fig = figures.profiles({"a": torch.ones(4)}, alt="A single flat curve at one.")
    assert fig.layout.meta["alt"] == "A single flat curve at one."


@pytest.mark.parametrize("block_size", [4, 8])
def test_zigzag_figure_visits_cells_in_order(block_size):
    trace = figures.zigzag_path(block_size, cut_from=3).data[0]
    walked = [u * block_size + v for u, v in zip(trace.y, trace.x, strict=True)]
    assert walked == zigzag_order(block_size).tolist()
    assert [c == figures.BLUE for c in trace.marker.color] == [i < 3 for i in range(block_size**2)]


def test_basis_mosaic_shows_each_pattern_in_its_place():
    z = np.array(figures.basis_functions(4).data[0].z, dtype=float)  # (19, 19), tiles of 4 with a gap of 1
    assert z.shape == (19, 19)
    np.testing.assert_allclose(z[:4, :4], 0.25, atol=1e-3)  # D00 is the flat pattern 1/B
    rows, columns = z[5:9, :4], z[:4, 5:9]  # u = 1 varies down the rows, v = 1 along the columns
    np.testing.assert_allclose(rows, rows[:, :1] * np.ones(4), atol=1e-6)
    np.testing.assert_allclose(columns, rows.T, atol=1e-6)
    assert np.isnan(z[4]).all()


def test_lines_differ_by_colour_and_dash():
    fig = figures.profiles({str(i): torch.ones(4) for i in range(5)}, alt="Five flat curves, all at one.")
    assert len({trace.line.color for trace in fig.data}) == len({trace.line.dash for trace in fig.data}) == 5


def test_over_seeds_shows_every_run_and_the_mean():
    values = {"f4": {"4": [1.0, 3.0], "16": [2.0]}, "f8": {"4": [4.0], "64": [5.0, 7.0, 9.0]}}
    fig = figures.over_seeds(values, alt="Two lines over three places, with every run.", xlabel="channels", ylabel="y")
    lines, markers = fig.data[::2], fig.data[1::2]
    assert [list(trace.y) for trace in lines] == [[2.0, 2.0], [4.0, 7.0]]
    assert [list(trace.y) for trace in markers] == [[1.0, 3.0, 2.0], [4.0, 5.0, 7.0, 9.0]]
    assert list(markers[1].x) == ["4", "64", "64", "64"]
    assert list(fig.layout.xaxis.categoryarray) == ["4", "16", "64"]
    assert len({trace.marker.symbol for trace in markers}) == 2
