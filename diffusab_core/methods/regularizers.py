r"""What shapes a latent spectrum in training, top to bottom: scale equivariance (SE), chopping high frequencies (CHF),
the soft penalty, the averaged KL, whitening (which makes an autoencoder ill), the decoder's gain, and EQ-VAE. First of
all stand the distances of pictures.

Each loss is a function of images ``x`` :math:`(N, 3, H, W)` in :math:`[-1, 1]`, their latents ``z``
:math:`(N, C, h, w)`, not detached, so that the encoder learns, ``decode``, the decoder, and ``distance``, :math:`d`.
Clips :math:`(N, 3, T, H, W)` with latents :math:`(N, C, t, h, w)` go frame by frame: time is never resized, cut or
turned, but by :func:`temporal_scale_equivariance`. A ``ValueError`` refuses shapes that do not belong together. What a
step draws (a scale, a cut ratio, a transform) is drawn by a function of its own from a generator; draw after sampling
the posterior, so that runs with and without a regulariser see the same noise. Sum and weights are the caller's:
:math:`L = d(x, \mathrm{Dec}(z)) +
\alpha L_\text{SE} + \gamma L_\text{soft} + \beta L_\text{KL}`.

Sources: Skorokhodov et al. 2025, "Improving the Diffusability of Autoencoders"; Kouzelis et al. 2025, "EQ-VAE:
Equivariance Regularized Latent Space for Improved Generative Image Modeling".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusab_core.data import resize_to, unroll
from diffusab_core.spectrum import block_dct, chop_high_frequencies

Decode = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]  # d(target, reconstruction), a scalar
Target = Literal["input", "reconstruction"]


def mse(target: Tensor, y: Tensor) -> Tensor:
    """Mean squared error, in float32 at least; a ``ValueError`` where the shapes differ. The paper's d adds LPIPS."""
    if target.shape != y.shape:
        raise ValueError(f"cannot compare shapes {tuple(target.shape)} and {tuple(y.shape)}")
    return (_full(target) - _full(y)).square().mean()


def mse_and_perceptual(
    target: Tensor,
    y: Tensor,
    perceptual: Distance,
    mse_weight: float = 1.0,
    perceptual_weight: float = 1.0,
    crops: int = 0,
) -> Tensor:
    r"""``mse_weight`` MSE + ``perceptual_weight`` times the mean of a perceptual distance (5 and 1 for LTX-AE).

    ``perceptual`` is called with two batches of images ``(M, 3, H, W)``, for clips with all their frames, and returns
    one number or one for each image. Scale equivariance and EQ-VAE hand it images down to a quarter of the full side;
    LPIPS needs 16 pixels with VGG and 31 with AlexNet. With ``crops`` it sees the first so many images only: the
    network may take longer than all else.
    """
    few = slice(crops or None)
    return mse_weight * mse(target, y) + perceptual_weight * perceptual(unroll(target[few]), unroll(y[few])).mean()


#: Energy of an amplitude that eight bits do not show: the variance of their rounding, in a range of 2.
ROUNDING = (2 / 255) ** 2 / 12


def log_spectrum_distance(target: Tensor, y: Tensor, block_size: int = 8) -> Tensor:
    r"""How far the energies of two pictures are apart by rank, in decades: what is blurred away counts.

    .. math:: \frac{1}{N (B^2 - 1)} \sum_n \sum_{k \ge 1}
        \left| \log_{10} \frac{\langle D_k(y_n)^2 \rangle + \epsilon}{\langle D_k(x_n)^2 \rangle + \epsilon} \right|

    with means over blocks and colours of each picture, and :math:`\epsilon` the variance of rounding to 8 bits. Zero
    for pictures with one spectrum, however different they are, so it belongs beside a distance of pixels.
    """
    if target.shape != y.shape:
        raise ValueError(f"cannot compare shapes {tuple(target.shape)} and {tuple(y.shape)}")
    one, other = (_energies(x, block_size) for x in (target, y))  # (N, B²)
    return ((other + ROUNDING).log10() - (one + ROUNDING).log10())[:, 1:].abs().mean()


