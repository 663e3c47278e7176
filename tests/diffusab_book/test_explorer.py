"""Explorers: the live form and the published form show what draw() returns, for every combination of controls."""

import itertools

import numpy as np
import plotly.graph_objects as go
import pytest

from diffusab_book.explorer import Control, Explorer


def draw(power, offset, shown):
    x = np.arange(5)
    fig = go.Figure(
        [
            go.Scatter(x=x, y=x**power + offset, name="curve", visible=shown == "curve"),
            go.Scatter(x=x, y=x, name="constant", visible=shown == "line"),
        ]
    )
    fig.update_layout(annotations=[{"text": f"power {power}, offset {offset}"}], height=300)
    return fig


CONTROLS = (
    Control("power", "power", (1, 2, 3), 2, "slider"),
    Control("offset", "offset", (0, 10), 0, "menu"),
    Control("shown", "", ("curve", "line"), "curve", "toggle"),
)


@pytest.fixture
def explorer():
    return Explorer(draw, CONTROLS)


def test_the_live_figure_reaches_the_page_with_its_traces(explorer, monkeypatch):
    """And not after it: a slow page would draw the empty one, which then stays."""
    import comm

    create, opened = comm.create_comm, []
    monkeypatch.setattr(comm, "create_comm", lambda **how: opened.append(how["data"]["state"]) or create(**how))
    _, figure = explorer.widget().children
    (state,) = [state for state in opened if "_widget_data" in state]
    assert [trace["name"] for trace in state["_widget_data"]] == ["curve", "constant"]
    assert state["_widget_layout"]["height"] == 300
    assert len(state["_esm"]) < 2000  # which is there at once
    assert "as default" in state["_plotly"]  # what it imports
    assert figure.model_id


def test_published_has_a_frame_for_each_slider_and_menu_value(explorer):
    fig = explorer.published()
    assert len(fig.frames) == 3 * 2
    frames = {frame.name: frame for frame in fig.frames}
    for power, offset in itertools.product((1, 2, 3), (0, 10)):
        frame = frames[f"offset={offset}|{power}"]
        np.testing.assert_array_equal(frame.data[0].y, draw(power, offset, "curve").data[0].y)
        assert frame.layout.annotations[0].text == f"power {power}, offset {offset}"


def test_published_frames_hold_only_what_the_slider_changes(explorer):
    for frame in explorer.published().frames:
        assert frame.traces == (0,)
        assert set(frame.data[0].to_plotly_json()) == {"type", "y"}


def test_published_menu_swaps_the_slider_and_the_drawing(explorer):
    fig = explorer.published()
    menu = fig.layout.updatemenus[0]
    assert menu.active == 0
    restyle, layout = menu.buttons[1].args
    np.testing.assert_array_equal(restyle["y"][0], draw(2, 10, "curve").data[0].y)
    steps = layout["sliders"][0]["steps"]
    assert [step["args"][0] for step in steps] == [[f"offset=10|{p}"] for p in (1, 2, 3)]
    assert fig.layout.sliders[0].active == 1


def test_published_toggle_only_changes_visibility(explorer):
    button = explorer.published().layout.updatemenus[1].buttons[1]
    assert button.method == "restyle"
    assert button.args[0] == {"visible": [False, True]}


def test_widget_follows_every_control(explorer):
    box = explorer.widget()
    slider, offset, shown = box.children[0].children
    figure = box.children[1]
    slider.value, offset.value, shown.value = 3, 10, "line"
    np.testing.assert_array_equal(figure.data[0].y, draw(3, 10, "line").data[0].y)
    assert [trace.visible for trace in figure.data] == [False, True]
    assert figure.layout.annotations[0].text == "power 3, offset 10"


def test_display_form_follows_the_build_variable(explorer, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setattr(go.Figure, "show", lambda self: shown.append(self))
    monkeypatch.delenv("DIFFUSAB_PUBLISH", raising=False)
    explorer._ipython_display_()
    monkeypatch.setenv("DIFFUSAB_PUBLISH", "1")
    explorer._ipython_display_()
    assert type(shown[0]).__name__ == "VBox"
    assert isinstance(shown[1], go.Figure)
    assert shown[1].frames


def test_a_menu_with_one_entry_is_not_shown():
    def draw(power, offset=7):
        return go.Figure(go.Scatter(y=[power, offset]))

    explorer = Explorer(draw, [CONTROLS[0], Control("offset", "offset", (7,), 7, "menu")])
    assert explorer.defaults == {"power": 2}
    assert not explorer.published().layout.updatemenus
    assert [frame.name for frame in explorer.published().frames] == ["1", "2", "3"]


def test_menus_stand_above_the_legend():
    def tall(power, offset):
        return draw(power, offset, "curve").update_layout(margin_t=90)

    menu = Explorer(tall, CONTROLS[:2]).published().layout.updatemenus[0]
    assert menu.pad.b >= 80  # the legend ends 70 pixels above the plot


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="default 5"):
        Control("power", "power", (1, 2), 5)
    with pytest.raises(ValueError, match="exactly one slider"):
        Explorer(draw, CONTROLS[1:])
    with pytest.raises(ValueError, match="traces"):
        Explorer(lambda n: go.Figure([go.Scatter()] * n), [Control("n", "n", (1, 2), 1, "slider")]).published()
