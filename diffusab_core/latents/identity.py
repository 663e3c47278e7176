"""What latents are, as plain values: which autoencoder, by a digest of its weights, and which images."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from diffusab_core.autoencoders import Autoencoder
from diffusab_core.data.leaves import Leaves
from diffusab_core.data.photos import Photos
from diffusab_core.data.stores import StoredImages
from diffusab_core.files import DiffusabError, digest_tensors
from diffusab_core.training.world import World, on_main


class LatentsError(DiffusabError, ValueError):
    """Latents that cannot be made, read or used; the message says which and why."""


def parts(item: Any) -> tuple[Tensor, int | None]:
    """Image or clip, and class number or ``None``, of an item of a dataset."""
    if isinstance(item, Tensor):
        return item, None
    if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], Tensor):
        return item[0], int(item[1])
    raise LatentsError(f"items must be images or pairs of an image and its class number, got a {type(item).__name__}")


def images_identity(dataset: Dataset, found: str | None = None) -> dict[str, Any]:
    """What a dataset's images are, as plain values: where they lie, resolution, crop and seed, and what was found.

    ``found`` is :func:`images_found`, where that is known already.
    """
    made = next((word for word, kind in (("photos", Photos), ("leaves", Leaves)) if isinstance(dataset, kind)), None)
    wanted = ("resolution", "crop", "seed", "split", "num_classes", "frames", "stride", "fps", "speed", "spin")
    values = {"images": getattr(dataset, "where", made or type(dataset).__name__)}
    known = {name: getattr(dataset, name, None) for name in wanted}
    values |= {name: value for name, value in known.items() if isinstance(value, int | float | str)}
    if isinstance(known["resolution"], tuple):
        values["resolution"] = list(known["resolution"])  # as it comes back from a file
    law = getattr(dataset, "law", None)
    if law is not None and law != type(law)():
        values["law"] = repr(law)
    if made is None:
        values["images_found"] = images_found(dataset) if found is None else found
    return values


def images_found(dataset: Dataset, world: World | None = None) -> str:
    """Number of images and a hash: of stored ones by name and by pieces of each; of others, of the first and last."""
    if isinstance(dataset, StoredImages):
        # Of a million files one process looks at pieces, and tells the others.
        digest = dataset.digest() if world is None else on_main(world, dataset.digest)
        return f"{len(dataset)} ({digest[:8]})"
    ends = digest_tensors([parts(dataset[i])[0] for i in (0, len(dataset) - 1)])
    return f"{len(dataset)} ({ends[:8]})"


def weights_digest(autoencoder: Autoencoder | nn.Module) -> str:
    """SHA-256 of an autoencoder's weights: names, types, shapes and bytes of its state, 16 hexadecimal digits."""
    state = sorted(getattr(autoencoder, "module", autoencoder).state_dict().items())
    if not state:
        raise LatentsError(f"{autoencoder.name} has no weights that can be told apart")
    names, values = zip(*state, strict=True)
    return hashlib.sha256(("\0".join(names) + digest_tensors(values)).encode()).hexdigest()[:16]