def _energies(x: Tensor, block_size: int) -> Tensor:
    """Mean energies of each item by row-major place in a block, ``(N, B²)``, the first that of :math:`D_{00}`."""
    energy = block_dct(x, block_size).square().flatten(-2)  # (N, ..., B²)
    return energy.flatten(1, -2).mean(1)


def draw_scale(generator: torch.Generator, scales: tuple[int, ...] = (2, 4)) -> int:
    """One of the scales, each equally likely (Skorokhodov et al. 2025, Sec. 3.3; their code draws once per step)."""
    _check_scales(scales)
    return draw_one(generator, scales)


def draw_one(generator: torch.Generator, choices: tuple[int, ...]) -> int:
    """One of the choices, each equally likely."""
    return choices[draw_integer(0, len(choices) - 1, generator)]


def _check_scales(scales: tuple[int, ...]) -> None:
    if not scales or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in scales):
        raise ValueError(f"scales must be positive whole numbers, at least one, got {scales!r}")


def downsample(x: Tensor, scale: int) -> Tensor:
    r"""Antialiased bilinear downsampling of both sides by a divisor: :math:`\tilde x`, :math:`\tilde z`."""
    _check_scales((scale,))
    height, width = x.shape[-2:]
    if height % scale or width % scale:
        wrong = f"sides {height}x{width} cannot be downsampled by {scale}: both must be multiples of it"
        raise ValueError(f"{wrong}; use larger images or smaller scales")
    return resize_to(x, height // scale, width // scale)


def scale_equivariance(
    x: Tensor,
    z: Tensor,
    decode: Decode,
    scale: int,
    distance: Distance = mse,
    target: Target = "input",
    reconstruction: Tensor | None = None,
) -> Tensor:
    r"""Decode downsampled latents and compare with the downsampled image: :math:`d(\tilde x, \mathrm{Dec}(\tilde z))`.

    With ``target="reconstruction"`` it is :math:`d(\widetilde{\mathrm{Dec}(z)}, \mathrm{Dec}(\tilde z))`, zero for any
    decoder that commutes with downsampling, whatever it reconstructs; gradients then flow through both sides unless
    a detached ``reconstruction``, :math:`\mathrm{Dec}(z)` where it is at hand, is given. The scale, the same in both
    spaces, is one of :func:`draw_scale` and must divide the sides of the latent.

    Source: Skorokhodov et al. 2025, Eq. 2, without its weight :math:`\alpha` (0.25 in the paper).
    """
    if target not in get_args(Target):
        raise ValueError(f"target must be one of {', '.join(get_args(Target))}, got {target!r}")
    compression_of(x, z)
    small_z = downsample(z, scale)
    if target == "reconstruction":
        x = reconstruct(decode, z, x) if reconstruction is None else reconstruction
    small_x = downsample(x, scale)
    return distance(small_x, reconstruct(decode, small_z, small_x))


def halve_time(x: Tensor) -> Tensor:
    r"""Every second frame of clips, averaged with its neighbours: (N, C, T, H, W) -> (N, C, (T + 1) / 2, H, W).

    .. math:: \tilde x_k = (x_{2k - 1} + 2 x_{2k} + x_{2k + 1}) / 4

    T is odd, so that the first frame stays the first and the last one the last; beyond the ends the last frame is
    repeated. The averaging is in time what antialiasing is in space.
    """
    if x.ndim != 5 or x.shape[2] % 2 == 0:
        raise ValueError(f"time is halved of clips (N, C, T, H, W) with odd T, got shape {tuple(x.shape)}")
    ends = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)  # from -1 to T
    return (ends[:, :, :-2:2] + 2 * ends[:, :, 1:-1:2] + ends[:, :, 2::2]) / 4


