"""Opening an autoencoder, whatever it is: a shipped name, a folder, a hub repository, a function in a file."""

from __future__ import annotations

import difflib
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub import hf_hub_download

from diffusab_core.autoencoders import own
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import AutoencoderError, family_of
from diffusab_core.files import first_line

WEIGHTS = Path(__file__).parent / "weights"

#: Names of the autoencoders that come with the package.
SHIPPED = (
    "kl-f4c16",
    *(f"kl-{shape}" for shape in ("f4c4", "f8c4", "f8c16", "f8c64", "f16c64", "f16c128", "f16c256")),
    *(f"kl-f4c16-beta{beta}" for beta in ("0", "1e-6", "1e-4", "1e-2", "1e-1")),
    # kl-f4c16, fine-tuned 400 steps: plain, with scale equivariance, with chopped high frequencies.
    *(f"kl-f4c16-{method}" for method in ("ft", "se", "chf")),
)

#: Suffixes of files that hold pickles. Opening one can run any code its author put there, so none is ever loaded.
PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"})

_NO_MODEL = {
    ".py": "is Python code, not a model's name; name the function that builds it: {name}:function",
    ".safetensors": "is a single file, which does not say what model it belongs to; give the diffusers folder with its "
    "config.json, or --latents if the file holds latents",
} | dict.fromkeys(
    PICKLES,
    "is a pickle, and pickles can run any code when opened, so none is loaded; give a diffusers folder with "
    "safetensors, or build the model in Python: file.py:function",
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load(
    name_or_path: str | os.PathLike,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    subfolder: str | None = None,
    probe: int = 256,
) -> Autoencoder:
    """Open an autoencoder, in evaluation mode; pickled weights (``.bin``, ``.ckpt``) can run code and are never opened.

    Args:
        name_or_path: A name in :data:`SHIPPED` (a folder of that name is ``./name``); a folder in diffusers' layout;
            ``path/to/file.py:function``, your own model, see :mod:`diffusab_core.autoencoders.own`; or
            ``owner/repository`` on the Hugging Face hub, ``owner/repository:vae`` for a folder inside it.
        subfolder: Folder inside a folder or repository that holds a whole pipeline, usually ``"vae"``.
        probe: Side in pixels of the image that tells the compression of your own model.

    Raises:
        AutoencoderError: It cannot be found, read or used; the message says what to do.
    """
    text = os.fspath(name_or_path)
    if text in SHIPPED:
        if (Path(text) / "config.json").is_file():
            shadow = (
                f"{text} is the autoencoder that comes with the package; for the folder of that name write ./{text}"
            )
            warnings.warn(shadow, stacklevel=2)
        return _open_folder(WEIGHTS / text, text, device, dtype)
    if Path(text).is_dir():
        folder = Path(text) / subfolder if subfolder else Path(text)
        return _open_folder(folder, Path(text).resolve().name, device, dtype)
    if own.FACTORY.fullmatch(text):
        return own.build(text, device, dtype, probe)
    name, _, inside = text.partition(":")
    if (suffix := Path(name).suffix.lower()) in _NO_MODEL:
        raise AutoencoderError(f"{name} {_NO_MODEL[suffix].format(name=name)}")
    if isinstance(name_or_path, str) and _HUB_ID.fullmatch(name):
        return _open_hub(name, subfolder or inside or None, device, dtype)
    close = difflib.get_close_matches(text, SHIPPED, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    raise AutoencoderError(
        f"no autoencoder {text!r}{guess}: it is not a local folder, not the id of a hub repository (owner/name), "
        f"and not a shipped name ({', '.join(SHIPPED)})"
    )


def _class_name(config: Path, where: str) -> str:
    try:
        class_name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError) as error:
        raise AutoencoderError(f"{where}: config.json cannot be read ({error})") from error
    family_of(class_name, where)
    return class_name


def _open_folder(folder: Path, name: str, device: str | torch.device, dtype: torch.dtype) -> Autoencoder:
    if not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f"; name one of its subfolders with subfolder=: {', '.join(inside)}" if inside else ""
        raise AutoencoderError(f"{folder} holds no config.json, so it is not a diffusers model folder{hint}")
    class_name = _class_name(folder / "config.json", str(folder))
    if not any(folder.glob("diffusion_pytorch_model*.safetensors")):
        pickled = min((path.name for path in folder.iterdir() if path.suffix in (".bin", ".ckpt", ".pt")), default=None)
        found = f"only {pickled}, and pickled weights are never loaded" if pickled else "no weights"
        save = "save the model with save_pretrained(folder, safe_serialization=True)"
        raise AutoencoderError(f"{folder} holds {found}; {save}")
    return _from_pretrained(class_name, str(folder), name, device, dtype, local_files_only=True)


#: What the hub says, in the order that it is looked up (GatedRepoError is a RepositoryNotFoundError).
_HUB_SAYS = {
    hub_errors.GatedRepoError: "asks for its terms to be accepted: do so on its page and log in with `hf auth login`",
    hub_errors.RepositoryNotFoundError: "is no local folder, and the hub has no public repository of that name",
    hub_errors.RemoteEntryNotFoundError: "has no config.json there; the autoencoder of a pipeline is subfolder='vae'",
}


def _open_hub(repository: str, subfolder: str | None, device: str | torch.device, dtype: torch.dtype) -> Autoencoder:
    try:
        config = hf_hub_download(repository, "config.json", subfolder=subfolder)
    except tuple(_HUB_SAYS) as error:
        why = next(said for kind, said in _HUB_SAYS.items() if isinstance(error, kind))
        raise AutoencoderError(f"{repository} {why}") from error
    except Exception as error:  # what a missing network raises depends on proxies, cache and the hub library's version
        raise AutoencoderError(
            f"{repository!r} is neither a local folder nor in the hub's cache, and the hub cannot be reached "
            f"({type(error).__name__}): connect to the network, give a local folder, or use a shipped name "
            f"({', '.join(SHIPPED)})"
        ) from error
    class_name = _class_name(Path(config), repository)
    return _from_pretrained(class_name, repository, repository, device, dtype, subfolder=subfolder)


def _from_pretrained(
    class_name: str, source: str, name: str, device: str | torch.device, dtype: torch.dtype, **options: Any
) -> Autoencoder:
    options |= {"use_safetensors": True, "low_cpu_mem_usage": False, "torch_dtype": dtype}
    try:
        module, info = getattr(diffusers, class_name).from_pretrained(source, output_loading_info=True, **options)
    except Exception as error:  # diffusers raises OSError, ValueError, RuntimeError, SafetensorError ... for bad files
        raise AutoencoderError(f"{source}: the weights cannot be loaded ({first_line(error)})") from error
    if missing := sorted(info["missing_keys"]):  # diffusers would go on with random weights in their place
        raise AutoencoderError(f"{source}: the weights lack {len(missing)} tensors, the first is {missing[0]}")
    return Autoencoder(name, module.to(device).eval())
