r"""DiT: a transformer on the patches of a latent, told the time and the class by adaptive layer norms.

The layout is that of Peebles and Xie 2023 (adaLN-Zero), without the learned variance, and with the two additions of
Skorokhodov et al. 2025, Appendix B: rotary positions in place of a fixed table, and self-conditioning, whose ``hint``
is the only layer that is new: linear without bias, :math:`D^2` parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusab_core.denoisers import parts


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    r""":math:`x (1 + \text{scale}) + \text{shift}`; x is ``(N, L, D)``, the others are ``(N, D)``."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Block(nn.Module):
    r"""Attention and MLP, each behind a layer norm whose shift, scale and gate are functions of the condition c.

    .. math::
        x &\leftarrow x + g_1 \,\mathrm{Attn}\bigl(\mathrm{LN}(x)(1 + s_1) + b_1\bigr) \\
        x &\leftarrow x + g_2 \,\mathrm{MLP}\bigl(\mathrm{LN}(x)(1 + s_2) + b_2\bigr) \\
        (b_1, s_1, g_1, b_2, s_2, g_2) &= W\,\mathrm{SiLU}(c) + w

    W and w start at zero, so that every block starts as the identity.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = parts.Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = parts.MLP(width)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, c: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c).chunk(6, dim=-1)  # each (N, D)
        x = torch.addcmul(x, gate1[:, None], self.attention(modulate(self.norm1(x), shift1, scale1), rotation))
        return torch.addcmul(x, gate2[:, None], self.mlp(modulate(self.norm2(x), shift2, scale2)))


class DiT(nn.Module):
    """Velocity of a latent at a time, ``model(x, t, y)``.

    Args:
        in_channels: Channels of the latent, C.
        input_size: Side of a square latent, ``(h, w)``, or ``(T, h, w)`` for video. Other sizes than this one can be
            put in too, as positions are rotations; the number of axes is fixed.
        num_classes: Classes; one more embedding stands for "no class". 0: no conditioning on a class.
        patch: Side of a patch.
        width: Width of the residual stream, D.
        depth: Blocks.
        heads: Heads of attention in each block.
        checkpoint_activations: Compute activations anew in the backward pass: less memory, a third more computing.

    A size that the patch does not divide, or that has another number of axes, is a ``SettingsError``.

    Source: Peebles and Xie 2023; Su et al. 2024 (rotary positions); Jabri et al. 2023 (self-conditioning).
    """

    def __init__(
        self,
        in_channels: int,
        input_size: int | tuple[int, ...],
        num_classes: int = 0,
        *,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        size = parts.check_sizes(in_channels, input_size, num_classes, patch)
        self.in_channels, self.input_size, self.num_classes = in_channels, size, num_classes
        self.patch, self.width, self.heads = patch, width, heads
        self.checkpoint_activations = checkpoint_activations

        self.embed = nn.Linear(patch * patch * in_channels, width)
        self.hint = nn.Linear(width, width, bias=False)
        self.time = parts.TimeEmbedding(width)
        self.label = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, patch * patch * in_channels)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in (self.time.mlp[0], self.time.mlp[2]):
            nn.init.normal_(linear.weight, std=0.02)
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)
        for linear in (*(block.modulation[1] for block in self.blocks), self.modulation[1], self.out):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.hint.weight)  # a hint says nothing until it has been learnt what it says

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, hint: Tensor | None = None, with_hint: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The velocity at ``(x, t)``.

        Args:
            x: Noisy latents, ``(N, C, h, w)`` or ``(N, C, T, h, w)``.
            t: Times in [0, 1], ``(N,)``.
            y: Classes, ``(N,)``; ``num_classes`` and ``None`` stand for "no class".
            hint: Self-conditioning: last-block activations ``(N, L, D)`` of an earlier call; ``None``: zeros.
            with_hint: Whether to return, after the velocity, this call's last-block activations.

        Raises:
            ValueError: Another number of channels or axes, or as :func:`diffusab_core.denoisers.parts.embed_classes`.
        """
        if x.ndim != len(self.input_size) + 2 or x.shape[1] != self.in_channels:
            axes = ", ".join("thw"[-len(self.input_size) :])
            raise ValueError(f"this model takes latents (N, {self.in_channels}, {axes}), got shape {tuple(x.shape)}")
        size = tuple(x.shape[2:])
        # Under autocast the sum over blocks stays in the precision of x, as in the original.
        tokens = self.embed(parts.patchify(x, self.patch)).to(x.dtype)  # (N, L, D)
        if hint is not None:
            tokens = tokens + self.hint(hint)
        c, classes = self.time(t), parts.embed_classes(self.label, y, x)
        c = c if classes is None else c + classes
        turn = parts.rotation(parts.grid(size, self.patch), self.width // self.heads, tokens.device, tokens.dtype)
        for block in self.blocks:
            tokens = parts.run_block(block, tokens, c, turn, save_memory=self.checkpoint_activations)
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        v = parts.unpatchify(self.out(modulate(self.norm(tokens), shift, scale)), self.patch, size)
        return (v, tokens) if with_hint else v


class SelfConditioned:
    """A denoiser as a sampler calls it: each call is given the last-block activations of the call before.

    The first call of a trajectory has none, nor has any call of a model without self-conditioning. Make a new one for
    each trajectory, and one for each branch of a guided one. Source: Skorokhodov et al. 2025, Appendix B.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.hint: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        v, self.hint = self.model(x, t, y, hint=self.hint, with_hint=True)
        return v
