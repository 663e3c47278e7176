r"""Networks trained by others that judge images: LPIPS, Inception, DINOv2 and I3D.

None of their weights come with this package. Each function looks for them in the file or folder ``weights``, or in the
caches of torch and of the Hugging Face hub. Nothing is downloaded, and files are read without running code from them,
except I3D's, which is a program: open it from a source you trust. Images are ``(N, 3, H, W)`` in [-1, 1] throughout,
clips ``(N, 3, T, H, W)``.
"""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffusab_core.files import DiffusabError, digest_file, first_line


class MissingWeightsError(DiffusabError, FileNotFoundError):
    """Weights that are needed are not on disk; the message says where they were looked for and what to do."""


class NetworkError(DiffusabError, ValueError):
    """A network that cannot be built, for its file or a package that is missing, or images that it cannot take."""


class Features(Protocol):
    """Images to features ``(N, D)``; a module of your own has to be in evaluation mode.

    One that knows classes has ``class_probabilities(features)`` too: ``(N, D)`` to ``(N, K)``, for the Inception Score.
    """

    name: str  #: For the names of metrics: ``"inception"`` makes ``frechet_inception``
    dimensions: int  #: D
    digest: str  #: First 8 hex digits of the weights' SHA-256, for run records

    def __call__(self, images: Tensor) -> Tensor: ...


class Judge(nn.Module):
    """A network from the file ``weights``: never in training mode, also inside a module that is, and never trained."""

    def __init__(self, network: nn.Module, weights: Path) -> None:
        super().__init__()
        self.network, self.weights, self.digest = network, weights, digest_file(weights)[:8]
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(False)


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def find_weights(what: str, weights: str | os.PathLike | None, cached: list[Path], advice: str) -> Path:
    """``weights`` itself, a file named as one of ``cached`` in that folder, or, where it is ``None``, in its place."""
    tried = cached if weights is None else [Path(weights)]
    if weights is not None and Path(weights).is_dir():
        tried = [Path(weights) / path.name for path in cached]
    for path in filter(Path.is_file, tried):
        return path
    raise MissingWeightsError(f"no weights for {what}; looked for {', '.join(map(str, tried))}. {advice}")


def read_weights(path: Path) -> dict[str, Tensor]:
    load = load_file if path.suffix == ".safetensors" else partial(torch.load, map_location="cpu", weights_only=True)
    try:
        state = load(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise NetworkError(f"{path} cannot be read as weights, it may be cut off ({first_line(error)})") from error
    if not isinstance(state, dict) or not state:
        raise NetworkError(f"{path} holds {type(state).__name__}, not named weights")
    return state


@contextmanager
def filling(what: str, path: Path) -> Iterator[None]:
    """Build a network and fill it from a file, without a draw from the random numbers of a training that goes on."""
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise NetworkError(f"{what} needs a package that is not installed ({first_line(error)})") from error
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise NetworkError(f"{path} does not hold {what} ({first_line(error)})") from error


def to_levels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as whole numbers from 0 to 255, clamped and rounded as a file of 8 bits does, in float32."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round()


# Of each backbone torchvision's name of its weights, and the least side of an image in pixels.
_BACKBONES = {"alex": ("AlexNet_Weights.IMAGENET1K_V1", 31), "vgg": ("VGG16_Weights.IMAGENET1K_V1", 16)}


class LPIPSDistance(Judge):
    """The learned perceptual distance, from :func:`lpips_distance`; ``net`` names its backbone."""

    def __init__(self, network: nn.Module, weights: Path, net: str) -> None:
        super().__init__(network, weights)
        self.net = net

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of each pair, ``(N,)``; differentiable in both, and not clamped, so that it can be a loss."""
        if x.shape != y.shape or x.ndim != 4 or x.shape[1] != 3:
            raise NetworkError(f"LPIPS compares images (N, 3, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
        height, width = x.shape[-2:]
        if min(height, width) < (least := _BACKBONES[self.net][1]):
            raise NetworkError(f"LPIPS on {self.net} needs sides of at least {least} pixels, got {height} x {width}")
        return self.network(x.float(), y.float()).flatten()


def lpips_distance(net: str = "alex", weights: str | os.PathLike | None = None) -> LPIPSDistance:
    r"""Open LPIPS: the linear heads (version 0.1) that the package ``lpips`` ships, on a backbone from disk.

    ``net`` is ``"alex"``, by convention for reporting, or ``"vgg"``, for losses; ``weights`` is torchvision's file for
    ImageNet (``.pth`` or ``.safetensors``, with or without the classifier), or its folder; ``None``: torch's hub cache.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".
    """
    if net not in _BACKBONES:
        raise NetworkError(f"net must be one of {', '.join(_BACKBONES)}, got {net!r}")
    import lpips
    from torchvision.models import get_weight

    url = get_weight(_BACKBONES[net][0]).url
    cached = _hub_file(url)
    how = "name it with weights= (`--perceptual-weights`), or do without explicitly: `--perceptual none`"
    advice = f"Fetch it with `curl --create-dirs -o {cached} {url}`, {how}"
    path = find_weights(f"LPIPS's backbone {net}", weights, [cached], advice)
    state = read_weights(path)
    with filling(f"torchvision's {net}", path):
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        # lpips cuts torchvision's `features` into slices and keeps their numbers: slice2.3.weight is features.3.weight.
        network.net.load_state_dict({k: state["features." + k.split(".", 1)[1]] for k in network.net.state_dict()})
    return LPIPSDistance(network, path, net)


_FID = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"


class InceptionFeatures(Judge):
    """Images, as 8-bit files have them, to the 2048 pooled features of FID's Inception."""

    name, dimensions = "inception", 2048

    def forward(self, images: Tensor) -> Tensor:
        return self.network(to_levels(images).byte())

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Features ``(N, 2048)`` to ``(N, 1008)``, without the last layer's bias, as in the Inception Score."""
        return (features @ self.network.fc.weight.T).softmax(1)


def inception_features(weights: str | os.PathLike | None = None) -> InceptionFeatures:
    """Open FID's Inception (Heusel et al. 2017) through torchmetrics, resizing as the original network did.

    ``weights`` is the file of the torch-fidelity project, or the folder that holds it; ``None``: torch's hub cache.
    torchvision's Inception is another network.
    """
    advice = f"It comes from {_FID}; or name it with weights="
    path = find_weights("FID's Inception", weights, [_hub_file(_FID)], advice)
    # The network's own loader runs whatever code a pickle holds, so it gets a copy of tensors already read safely.
    copy = io.BytesIO()
    torch.save(read_weights(path), copy)
    copy.seek(0)
    with filling("FID's Inception", path):
        from torchmetrics.image.fid import NoTrainInceptionV3

        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], copy, antialias=False)
    return InceptionFeatures(network, path)


