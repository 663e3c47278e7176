"""The networks: DiT, U-ViT and USiT by name, with fresh weights or from the disk.

A denoiser is called ``model(x, t, y=None)`` with latents ``(N, C, h, w)``, or ``(N, C, T, h, w)`` for video, and times
``(N,)`` in [0, 1]; what it returns has the shape of x. DiT and USiT predict the velocity
:math:`\\mathrm d x / \\mathrm d t`, U-ViT the noise: see :func:`prediction_of`.
"""

from diffusab_core.denoisers.catalogue import (
    CONFIG_FILE,
    DIT_SIZES,
    PATCHES,
    UVIT_SIZES,
    WEIGHTS_FILE,
    DenoiserError,
    build,
    load,
    parse,
    prediction_of,
    save,
)
from diffusab_core.denoisers.dit import DiT, SelfConditioned
from diffusab_core.denoisers.uvit import Prediction, UViT

__all__ = [
    "CONFIG_FILE", "DIT_SIZES", "PATCHES", "UVIT_SIZES", "WEIGHTS_FILE", "DenoiserError", "DiT", "Prediction",
    "SelfConditioned", "UViT", "build", "load", "parse", "prediction_of", "save",
]  # fmt: skip
