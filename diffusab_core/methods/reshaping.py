r"""The same latents with another spectrum: fixed masks, a filter, and coloured noise, which is the filter taken apart.

A network that sees :math:`u = M G x` in place of the latent x, with M orthogonal and G one gain for each frequency, is
trained on another spectrum; undone before decoding, neither reconstruction nor the information in x has changed. In
the latents' own coordinates three separate things have happened, and each can be had alone:

.. math::
    x_t &= (1 - t)\, x + t\, \varepsilon', \quad \varepsilon' = G^{-1} \varepsilon
        \\ & \text{(N) the noise has covariance } G^{-2} \\
    \ell &= \bigl\| G\, (v - (\varepsilon' - x)) \bigr\|^2 \\ & \text{(L) the loss is measured in its metric} \\
    v(x, t) &= G^{-1} f(G\, x, t) \\ & \text{(C) f sees and answers in other coordinates}

N, L and C together are the filter with white noise; N and L are coloured noise with its metric, on latents and a
network as they are. What is left out of the three is the identity in its place. A mask, whose M is orthogonal, changes
the network's coordinates alone: :math:`v = M^{-1} f(M x, t)`, with noise that stays white and the same numbers.

The gains give the latents' energies :math:`\lambda_k` to the power a, at the same sum:

.. math:: g_k^2 = \lambda_k^{a - 1} \, \frac{\sum_j \lambda_j}{\sum_j \lambda_j^{a}},

so a = 1 leaves all as it is, a = 0 makes the latents white, or gives the noise (whose energies are :math:`g_k^{-2}`,
as :math:`\lambda_k^{1 - a}`) the latents' spectrum. Frequencies are those of the orthonormal DCT-II over the whole
latent, of a clip over its frames too; :math:`\lambda` is the mean of the squared coefficient over channels and items.

Sources: this book. Noise with a spectrum: arXiv 2510.09660, 2605.30332 and 2606.03393; a flatter latent by a loss:
arXiv 2603.14645.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusab_core.denoisers.parts import patchify
from diffusab_core.files import SettingsError, digest_json, first_line
from diffusab_core.latents import Latents
from diffusab_core.latents.base import sample_posteriors
from diffusab_core.spectrum import whole_dct, whole_idct
from diffusab_core.training.order import stream

MASKS = ("none", "rows", "checkerboard", "blocks", "random")
SURROGATES = ("none", "phase", "gaussian")
#: Over this share of a run a schedule that names no share moves: the average of the weights, whose half-life is at most
#: 5% of the steps, then holds nothing from before the end, and two fifths of the run are on the path that is sampled.
RAMP = 0.6
LARGEST_COVARIANCE = 4096  # numbers in a latent whose covariance is estimated and factored whole


@dataclass(frozen=True)
class Reshaping:
    """Which spectrum a denoiser is given; the defaults leave everything as it is, to the last bit.

    Attributes:
        mask: Signs that the latent is multiplied by in front of the network, the same for all channels: ``none``,
            ``rows`` (+ - + -), ``checkerboard``, ``blocks`` (a checkerboard of 2 x 2 blocks) or ``random``, which may
            name its seed, as in ``random:3``.
        power: a of the filter: 1 is as encoded, 0 white, above 1 steeper.
        ramp_from: a at the first step, where it moves: in a straight line to ``power``. The network is not told, and
            knows the last path best, so all samples are drawn with ``power``, those along the training too.
        ramp: The share of the steps that it moves over; 0: it does not.
        parts: Which of N (noise path), L (loss weight) and C (network's coordinates) the filter changes; ``NLC`` is the
            filter, ``NL`` coloured noise in its metric.
        filter: A JSON file with the noise's energy at each frequency, nested lists of the latent's height and width (of
            a clip, frames first), in place of a power: the gain is its inverse root, not scaled.
        surrogate: Made-up latents in place of the real: ``phase`` (the sign of every DCT coefficient is random, the
            same for all channels: energies stay, structure goes) or ``gaussian`` (of the same mean and covariance).
        white_channels: Channels of white noise that are appended, and dropped before decoding.

    Raises:
        SettingsError: A value that cannot be used.
    """

    mask: str = "none"
    power: float = 1.0
    ramp_from: float = 1.0
    ramp: float = 0.0
    parts: str = "NLC"
    filter: str = ""
    surrogate: str = "none"
    white_channels: int = 0

    def __post_init__(self) -> None:
        name, _, number = self.mask.partition(":")
        if name not in MASKS or (number and (name != "random" or not number.isdecimal())) or self.mask.endswith(":"):
            raise SettingsError(f"mask is one of {', '.join(MASKS)} or random:SEED, got {self.mask!r}")
        for what in ("power", "ramp_from"):
            if not math.isfinite(getattr(self, what)):
                raise SettingsError(f"{what} must be a finite number, got {getattr(self, what)}")
        if not 0 <= self.ramp <= 1:
            raise SettingsError(f"ramp is a share of the steps, 0 to 1, got {self.ramp}")
        if not self.ramp and self.ramp_from != 1:
            raise SettingsError(f"ramp_from {self.ramp_from} needs a ramp, the share of the steps that it moves over")
        if not self.parts or self.parts != "".join(part for part in "NLC" if part in self.parts):
            raise SettingsError(f"parts are some of N, L and C in this order, such as NL, got {self.parts!r}")
        if self.filter and self.filters:
            raise SettingsError(f"filter {self.filter} takes the place of a power, got power {self.power} too")
        if self.surrogate not in SURROGATES:
            raise SettingsError(f"surrogate is one of {', '.join(SURROGATES)}, got {self.surrogate!r}")
        if self.white_channels < 0:
            raise SettingsError(f"white_channels must not be negative, got {self.white_channels}")

    @property
    def filters(self) -> bool:
        """Whether a power does anything."""
        return self.power != 1 or (self.ramp > 0 and self.ramp_from != 1)

    @property
    def changes_path(self) -> bool:
        """Whether mask or filter do anything; made-up latents and channels are latents as any others."""
        return self.mask != "none" or self.filters or bool(self.filter)

    def power_at(self, step: int, steps: int) -> float:
        """a at a step, from 0, of a run of so many."""
        moving = self.ramp * steps
        if step >= moving:
            return self.power
        return self.ramp_from + (self.power - self.ramp_from) * step / moving

    def identity(self) -> dict[str, Any]:
        """What differs from the defaults, as plain values that make a run what it is; of a file its contents' digest.

        What has no effect is left out: the parts of no filter, and a ramp from a power to itself.
        """
        said = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        if not (self.filters or self.filter):
            said = {name: value for name, value in said.items() if name not in ("parts", "ramp", "ramp_from")}
        if self.filter:
            said["filter"] = digest_json(read_filter(self.filter).tolist())[:12]
        return said


AS_ENCODED = Reshaping()


def parse_noise_spectrum(text: str) -> Reshaping:
    """Coloured noise in its metric (N and L) from words: ``0.5``, ``0.5:1.25``, ``0.5:1.25:0.4`` or ``FILE.json``.

    Two numbers are a schedule over the first 60% of the steps, a third is another share. Anything else is a
    ``SettingsError``.
    """
    if text.endswith(".json"):
        return Reshaping(filter=text, parts="NL")
    try:
        numbers = [float(word) for word in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return Reshaping(power=numbers[0], parts="NL")
    if len(numbers) not in (2, 3):
        wanted = "A, START:END, START:END:SHARE or FILE.json"
        raise SettingsError(f"the noise's spectrum is given as {wanted}, got {text!r}")
    start, end, ramp = (*numbers, RAMP)[:3]
    return Reshaping(power=end, ramp_from=start, ramp=ramp, parts="NL")


def read_filter(path: str | Path) -> Tensor:
    """The energies in a filter's file, float64, two or three axes; a ``SettingsError`` for anything else."""
    try:
        energies = torch.tensor(json.loads(Path(path).read_text(encoding="utf-8")), dtype=torch.float64)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{path} cannot be read as a filter ({first_line(error)})") from error
    if energies.ndim not in (2, 3):
        raise SettingsError(f"{path}: a filter is lists of lists of numbers, got {energies.ndim} axes")
    return check_energies(energies, str(path))


def check_energies(energies: Tensor, where: str) -> Tensor:
    """Refuse energies that are not finite, or nothing beside the others, and say at which frequency."""
    least = max(1e-12 * energies.nan_to_num(0, 0, 0).max().item(), 0.0)  # what rounding leaves of zero lies below
    bad = (~(energies > least) | ~energies.isfinite()).nonzero().tolist()
    if bad:
        value = energies[tuple(bad[0])].item()
        raise SettingsError(f"{where}: the energy at frequency {tuple(bad[0])} is {value:g}, it must be positive")
    return energies


def measure_energies(latents: Latents) -> Tensor:
    r"""Mean energy :math:`\lambda_k` of normalised posterior samples at each frequency, ``(h, w)`` or ``(t, h, w)``.

    float64, over all channels and 2048 items spread evenly over all, as the channels' statistics are. A frequency
    without energy is a ``SettingsError``.
    """
    axes = len(latents.shape) - 1
    total, count = torch.zeros(latents.shape[1:], dtype=torch.float64), 0
    for z in sample_posteriors(latents):
        d = whole_dct(latents.normalise(z).double(), axes)
        total += d.square().sum((0, 1))
        count += d.shape[0] * d.shape[1]
    return check_energies(total / count, "these latents")


def filter_gains(energies: Tensor, power: float) -> Tensor:
    r""":math:`g_k` of the module's second formula, float64: energies :math:`\lambda^a` at the same sum."""
    return (energies.pow(power - 1) * energies.sum() / energies.pow(power).sum()).sqrt()


def make_mask(name: str, height: int, width: int) -> Tensor:
    """The signs of a mask, ``(h, w)``, +1 or -1 in float32; see :class:`Reshaping`."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    kind, _, number = name.partition(":")
    if kind == "random":
        odd = torch.randint(2, (height, width), generator=stream(int(number or 0), "mask", 0))
    else:
        odd = {"none": 0 * x, "rows": y, "checkerboard": x + y, "blocks": x // 2 + y // 2}[kind]
    return 1 - 2 * (odd % 2).float()


class Coordinates(nn.Module):
    """Mask and filter at one step: between a latent's coordinates and the network's, ``(N, C, ...)`` in and out.

    Args:
        shape: Of one latent.
        mask: Signs ``(h, w)``, or ``None``.
        gains: Of each frequency, ``(h, w)`` or ``(t, h, w)``, or ``None``.
        parts: See :class:`Reshaping`.
    """

    def __init__(self, shape: Sequence[int], mask: Tensor | None, gains: Tensor | None, parts: str) -> None:
        super().__init__()
        self.axes = len(shape) - 1
        self.n, self.l, self.c = (part in parts for part in "NLC")
        self.register_buffer("mask", mask)
        self.register_buffer("gains", None if gains is None else gains.float())

    def _filter(self, x: Tensor, exponent: int) -> Tensor:
        if self.gains is None or exponent == 0:
            return x
        gains = self.gains if exponent > 0 else 1 / self.gains
        return whole_idct(whole_dct(x, self.axes) * gains, self.axes)

    def _signs(self, x: Tensor) -> Tensor:
        return x if self.mask is None else x * self.mask

    def colour(self, noise: Tensor) -> Tensor:
        """White noise to this path's, in the latents' coordinates."""
        return self._filter(noise, -self.n)

    def enter(self, x: Tensor) -> Tensor:
        """Latents to what the network sees."""
        return self._signs(self._filter(x, self.c))

    def leave(self, v: Tensor) -> Tensor:
        """The network's answer to a velocity of latents."""
        return self._filter(self._signs(v), -self.c)

    def compare(self, answer: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The network's answer and the velocity of latents that it should be, both in the metric of the loss."""
        return self._filter(self._signs(answer), self.l - self.c), self._filter(target, self.l)


def absorb_mask(network: nn.Module, mask: Tensor) -> None:
    r"""Signs that repeat in every token, put into a network's weights, in place.

    Its first and last layer, whose weights are W, V and bias b, see a token's numbers and nothing else, so that

    .. math:: W \leftarrow W\, \mathrm{diag}(s), \qquad V \leftarrow \mathrm{diag}(s)\, V, \qquad b \leftarrow s\, b

    with s the signs within a token gives a network f' with :math:`M f'(M x, t) = f(x, t)`: what a mask does inside a
    token is the same network under another name. Signs that differ between tokens are a ``SettingsError``.

    Args:
        network: A transformer on patches, ``DiT`` or ``UViT``, of velocities.
        mask: ``(h, w)``, such as from :func:`make_mask`.
    """
    tokens = patchify(mask[None, None], network.patch)[0]  # (L, p * p)
    if (tokens != tokens[0]).any():
        size = f"{network.patch} x {network.patch}"
        raise SettingsError(f"these signs of {tuple(mask.shape)} differ between tokens of {size}, no weight has them")
    signs = tokens[0].repeat_interleave(network.in_channels).to(network.embed.weight)
    with torch.no_grad():
        network.embed.weight.mul_(signs)
        network.out.weight.mul_(signs[:, None])
        network.out.bias.mul_(signs)


class Spectrum:
    """Mask and filter of a run: :meth:`at` a step, and :attr:`last`, as samples are drawn.

    Args:
        reshaping: What was chosen.
        shape: Of one latent.
        steps: Of the run.
        energies: What :func:`find_energies` returned.
        device: Where to compute.
    """

    def __init__(
        self,
        reshaping: Reshaping,
        shape: Sequence[int],
        steps: int,
        energies: Tensor | None,
        device: str | torch.device = "cpu",
    ) -> None:
        if energies is not None and tuple(energies.shape) != tuple(shape[1:]):
            raise SettingsError(f"a filter of {tuple(energies.shape)} frequencies is not for latents {tuple(shape)}")
        self.reshaping, self.shape, self.steps, self.device = reshaping, tuple(shape), steps, device
        self.energies = None if energies is None else energies.double().cpu()
        self._mask = None if reshaping.mask == "none" else make_mask(reshaping.mask, *shape[-2:])
        self._made: dict[float, Coordinates] = {}

    @property
    def last(self) -> Coordinates:
        """At the end of the run."""
        return self.at(self.steps)

    def at(self, step: int) -> Coordinates:
        """At a step, on the device."""
        power = self.reshaping.power_at(step, self.steps)
        if power not in self._made:
            made = Coordinates(self.shape, self._mask, self._gains(power), self.reshaping.parts).to(self.device)
            self._made = {power: made}  # a schedule asks for another at every step
        return self._made[power]

    def _gains(self, power: float) -> Tensor | None:
        if self.energies is None:
            return None
        return self.energies.rsqrt() if self.reshaping.filter else filter_gains(self.energies, power)


def find_energies(reshaping: Reshaping, latents: Latents) -> Tensor | None:
    """What the filter is made of: the noise's energies from its file, the latents' measured, or ``None`` without."""
    if reshaping.filter:
        return read_filter(reshaping.filter)
    return measure_energies(latents) if reshaping.filters else None


class Reshaped(nn.Module):
    """A denoiser whose network lives in other coordinates, called as any other: latents in, their velocity out.

    Its path starts from :meth:`colour` of white noise. ``network`` is what was trained.
    """

    def __init__(self, network: nn.Module, coordinates: Coordinates) -> None:
        super().__init__()
        self.network, self.coordinates = network, coordinates

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, *, hint: Tensor | None = None, with_hint: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        v, after = self.network(self.coordinates.enter(x), t, y, hint=hint, with_hint=True)
        v = self.coordinates.leave(v.to(x.dtype))
        return (v, after) if with_hint else v

    def colour(self, noise: Tensor) -> Tensor:
        """White noise to where the model's path starts, at t = 1."""
        return self.coordinates.colour(noise)


def colour_noise(model: nn.Module, noise: Tensor) -> Tensor:
    """White noise ``(N, *shape)`` to what a model's path has at t = 1: the noise itself, but for :class:`Reshaped`."""
    return model.colour(noise) if isinstance(model, Reshaped) else noise


# ---------------------------------------------------------------------------------------------------------------------
# Latents that are made up


class SurrogateLatents(Latents):
    """Latents without the structure of the real ones; their posteriors' standard deviations stay.

    Args:
        real: The latents.
        kind: ``"phase"`` or ``"gaussian"``, see :class:`Reshaping`.
        like: Whose mean, covariance and statistics to take where ``real`` are too few, such as held-out ones.
        seed: Of the made-up latents; each is a function of it and its index.

    Gaussian latents of more than 4096 numbers, or of fewer items than numbers, are a ``SettingsError``.
    """

    def __init__(self, real: Latents, kind: str, like: Latents | None = None, seed: int = 0) -> None:
        super().__init__(len(real), real.shape, real.class_names, real.identity | {"surrogate": kind}, flips=False)
        like = real if like is None else like
        self.real, self.kind, self.seed, self.statistics = real, kind, seed, like.statistics
        if kind == "gaussian":
            self._mean, self._root = _gaussian(like)

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, std, y = self.real._read(indices, flipped)
        streams = [stream(self.seed, f"{self.kind} surrogate", i) for i in indices]
        if self.kind == "phase":
            axes = len(self.shape) - 1
            signs = torch.stack([torch.randint(2, self.shape[1:], generator=s) for s in streams])[:, None] * 2 - 1
            # Of the normalised latent, so that a channel's own mean is not taken for structure.
            return self.denormalise(whole_idct(whole_dct(self.normalise(mean), axes) * signs, axes)), std, y
        drawn = torch.stack([torch.randn(math.prod(self.shape), generator=s) for s in streams])
        return (self._mean + drawn @ self._root.T).reshape(mean.shape), std, y


def _gaussian(latents: Latents) -> tuple[Tensor, Tensor]:
    """Mean ``(D,)`` of the posteriors' means, and a root ``(D, D)`` of their covariance, D numbers in a latent."""
    numbers = math.prod(latents.shape)
    if numbers > LARGEST_COVARIANCE or len(latents) <= numbers:
        size = f"a covariance of {numbers} numbers, of at most {LARGEST_COVARIANCE}, from more latents than that"
        raise SettingsError(f"a gaussian surrogate needs {size}, there are {len(latents)}")
    total, square = torch.zeros(numbers, dtype=torch.float64), torch.zeros(numbers, numbers, dtype=torch.float64)
    for start in range(0, len(latents), 256):
        x = latents.posterior(range(start, min(len(latents), start + 256)))[0].flatten(1).double()
        total += x.sum(0)
        square += x.T @ x
    mean = total / len(latents)
    values, vectors = torch.linalg.eigh(square / len(latents) - torch.outer(mean, mean))
    return mean.float(), (vectors * values.clamp_min(0).sqrt()).float()


class WhiteChannels(Latents):
    """Latents with channels of white noise after their own, drawn anew at every step."""

    def __init__(self, real: Latents, count: int) -> None:
        shape = (real.shape[0] + count, *real.shape[1:])
        super().__init__(len(real), shape, real.class_names, real.identity | {"white_channels": count}, real.flips)
        self.real, self.count = real, count

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        mean, std = self.real.statistics
        return torch.cat([mean, torch.zeros(self.count)]), torch.cat([std, torch.ones(self.count)])

    def at(self, step: int) -> Latents:
        now = self.real.at(step)
        return self if now is self.real else WhiteChannels(now, self.count)

    def _read(self, indices: Sequence[int], flipped: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        mean, std, y = self.real._read(indices, flipped)
        own = mean[:, :1].expand(-1, self.count, *mean.shape[2:])
        return torch.cat([mean, torch.zeros_like(own)], 1), torch.cat([std, torch.ones_like(own)], 1), y


def make_up(latents: Latents, reshaping: Reshaping, like: Latents | None = None) -> Latents:
    """The latents that a denoiser is given: themselves, or a surrogate, with white channels where they are asked for.

    Of held-out latents ``like`` are those that were trained on. A curriculum's surrogate is a ``SettingsError``.
    """
    if reshaping.surrogate != "none":
        if latents.at(0) is not latents:
            raise SettingsError(f"a {reshaping.surrogate} surrogate has no curriculum: its images cannot be low-passed")
        # Of another seed than those that were trained on, or gaussian ones would be the same latents.
        latents = SurrogateLatents(latents, reshaping.surrogate, like, seed=0 if like is None else 1)
    return WhiteChannels(latents, reshaping.white_channels) if reshaping.white_channels else latents


# ---------------------------------------------------------------------------------------------------------------------
# On the disk


def describe(spectrum: Spectrum) -> dict[str, Any]:
    """All that :func:`restore` needs, as plain values: what was chosen and what was measured."""
    energies = None if spectrum.energies is None else spectrum.energies.tolist()
    return {"chosen": choice(spectrum.reshaping), "energies": energies}


def choice(reshaping: Reshaping) -> dict[str, Any]:
    """All fields as plain values, of a file its contents' digest."""
    return asdict(reshaping) | {"filter": reshaping.identity().get("filter", "")}


def restore(found: Mapping[str, Any], shape: Sequence[int], device: str | torch.device = "cpu") -> Spectrum:
    """The spectrum that was described, at the end of its run; a ``SettingsError`` where the values are not such."""
    try:
        chosen, energies = Reshaping(**found["chosen"]), found["energies"]
        energies = None if energies is None else torch.tensor(energies, dtype=torch.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"no mask or filter can be read ({first_line(error)})") from error
    if (energies is None) is (chosen.filters or bool(chosen.filter)):
        raise SettingsError("a filter needs the energies that it was made of, and nothing else does")
    return Spectrum(chosen, shape, 0, None if energies is None else check_energies(energies, "the filter"), device)
