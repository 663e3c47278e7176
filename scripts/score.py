#!/usr/bin/env python
"""What the records of latent spaces say of each candidate for a score, and the file that `diffusab report` reads.

    python scripts/score.py                              candidates at each length, and the best two together
    python scripts/score.py --write token_share          the score of one candidate at the longest training
    python scripts/score.py --write token_share kurtosis

The records are those of the sweeps spaces, spaces_long and spaces_scores. The file is written of records only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusab_book import diffusability, results
from diffusab_core.files import DiffusabError


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", nargs="+", metavar="CANDIDATE", help="one candidate, or two, to make a score of")
    parser.add_argument("--steps", type=int, help="length of training (default: the longest there is)")
    parser.add_argument("--records", type=Path, default=results.RESULTS, help="folder of records (default: the book's)")
    parser.add_argument("--out", type=Path, default=diffusability.CALIBRATION, help="file to write")
    options = parser.parse_args(words)
    try:
        spaces = diffusability.read_spaces(options.records)
        lengths = diffusability.lengths_of(spaces)
        steps = options.steps or lengths[-1]
        if steps not in lengths:
            parser.error(f"no space has a gap at {steps} steps; there are {', '.join(map(str, lengths))}")
        if options.write:
            made = diffusability.calibrate(spaces, steps, options.write)
            print(f"{diffusability.write_calibration(made, options.out)}: {len(made.spaces)} spaces, {steps} steps")
            return
    except (DiffusabError, FileNotFoundError) as error:
        parser.error(str(error))
    judged = {length: diffusability.judge_all(spaces, diffusability.gap_column(length)) for length in lengths}
    for length in lengths:
        if pair := diffusability.judge_pair(spaces, diffusability.gap_column(length)):
            judged[length].append(pair)
    print(diffusability.table(judged).to_string())


if __name__ == "__main__":
    main()
