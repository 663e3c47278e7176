"""Figures: exact pixels, alt text, and content that agrees with the package."""

import base64
import io
import json

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


def test_a_data_uri_holds_the_picture():
    pixels = np.full((8, 9, 3), (200, 100, 50), dtype=np.uint8)
    uri = figures.data_uri(pixels, 90)
    decoded = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))
    np.testing.assert_allclose(np.asarray(decoded, dtype=int), pixels.astype(int), atol=4)


def test_alt_text_is_required():
    with pytest.raises(ValueError, match="alt text"):
        figures.profiles({"a": torch.ones(4)}, alt="curve")
    fig = figures.profiles({"a": torch.ones(4)}, alt="A single flat curve at one.")
    assert fig.layout.meta["alt"] == "A single flat curve at one."


@pytest.mark.parametrize("block_size", [4, 8])
def test_zigzag_figure_visits_cells_in_order(block_size):
    trace = figures.zigzag_path(block_size).data[0]
    walked = [u * block_size + v for u, v in zip(trace.y, trace.x, strict=True)]
    assert walked == zigzag_order(block_size).tolist()
    assert list(trace.text) == [str(rank) for rank in range(block_size**2)]


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


ALT = "Two curves over a few places."


def test_lines_take_values_alone_or_with_their_places():
    fig = figures.lines({"a": torch.tensor([1.0, 2.0]), "b": ([5, 6, 7], np.array([3.0, 4.0, 5.0]))}, alt=ALT, x=[1, 2])
    assert [(list(t.x), list(t.y)) for t in fig.data] == [([1, 2], [1.0, 2.0]), ([5, 6, 7], [3.0, 4.0, 5.0])]
    assert list(figures.lines({"a": [1, 2]}, alt=ALT).data[0].x) == [0, 1]
    with pytest.raises(ValueError, match="'a' has 3 values at 2 places"):
        figures.lines({"a": [1, 2, 3]}, alt=ALT, x=[1, 2])
    for wrong in ({"styles": {"c": {}}}, {"band": {"c": ([0], [1])}}):
        with pytest.raises(ValueError, match="no series 'c' among a"):
            figures.lines({"a": [1]}, alt=ALT, **wrong)


def test_styles_and_axes_reach_the_figure():
    styles = {"b": {"color": 0, "dash": "dot", "mode": "lines+markers", "symbol": 4, "showlegend": False}}
    fig = figures.lines({"a": [1, 2], "b": [2, 1]}, alt=ALT, styles=styles, log_x=True, xlabel="x", ylabel="y")
    a, b = fig.data
    assert a.line.color == b.line.color == b.marker.color == figures.BLUE
    assert (b.line.dash, b.marker.symbol, b.showlegend) == ("dot", 4, False)
    assert (fig.layout.xaxis.type, fig.layout.yaxis.type) == ("log", None)
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("x", "y")


def test_a_band_is_a_shape_around_lines_and_bars_at_points():
    band = {"a": ([0.5, 1.0], [2.0, 4.0])}
    area, line = figures.lines({"a": [1.0, 2.0]}, alt=ALT, band=band).data
    assert (list(area.x), list(area.y)) == ([0, 1, 1, 0], [2.0, 4.0, 1.0, 0.5])
    assert list(line.y) == [1.0, 2.0]
    (point,) = figures.points({"a": [1.0, 2.0]}, alt=ALT, band=band).data
    assert (list(point.error_y.array), list(point.error_y.arrayminus)) == ([1.0, 2.0], [0.5, 1.0])


def test_bars_hold_values_and_intervals():
    fig = figures.bars({"g": {"a": 1, "b": (2, 1.5, 4)}, "h": {"c": 3}}, alt=ALT)
    g, h = fig.data
    assert (list(g.y), list(g.error_y.array), list(g.error_y.arrayminus)) == ([1, 2], [0, 2], [0, 0.5])
    assert h.error_y.array is None
    assert list(fig.layout.xaxis.categoryarray) == ["a", "b", "c"]


