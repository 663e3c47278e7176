"""What chapters, scripts and the command line run: each function takes a frozen dataclass and returns a run record.

Autoencoders are fine-tuned and evaluated in :mod:`diffusab_core.experiments.autoencoder`, denoisers trained and sampled
in :mod:`diffusab_core.experiments.denoiser`, samples judged in :mod:`diffusab_core.experiments.samples`.
"""

from diffusab_core.experiments.autoencoder import Evaluation, Finetuned, card, evaluate, finetune, loss_of
from diffusab_core.experiments.denoiser import (
    Denoiser,
    TrainedDenoiser,
    check_autoencoder,
    digest_of,
    generate,
    open_denoiser,
    train_denoiser,
)

__all__ = [
    "Denoiser",
    "Evaluation",
    "Finetuned",
    "TrainedDenoiser",
    "card",
    "check_autoencoder",
    "digest_of",
    "evaluate",
    "finetune",
    "generate",
    "loss_of",
    "open_denoiser",
    "train_denoiser",
]
