"""Opening an autoencoder, whatever it is: a shipped name, a folder, a hub repository, a file, a function in a file."""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from diffusab_core.autoencoders import archives, own, single
from diffusab_core.autoencoders.blurred import BLURRED, put_blurs
from diffusab_core.autoencoders.catalogue import find_class
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import KNOWN, family_of
from diffusab_core.autoencoders.gain import GAIN_CONTROL, put_gain_control
from diffusab_core.autoencoders.names import SHIPPED, WEIGHTS, AutoencoderError, Opening, find_kind, split_options
from diffusab_core.autoencoders.quantizers import FSQ_LEVELS, put_fsq
from diffusab_core.files import DiffusabWarning, first_line, guess_place

#: Entries of a folder's ``config.json`` by which this package's layers take the place of diffusers'.
CHANGES = (BLURRED, GAIN_CONTROL, FSQ_LEVELS)

_WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.([^.]+?))?(?:-\d{5}-of-\d{5})?\.safetensors")


def load(
    name_or_path: str | os.PathLike,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    subfolder: str | None = None,
    variant: str | None = None,
    model_config: str | None = None,
    probe: int = 256,
) -> Autoencoder:
    """Open an autoencoder, in evaluation mode; pickled weights (``.bin``, ``.ckpt``) can run code and are never opened.

    Args:
        name_or_path: A name in :data:`~.names.SHIPPED` (a folder of that name is ``./name``); a folder in diffusers'
            layout, or one with a fine-tuned model of your own, or with ``autoencoder.jit`` (or ``encoder.jit`` and
            ``decoder.jit``); ``owner/repository`` on the Hugging Face hub; a single file of weights,
            ``file.safetensors`` or ``file.jit``, whose configuration is known or given; or
            ``path/to/file.py:function``, your own model, see :mod:`diffusab_core.autoencoders.own`. The options below
            can be part of the name: ``owner/repository:vae,variant=fp16``.
        subfolder: See :class:`Opening`.
        variant: Likewise. The only one there is needs no name.
        model_config: Likewise.
        probe: Side in pixels of the image that tells the compression of your own model.

    Raises:
        AutoencoderError: It cannot be found, read or used; the message says what to do.
    """
    text = Opening(subfolder, variant, model_config).of(os.fspath(name_or_path))
    place, asked = split_options(text)
    kind = find_kind(text, hub=isinstance(name_or_path, str))
    if kind == "shipped":
        if asked:
            raise AutoencoderError(f"{text}: {place} comes with the package, there is nothing to choose of it")
        if (Path(place) / "config.json").is_file():
            shadow = (
                f"{place} is the autoencoder that comes with the package; for the folder of that name write ./{place}"
            )
            warnings.warn(shadow, DiffusabWarning, stacklevel=2)
        return _open_folder(WEIGHTS / place, place, device, dtype)
    if kind == "folder":
        folder = Path(place) / asked.subfolder if asked.subfolder else Path(place)
        if archives.find(folder) and not any(_WEIGHTS.fullmatch(path.name) for path in folder.iterdir()):
            return single.open_file(folder, asked.model_config, device, dtype)
        if asked.model_config:
            raise AutoencoderError(f"{folder} has its own config.json, config={asked.model_config} is for single files")
        if own.is_kept(folder):
            return own.reopen(folder, Path(place).resolve().name, device, dtype, probe)
        return _open_folder(folder, Path(place).resolve().name, device, dtype, asked.variant)
    if kind == "factory":
        if asked:
            raise AutoencoderError(f"{text}: {place} is Python code, which opens its weights itself")
        return own.build(place, device, dtype, probe)
    if kind == "file":
        return single.open_file(Path(place), asked.model_config, device, dtype)
    return _open_hub(place, asked.subfolder, device, dtype, asked.variant)


def _class_name(config: Path, where: str) -> str:
    try:
        class_name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise AutoencoderError(f"{where}: config.json cannot be read ({error})") from error
    family_of(class_name, where)
    return class_name


