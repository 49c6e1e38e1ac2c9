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
DETECTORS = ("library-misuse", NEW_LIBRARY, "code-from-string", "foreign-memory", "late-load")


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


def stricter(answers: Iterable[str]) -> str:
    """The strictest of some responses; OFF for none."""
    return max(answers, key=RESPONSES.index, default=OFF)
