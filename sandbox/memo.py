"""Memoisation without functools, whose import takes a fifth of the supervisor's load."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    Given = ParamSpec("Given")
    Found = TypeVar("Found")


def memo(function: Callable[Given, Found]) -> Callable[Given, Found]:
    """The function, asked once for each tuple of positional arguments. What raises is asked again."""
    known: dict[object, Found] = {}

    def look(*key: Given.args, **named: Given.kwargs) -> Found:
        try:
            return known[key]
        except KeyError:
            found = known[key] = function(*key, **named)
            return found

    look.__doc__ = function.__doc__
    look.__name__ = function.__name__
    return look


def bounded_memo(function: Callable[Given, Found], most: int) -> Callable[Given, Found]:
    """The same, but when `most` answers are known all are forgotten at once."""
    known: dict[object, Found] = {}

    def look(*key: Given.args, **named: Given.kwargs) -> Found:
        try:
            return known[key]
        except KeyError:
            if len(known) >= most:
                known.clear()
            found = known[key] = function(*key, **named)
            return found

    return look
