"""One face over every autoencoder: opened by name, encoded to a posterior, decoded."""

from diffusab_core.autoencoders.catalogue import CATALOGUE
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import FAMILIES, AutoencoderError, Family, Posterior
from diffusab_core.autoencoders.opening import SHIPPED, WEIGHTS, load
from diffusab_core.autoencoders.own import wrap

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "SHIPPED",
    "WEIGHTS",
    "Autoencoder",
    "AutoencoderError",
    "Family",
    "Posterior",
    "load",
    "wrap",
]