def _open_folder(
    folder: Path, name: str, device: str | torch.device, dtype: torch.dtype, variant: str | None = None
) -> Autoencoder:
    if not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        fit = [name for name in inside if "vae" in name] or inside
        hint = f"; name one of its folders: {', '.join(f'{folder}:{name}' for name in fit)}" if fit else ""
        raise AutoencoderError(f"{folder} holds no config.json, so it is not a diffusers model folder{hint}")
    class_name = _class_name(folder / "config.json", str(folder))
    variant = _choose_variant(folder, variant)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if any(config.get(change) for change in CHANGES):
        return _open_changed(class_name, folder, name, device, dtype, variant)
    return _from_pretrained(class_name, str(folder), name, device, dtype, local_files_only=True, variant=variant)


def _choose_variant(folder: Path, wanted: str | None) -> str | None:
    """The variant that was asked for; else none if there are weights without one; else the only one there is."""
    found = {match[1] for path in folder.iterdir() if (match := _WEIGHTS.fullmatch(path.name))}
    named = sorted(found - {None})
    if not found:
        pickled = min((path.name for path in folder.iterdir() if path.suffix in (".bin", ".ckpt", ".pt")), default=None)
        held = f"only {pickled}, and pickled weights are never loaded" if pickled else "no weights"
        save = "save the model with save_pretrained(folder, safe_serialization=True)"
        raise AutoencoderError(f"{folder} holds {held}; {save}")
    if wanted is not None and wanted not in found:
        there = f"there are {', '.join(named)}" if named else "its weights are of no variant"
        raise AutoencoderError(f"{folder} holds no variant {wanted!r}, {there}")
    if wanted is not None or None in found:
        return wanted
    if len(named) > 1:
        raise AutoencoderError(f"{folder} holds the variants {', '.join(named)}: choose one with --variant")
    warnings.warn(f"{folder} holds the variant {named[0]} only, which is opened", DiffusabWarning, stacklevel=4)
    return named[0]


def _open_changed(
    class_name: str, folder: Path, name: str, device: str | torch.device, dtype: torch.dtype, variant: str | None
) -> Autoencoder:
    """A folder of :func:`~.blurred.blur_pooled`, :func:`~.gain.with_gain_control` or :func:`~.quantizers.with_fsq`:
    diffusers has no such layers."""
    kind = find_class(class_name)
    config = dict(kind.load_config(str(folder)))
    changes = {key: config.pop(key) for key in CHANGES if key in config}
    module = kind.from_config(config)
    if changes.get(BLURRED):
        put_blurs(module, name)
    if changes.get(GAIN_CONTROL):
        put_gain_control(module, changes[GAIN_CONTROL], name)
    if changes.get(FSQ_LEVELS):
        put_fsq(module, changes[FSQ_LEVELS], name)
    module.register_to_config(**changes)
    try:
        module.load_state_dict(
            load_file(folder / f"diffusion_pytorch_model{f'.{variant}' if variant else ''}.safetensors")
        )
    except Exception as error:  # SafetensorError, OSError, RuntimeError for tensors that are missing or misshapen
        raise AutoencoderError(f"{folder}: the weights cannot be loaded ({first_line(error)})") from error
    # Not the class's own to(), which warns of modules that should stay in float32 though there are none.
    return Autoencoder(name, torch.nn.Module.to(module, device, dtype).eval())


#: What the hub says, in the order that it is looked up (GatedRepoError is a RepositoryNotFoundError).
_HUB_SAYS = {
    hub_errors.GatedRepoError: "asks for its terms to be accepted: do so on its page and log in with `hf auth login`",
    hub_errors.RepositoryNotFoundError: "is no local folder, and the hub has no public repository of that name",
    hub_errors.RemoteEntryNotFoundError: "has no config.json there; of a pipeline name its autoencoder: {0}:vae",
}


