"""``python -m diffusab_core`` said what ``python -m diffusab_book`` says now."""

import sys

if __name__ == "__main__":
    sys.exit("the commands are in diffusab_book now: python -m diffusab_book " + " ".join(sys.argv[1:]))
