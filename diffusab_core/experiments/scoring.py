r"""A latent space before anything is trained on it: all candidates for a score, of the latents that a denoiser gets.

:class:`Scoring` names a space by the parameters of a :class:`~diffusab_core.experiments.bench.Trial`, with which it
shares the cache of latents. :func:`score_space` measures :data:`~diffusab_core.methods.diffusability.CANDIDATES`; a
probe denoiser, the standard arm cut short, is trained where ``probe_steps`` asks for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusab_core import data, metrics
from diffusab_core.autoencoders import Autoencoder, Posterior
from diffusab_core.denoisers import parse
from diffusab_core.experiments import judging, trial
from diffusab_core.experiments.bench import Bench, Trial
from diffusab_core.experiments.probing import Found, round_series
from diffusab_core.files import SettingsError
from diffusab_core.latents.extraction import open_extracted, read_usable
from diffusab_core.methods import diffusability
from diffusab_core.methods.denoising import spectrum_of
from diffusab_core.methods.reshaping import Reshaping, Spectrum, make_up
from diffusab_core.metrics import yardsticks
from diffusab_core.metrics.networks import Features

_RGB, PROBE_SAMPLING_STEPS = 256, 10  # images beside the profile; of the probe's sampler


@dataclass(frozen=True)
class Scoring:
    """A latent space, and how much of it to measure.

    Attributes:
        autoencoder: See :class:`~diffusab_core.experiments.bench.Trial`, as for all down to ``white_channels``.
        denoiser: Its patch makes the tokens; the probe is this network.
        items: Latents to measure, spread evenly over all.
        stake_items: Of them those that bands are permuted across.
        samples: Latents behind the ruler of the probe's gap, as many as the samples of the trials it stands beside.
        probe_steps: Of the probe denoiser; 0: none.
        probe_samples: That it draws, each in ten steps.
        probe_shift: Time shift to draw them with.
        block_size: Side of a DCT block in latent pixels.
        seed: Of the probe.

    Raises:
        SettingsError: A value that cannot be used.
    """

    autoencoder: str = "kl-f4c16"
    images: str = "photos"
    resolution: int = 32
    crop: str = "center"
    crops: int = 8192
    reference: int = 8192
    data_seed: int = 0
    denoiser: str = "DiT-XXS/2"
    mask: str = "none"
    power: float = 1.0
    white_channels: int = 0
    items: int = 2048
    stake_items: int = 256
    samples: int = 1024
    probe_steps: int = 0
    probe_samples: int = 512
    probe_shift: float = 4.0
    block_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"items": 4, "stake_items": 2, "probe_steps": 0, "probe_samples": 2}.items():
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        _ = self.trial()

    def trial(self) -> Trial:
        """The trial whose latents these are; its training is the probe's."""
        same = {f.name for f in fields(self)} & {f.name for f in fields(Trial)}
        return Trial(
            **{name: getattr(self, name) for name in same}, steps=max(1, self.probe_steps), snapshots=0,
            shifts=(self.probe_shift,), features=("offline",),
        )  # fmt: skip


def open_bench(settings: Scoring, cache: str | os.PathLike, **how: Any) -> Bench:
    """What the trial of these settings needs; ``how`` as :class:`~diffusab_core.experiments.bench.Bench` takes it."""
    return Bench(settings.trial(), cache, **how)


@dataclass(frozen=True)
class Space:
    """The latents of a space as :func:`score_space` looks at them; N items, in the order of their places."""

    seen: Tensor  #: ``(N, C, h, w)``: normalised, behind mask and filter, with appended channels: what a network sees
    filtered: Tensor  #: The same without mask and appended channels
    raw: Tensor  #: Samples of the posterior, as the autoencoder decodes them
    posterior: Posterior  #: Theirs, raw
    spread: Tensor  #: Standard deviations of the channels ``(C,)``, by which latents are normalised


