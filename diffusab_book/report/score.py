"""The section "diffusability" of a report: where a latent space is expected among those that denoisers were trained on.

The score is that of a calibration, which :mod:`diffusab_book.diffusability` makes of records. Its candidates are
measured on crops of the report's images that give latents of the size which the calibration knows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffusab_book.diffusability import Calibration
from diffusab_core import metrics
from diffusab_core.autoencoders import Posterior
from diffusab_core.data import resize_to, rgb01
from diffusab_core.denoisers import parse
from diffusab_core.experiments import scoring
from diffusab_core.methods.diffusability import CANDIDATES

LEAST_CROPS, _RGB = 256, 256  # latents that anything is said from; crops that are resized to the latents' size


class Crops:
    """Posteriors of crops of a stream of images, as many as the calibration was measured on.

    Args:
        calibration: What is to be measured.
        compression: Of the autoencoder.
    """

    def __init__(self, calibration: Calibration, compression: int) -> None:
        self.calibration, self.side = calibration, calibration.latent_side * compression
        self.means: list[Tensor] = []
        self.stds: list[Tensor] = []
        self.small: list[Tensor] = []
        self.count = 0

    def update(self, x: Tensor, subject: Any) -> None:
        """Crops of images ``(N, 3, R, R)`` side by side, encoded by the subject, until there are enough."""
        left = self.calibration.items - self.count
        if min(x.shape[-2:]) < self.side or left <= 0:
            return
        crops = x.unfold(2, self.side, self.side).unfold(3, self.side, self.side)
        crops = crops.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)[:left]
        for some in crops.split(64):
            posterior = subject.encode(some)
            self.means.append(posterior.mean.cpu())
            self.stds.append(posterior.std.cpu())
        if self.count < _RGB:
            small = resize_to(crops[: _RGB - self.count], *self.means[-1].shape[-2:])
            self.small.append(rgb01(small).cpu())  # where the latents are
        self.count += len(crops)

    @torch.no_grad()
    def measure(self, subject: Any) -> dict[str, Any]:
        """Candidates, place and what is known of the score; a ``ValueError`` where there are too few crops."""
        chosen = self.calibration
        looks_at = {CANDIDATES[name].looks_at for name in chosen.candidates}
        # What depends on how many latents there are compares for that number only.
        least = chosen.items if "latents" in looks_at else min(LEAST_CROPS, chosen.items)
        if self.count < least:
            raise ValueError(
                f"it needs {least} crops of {self.side} x {self.side} pixels, these images have {self.count}; "
                "give more or larger images"
            )
        space = scoring.space_of(Posterior(torch.cat(self.means), torch.cat(self.stds)), subject.options.seed)
        found = {}
        if looks_at & {"pixels", "tokens", "latents"}:
            patch = parse(chosen.denoiser)[2]
            found |= scoring.of_latents(space, patch, chosen.block_size, torch.cat(self.small)).metrics
        if "autoencoder" in looks_at:
            found |= scoring.of_posterior(space).metrics
        if "decoder" in looks_at:
            network = metrics.offline_features().to(subject.device)
            found |= scoring.of_decoder(space, subject.decode, subject, network, block_size=chosen.block_size).metrics
        if missing := [name for name in chosen.candidates if name not in found]:
            raise ValueError(f"these latents have no {CANDIDATES[missing[0]].title}")
        values = {name: found[name] for name in chosen.candidates}
        place, low, high = chosen.place(values)
        return {
            "values": values, "place": place, "low": low, "high": high, "crops": self.count, "side": self.side,
            "looks_at": sorted(looks_at), "titles": [CANDIDATES[name].title for name in chosen.candidates],
            "spaces": len(chosen.spaces), "families": list(chosen.families), "steps": chosen.steps,
            "rho": list(chosen.rho), "held_out": list(chosen.held_out), "published": list(chosen.published),
            "denoiser": chosen.denoiser, "latent_side": chosen.latent_side,
        }  # fmt: skip
