r"""Training the decoder of an autoencoder: Gaussian, against a discriminator, or a conditional flow (DGAE).

On the same encoder and latent, :math:`z \sim q(z \mid x)`, the three decoders differ in what stands for
:math:`-\log p(x \mid z)`:

.. math::
    \text{Gaussian:}\quad & \overline{(\hat x - x)^2} + \lambda\, \overline{|\hat x - x|} + w\, d(x, \hat x), \\
        & \quad \hat x = \mathrm{Dec}(z) \\
    \text{GAN:}\quad & \text{the same} + L_G(\hat x) \quad\text{(methods.adversarial)} \\
    \text{diffusion:}\quad & \overline{\bigl(v_\theta(x_t, t, z) - (\varepsilon - x)\bigr)^2} + w\, d(x, \hat x_0), \\
        & \quad \hat x_0 = x_t - t\, v_\theta(x_t, t, z)

each with the averaged KL, :math:`+ \beta L_\text{KL}`. Here :math:`x_t = (1 - t)\, x + t\, \varepsilon`, d is a
perceptual distance, and :math:`\hat x_0` the one-step estimate, where the straight line along the velocity ends. The
squared error makes :math:`\hat x` the mean of :math:`p(x \mid z)`, which is a blurred picture wherever z leaves
detail open; the flow has all of :math:`p(x \mid z)`.

A trained flow can be distilled to one step: on the noise :math:`\varepsilon` of an image the student's one-step
estimate is trained to be what the teacher makes of it in many steps.

Source: after the abstract of Liu et al. 2025 (DGAE): a denoising objective, KL and a perceptual loss. What the
perceptual loss is taken of, its weight and the times could not be read and are ours. Distillation of pairs of noise and
sample: Luhman and Luhman 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from diffusab_core import flow
from diffusab_core.autoencoders.diffusion import DiffusionAutoencoder, parse
from diffusab_core.files import SettingsError
from diffusab_core.methods import adversarial, regularizers

DecoderKind = Literal["gaussian", "gan", "diffusion"]
DECODERS: tuple[str, ...] = get_args(DecoderKind)
Perceptual = Callable[[Tensor, Tensor], Tensor]  # images (N, 3, H, W) and their reconstructions to a weighted scalar

#: The settings that each decoder has beside ``decoder`` itself; a run without it is what it was before they existed.
_OWN = {
    "gaussian": (),
    "gan": ("adversarial_weight", "adversarial_start", "discriminator_layers"),
    "diffusion": (
        "decoder_network", "decoder_steps", "z_dropout", "time_location", "time_scale", "distillation_steps",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DecoderTraining:
    r"""Which decoder is trained, and how; settings of whole trainings have these, too.

    Attributes:
        decoder: ``"gaussian"`` (squared error), ``"gan"`` (also against a patch discriminator) or ``"diffusion"`` (a
            flow model that samples).
        decoder_network: Network of the diffusion decoder: UNet-SIZE/PATCH with sizes XXS to L, or DiT-SIZE/PATCH.
        decoder_steps: Steps of the diffusion decoder's sampler where none are named.
        z_dropout: Share of images whose latent the diffusion decoder does not see, so that it can be guided.
        time_location: Location of the logit-normal training times, if they are that.
        time_scale: Scale of the logit-normal training times; ``None``: uniform times.
        distillation_steps: Steps of a second training that turns the diffusion decoder into one of a single step.
        adversarial_weight: Weight of the adversarial term of the GAN decoder.
        adversarial_start: Steps without that term; ``None``: half of the steps, at most 50000.
        discriminator_layers: Of the discriminator; 3 see patches of 70 pixels.
    """

    decoder: DecoderKind = "gaussian"
    decoder_network: str = "UNet-XXS/2"
    decoder_steps: int = 8
    z_dropout: float = 0.1
    time_location: float = 0.0
    time_scale: float | None = None
    distillation_steps: int = 0
    adversarial_weight: float = 0.5
    adversarial_start: int | None = None
    discriminator_layers: int = 3

    def check_decoder(self, compression: int, resolution: int, steps: int) -> None:
        """Refuse what cannot be trained for so many steps on images of this side in pixels: a ``SettingsError``."""
        if self.decoder not in DECODERS:
            raise SettingsError(f"decoder must be one of {', '.join(DECODERS)}, got {self.decoder!r}")
        if self.decoder == "diffusion":
            parse(self.decoder_network, compression)
            if not 0 <= self.z_dropout < 1:
                raise SettingsError(f"z_dropout must be at least 0 and below 1, got {self.z_dropout}")
            if self.time_scale is not None and not 0 < self.time_scale < float("inf"):
                raise SettingsError(f"time_scale must be positive, got {self.time_scale}")
            for name, least in (("decoder_steps", 1), ("distillation_steps", 0)):
                if getattr(self, name) < least:
                    raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.decoder == "gan":
            adversarial.check(self.discriminator_layers, resolution, self.adversarial_start, steps)
            if not 0 < self.adversarial_weight < float("inf"):
                raise SettingsError(f"adversarial_weight must be positive, got {self.adversarial_weight}")

    def drop_idle(self, values: dict[str, Any]) -> dict[str, Any]:
        """Settings by name without those of decoders that this one is not."""
        idle = {name for kind, names in _OWN.items() if kind != self.decoder for name in names}
        if self.decoder == "gaussian":
            idle.add("decoder")
        return {name: value for name, value in values.items() if name not in idle}


def draw_times(n: int, location: float, scale: float | None, generator: torch.Generator) -> Tensor:
    """Training times ``(n,)`` on the generator's device: uniform for a scale of ``None``, else logit-normal."""
    if scale is None:
        return torch.rand(n, generator=generator, device=generator.device)
    return flow.logit_normal_times(n, location, scale, generator)


