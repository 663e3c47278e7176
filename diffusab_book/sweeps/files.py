"""Sweep files: what is compared, in text that a person reads and that the driver runs.

A file ``sweeps/NAME.yaml`` names a run notebook, arms (values of its parameters), seeds, and how they are judged. An
arm's parameter may be another sweep's run of the same seed, ``{sweep: finetuning, arm: plain}``, which is then made
first. ``grid`` multiplies the arms; ``sizes`` says what is different at another size. ``more_seeds`` gives single arms
further seeds after the first are in, where the protocol asks for them: ``{a1-steps600: [3, 4]}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml

from diffusab_book.places import HOME
from diffusab_core.experiments.records import SIZES, Size
from diffusab_core.files import DiffusabError

#: The sweeps of the book's tables and figures.
SWEEPS = HOME / "sweeps"

KEYS = ("title", "source", "notebook", "metric", "better", "margin", "control", "protocol", "size", "seeds",
        "parameters", "arms", "grid", "more_seeds", "sizes")  # fmt: skip
REQUIRED = ("title", "source", "notebook", "metric", "better", "margin", "control", "seeds", "arms")
AT_A_SIZE = ("metric", "parameters", "seeds", "arms", "grid")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class SweepError(DiffusabError, ValueError):
    """A sweep file that cannot be used; the message names the file and the value."""


@dataclass(frozen=True)
class Reference:
    """Another sweep's run as the value of a parameter: that arm's, of the same size and, unless given, seed."""

    sweep: str
    arm: str
    seed: int | None = None


@dataclass(frozen=True)
class Arm:
    """One arm at one size: the parameters in which it differs from the notebook's preset, and its seeds.

    ``base`` is its name before the grid multiplied it, ``labels`` what the grid appended.
    """

    name: str
    base: str
    labels: tuple[str, ...]
    parameters: Mapping[str, Any]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep file that has been read and checked; :meth:`arms` is what it asks for at a size."""

    path: Path
    title: str
    source: str
    notebook: str
    metric: str
    better: Literal["lower", "higher"]
    margin: float
    control: str
    size: Size = "laptop"
    protocol: str = ""
    seeds: tuple[int, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grid: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more_seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    def arms(self, size: str | None = None) -> dict[str, Arm]:
        """The arms at a size (the file's own when left out), by name.

        A size's ``parameters`` and each of its ``arms`` are laid over the file's, ``seeds`` and ``grid`` replace them;
        an arm or a parameter that is null there does not exist at that size. At size smoke, which only tries whether
        things run, an arm has its first seed alone, unless the file says something else of that size. ``more_seeds``
        are of the file's own size.

        Raises:
            SweepError: An unknown size, a parameter that both an arm and the grid set, or a name that comes up twice.
        """
        size = size or self.size
        if size not in SIZES:
            raise SweepError(f"size {size!r} is not one of {', '.join(SIZES)}")
        here = self.sizes.get(size, {})
        common = _over(self.parameters, here.get("parameters", {}))
        written = {arm: dict(values) for arm, values in self.written.items()}
        for arm, values in here.get("arms", {}).items():
            if values is None:
                written.pop(arm, None)
            else:
                written[arm] = _over(written.get(arm, {}), values, keep="seeds")
        grid = here.get("grid", self.grid)
        found: dict[str, Arm] = {}
        for base, values in written.items():
            seeds = tuple(values.pop("seeds", here.get("seeds", self.seeds)))
            seeds = seeds[:1] if size == "smoke" and "smoke" not in self.sizes else seeds
            if twice := sorted(grid.keys() & (common | values).keys()):
                where = f"arm {base!r}" if twice[0] in values else "'parameters'"
                raise SweepError(f"{self.path}: {twice[0]!r} is set by {where} and by the grid: one of them must go")
            for labels in product(*grid.values()):
                chosen = {name: grid[name][label] for name, label in zip(grid, labels, strict=True)}
                name = "-".join([base, *labels])
                if name in found:
                    raise SweepError(f"{self.path}: the grid makes arm {name!r} twice; rename {base!r}")
                more = self.more_seeds.get(name, ()) if size == self.size else ()
                found[name] = Arm(name, base, labels, common | values | chosen, (*seeds, *more))
        return found

    def metric_at(self, size: str) -> str:
        """The primary metric at a size: other feature networks give it another name."""
        return self.sizes.get(size, {}).get("metric", self.metric)

    def control_of(self, arm: Arm, arms: Mapping[str, Arm]) -> str | None:
        """The arm that this one is compared with; ``None`` for a control itself.

        ``control`` names an arm, or an arm before the grid multiplied it (then each is compared at its own place of the
        grid), or one value of the grid (then each is compared with that value, all else equal).

        Raises:
            SweepError: At this size there is no such arm.
        """
        if self.control in arms:
            name = self.control
        elif any(self.control == other.base for other in arms.values()):
            name = "-".join([self.control, *arm.labels])
        else:
            axis = [i for i in range(len(arm.labels)) if self.control in {other.labels[i] for other in arms.values()}]
            if not axis:
                raise SweepError(f"{self.path}: control {self.control!r} is no arm; there are {', '.join(arms)}")
            labels = [self.control if i == axis[0] else label for i, label in enumerate(arm.labels)]
            name = "-".join([arm.base, *labels])
        if name not in arms:
            raise SweepError(f"{self.path}: {arm.name!r} has no control: there is no arm {name!r}")
        return None if name == arm.name else name


def find(name: str | Path, folder: Path = SWEEPS) -> Path:
    """A sweep file, from its path or, as ``se_table_01``, from its name in the folder.

    Raises:
        FileNotFoundError: There is none; the message lists those there are.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.parent == Path() and (folder / f"{path.stem}.yaml").is_file():
        return folder / f"{path.stem}.yaml"
    there = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
    raise FileNotFoundError(f"no sweep {str(name)!r}; in {folder} there are {there}")


def read(path: str | Path, folder: Path = SWEEPS) -> Sweep:
    """Read and check a sweep file; whether its parameters fit the notebook is checked by :mod:`plan`.

    Raises:
        FileNotFoundError: No such file.
        SweepError: It is no YAML, or has an unknown key, a missing one, or a value of the wrong kind.
    """
    path = find(path, folder)

    def refuse(what: str) -> SweepError:
        return SweepError(f"{path}: {what}")

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except yaml.YAMLError as error:
        raise refuse(" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise refuse(f"a sweep is a list of keys and values, not {content!r}")
    if unknown := [key for key in content if key not in KEYS]:
        raise refuse(f"unknown key {unknown[0]!r}; there are {', '.join(KEYS)}")
    if missing := [key for key in REQUIRED if key not in content]:
        raise refuse(f"{missing[0]!r} is missing")
    for key in ("title", "source", "notebook", "metric", "control", "protocol"):
        if not isinstance(content.get(key, ""), str) or (key in REQUIRED and not content[key].strip()):
            raise refuse(f"{key} is {content[key]!r}, which is no text")
    if content["better"] not in ("lower", "higher"):
        raise refuse(f"better is {content['better']!r}; say lower or higher")
    margin = content["margin"]
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 1:
        raise refuse(f"margin is {margin!r}; it is a share of the control's value, such as 0.05")
    size = content.get("size", "laptop")
    if size not in SIZES:
        raise refuse(f"size {size!r} is not one of {', '.join(SIZES)}")
    sizes = _mapping(content.get("sizes"), "sizes", refuse)
    for name, of_size in sizes.items():
        if name not in SIZES:
            raise refuse(f"sizes: {name!r} is not one of {', '.join(SIZES)}")
        of_size = _mapping(of_size, f"sizes: {name}", refuse)
        if unknown := [key for key in of_size if key not in AT_A_SIZE]:
            raise refuse(f"sizes: {name}: unknown key {unknown[0]!r}; there are {', '.join(AT_A_SIZE)}")
        if not isinstance(of_size.get("metric", ""), str):
            raise refuse(f"sizes: {name}: metric is {of_size['metric']!r}, which is no text")
        sizes[name] = {key: of_size[key] for key in ("metric",) if key in of_size}
        sizes[name] |= _checked(of_size, f"sizes: {name}: ", refuse)
    checked = _checked(content, "", refuse)
    if not checked["arms"]:
        raise refuse("'arms' is empty")
    sweep = Sweep(
        path=path, **{key: content[key] for key in ("title", "source", "notebook", "metric", "better", "control")},
        margin=float(margin), size=size, protocol=content.get("protocol", ""), seeds=checked["seeds"],
        parameters=checked.get("parameters", {}), written=checked["arms"], grid=checked.get("grid", {}),
        more_seeds=checked.get("more_seeds", {}), sizes=sizes,
    )  # fmt: skip
    own = sweep.arms(size)
    for arm, more in sweep.more_seeds.items():
        if arm not in own:
            raise refuse(f"more_seeds: there is no arm {arm!r}; there are {', '.join(own)}")
        if len(set(own[arm].seeds)) < len(own[arm].seeds):
            raise refuse(f"more_seeds: arm {arm!r} has some of {list(more)} already")
    for name in {size, *sizes}:
        arms = sweep.arms(name)
        for arm in arms.values():
            sweep.control_of(arm, arms)
    return sweep


# ---------------------------------------------------------------------------------------------------------------------
# Pieces


class _Strict(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error: the first of two arms of one name would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} stands twice", node.value[i][0].start_mark
                )
        return super().construct_mapping(node, deep)


def _mapping(value: Any, what: str, refuse: Any) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(f"{what} is {value!r}; it wants names and values")
    return dict(value)


def _checked(content: Mapping[str, Any], where: str, refuse: Any) -> dict[str, Any]:
    """Parameters, seeds, arms, grid and further seeds, those that are there; all but the last may differ by size."""
    found: dict[str, Any] = {}
    if "seeds" in content:
        found["seeds"] = _seeds(content["seeds"], f"{where}seeds", refuse)
    if "parameters" in content:
        found["parameters"] = _values(content["parameters"], f"{where}parameters", refuse)
    if "arms" in content:
        found["arms"] = {}
        for arm, values in _mapping(content["arms"], f"{where}arms", refuse).items():
            if not isinstance(arm, str) or not _NAME.fullmatch(arm) or re.search(r"-seed\d+$", arm):
                raise refuse(f"{where}arm {arm!r}: a name is text of letters, digits, dots and hyphens")
            values = values if values is None and where else _mapping(values, f"{where}arm {arm!r}", refuse)
            if values is None:
                found["arms"][arm] = None
                continue
            seeds = (
                {"seeds": _seeds(values.pop("seeds"), f"{where}arm {arm!r}: seeds", refuse)}
                if "seeds" in values
                else {}
            )
            found["arms"][arm] = _values(values, f"{where}arm {arm!r}", refuse) | seeds
    if "more_seeds" in content:
        more = _mapping(content["more_seeds"], f"{where}more_seeds", refuse)
        found["more_seeds"] = {arm: _seeds(of, f"{where}more_seeds: {arm}", refuse) for arm, of in more.items()}
    if "grid" in content:
        found["grid"] = {}
        for name, of_name in _mapping(content["grid"], f"{where}grid", refuse).items():
            if isinstance(of_name, dict):
                labelled = {
                    str(label): _value(value, f"{where}grid: {name}", refuse) for label, value in of_name.items()
                }
            elif isinstance(of_name, list):
                if plain := [v for v in of_name if isinstance(v, dict | list)]:
                    raise refuse(f"{where}grid: {name} has {plain[0]!r}; give it a label, as in {{label: value}}")
                labelled = {f"{name}{_word(value)}": value for value in of_name}
                if len(labelled) < len(of_name):
                    raise refuse(f"{where}grid: {name} has a value twice: {of_name!r}")
            else:
                raise refuse(f"{where}grid: {name} is {of_name!r}; it wants a list of values")
            if bad := [label for label in labelled if not _NAME.fullmatch(label)]:
                raise refuse(f"{where}grid: {name}: {bad[0]!r} cannot be part of an arm's name; give it a label")
            found["grid"][name] = labelled
    return found


def _seeds(value: Any, what: str, refuse: Any) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(isinstance(seed, int) and not isinstance(seed, bool) for seed in value)
    if not whole or not value or len(set(value)) < len(value) or min(value) < 0:
        raise refuse(f"{what} is {value!r}; it wants whole numbers, each once, such as [0, 1, 2]")
    return tuple(value)


def _values(value: Any, what: str, refuse: Any) -> dict[str, Any]:
    return {name: _value(v, f"{what}: {name}", refuse) for name, v in _mapping(value, what, refuse).items()}


def _value(value: Any, what: str, refuse: Any) -> Any:
    """A plain value, or a :class:`Reference` where a mapping ``{sweep:, arm:}`` stands."""
    if not isinstance(value, dict):
        return value
    seed = value.get("seed")
    fits = {"sweep", "arm"} <= value.keys() <= {"sweep", "arm", "seed"}
    if not fits or not all(isinstance(value[key], str) for key in ("sweep", "arm")) or not isinstance(seed, int | None):
        raise refuse(f"{what} is {value!r}; another sweep's run is {{sweep: NAME, arm: NAME}}, with a seed: if need be")
    return Reference(**value)


def _word(value: Any) -> str:
    """A value as part of an arm's name."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any], keep: str = "") -> dict[str, Any]:
    """The two laid over each other; what is null in the upper is gone."""
    return {name: value for name, value in {**lower, **upper}.items() if value is not None or name == keep}
