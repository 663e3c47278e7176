r"""Which frequencies an encoder passes on and which a decoder needs: one band is changed and the other side watched.

Radii and band edges are in cycles per pixel of the space they lie in, image or latent, 0.5 being the Nyquist frequency
of an axis in either. A frequency :math:`\nu` of the image that an encoder of compression :math:`f` neither moves nor
folds has the frequency :math:`f\nu` in the latent. A band holds its upper edge and not its lower one. The zero
frequency belongs to no band and is never changed: what is measured is structure and not brightness. Spectra are those
of posterior means under the orthonormal transform, so that energies are sums of squares of pixels (Parseval).

What the functions have in common: ``x`` are images ``(N, 3, H, W)`` in [-1, 1] on any device, and what is low-passed is
not clamped again; ``edges`` bound bands of the latent, if nothing else is said, and ascend; ``radii`` are cutoffs of 0
or more in cycles per pixel of the image, infinite for the images as they are; ``batch_size`` images are worked on at a
time, where the autoencoder is. Numbers are float64 on the CPU, and no gradient is kept. A ``ValueError`` refuses images
of another shape or with NaN, edges or radii that are none, and bands without a frequency.

Source: "Toward Diffusible High-Dimensional Latent Spaces: A Frequency Perspective" (2025), Sec. 3, whose findings are
here in turn: what the decoder makes of a part of the latent (1), where the energy of images lies (2), and what the
encoder does with a band of them (3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.metrics.pairs import psnr_per_image
from diffusab_core.metrics.sets import frechet_distance
from diffusab_core.spectrum.bands import band_masks, check_edges, ranked, second_moments
from diffusab_core.spectrum.dct import block_idct, check_finite, to_double, working, zigzag_order
from diffusab_core.spectrum.radial import radial_split

#: Everything: the corner of the spectrum, where both axes are at their Nyquist frequency.
WHOLE = math.sqrt(0.5)
#: Bands in cycles per pixel; each holds frequencies of a latent of 8 x 8 and of larger ones.
EDGES = (0.0, 0.15, 0.3, 0.45, WHOLE)
_ROUNDING = 1e-12  # energy below this share of what it is the difference of is none


def check_images(x: Tensor) -> Tensor:
    """``x`` if it is a batch of finite images ``(N, 3, H, W)``."""
    if working(x).ndim != 4 or x.shape[1] != 3 or not x.numel():
        raise ValueError(f"images must have shape (N, 3, H, W) with N of at least 1, got {tuple(x.shape)}")
    check_finite(x)
    return x


def _check_radii(radii: Sequence[float]) -> tuple[float, ...]:
    radii = tuple(float(r) for r in radii)
    if not radii or not all(r >= 0 for r in radii):
        raise ValueError(f"radii must be cutoffs of 0 or more in cycles per pixel, infinite for none, got {radii}")
    return radii


def encode_mean(autoencoder: Autoencoder, x: Tensor, radius: float = math.inf, kind: str = "ideal") -> Tensor:
    """Posterior means of a batch, low-passed first, in at least float32, where the autoencoder is."""
    low = x if math.isinf(radius) else radial_split(x, radius, kind)[0]
    return working(autoencoder.encode(autoencoder.place(low)).mean)


def decode(autoencoder: Autoencoder, z: Tensor) -> Tensor:
    """Decoded images of a batch, in at least float32, where the autoencoder is."""
    return working(autoencoder.decode(autoencoder.place(z)))


def _band_energies(x: Tensor, masks: Tensor) -> Tensor:
    """Energy in each band, summed over everything else: ``(..., H, W)`` and ``(bands, H, W)`` to ``(bands,)``."""
    energy = torch.fft.fft2(x, norm="ortho").abs().square().reshape(-1, *x.shape[-2:]).sum(0)  # (H, W)
    return torch.einsum("bhw,hw->b", masks.double(), to_double(energy).cpu())


def _band_means(spectrum: Tensor, edges: Sequence[float]) -> Tensor:
    """Mean over the frequencies of each band, ``(bands,)``, of a spectrum ``(h, w)`` of latents."""
    masks = band_masks(*spectrum.shape, edges, "latent").double()
    return torch.einsum("bhw,hw->b", masks, to_double(spectrum).cpu()) / masks.sum((1, 2))


class Parts(NamedTuple):
    """Images decoded from a part of the latent, ``(N, 3, H, W)`` each, not clamped."""

    low: Tensor  # from the frequencies within the radius, the mean among them
    high: Tensor  # from the frequencies beyond it, so without the mean of any channel
    whole: Tensor  # from the latent as it is


@torch.no_grad()
def reconstructions_by_part(autoencoder: Autoencoder, z: Tensor, radius: float, kind: str = "ideal") -> Parts:
    r"""Images decoded from :math:`Z_\text{low}`, :math:`Z_\text{high}` and :math:`Z`, raw latents ``(N, C, h, w)``.

    Radius, in cycles per pixel of the latent, and kind of mask: :func:`diffusab_core.spectrum.radial.radial_mask`.
    """
    return Parts(*(decode(autoencoder, part) for part in (*radial_split(z, radius, kind), z)))


class BandDependence(NamedTuple):
    """PSNR of reconstructions against the images, in dB, after one band of the latent is gone; float64."""

    edges: tuple[float, ...]  # of the latent's bands, in cycles per pixel of the latent
    psnr_without: Tensor  # (bands,): the band set to zero
    psnr_noised: Tensor  # (bands,): the band's phases replaced by those of white noise, its energy kept
    psnr_whole: float  # of the latent as it is


@torch.no_grad()
def decoder_dependence(
    autoencoder: Autoencoder, x: Tensor, edges: Sequence[float], generator_seed: int = 0, batch_size: int = 8
) -> BandDependence:
    r"""How much a reconstruction loses with each band of the latent.

    Once the band is set to zero; once its coefficients keep their absolute values and take the phases of white noise,
    drawn from seed and index of the image, so that the decoder meets the usual energy with the wrong content.
    """
    x, edges = check_images(x), check_edges(edges)
    without, noised = torch.zeros(2, len(edges) - 1, dtype=torch.float64)
    whole = torch.zeros((), dtype=torch.float64)
    for start, batch in zip(range(0, len(x), batch_size), x.split(batch_size), strict=True):
        z = encode_mean(autoencoder, batch)  # (n, C, h, w)
        masks = band_masks(*z.shape[-2:], edges, "latent").to(z.device)
        streams = (np.random.default_rng([generator_seed, start + i]) for i in range(len(z)))
        noise = np.stack([stream.standard_normal(z.shape[1:]) for stream in streams])
        spectrum = torch.fft.fft2(z)
        phases = torch.fft.fft2(torch.from_numpy(noise).to(z.device, z.dtype))
        scrambled = spectrum.abs() * torch.exp(1j * phases.angle())  # as symmetric as both are, so of a real signal
        target = batch.to(z.device)
        whole += to_double(psnr_per_image(decode(autoencoder, z), target)).sum().cpu()
        for band, mask in enumerate(masks):
            for total, instead in ((without, torch.zeros_like(spectrum)), (noised, scrambled)):
                changed = torch.fft.ifft2(torch.where(mask, instead, spectrum)).real
                total[band] += to_double(psnr_per_image(decode(autoencoder, changed), target)).sum().cpu()
    return BandDependence(edges, without / len(x), noised / len(x), whole.item() / len(x))


@torch.no_grad()
def rgb_energy_by_band(x: Tensor, edges: Sequence[float], batch_size: int = 32) -> Tensor:
    r"""Which share of the energy of images lies in each band of theirs, ``(bands,)`` float64.

    The mean of every channel of every image is removed first; energies are summed over images and channels before they
    are divided, so images of high contrast count for more. Shares are of the energy at all frequencies. Without a
    window, the jumps between opposite borders add some energy at high ones. Images of one colour each are refused, too.
    """
    x, edges = check_images(x), check_edges(edges)
    masks = band_masks(*x.shape[-2:], edges, "images")
    inside, total, with_mean = torch.zeros(len(masks), dtype=torch.float64), 0.0, 0.0
    for batch in x.split(batch_size):
        batch = working(batch)
        centred = batch - batch.mean((-2, -1), keepdim=True)
        inside += _band_energies(centred, masks)
        total += to_double(centred).square().sum().item()
        with_mean += to_double(batch).square().sum().item()
    if total <= _ROUNDING * with_mean:
        raise ValueError(f"all {len(x)} images are of one colour, so there is no energy to share out")
    return inside / total


class CutoffResponse(NamedTuple):
    """Latent amplitude by band, when the encoder sees low-passed images."""

    radii: tuple[float, ...]  # cutoffs of the images (R), in cycles per pixel of the image; infinite: unfiltered
    edges: tuple[float, ...]  # of the latent's bands, in cycles per pixel of the latent
    amplitude: Tensor  # (R, bands) float64: mean of |F(z)| over the band's frequencies, the channels and the images


@torch.no_grad()
def latent_amplitude_by_cutoff(
    autoencoder: Autoencoder,
    x: Tensor,
    radii: Sequence[float],
    edges: Sequence[float],
    kind: str = "ideal",
    batch_size: int = 8,
) -> CutoffResponse:
    r"""How strong each band of the latent is, when the images keep only what lies within a radius.

    White noise of standard deviation :math:`\sigma` has :math:`\sigma\sqrt{\pi}/2 \approx 0.89\,\sigma` in every band.
    ``kind`` is that of the images' mask, see :func:`diffusab_core.spectrum.radial.radial_mask`.
    """
    x, edges, radii = check_images(x), check_edges(edges), _check_radii(radii)
    total = torch.zeros(len(radii), len(edges) - 1, dtype=torch.float64)
    for batch in x.split(batch_size):
        batch = autoencoder.place(batch)
        for row, radius in enumerate(radii):
            z = encode_mean(autoencoder, batch, radius, kind)
            total[row] += _band_means(torch.fft.fft2(z, norm="ortho").abs().mean(1).sum(0), edges)
    return CutoffResponse(radii, edges, total / len(x))


@torch.no_grad()
def encoder_perturbation(
    autoencoder: Autoencoder, x: Tensor, edges: Sequence[float], latent_edges: Sequence[float], batch_size: int = 8
) -> Tensor:
    r"""How much each band of the latent changes when one band of the images, between ``edges``, is removed.

    An entry of ``(RGB bands, latent bands)`` is :math:`\lVert F(z') - F(z) \rVert / \lVert F(z) \rVert`, where
    :math:`z'` is the latent of the images without the RGB band, and the norm is over the frequencies of one latent
    band, all channels and all images. It is 0 where nothing changes and 1 where what changes is as large as what was
    there, as when the band is gone; infinite or NaN where a latent band is exactly zero.
    """
    x, edges, latent_edges = check_images(x), check_edges(edges), check_edges(latent_edges, "latent_edges")
    rgb_masks = band_masks(*x.shape[-2:], edges, "images")
    changed = torch.zeros(len(edges) - 1, len(latent_edges) - 1, dtype=torch.float64)
    energy = torch.zeros(len(latent_edges) - 1, dtype=torch.float64)
    for batch in x.split(batch_size):
        batch = working(autoencoder.place(batch))
        z = encode_mean(autoencoder, batch)
        masks = band_masks(*z.shape[-2:], latent_edges, "latent")
        energy += _band_energies(z, masks)
        spectrum = torch.fft.fft2(batch)
        for row, mask in enumerate(rgb_masks.to(batch.device)):
            without = torch.fft.ifft2(spectrum.masked_fill(mask, 0)).real
            changed[row] += _band_energies(encode_mean(autoencoder, without) - z, masks)
    return (changed / energy).sqrt()


@torch.no_grad()
def fed_energy(
    autoencoder: Autoencoder, x: Tensor, radii: Sequence[float], edges: Sequence[float] = EDGES, batch_size: int = 16
) -> Tensor:
    r"""Energy ``(R, bands)`` of the latent as a denoiser is fed it, when the images keep what lies within a radius.

    Latents are normalised by each channel's mean and standard deviation over the *whole* images' latents, whatever the
    radius, as FreqWarm does it; a channel that is constant is refused. Energy is the mean of :math:`|F(z)|^2` over the
    band's frequencies, the channels and the images: one in every band for white normalised latents.
    """
    x, edges, radii = check_images(x), check_edges(edges), _check_radii(radii)

    def latents(radius: float) -> Tensor:
        return torch.cat([to_double(encode_mean(autoencoder, b, radius)).cpu() for b in x.split(batch_size)])

    whole = latents(math.inf)  # (N, C, h, w)
    std, mean = torch.std_mean(whole, (0, 2, 3), correction=0, keepdim=True)
    if not bool((std > 0).all()):
        raise ValueError(f"channel {int((std == 0).flatten().nonzero()[0])} of the latents of all images is constant")
    rows = []
    for radius in radii:
        z = ((whole if math.isinf(radius) else latents(radius)) - mean) / std
        rows.append(_band_means(torch.fft.fft2(z, norm="ortho").abs().square().mean((0, 1)), edges))
    return torch.stack(rows)


class Exposure(NamedTuple):
    """What a denoiser is shown of each rank while images are low-passed, beside what it has to learn; ``(K,)`` each."""

    energy: Tensor  # variance lambda_k of whole images' latents, mean over channels
    warm: Tensor  # the same of the low-passed ones
    distance: Tensor  # squared Fréchet, over the energy: 0 if both are the same, 1 if the low ones are constant

    @property
    def ratio(self) -> Tensor:
        r""":math:`\xi_k = \lambda_k^{\mathrm{low}} / \lambda_k`, ``(K,)``; above 1 the warm-up shows more."""
        return self.warm / self.energy


def exposure(whole: Tensor, low: Tensor) -> Exposure:
    r"""Compare :func:`~diffusab_core.spectrum.bands.ranked` coefficients ``(n, C, K)`` of whole and low-passed images.

    The images may be the same or others. The distance at rank k is that of Gaussians over the channels,

    .. math:: d_k^2 = \frac{\|m_k - m_k^{\mathrm{low}}\|^2 + \operatorname{tr}\bigl(\Sigma_k + \Sigma_k^{\mathrm{low}}
              - 2 (\Sigma_k \Sigma_k^{\mathrm{low}})^{1/2}\bigr)}{\operatorname{tr} \Sigma_k} ,

    and a rank at which the whole images' latents do not vary is a ``ValueError``.
    """
    if whole.shape[1:] != low.shape[1:]:
        raise ValueError(f"coefficients of shapes {tuple(whole.shape)} and {tuple(low.shape)} do not compare")
    (mean, covariance), (low_mean, low_covariance) = second_moments(whole), second_moments(low)
    energy, warm = (c.diagonal(dim1=1, dim2=2).mean(1) for c in (covariance, low_covariance))  # (K,)
    if not bool((energy > 0).all()):
        raise ValueError(f"the latents do not vary at rank {int((energy <= 0).nonzero()[0])}")
    gaussians = zip(mean.T, covariance, low_mean.T, low_covariance, strict=True)
    distance = torch.tensor([frechet_distance(*pair) for pair in gaussians], dtype=torch.float64)
    return Exposure(energy, warm, distance / covariance.shape[-1] / energy)


class Stake(NamedTuple):
    """What a picture loses with a band of latent ranks, as shares of the pictures' variance."""

    energy: float  # of the normalised latents, summed over the channels and the band's ranks
    stake: float  # squared change of the picture by an error as large as the band, extrapolated from small ones
    removed: float  # squared change of the picture when the band is set to zero

    @property
    def gain(self) -> float:
        """Stake over energy: what the decoder makes of a small error in this band."""
        return self.stake / self.energy


