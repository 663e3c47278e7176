r"""Judging clips with a network for images, where no network for video is at hand.

**It is not FVD**, and its distances compare with one another only; FVD is the distance over
:func:`~diffusab_core.metrics.networks.video_features`. Nothing is trained here: a network for images looks at three
kinds of pictures that are made of a clip, and what it says is averaged over time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from diffusab_core.files import digest_json
from diffusab_core.metrics.networks import Judge, NetworkError, lite0_components, video_features
from diffusab_core.metrics.offline import offline_features

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
LEAST_FRAMES = 3


class ClipFeatures(Judge):
    r"""Clips ``(N, 3, T, H, W)`` in [-1, 1] to three times the D features F of a network for images,

    .. math::
        \Bigl[\; &\frac1T \sum_t F(x_t), \quad
        \frac1{T-1} \sum_t F\bigl(\mathrm{clamp}(x_{t+1} - x_t)\bigr), \\
        &\frac1{T-2} \sum_t F\bigl(y_t, y_{t+1}, y_{t+2}\bigr) \;\Bigr]

    - the *frames*: what is to be seen, at any time;
    - their *differences*, which are grey where nothing moves: how much moves, and how evenly;
    - *fringes*: the luminance y of three frames in a row as red, green and blue. What stands still is grey, what moves
      has coloured borders, and their order says which way it goes: backwards, red and blue change places.

    Each part by itself over ``offline``, 192 clips of 9 frames of 32 x 32 of moving leaves against 192 others:

    =====================================  ======  ===========  =======
    against the clips of seed 0            frames  differences  fringes
    =====================================  ======  ===========  =======
    other clips                            0.16    0.04         0.17
    frozen: the first frame throughout     0.20    8.3          3.8
    shuffled frames                        0.16    8.2          2.5
    frames 4 and 5 change places           0.16    0.48         0.25
    twice as fast                          0.15    6.0          1.2
    half as fast                           0.18    3.1          1.2
    every other frame twice                0.16    1.3          0.32
    brightness flickers, deviation 0.1     0.27    0.24         1.7
    noise of deviation 0.03                0.40    0.94         0.18
    a camera that pans the other way       0.15    0.24         8.9
    =====================================  ======  ===========  =======

    In the last row both sets are one picture that is shifted by a pixel a frame; others that pan the same way are 0.14,
    0.11 and 0.25 away. Leaves move either way alike, so that clips of them backwards are as good as forwards, and no
    distance says otherwise.

    Args:
        images: The network for images, such as :func:`~diffusab_core.metrics.offline.offline_features`.
    """

    def __init__(self, images: Judge) -> None:
        super().__init__(images, images.weights)
        self.name, self.dimensions = f"clip_{images.name}", 3 * images.dimensions
        self.digest = digest_json([images.digest, "frames, differences, fringes"])[:8]
        self.register_buffer("luma", torch.tensor(_LUMA)[:, None, None], persistent=False)

    def forward(self, clips: Tensor) -> Tensor:
        """``(N, 3 D)``; a ``NetworkError`` for what are no clips of at least three frames."""
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise NetworkError(f"clips must be (N, 3, T, H, W), got {tuple(clips.shape)}")
        if clips.shape[2] < LEAST_FRAMES:
            raise NetworkError(f"motion needs clips of at least {LEAST_FRAMES} frames, got {clips.shape[2]}")
        frames = clips.float().clamp(-1, 1).unbind(2)  # T of (N, 3, H, W)
        brightness = [(frame * self.luma).sum(1) for frame in frames]  # T of (N, H, W)
        kinds = (
            frames,
            [after - before for before, after in pairwise(frames)],  # the network clamps
            [torch.stack(three, dim=1) for three in zip(brightness, brightness[1:], brightness[2:], strict=False)],
        )
        # One time after the other: a batch of clips needs no more memory than one of images.
        return torch.cat([sum(map(self.network, pictures)) / len(pictures) for pictures in kinds], dim=1)


def clip_features(images: Callable[..., Judge] = offline_features, weights: str | None = None) -> ClipFeatures:
    """Open :class:`ClipFeatures` over a network for images; ``weights`` and errors are those of its function."""
    return ClipFeatures(images(weights))


#: Feature networks of clips by name: ``i3d`` makes FVD, the others are :class:`ClipFeatures`.
CLIP_FEATURES: dict[str, Callable[..., Judge]] = {
    "clip_offline": partial(clip_features, offline_features),
    "clip_lite0p64": partial(clip_features, lite0_components),
    "i3d": video_features,
}
