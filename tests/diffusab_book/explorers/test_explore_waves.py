"""The explorer of waves shows what an autoencoder hands back of a wave, and the recorded errors as recorded."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from diffusab_book import figures, results
from diffusab_book.explorers import dial, waves
from diffusab_core import data
from diffusab_core.experiments import records
from diffusab_core.metrics import aliasing

PLACES = [0.5, 0.9, 1.5, 2.5]


@pytest.fixture(scope="module")
def photograph():
    return data.photo("coffee")[:, 96:160, 192:256]


@pytest.fixture
def runs(tmp_path):
    for arm, height in (("a", 0.5), ("a-blurred", 0.8)):
        for seed in (0, 1):
            run = records.start("antialiasing", parameters={}, seed=seed, size="smoke", data="made up")
            errors = [height + seed / 10 + i / 100 for i in range(len(PLACES))]
            run.series = {"in_nyquist": PLACES, "reconstruction_error": errors}
            run.finish().write(tmp_path / f"{arm}-seed{seed}.json")
    return results.frame(tmp_path)


def pixels(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))), float)


def test_waves_come_back_and_records_stand_below(runs, photograph):
    model = aliasing.pixel_unshuffle(8)  # hands everything back
    explorer = waves.waves_explorer(runs, {"a": "a-blurred"}, model, photograph, shown=32)
    assert explorer.slider.options == tuple(PLACES)
    assert explorer.defaults == {"place": 1.5}
    fig = explorer.draw(place=2.5)
    wave, held, back, low = (trace.source for trace in fig.data if trace.type == "image")
    middle = 0.25 * aliasing.grating(64, 64, 0, 10 / 64).float()[16:48, 16:48]  # 2.5 / 16 cycles per pixel
    assert wave == figures.picture(dial.enlarge(3 * middle, 3)).data[0].source
    assert back == wave
    assert pixels(low) == pytest.approx(127.5, abs=2), "beyond the Nyquist frequency nothing passes"
    assert pixels(back).std() > 50
    titles = [note.text for note in fig.layout.annotations]
    assert "ρ = 0.25" in titles[1]
    assert "error 0.00" in titles[2]
    assert "error 1.00" in titles[3]
    same = [explorer.draw(place=place).data[1].source for place in PLACES]
    assert same[0] == same[2] == same[3] == held, "folded onto one place"
    assert same[1] != held

    drawn = {trace.name: trace for trace in fig.data if trace.type == "scatter" and trace.name}
    assert list(drawn["a"].x) == PLACES
    assert list(drawn["a"].y) == pytest.approx([0.55, 0.56, 0.57, 0.58])
    assert list(drawn["a-blurred"].y) == pytest.approx([0.85, 0.86, 0.87, 0.88])
    assert [shape.x0 for shape in fig.layout.shapes] == [1, 2.5]
    assert len(explorer.published().frames) == len(PLACES)


def test_an_autoencoder_needs_a_photograph_that_it_divides(runs, photograph):
    with pytest.raises(ValueError, match="multiple of 8"):
        waves.waves_explorer(runs, {"a": "a-blurred"}, aliasing.pixel_unshuffle(8), photograph[:, :60, :60])
    with pytest.raises(ValueError, match="no arm 'b'"):
        waves.waves_explorer(runs, {"a": "b"}, aliasing.pixel_unshuffle(8), photograph)


def test_the_recorded_pairs_stand_side_by_side():
    runs = waves.read()
    pairs = {name: f"{name}-blurred" for name in ("kl-f8c4", "kl-f8c64")}
    assert len(runs) == 12
    for run in runs.itertuples():  # read at the place that the column's name says
        series = run.record.series
        at = series["in_nyquist"].index(1.5)
        assert run.gain == series["relative_gain"][at]
        assert run.error == series["reconstruction_error"][at]
        assert run.kept == series["amplitude_0.25_0.5"][series["cutoff"].index(0.0625)]
        assert run.above == pytest.approx(run.frechet_offline - run.decoded_latents_frechet)
    shown = waves.table(runs, pairs)
    assert list(shown.columns) == ["kl-f8c4", "kl-f8c4-blurred", "kl-f8c64", "kl-f8c64-blurred"]
    assert list(shown.index) == [title for title, *_ in waves.PAIRS.values()]
    mean = results.means(runs, "error")
    assert shown.loc["error at 1.5", "kl-f8c4"].startswith(f"{mean['kl-f8c4']:.2f} ± ")
    difference = results.paired(runs, "error", "kl-f8c64-blurred", "kl-f8c64")
    assert shown.loc["error at 1.5", "kl-f8c64-blurred"].endswith(f"\n{difference}")
    assert "<details" not in shown._repr_html_()


def test_transfer_curves_leave_out_what_is_nothing(photograph):
    model = aliasing.pixel_unshuffle(8)
    compared = {"plain": model, "low": aliasing.low_passed(model)}
    found = {name: aliasing.encoder_transfer(one, [1 / 32, 3 / 32], (0.0,), 64) for name, one in compared.items()}
    fig = waves.transfer_curves(found, [0.5, 1.5])
    drawn = {(trace.name, trace.yaxis): list(trace.y) for trace in fig.data}
    assert drawn["plain", "y"] == pytest.approx([1, 1])
    assert drawn["low", "y"] == [pytest.approx(1), None], "nothing passes beyond the Nyquist frequency"
    assert drawn["plain", "y2"] == [None, pytest.approx(1)], "all that is beyond it folds"
    assert drawn["plain", "y3"] == [None, None], "and comes back without error"
    assert drawn["low", "y3"] == [None, pytest.approx(1)]
