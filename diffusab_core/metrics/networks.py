r"""Networks trained by others that judge images: LPIPS, Inception and DINOv2.

None of their weights come with this package. Each loader looks for them in a file or folder that is named, or in the
cache folders of torch and of the Hugging Face hub, and otherwise raises :class:`MissingWeightsError` with every place
it looked at. Nothing is downloaded unless ``download=True`` asks for it, and nothing takes the place of weights that
are missing. Files are read without running code from them.

Images are ``(N, 3, H, W)`` in [-1, 1] throughout.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


class MissingWeightsError(FileNotFoundError):
    """Weights that are needed are not on disk; the message says where they were looked for and what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# Finding and reading weights


def _hub_file(url: str) -> Path:
    """Where torch and torchvision keep what comes from ``url``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def _find(what: str, weights: str | os.PathLike | None, names: list[str], cached: list[Path], advice: str) -> Path:
    """The first file there is: ``weights`` itself, one of ``names`` in the folder ``weights``, else in the caches."""
    if weights is None:
        tried = cached
    else:
        tried = [Path(weights) / name for name in names] if Path(weights).is_dir() else [Path(weights)]
    for path in tried:
        if path.is_file():
            return path
    raise MissingWeightsError(f"no weights for {what}; looked for {', '.join(map(str, tried))}. {advice}")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights, it may be cut off ({_first_line(error)})") from error
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{path} holds {type(state).__name__}, not named weights")
    return state


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _needs(package: str, what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"{what} needs the package {package}: pip install {package}")


class _Frozen(nn.Module):
    """A judge: never in training mode, also inside a module that is, and never trained."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)

    def _freeze(self) -> None:
        self.eval()
        self.requires_grad_(False)


# ---------------------------------------------------------------------------------------------------------------------
# LPIPS


@dataclass(frozen=True)
class _Backbone:
    title: str
    weights: str  # torchvision's name
    least_side: int  # pixels; smaller images leave a pooling layer nothing


_BACKBONES = {
    "alex": _Backbone("AlexNet", "AlexNet_Weights.IMAGENET1K_V1", 31),
    "vgg": _Backbone("VGG-16", "VGG16_Weights.IMAGENET1K_V1", 16),
}


