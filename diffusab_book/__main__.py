"""``python -m diffusab_book``: the same as ``diffusab``, for torchrun, which starts modules."""

from diffusab_book.cli import app

if __name__ == "__main__":
    app()
