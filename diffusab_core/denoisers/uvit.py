r"""U-ViT: a transformer to which time, class and patches are all tokens, with long skip connections.

The layout is that of Bao et al. 2023, as its reference implementation builds it, without the final 3 x 3 convolution:
n blocks, one in the middle and n more; each of the last n is given the output of its mirror image among the first n.

Two families share it, neither with self-conditioning. **U-ViT** predicts the noise at one of 1000 discrete steps (see
:mod:`diffusab_core.flow.ddpm`), and **USiT** (Chen et al. 2025) the velocity of a rectified flow; the published one
counts its time from noise to data. The published sizes, S with 44.79M parameters, H with 500.87M and 2B with 1580.40M,
are those of patch 1, latents of 32 channels and 16 x 16 (f32 of 512 x 512 images) and the 1000 classes of ImageNet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffusab_core.denoisers import parts
from diffusab_core.denoisers.names import Prediction

#: A time in [0, 1] is multiplied by this before its sinusoids are taken: U-ViT is told its step, USiT its time.
TIME_SCALES: dict[Prediction, int] = {"noise": 1000, "velocity": 1}


class Block(nn.Module):
    r"""Attention and MLP behind layer norms; with ``skip``, two streams are made into one first.

    .. math::
        x &\leftarrow W\,[x, s] + w \quad \text{(with a skip } s \text{)} \\
        x &\leftarrow x + \mathrm{Attn}(\mathrm{LN}(x)) \\
        x &\leftarrow x + \mathrm{MLP}(\mathrm{LN}(x))
    """

    def __init__(self, width: int, heads: int, skip: bool = False) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.norm1 = nn.LayerNorm(width)
        self.attention = parts.Attention(width, heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = parts.MLP(width, approximate="none")

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:  # (N, L, D)
        if self.skip is not None:
            # Under autocast the sum over blocks stays in the precision of x.
            x = self.skip(torch.cat([x, skip], dim=-1)).to(x.dtype)
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class UViT(nn.Module):
    """Noise or velocity of a latent at a time, ``model(x, t, y)``.

    Tokens are the class (in a model with classes), the time, and the patches in row-major order. The time's token is
    not learnt: it is the sinusoids of the step, of the width of the stream.

    Arguments and errors are those of :class:`~diffusab_core.denoisers.dit.DiT`, but for these:

    Args:
        input_size: Positions are learnt, so other sizes than this one are refused.
        prediction: ``"noise"`` (U-ViT) or ``"velocity"`` (USiT).
        depth: Blocks with and for skips, even; with the one in the middle there are depth + 1.

    Source: Bao et al. 2023; Chen et al. 2025 (the sizes S, H and 2B on latents of 32 channels).
    """

    def __init__(
        self,
        in_channels: int,
        input_size: int | tuple[int, ...],
        num_classes: int = 0,
        *,
        prediction: Prediction,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        size = parts.check_sizes(in_channels, input_size, num_classes, patch)
        if depth < 2 or depth % 2:
            raise ValueError(f"depth must be even, as every skip has two ends, got {depth}")
        if prediction not in TIME_SCALES:
            raise ValueError(f"prediction must be one of {', '.join(TIME_SCALES)}, got {prediction!r}")
        self.in_channels, self.input_size, self.num_classes = in_channels, size, num_classes
        self.prediction, self.patch, self.width, self.heads = prediction, patch, width, heads
        self.checkpoint_activations = checkpoint_activations

        self.embed = nn.Linear(patch * patch * in_channels, width)
        self.label = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.extra = 2 if num_classes else 1  # tokens that are no patches
        self.position = nn.Parameter(torch.zeros(1, self.extra + math.prod(parts.grid(size, patch)), width))
        self.blocks = nn.ModuleList(Block(width, heads, skip=i > depth // 2) for i in range(depth + 1))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, patch * patch * in_channels)
        self._initialise()

    def _initialise(self) -> None:
        """As the reference: patches and classes keep PyTorch's default, all else has a deviation of 0.02."""
        nn.init.trunc_normal_(self.position, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name != "embed":
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, hint: Tensor | None = None, with_hint: bool = False
    ) -> Tensor | tuple[Tensor, None]:
        """The noise or the velocity at ``(x, t)``, as :class:`~diffusab_core.denoisers.dit.DiT` takes them.

        Where noise is predicted, t is the step over 1000. There is no self-conditioning: a hint has to be ``None``, and
        ``None`` is what ``with_hint`` adds. A ``ValueError`` for another shape, a hint, or classes as of DiT.
        """
        if hint is not None:
            raise ValueError("this model has no self-conditioning, but a hint was given")
        if tuple(x.shape[1:]) != (self.in_channels, *self.input_size):
            expected = f"(N, {', '.join(map(str, (self.in_channels, *self.input_size)))}), as its positions are learnt"
            raise ValueError(f"this model takes latents {expected}, got shape {tuple(x.shape)}")
        patches = self.embed(parts.patchify(x, self.patch)).to(x.dtype)  # (N, L, D)
        time = parts.sinusoids(TIME_SCALES[self.prediction] * t, self.width).to(x.dtype)[:, None]  # (N, 1, D)
        classes = parts.embed_classes(self.label, y, x)
        first = [] if classes is None else [classes.to(x.dtype)[:, None]]
        tokens = torch.cat([*first, time, patches], dim=1) + self.position  # (N, 1 or 2 + L, D)
        skips: list[Tensor] = []
        half = len(self.blocks) // 2
        for i, block in enumerate(self.blocks):
            skip = (skips.pop(),) if i > half else ()
            tokens = parts.run_block(block, tokens, *skip, save_memory=self.checkpoint_activations)
            if i < half:
                skips.append(tokens)
        out = parts.unpatchify(self.out(self.norm(tokens[:, self.extra :])), self.patch, self.input_size)
        return (out, None) if with_hint else out
