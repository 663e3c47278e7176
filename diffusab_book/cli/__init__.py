"""``diffusab``: the package from a shell. The modules of commands register themselves with :data:`app`."""

from diffusab_book.cli import denoiser, finetune, latents, report, samples
from diffusab_book.cli.app import app

__all__ = ["app", "denoiser", "finetune", "latents", "report", "samples"]
