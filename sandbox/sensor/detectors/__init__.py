"""Detectors: reasons to suspect a call that neither the filter nor a profile's lists express. One module each.

    for detector in DETECTORS: detector.suspect(seen, access, known)    # an Anomaly, or None

Each is a pure function of what was read while the call waits (Seen), what it asks for (Access), and what training
knows of that (Known). What could not be read is suspected by none.
"""

from __future__ import annotations

from sandbox.sensor.detectors import (
    burst,
    code_from_string,
    foreign_memory,
    late_load,
    library_misuse,
    new_library,
    survivors,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from sandbox.behaviour.access import Access
    from sandbox.behaviour.anomaly import Anomaly
    from sandbox.sensor.detectors.seen import Known, Seen
    from sandbox.sensor.reading import StackFrame

    class Detector(Protocol):
        """A module of this package."""

        NAME: str

        def suspect(self, seen: Seen, access: Access, known: Known) -> Anomaly | None: ...


DETECTORS: tuple[Detector, ...] = (foreign_memory, library_misuse, code_from_string, late_load, new_library)
"""In the order in which one of several is named on a line."""
OF_INVOCATIONS = (burst, survivors)
"""Those that look at a whole invocation, each by what it needs of that."""


def marks(frames: Sequence[StackFrame]) -> frozenset[str]:
    """What training notes beside the libraries of a stack, so that it is not an anomaly later.

    The entry point that it leads through, by its name, and that it leads through code from a string.
    """
    found = library_misuse.entered(frames)
    names = {found[0].name} if found else set()
    return frozenset(names | ({code_from_string.NAME} if code_from_string.ran(frames) else set()))