def _open_hub(
    repository: str, subfolder: str | None, device: str | torch.device, dtype: torch.dtype, variant: str | None = None
) -> Autoencoder:
    try:
        config = hf_hub_download(repository, "config.json", subfolder=subfolder)
    except tuple(_HUB_SAYS) as error:
        why = next(said for kind, said in _HUB_SAYS.items() if isinstance(error, kind))
        raise AutoencoderError(f"{repository} {why.format(repository)}") from error
    except Exception as error:  # what a missing network raises depends on proxies, cache and the hub library's version
        raise AutoencoderError(
            f"{repository!r} is neither a local folder{guess_place(repository)} nor in the hub's cache, and the hub "
            f"cannot be reached ({type(error).__name__}): connect to the network, give a local folder, or use a "
            f"shipped name ({', '.join(SHIPPED)})"
        ) from error
    class_name = _class_name(Path(config), repository)
    return _from_pretrained(class_name, repository, repository, device, dtype, subfolder=subfolder, variant=variant)


def _is_news(record: logging.LogRecord) -> bool:
    """AutoencoderDC has no place for a shift in its configuration, and keeps it all the same."""
    return "'shift_factor'" not in record.getMessage()


def _from_pretrained(
    class_name: str, source: str, name: str, device: str | torch.device, dtype: torch.dtype, **options: Any
) -> Autoencoder:
    kind = find_class(class_name)
    options |= {"use_safetensors": True, "low_cpu_mem_usage": False, "torch_dtype": dtype}
    # Layers that a class keeps in single precision would need accelerate; here a model has one precision.
    plain = type(class_name, (kind,), {"_keep_in_fp32_modules": None})
    mixed = getattr(kind, "_keep_in_fp32_modules", None) is not None
    warner = logging.getLogger("diffusers.configuration_utils")
    warner.addFilter(_is_news)
    try:
        module, info = (plain if mixed else kind).from_pretrained(source, output_loading_info=True, **options)
    except Exception as error:  # diffusers raises OSError, ValueError, RuntimeError, SafetensorError ... for bad files
        if damaged := _find_damaged(Path(source)):
            raise AutoencoderError(damaged) from error
        hint = "" if options["variant"] or "no file named" not in str(error).lower() else ": is it --variant fp16?"
        raise AutoencoderError(f"{source}: the weights cannot be loaded ({first_line(error)}){hint}") from error
    finally:
        warner.removeFilter(_is_news)
    if mixed:
        module.__class__ = kind
    if missing := sorted(info["missing_keys"]):  # diffusers would go on with random weights in their place
        raise AutoencoderError(f"{source}: the weights lack {len(missing)} tensors, the first is {missing[0]}")
    return Autoencoder(name, module.to(device).eval())


def _find_damaged(folder: Path) -> str:
    """Which of a folder's files of weights cannot be read, and why; empty where none is, or where there is no folder.

    A header says how long its file is, so that one that is cut off is known without reading it.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            return f"{path} is damaged or cut off ({first_line(error)}): copy or fetch it again"
    return ""


def save(autoencoder: Autoencoder, folder: str | os.PathLike) -> None:
    """Keep an autoencoder in a folder that :func:`load` opens: in diffusers' layout, or one's own model.

    Of one's own model, which has to have been opened as ``file.py:function``, the weights are kept and the name of that
    function. An ``AutoencoderError`` for any other.
    """
    check_keepable(autoencoder)
    if _is_of_diffusers(autoencoder):
        autoencoder.module.save_pretrained(folder)
    else:
        own.keep(autoencoder, folder)


def check_keepable(autoencoder: Autoencoder) -> None:
    """An ``AutoencoderError`` for a model that :func:`save` could not keep."""
    if not _is_of_diffusers(autoencoder) and autoencoder.factory is None:
        how = "open it as file.py:function, which is kept beside the weights"
        raise AutoencoderError(f"{autoencoder.name} could not be opened again: {how}")


def _is_of_diffusers(autoencoder: Autoencoder) -> bool:
    kind = type(autoencoder.module)
    return kind.__name__ in KNOWN and find_class(kind.__name__) is kind
