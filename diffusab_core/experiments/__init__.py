"""What chapters, run notebooks and the command line run: each function takes a frozen dataclass and returns a record.

Each name is imported when it is first used, so that records can be read without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusab_core.experiments.autoencoder import Evaluation, Finetuned, card, evaluate, finetune, loss_of
    from diffusab_core.experiments.denoiser import Denoiser, check_autoencoder, generate, open_denoiser, train_denoiser
    from diffusab_core.experiments.pretraining import Pretrained, Pretraining, train_autoencoder
    from diffusab_core.experiments.probing import Probing, probe_autoencoder
    from diffusab_core.experiments.scoring import Scoring, score_space

#: Where each name is.
_PLACES = {
    **dict.fromkeys(("Evaluation", "Finetuned", "card", "evaluate", "finetune", "loss_of"), "autoencoder"),
    **dict.fromkeys(("Denoiser", "check_autoencoder", "generate", "open_denoiser", "train_denoiser"), "denoiser"),
    **dict.fromkeys(("Pretrained", "Pretraining", "train_autoencoder"), "pretraining"),
    **dict.fromkeys(("Probing", "probe_autoencoder"), "probing"),
    **dict.fromkeys(("Scoring", "score_space"), "scoring"),
}

__all__ = [
    "Denoiser", "Evaluation", "Finetuned", "Pretrained", "Pretraining", "Probing", "Scoring", "card",
    "check_autoencoder", "evaluate", "finetune", "generate", "loss_of", "open_denoiser", "probe_autoencoder",
    "score_space", "train_autoencoder", "train_denoiser",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
