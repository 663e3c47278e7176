"""Files that are written whole or not at all, digests, differences in words, and the error that is a user's mistake."""

from __future__ import annotations


class DiffusabError(Exception):
    """A mistake that its message explains in one line: what is wrong, the offending value, and what to do about it.

    The command line prints it without a traceback; any other exception keeps its traceback.
    """