def temporal_scale_equivariance(x: Tensor, z: Tensor, decode: Decode, distance: Distance = mse) -> Tensor:
    r"""Scale equivariance in time: :math:`d(\tilde x, \mathrm{Dec}(\tilde z))` with both halved by :func:`halve_time`.

    A failed experiment of the paper: it did not improve results, and how it was done is not said. Here the first frame,
    which causal autoencoders encode alone, stays where it is, so that frames and latent frames have to be odd in
    number: 17 frames of CogVideoX are 5 latent frames, and become 9 and 3.

    Source: Skorokhodov et al. 2025, App. E, in words.
    """
    compression_of(x, z)
    small_x = halve_time(x)
    return distance(small_x, reconstruct(decode, halve_time(z), small_x))


def draw_cut_ratio(generator: torch.Generator, largest: float) -> float:
    """Uniform between 0 and ``largest``, which must be in (0, 1]; drawn once per step as in the authors' code."""
    if not 0 < largest <= 1:
        raise ValueError(f"the largest cut ratio must be in (0, 1], got {largest!r}")
    return largest * _uniform(generator)


def chop(
    x: Tensor,
    z: Tensor,
    decode: Decode,
    ratio: float,
    block_size: int = 8,
    order: str = "zigzag",
    distance: Distance = mse,
) -> Tensor:
    r"""Decode chopped latents, compare with the chopped image.

    .. math:: d(D^{-1}(D(x) \cdot M_{fB}), \mathrm{Dec}(D^{-1}(D(z) \cdot M_B)))

    The image's block is :math:`f` times the latent's, :math:`f` the compression, so both cover the same piece of the
    picture; the latent's sides must be multiples of :math:`B`. The ratio is in [0, 1), see :func:`draw_cut_ratio`; 0
    gives the reconstruction loss. Order ``"zigzag"`` is Eq. 5, ``"axes"`` cuts each axis on its own (Table 6).

    Source: Skorokhodov et al. 2025, the second term of Eq. 4; mask, Eq. 5.
    """
    f = compression_of(x, z)
    cut_z = chop_high_frequencies(z, ratio, block_size, order).to(z.dtype)
    cut_x = chop_high_frequencies(x, ratio, f * block_size, order).to(x.dtype)
    return distance(cut_x, reconstruct(decode, cut_z, cut_x))


def penalty_weights(block_size: int = 8, power: float = 2.0) -> Tensor:
    r"""``(B, B)`` float64: :math:`W_{uv} = (u + v)^p / B^p` with p positive, else :math:`D_{00}` would count; Eq. 6."""
    if not 0 < power < math.inf:
        raise ValueError(f"power must be positive, got {power!r}")
    u = torch.arange(block_size, dtype=torch.float64)
    return ((u[:, None] + u) / block_size) ** power


def soft_penalty(z: Tensor, block_size: int = 8, power: float = 2.0) -> Tensor:
    r"""Mean over coefficients, blocks, channels and items of :math:`|D_{uv}(z)| \, W_{uv}`.

    Eq. 7 prints a sum and a signed :math:`D_{uv}`; an amplitude needs the absolute value, and the authors' code takes
    it, with a mean and :math:`p = 2`. The mean makes the weight :math:`\gamma` independent of the latent's size.

    Source: Skorokhodov et al. 2025, Eqs. 6 and 7, without the weight :math:`\gamma` (0.001 to 0.1 in Table 7).
    """
    d = block_dct(z, block_size)  # (..., h/B, w/B, B, B)
    return (d.abs() * penalty_weights(block_size, power).to(d)).mean()


