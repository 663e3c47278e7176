"""What a denoiser is trained on: posteriors of latents, encoded on the fly or cached."""

from diffusab_core.latents.base import Latents, TensorLatents, channel_statistics
from diffusab_core.latents.cache import CacheError, LatentCache, open_cache
from diffusab_core.latents.encoded import EncodedLatents, encode
from diffusab_core.latents.extraction import Extraction, extract
from diffusab_core.latents.file import LatentsFile, open_latents
from diffusab_core.latents.identity import LatentsError, weights_digest

__all__ = [
    "CacheError",
    "EncodedLatents",
    "Extraction",
    "LatentCache",
    "Latents",
    "LatentsError",
    "LatentsFile",
    "TensorLatents",
    "channel_statistics",
    "encode",
    "extract",
    "open_cache",
    "open_latents",
    "weights_digest",
]
