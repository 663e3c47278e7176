"""What a denoiser is trained on: posteriors of latents, encoded on the fly or cached."""

from diffusab_core.latents.base import Latents, TensorLatents
from diffusab_core.latents.encoded import EncodedLatents, encode_all
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.latents.identity import LatentsError
from diffusab_core.latents.others import open_latents, open_stored

__all__ = [
    "EncodedLatents",
    "Extraction",
    "Latents",
    "LatentsError",
    "TensorLatents",
    "encode_all",
    "extract",
    "open_latents",
    "open_stored",
]
