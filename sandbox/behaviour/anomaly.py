"""What detectors say, and what a profile makes of it: `on-anomaly`, in a profile and in the policy compiled from it.

    on-anomaly: deny                                          # whichever detector it is
    on-anomaly: {all: report, library-misuse: deny}

A detector suspects a call that the profile may allow (sandbox/sensor/detectors).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Final

OFF, REPORT, DENY, TERMINATE = RESPONSES = ("off", "report", "deny", "terminate")
"""From the laxest on: a detector that is not asked, a line, a line and EPERM, the end of the function."""
ALL = "all"
"""Stands for every detector that is not named."""
NEW_LIBRARY = "new-library-for-access"
"""The one that is answered by a name under `by`."""
OF_CALLS = ("library-misuse", NEW_LIBRARY, "code-from-string", "foreign-memory", "late-load")
OF_INVOCATIONS = ("burst", "survivors")
"""Those that look at a whole invocation: SANDBOX_ACTIVITY says where it begins and ends."""
DETECTORS = (*OF_CALLS, *OF_INVOCATIONS)
CONNECTS, PROGRAMS = "connects", "programs"
COUNTED = {"connect": CONNECTS, "execve": PROGRAMS, "execveat": PROGRAMS}
"""What a call is counted as."""
MOST = (CONNECTS, PROGRAMS, "processes", "threads", "listeners", "connections")
"""What a profile says the most of that one event of training did, or left behind that was not there after init."""


class Anomaly:
    """What a detector found: its name, and for people what it saw."""

    __slots__ = ("detail", "detector")

    def __init__(self, detector: str, detail: str) -> None:
        self.detector: Final = detector
        self.detail: Final = detail

    def __repr__(self) -> str:
        return f"Anomaly({self.detector!r}, {self.detail!r})"


def response(settings: Mapping[str, str], detector: str) -> str:
    """One of RESPONSES; `settings` are the pairs of an `on-anomaly`, none where the profile has none."""
    return settings.get(detector) or settings.get(ALL, REPORT)


def of_invocations(settings: Mapping[str, str], *, audit: bool) -> dict[str, str]:
    """The response to each detector of OF_INVOCATIONS; in audit none is more than a report."""
    found = {name: response(settings, name) for name in OF_INVOCATIONS}
    return {name: REPORT if audit and answer != OFF else answer for name, answer in found.items()}


def stricter(answers: Iterable[str]) -> str:
    """The strictest of some responses; OFF for none."""
    return max(answers, key=RESPONSES.index, default=OFF)
