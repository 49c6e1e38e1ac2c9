"""When a reason in a profile is a person's, and when it says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHORTEST = 8
"""Characters of a reason; the schema asks as much of a grant."""

FROM_TOOLS = ("learned", "imported from")
"""How reasons begin that no person wrote."""

EMPTY_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and because by cause fixme for here is it just me my na need needed needs no none of ok okay please "
        "reason reasons required requires so tbd that the this to todo us we why will wip xxx yes you your",
    )
)


def is_empty_reason(reason: str) -> bool:
    """Whether a reason says nothing: too short, a placeholder, or only words that fit anywhere."""
    text = reason.strip().lower()
    words = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 1 and word not in EMPTY_WORDS]
    template = text.startswith(("todo", "fixme", "tbd", "xxx", "<")) or text.strip("*?.…- ") == ""
    return len(text) < SHORTEST or template or not words or all(len(set(word)) == 1 for word in words)


def spoken(reasons: Iterable[str]) -> list[str]:
    """Those that a person wrote, in order."""
    return sorted(reason for reason in reasons if not reason.lower().startswith(FROM_TOOLS))