def test_a_heatmap_has_its_first_row_at_the_top():
    fig = figures.heatmap(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), alt=ALT, x=["u", "v"], limits=(0, 5))
    trace = fig.data[0]
    assert [list(row) for row in trace.z] == [[1.0, 2.0], [3.0, 4.0]]
    assert (trace.zmin, trace.zmax, list(trace.x)) == (0, 5, ["u", "v"])
    assert fig.layout.yaxis.autorange == "reversed"


def test_marks_stand_where_they_are_told_on_logarithmic_axes_too():
    fig = figures.mark(figures.lines({"a": ([1, 100], [1, 2])}, alt=ALT, log_x=True), x=10, text="here")
    assert (fig.layout.shapes[0].x0, fig.layout.shapes[0].x1, fig.layout.shapes[0].yref) == (10, 10, "y domain")
    assert fig.layout.annotations[0].x == 1  # Plotly takes logarithms here and values there
    for wrong in ({}, {"x": 1, "y": 1}):
        with pytest.raises(ValueError, match="at x or at y"):
            figures.mark(fig, **wrong)


def test_panels_keep_axes_marks_and_one_legend_entry_per_name():
    left = figures.mark(figures.lines({"a": [1, 2]}, alt=ALT, log_y=True, ylabel="left"), y=1.5)
    right = figures.mark(figures.lines({"a": [1, 2], "b": [2, 3]}, alt=ALT, ylabel="right"), x=0.5, text="here")
    fig = figures.panels([left, right], ["one", "two"], alt=ALT)
    assert [(t.name, t.xaxis, t.yaxis, t.showlegend) for t in fig.data[1:]] == [
        ("a", "x2", "y2", fig.data[1].showlegend), ("b", "x2", "y2", True),
    ]  # fmt: skip
    assert sum(t.name == "a" and t.showlegend is not False for t in fig.data) == 1
    assert (fig.layout.yaxis.type, fig.layout.yaxis2.type) == ("log", None)
    assert [fig.layout[f"yaxis{n}"].title.text for n in ("", "2")] == ["left", "right"]
    assert [(s.xref, s.yref) for s in fig.layout.shapes] == [("x domain", "y"), ("x2", "y2 domain")]
    assert [n.text for n in fig.layout.annotations] == ["one", "two", "here"]
    assert left.data[0].xaxis is None  # the parts stay as they were


def test_pictures_stand_above_a_wide_plot_with_its_legend():
    part = figures.picture(torch.zeros(3, 8, 8))
    plot = figures.lines({"a": [1, 2], "b": [2, 1]}, ylabel="y")
    fig = figures.panels([part, part, plot], ["one", "two", ""], alt=ALT, height=500, wide=True, heights=[0.6, 0.4])
    domains = [(fig.layout[f"xaxis{n}"].domain, fig.layout[f"yaxis{n}"].domain) for n in ("", "2", "3")]
    assert domains[2][0] == (0, 1)
    assert domains[0][0][1] < domains[1][0][0]
    top, bottom = domains[0][1], domains[2][1]
    assert bottom[0] == 0
    assert bottom[1] < top[0]
    assert (top[1] - top[0]) / (bottom[1] - bottom[0]) == pytest.approx(1.5)
    assert fig.layout.legend.y == bottom[1]
    assert (fig.layout.xaxis.visible, fig.layout.xaxis3.visible) == (False, None)
    assert [trace.type for trace in fig.data] == ["image", "image", "scatter", "scatter"]


def test_panels_that_share_an_axis_label_it_once():
    one = figures.lines({"a": [1, 2]}, ylabel="y")
    fig = figures.panels([one] * 4, list("1234"), alt=ALT, columns=2, share_y=True)
    assert [fig.layout[f"yaxis{n}"].matches for n in ("", "2", "3", "4")] == [None, "y", None, "y3"]
    assert [fig.layout[f"yaxis{n}"].title.text for n in ("", "2", "3", "4")] == ["y", None, "y", None]
    assert {fig.layout[f"yaxis{n}"].showticklabels for n in ("", "2", "3", "4")} == {None}, "each has its numbers"
    rows = figures.heatmap(torch.eye(2), y=["a long name", "another"])
    named = figures.panels([rows, rows], ["1", "2"], alt=ALT, share_y=True)
    assert (named.layout.yaxis.showticklabels, named.layout.yaxis2.showticklabels) == (None, False)


