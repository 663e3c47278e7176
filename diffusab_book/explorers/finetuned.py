r"""An explorer of what fine-tuning changes: several autoencoders decode the same share of their own latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from diffusab_book import figures
from diffusab_book.explorer import Explorer
from diffusab_book.explorers.spectra import compare_cuts, cut_ratio
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.spectrum import chop_high_frequencies
from diffusab_core.spectrum.bands import keep_latent_frequencies

SHARES = (1.0, 0.75, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)


def decoders_explorer(image: torch.Tensor, autoencoders: Mapping[str, Autoencoder], block_size: int = 8) -> Explorer:
    r"""The picture that each of several autoencoders makes of its latent when the high frequencies are cut from it.

    Above, the decoded pictures :math:`\mathrm{Dec}(D^{-1}(D(\mathrm{Enc}(x)) \cdot M))` side by side with their PSNR
    against the uncut image; below, PSNR against the share that is kept, and that of the image itself with the same
    frequencies of the scene, :func:`~diffusab_core.spectrum.bands.keep_latent_frequencies`.

    Args:
        image: ``(3, H, W)`` in [-1, 1]; H and W multiples of ``block_size`` times the compression.
        autoencoders: By the name that the reader sees, from :func:`diffusab_core.autoencoders.load`; all of one
            compression, or the image's own curve would not be one curve.
        block_size: B in the latent.

    Raises:
        ValueError: No autoencoder, or autoencoders of different compression.

    Source: Skorokhodov et al. 2025, Figs. 5 and 11.
    """
    compressions = {name: autoencoder.compression for name, autoencoder in autoencoders.items()}
    if len(set(compressions.values())) != 1:
        raise ValueError(f"needs autoencoders of one compression, got {compressions}")
    x, f = image[None], next(iter(compressions.values()))
    with torch.no_grad():
        latents = {name: autoencoder.encode(x).mean for name, autoencoder in autoencoders.items()}  # (1, C, h, w)

    def cut(share: float, order: str) -> dict[str, torch.Tensor]:
        ratio, found = cut_ratio(share, order), {}
        for name, z in latents.items():
            with torch.no_grad():
                found[name] = autoencoders[name].decode(chop_high_frequencies(z, ratio, block_size, order))
        return {**found, own: keep_latent_frequencies(x, f, ratio, block_size, order)}

    own = "image, same frequencies"
    return compare_cuts(
        x, cut, SHARES, 0.5, ("zigzag",), {own: figures.PALETTE.index(figures.GREY)},
        f"Explorer: one photograph decoded by {', '.join(latents)}, each from its own latent with the same share of "
        "low frequencies kept. Below, the PSNR of each, and of the photograph with the same frequencies of the scene, "
        "against that share.",
        curve_only=own,
    )  # fmt: skip
