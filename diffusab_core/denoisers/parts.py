r"""What transformers of this package share: tokens, positions, time and attention.

Tokens are patches of the latent in row-major order, frames first: ``(N, L, D)`` with :math:`L = T h w / p^2`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffusab_core.files import SettingsError


def patchify(x: Tensor, patch: int) -> Tensor:
    """Latents ``(N, C, h, w)`` or ``(N, C, T, h, w)`` to tokens ``(N, L, p*p*C)``; time is unrolled, not patched.

    A side that is not a multiple of the patch is a ``ValueError``.
    """
    if x.shape[-2] % patch or x.shape[-1] % patch:
        raise ValueError(f"latents of {x.shape[-2]} x {x.shape[-1]} do not divide into patches of {patch} x {patch}")
    return rearrange(x, "n c ... (h p) (w q) -> n (... h w) (p q c)", p=patch, q=patch)


def unpatchify(tokens: Tensor, patch: int, size: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`patchify`; ``size`` is the latent's ``(h, w)`` or ``(T, h, w)``."""
    h, w = size[-2] // patch, size[-1] // patch
    x = rearrange(tokens, "n (t h w) (p q c) -> n c t (h p) (w q)", h=h, w=w, p=patch, q=patch)
    return x if len(size) == 3 else x.squeeze(2)


def grid(size: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """How many tokens there are along each axis, of a latent of ``(h, w)`` or ``(T, h, w)``."""
    return (*size[:-2], size[-2] // patch, size[-1] // patch)


def check_sizes(in_channels: int, input_size: int | tuple[int, ...], num_classes: int, patch: int) -> tuple[int, ...]:
    """The latent's size as a tuple, ``(h, w)`` or ``(T, h, w)``, or a ``SettingsError`` about what cannot be."""
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) not in (2, 3) or min(size) < 1 or size[-1] % patch or size[-2] % patch:
        raise SettingsError(f"input_size must be (h, w) or (T, h, w), sides multiples of the patch {patch}, got {size}")
    if in_channels < 1 or num_classes < 0:
        raise SettingsError(f"got {in_channels} channels and {num_classes} classes")
    return size


def rotary_angles(tokens: tuple[int, ...], head_width: int) -> Tensor:
    r"""Angles of the rotary embedding on a grid of tokens: ``(L, head_width // 2)`` in radians.

    ``tokens`` are (rows, columns) or (frames, rows, columns); each axis has pairs of a head's channels of its own, in
    this order. Pair j of the J of an axis turns by

    .. math:: \theta_j(p) = p \cdot 10\,000^{-j / J}

    at position p along that axis. Of K pairs in all, rows and columns have :math:`J_h = J_w = \lfloor K / 2 \rfloor`;
    where K is odd, the last pair does not turn. In a clip they have :math:`J_h = J_w = \lfloor K / 3 \rfloor`, and time
    has the rest, :math:`J_t = K - 2 \lfloor K / 3 \rfloor`: of the 32 pairs of a head of DiT-B 12, 10 and 10.

    Source: Su et al. 2024; one block of channels for each axis, as is usual for pictures. The split of a clip, "3-D
    RoPE", is that of Wan et al. 2025. Skorokhodov et al. 2025 do not say which one they take; CogVideoX has a quarter
    of the pairs for time.
    """
    pairs, axes = head_width // 2, len(tokens)
    shares = [pairs // axes] * axes
    if axes == 3:
        shares[0] = pairs - sum(shares[1:])
    real = {"dtype": torch.float64, "device": "cpu"}
    places = torch.cartesian_prod(*(torch.arange(n, **real) for n in tokens)).reshape(-1, axes)  # (L, axes)
    turns = [10_000.0 ** (-torch.arange(n, **real) / n) for n in shares]  # of each axis (J,)
    angles = torch.cat([place[:, None] * turn for place, turn in zip(places.T, turns, strict=True)], dim=1)
    return F.pad(angles, (0, pairs - angles.shape[1]))


@lru_cache(maxsize=16)
def rotation(
    tokens: tuple[int, ...], head_width: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of :func:`rotary_angles`, ``(L, head_width // 2)`` each.

    Computed in float64, as bf16 has no positions beyond 256, and kept, as a copy to a GPU waits for the GPU.
    """
    angles = rotary_angles(tokens, head_width)
    with torch.inference_mode(False):  # what is kept may be used in training later
        return angles.cos().to(device, dtype), angles.sin().to(device, dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    r"""Turn the pairs (k, k + K) of the last axis: :math:`(a, b) \mapsto (a \cos - b \sin, a \sin + b \cos)`.

    x is ``(N, heads, L, 2K)``, cosines and sines are ``(L, K)``.
    """
    cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)  # (L, 2K)
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin  # (b, a) beside (a, b): whole rows are faster than halves


class Attention(nn.Module):
    """Multi-head self-attention; queries and keys are turned by their position where angles are given."""

    def __init__(self, width: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise ValueError(f"{heads} heads do not divide a width of {width} into an even number of channels each")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        q, k, v = (rearrange(u, "n l (heads d) -> n heads l d", heads=self.heads) for u in self.qkv(x).chunk(3, dim=-1))
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "n heads l d -> n l (heads d)"))


class MLP(nn.Sequential):
    """Linear, GELU, linear, four times as wide in between."""

    def __init__(self, width: int, approximate: str = "tanh") -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(approximate), nn.Linear(4 * width, width))


def run_block(block: nn.Module, *inputs: Tensor | tuple[Tensor, ...], save_memory: bool) -> Tensor:
    """``block(*inputs)``; to save memory, activations are computed anew in the backward pass."""
    if save_memory and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


def sinusoids(t: Tensor, width: int) -> Tensor:
    r"""Cosines and sines of a number at geometrically spaced frequencies, ``(N, width)`` in float32.

    .. math:: \bigl[\cos(t\,\omega_j), \sin(t\,\omega_j)\bigr], \qquad \omega_j = 10\,000^{-j / (w/2)}

    Source: Vaswani et al. 2017, in the order of Peebles and Xie 2023.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Times in [0, 1] to ``(N, D)``: sinusoids of 1000 t, as of the thousand steps of older models, and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoids(1000 * t, 256).to(self.mlp[0].weight.dtype))


def embed_classes(label: nn.Embedding | None, y: Tensor | None, like: Tensor) -> Tensor | None:
    """Embeddings ``(N, D)`` of classes ``(N,)``; the last one stands for "no class", and is taken where y is ``None``.

    A model without classes has no embeddings, and no result. ``like`` is any tensor ``(N, ...)`` on the device.
    A ``ValueError`` for classes of a model without any, or one out of range (looked at on the CPU only: on a GPU it
    would wait for the device).
    """
    if label is None:
        if y is not None:
            raise ValueError("this model was built without classes, but classes y were given")
        return None
    none = label.num_embeddings - 1
    if y is None:
        y = torch.full((len(like),), none, device=like.device)
    elif y.device.type == "cpu" and len(bad := y[(y < 0) | (y > none)]):
        raise ValueError(f"class {bad[0].item()} is out of range: this model has classes 0 to {none - 1}")
    return label(y)
