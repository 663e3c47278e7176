#!/usr/bin/env python
"""Fix the principal components of EfficientNet-Lite0's features over real photographs: what ``lite0p64`` projects on.

    python scripts/lite0_components.py

Half of the crops have 32 x 32 pixels and half 64 x 64, all of the training photographs; about half a minute.
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file

from diffusab_core import data
from diffusab_core.metrics import networks
from diffusab_core.metrics.samples import describe

CROPS = 4096  # of each size
SEED = 2000  # no training, reference or evaluation has it

if __name__ == "__main__":
    lite0 = networks.lite0_features()
    lite0.side = networks.Lite0Components.side
    batches = (
        data.stack(data.Photos(side, "train", seed=SEED, length=CROPS), range(start, start + 64))
        for side in (32, 64)
        for start in range(0, CROPS, 64)
    )
    found = describe(batches, lite0, quantised=True, bar="crops")
    values, vectors = torch.linalg.eigh(found.covariance())  # ascending
    components = vectors.T.flip(0)[: networks.Lite0Components.dimensions]
    # The sign of an eigenvector is arbitrary: its largest entry is positive, so that a second run writes the same.
    components = components * components.gather(1, components.abs().argmax(1, keepdim=True)).sign()
    share = (values[-len(components) :].sum() / values.sum()).item()
    about = {"crops": f"{found.count}", "variance": f"{share:.3f}", "weights": lite0.digest}
    tensors = {"mean": found.mean().float(), "components": components.float().contiguous()}
    save_file(tensors, networks.COMPONENTS, about)
    print(f"{len(components)} components hold {share:.1%} of the variance: {networks.COMPONENTS}")