@torch.no_grad()
def band_stakes(
    autoencoder: Autoencoder,
    x: Tensor,
    bands: Mapping[str, slice],
    share: float = 0.1,
    generator_seed: int = 0,
    batch_size: int = 32,
) -> dict[str, Stake]:
    r"""Energy times the decoder's gain in bands of zigzag ranks k, for latents of one square block.

    Posterior means, normalised by channel, are disturbed by Gaussian noise of covariance :math:`\eta\Sigma_k`, the
    latents' own covariance over the channels times a small share, at each rank of a band, and decoded:

    .. math:: S = \frac{\mathbb E\,\|\mathrm{Dec}(z + e) - \mathrm{Dec}(z)\|^2}{\eta\,\mathbb E\,\|x - \bar x\|^2} .

    The noise of a rank is the same whichever bands are asked for, and pictures are compared before clamping.

    Args:
        bands: For each name its ranks, 0 being the flat coefficient.
        share: :math:`\eta`.

    Raises:
        ValueError: As this module says; latents that are no square, a share that is not above 0.
    """
    x = check_images(x)
    if not share > 0:
        raise ValueError(f"share is the energy of errors over that of latents, above 0, got {share!r}")
    z = torch.cat([encode_mean(autoencoder, batch).cpu() for batch in x.split(batch_size)])  # (N, C, B, B)
    side = z.shape[-1]
    if z.ndim != 4 or z.shape[-2] != side:
        raise ValueError(f"latents of one square block are wanted, got shape {tuple(z.shape)}")
    std, mean = torch.std_mean(z, (0, 2, 3), keepdim=True)
    d = ranked((z - mean) / std, side)  # (N, C, K)
    covariance = second_moments(d)[1]  # (K, C, C)
    energy = covariance.diagonal(dim1=1, dim2=2).sum(1)  # (K,)
    jitter = 1e-9 * energy[:, None, None] * torch.eye(d.shape[1], dtype=d.dtype)
    generator = torch.Generator().manual_seed(generator_seed)
    white = torch.randn(d.shape, generator=generator, dtype=d.dtype)
    error = share**0.5 * torch.einsum("kcd,ndk->nck", torch.linalg.cholesky(covariance + jitter), white)

    def pictures(coefficients: Tensor) -> Tensor:
        natural = torch.empty_like(coefficients)
        natural[..., zigzag_order(side)] = coefficients
        latents = block_idct(natural.unflatten(-1, (1, 1, side, side))).to(z.dtype) * std + mean
        return torch.cat([decode(autoencoder, batch).cpu() for batch in latents.split(batch_size)])

    whole = pictures(d)
    variance = (working(x).cpu() - working(x).cpu().mean((0, 2, 3), keepdim=True)).square().sum()

    def change(coefficients: Tensor) -> float:
        return ((pictures(coefficients) - whole).square().sum() / variance).item()

    found = {}
    for name, band in bands.items():
        inside = torch.zeros(d.shape[-1], dtype=d.dtype)
        inside[band] = 1
        stake, removed = change(d + inside * error) / share, change(d * (1 - inside))
        found[name] = Stake(energy[band].sum().item(), stake, removed)
    return found
