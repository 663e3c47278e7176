r"""What quantisation does to latents: their spectra before and after, its error by frequency, and the codes in use.

If the error of a latent pixel did not depend on its neighbours, its spectrum would be flat, while that of latents
falls: a small part of what is low, and perhaps all of what is high. The error's flatness says how far that holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusab_core import spectrum
from diffusab_core.autoencoders.quantizers import Codes
from diffusab_core.spectrum.dct import to_double


@dataclass(frozen=True)
class Quantisation:
    """What :func:`measure_quantisation` finds; curves are ``(B*B,)`` in zigzag order."""

    before: Tensor  #: Profile (ratio of means) of latents before quantisation
    after: Tensor  #: And after
    error_share: Tensor  #: Energy of the error over that of the latents before, at each rank
    error_flatness: float  #: Of the error's energy by rank without D00: geometric over arithmetic mean, 1 for white
    snr_db: float  #: Energy of the latents before over that of the error
    perplexity: float  #: Exponential of the entropy of the codes: how many equally frequent ones say as much
    used: float  #: The part of all codes that occurs

    def numbers(self) -> dict[str, float]:
        """The single numbers, as a record keeps them."""
        half = len(self.before) // 2
        return {
            "codes_perplexity": self.perplexity,
            "codes_used": self.used,
            "codes_snr_db": self.snr_db,
            "codes_error_flatness": self.error_flatness,
            "codes_error_share_high": self.error_share[half:].mean().item(),
        }

    def curves(self) -> dict[str, list[float]]:
        """The curves, likewise."""
        names = ("before", "after", "error_share")
        return {f"codes_{name}": getattr(self, name).tolist() for name in names}


def measure_quantisation(codes: Codes, block_size: int = 8) -> Quantisation:
    """Spectra of latents before and after quantisation, and how its codes are used.

    A ``ValueError`` where sides are not multiples of the block size, or where nothing was lost.
    """
    error = codes.after - codes.before
    energy, lost = _energy(codes.before, block_size), _energy(error, block_size)
    if not lost.sum() > 0:
        raise ValueError("the latents are codes already, so quantisation has no error to measure")
    frequency = to_double(torch.bincount(codes.index.flatten(), minlength=codes.count)) / codes.index.numel()
    met = frequency[frequency > 0]
    return Quantisation(
        before=spectrum.frequency_profile(codes.before, block_size),
        after=spectrum.frequency_profile(codes.after, block_size),
        error_share=lost / energy,
        error_flatness=(lost[1:].log().mean().exp() / lost[1:].mean()).item(),
        snr_db=10 * (energy.sum() / lost.sum()).log10().item(),
        perplexity=(-(met * met.log()).sum()).exp().item(),
        used=len(met) / codes.count,
    )


def _energy(x: Tensor, block_size: int) -> Tensor:
    """Mean energy at each rank, ``(B*B,)``."""
    energy = to_double(spectrum.block_dct(x, block_size)).square().flatten(-2).flatten(0, -2).mean(0)
    return energy[spectrum.zigzag_order(block_size).to(energy.device)]
