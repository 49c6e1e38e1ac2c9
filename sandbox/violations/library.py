"""The names of libraries as profiles and policies list them under `by`: normalised, so that they can be compared.

    >>> named("Foo_Bar.baz"), named("standard library"), named("../etc")
    ('foo-bar-baz', 'python', '')
"""

from __future__ import annotations

from sandbox.violations.origin import STANDARD_LIBRARY

PYTHON = "python"
"""Python's own library, where no other is on the way."""
FUNCTION = "function"
"""The function's own code."""
LONGEST = 100
"""Characters."""
CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def named(distribution: str) -> str:
    """A distribution's name as names are compared (PEP 503); '' for what is none."""
    if distribution == STANDARD_LIBRARY:
        return PYTHON
    words = distribution.lower().replace("_", "-").replace(".", "-").split("-")
    name = "-".join(filter(None, words))
    return name if name and len(name) <= LONGEST and CHARACTERS.issuperset(name) else ""
