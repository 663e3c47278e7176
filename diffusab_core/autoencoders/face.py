"""One face over every autoencoder: encode to a posterior, decode, latent shape and normalisation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from diffusab_core.autoencoders.families import Family, Posterior, family_of
from diffusab_core.autoencoders.names import AutoencoderError


@dataclass(frozen=True)
class Decoding:
    """How a decoder that samples is to do it.

    Attributes:
        steps: Steps of the sampler; ``None``: as the model's configuration says.
        guidance: Guidance on z, 1 being none; ``None``: as the model's configuration says.
        seed: Seed of the noise, which depends on the image's index, too.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Autoencoder:
    r"""An autoencoder, whatever its class: one of diffusers', one's own, or another one changed.

    Video autoencoders take clips, and images as clips of one frame: the time axis of a latent is there exactly if it is
    there in what was encoded or is to be decoded.

    Attributes:
        name: What it was loaded as; labels figures.
        module: The model itself; :mod:`diffusab_core.autoencoders.families` says what its class asks of a training.
        family: How its class is used; ``None``: as the diffusers class of the module, if that is supported.
        factory: ``path/to/file.py:function`` that built the module, if one did.
        decoding: How :meth:`decode` samples where its decoder does; see :meth:`with_decoding`.

    Raises:
        AutoencoderError: The module's class is not supported, or its images are neither RGB nor grey.
    """

    name: str
    module: nn.Module
    family: Family = None
    factory: str | None = None
    decoding: Decoding = Decoding()

    def __post_init__(self) -> None:
        if self.family is None:
            object.__setattr__(self, "family", family_of(type(self.module).__name__, self.name))
        fit = {(1, 1), (3, 3)} | ({(4, 4)} if self.family.has_alpha else set())
        if (channels := self.family.image_channels(self.module)) not in fit:
            kinds = "{}-channel images to {}-channel ones".format(*channels)
            raise AutoencoderError(f"{self.name} maps {kinds}; what can be used maps RGB to RGB or grey to grey")

    @property
    def compression(self) -> int:
        """How many times smaller the latent's sides are than the image's (f)."""
        return self.family.compression(self.module)

    @property
    def latent_channels(self) -> int:
        """Channels of the latent (C)."""
        return self.family.latent_channels(self.module)

    @property
    def decodes(self) -> bool:
        """Whether it has a decoder; one's own model may have none."""
        return self.family.decode is not None

    @property
    def decoder_samples(self) -> bool:
        """Whether its decoder samples, so that a picture depends on steps, guidance, seed and its index, too."""
        return self.family.decoder_samples

    @property
    def takes_clips(self) -> bool:
        """Whether it is a video autoencoder."""
        return self.family.temporal_compression is not None

    @property
    def temporal_compression(self) -> int:
        """How many frames become one latent frame, after the first, which is one by itself; 1 for images only."""
        return self.family.temporal_compression(self.module) if self.takes_clips else 1

    @property
    def clip_step(self) -> int:
        """Clips have a multiple of this many frames, plus one."""
        step = self.family.clip_step
        return self.temporal_compression if step is None else step(self.module)

    @property
    def is_grey(self) -> bool:
        """Whether it sees brightness only, and gives the three channels of an image the same values."""
        return self.family.image_channels(self.module)[0] == 1

    def as_seen(self, x: Tensor) -> Tensor:
        """Images ``(..., 3, H, W)``, or clips with ``T`` after the 3, as far as the model can see them: in colour as
        they are, else in grey (ITU-R BT.601), which is what it is judged against."""
        if not self.is_grey:
            return x
        axis = -4 if x.ndim == 5 else -3
        weights = x.new_tensor([0.299, 0.587, 0.114]).reshape(-1, *[1] * (-axis - 1))
        return (x * weights).sum(axis, keepdim=True).expand(x.shape)

    def latent_shape(self, height: int, width: int, frames: int | None = None) -> tuple[int, ...]:
        """Shape of the latent of one image, ``(C, h, w)``, or of one clip, ``(C, t, h, w)``; sides in pixels.

        An ``AutoencoderError`` for a side that is not a positive multiple of the compression, or a length that does not
        fit :attr:`clip_step`.
        """
        f, side = self.compression, self.family.side
        if side is not None and (height, width) != (side(self.module),) * 2:
            n = side(self.module)
            raise AutoencoderError(
                f"{self.name} takes images of {n} x {n} only, got {height} x {width}: resize them (--resolution {n})"
            )
        if height < f or width < f or height % f or width % f:
            wrong = f"both sides must be positive multiples of {f}, got {height} x {width}"
            raise AutoencoderError(f"{self.name} compresses {f} x {f}, so {wrong}; crop or resize the images")
        sides = (height // f, width // f)
        if frames is None:
            return self.latent_channels, *sides
        if not self.takes_clips:
            instead = "take a video autoencoder, or move the frames to the batch"
            raise AutoencoderError(f"{self.name} encodes images, not clips of {frames} frames; {instead}")
        step, first = self.clip_step, int(self.family.first_frame_alone)
        if frames < 1 or frames % step != first % step:
            shorter = max(first or step, (frames - first) // step * step + first)
            instead = f"cut to {shorter} or pad to {shorter + step}"
            raise AutoencoderError(f"{self.name} takes clips of {self._lengths(step)} frames, got {frames}; {instead}")
        return self.latent_channels, first + (frames - first) // self.temporal_compression, *sides

    def _lengths(self, step: int) -> str:
        return f"{step}k + 1" if self.family.first_frame_alone else f"{step}k"

    def encode(self, x: Tensor) -> Posterior:
        """Images ``(N, 3, H, W)`` in [-1, 1] to the posterior of their latents ``(N, C, H/f, W/f)``.

        A video autoencoder also takes clips ``(N, 3, T, H, W)``, to latents ``(N, C, t, H/f, W/f)``. An
        ``AutoencoderError`` for what is no batch of either, or of a size that :meth:`latent_shape` refuses.
        """
        clip = x.ndim == 5 and self.takes_clips
        if not (x.ndim == 4 or clip) or x.shape[1] != 3:
            kinds = "images (N, 3, H, W)" + (" or clips (N, 3, T, H, W)" if self.takes_clips else "")
            raise AutoencoderError(f"{self.name} encodes {kinds}, got shape {tuple(x.shape)}")
        self.latent_shape(*x.shape[-2:], frames=x.shape[2] if clip else None)
        x = self._to_channels(x)
        if clip or not self.takes_clips:
            return self.family.encode(self.module, x)
        still = 1 if self.family.first_frame_alone else self.temporal_compression
        posterior = self.family.encode(self.module, x.unsqueeze(2).expand(-1, -1, still, -1, -1))
        return Posterior(posterior.mean.squeeze(2), posterior.std.squeeze(2))

    def _to_channels(self, x: Tensor) -> Tensor:
        channels = self.family.image_channels(self.module)[0]
        if channels == 1:
            return self.as_seen(x)[:, :1]
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1) if channels == 4 else x  # opaque

    def _from_channels(self, y: Tensor) -> Tensor:
        return y.expand(len(y), 3, *y.shape[2:]) if self.is_grey else y[:, :3]

    def with_decoding(self, **how: Any) -> Autoencoder:
        """The same, decoding otherwise: see :class:`Decoding`.

        An ``AutoencoderError`` for steps or guidance of a decoder that does not sample; a seed changes nothing there.
        """
        asked = [name for name in ("steps", "guidance") if how.get(name) is not None]
        if asked and not self.decoder_samples:
            raise AutoencoderError(f"{self.name} decodes in one pass, so there are no {asked[0]} to choose")
        return replace(self, decoding=replace(self.decoding, **how))

    def decode_in_order(self, start: int = 0) -> Callable[[Tensor], Tensor]:
        """:meth:`decode` for batches of many images, one after the other, whose indices begin with ``start``.

        So a picture does not depend on how the images were cut into batches.
        """
        place = start

        def decode(z: Tensor) -> Tensor:
            nonlocal place
            first, place = place, place + len(z)
            return self.decode(z, index=range(first, place))

        return decode

    def decode(self, z: Tensor, *, index: Sequence[int] | None = None, **how: Any) -> Tensor:
        """Raw latents ``(N, C, h, w)`` to images ``(N, 3, fh, fw)``, nominally in [-1, 1], not clamped.

        A video autoencoder also takes latents of clips ``(N, C, t, h, w)``, to clips ``(N, 3, T, fh, fw)``. An
        ``AutoencoderError`` without a decoder, and for what are not latents of this autoencoder or not of whole clips.

        Args:
            z: The latents.
            index: Which images they are, where the decoder samples; by default 0, 1, ... in each call.
            how: ``steps``, ``guidance`` and ``seed`` in place of :attr:`decoding`'s, see :meth:`with_decoding`.
        """
        if how:
            return self.with_decoding(**how).decode(z, index=index)
        if not self.decodes:
            raise AutoencoderError(f"{self.name} has no decode(z)")
        clip = z.ndim == 5 and self.takes_clips
        if not (z.ndim == 4 or clip) or z.shape[1] != self.latent_channels:
            c = self.latent_channels
            kinds = f"(N, {c}, h, w)" + (f" or (N, {c}, t, h, w)" if self.takes_clips else "")
            raise AutoencoderError(f"{self.name} decodes latents {kinds}, got {tuple(z.shape)}")
        if clip and (z.shape[2] - self.family.first_frame_alone) * self.temporal_compression % self.clip_step:
            wrong = f"{self._lengths(self.clip_step)} frames, and {z.shape[2]} latent frames are not those of one"
            whole = self._lengths(self.clip_step // self.temporal_compression)
            raise AutoencoderError(f"{self.name} makes clips of {wrong}; give {whole}")
        if self.decoder_samples:
            return self._from_channels(self.family.decode(self.module, z, index=index, **asdict(self.decoding)))
        if clip or not self.takes_clips:
            return self._from_channels(self.family.decode(self.module, z))
        # The frames of a still clip are all decodings of the image; the first stands for it.
        return self._from_channels(self.family.decode(self.module, z.unsqueeze(2))[:, :, :1].squeeze(2))

    def normalise(self, z: Tensor) -> Tensor:
        """Raw latents to mean 0 and variance 1 by :func:`~diffusab_core.autoencoders.families.shift_and_scale`."""
        shift, scale = self.family.shift_and_scale(self.module, z)
        return (z - shift) * scale

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, back to what :meth:`decode` takes."""
        shift, scale = self.family.shift_and_scale(self.module, z)
        return z / scale + shift

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()

    def place(self, x: Tensor) -> Tensor:
        """``x`` on the module's device and in its precision; as it is where there are no weights to ask."""
        weight = next(chain(self.module.parameters(), self.module.buffers()), x)
        return x.to(weight.device, weight.dtype)

    def last_layers(self) -> tuple[str, ...]:
        """Names of the decoder's last normalisation and output convolution."""
        last = self.family.last_layers
        return last(self.module) if callable(last) else last

    def frozen_for_finetuning(self, up_blocks: int = 0) -> tuple[str, ...]:
        """Names of the parameters that the paper's fine-tuning leaves as they are: the end of the decoder.

        It was trained adversarially and paints the texture that FID sees; frozen, it keeps that out of the comparison:
        the last normalisation, the output convolution and the last ``up_blocks`` of those up blocks that have
        parameters (Skorokhodov et al. 2025, App. B and Table 5: 1 for FluxAE, 3 for CMS-AE_I, else 0).
        """
        called = self.family.up_blocks
        up = getattr(getattr(self.module, "decoder", None), called[0], ())
        blocks = [i for i, block in enumerate(up) if next(block.parameters(), None) is not None]
        if not 0 <= up_blocks <= len(blocks):
            raise AutoencoderError(f"the decoder has {len(blocks)} up blocks, {up_blocks} of them cannot be frozen")
        from_output = blocks if self.family.up_blocks_reversed else blocks[::-1]
        names = [f"decoder.{name}.{i}" for i in from_output[:up_blocks] for name in called]
        frozen = tuple(f"{name}." for name in (*self.last_layers(), *names))
        return tuple(name for name, _ in self.module.named_parameters() if name.startswith(frozen))

    def trainable_count(self, frozen: Collection[str] = ()) -> int:
        """Number of parameters (scalars) without those named in ``frozen``; an ``AutoencoderError`` for other names."""
        sizes = {name: parameter.numel() for name, parameter in self.module.named_parameters()}
        if unknown := sorted(set(frozen) - sizes.keys()):
            raise AutoencoderError(f"the module has no parameter {unknown[0]!r}")
        return sum(size for name, size in sizes.items() if name not in frozen)
