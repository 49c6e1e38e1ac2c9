"""A process, thread, listener or connection that outlives the invocation that began it: what a payload leaves waiting.

Pools of libraries outlive invocations, too, and training says how many: only more than that is suspected, and only of
what this invocation began.
"""

from __future__ import annotations

import os

from sandbox.behaviour.anomaly import Anomaly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NAME = "survivors"
SPARE = {"threads": 2 * (os.cpu_count() or 1)}
"""So many more are not suspected: compilers and collectors of a JVM, V8 or Go start threads by load and processors."""


def suspect(
    begun: Mapping[str, Sequence[str]], grown: Mapping[str, int], most: Mapping[str, int]
) -> Iterator[tuple[str, Anomaly]]:
    """What is suspected, with its sort.

    By sort of anomaly.MOST, the names of what an invocation began and left, and how many more there are than after
    init. Nothing is said of a sort of which training knows no most.
    """
    for sort, names in begun.items():
        if names and sort in most and grown[sort] > most[sort] + SPARE.get(sort, 0):
            yield sort, Anomaly(NAME, f"{grown[sort]} {sort} more than after init, in training {most[sort]} at most")
