"""An access that training knows, by a library that never made it: `requests` where only `botocore` connected.

Nothing is said of an entry of which training knew nobody (a profile that a person wrote, or an older one), and nothing
of the function's own code, which may come to do by itself what a library did for it.
"""

from __future__ import annotations

from sandbox.behaviour.anomaly import Anomaly
from sandbox.violations.library import FUNCTION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.behaviour.access import Access
    from sandbox.sensor.detectors.seen import Known, Seen

NAME = "new-library-for-access"


def suspect(seen: Seen, access: Access, known: Known) -> Anomaly | None:
    """Where one of the libraries of the stack is none of those that made the access in training."""
    if not known.by:
        return None
    new = sorted({*seen.users} - known.by - {FUNCTION})
    if not new:
        return None
    before = ", ".join(sorted(known.by))
    return Anomaly(NAME, f"by {' and '.join(new)}, in training by {before}")
