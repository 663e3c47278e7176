"""What the page "Your own picture" computes with: the small autoencoder and a photograph, as scripts of the book.

A page that is opened from a disk may fetch nothing, but it may load scripts. So the weights, in half precision as they
are shipped, and the picture that the page begins with become scripts that register themselves with
``book/_static/picture/modules.js``. They are written when the book is built and are never committed.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from PIL import Image
from safetensors.numpy import load_file
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from diffusab_core.autoencoders.names import WEIGHTS
from diffusab_core.data import photo

PAGE = "book/own_picture"
MODEL = "kl-f4c16"
MADE = {"autoencoder": "vendor/own-picture-autoencoder.js", "photograph": "vendor/own-picture-photograph.js"}
STYLE = "picture/page.css"
MODULES = (
    *("dct", "spectrum", "pixels", "kernels", "network"),  # what is computed
    *("worker", "calls"),  # where the autoencoder runs
    *("plot", "controls", "explorers", "page"),  # what the reader sees
)
#: All scripts of the page, as they lie in ``_static``: the registry of modules first, what is started last.
SCRIPTS = ("picture/modules.js", *MADE.values(), *(f"picture/{name}.js" for name in MODULES))
#: What network.js can compute; anything else in a configuration it would get wrong without a word.
UNDERSTOOD = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def check_understood(config: Mapping[str, Any]) -> None:
    """Refuse an autoencoder that ``network.js`` cannot compute.

    Raises:
        ExtensionError: The entry of its configuration, and what it would have to be.
    """
    for name, needed in UNDERSTOOD.items():
        if config.get(name) != needed:
            raise ExtensionError(f"book/_static/picture/network.js needs {name} {needed!r}, got {config.get(name)!r}")


def register(name: str, value: Any) -> str:
    """A script that registers a value as a module."""
    return f"ownPicture.define({json.dumps(name)}, () => ({json.dumps(value, separators=(',', ':'))}));\n"


def autoencoder_script(folder: Path) -> str:
    """The autoencoder of a diffusers folder: configuration, shapes of its tensors in order, their bits in base64."""
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    check_understood(config)
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    bits = b"".join(np.ascontiguousarray(tensor, dtype="<f2").tobytes() for tensor in tensors.values())
    shapes = {tensor: list(value.shape) for tensor, value in tensors.items()}
    return register("autoencoder", {"config": config, "tensors": shapes, "bits": base64.b64encode(bits).decode()})


def first_picture() -> np.ndarray:
    """The picture that the page begins with, ``(192, 192, 3)`` uint8: that of Chapter 2, held out of training."""
    crop = photo("coffee")[:, 96:288, 192:384]  # (3, 192, 192) in [-1, 1]
    return ((crop.permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)


def photograph_script() -> str:
    """The same as a PNG."""
    file = io.BytesIO()
    Image.fromarray(first_picture()).save(file, "PNG", optimize=True)
    return register("photograph", base64.b64encode(file.getvalue()).decode())


def write_material(static: Path) -> None:
    """Write both into the folder of the built book's scripts and styles."""
    scripts = {"autoencoder": autoencoder_script(WEIGHTS / MODEL), "photograph": photograph_script()}
    for name, script in scripts.items():
        path = static / MADE[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf8")


def write_scripts(app: Sphinx) -> None:
    """The same for a build of pages."""
    if app.builder.format == "html":
        write_material(Path(app.outdir) / "_static")


def load_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let the page, and no other, load them."""
    if pagename != PAGE:
        return
    app.add_css_file(STYLE, priority=901)
    for script in SCRIPTS:
        app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_scripts)
    app.connect("html-page-context", load_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
