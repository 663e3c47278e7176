"""What the name of an autoencoder stands for: what can be said before anything is opened, and without torch."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from diffusab_core.files import DiffusabError, guess_place

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
    ".py": "is Python code, not a model's name; name the function that builds it: {name}:function"
} | dict.fromkeys(
    PICKLES,
    "is a pickle, and pickles can run any code when opened, so none is loaded; give a diffusers folder with "
    "safetensors, or build the model in Python: file.py:function",
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_OPTIONS = re.compile(r"(.*?)((?:,(?:variant|config)=[^,]*)*)", re.DOTALL)
FACTORY = re.compile(r".+\.py:[^:/\\]*")  #: ``path/to/file.py:function``
ARCHIVE = ".jit"  #: Suffix of TorchScript archives

Kind = Literal["shipped", "folder", "factory", "file", "hub"]


class AutoencoderError(DiffusabError, ValueError):
    """An autoencoder that cannot be found, built or opened; the message says what was tried and what to do."""


@dataclass(frozen=True)
class Opening:
    """What has to be known to open some models besides their place.

    Attributes:
        subfolder: Folder inside a pipeline's folder or repository that holds the model, usually vae; the same as
            MODEL:vae.
        variant: Which of several files of weights, usually fp16; the same as MODEL,variant=fp16.
        model_config: What a single file of weights is: a name of the catalogue such as FluxAE or SD, a config.json, or
            a diffusers folder; the same as FILE.safetensors,config=NAME.
    """

    subfolder: str | None = None
    variant: str | None = None
    model_config: str | None = None

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def of(self, model: str) -> str:
        """The model's name with these in it, which :func:`load` takes as it is."""
        place, found = split_options(model)
        for name, value in asdict(self).items():
            if value is not None and getattr(found, name) not in (None, value):
                raise AutoencoderError(f"{model} names its {name}, and {value!r} is another")
        merged = {name: value or getattr(found, name) for name, value in asdict(self).items()}
        text = place + (f":{merged['subfolder']}" if merged["subfolder"] else "")
        text += f",variant={merged['variant']}" if merged["variant"] else ""
        return text + (f",config={merged['model_config']}" if merged["model_config"] else "")


def split_options(model: str) -> tuple[str, Opening]:
    """Place and options of a model's name, ``PLACE[:SUBFOLDER][,variant=VARIANT][,config=CONFIG]``."""
    place, options = _OPTIONS.fullmatch(model).groups()
    given = dict(option.split("=", 1) for option in options.split(",")[1:])
    subfolder = None
    if not Path(place).exists() and not FACTORY.fullmatch(place):
        outside, _, inside = place.rpartition(":")
        if outside and inside and (Path(outside).is_dir() or _HUB_ID.fullmatch(outside)):
            place, subfolder = outside, inside
    return place, Opening(subfolder, given.get("variant") or None, given.get("config") or None)


def find_kind(model: str, hub: bool = True) -> Kind:
    """What :func:`~.opening.load` opens a name as: what comes with the package, a folder, a function in a file of
    Python, a single file of weights, or, where it may be one, a repository on the hub; an :class:`AutoencoderError` of
    what is none."""
    place, _ = split_options(model)
    name, suffix = place.partition(":")[0], Path(place).suffix.lower()
    if place in SHIPPED:
        return "shipped"
    if Path(place).is_dir():
        return "folder"
    if FACTORY.fullmatch(place):
        return "factory"
    if (ending := Path(name).suffix.lower()) in _NO_MODEL:
        raise AutoencoderError(f"{name} {_NO_MODEL[ending].format(name=name)}")
    if suffix in (".safetensors", ".sft", ARCHIVE):
        if not Path(place).is_file():
            raise AutoencoderError(f"there is no file {place}{guess_place(place)}")
        return "file"
    if hub and _HUB_ID.fullmatch(place):
        return "hub"
    close = difflib.get_close_matches(model, SHIPPED, n=1)
    guess = f" (did you mean {close[0]}?)" if close else guess_place(place)
    raise AutoencoderError(
        f"no autoencoder {model!r}{guess}: it is not a local folder or file, not the id of a hub repository "
        f"(owner/name), and not a shipped name ({', '.join(SHIPPED)})"
    )
