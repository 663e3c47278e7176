"""A small video autoencoder, untrained, in a folder: eightfold in space, fourfold in time, the first frame alone."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

CONFIG = {"base_dim": 4, "z_dim": 3, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
CONFIG |= {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}


def save_small_video(folder: Path) -> Path:
    torch.manual_seed(0)
    AutoencoderKLWan(**CONFIG).save_pretrained(folder)
    return folder
