r"""MiniLDM: a small denoiser trained together with the autoencoder, as the prior of its latents.

.. math:: \mathrm{KL}(q(z \mid x) \,\|\, p_\theta(z)) = \mathbb E[-\log p_\theta(z)] - \mathbb H[q(z \mid x)]

takes the place of the divergence from a standard normal. The cross entropy is bounded by the denoiser's own loss, whose
gradient reaches the latents, and the entropy keeps these from shrinking to what is easiest, a point. A failed
experiment of the paper: with any hyperparameters that its authors tried it was no better than their baseline.

Sources: Skorokhodov et al. 2025, App. E and Eq. 8 (no code, weight or denoiser is published); Vahdat et al. 2021,
"Score-based Generative Modeling in Latent Space"; Kingma and Gao 2023, "Understanding Diffusion Objectives as the ELBO
with Simple Data Augmentation" (the bound).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffusab_core import denoisers

Velocity = Callable[[Tensor, Tensor], Tensor]  # of noisy latents and times

#: Of :math:`\log(t / (1 - t))`, noise over signal. Below its lower end details are left to the entropy.
SPAN = (-4.0, 4.0)


def build(name: str, latent_shape: tuple[int, ...], seed: int) -> nn.Module:
    """A denoiser without classes for latents ``(C, h, w)``, its weights from the seed and no other state.

    One that predicts noise is a ``ValueError``, an unknown name a ``DenoiserError``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = denoisers.build(name, in_channels=latent_shape[0], input_size=latent_shape[1:])
    if (kind := denoisers.prediction_of(model)) != "velocity":
        raise ValueError(f"a denoiser that predicts the velocity is needed, {name} predicts the {kind}")
    return model


def draw_times(generator: torch.Generator, count: int) -> Tensor:
    """Times ``(N,)`` whose log odds are uniform over :data:`SPAN`, where every error of the noise counts the same."""
    low, high = SPAN
    odds = torch.rand(count, generator=generator, device=generator.device) * (high - low) + low
    return odds.sigmoid()


def divergence(z: Tensor, std: Tensor, noise: Tensor, t: Tensor, velocity: Velocity) -> Tensor:
    r"""An estimate of the divergence above for each number of a latent, in nats, to be compared with
    :func:`.regularizers.averaged_kl`.

    .. math:: \int \| \epsilon - \hat\epsilon(z_t, t) \|^2 \, d \log u + \log u_0 - \log \sigma, \qquad
        u = \frac{t}{1 - t}, \quad z_t = (1 - t) z + t \epsilon, \quad \hat\epsilon = z_t + (1 - t) \hat v

    with the integral over :data:`SPAN`, :math:`u_0` its lower end and means over items, channels and positions. Exact
    on average, up to what the span leaves out, where the denoiser is the best for its prior; otherwise an upper bound.

    Args:
        z: Samples of the posterior ``(N, C, h, w)``, not detached.
        std: Its standard deviation, of the same shape and positive.
        noise: :math:`\epsilon`, of the same shape.
        t: Times ``(N,)`` of :func:`draw_times`.
        velocity: The denoiser; the velocity is :math:`\epsilon - z`.
    """
    low, high = SPAN
    share = t.view(-1, *[1] * (z.ndim - 1)).to(z)
    noisy = (1 - share) * z + share * noise
    guess = noisy + (1 - share) * velocity(noisy, t)
    error = (noise - guess).to(torch.promote_types(z.dtype, torch.float32)).square().mean()
    return (high - low) * error + low - std.log().mean()
