"""One face over every autoencoder: opened by name, encoded to a posterior, decoded.

Each name is imported when it is first used, so that what needs no torch does not wait for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "catalogue": ["CATALOGUE", "PUBLISHED"],
        "face": ["Autoencoder"],
        "families": ["Posterior"],
        "names": ["AutoencoderError", "Opening", "SHIPPED", "WEIGHTS"],
        "opening": ["load", "save"],
        "own": ["wrap"],
    },
)
