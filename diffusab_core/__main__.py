"""``python -m diffusab_core``: the same as ``diffusab``, for torchrun, which starts modules."""

from diffusab_core.cli import app

if __name__ == "__main__":
    app()
