r"""One face over every autoencoder: encode to a posterior, decode, latent shape and normalisation.

:func:`load` opens a model from three places: by the name of a shipped one, from a local folder in diffusers' layout,
or by the id of a repository on the Hugging Face hub. What differs between diffusers' classes is kept in
:mod:`diffusab_core.autoencoders.families`, the papers' models in :mod:`diffusab_core.autoencoders.catalogue`; what one
needs of both can be imported from here.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

from diffusab_core.autoencoders import families
from diffusab_core.autoencoders.catalogue import CATALOGUE, CatalogueEntry, FreqWarmRun, Recipe
from diffusab_core.autoencoders.families import FAMILIES, AutoencoderError, Family, Posterior, family_of

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "SHIPPED",
    "WEIGHTS",
    "Autoencoder",
    "AutoencoderError",
    "CatalogueEntry",
    "Family",
    "FreqWarmRun",
    "Posterior",
    "Recipe",
    "load",
]

WEIGHTS = Path(__file__).parent / "weights"

#: Names of the autoencoders that come with the package.
SHIPPED = (
    "kl-f4c16",
    *(f"kl-{shape}" for shape in ("f4c4", "f8c4", "f8c16", "f8c64", "f16c64", "f16c128", "f16c256")),
    *(f"kl-f4c16-beta{beta}" for beta in ("0", "1e-6", "1e-4", "1e-2", "1e-1")),
    # kl-f4c16, fine-tuned 400 steps: plain, with scale equivariance, with chopped high frequencies.
    *(f"kl-f4c16-{method}" for method in ("ft", "se", "chf")),
)


# ---------------------------------------------------------------------------------------------------------------------
# The face


@dataclass(frozen=True)
class Autoencoder:
    r"""An autoencoder, whatever its class.

    Image autoencoders take images. Video autoencoders take clips, and images as clips of one frame: the time axis of
    a latent is there exactly if it is there in what was encoded or is to be decoded.

    Attributes:
        name: What it was loaded as; labels figures.
        module: The diffusers model, for training and for everything this face does not offer. See
            :mod:`diffusab_core.autoencoders.families` for what its class asks of those who train it.
    """

    name: str
    module: nn.Module

    def __post_init__(self) -> None:
        family_of(type(self.module).__name__, self.name)

    @property
    def family(self) -> Family:
        return FAMILIES[type(self.module).__name__]

    @property
    def compression(self) -> int:
        """How many times smaller the latent's sides are than the image's (f)."""
        return self.family.compression(self.module)

    @property
    def latent_channels(self) -> int:
        """Channels of the latent (C)."""
        return self.family.latent_channels(self.module)

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
        """Shape of the latent of one image, ``(C, h, w)``, or of one clip, ``(C, t, h, w)``.

        Args:
            height: In pixels.
            width: In pixels.
            frames: Length of the clip; ``None`` for an image.

        Raises:
            ValueError: A side is not a positive multiple of the compression, or a length is not one more than a
                multiple of :attr:`clip_step`.
        """
        f = self.compression
        if height < f or width < f or height % f or width % f:
            raise ValueError(
                f"{self.name} compresses {f} x {f}, so both sides must be positive multiples of {f}, "
                f"got {height} x {width}; crop or resize the images"
            )
        return self.latent_channels, *self._latent_frames(frames), height // f, width // f

    def _latent_frames(self, frames: int | None) -> tuple[int, ...]:
        if frames is None:
            return ()
        if not self.takes_clips:
            raise ValueError(f"{self.name} encodes images, not clips of {frames} frames; move the frames to the batch")
        step = self.clip_step
        if frames < 1 or frames % step != 1 % step:
            shorter = max(1, (frames - 1) // step * step + 1)
            raise ValueError(
                f"{self.name} takes clips of {step}k + 1 frames, got {frames}; cut to {shorter} or pad to "
                f"{shorter + step}"
            )
        return (1 + (frames - 1) // self.temporal_compression,)

    def encode(self, x: Tensor) -> Posterior:
        """Images ``(N, 3, H, W)`` in [-1, 1] to the posterior of their latents ``(N, C, H/f, W/f)``.

        A video autoencoder also takes clips ``(N, 3, T, H, W)``, to latents ``(N, C, t, H/f, W/f)``.

        Raises:
            ValueError: Not a batch of RGB images or clips, or a size that :meth:`latent_shape` refuses.
        """
        clip = x.ndim == 5 and self.takes_clips
        if not (x.ndim == 4 or clip) or x.shape[1] != 3:
            kinds = "images (N, 3, H, W)" + (" or clips (N, 3, T, H, W)" if self.takes_clips else "")
            raise ValueError(f"{self.name} encodes {kinds}, got shape {tuple(x.shape)}")
        self.latent_shape(*x.shape[-2:], frames=x.shape[2] if clip else None)
        if clip or not self.takes_clips:
            return self.family.encode(self.module, x)
        posterior = self.family.encode(self.module, x.unsqueeze(2))
        return Posterior(posterior.mean.squeeze(2), posterior.std.squeeze(2))

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents ``(N, C, h, w)`` to images ``(N, 3, fh, fw)``, nominally in [-1, 1], not clamped.

        A video autoencoder also takes latents of clips ``(N, C, t, h, w)``, to clips ``(N, 3, T, fh, fw)``.

        Raises:
            ValueError: Not a batch of latents of this autoencoder, or not the latents of whole clips.
        """
        clip = z.ndim == 5 and self.takes_clips
        if not (z.ndim == 4 or clip) or z.shape[1] != self.latent_channels:
            c = self.latent_channels
            kinds = f"(N, {c}, h, w)" + (f" or (N, {c}, t, h, w)" if self.takes_clips else "")
            raise ValueError(f"{self.name} decodes latents {kinds}, got {tuple(z.shape)}")
        if clip and (z.shape[2] - 1) * self.temporal_compression % self.clip_step:
            raise ValueError(
                f"{self.name} takes clips of {self.clip_step}k + 1 frames, and {z.shape[2]} latent frames are not the "
                f"latent of one; give {self.clip_step // self.temporal_compression}k + 1"
            )
        if clip or not self.takes_clips:
            return self.family.decode(self.module, z)
        return self.family.decode(self.module, z.unsqueeze(2)).squeeze(2)

    def normalise(self, z: Tensor) -> Tensor:
        r"""Raw latents to about zero mean and unit variance, :math:`(z - \text{shift}) \cdot \text{scale}`.

        Shift and scale are the model's own, numbers or one for each channel, see
        :func:`diffusab_core.autoencoders.families.shift_and_scale`.
        """
        shift, scale = families.shift_and_scale(self.module, z)
        return (z - shift) * scale

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, back to what :meth:`decode` takes."""
        shift, scale = families.shift_and_scale(self.module, z)
        return z / scale + shift

    def parameters(self) -> Iterator[nn.Parameter]:
        """The module's parameters."""
        return self.module.parameters()

    def frozen_for_finetuning(self, up_blocks: int = 0) -> tuple[str, ...]:
        """See :func:`diffusab_core.autoencoders.families.frozen_for_finetuning`."""
        return families.frozen_for_finetuning(self.module, up_blocks)

    def trainable_count(self, frozen: Collection[str] = ()) -> int:
        """See :func:`diffusab_core.autoencoders.families.trainable_count`."""
        return families.trainable_count(self.module, frozen)