class LPIPSDistance(_Frozen):
    r"""The learned perceptual distance of Zhang et al., to be had from :func:`lpips_distance`.

    Attributes:
        net: ``"alex"`` or ``"vgg"``.
        weights: The file that the backbone came from.
        digest: First 8 hex digits of that file's SHA-256, for run records; in torchvision's own files they are also
            the end of the name.
    """

    def __init__(self, network: nn.Module, net: str, weights: Path, digest: str) -> None:
        super().__init__()
        self.network = network
        self.net, self.weights, self.digest = net, weights, digest
        self._freeze()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair, ``(N,)``; differentiable in both, and not clamped, so that it can be a loss.

        Raises:
            ValueError: The shapes differ, are not ``(N, 3, H, W)``, or a side is smaller than the backbone can take.
        """
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"LPIPS compares images (N, 3, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
        least = _BACKBONES[self.net].least_side
        if min(x.shape[-2:]) < least:
            other = "; net='vgg' takes 16" if self.net == "alex" else ""
            raise ValueError(
                f"LPIPS with net={self.net!r} needs sides of at least {least} pixels, got "
                f"{x.shape[-2]} x {x.shape[-1]}{other}"
            )
        return self.network(x.float(), y.float()).flatten()


def lpips_distance(
    net: str = "alex", weights: str | os.PathLike | None = None, *, download: bool = False
) -> LPIPSDistance:
    r"""Open LPIPS: the linear heads (version 0.1) that the package ``lpips`` ships, on a backbone from disk.

    By convention ``"alex"`` is for reporting and ``"vgg"`` for losses.

    Args:
        net: ``"alex"`` or ``"vgg"``.
        weights: torchvision's ImageNet weights of that backbone: a file (``.pth`` or ``.safetensors``, with or without
            the classifier), or a folder that holds torchvision's file under its own name. ``None``: torch's hub cache.
        download: Fetch the file into torch's hub cache if it is not there. Only with ``weights=None``.

    Returns:
        A module on the CPU; see :class:`LPIPSDistance`.

    Raises:
        MissingWeightsError: The backbone is not on disk, and was not to be or could not be downloaded.
        ModuleNotFoundError: The package ``lpips`` is not installed.
        ValueError: An unknown ``net``, or a file that does not hold this backbone.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
    """
    if net not in _BACKBONES:
        raise ValueError(f"net must be one of {', '.join(_BACKBONES)}, got {net!r}")
    if download and weights is not None:
        raise ValueError(f"download=True fills torch's hub cache, so it cannot go with weights={os.fspath(weights)!r}")
    try:
        import lpips
    except ImportError as error:
        raise _needs("lpips", "LPIPS") from error
    from torchvision.models import get_weight

    backbone = _BACKBONES[net]
    url = get_weight(backbone.weights).url
    cached = _hub_file(url)
    advice = (
        f"Put {cached.name} there (from {url}), name it with weights= (`--perceptual-weights`), allow the download "
        "with download=True, or do without a perceptual loss explicitly: `--perceptual none`"
    )
    if download and not cached.is_file():
        _download(url, cached, advice)
    path = _find(f"LPIPS's {backbone.title}", weights, [cached.name], [cached], advice)
    state = _read(path)

    # Building draws random weights, which must not shift the random numbers of a training that is being resumed.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision by an argument name that is on its way out
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    try:
        # lpips cuts torchvision's `features` into slices and keeps their numbers: slice2.3.weight is features.3.weight.
        network.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in network.net.state_dict()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold torchvision's {backbone.title} ({_first_line(error)})") from error
    return LPIPSDistance(network, net, path, _digest(path))


def _download(url: str, path: Path, advice: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[-1])
    except (OSError, RuntimeError) as error:  # unreachable, refused, or another file than its name says
        raise MissingWeightsError(f"{url} could not be downloaded ({_first_line(error)}). {advice}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


# ---------------------------------------------------------------------------------------------------------------------
# Inception, for FID


class InceptionFeatures(_Frozen):
    """Images to the 2048 pooled features of FID's Inception, to be had from :func:`inception_features`.

    Attributes:
        name: ``"inception"``, for the names of metrics.
        dimensions: How many features an image has.
        digest: First 8 hex digits of the weights' SHA-256, for run records.
    """

    name = "inception"
    dimensions = 2048

    def __init__(self, network: nn.Module, digest: str) -> None:
        super().__init__()
        self.network, self.digest = network, digest
        self._freeze()

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 2048)``; images are clamped and rounded to 8 bits, as files are."""
        return self.network(((images.float().clamp(-1, 1) + 1) * 127.5).round().byte())

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Features ``(N, 2048)`` to ``(N, 1008)``, without the last layer's bias, as in the Inception Score."""
        return (features @ self.network.fc.weight.T).softmax(1)


