"""What is the spectrum of a tensor? The block DCT, radial Fourier tools, profiles over streams, and bands."""

from diffusab_core.spectrum.dct import (
    ORDERS,
    block_dct,
    block_idct,
    chop_high_frequencies,
    frequency_mask,
    kept_share,
    whole_dct,
    whole_idct,
    zigzag_order,
)
from diffusab_core.spectrum.profile import (
    STATISTICS,
    ProfileAccumulator,
    frequency_profile,
    high_frequency_energy_ratio,
    high_frequency_share,
    temporal_shares,
)
from diffusab_core.spectrum.radial import (
    MASKS,
    radial_bands,
    radial_mask,
    radial_profile,
    radial_split,
    spectral_exponent,
    windowed_radial_profile,
)

__all__ = [
    "MASKS",
    "ORDERS",
    "STATISTICS",
    "ProfileAccumulator",
    "block_dct",
    "block_idct",
    "chop_high_frequencies",
    "frequency_mask",
    "frequency_profile",
    "high_frequency_energy_ratio",
    "high_frequency_share",
    "kept_share",
    "radial_bands",
    "radial_mask",
    "radial_profile",
    "radial_split",
    "spectral_exponent",
    "temporal_shares",
    "whole_dct",
    "whole_idct",
    "windowed_radial_profile",
    "zigzag_order",
]