class DINOv2Features(Judge):
    """Images, resized to 224 x 224 (antialiased bicubic), to the class token of DINOv2: 1024 numbers for ViT-L."""

    name = "dinov2"
    side = 224  # pixels, 16 patches of 14

    def __init__(self, network: nn.Module, weights: Path) -> None:
        super().__init__(network, weights)
        self.dimensions = network.num_features
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(network.pretrained_cfg[name])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float().clamp(-1, 1) + 1) / 2
        x = F.interpolate(x, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
        return self.network((x - self.mean) / self.std)


# timm's name of a size to Meta's.
_DINOV2 = {f"vit_{size}_patch14_dinov2": f"dinov2_vit{size[0]}14" for size in ("small", "base", "large", "giant")}


def dinov2_features(
    weights: str | os.PathLike | None = None, model: str = "vit_large_patch14_dinov2"
) -> DINOv2Features:
    """Open DINOv2 through timm, for the Fréchet distance over its class token (FDD), reported with the default model.

    ``weights`` is ``model.safetensors`` of the hub repository ``timm/<model>.lvd142m`` or Meta's
    ``dinov2_vitl14_pretrain.pth``, or its folder; ``None``: the Hugging Face hub's cache, then torch's.

    Source: Oquab et al. 2024, "DINOv2"; Stein et al. 2023 for the distance.
    """
    if model not in _DINOV2:
        raise NetworkError(f"model must be one of {', '.join(_DINOV2)}, got {model!r}")
    from huggingface_hub import constants, try_to_load_from_cache

    repository, file = f"timm/{model}.lvd142m", "model.safetensors"
    found = try_to_load_from_cache(repository, file)
    folder = f"models--{repository.replace('/', '--')}"  # shown where nothing is found in it
    hub = Path(found) if isinstance(found, str) else Path(constants.HF_HUB_CACHE, folder, file)
    advice = f"Fetch it with `hf download {repository}`, or name a file or folder with weights="
    meta = _hub_file(f"{_DINOV2[model]}_pretrain.pth")
    path = find_weights(f"DINOv2 ({model})", weights, [hub, meta], advice)
    given = {"state_dict": read_weights(path)}  # comes first in timm, before file, hub and address
    with filling(model, path):
        import timm

        how = {"pretrained_cfg_overlay": given, "num_classes": 0, "img_size": DINOv2Features.side}
        network = timm.create_model(model, pretrained=True, **how)
    return DINOv2Features(network, path)


class I3DFeatures(Judge):
    """Clips ``(N, 3, T, H, W)`` to the 400 logits of I3D trained on Kinetics-400; ``frechet_i3d`` is FVD.

    Each frame's short side is resized to 224 pixels (bilinear, not antialiased, as in StyleGAN-V), its centre cropped.
    """

    name, dimensions = "i3d", 400
    side = 224  # pixels
    least_frames = 10  # fewer leave its pooling in time nothing

    def forward(self, clips: Tensor) -> Tensor:
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise NetworkError(f"clips must be (N, 3, T, H, W), got {tuple(clips.shape)}")
        n, _, t, height, width = clips.shape
        if t < self.least_frames:
            raise NetworkError(f"I3D needs clips of at least {self.least_frames} frames, got {t}")
        side, frames = self.side, clips.float().clamp(-1, 1).transpose(1, 2).flatten(0, 1)  # (N*T, 3, H, W)
        if min(height, width) != side:
            size = [max(side, round(length * side / min(height, width))) for length in (height, width)]
            frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        top, left = (frames.shape[-2] - side) // 2, (frames.shape[-1] - side) // 2
        frames = frames[..., top : top + side, left : left + side]
        clips = frames.unflatten(0, (n, t)).transpose(1, 2).contiguous()  # (N, 3, T, 224, 224)
        return self.network(clips, rescale=False, resize=False, return_features=True)


def video_features(weights: str | os.PathLike | None = None) -> I3DFeatures:
    """Open I3D for FVD, the Fréchet distance over its logits, as the TorchScript file that most later work takes.

    ``weights`` is the file ``i3d_torchscript.pt``, or the folder that holds it; ``None``: torch's hub cache. **The real
    file was not at hand where this package is tested**: that published values come out is not checked.

    Source: Unterthiner et al. 2018 for FVD; Skorokhodov et al. 2022, "StyleGAN-V", for this file.
    """
    advice = "It comes from https://github.com/universome/fvd-comparison; or name it with weights="
    path = find_weights("FVD's I3D", weights, [_hub_file("i3d_torchscript.pt")], advice)
    with filling("I3D as TorchScript, it may be cut off", path):
        network = torch.jit.load(str(path), map_location="cpu")
    return I3DFeatures(network, path)