def test_heatmaps_in_panels_stay_square_and_share_a_colour_bar():
    one = figures.heatmap(torch.eye(3), alt=ALT)
    fig = figures.panels([one, one, one], ["1", "2", "3"], alt=ALT)
    assert [t.showscale for t in fig.data] == [False, False, True]
    assert [fig.layout[f"yaxis{n}"].scaleanchor for n in ("", "2", "3")] == ["x", "x2", "x3"]


def test_a_heatmap_may_write_its_values_into_cells_of_any_shape():
    fig = figures.heatmap(torch.eye(3), form=".2f", square=False, alt=ALT)
    assert fig.data[0].texttemplate == "%{z:.2f}"
    assert fig.layout.yaxis.scaleanchor is None


def test_an_image_grid_has_a_name_for_each_row_and_a_title_for_each_image():
    picture = torch.zeros(3, 40, 20)
    rows = {"photograph": [picture, picture], "latent": [picture, picture]}
    fig = figures.image_grid(rows, [["a", "b<br>1 dB"], ["c", "d"]], alt=ALT, size=10)
    assert [n.text for n in fig.layout.annotations] == ["a", "b<br>1 dB", "c", "d", "photograph", "latent"]
    shown = Image.open(io.BytesIO(base64.b64decode(fig.data[0].source.split(",")[1])))
    assert shown.size == (10, 20)
    assert len(figures.image_grid(rows, ["a", "b"], alt=ALT).data) == 4
    with pytest.raises(ValueError, match=r"\[2, 2\] images with rows of \[3, 3\]"):
        figures.image_grid(rows, ["a", "b", "c"], alt=ALT)


@pytest.mark.parametrize("columns", range(1, 10))
def test_panels_of_any_number_end_at_the_right_edge(columns):
    # Five columns with gaps add up to a little more than one in floating point, which Plotly refuses.
    strip = [torch.zeros(3, 8, 8)] * columns
    fig = figures.image_grid({"a": strip, "b": strip}, ["t"] * columns, alt=ALT)
    assert fig.layout[f"xaxis{2 * columns}"].domain[1] == pytest.approx(1)


def test_a_page_gets_four_digits_and_no_packed_arrays():
    fig = figures.lines({"a": [1.0, 0.123456, float("nan")]}, alt=ALT)
    fig.add_heatmap(z=np.array([[12345.678, 2.0], [1e-9 / 3, -1.0]]))
    short = figures.shorten(json.loads(fig.to_json()))
    assert short["data"][0]["y"] == [1, 0.1235, None]
    assert short["data"][1]["z"] == [[12350.0, 2], [3.333e-10, -1]]
    assert figures.shorten({"x": [12345, 12345.0, "1.23456"], "on": True}) == {
        "x": [12345, 12345, "1.23456"],
        "on": True,
    }
    json.dumps(short, allow_nan=False)


def test_mosaic_puts_images_row_by_row():
    images = torch.linspace(-1, 0.5, 6)[:, None, None, None].expand(6, 3, 4, 5)
    joined = figures.mosaic(images, columns=3)
    assert joined.shape == (3, 2 * 4 + 2, 3 * 5 + 2 * 2)
    for i in range(6):
        row, column = divmod(i, 3)
        tile = joined[:, row * 6 : row * 6 + 4, column * 7 : column * 7 + 5]
        torch.testing.assert_close(tile, images[i])
    assert (joined[:, 4:6] == 1).all()
    assert (joined[:, :, 5:7] == 1).all()


def test_a_mosaic_leaves_the_rest_of_its_last_row_white():
    images = torch.full((3, 3, 4, 5), -1.0)
    joined = figures.mosaic(images, columns=2)
    assert joined.shape == (3, 2 * 4 + 2, 2 * 5 + 2)
    assert (joined[:, 6:, :5] == -1).all()
    assert (joined[:, 6:, 7:] == 1).all()
    torch.testing.assert_close(figures.mosaic(images[:1], columns=8), images[0])