def estimate_in_one_step(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    r""":math:`\hat x_0 = x_t - t\, v`, of noisy images ``(N, 3, H, W)``, velocities and times ``(N,)``."""
    return x - t[:, None, None, None] * v


def loss_terms(
    module: DiffusionAutoencoder,
    x: Tensor,
    settings: DecoderTraining,
    generator: torch.Generator,
    *,
    kl_weight: float,
    perceptual: Perceptual | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The weighted terms of the diffusion decoder's loss by name, and the one-step estimates ``(N, 3, H, W)``.

    The generator draws all that is random, the posterior's noise first, as for a Gaussian decoder.

    Args:
        module: The autoencoder.
        x: Images ``(N, 3, H, W)`` in [-1, 1].
        settings: Times and dropout.
        generator: On the images' device.
        kl_weight: Weight of the averaged KL.
        perceptual: The perceptual distance with its weight; ``None``: no such term.
    """
    posterior = module.encode(x).latent_dist
    z = posterior.sample(generator)
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    t = draw_times(len(x), settings.time_location, settings.time_scale, generator)
    chance = torch.rand(len(x), generator=generator, device=x.device)
    kept = chance >= settings.z_dropout if module.null is not None else None
    x_t = flow.interpolate(x, noise, t)
    v = module.velocity(x_t, t, z, kept)
    terms = {"flow": regularizers.mse(flow.target(x, noise), v)}
    estimate = estimate_in_one_step(x_t, v, t)
    if perceptual is not None:
        terms["perceptual"] = perceptual(x, estimate)
    terms["kl"] = kl_weight * regularizers.averaged_kl(posterior.mean, posterior.logvar)
    return terms, estimate


def distillation_terms(
    student: DiffusionAutoencoder,
    teacher: DiffusionAutoencoder,
    x: Tensor,
    generator: torch.Generator,
    perceptual: Perceptual | None = None,
) -> dict[str, Tensor]:
    r"""Terms of the loss that makes one step of the student what the teacher's many steps are.

    .. math:: \overline{\bigl(\varepsilon - v_\phi(\varepsilon, 1, z) - \Phi_\theta(\varepsilon, z)\bigr)^2}

    with :math:`\Phi_\theta` the teacher's sampler at the steps and the guidance of its configuration. It makes one
    picture of each noise, so nothing is averaged away. Both have the teacher's latents.
    """
    with torch.no_grad():
        z = teacher.encode(x).latent_dist.sample(generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        wanted = teacher.sample(z, noise)
    one = torch.ones(len(x), device=x.device)
    made = estimate_in_one_step(noise, student.velocity(noise, one, z), one)
    terms = {"distillation": regularizers.mse(wanted, made)}
    return terms if perceptual is None else terms | {"perceptual": perceptual(wanted, made)}
