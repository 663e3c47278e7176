r"""What an explorer is made of: one drawing function, shown in two forms.

An :class:`Explorer` holds a function ``draw(**values) -> Figure`` and the controls whose values it takes. In a live
kernel it is ipywidgets beside a Plotly ``FigureWidget`` and computes what the reader asks for; in the published book it
is a plain Plotly figure with precomputed frames, a slider and menus, which needs no kernel. Both come from the same
``draw``, so the page cannot show something else than the notebook.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

PUBLISH_VARIABLE = "DIFFUSAB_PUBLISH"  # set to 1 while the book is built


@dataclass(frozen=True)
class Control:
    """One thing the reader can change.

    Attributes:
        name: The keyword of the drawing function.
        label: What the reader sees beside it.
        options: The values, in order.
        default: The value at the start; one of ``options``.
        kind: ``"slider"`` (exactly one per explorer); ``"menu"``; or ``"toggle"``, a menu that only shows and hides
            what is already drawn, so that it multiplies no frames in the published page.
        text: How a value is written.
    """

    name: str
    label: str
    options: tuple[Any, ...]
    default: Any
    kind: Literal["slider", "menu", "toggle"] = "menu"
    text: Callable[[Any], str] = str

    def __post_init__(self) -> None:
        if self.default not in self.options:
            raise ValueError(f"control {self.name!r}: the default {self.default!r} is not one of {self.options!r}")


class Explorer:
    """A figure with controls; displays itself in the form that fits where it is shown.

    Args:
        draw: Called with one keyword per control; returns a figure. Figures for different values have the same traces
            in the same order; what differs may be any trace property, annotations and axis ranges.
        controls: Exactly one of them a slider. A menu with one entry is left out, so ``draw`` needs a default for it.
    """

    def __init__(self, draw: Callable[..., go.Figure], controls: Sequence[Control]) -> None:
        sliders = [c for c in controls if c.kind == "slider"]
        if len(sliders) != 1:
            raise ValueError(f"an explorer has exactly one slider, got {[c.name for c in sliders]}")
        self.draw = draw
        self.controls = tuple(c for c in controls if c.kind == "slider" or len(c.options) > 1)
        self.slider = sliders[0]

    @property
    def defaults(self) -> dict[str, Any]:
        return {control.name: control.default for control in self.controls}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if os.environ.get(PUBLISH_VARIABLE) == "1":
            self.published().show()
        else:
            display(self.widget())

    # -----------------------------------------------------------------------------------------------------------------
    # Live

    def widget(self):
        """ipywidgets controls over a FigureWidget; a change redraws only what differs."""
        import ipywidgets

        figure = open_live(self.draw(**self.defaults))
        figure._config = {"displayModeBar": False}
        inputs = {}
        for control in self.controls:
            kind = ipywidgets.SelectionSlider if control.kind == "slider" else ipywidgets.Dropdown
            inputs[control.name] = kind(
                options=[(control.text(value), value) for value in control.options],
                value=control.default,
                description=control.label,
                style={"description_width": "initial"},
                layout={"width": "min(420px, 95%)" if control.kind == "slider" else "auto"},
            )

        def redraw(_change: Any = None) -> None:
            apply_difference(figure, self.draw(**{name: box.value for name, box in inputs.items()}))

        for box in inputs.values():
            box.observe(redraw, names="value")
        bar = ipywidgets.HBox(list(inputs.values()), layout={"flex_flow": "row wrap"})
        return ipywidgets.VBox([bar, figure])

    # -----------------------------------------------------------------------------------------------------------------
    # Published

    def published(self) -> go.Figure:
        """A Plotly figure with a frame for each slider value, and for each menu a way to swap the slider's frames."""
        menus = [c for c in self.controls if c.kind == "menu"]
        toggles = [c for c in self.controls if c.kind == "toggle"]
        fig = self.draw(**self.defaults)
        base = _as_dict(fig)
        frames, swaps = [], []
        for choice in itertools.product(*(control.options for control in menus)):
            chosen = {control.name: value for control, value in zip(menus, choice, strict=True)}
            values = {**self.defaults, **chosen}
            drawn = {v: _as_dict(self.draw(**{**values, self.slider.name: v})) for v in self.slider.options}
            prefix = "".join(f"{name}={value}|" for name, value in chosen.items())
            varying = _varying_keys(list(drawn.values()))
            steps = []
            for value, drawing in drawn.items():
                name = f"{prefix}{value}"
                frames.append(_frame(name, drawing, varying))
                how = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
                steps.append({"label": self.slider.text(value), "method": "animate", "args": [[name], how]})
            slider = {
                "active": self.slider.options.index(self.slider.default),
                "currentvalue": {"prefix": f"{self.slider.label}: "},
                "pad": {"t": 46, "b": 4},  # below the axis title
                "steps": steps,
            }
            at_default = drawn[self.slider.default]
            layout = {"sliders": [slider], **_layout_difference(base, at_default)}
            swaps.append((chosen, _restyle(base, at_default), layout))

        fig.frames = frames
        start = [chosen for chosen, _, _ in swaps].index({control.name: control.default for control in menus})
        fig.update_layout(sliders=swaps[start][2]["sliders"])
        buttons = []
        if menus:
            # Menus that change what is drawn share one drop-down: each entry brings its own slider and frames.
            said = [", ".join(f"{c.label} {c.text(chosen[c.name])}" for c in menus) for chosen, _, _ in swaps]
            entries = [
                {"label": label, "method": "update", "args": [restyle, layout]}
                for label, (_, restyle, layout) in zip(said, swaps, strict=True)
            ]
            buttons.append((entries, start))
        for control in toggles:
            entries = []
            for value in control.options:
                changed = _as_dict(self.draw(**{**self.defaults, control.name: value}))
                visible = [trace.get("visible", True) for trace in changed["data"]]
                label = f"{control.label} {control.text(value)}".strip()
                entries.append({"label": label, "method": "restyle", "args": [{"visible": visible}]})
            buttons.append((entries, control.options.index(control.default)))
        if buttons:
            top = fig.layout.margin.t or 48
            fig.update_layout(updatemenus=[
                {"buttons": entries, "active": active, "x": i * 0.5, "xanchor": "left", "y": 1.0, "yanchor": "bottom",
                 "pad": {"b": max(48, top - 10)}, "showactive": True}
                for i, (entries, active) in enumerate(buttons)
            ])  # fmt: skip
            fig.update_layout(margin_t=top + 56, height=(fig.layout.height or 450) + 56)
        fig.update_layout(margin_b=(fig.layout.margin.b or 48) + 76, height=(fig.layout.height or 450) + 76)
        return fig


