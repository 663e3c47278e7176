r"""What computing costs: multiply-accumulates of an autoencoder, and what scale equivariance adds to them.

Counted are the multiply-accumulates of convolutions, matrix products and attention (queries with keys, weights with
values); biases, normalisations, activations, resizing and the loss are not. One multiply-accumulate is two
floating-point operations. Papers that measure with ``fvcore`` print multiply-accumulates and call them FLOPs
(Skorokhodov et al. 2025, App. C.6); PyTorch's own counter, which is used here, gives twice as many.

Nothing has to be computed to be counted: on the meta device tensors have shapes and no values, so that a model of any
size is counted within seconds and without its weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.methods import regularizers


def multiply_accumulates(function: Callable[..., Any], *inputs: Tensor, backward: bool = False) -> int:
    """Multiply-accumulates of one call, of a module or of any function of tensors.

    Args:
        function: Called once with ``inputs``; on the meta device nothing is computed.
        inputs: What it is called with.
        backward: Count the backward pass of the sum of what it returns (one tensor), too. As always, gradients are
            added to what requires them.

    Returns:
        The number for the whole batch. It does not depend on the device.

    Raises:
        RuntimeError: ``backward`` where nothing requires a gradient.
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
    autoencoder: Autoencoder,
    resolution: int,
    scales: tuple[int, ...] = (2, 4),
    batch: int = 1,
    *,
    backward: bool = False,
) -> Cost:
    r"""Count what an autoencoder's reconstruction costs, and what scale equivariance adds to it.

    The model is not run: a copy without weights is, on the meta device.

    Args:
        autoencoder: With weights or without. A video autoencoder is given images as clips of one frame.
        resolution: Side of the square images in pixels.
        scales: Downsampling scales of the latent.
        batch: Images.
        backward: Count forward and backward pass, as in a training step without perceptual loss. A convolution then
            costs three times as much where both its input and its weights need a gradient, twice where only one does;
            parameters count by their ``requires_grad`` (:func:`diffusab_core.methods.finetuning.freeze`).

    Raises:
        ValueError: The compression does not divide the resolution, or a scale not the latent's sides.

    Source: Skorokhodov et al. 2025, App. C.6.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    autoencoder = replace(autoencoder, module=_without_weights(autoencoder.module))
    like = {"device": "meta", "dtype": next(autoencoder.parameters()).dtype}
    x = torch.empty(batch, 3, resolution, resolution, **like)
    z = torch.empty(batch, *autoencoder.latent_shape(resolution, resolution), requires_grad=backward, **like)
    for scale in scales:
        regularizers.downsample(z, scale)  # refuses a scale before anything is counted

    def encode(images: Tensor) -> Tensor:
        posterior = autoencoder.encode(images)
        return posterior.mean + posterior.std

    def decode_smaller(scale: int) -> Callable[[Tensor], Tensor]:
        return lambda latents: autoencoder.decode(regularizers.downsample(latents, scale))

    return Cost(
        encoder=multiply_accumulates(encode, x, backward=backward),
        decoder=multiply_accumulates(autoencoder.decode, z, backward=backward),
        regularizer={s: multiply_accumulates(decode_smaller(s), z, backward=backward) for s in scales},
    )


def _without_weights(module: nn.Module) -> nn.Module:
    """A copy on the meta device; the weights are not copied on the way."""
    empty: dict[int, Any] = {id(b): torch.empty_like(b, device="meta") for b in module.buffers()}
    for p in module.parameters():
        empty[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
    return copy.deepcopy(module, empty)
