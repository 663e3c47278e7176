"""Single files of weights, ``ae.safetensors`` and the like, which do not say what model they belong to.

Names and shapes of the tensors, without their values, are held against each configuration of the catalogue, after
diffusers has renamed them; a configuration fits where nothing is missing. So nothing is looked up on the network. Where
several fit, they mostly differ in the normalisation, which no weights say.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders import single_file_model as diffusers_single
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusab_core.autoencoders.catalogue import CATALOGUE, PUBLISHED
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import AutoencoderError, family_of
from diffusab_core.files import DiffusabWarning, first_line, write_json


@dataclass(frozen=True)
class Configuration:
    """What a file may be: a diffusers class and its arguments."""

    name: str
    class_name: str
    arguments: dict[str, Any]

    @property
    def kind(self) -> type:
        return getattr(diffusers, self.class_name)

    def missing(self, tensors: dict[str, Tensor]) -> list[str]:
        """Tensors of the model that are not in the file, or are of another shape there."""
        with torch.device("meta"):
            module = self.kind.from_config(self.arguments)
        wanted, table = module.state_dict(), diffusers_single.SINGLE_FILE_LOADABLE_CLASSES.get(self.class_name)
        if table is None or wanted.keys() <= tensors.keys():
            return _lacking(wanted, tensors)
        try:
            found = table["checkpoint_mapping_fn"](config=module.config, checkpoint=dict(tensors))
        except (KeyError, IndexError, AttributeError, RuntimeError, ValueError, TypeError):
            return sorted(wanted)  # diffusers cannot even rename them
        return _lacking(wanted, found)


def open_file(file: Path, config: str | None, device: str | torch.device, dtype: torch.dtype) -> Autoencoder:
    """Open a single file of weights with a named configuration, its ``config.json`` beside it, or one that fits.

    An ``AutoencoderError`` where the file cannot be read, the configuration does not fit it, or none does.
    """
    if not file.is_file():
        raise AutoencoderError(f"there is no file {file}")
    tensors = _read_shapes(file)
    if config is not None or (file.parent / "config.json").is_file():
        chosen = _named(config) if config is not None else _from_json(file.parent / "config.json")
        if missing := chosen.missing(tensors):
            said = f"{len(missing)} of its tensors are missing or of another shape, the first is {missing[0]}"
            raise AutoencoderError(f"{file} is not {chosen.name} ({chosen.class_name}): {said}")
    else:
        fit = list(_find_fitting(tensors))
        if not fit:
            what = "no autoencoder of the catalogue has its tensors"
            first = f"{len(tensors)}, the first is {min(tensors)}" if tensors else "none"
            instead = "say what it is with --model-config: a config.json, or a diffusers folder with one"
            raise AutoencoderError(
                f"{file}: {what} ({first}); {instead}. Files of latents are for --latents of profile"
            )
        chosen = fit[0]
        if len(fit) > 1:
            names = ", ".join(one.name for one in fit)
            which = f"whose weights do not tell them apart, and is opened as {chosen.name}"
            said = f"{file.name} fits {names}, {which}; --model-config NAME chooses another"
            warnings.warn(said, DiffusabWarning, stacklevel=3)
    return Autoencoder(file.stem, _load(file, chosen, dtype).to(device).eval())


def _read_shapes(file: Path) -> dict[str, Tensor]:
    """Names and shapes of a file's tensors, as tensors without values."""
    try:
        with safe_open(file, "pt") as stored:
            return {name: torch.empty(stored.get_slice(name).get_shape(), device="meta") for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise AutoencoderError(f"{file} cannot be read ({first_line(error)})") from error


def _named(config: str) -> Configuration:
    """The configuration that somebody names."""
    entry = CATALOGUE.get(config) or PUBLISHED.get(config)
    if entry is not None and entry.class_name is not None:
        return Configuration(entry.name, entry.class_name, entry.config)
    path = Path(config)
    for place in (path, path / "config.json", path / "vae" / "config.json"):
        if place.is_file():
            return _from_json(place)
    known = ", ".join(name for name, e in chain(CATALOGUE.items(), PUBLISHED.items()) if e.class_name)
    raise AutoencoderError(
        f"no configuration {config!r}: it is no config.json, no diffusers folder, and none of {known}"
    )


def _from_json(path: Path) -> Configuration:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        class_name = found["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AutoencoderError(f"{path} is no configuration of a diffusers model ({first_line(error)})") from error
    family_of(class_name, str(path))
    return Configuration(str(path), class_name, {k: v for k, v in found.items() if not k.startswith("_")})


def _find_fitting(tensors: dict[str, Tensor]) -> Iterator[Configuration]:
    size = sum(t.numel() for t in tensors.values()) / 1e6
    for entry in chain(CATALOGUE.values(), PUBLISHED.values()):
        if entry.class_name is None or entry.parameters > size * 1.01 + 0.01:  # a file holds more, never less
            continue
        if family_of(entry.class_name, entry.name).needs:
            continue
        configuration = Configuration(entry.name, entry.class_name, entry.config)
        if not configuration.missing(tensors):
            yield configuration


def _lacking(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    return sorted(name for name, w in wanted.items() if name not in found or found[name].shape != w.shape)


def _load(file: Path, configuration: Configuration, dtype: torch.dtype) -> torch.nn.Module:
    kind = configuration.kind
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", {"_class_name": configuration.class_name} | configuration.arguments)
        try:
            module = kind.from_config(kind.load_config(folder))
            with safe_open(file, "pt") as stored:
                if module.state_dict().keys() <= set(stored.keys()):  # under diffusers' names already
                    module.load_state_dict({name: stored.get_tensor(name) for name in module.state_dict()})
                    return module.to(dtype)
            options = {"config": folder, "local_files_only": True, "torch_dtype": dtype, "low_cpu_mem_usage": False}
            return kind.from_single_file(str(file), **options)
        except Exception as error:  # as for folders: diffusers raises many kinds
            raise AutoencoderError(f"{file}: the weights cannot be loaded ({first_line(error)})") from error
