"""The explorer of a weight shows the runs that it was given, and keeps its shape from one weight to the next."""

import pandas as pd
import pytest

from diffusab_book import results
from diffusab_book.explorers.alpha import Setting, plane, read_settings, weight_explorer

SETTINGS = {
    0.0: Setting([1.0, 0.5, 0.25], [0.004, 0.006], [30.0, 31.0]),
    0.1: Setting([1.0, 0.4, 0.15], [0.002, 0.004], [30.2, 30.4]),
    1.0: Setting([1.0, 0.3, 0.05], [0.001, 0.003], [29.0, 28.0]),
}
REFERENCES = {"RGB": [1.0, 0.2, 0.02]}


@pytest.fixture(scope="module")
def explorer():
    return weight_explorer(SETTINGS, REFERENCES, start=0.1)


def test_titles_give_means_over_runs_and_the_change_against_the_control(explorer):
    titles = [annotation.text for annotation in explorer.draw(weight=1.0).layout.annotations]
    assert titles == ["α = 1: 2.00 · 10⁻³ in high frequencies", "-2.00 dB against α = 0"]
    assert explorer.draw(weight=0.0).layout.annotations[1].text == "the control"


def test_the_profile_drawn_is_that_of_the_weight_beside_references(explorer):
    traces = {trace.name: trace for trace in explorer.draw(weight=0.1).data if trace.name}
    assert list(traces["this weight"].y) == [1.0, 0.4, 0.15]
    assert list(traces["RGB"].y) == [1.0, 0.2, 0.02]


def test_every_run_is_a_marker_and_those_of_the_weight_are_larger(explorer):
    markers = explorer.draw(weight=0.1).data[-1]
    assert list(zip(markers.x, markers.y, strict=True)) == [(4, 30), (6, 31), (2, 30.2), (4, 30.4), (1, 29), (3, 28)]
    assert [size > 10 for size in markers.marker.size] == [False, False, True, True, False, False]


def test_published_form_has_a_frame_for_each_weight(explorer):
    published = explorer.published()
    assert len(published.frames) == 3
    assert [step.label for step in published.layout.sliders[0].steps] == ["0", "0.1", "1"]
    assert published.layout.sliders[0].active == 1


def test_settings_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match=r"weight 0, is not among the weights \[0\.1\]"):
        weight_explorer({0.1: SETTINGS[0.1]}, REFERENCES, start=0.1)
    with pytest.raises(ValueError, match="one PSNR for each energy ratio, got 1 and 2"):
        Setting([1.0], [0.1, 0.2], [30.0])


def test_settings_are_read_from_records_by_weight():
    runs = results.frame("finetuning")
    found = read_settings(runs, {0.0: "plain", 0.25: "se"})
    assert list(found) == [0.0, 0.25]
    assert found[0.25].psnr_db == runs[runs.arm == "se"].sort_values("seed").after_psnr_db.tolist()
    assert found[0.25].profile[-1] < found[0.0].profile[-1], "scale equivariance lowers the highest frequency"


def test_every_run_lies_in_the_plane_in_the_colour_of_its_family():
    before = {"before_hf_energy_ratio": 0.002, "before_psnr_db": 28.0}
    ran = {"a": ("plain", 0, 0.001, 27.0), "b": ("se", 0, 0.0005, 26.5), "c": ("se-soft1", 1, 0.0002, 26.0)}
    columns = ["arm", "seed", "after_hf_energy_ratio", "after_psnr_db"]
    runs = pd.DataFrame(ran.values(), columns=columns).assign(**before)
    families = {"plain": "control", "se-soft": "both", "se": "SE", "kl": "KL"}
    fig = plane(runs, families, "Runs in a plane of energy and reconstruction.")
    found = {trace.name: (tuple(trace.x), tuple(trace.y)) for trace in fig.data}
    assert found == {
        "control": ((1,), (27,)),
        "both": ((0.2,), (26,)),
        "SE": ((0.5,), (26.5,)),
        "untouched": ((2,), (28,)),
    }
    assert fig.data[1].text == ("se-soft1, seed 1",)
    with pytest.raises(ValueError, match="'se-soft1' begins with none of plain"):
        plane(runs.iloc[2:], {"plain": "control"}, "Runs in a plane of energy and reconstruction.")
