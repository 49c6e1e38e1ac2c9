"""An access below code that was compiled from a string and run: `exec`, `eval`, a console.

Only what has no file's name at all, and is run as a whole: generated classes and templates call their source something
of their own, and the functions that dataclasses and others make of strings are called by name. Where the whole program
came from a string (`python -c`), that is the function.
"""

from __future__ import annotations

from sandbox.behaviour.access import READ
from sandbox.behaviour.anomaly import Anomaly
from sandbox.sensor.reading import FROM_STRING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.behaviour.access import Access
    from sandbox.sensor.detectors.seen import Known, Seen
    from sandbox.sensor.reading import StackFrame

NAME = "code-from-string"
UNNAMED = ("", "<string>", "<stdin>")
"""What exec(), eval() and consoles call source without a file."""
WHOLE = "<module>"


def ran(frames: Sequence[StackFrame]) -> StackFrame | None:
    """The innermost frame of such code, below which the access is and above which other code has called it."""
    last = len(frames) - 1
    while last >= 0 and frames[last].owner == FROM_STRING:
        last -= 1
    unnamed = (frame for frame in frames[: last + 1] if frame.file in UNNAMED and frame.owner == FROM_STRING)
    return next((frame for frame in unnamed if frame.function == WHOLE), None)


def suspect(seen: Seen, access: Access, known: Known) -> Anomaly | None:
    """Where the stack leads through code from a string, unless training saw the same access below such."""
    if access.reach == READ or known.has(NAME):
        return None
    found = ran(seen.frames)
    return Anomaly(NAME, f"below {found.file or 'code without a file'} line {found.line or '?'}") if found else None
