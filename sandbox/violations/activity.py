"""What a function did: one line an invocation, and where each access is asked for, one line each.

No violations: nothing here was refused for being told of. Described in schema.json as `activity` and `access`.
"""

from __future__ import annotations

from sandbox.violations.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from sandbox.behaviour.call import Call
    from sandbox.violations.origin import Origin

ALLOWED = "allowed"
"""The verdict of an access that is not a violation."""
MOST_LISTED = 16
"""Things that one list of a line names; the line says how many more there were."""


class Reached:
    """One destination, listener or program: `thing` as the profile's entry, how often, and by which libraries."""

    __slots__ = ("by", "count", "thing")

    def __init__(self, thing: str, count: int, by: Sequence[str]) -> None:
        self.thing: Final = thing
        self.count: Final = count
        self.by: Final = tuple(by)

    def fields(self, name: str) -> dict[str, object]:
        """As JSON: the thing stands under `name`."""
        return {name: self.thing, "count": self.count, "by": self.by}


class Activity(Record):
    """What was done in one invocation, in the init phase, between two invocations, or in a part of a run.

    `duration` is in milliseconds. `request` is None outside invocations; `answered` says whether its answer arrived,
    `shared` whether another was served meanwhile, so that some of this may be the other's. `accesses` counts by
    reach, refused ones too, `refused` by call and verdict, `anomalies` by detector. `written` are the paths of calls
    that create, change or remove, None where nobody looks at paths. `new` is what training does not know, `outlived`
    what the invocation began and left behind. `more` counts what is left out of the lists. `cost` is the CPU time in
    milliseconds that the supervisor used since the line before; None where it was not measured.
    """

    __slots__ = (
        "accesses", "anomalies", "answered", "cost", "destinations", "duration", "function", "listeners", "more", "new",
        "outlived", "phase", "programs", "refused", "request", "shared", "written",
    )  # fmt: skip
    event = "activity"

    def __init__(
        self, *, function: str, phase: str, request: str | None, duration: float, answered: bool, shared: bool,
        accesses: Mapping[str, int], destinations: Sequence[Reached], listeners: Sequence[Reached],
        programs: Sequence[Reached], written: Sequence[str] | None, refused: Mapping[str, int],
        anomalies: Mapping[str, int], new: Sequence[str], outlived: Sequence[str] = (), more: int = 0,
        cost: float | None = None, time: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(time)
        self.function: Final = function
        self.phase: Final = phase
        self.request: Final = request
        self.duration: Final = duration
        self.answered: Final = answered
        self.shared: Final = shared
        self.accesses: Final = dict(accesses)
        self.destinations: Final = tuple(destinations)
        self.listeners: Final = tuple(listeners)
        self.programs: Final = tuple(programs)
        self.written: Final = None if written is None else tuple(written)
        self.refused: Final = dict(refused)
        self.anomalies: Final = dict(anomalies)
        self.new: Final = tuple(new)
        self.outlived: Final = tuple(outlived)
        self.more: Final = more
        self.cost: Final = cost

    def fields(self) -> dict[str, object]:
        """See Record."""
        looked: dict[str, object] = {} if self.written is None else {"written": self.written}
        return {
            "function": self.function, "phase": self.phase, "request": self.request, "duration": self.duration,
            "answered": self.answered, "shared": self.shared, "accesses": self.accesses,
            "destinations": [one.fields("to") for one in self.destinations],
            "listeners": [one.fields("at") for one in self.listeners],
            "programs": [one.fields("path") for one in self.programs], **looked, "refused": self.refused,
            "anomalies": self.anomalies, "new": self.new, "outlived": self.outlived, "more": self.more,
            **({} if self.cost is None else {"cost": self.cost}),
        }  # fmt: skip


class AccessRecord(Record):
    """One access that was decided by the supervisor: what it reached, and what became of it.

    `target` is what is reached, as a profile writes it; '' for nothing. `by` is None where nobody was asked, or could
    tell.
    """

    __slots__ = ("by", "call", "comm", "function", "phase", "pid", "reach", "request", "target", "tid", "verdict")
    event = "access"

    def __init__(
        self, *, function: str, phase: str, request: str | None, pid: int, tid: int, comm: str, call: Call, reach: str,
        target: str, verdict: str, by: Origin | None = None, time: float | None = None,
    ) -> None:  # fmt: skip
        """`verdict` is ALLOWED, or one of record.VERDICTS."""
        super().__init__(time)
        self.function: Final = function
        self.phase: Final = phase
        self.request: Final = request
        self.pid: Final = pid
        self.tid: Final = tid
        self.comm: Final = comm
        self.call: Final = call
        self.reach: Final = reach
        self.target: Final = target
        self.verdict: Final = verdict
        self.by: Final = by

    def fields(self) -> dict[str, object]:
        """See Record."""
        by: dict[str, object] = {"by": self.by.fields()} if self.by else {}
        return {
            "function": self.function, "phase": self.phase, "request": self.request, "pid": self.pid, "tid": self.tid,
            "comm": self.comm, "syscall": self.call.syscall, "class": self.call.arg_class, "reach": self.reach,
            "target": self.target, "verdict": self.verdict, **by,
        }  # fmt: skip