# ---------------------------------------------------------------------------------------------------------------------
# Loading

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load(
    name_or_path: str | os.PathLike,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    subfolder: str | None = None,
) -> Autoencoder:
    """Open an autoencoder, in evaluation mode.

    Only safetensors are read: pickled weights (``.bin``, ``.ckpt``) can run code and are never opened.

    Args:
        name_or_path: A name in :data:`SHIPPED`; or a local folder in diffusers' layout (``config.json`` and
            safetensors); or ``owner/repository`` on the Hugging Face hub. Tried in this order; a folder that has a
            shipped name is opened as ``./name``.
        device: Where to put it.
        dtype: Precision to run it in; the shipped weights are stored in half precision.
        subfolder: Folder inside a folder or repository that holds a whole pipeline, usually ``"vae"``.

    Raises:
        AutoencoderError: It cannot be found, read or used; the message says what to do.
    """
    text = os.fspath(name_or_path)
    if text in SHIPPED:
        if (Path(text) / "config.json").is_file():
            warnings.warn(
                f"{text} is the autoencoder that comes with the package; for the folder of that name write ./{text}",
                stacklevel=2,
            )
        return _open_folder(WEIGHTS / text, text, device, dtype)
    if Path(text).is_dir():
        folder = Path(text) / subfolder if subfolder else Path(text)
        return _open_folder(folder, Path(text).resolve().name, device, dtype)
    if isinstance(name_or_path, str) and _HUB_ID.fullmatch(text):
        return _open_hub(text, subfolder, device, dtype)
    close = difflib.get_close_matches(text, SHIPPED, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    raise AutoencoderError(
        f"no autoencoder {text!r}{guess}: it is not a local folder, not the id of a hub repository (owner/name), "
        f"and not a shipped name ({', '.join(SHIPPED)})"
    )


def _class_name(config: Path, where: str) -> str:
    try:
        class_name = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise AutoencoderError(f"{where}: config.json cannot be read ({error})") from error
    family_of(class_name, where)
    return class_name


def _open_folder(folder: Path, name: str, device: str | torch.device, dtype: torch.dtype) -> Autoencoder:
    if not (folder / "config.json").is_file():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f"; name one of its subfolders with subfolder=: {', '.join(inside)}" if inside else ""
        raise AutoencoderError(f"{folder} holds no config.json, so it is not a diffusers model folder{hint}")
    class_name = _class_name(folder / "config.json", str(folder))
    if not any(folder.glob("diffusion_pytorch_model*.safetensors")):
        pickled = next(iter(sorted([*folder.glob("*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pt")])), None)
        found = f"only {pickled.name}, and pickled weights are never loaded" if pickled else "no weights"
        raise AutoencoderError(
            f"{folder} holds {found}; save the model with save_pretrained(folder, safe_serialization=True)"
        )
    return _from_pretrained(class_name, str(folder), name, device, dtype, local_files_only=True)


def _open_hub(repository: str, subfolder: str | None, device: str | torch.device, dtype: torch.dtype) -> Autoencoder:
    try:
        config = hf_hub_download(repository, "config.json", subfolder=subfolder)
    except hub_errors.GatedRepoError as error:
        raise AutoencoderError(
            f"{repository} asks for its terms to be accepted: do so on its page and log in with `hf auth login`"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise AutoencoderError(
            f"no autoencoder {repository!r}: there is no such local folder, and the hub has no public repository of "
            f"that name (shipped names: {', '.join(SHIPPED)})"
        ) from error
    except hub_errors.RemoteEntryNotFoundError as error:
        raise AutoencoderError(
            f"{repository} has no {subfolder + '/' if subfolder else ''}config.json; if it holds a whole pipeline, "
            "name its autoencoder with subfolder='vae'"
        ) from error
    except Exception as error:  # what a missing network raises depends on proxies, cache and the hub library's version
        raise AutoencoderError(
            f"{repository!r} is neither a local folder nor in the hub's cache, and the hub cannot be reached "
            f"({type(error).__name__}): connect to the network, give a local folder, or use a shipped name "
            f"({', '.join(SHIPPED)})"
        ) from error
    class_name = _class_name(Path(config), repository)
    return _from_pretrained(class_name, repository, repository, device, dtype, subfolder=subfolder)


def _from_pretrained(
    class_name: str, source: str, name: str, device: str | torch.device, dtype: torch.dtype, **options: Any
) -> Autoencoder:
    options |= {"use_safetensors": True, "low_cpu_mem_usage": False, "torch_dtype": dtype}
    try:
        module, info = getattr(diffusers, class_name).from_pretrained(source, output_loading_info=True, **options)
    except Exception as error:  # diffusers raises OSError, ValueError, RuntimeError, SafetensorError ... for bad files
        raise AutoencoderError(f"{source}: the weights cannot be loaded ({_first_line(error)})") from error
    if info["missing_keys"]:  # diffusers would go on with random weights in their place
        missing = info["missing_keys"]
        raise AutoencoderError(f"{source}: the weights lack {len(missing)} tensors, the first is {sorted(missing)[0]}")
    return Autoencoder(name, module.to(device).eval())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
