"""One face over every autoencoder: encode to a posterior, decode, latent shape and normalisation."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn

from diffusab_core.autoencoders.families import AutoencoderError, Family, Posterior, family_of, shift_and_scale


@dataclass(frozen=True)
class Autoencoder:
    r"""An autoencoder, whatever its class: one of diffusers', one's own, or another one changed.

    Video autoencoders take clips, and images as clips of one frame: the time axis of a latent is there exactly if it is
    there in what was encoded or is to be decoded.

    Attributes:
        name: What it was loaded as; labels figures.
        module: The model itself; :mod:`diffusab_core.autoencoders.families` says what its class asks of a training.
        family: How its class is used; ``None``: as the diffusers class of the module, if that is supported.
    """

    name: str
    module: nn.Module
    family: Family = None

    def __post_init__(self) -> None:
        if self.family is None:
            object.__setattr__(self, "family", family_of(type(self.module).__name__, self.name))

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

    def latent_shape(self, height: int, width: int, frames: int | None = None) -> tuple[int, ...]:
        """Shape of the latent of one image, ``(C, h, w)``, or of one clip, ``(C, t, h, w)``; sides in pixels.

        An ``AutoencoderError`` for a side that is not a positive multiple of the compression, or a length that is not
        one more than a multiple of :attr:`clip_step`.
        """
        f = self.compression
        if height < f or width < f or height % f or width % f:
            wrong = f"both sides must be positive multiples of {f}, got {height} x {width}"
            raise AutoencoderError(f"{self.name} compresses {f} x {f}, so {wrong}; crop or resize the images")
        sides = (height // f, width // f)
        if frames is None:
            return self.latent_channels, *sides
        if not self.takes_clips:
            instead = "move the frames to the batch"
            raise AutoencoderError(f"{self.name} encodes images, not clips of {frames} frames; {instead}")
        step = self.clip_step
        if frames < 1 or frames % step != 1 % step:
            shorter = max(1, (frames - 1) // step * step + 1)
            instead = f"cut to {shorter} or pad to {shorter + step}"
            raise AutoencoderError(f"{self.name} takes clips of {step}k + 1 frames, got {frames}; {instead}")
        return self.latent_channels, 1 + (frames - 1) // self.temporal_compression, *sides

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
        if clip or not self.takes_clips:
            return self.family.encode(self.module, x)
        posterior = self.family.encode(self.module, x.unsqueeze(2))
        return Posterior(posterior.mean.squeeze(2), posterior.std.squeeze(2))

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents ``(N, C, h, w)`` to images ``(N, 3, fh, fw)``, nominally in [-1, 1], not clamped.

        A video autoencoder also takes latents of clips ``(N, C, t, h, w)``, to clips ``(N, 3, T, fh, fw)``. An
        ``AutoencoderError`` without a decoder, and for what are not latents of this autoencoder or not of whole clips.
        """
        if not self.decodes:
            raise AutoencoderError(f"{self.name} has no decode(z)")
        clip = z.ndim == 5 and self.takes_clips
        if not (z.ndim == 4 or clip) or z.shape[1] != self.latent_channels:
            c = self.latent_channels
            kinds = f"(N, {c}, h, w)" + (f" or (N, {c}, t, h, w)" if self.takes_clips else "")
            raise AutoencoderError(f"{self.name} decodes latents {kinds}, got {tuple(z.shape)}")
        if clip and (z.shape[2] - 1) * self.temporal_compression % self.clip_step:
            wrong = f"{self.clip_step}k + 1 frames, and {z.shape[2]} latent frames are not those of one"
            whole = f"{self.clip_step // self.temporal_compression}k + 1"
            raise AutoencoderError(f"{self.name} makes clips of {wrong}; give {whole}")
        if clip or not self.takes_clips:
            return self.family.decode(self.module, z)
        return self.family.decode(self.module, z.unsqueeze(2)).squeeze(2)

    def normalise(self, z: Tensor) -> Tensor:
        """Raw latents to mean 0 and variance 1 by :func:`~diffusab_core.autoencoders.families.shift_and_scale`."""
        shift, scale = shift_and_scale(self.module, z)
        return (z - shift) * scale

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, back to what :meth:`decode` takes."""
        shift, scale = shift_and_scale(self.module, z)
        return z / scale + shift

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.module.parameters()

    def place(self, x: Tensor) -> Tensor:
        """``x`` on the module's device and in its precision; as it is where there are no weights to ask."""
        weight = next(chain(self.module.parameters(), self.module.buffers()), x)
        return x.to(weight.device, weight.dtype)

    def frozen_for_finetuning(self, up_blocks: int = 0) -> tuple[str, ...]:
        """Names of the parameters that the paper's fine-tuning leaves as they are: the end of the decoder.

        It was trained adversarially and paints the texture that FID sees; frozen, it keeps that out of the comparison:
        the last normalisation, the output convolution and the last ``up_blocks`` of those up blocks that have
        parameters (Skorokhodov et al. 2025, App. B and Table 5: 1 for FluxAE, 3 for CMS-AE_I, else 0).
        """
        up = getattr(getattr(self.module, "decoder", None), "up_blocks", ())
        blocks = [f"decoder.up_blocks.{i}" for i, b in enumerate(up) if next(b.parameters(), None) is not None]
        if not 0 <= up_blocks <= len(blocks):
            raise AutoencoderError(f"the decoder has {len(blocks)} up blocks, {up_blocks} of them cannot be frozen")
        from_output = blocks if self.family.up_blocks_reversed else blocks[::-1]
        frozen = tuple(f"{name}." for name in (*self.family.last_layers, *from_output[:up_blocks]))
        return tuple(name for name, _ in self.module.named_parameters() if name.startswith(frozen))

    def trainable_count(self, frozen: Collection[str] = ()) -> int:
        """Number of parameters (scalars) without those named in ``frozen``; an ``AutoencoderError`` for other names."""
        sizes = {name: parameter.numel() for name, parameter in self.module.named_parameters()}
        if unknown := sorted(set(frozen) - sizes.keys()):
            raise AutoencoderError(f"the module has no parameter {unknown[0]!r}")
        return sum(size for name, size in sizes.items() if name not in frozen)
