"""What names on a command line stand for, looked at before the command is loaded: torch alone takes seconds.

Only what is certain is looked at: the words before the first option, and those that follow an option that names a
model, a place of images or a denoiser. All else, and all of this again, is checked by what opens it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from diffusab_core.autoencoders.names import find_kind as check_model
from diffusab_core.data.places import find_kind as find_kind_of_place
from diffusab_core.denoisers.names import check_folder, parse

Check = Callable[[str], object]


def check_place(place: str) -> None:
    """Refuse a place of images that is not there."""
    if not os.path.exists(place):
        find_kind_of_place(place)


def check_training_images(place: str) -> None:
    """The same of what an autoencoder is trained on from random weights, which may be this mixture, too."""
    if place != "mixture":
        check_place(place)


def check_side(place: str) -> None:
    """Refuse a place of samples or of a reference that is not there; a file of statistics is a reference, too."""
    if not place.endswith(".safetensors"):
        check_place(place)


#: Of each command what its arguments are, in order, the last one again and again; ``None`` is a place to write to.
ARGUMENTS: dict[str, tuple[Check | None, ...]] = {
    "profile": (check_model,),
    "report": (check_model,),
    "finetune": (check_model, None),
    "evaluate": (check_model, None),
    "extract": (check_model, None),
    "sample": (check_folder, None),
    "evaluate-samples": (check_side, check_side),
    "doctor": (check_side, check_side),
}
OPTIONS: dict[str, Check] = {
    "--images": check_place, "--held-out": check_place, "--still-images": check_place,
    "--model": check_model, "--autoencoder": check_model, "--decoded-by": check_model,
    "--denoiser": parse,
}  # fmt: skip


def look(name: str, words: Sequence[str]) -> None:
    """Refuse names of nothing among the words after a command's name, each by the check of what would open it."""
    if "--help" in words:
        return
    for check, word in [*_arguments(name, words), *_options(name, words)]:
        check(word)


def _arguments(name: str, words: Sequence[str]) -> Iterator[tuple[Check, str]]:
    checks = ARGUMENTS.get(name, (check_model, None) if name == "train" and _encodes(words) else ())
    for i, word in enumerate(words):
        if word.startswith("-") or not checks:
            return
        if (check := checks[min(i, len(checks) - 1)]) is not None:
            yield check, word


def _encodes(words: Sequence[str]) -> bool:
    """Whether `diffusab train` gets an autoencoder and no cache."""
    return any(word.partition("=")[0] == "--images" for word in words)


def _options(name: str, words: Sequence[str]) -> Iterator[tuple[Check, str]]:
    checks = OPTIONS | ({"--images": check_training_images} if name == "train-autoencoder" else {})
    for i, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in checks and (equals or i + 1 < len(words)):
            yield checks[option], value if equals else words[i + 1]
