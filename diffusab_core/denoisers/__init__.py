"""The networks: DiT, U-ViT and USiT by name, with fresh weights or from the disk.

A denoiser is called ``model(x, t, y=None)`` with latents ``(N, C, h, w)``, or ``(N, C, T, h, w)`` for video, and times
``(N,)`` in [0, 1]; what it returns has the shape of x. DiT and USiT predict the velocity
:math:`\\mathrm d x / \\mathrm d t`, U-ViT the noise: see :func:`prediction_of`.

Each name is imported when it is first used, so that what needs no torch does not wait for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "catalogue": ["build", "load", "prediction_of", "save"],
        "dit": ["DiT", "SelfConditioned"],
        "names": [
            "CONFIG_FILE",
            "DIT_SIZES",
            "DenoiserError",
            "PATCHES",
            "Prediction",
            "UVIT_SIZES",
            "WEIGHTS_FILE",
            "parse",
        ],
        "uvit": ["UViT"],
    },
)
