"""The explorer of a weight shows the runs that it was given, and keeps its shape from one weight to the next."""

import pytest

from diffusab_book.explorers.alpha import Setting, weight_explorer

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