def open_space(bench: Bench, items: int) -> Space:
    """Latents of a bench's trial, spread evenly over all of them."""
    reshaping = bench.trial.reshaping
    own, shown = bench.latents, make_up(bench.latents, reshaping)
    places = [i * len(own) // items for i in range(items)] if items < len(own) else range(len(own))
    mean, std, _ = own.posterior(places)
    z = yardsticks.posterior_samples(shown, places)
    spectrum = spectrum_of(bench.trial.denoising(), shown)
    unmasked = Spectrum(
        Reshaping(power=reshaping.power), shown.shape, bench.trial.steps, spectrum.energies,
    )  # fmt: skip
    x, kept = shown.normalise(z), own.shape[0]
    with torch.no_grad():
        seen, filtered = spectrum.last.enter(x), unmasked.last.enter(x)
    return Space(seen, filtered[:, :kept], z[:, :kept], Posterior(mean, std), own.channel_std)


def space_of(posterior: Posterior, seed: int = 0) -> Space:
    """Latents as they come, normalised by their own channels; nothing is masked, filtered or appended."""
    mean, std = posterior.mean.float().cpu(), posterior.std.float().cpu()
    z = mean + std * torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
    axes = [0, *range(2, z.ndim)]
    spread = z.std(axes, correction=0)
    if not bool((spread > 0).all()):
        raise ValueError(f"channel {int((spread <= 0).nonzero()[0])} of the latents is the same everywhere")
    x = (z - z.mean(axes, keepdim=True)) / spread.reshape(-1, *[1] * (z.ndim - 2))
    return Space(x, x, z, Posterior(mean, std), spread)


def score_space(
    settings: Scoring, bench: Bench, folder: str | os.PathLike, tell: Callable[[str, Found], Any] | None = None
) -> Found:
    """All candidates of a space by name, and under ``GROUP_time_s`` how many seconds each group of them took.

    Args:
        settings: What to measure.
        bench: Of :func:`open_bench` for these settings. What it has to encode is not in the seconds.
        folder: Where the probe is trained, and goes on when it was cut off.
        tell: Called with each group that is there: ``latents``, ``autoencoder``, ``decoder`` and ``probe``.
    """
    found, space = Found(), open_space(bench, settings.items)
    patch, block_size = parse(settings.denoiser)[2], settings.block_size
    groups: dict[str, Callable[[], Found]] = {
        "latents": lambda: of_latents(space, patch, block_size, _small_images(bench, space)),
        "autoencoder": lambda: of_posterior(space),
        "decoder": lambda: of_decoder(
            space, bench.decode, bench.autoencoder, bench.networks["offline"], settings.stake_items, block_size
        ),
    }
    if settings.probe_steps:
        groups["probe"] = lambda: probe(settings, bench, Path(folder) / "probe")
    for name, measure in groups.items():
        begun = time.perf_counter()
        new = measure()
        new.metrics[f"{name}_time_s"] = time.perf_counter() - begun
        found = found | new
        if tell is not None:
            tell(name, new)
    return found


def _small_images(bench: Bench, space: Space) -> Tensor:
    """Images of the space in [0, 1], as small as its latents."""
    # As an extraction does, without those that turn out to be broken.
    x = next(read_usable(open_extracted(bench.trial.extraction(), bench.progress), _RGB))
    return data.rgb01(data.resize_to(x, *space.seen.shape[-2:]))


# ---------------------------------------------------------------------------------------------------------------------
# By what they look at


def of_latents(space: Space, patch: int, block_size: int = 8, rgb: Tensor | None = None) -> Found:
    """What a network of this patch sees; ``rgb`` as :func:`~diffusab_core.methods.diffusability.measure_latents`."""
    return Found(diffusability.measure_latents(space.seen, patch, block_size, rgb))


def of_posterior(space: Space) -> Found:
    """Noise and KL; a posterior that is a point has no KL."""
    scale = space.spread.reshape(-1, *[1] * (space.raw.ndim - 2))
    found = {"noise_share": float((space.posterior.std / scale).square().mean())}
    if bool((space.posterior.std > 0).all()):
        found["kl"] = diffusability.posterior_kl(space.posterior)
    return Found(found)


@torch.no_grad()
def of_decoder(
    space: Space, decode: yardsticks.Decode, autoencoder: Autoencoder, network: Features, items: int = 256,
    block_size: int = 8,
) -> Found:  # fmt: skip
    """Stake times expected error, and scale equivariance where the latents' sides are even; of the first ``items``.

    Args:
        decode: Raw latents to images, as :mod:`diffusab_core.metrics.yardsticks` has it.
        autoencoder: Whose decoder takes other sizes than that of the latents, too.
        network: Features to measure the stake with.
    """
    z, bands = space.raw[:items], yardsticks.choose_bands(block_size)
    # Against the same latents as they are: a reference of others would cost more than all the rest.
    whole = metrics.reference(yardsticks.decoded(decode, z), network, progress=False)
    ruler = yardsticks.measure_ruler(decode, z, whole, network, bands=bands, block_size=block_size)
    errors = diffusability.expected_error(space.filtered, block_size)
    costs = diffusability.stake_error(bands, ruler.permuted, errors)
    series = {
        "stake_first_rank": [float(a) for a, _ in bands], "stake_permuted": list(ruler.permuted),
        "stake_expected_error": costs,
    }  # fmt: skip
    found = Found({"stake_error": costs[-1], "stake_error_all": sum(costs)}, round_series(series))
    if all(side % 2 == 0 for side in z.shape[-2:]):
        found.metrics["equivariance_db"] = diffusability.equivariance_db(autoencoder, z)
    return found


def probe(settings: Scoring, bench: Bench, folder: str | os.PathLike) -> Found:
    """The standard arm after a few steps: ``probe_gap``, 0 that of real latents and 1 of decoded noise."""
    trained = trial.train(bench, folder)
    drawn = judging.draw(
        bench, trained.denoiser, bench.trial.sampling(settings.probe_shift, settings.probe_samples,
                                                      PROBE_SAMPLING_STEPS),
    )  # fmt: skip
    gap, ruler = drawn.distances["gap_offline"], bench.ruler
    share = (gap - ruler["floor"]) / (ruler["noise"] - ruler["floor"])
    return Found({"probe_gap": share, "probe_gap_offline": gap, "probe_steps": float(settings.probe_steps)})
