"""What chapters, scripts and the command line run: each function takes a frozen dataclass and returns a run record."""

from diffusab_core.experiments.autoencoder import Evaluation, Finetuned, card, evaluate, finetune, loss_of
from diffusab_core.experiments.denoiser import Denoiser, check_autoencoder, generate, open_denoiser, train_denoiser

__all__ = [
    "Denoiser", "Evaluation", "Finetuned", "card", "check_autoencoder", "evaluate", "finetune", "generate", "loss_of",
    "open_denoiser", "train_denoiser",
]  # fmt: skip
