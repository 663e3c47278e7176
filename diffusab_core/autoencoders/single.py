"""Single files of weights, ``ae.safetensors`` and ``autoencoder.jit``, which do not say what model they belong to.

Names and shapes of the tensors, without their values, are held against each configuration of the catalogue, after they
have been renamed; a configuration fits where nothing is missing, and no larger one fits. So nothing is looked up on the
network. Where several fit, they mostly differ in the normalisation, which no weights say.
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

import torch
from diffusers.loaders import single_file_model as diffusers_single
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from diffusab_core.autoencoders import archives, cosmos
from diffusab_core.autoencoders.catalogue import CATALOGUE, PUBLISHED, CatalogueEntry, find_class
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import family_of
from diffusab_core.autoencoders.names import AutoencoderError
from diffusab_core.files import DiffusabWarning, first_line, write_json


@dataclass(frozen=True)
class Configuration:
    """What a file may be: a class and its arguments."""

    name: str
    class_name: str
    arguments: dict[str, Any]

    @property
    def kind(self) -> type:
        return find_class(self.class_name)

    def missing(self, tensors: dict[str, Tensor]) -> list[str]:
        """Tensors of the model that are not in the file, or are of another shape there."""
        with torch.device("meta"):
            module = self.kind.from_config(self.arguments)
        wanted = module.state_dict()
        try:
            found = rename(module, tensors)
        except (KeyError, IndexError, AttributeError, RuntimeError, ValueError, TypeError):
            return sorted(wanted)  # they cannot even be renamed
        return sorted(name for name, w in wanted.items() if name not in found or found[name].shape != w.shape)


def rename(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under a module's names: as they are if all are there, else as their first users called them."""
    if module.state_dict().keys() <= tensors.keys():
        return tensors
    if isinstance(module, cosmos.CosmosImageTokenizer):
        return cosmos.rename(tensors, len(module.config.channel_multipliers))
    table = diffusers_single.SINGLE_FILE_LOADABLE_CLASSES.get(type(module).__name__)
    return tensors if table is None else table["checkpoint_mapping_fn"](config=module.config, checkpoint=dict(tensors))


def open_file(file: Path, config: str | None, device: str | torch.device, dtype: torch.dtype) -> Autoencoder:
    """Open a single file of weights with a named configuration, its ``config.json`` beside it, or one that fits.

    A TorchScript archive, or the folder with one or with its halves, has no configuration beside it. An
    ``AutoencoderError`` where the file cannot be read, the configuration does not fit it, or none does.
    """
    parts = archives.find(file)
    held = archives.read(parts) if parts else None
    tensors = _read_shapes(file) if held is None else {name: tensor.to("meta") for name, tensor in held.items()}
    if config is not None or (not parts and (file.parent / "config.json").is_file()):
        chosen = _named(config) if config is not None else _from_json(file.parent / "config.json")
        if missing := chosen.missing(tensors):
            said = f"{len(missing)} of its tensors are missing or of another shape, the first is {missing[0]}"
            raise AutoencoderError(f"{file} is not {chosen.name} ({chosen.class_name}): {said}")
    else:
        fit = _find_fitting(tensors)
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
    return Autoencoder(file.resolve().stem, _load(file, held, chosen, dtype).to(device).eval())


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
    if entry is not None:
        return Configuration(entry.name, entry.class_name, entry.config)
    path = Path(config)
    for place in (path, path / "config.json", path / "vae" / "config.json"):
        if place.is_file():
            return _from_json(place)
    known = ", ".join(chain(CATALOGUE, PUBLISHED))
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


def _find_fitting(tensors: dict[str, Tensor]) -> list[Configuration]:
    fit = list(_fitting_entries(tensors))
    most = max((entry.parameters for entry, _ in fit), default=0.0)  # a part of it fits wherever the whole does
    return [configuration for entry, configuration in fit if entry.parameters == most]


def _fitting_entries(tensors: dict[str, Tensor]) -> Iterator[tuple[CatalogueEntry, Configuration]]:
    size = sum(t.numel() for t in tensors.values()) / 1e6
    for entry in chain(CATALOGUE.values(), PUBLISHED.values()):
        if entry.parameters > size * 1.01 + 0.01:  # a file holds more, never less
            continue
        if family_of(entry.class_name, entry.name).needs:
            continue
        configuration = Configuration(entry.name, entry.class_name, entry.config)
        if not configuration.missing(tensors):
            yield entry, configuration


def _load(file: Path, held: dict[str, Tensor] | None, configuration: Configuration, dtype: torch.dtype) -> nn.Module:
    kind = configuration.kind
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "config.json", {"_class_name": configuration.class_name} | configuration.arguments)
        try:
            module = kind.from_config(kind.load_config(folder))
            if held is None and (not hasattr(kind, "from_single_file") or _holds_all(file, module)):
                held = load_file(file)
            if held is not None:
                found = rename(module, held)
                module.load_state_dict({name: found[name] for name in module.state_dict()})
                return nn.Module.to(module, dtype)  # the class's own warns of modules to be kept in float32
            options = {"config": folder, "local_files_only": True, "torch_dtype": dtype, "low_cpu_mem_usage": False}
            return kind.from_single_file(str(file), **options)
        except Exception as error:  # as for folders: diffusers raises many kinds
            raise AutoencoderError(f"{file}: the weights cannot be loaded ({first_line(error)})") from error


def _holds_all(file: Path, module: nn.Module) -> bool:
    """Whether the file has all tensors under the module's own names."""
    with safe_open(file, "pt") as stored:
        return module.state_dict().keys() <= set(stored.keys())