def averaged_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    r"""KL of a diagonal Gaussian to the standard normal: the mean of :math:`(\mu^2 + \sigma^2 - 1 - \log \sigma^2)/2`.

    A mean over items, channels and positions (and frames), so that its weight :math:`\beta` compares across latent
    sizes; the usual sum is this times the numbers in a latent. Infinite for a deterministic autoencoder.

    Source: Skorokhodov et al. 2025, Sec. 4.
    """
    if mean.shape != logvar.shape:
        raise ValueError(f"mean and logvar must have one shape, got {tuple(mean.shape)} and {tuple(logvar.shape)}")
    mean, logvar = _full(mean), _full(logvar)
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def whitening(z: Tensor, block_size: int = 8) -> Tensor:
    r"""How far the block spectrum of latents is from flat: zero for white latents, and for no others.

    .. math:: \log \Big( \frac{1}{B^2 - 1} \sum_{k \ge 1} E_k \Big) - \frac{1}{B^2 - 1} \sum_{k \ge 1} \log E_k,
        \qquad E_k = \langle D_k(z)^2 \rangle

    means over items, blocks and channels: the negative logarithm of the spectrum's flatness (Wiener entropy), which is
    also the divergence of the uniform distribution from the shares :math:`E_k / \sum E`. It does not change with the
    latents' scale. Minimised beside a reconstruction loss it makes the disease that scale equivariance is meant to
    cure: white latents have a share of :math:`\lfloor B^2/2 \rfloor / (B^2 - 1)` of their energy at high ranks, 0.51.
    No paper proposes it as a remedy.
    """
    energy = _energies(z, block_size).mean(0)[1:]  # (B² - 1,), of one precision at least float32
    energy = energy + torch.finfo(energy.dtype).tiny
    return energy.mean().log() - energy.log().mean()


def decoder_gain(z: Tensor, y: Tensor, probe: Tensor) -> Tensor:
    r"""How much the decoder amplifies a change of its latent: an R1 penalty on its Jacobian.

    .. math:: \frac1n \big\| J^\top p \big\|^2, \quad J = \partial \mathrm{Dec}(z) / \partial z, \qquad
        \mathbb E_{p \sim \mathcal N(0, 1)} = \frac1n \| J \|_F^2

    with n numbers in a picture, mean over items: the mean squared gain of one of them, 1 for nearest upsampling. Its
    gradient takes a second pass backwards through the decoder, for which attention has to be computed without a fused
    kernel (:func:`torch.nn.attention.sdpa_kernel` with ``MATH``), and no ``y`` may come from ``no_grad``.

    The paper bounds what a denoiser's error does to a picture by the decoder's Lipschitz constant, and found this
    penalty almost on par with scale equivariance and much slower. Latents twice as large under a decoder of half the
    gain have a quarter of it and are as hard to learn as before, so read it beside the latents' variance.

    Args:
        z: Latents ``(N, C, h, w)`` that require a gradient.
        y: What is decoded from them, by a graph that is still there.
        probe: :math:`p`, standard normal, of the shape of ``y``.

    Source: Skorokhodov et al. 2025, App. E (no formula, weight or code is published), after Mescheder et al. 2018; the
    random projection is Hutchinson's, as in StyleGAN2's path length penalty (Karras et al. 2020).
    """
    (pulled,) = torch.autograd.grad(y, z, probe.to(y.dtype), create_graph=True)
    return _full(pulled).square().sum() / y.numel()


@dataclass(frozen=True)
class SpatialTransform:
    r"""EQ-VAE's :math:`\tau`: first scale both sides, by a fraction as latents and images must agree, then turn."""

    scale: Fraction = Fraction(1)
    quarter_turns: int = 0


IDENTITY = SpatialTransform()