# anywidget gives a widget two seconds to be there; one that takes longer shows itself and hears no message ever after.
# Plotly's module, of 5 MB, can take longer. So this one is there at once, and fetches that one, once for a page.
_LOADER = """
const load = (code) =>
  (globalThis.plotlyFigureModule ??= import(URL.createObjectURL(new Blob([code], { type: "text/javascript" }))));
export default () => {
  let figure;
  return {
    initialize({ model }) {
      figure = load(model.get("_plotly")).then((module) => {
        const made = module.default();
        made.initialize({ model });
        return made;
      });
    },
    async render(place) {
      return (await figure).render(place);
    },
  };
};
"""


def open_live(figure: go.Figure) -> go.FigureWidget:
    """A live figure for pages that are slow: it comes with its traces, and hears what is sent while its script loads.

    Plotly announces its widget to the page empty and sends the traces after it. A page that draws in between stays
    empty: the view never looks for traces that come by that way.
    """
    import traitlets

    class FigureWidget(go.FigureWidget):
        _esm = _LOADER
        _plotly = traitlets.Unicode(str(go.FigureWidget._esm)).tag(sync=True)
        _filled = False

        def __init__(self) -> None:
            super().__init__(figure)
            self._filled = True
            self.open()

        def open(self) -> None:  # which a widget does first of all
            if self._filled:
                super().open()

    return FigureWidget()


# ---------------------------------------------------------------------------------------------------------------------
# Differences between two drawings of the same figure


def _as_dict(fig: go.Figure) -> dict[str, Any]:
    # Object by object: the figure's own conversion encodes arrays in base64, which do not compare.
    drawing = {"data": [trace.to_plotly_json() for trace in fig.data], "layout": fig.layout.to_plotly_json()}
    for trace in drawing["data"]:
        trace.pop("uid", None)  # a live figure names its traces, a drawing does not
    return drawing


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    return a == b


def _varying_keys(drawings: Sequence[dict[str, Any]]) -> list[set[str]]:
    """Per trace, the properties that are not the same in all drawings."""
    first = drawings[0]
    for drawing in drawings:
        if len(drawing["data"]) != len(first["data"]):
            raise ValueError(f"draw() returned {len(first['data'])} traces, then {len(drawing['data'])}")
    keys = []
    for traces in zip(*(drawing["data"] for drawing in drawings), strict=True):
        names = set().union(*(trace.keys() for trace in traces))
        keys.append({n for n in names if any(not _same(t.get(n), traces[0].get(n)) for t in traces)})
    return keys


def _frame(name: str, drawing: dict[str, Any], varying: Sequence[set[str]]) -> go.Frame:
    """A frame holding only what varies; traces that never change are not part of it."""
    moving = [i for i, keys in enumerate(varying) if keys]
    data = [
        {"type": drawing["data"][i]["type"], **{key: drawing["data"][i].get(key) for key in varying[i]}} for i in moving
    ]
    layout = {key: drawing["layout"][key] for key in ("annotations", "shapes") if key in drawing["layout"]}
    return go.Frame(name=name, data=data, traces=moving, layout=layout)


def _restyle(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Arguments of Plotly's restyle that turn the traces of ``base`` into those of ``other``."""
    keys = set().union(*_varying_keys([base, other])) if base["data"] else set()
    return {key: [trace.get(key) for trace in other["data"]] for key in keys}


def _layout_difference(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    names = base["layout"].keys() | other["layout"].keys()
    return {n: other["layout"].get(n) for n in names if not _same(base["layout"].get(n), other["layout"].get(n))}


def apply_difference(figure: go.FigureWidget, new: go.Figure) -> None:
    """Bring a live figure to ``new`` in one message, sending only the properties that differ."""
    old_json, new_json = _as_dict(figure), _as_dict(new)
    varying = _varying_keys([old_json, new_json])
    with figure.batch_update():
        for trace, fresh, keys in zip(figure.data, new_json["data"], varying, strict=True):
            trace.update({key: fresh.get(key) for key in keys}, overwrite=True)
        figure.layout.update(_layout_difference(old_json, new_json), overwrite=True)
