"""Run each chapter at size `smoke` and freeze its checkpoint outputs into tests/reference/, for nbval to replay."""

import argparse
from pathlib import Path

from tqdm import tqdm

from diffusab_book import chapters as notebooks

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "reference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chapters", nargs="*", help="numbers or names, e.g. 02; all chapters when none is named")
    names = parser.parse_args().chapters
    paths = [notebooks.find(name) for name in names] or sorted(notebooks.NOTEBOOKS.glob("[0-9][0-9]_*.py"))
    for path in tqdm(paths, desc="freezing", unit="chapter"):
        out = notebooks.freeze(path, REFERENCE / f"{path.stem}.ipynb")
        tqdm.write(f"{out.name}: {out.stat().st_size / 1024:.1f} KB")


if __name__ == "__main__":
    main()