def draw_transform(generator: torch.Generator, height: int, width: int) -> SpatialTransform:
    r"""A scale in [1/4, 1) and a rotation by 90, 180 or 270 degrees, all equally likely.

    Scales are those that leave latents of ``height x width`` whole: for 32x32, the published 8/32, 9/32, ..., 31/32.
    Sides without a common divisor above 1 have none and are refused.
    """
    steps = math.gcd(height, width)
    if steps < 2:
        raise ValueError(f"no scale in [1/4, 1) leaves latents of {height}x{width} whole; use other sizes of image")
    scale = Fraction(draw_integer(-(-steps // 4), steps - 1, generator), steps)
    return SpatialTransform(scale, draw_integer(1, 3, generator))


def draw_eq_vae(
    generator: torch.Generator, height: int, width: int, probability: float = 0.5, low_resolution: float = 0.25
) -> tuple[SpatialTransform, SpatialTransform]:
    """Transforms of the image before it is encoded, and of latent and target after; one at least is the identity.

    With the first probability latents are transformed, as :func:`draw_transform` does for those of the full images;
    where they are not, the image is scaled before it is encoded with the second ("prior preservation" at low
    resolution). Both defaults are those of the authors' configuration.
    """
    # Everything is drawn every time, so that sides that allow no scale are refused in the first step, not by chance.
    tau = draw_transform(generator, height, width)
    smaller = SpatialTransform(draw_transform(generator, height, width).scale)
    if _uniform(generator) < probability:
        return IDENTITY, tau
    return smaller if _uniform(generator) < low_resolution else IDENTITY, IDENTITY


def transform(x: Tensor, tau: SpatialTransform) -> Tensor:
    r""":math:`\tau \circ x`: bilinear resizing of the last two axes, not antialiased, then a rotation of them."""
    height, width = x.shape[-2] * tau.scale, x.shape[-1] * tau.scale
    if height.denominator != 1 or width.denominator != 1:
        raise ValueError(f"sides {x.shape[-2]}x{x.shape[-1]} scaled by {tau.scale} are not whole")
    if tau.scale != 1:
        flat = _full(x).reshape(-1, 1, *x.shape[-2:])
        small = F.interpolate(flat, size=(int(height), int(width)), mode="bilinear", align_corners=False)
        x = small.reshape(*x.shape[:-2], int(height), int(width)).to(x.dtype)
    return torch.rot90(x, tau.quarter_turns, (-2, -1))


def eq_vae(x: Tensor, z: Tensor, decode: Decode, tau: SpatialTransform, distance: Distance = mse) -> Tensor:
    r""":math:`d(\tau \circ x, \mathrm{Dec}(\tau \circ z))`, which takes the place of the reconstruction loss.

    With the identity it is the reconstruction loss. ``x`` is already scaled where :func:`draw_eq_vae` says so. The
    published training adds an adversarial loss on the same pair and the KL term; here, as for all methods, there is no
    adversarial loss.

    Source: Kouzelis et al. 2025, the implicit equivariance loss of EQ-VAE; probabilities, scales, order of the two
    transforms and interpolation as in the authors' released code.
    """
    compression_of(x, z)
    turned = transform(x, tau)
    return distance(turned, reconstruct(decode, transform(z, tau), turned))


def compression_of(x: Tensor, z: Tensor) -> int:
    """How many times smaller the sides of the latents are (f), a whole number, from the shapes of both."""
    if x.ndim not in (4, 5) or x.ndim != z.ndim or len(x) != len(z):
        wanted = "images (N, 3, H, W) with latents (N, C, h, w), or clips (N, 3, T, H, W) with latents (N, C, t, h, w)"
        raise ValueError(f"needs {wanted}, got shapes {tuple(x.shape)} and {tuple(z.shape)}")
    (height, width), (h, w) = x.shape[-2:], z.shape[-2:]
    if not h or not w or height % h or width % w or height // h != width // w:
        apart = f"images of {height}x{width} and latents of {h}x{w} do not belong together"
        raise ValueError(f"{apart}: the compression must be one whole number for both axes")
    return height // h


def reconstruct(decode: Decode, z: Tensor, target: Tensor) -> Tensor:
    """``decode(z)``; a ``ValueError`` unless it has the target's shape, as broadcasting would turn it into another
    loss."""
    y = decode(z)
    if y.shape != target.shape:
        decoded = f"latents {tuple(z.shape)} were decoded to {tuple(y.shape)}"
        raise ValueError(f"{decoded}, but the target is {tuple(target.shape)}")
    return y


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator, device=generator.device).item()  # in [0, 1)


def draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform in [low, high]."""
    return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))


def _full(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
