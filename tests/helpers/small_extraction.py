"""A small cache of latents, as the tests of writing and of reading caches use it."""

from diffusab_core.latents.extraction import Extraction

SMALL = Extraction("kl-f4c16", "leaves", resolution=16, samples=22, flips=True, labels=True, shard_size=8, seed=3)
