r"""What computing costs: multiply-accumulates of an autoencoder and of scale equivariance, memory of a training step.

Counted are the multiply-accumulates of convolutions, matrix products and attention (queries with keys, weights with
values), not biases, normalisations, activations, resizing and the loss. Papers that measure with ``fvcore`` print
multiply-accumulates and call them FLOPs (Skorokhodov et al. 2025, App. C.6); PyTorch's counter, used here, counts each
twice. On the meta device, where tensors have shapes and no values, a model of any size is counted within seconds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.methods import regularizers


def multiply_accumulates(function: Callable[..., Any], *inputs: Tensor, backward: bool = False) -> int:
    """Multiply-accumulates of one call of a module or any function of tensors, for the whole batch, on any device.

    With ``backward`` the backward pass of the sum of what it returns (one tensor) counts, too; it adds gradients.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_operations}
    )
    # Fused attention differs between devices, and its backward pass computes the products of the forward pass anew.
    with torch.set_grad_enabled(backward), sdpa_kernel(SDPBackend.MATH), counter:
        result = function(*inputs)
        if backward:
            result.sum().backward()
    return counter.get_total_flops() // 2


def _convolution_backward_operations(
    grad_shape: Sequence[int], x_shape: Sequence[int], weight_shape: Sequence[int], *others: Any, **_: Any
) -> int:
    # PyTorch's own formula multiplies the gradient of the weights by the number of groups. Each of the two gradients
    # costs what the forward pass does.
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, wanted = others
    positions = math.prod((x_shape if transposed else grad_shape)[2:])
    return 2 * x_shape[0] * positions * math.prod(weight_shape) * sum(wanted[:2])


@dataclass(frozen=True)
class Cost:
    r"""Multiply-accumulates of encoding, of decoding, and of the further decoding that scale equivariance asks for."""

    encoder: int  #: Of :math:`\mathrm{Enc}(x)`
    decoder: int  #: Of :math:`\mathrm{Dec}(z)`
    regularizer: dict[int, int]  #: Of :math:`\mathrm{Dec}(\tilde z)`, by scale

    @property
    def total(self) -> int:
        """Encoding and decoding, without scale equivariance."""
        return self.encoder + self.decoder

    def overhead(self, scale: int) -> float:
        """What scale equivariance adds at one scale, as a share of :attr:`total`."""
        return self.regularizer[scale] / self.total

    @property
    def mean_overhead(self) -> float:
        """What it adds on average, each scale being drawn equally often, as a share of :attr:`total`."""
        return sum(map(self.overhead, self.regularizer)) / len(self.regularizer)


def reconstruction_cost(
    autoencoder: Autoencoder, resolution: int, scales: tuple[int, ...] = (2, 4), *, backward: bool = False
) -> Cost:
    r"""Count what an autoencoder's reconstruction costs, and what scale equivariance adds to it at each scale.

    An image of ``resolution`` x ``resolution`` pixels (for a video autoencoder a clip of one frame) goes through a copy
    without weights. With ``backward`` forward and backward pass count, as in a training step without perceptual loss: a
    convolution then costs three times as much where both its input and its weights need a gradient, twice where only
    one does; parameters count by their ``requires_grad`` (:func:`diffusab_core.methods.finetuning.freeze`). Sides that
    the compression or a scale does not divide are a ``ValueError``.

    Source: Skorokhodov et al. 2025, App. C.6.
    """
    autoencoder, x, z = _on_meta(autoencoder, resolution, requires_grad=backward)

    def encode(images: Tensor) -> Tensor:
        posterior = autoencoder.encode(images)
        return posterior.mean + posterior.std

    def decode_smaller(scale: int, latents: Tensor) -> Tensor:
        return autoencoder.decode(regularizers.downsample(latents, scale))

    return Cost(
        encoder=multiply_accumulates(encode, x, backward=backward),
        decoder=multiply_accumulates(autoencoder.decode, z, backward=backward),
        regularizer={s: multiply_accumulates(partial(decode_smaller, s), z, backward=backward) for s in scales},
    )


def gain_cost(autoencoder: Autoencoder, resolution: int) -> int:
    """Multiply-accumulates that :func:`.regularizers.decoder_gain` adds to a training step, for one image.

    The first pass backwards to the latent, and the pass backwards through it; to be compared with what
    :func:`reconstruction_cost` counts with ``backward``. Parameters count by their ``requires_grad``.
    """
    autoencoder, _, z = _on_meta(autoencoder, resolution, requires_grad=True)

    def penalised(latents: Tensor) -> Tensor:
        latents = latents + 0  # the counter's hooks do not know a gradient with respect to a leaf
        y = autoencoder.decode(latents)
        return y.sum() + regularizers.decoder_gain(latents, y, torch.ones_like(y))

    plain = multiply_accumulates(autoencoder.decode, z, backward=True)
    return multiply_accumulates(penalised, z, backward=True) - plain


def _on_meta(autoencoder: Autoencoder, resolution: int, requires_grad: bool) -> tuple[Autoencoder, Tensor, Tensor]:
    """A copy without weights, an image and a latent."""
    autoencoder = replace(autoencoder, module=copy.deepcopy(autoencoder.module).to("meta"))
    like = {"device": "meta", "dtype": next(autoencoder.parameters()).dtype}
    x = torch.empty(1, 3, resolution, resolution, **like)
    z = torch.empty(1, *autoencoder.latent_shape(resolution, resolution), requires_grad=requires_grad, **like)
    return autoencoder, x, z


# ---------------------------------------------------------------------------------------------------------------------
# Memory


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step holds on one of ``processes`` devices, without what the allocator wastes."""

    weights: int  #: In single precision, with those that are not trained
    gradients: int
    optimiser: int  #: AdamW's two moments
    average: int  #: The moving average of the weights
    activations: int  #: What the forward pass keeps for the backward pass
    processes: int = 1  #: That share all but the activations, which are those of one process's part of the batch

    @property
    def states(self) -> int:
        """All but the activations, of all processes together."""
        return self.weights + self.gradients + self.optimiser + self.average

    @property
    def total(self) -> int:
        """On one device."""
        return -(-self.states // self.processes) + self.activations

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimiser", "average")
        words = ", ".join(f"{name} {getattr(self, name) / 2**30:.1f}" for name in parts)
        return (
            f"{self.total / 2**30:.1f} GiB on each of {self.processes}: ({words}) / {self.processes} + activations "
            f"{self.activations / 2**30:.1f}"
        )


def training_memory(parameters: Iterable[nn.Parameter], forward: Callable[[], Any], *, processes: int = 1) -> Memory:
    """What a training step holds, counted on the meta device, where a model of any size takes no memory itself.

    Args:
        parameters: The module's; gradients, optimiser and average are of those with ``requires_grad``, the average of
            the others is not kept twice.
        forward: The forward pass of one process's part of a batch, in the precision it is trained in. Attention counts
            as a fused kernel keeps it: its inputs and its output. What a checkpoint computes anew is not counted.
        processes: That share weights and states (full sharding).
    """
    parameters = list(parameters)
    own = {p.untyped_storage()._cdata for p in parameters}
    kept: dict[int, Tensor] = {}  # by storage, the tensors themselves: a storage that is freed gives its number away

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with _FusedAttention(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()  # its graph has to live while storages are counted
    activations = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    del result
    count = sum(p.numel() for p in parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return Memory(4 * count, 4 * trained, 8 * trained, 4 * trained, activations, processes)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors[:3])


class _FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel keeps it; on the meta device torch would keep the whole matrix."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])
        return func(*args, **(kwargs or {}))
