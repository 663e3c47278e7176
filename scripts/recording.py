"""The command line that the recording scripts share: which arms, which seeds, how many threads."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection

import torch
from tqdm import tqdm


def main(
    doc: str, arms: Collection[str], record: Callable[[str, int], object], what: str, *, seeds_first: bool = False
) -> None:
    """Record every chosen arm with every chosen seed, with a progress bar.

    Args:
        doc: The script's docstring, for ``--help``.
        arms: Names to choose from.
        record: Records one arm and seed, and leaves alone what is recorded.
        what: What is recorded, for the bar.
        seeds_first: All arms with the first seed, then with the next, rather than arm after arm.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", choices=[*arms, []], help="arms (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = options.arms or list(arms)
    todo = [(arm, seed) for arm in chosen for seed in options.seeds]
    if seeds_first:
        todo = [(arm, seed) for seed in options.seeds for arm in chosen]
    for arm, seed in tqdm(todo, desc=what, unit="run"):
        record(arm, seed)
