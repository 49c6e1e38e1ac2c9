"""Many times the connects, or the programs started, that one event of training made: a payload that scans or mines.

What one event does may hang on its data, so that only many times the most of training counts, and never a few.
"""

from __future__ import annotations

from sandbox.behaviour.anomaly import Anomaly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "burst"
TIMES, LEAST = 10, 20
"""More than so many times the most of one event of training, and more than so many, is a burst."""


def suspect(sort: str, count: int, most: Mapping[str, int]) -> Anomaly | None:
    """`count` accesses of a sort of anomaly.MOST in one invocation; nothing is said where training knows no most."""
    if sort not in most or count <= max(LEAST, TIMES * most[sort]):
        return None
    return Anomaly(NAME, f"{count} {sort} in one invocation, in training {most[sort]} at most")
