"""Images and clips as functions of a seed and an index: photographs, dead leaves, and what people have stored.

Each name is imported when it is first used, so that what needs no torch does not wait for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clips": ["StoredClips"],
        "leaves": ["LeafClips", "Leaves", "leaf_clip"],
        "open": ["open_images"],
        "photos": ["PHOTOGRAPHS", "Photos", "Split", "photo", "photo_names"],
        "pixels": ["UnusableImage", "resize_to", "rgb01", "stack", "unroll"],
        "places": ["ImagesError"],
        "pool": ["Pool"],
        "stores": ["ImageFolder", "StoredImages"],
        "video": ["write_clip"],
    },
)
