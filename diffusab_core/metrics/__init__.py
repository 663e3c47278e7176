"""How far from the real thing, and which frequencies matter."""

from diffusab_core.metrics.networks import (
    LPIPSDistance,
    MissingWeightsError,
    dinov2_features,
    inception_features,
    lpips_distance,
    video_features,
)
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
from diffusab_core.metrics.samples import evaluate_samples, reconstruction_frechet_distance, reference
from diffusab_core.metrics.sets import frechet_distance, precision_recall

__all__ = [
    "LPIPSDistance",
    "MissingWeightsError",
    "cut_curve",
    "dinov2_features",
    "evaluate_samples",
    "frechet_distance",
    "inception_features",
    "lpips_distance",
    "lpips_per_image",
    "offline_features",
    "precision_recall",
    "psnr",
    "psnr_per_image",
    "reconstruction_frechet_distance",
    "reference",
    "spectrum_distance",
    "ssim",
    "ssim_per_image",
    "video_features",
]
