r"""Explorer of a denoiser at work: where a sampler is, and what the network takes the clean latent to be.

With self-conditioning the velocity depends on the calls before, so it cannot be computed again afterwards at any point
of a path: :func:`record_walk` keeps what the network said on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from diffusab_book import figures
from diffusab_book.explorer import Control, Explorer
from diffusab_core import denoisers, flow


@torch.no_grad()
def record_walk(
    model: nn.Module, noise: Tensor, steps: int, y: Tensor | None = None, guidance: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""All states of an Euler sampler with self-conditioning, and the clean latent that was predicted at each of them.

    The prediction is :math:`\hat x = x_t - t\, v(x_t, t, y)`, the end of the straight line along the velocity; at
    :math:`t = 0` it is the state. A guided velocity gives a guided prediction.

    Args:
        model: From :func:`diffusab_core.denoisers.build`, in evaluation mode.
        noise: Where sampling starts, ``(N, C, h, w)``.
        steps: Number of Euler steps.
        y: Classes, ``(N,)``.
        guidance: Scale of classifier-free guidance; 1 is none.

    Returns:
        States and predictions, ``(steps + 1, N, C, h, w)`` each.

    Raises:
        ValueError: As :func:`diffusab_core.flow.sample`; guidance without classes; a denoiser that predicts the noise.
    """
    if (prediction := denoisers.prediction_of(model)) != "velocity":
        raise ValueError(f"this walk follows a velocity, the denoiser predicts the {prediction}")
    if guidance != 1 and y is None:
        raise ValueError(f"guidance {guidance} needs classes y")
    velocity = flow.guided(denoisers.SelfConditioned(model), denoisers.SelfConditioned(model), guidance)
    predictions = []

    def noting(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        v = velocity(x, t, y)
        predictions.append(x - t[0] * v)
        return v

    states = flow.sample(noting, noise, steps, y=y, trajectory=True)
    return states, torch.stack([*predictions, states[-1]])


def trajectory_explorer(
    model: nn.Module,
    decode: Callable[[Tensor], Tensor],
    noise: Tensor,
    y: Tensor | None = None,
    steps: int = 16,
    shown: Sequence[int] | None = None,
    guidances: Sequence[float] = (1.0,),
    columns: int = 5,
) -> Explorer:
    r"""Several samples on their way: the decoded state beside the decoded prediction of the clean latent.

    Args:
        model: See :func:`record_walk`.
        decode: From what the model makes to images ``(N, 3, H, W)`` in [-1, 1].
        noise: ``(N, C, h, w)``; N is a multiple of ``columns``.
        y: Classes, ``(N,)``.
        steps: Number of Euler steps.
        shown: The steps that the slider offers, in order; ``None``: all, from 0 (noise) to ``steps``.
        guidances: Scales offered in a menu; one of them: no menu.
        columns: Images in a row of the mosaics.

    Raises:
        ValueError: A step that the sampler does not reach, or as :func:`record_walk`.
    """
    shown = tuple(range(steps + 1)) if shown is None else tuple(shown)
    outside = next((step for step in shown if not 0 <= step <= steps), None)
    if outside is not None or len(shown) < 2:
        raise ValueError(f"the slider needs two or more of the steps 0 to {steps}, got {shown}")
    times = flow.sampling_times(steps).tolist()
    walks = {scale: record_walk(model, noise, steps, y, scale) for scale in guidances}

    @cache
    def pictures(step: int, scale: float) -> list[go.Figure]:
        with torch.no_grad():
            return [figures.picture(figures.mosaic(decode(kept[step]), columns), 60) for kept in walks[scale]]

    def draw(step: int, guidance: float = guidances[0]) -> go.Figure:
        return figures.panels(
            pictures(step, guidance),
            [f"state at t = {times[step]:.2f}", "predicted clean latent"],
            "Explorer over the steps of sampling: on the left a mosaic of decoded states that begins as the picture of "
            "noise, on the right the decoded predictions of the clean latents, which begin as blurs in the colours "
            "of their class and gain contrast, layout and then detail. At the last step both are the same.",
            height=380,
        )

    scales = tuple(guidances)
    return Explorer(
        draw,
        [
            Control("step", "step", shown, shown[len(shown) // 2], "slider"),
            Control("guidance", "guidance:", scales, scales[0], "menu", lambda scale: f"{scale:g}"),
        ],
    )
