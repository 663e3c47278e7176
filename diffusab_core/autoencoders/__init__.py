"""One face over every autoencoder: opened by name, encoded to a posterior, decoded."""

from diffusab_core.autoencoders.catalogue import CATALOGUE
from diffusab_core.autoencoders.face import Autoencoder
from diffusab_core.autoencoders.families import AutoencoderError, Posterior
from diffusab_core.autoencoders.opening import SHIPPED, WEIGHTS, load
from diffusab_core.autoencoders.own import wrap

__all__ = ["CATALOGUE", "SHIPPED", "WEIGHTS", "Autoencoder", "AutoencoderError", "Posterior", "load", "wrap"]
