"""Names of the report until it has moved; what it opens stands in ``opening`` and ``own``."""

from __future__ import annotations

from diffusab_core.autoencoders.opening import load as open_model  # noqa: F401
from diffusab_core.autoencoders.own import Autoencoder as OwnAutoencoder  # noqa: F401
from diffusab_core.autoencoders.own import as_posterior, blame  # noqa: F401
from diffusab_core.autoencoders.own import build as open_factory  # noqa: F401
from diffusab_core.files import DiffusabError


class SourceError(DiffusabError, ValueError):
    """Something that was brought along and cannot be used; the message says what to do."""
