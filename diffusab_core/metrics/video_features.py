r"""The video network behind FVD: I3D, as the TorchScript file that StyleGAN-V and most later work take.

The file, ``i3d_torchscript.pt``, does not come with this package and nothing is downloaded. Unlike the weights that
:mod:`diffusab_core.metrics.networks` reads it holds the network's program, too, which runs inside TorchScript's
interpreter:
open it from a source you trust. **The real file was not at hand where this package is tested**: the tests call a small
TorchScript network of the same convention, so that published values come out is not checked.
"""

from __future__ import annotations

import os
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusab_core.metrics.networks import MissingWeightsError, _digest, _find, _first_line, _Frozen, _hub_file

__all__ = ["I3DFeatures", "MissingWeightsError", "video_features"]

FILE = "i3d_torchscript.pt"
SIDE = 224  # pixels
LEAST_FRAMES = 10  # fewer leave its pooling in time nothing


class I3DFeatures(_Frozen):
    """Clips to the 400 logits of I3D trained on Kinetics-400, to be had from :func:`video_features`.

    Attributes:
        name: ``"i3d"``, for the names of metrics: ``frechet_i3d`` is FVD.
        dimensions: How many features a clip has.
        digest: First 8 hex digits of the file's SHA-256, for run records.
    """

    name = "i3d"
    dimensions = 400

    def __init__(self, network: torch.jit.ScriptModule, digest: str) -> None:
        super().__init__()
        self.network, self.digest = network, digest
        self._freeze()

    def forward(self, clips: Tensor) -> Tensor:
        """``(N, 3, T, H, W)`` in [-1, 1] to ``(N, 400)``.

        Clips are clamped, and each frame is resized so that its short side has 224 pixels (bilinear, not antialiased,
        as in StyleGAN-V) and cropped to the centred square. The network is told to rescale and resize nothing.

        Raises:
            ValueError: Not ``(N, 3, T, H, W)``, or fewer than 10 frames.
        """
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise ValueError(f"clips must be (N, 3, T, H, W), got {tuple(clips.shape)}")
        n, _, t, height, width = clips.shape
        if t < LEAST_FRAMES:
            raise ValueError(f"I3D needs clips of at least {LEAST_FRAMES} frames, got {t}")
        frames = clips.float().clamp(-1, 1).transpose(1, 2).flatten(0, 1)  # (N*T, 3, H, W)
        if min(height, width) != SIDE:
            scale = SIDE / min(height, width)
            size = (max(SIDE, round(height * scale)), max(SIDE, round(width * scale)))
            frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        top, left = (frames.shape[-2] - SIDE) // 2, (frames.shape[-1] - SIDE) // 2
        frames = frames[..., top : top + SIDE, left : left + SIDE]
        square = frames.unflatten(0, (n, t)).transpose(1, 2).contiguous()  # (N, 3, T, 224, 224)
        return self.network(square, rescale=False, resize=False, return_features=True)


def video_features(weights: str | os.PathLike | None = None) -> I3DFeatures:
    """Open I3D, on the CPU, for FVD: the Fréchet distance over its logits.

    Args:
        weights: The file ``i3d_torchscript.pt``, or the folder that holds it; ``None``: torch's hub cache.

    Raises:
        MissingWeightsError: The file is not on disk.
        ValueError: It cannot be read as TorchScript.

    Source: Unterthiner et al. 2018 for FVD; Skorokhodov et al. 2022, "StyleGAN-V", for this file.
    """
    cached = _hub_file(FILE)
    advice = f"Put {FILE} there (linked from https://github.com/universome/fvd-comparison) or name it with weights="
    path = _find("FVD's I3D", weights, [FILE], [cached], advice)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would rather have torch.export; the file is what it is
            network = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as TorchScript, it may be cut off ({_first_line(error)})") from error
    return I3DFeatures(network, _digest(path))
