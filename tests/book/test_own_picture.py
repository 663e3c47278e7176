"""The scripts that the page "Your own picture" gets when the book is built."""

import base64
import json
import re

import book_picture
import numpy as np
import pytest
from safetensors.numpy import load_file
from sphinx.errors import ExtensionError

FOLDER = book_picture.WEIGHTS / book_picture.MODEL


def value(script):
    return json.loads(re.fullmatch(r'ownPicture\.define\("\w+", \(\) => \((.*)\)\);\n', script, re.S)[1])


def test_the_autoencoder_travels_bit_by_bit():
    model = value(book_picture.autoencoder_script(FOLDER))
    bits = np.frombuffer(base64.b64decode(model["bits"]), "<f2")
    start = 0
    tensors = load_file(FOLDER / "diffusion_pytorch_model.safetensors")
    assert model["tensors"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert model["tensors"][name] == list(tensor.shape)
        assert np.array_equal(bits[start : start + tensor.size].reshape(tensor.shape), tensor), name
        start += tensor.size
    assert start == len(bits)


def test_what_the_page_loads_stays_below_two_megabytes(tmp_path):
    book_picture.write_material(tmp_path)
    made = [tmp_path / path for path in book_picture.MADE.values()]
    assert sum(path.stat().st_size for path in made) < 2_000_000


@pytest.mark.parametrize("change", [{"mid_block_add_attention": True}, {"act_fn": "relu"}, {"use_quant_conv": True}])
def test_an_autoencoder_that_the_page_cannot_compute_is_refused(change):
    config = json.loads((FOLDER / "config.json").read_text())
    book_picture.check_understood(config)
    [(name, unknown)] = change.items()
    with pytest.raises(ExtensionError, match=f"{name}.*{unknown!r}"):
        book_picture.check_understood(config | change)


def test_every_module_of_the_page_is_loaded_by_it():
    folder = book_picture.Path(__file__).resolve().parents[2] / "book" / "_static" / "picture"
    loaded = {name.removeprefix("picture/") for name in book_picture.SCRIPTS if name.startswith("picture/")}
    assert loaded == {path.name for path in folder.glob("*.js")}
