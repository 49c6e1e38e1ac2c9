"""An access in an invocation by a library that training never loaded: what a payload brought along, or had imported.

Nothing is said where training knows no libraries (an older profile, another runtime), nor of what no metadata names.
"""

from __future__ import annotations

from sandbox.behaviour.anomaly import Anomaly
from sandbox.sensor.users import NO_DISTRIBUTION
from sandbox.violations.library import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.behaviour.access import Access
    from sandbox.sensor.detectors.seen import Known, Seen

NAME = "late-load"


def suspect(seen: Seen, access: Access, known: Known) -> Anomaly | None:
    """Where a library between the access and the function's own code is none of those that training loaded."""
    if access.phase == "init" or not known.libraries:
        return None
    for frame in seen.frames:
        if not frame.owner:
            break  # the function's own: what called that is there since the start
        if frame.owner not in NO_DISTRIBUTION and frame.version and named(frame.owner) not in known.libraries:
            return Anomaly(NAME, f"in {frame.module} of {frame.owner} {frame.version}, which training never loaded")
    return None
