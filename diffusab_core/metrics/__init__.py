"""How far from the real thing, and which frequencies matter."""

from diffusab_core.metrics.material import measure_material
from diffusab_core.metrics.networks import LPIPSDistance, MissingWeightsError, lpips_distance
from diffusab_core.metrics.offline import offline_features
from diffusab_core.metrics.pairs import (
    cut_curve,
    lpips_per_image,
    psnr,
    psnr_per_image,
    spectrum_distance,
    ssim,
    ssim_per_image,
)
from diffusab_core.metrics.perceptual import (
    PERCEPTUAL,
    HEDDistance,
    PerceptualDistance,
    hed_distance,
    open_perceptual,
)
from diffusab_core.metrics.samples import evaluate_samples, frechet_to, reconstruction_frechet_distance, reference
from diffusab_core.metrics.sets import frechet_distance

__all__ = [
    "PERCEPTUAL",
    "HEDDistance",
    "LPIPSDistance",
    "MissingWeightsError",
    "PerceptualDistance",
    "cut_curve",
    "evaluate_samples",
    "frechet_distance",
    "frechet_to",
    "hed_distance",
    "lpips_distance",
    "lpips_per_image",
    "measure_material",
    "offline_features",
    "open_perceptual",
    "psnr",
    "psnr_per_image",
    "reconstruction_frechet_distance",
    "reference",
    "spectrum_distance",
    "ssim",
    "ssim_per_image",
]  # fmt: skip
