r"""Shift equivariance: a picture moved by pixels has its latent moved by fractions of one, and the other way round.

A latent pixel is :math:`f` picture pixels wide, so a picture that moves by one moves its latent by :math:`1/f`. An
encoder that folds frequencies has no such latent: what it makes of the moved picture is another one, and the loss
measures by how much. Of AF-LDM, which also rebuilds the networks without aliasing, this is the loss alone.

Source: Zhou et al. 2025, "Alias-Free Latent Diffusion Models" (arXiv 2503.09419); range of shifts, detached targets and
equal weights as in the authors' released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusab_core.methods.regularizers import Decode, compression_of, draw_integer, reconstruct

Encode = Callable[[Tensor], Tensor]
Shift = tuple[int, int]

#: The largest shift, as a share of the side.
LARGEST = 3 / 8


def draw_shift(generator: torch.Generator, height: int, width: int) -> Shift:
    """Whole pixels down and to the right, each uniform up to 3/8 of the side either way."""
    largest = [int(side * LARGEST) for side in (height, width)]
    return draw_integer(-largest[0], largest[0], generator), draw_integer(-largest[1], largest[1], generator)


def shift(x: Tensor, down: float, right: float) -> Tensor:
    r"""Move the last two axes by any number of pixels, by ideal interpolation of the periodic signal.

    .. math:: F^{-1}\big(e^{-2 \pi i (f_y \Delta_y + f_x \Delta_x)} F(x)\big)

    one axis after the other, the frequency of Nyquist by the real part, :math:`\cos \pi \Delta`. Whole numbers roll.
    Away from it no frequency changes its amplitude. What leaves at one border comes in at the other, and a border that
    does not match rings: :func:`shift_equivariance` compares only what was inside before.
    """
    for axis, by in ((-2, down), (-1, right)):
        if float(by).is_integer():
            x = torch.roll(x, int(by), axis)
            continue
        kind = torch.promote_types(x.dtype, torch.float32)
        length = x.shape[axis]
        phase = torch.fft.rfftfreq(length, dtype=kind, device=x.device) * (-2 * math.pi * by)  # (length // 2 + 1,)
        turn = torch.polar(torch.ones_like(phase), phase).view(-1, *[1] * (-1 - axis))
        x = torch.fft.irfft(torch.fft.rfft(x.to(kind), dim=axis) * turn, n=length, dim=axis).to(x.dtype)
    return x


def shift_equivariance(x: Tensor, z: Tensor, y: Tensor, encode: Encode, decode: Decode, by: Shift) -> Tensor:
    r"""How far encoder and decoder are from commuting with a shift, over what was inside before it.

    .. math:: \big\| \mathrm{Enc}(T_\Delta x) - T_{\Delta / f}\, z \big\|^2_M
        + \big\| \mathrm{Dec}(T_{\Delta / f}\, z) - T_\Delta\, y \big\|^2_M

    each a mean over the cropped numbers, with :math:`T` of :func:`shift`. The moved latent and the moved reconstruction
    are targets and get no gradient: the first term trains the encoder, the second the decoder. Zero for networks that
    commute with every shift; by multiples of :math:`f` plain strided convolutions do.

    Args:
        x: Images ``(N, 3, H, W)`` or clips ``(N, 3, T, H, W)``.
        z: Their latents ``(N, C, h, w)`` or ``(N, C, t, h, w)``.
        y: What is decoded from them, like ``x``.
        encode: Latents of a batch of images, samples as ``z`` are.
        by: Pixels of the image down and to the right, see :func:`draw_shift`.

    Raises:
        ValueError: Shapes that do not belong together, or a shift that leaves no pixel of the latent inside.
    """
    f = compression_of(x, z)
    parts = tuple(d / f for d in by)
    if any(math.ceil(abs(d)) >= side for d, side in zip(parts, z.shape[-2:], strict=True)):
        raise ValueError(f"a shift by {by[0]}, {by[1]} pixels leaves nothing of latents {tuple(z.shape)} inside")
    moved_z = shift(z.detach(), *parts)
    of_moved = reconstruct(encode, shift(x, *by), moved_z)
    back = reconstruct(decode, moved_z, x)
    return _inside(of_moved - moved_z, parts) + _inside(back - shift(y.detach(), *by), by)


def _inside(error: Tensor, by: tuple[float, float]) -> Tensor:
    """Mean square of what no border has crossed."""
    rows, columns = (
        slice(math.ceil(max(d, 0)), side + math.floor(min(d, 0))) for d, side in zip(by, error.shape[-2:], strict=True)
    )
    kind = torch.promote_types(error.dtype, torch.float32)
    return error[..., rows, columns].to(kind).square().mean()
