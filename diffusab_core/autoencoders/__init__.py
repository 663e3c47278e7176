"""One face over every autoencoder: opened by name, encoded to a posterior, decoded."""

from diffusab_core.autoencoders.catalogue import CATALOGUE, PUBLISHED
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import AutoencoderError, Posterior
from diffusab_core.autoencoders.opening import SHIPPED, WEIGHTS, Opening, load, save
from diffusab_core.autoencoders.own import wrap

__all__ = [
    "CATALOGUE",
    "PUBLISHED",
    "SHIPPED",
    "WEIGHTS",
    "Autoencoder",
    "AutoencoderError",
    "Opening",
    "Posterior",
    "load",
    "save",
    "wrap",
]
