r"""What samples look like on their way from noise: high frequencies of decoded states, and of the predictions there.

Source: Skorokhodov et al. 2025, Figure 6, which shows pictures of a few states; the numbers are this book's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusab_core import denoisers, flow, spectrum
from diffusab_core.experiments.bench import Bench
from diffusab_core.experiments.denoiser import Denoiser
from diffusab_core.methods import denoising
from diffusab_core.methods.reshaping import colour_noise

#: At most so many states are decoded, evenly spaced, and the first.
STATES = 16


@torch.no_grad()
def follow(bench: Bench, denoiser: Denoiser, samples: int) -> tuple[dict[str, list[float]], Tensor]:
    """The energy at the upper half of a picture's ranks along sampling at shift 1, over that of the finished samples.

    Above 1 there is more fine structure than there will be in the end: artefacts, since the picture is not there yet.

    Args:
        bench: Of the trial; its sampler's steps, seed and block size count.
        denoiser: One that predicts the velocity, else a ``ValueError``.
        samples: How many, at least 1.

    Returns:
        Series ``trajectory_time``, ``trajectory_state_hf`` of decoded states and ``trajectory_prediction_hf`` of the
        decoded end that the model predicts at each; and the states of the first sample ``(K, 3, H, W)`` in [-1, 1].
    """
    if denoisers.prediction_of(denoiser.model) != "velocity":
        raise ValueError("a trajectory is followed for denoisers that predict the velocity")
    trial = bench.trial
    sampling = trial.sampling(1.0, samples=max(samples, 2))
    places = range(samples)
    noise = denoising.draw_noise(sampling.seed, places, denoiser.shape).to(bench.device)
    y = denoising.labels_of(sampling, denoiser.num_classes, places)
    y = None if y is None else y.to(bench.device)
    model = denoisers.SelfConditioned(denoiser.model)
    states, predictions = flow.walk(model, colour_noise(denoiser.model, noise), sampling.steps, y=y)
    at = torch.linspace(0, sampling.steps, STATES + 1).round().long().unique().tolist()

    def decode(z: Tensor) -> Tensor:
        return bench.decode(denoiser.denormalise(z.float()))

    pictures = [decode(states[k]) for k in at]
    ends = [decode(predictions[k]) for k in at]
    last = _upper_energy(pictures[-1], trial.block_size)
    series = {
        "trajectory_time": flow.sampling_times(sampling.steps)[at].tolist(),
        "trajectory_state_hf": [_upper_energy(x, trial.block_size) / last for x in pictures],
        "trajectory_prediction_hf": [_upper_energy(x, trial.block_size) / last for x in ends],
    }
    return series, torch.stack([x[0] for x in pictures]).cpu()


def _upper_energy(x: Tensor, block_size: int) -> float:
    """Mean energy of the upper half of ranks, of images ``(N, 3, H, W)``."""
    energy = spectrum.block_dct(x, block_size).square().flatten(-2)[..., spectrum.zigzag_order(block_size).to(x.device)]
    return energy[..., (block_size**2 + 1) // 2 :].mean().item()
