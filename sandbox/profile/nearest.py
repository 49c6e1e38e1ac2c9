"""The nearest right word for a wrong one, as errors about profiles show it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CLOSE = 0.6
"""How like a word must be (difflib: 0 to 1) to be what was meant."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`: did you mean openat?`, or '' where nothing is near."""
    found = difflib.get_close_matches(word[:80], [one for one in known if one], n=1, cutoff=CLOSE)
    return f": did you mean {found[0]}?" if found else ""
