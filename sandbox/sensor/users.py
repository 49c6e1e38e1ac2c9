"""The libraries of one reading as a profile lists them under `by`: the same in training and for a detector."""

from __future__ import annotations

from sandbox.sensor.reading import FROM_STRING
from sandbox.violations.library import FUNCTION, named
from sandbox.violations.origin import STANDARD_LIBRARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.sensor.reading import Reading


NO_DISTRIBUTION = ("", FROM_STRING, STANDARD_LIBRARY)
"""Owners of frames that are not a distribution: the function's own code, a string, Python's own library."""


def users(reading: Reading) -> tuple[str, ...]:
    """The innermost library, and the outermost that the function's own code calls: one or two names, in order.

    Python's own library counts where no other is on the way, the function's own code where it calls by itself. () where
    only code from a string is on the stack, or where a name is no distribution's.
    """
    origin = reading.origin
    if origin is None:
        return ()
    if origin.library is None:
        return (FUNCTION,)
    inner = []
    for frame in reading.frames:
        if not frame.owner:
            break  # the function's own
        if frame.owner not in NO_DISTRIBUTION:
            inner.append(frame.owner)
    names = {named(name) for name in (inner[0], inner[-1])} if inner else {named(origin.distribution)}
    return tuple(sorted(names - {""}))
