r"""One face over every autoencoder: encode to a posterior, decode, latent shape and normalisation.

:func:`load` opens a model from three places: by the name of a shipped one, from a local folder in diffusers' layout,
or by the id of a repository on the Hugging Face hub. What differs between diffusers' classes is kept in one small
table, :data:`FAMILIES`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights"

#: Names of the autoencoders that come with the package.
SHIPPED = ("kl-f4c16",)


class AutoencoderError(ValueError):
    """An autoencoder that cannot be found or opened; the message says what was tried and what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# The face


@dataclass(frozen=True)
class Posterior:
    r"""The encoder's diagonal Gaussian :math:`q(z \mid x) = \mathcal N(\mu, \sigma^2)`.

    Attributes:
        mean: :math:`\mu`, :math:`(N, C, h, w)`.
        std: :math:`\sigma`, the same shape; zero for a deterministic autoencoder.
    """

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        r""":math:`z = \mu + \sigma \epsilon`, differentiable in both; the generator must be on their device."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise


@dataclass(frozen=True)
class Family:
    """What has to be known about one diffusers class; all functions take the module first."""

    encode: Callable[[nn.Module, Tensor], Posterior]
    decode: Callable[[nn.Module, Tensor], Tensor]
    compression: Callable[[nn.Module], int]
    latent_channels: Callable[[nn.Module], int]


def _encode_gaussian(module: nn.Module, x: Tensor) -> Posterior:
    posterior = module.encode(x).latent_dist
    return Posterior(posterior.mean, posterior.std)


#: Diffusers' classes by name.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "AutoencoderKL": Family(
            encode=_encode_gaussian,
            decode=lambda module, z: module.decode(z).sample,
            compression=lambda module: 2 ** (len(module.config.block_out_channels) - 1),
            latent_channels=lambda module: module.config.latent_channels,
        ),
    }
)


@dataclass(frozen=True)
class Autoencoder:
    r"""An autoencoder, whatever its class.

    Attributes:
        name: What it was loaded as; labels figures.
        module: The diffusers model, for training and for everything this face does not offer.
    """

    name: str
    module: nn.Module

    def __post_init__(self) -> None:
        _family_of(type(self.module).__name__, self.name)

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

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape ``(C, h, w)`` of one image's latent.

        Raises:
            ValueError: A side is not a positive multiple of the compression.
        """
        f = self.compression
        if height < f or width < f or height % f or width % f:
            raise ValueError(
                f"{self.name} compresses {f} x {f}, so both sides must be positive multiples of {f}, "
                f"got {height} x {width}; crop or resize the images"
            )
        return self.latent_channels, height // f, width // f

    def encode(self, x: Tensor) -> Posterior:
        """Images ``(N, 3, H, W)`` in [-1, 1] to the posterior of their latents ``(N, C, H/f, W/f)``.

        Raises:
            ValueError: Not a batch of RGB images, or sides that are not multiples of the compression.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"{self.name} encodes images (N, 3, H, W), got shape {tuple(x.shape)}")
        self.latent_shape(*x.shape[-2:])
        return self.family.encode(self.module, x)

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents ``(N, C, h, w)`` to images ``(N, 3, fh, fw)``, nominally in [-1, 1], not clamped.

        Raises:
            ValueError: Not a batch of latents of this autoencoder.
        """
        if z.ndim != 4 or z.shape[1] != self.latent_channels:
            raise ValueError(f"{self.name} decodes latents (N, {self.latent_channels}, h, w), got {tuple(z.shape)}")
        return self.family.decode(self.module, z)

    def normalise(self, z: Tensor) -> Tensor:
        r"""Raw latents to about zero mean and unit variance, :math:`(z - \text{shift}) \cdot \text{scale}`.

        Scale and shift are the model's ``scaling_factor`` and ``shift_factor``; a model without a shift has none.
        """
        return (z - self._shift) * self._scale

    def denormalise(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`, back to what :meth:`decode` takes."""
        return z / self._scale + self._shift

    @property
    def _scale(self) -> float:
        return self.module.config.scaling_factor

    @property
    def _shift(self) -> float:
        shift = self.module.config.shift_factor
        return 0.0 if shift is None else shift

    def parameters(self) -> Iterator[nn.Parameter]:
        """The module's parameters."""
        return self.module.parameters()


# ---------------------------------------------------------------------------------------------------------------------
# The paper's models


@dataclass(frozen=True)
class CatalogueEntry:
    """A published autoencoder: its class and configuration, and where its weights are.

    Attributes:
        name: The paper's name for it.
        class_name: The diffusers class.
        config: Arguments of that class.
        hub_id: Repository with the weights, or ``None``.
        subfolder: Folder inside that repository.
    """

    name: str
    class_name: str
    config: Mapping[str, Any] = field(repr=False)
    hub_id: str | None = None
    subfolder: str | None = None

    def build(self) -> nn.Module:
        """The architecture with fresh weights (under ``torch.device("meta")``: without any)."""
        return getattr(diffusers, self.class_name)(**self.config)


#: Autoencoders of the papers by the papers' names. FluxAE: Skorokhodov et al. 2025, Sec. 4 and Table 5.
CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType(
    {
        "FluxAE": CatalogueEntry(
            name="FluxAE",
            class_name="AutoencoderKL",
            config=MappingProxyType(
                {
                    "down_block_types": ("DownEncoderBlock2D",) * 4,
                    "up_block_types": ("UpDecoderBlock2D",) * 4,
                    "block_out_channels": (128, 256, 512, 512),
                    "layers_per_block": 2,
                    "latent_channels": 16,
                    "sample_size": 1024,
                    "scaling_factor": 0.3611,
                    "shift_factor": 0.1159,
                    "use_quant_conv": False,
                    "use_post_quant_conv": False,
                }
            ),
            hub_id="black-forest-labs/FLUX.1-schnell",
            subfolder="vae",
        ),
    }
)


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
            safetensors); or ``owner/repository`` on the Hugging Face hub. Tried in this order.
        device: Where to put it.
        dtype: Precision to run it in; the shipped weights are stored in half precision.
        subfolder: Folder inside a folder or repository that holds a whole pipeline, usually ``"vae"``.

    Raises:
        AutoencoderError: It cannot be found, read or used; the message says what to do.
    """
    text = os.fspath(name_or_path)
    if text in SHIPPED:
        return _open_folder(WEIGHTS / text, text, device, dtype)
    if Path(text).is_dir():
        folder = Path(text) / subfolder if subfolder else Path(text)
        return _open_folder(folder, Path(text).resolve().name, device, dtype)
    if isinstance(name_or_path, str) and _HUB_ID.fullmatch(text):
        return _open_hub(text, subfolder, device, dtype)
    raise AutoencoderError(
        f"no autoencoder {text!r}: it is not a shipped name ({', '.join(SHIPPED)}), not a local folder, "
        "and not the id of a hub repository (owner/name)"
    )


def _family_of(class_name: str | None, where: str) -> str:
    if class_name not in FAMILIES:
        raise AutoencoderError(f"{where}: the class {class_name!r} is not supported, only {', '.join(FAMILIES)}")
    return class_name


def _class_name(config: Path, where: str) -> str:
    try:
        return _family_of(json.loads(config.read_text(encoding="utf-8")).get("_class_name"), where)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise AutoencoderError(f"{where}: config.json cannot be read ({error})") from error


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
