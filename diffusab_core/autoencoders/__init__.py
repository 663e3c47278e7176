"""One face over every autoencoder: opened by name, encoded to a posterior, decoded."""

from diffusab_core.autoencoders.catalogue import (
    CATALOGUE,
    CatalogueEntry,
    FreqWarmRun,
    Recipe,
)
from diffusab_core.autoencoders.face import (
    SHIPPED,
    WEIGHTS,
    Autoencoder,
    load,
)
from diffusab_core.autoencoders.families import (
    FAMILIES,
    AutoencoderError,
    Family,
    Posterior,
    family_of,
    frozen_for_finetuning,
    shift_and_scale,
    trainable_count,
)
from diffusab_core.autoencoders.sources import (
    PICKLES,
    LatentsFile,
    OwnAutoencoder,
    SourceError,
    as_posterior,
    blame,
    open_factory,
    open_latents,
    open_model,
    refuse_pickle,
)

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "PICKLES",
    "SHIPPED",
    "WEIGHTS",
    "Autoencoder",
    "AutoencoderError",
    "CatalogueEntry",
    "Family",
    "FreqWarmRun",
    "LatentsFile",
    "OwnAutoencoder",
    "Posterior",
    "Recipe",
    "SourceError",
    "as_posterior",
    "blame",
    "family_of",
    "frozen_for_finetuning",
    "load",
    "open_factory",
    "open_latents",
    "open_model",
    "refuse_pickle",
    "shift_and_scale",
    "trainable_count",
]
