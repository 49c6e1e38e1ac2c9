"""An access that training knows, by a library that never made it: `requests` where only `botocore` connected.

The innermost library must be known for the access, and so must one of those that called it. Not all: whoever finds a
pooled connection closed opens it again, and that may be another caller of the same client than in training. Nothing is
said of an entry of which training knew nobody (a profile that a person wrote, or an older one), and nothing of the
function's own code, which may come to do by itself what a library did for it.
"""

from __future__ import annotations

from sandbox.behaviour.anomaly import NEW_LIBRARY, Anomaly
from sandbox.sensor.users import NO_DISTRIBUTION
from sandbox.violations.library import FUNCTION, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.behaviour.access import Access
    from sandbox.sensor.detectors.seen import Known, Seen

NAME = NEW_LIBRARY


def suspect(seen: Seen, access: Access, known: Known) -> Anomaly | None:
    """Where the library that makes the access, or all that call it, are none of those that made it in training."""
    if not known.by:
        return None
    names = _libraries(seen) or [name for name in seen.users if name != FUNCTION]
    if not names:
        return None
    inner, *outer = names
    if inner in known.by and (not outer or not known.by.isdisjoint(outer)):
        return None
    new = " and ".join(dict.fromkeys(name for name in (inner, *outer[-1:]) if name not in known.by))
    return Anomaly(NAME, f"by {new}, in training by {', '.join(sorted(known.by))}")


def _libraries(seen: Seen) -> list[str]:
    """The distributions between the access and the function's own code, each once, the innermost first."""
    found: dict[str, None] = {}
    for frame in seen.frames:
        if not frame.owner:
            break
        if frame.owner not in NO_DISTRIBUTION and (name := named(frame.owner)):
            found[name] = None
    return list(found)