def inception_features(weights: str | os.PathLike | None = None) -> InceptionFeatures:
    """Open FID's Inception through torchmetrics, resizing as the original TensorFlow 1 network did.

    Args:
        weights: The file ``weights-inception-2015-12-05-6726825d.pth`` of the torch-fidelity project, or the folder
            that holds it; ``None``: torch's hub cache. torchvision's Inception is another network.

    Raises:
        MissingWeightsError: The weights are not on disk.
        ModuleNotFoundError: ``torchmetrics`` or ``torch-fidelity`` is not installed.
        ValueError: The file does not hold this network.

    Source: Heusel et al. 2017.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ImportError as error:
        raise _needs("torch-fidelity", "FID's Inception") from error
    cached = _hub_file(URL_INCEPTION_V3)
    advice = f"Put {cached.name} there (from {URL_INCEPTION_V3}) or name it with weights="
    path = _find("FID's Inception", weights, [cached.name], [cached], advice)
    # The network's own loader runs whatever code a pickle holds, so it gets a copy of tensors already read safely.
    copy = io.BytesIO()
    torch.save(_read(path), copy)
    copy.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):
            network = NoTrainInceptionV3("inception-v3-compat", ["2048"], copy, antialias=False)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path} does not hold FID's Inception ({_first_line(error)})") from error
    return InceptionFeatures(network, _digest(path))


# ---------------------------------------------------------------------------------------------------------------------
# DINOv2, for FDD


class DINOv2Features(_Frozen):
    """Images to the class token of DINOv2, to be had from :func:`dinov2_features`.

    Attributes:
        name: ``"dinov2"``, for the names of metrics.
        dimensions: How many features an image has: 1024 for ViT-L.
        digest: First 8 hex digits of the weights' SHA-256, for run records.
    """

    name = "dinov2"
    side = 224  # pixels, 16 patches of 14

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], digest: str) -> None:
        super().__init__()
        self.network, self.dimensions, self.digest = network, network.num_features, digest
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self._freeze()

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, D)``, D = 1024 for ViT-L; images are resized to 224 x 224, antialiased bicubic."""
        x = (images.float().clamp(-1, 1) + 1) / 2
        x = F.interpolate(x, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        return self.network((x - self.mean) / self.std)


# timm's name of a size to Meta's.
_DINOV2 = {f"vit_{size}_patch14_dinov2": f"dinov2_vit{size[0]}14" for size in ("small", "base", "large", "giant")}


def dinov2_features(
    weights: str | os.PathLike | None = None, model: str = "vit_large_patch14_dinov2"
) -> DINOv2Features:
    """Open DINOv2 through timm, for the Fréchet distance over its class token (FDD).

    Args:
        weights: ``model.safetensors`` of the hub repository ``timm/<model>.lvd142m`` or Meta's
            ``dinov2_vitl14_pretrain.pth``: a file, or the folder that holds one of them. ``None``: the Hugging Face
            hub's cache, then torch's.
        model: timm's name; ``vit_large_patch14_dinov2`` is what FDD is reported with.

    Raises:
        MissingWeightsError: The weights are not on disk.
        ModuleNotFoundError: ``timm`` is not installed.
        ValueError: An unknown model, or a file that does not hold it.

    Source: Oquab et al. 2024, "DINOv2"; Stein et al. 2023 for the distance.
    """
    if model not in _DINOV2:
        raise ValueError(f"model must be one of {', '.join(_DINOV2)}, got {model!r}")
    try:
        import timm
    except ImportError as error:
        raise _needs("timm", "DINOv2") from error
    repository, meta = f"timm/{model}.lvd142m", f"{_DINOV2[model]}_pretrain.pth"
    found = try_to_load_from_cache(repository, "model.safetensors")
    cached = [Path(found)] if isinstance(found, str) else []
    advice = (
        f"The hub's cache holds no model.safetensors of {repository} either. " if weights is None and not cached else ""
    ) + f"Fetch it with `hf download {repository}`, or name a file or folder with weights="
    cached.append(_hub_file(f"{_DINOV2[model]}/{meta}"))
    path = _find(f"DINOv2 ({model})", weights, ["model.safetensors", meta], cached, advice)
    try:
        with torch.random.fork_rng(devices=[]):
            network = timm.create_model(
                model,
                pretrained=True,
                pretrained_cfg_overlay={"state_dict": _read(path)},  # comes first in timm, before file, hub and address
                num_classes=0,
                img_size=DINOv2Features.side,
            )
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold {model} ({_first_line(error)})") from error
    return DINOv2Features(network, network.pretrained_cfg["mean"], network.pretrained_cfg["std"], _digest(path))
