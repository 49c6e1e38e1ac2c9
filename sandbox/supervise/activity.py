"""What a function does, invocation by invocation: SANDBOX_ACTIVITY. Counts, and decides nothing.

The relay to the Runtime API says where an invocation begins and ends (sandbox/egress/relay.py). Its line is written
when the next event is asked for, before the platform can freeze the function. What is done before the first and
between two of them has lines of its own. Where there is no Runtime API a line is written each hour and at the end.
"""

from __future__ import annotations

import os
import time

from sandbox.behaviour.access import LISTEN, NETWORK, PROGRAM, WRITE
from sandbox.behaviour.anomaly import COUNTED, OFF, REPORT, TERMINATE
from sandbox.kernel.standing import standing
from sandbox.sensor.detectors import burst, survivors
from sandbox.supervise.reports import comm
from sandbox.violations.activity import ALLOWED, MOST_LISTED, AccessRecord, Activity, Reached
from sandbox.violations.record import counted_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from sandbox.behaviour.anomaly import Anomaly
    from sandbox.behaviour.call import Call
    from sandbox.kernel.standing import Standing
    from sandbox.kernel.task import Task
    from sandbox.supervise.judging import Judgement
    from sandbox.violations.journal import Journal
    from sandbox.violations.origin import Origin

INTERVAL = 3600.0
"""Seconds between the lines of a function without a Runtime API."""
_NOTHING: Mapping[str, Any] = {}
MOST_KEPT = 256
"""Things of one sort that are told apart in one line; further ones are counted together."""
NEW_LIBRARY = ("new-library-for-access", "late-load")
"""The detectors whose anomalies are news about libraries."""


class Ledger:
    """What was done in one stretch of time."""

    __slots__ = (
        "accesses", "anomalies", "answered", "began", "counts", "dropped", "new", "phase", "reached", "refused",
        "request", "shared", "written",
    )  # fmt: skip

    def __init__(self, phase: str, request: str | None, began: float) -> None:
        self.phase = phase
        self.request = request
        self.began = began
        self.answered: float | None = None
        self.shared = False
        self.accesses: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        """What detectors go by, by names of anomaly.MOST."""
        self.reached: dict[tuple[str, str], tuple[list[int], dict[str, None]]] = {}
        self.written: dict[str, None] = {}
        self.refused: dict[str, int] = {}
        self.anomalies: dict[str, int] = {}
        self.new: dict[str, None] = {}
        self.dropped = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was done."""
        return not (self.accesses or self.refused or self.anomalies)

    def reach(self, reach: str, thing: str, by: Iterable[str]) -> None:
        """Count an access to a destination, listener or program, by these libraries if that was asked."""
        found = self.reached.get((reach, thing))
        if found is None:
            if len(self.reached) >= MOST_KEPT:
                self.dropped += 1
                return
            found = self.reached[reach, thing] = ([0], {})
        found[0][0] += 1
        for name in by:
            self.name(found[1], name)

    def name(self, where: dict[str, None], text: str) -> None:
        """Keep a text once, in `written`, `new` or the libraries of one of `reached`."""
        if text not in where:
            if len(where) >= MOST_KEPT:
                self.dropped += 1
                return
            where[text] = None

    def record(
        self, function: str, now: float, *, looks: bool, cost: float, outlived: Iterable[str] = ()
    ) -> Activity:  # fmt: skip
        """The line. `looks` is whether paths were looked at, `cost` the CPU time in milliseconds since the last."""
        left = list(outlived)
        told: dict[str, list[Reached]] = {NETWORK: [], LISTEN: [], PROGRAM: []}
        for (reach, thing), (count, by) in self.reached.items():
            told[reach].append(Reached(thing, count[0], sorted(by)[:MOST_LISTED]))
        users = [by for _, by in self.reached.values()]
        lengths = [*map(len, (*told.values(), *users, self.written, self.new, left))]
        more = self.dropped + sum(max(0, length - MOST_LISTED) for length in lengths)
        until = now if self.answered is None else self.answered
        return Activity(
            function=function, phase=self.phase, request=self.request, duration=round((until - self.began) * 1000, 3),
            answered=self.answered is not None, shared=self.shared, accesses=self.accesses,
            destinations=told[NETWORK][:MOST_LISTED], listeners=told[LISTEN][:MOST_LISTED],
            programs=told[PROGRAM][:MOST_LISTED],
            written=list(self.written)[:MOST_LISTED] if looks else None, refused=self.refused,
            anomalies=self.anomalies, new=list(self.new)[:MOST_LISTED], outlived=left[:MOST_LISTED], more=more,
            cost=cost,
        )  # fmt: skip


class Follower:
    """Keeps the ledgers of one function and writes their lines. Not for several threads."""

    def __init__(
        self, function: str, journal: Journal, *, full: bool, looks: bool, runtime_api: bool,
        most: Mapping[str, int] = _NOTHING, answers: Mapping[str, str] = _NOTHING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`full`: each access has its line. `looks`: path calls are seen. `runtime_api`: there are invocations.

        `most` is that of Supervision, `answers` are the responses to the detectors of anomaly.OF_INVOCATIONS.
        """
        self._most = most
        self._answers = answers
        self._after_init: Standing | None = None
        self._stood: Standing | None = None
        self.terminate: Callable[[str], None] | None = None
        """Called where what an invocation left behind is to end the function."""
        self._function = function
        self._journal = journal
        self.full = full
        self._looks = looks
        self.at_begin: Callable[[], None] | None = None
        """Called at the beginning of each invocation."""
        self._clock = clock
        self._served: dict[str, Ledger] = {}
        self._aside = Ledger("init" if runtime_api else "run", None, clock())
        self._due = None if runtime_api else self._aside.began + INTERVAL
        self._spent = 0.0
        """CPU seconds of this process until the last line; the first tells of the start as well."""

    def began(self, request: str) -> None:
        """The function was given a request."""
        if self._aside.phase == "init" or not self._aside.is_empty:
            self._write(self._aside)
        now = self._clock()
        self._aside = Ledger("invoke", None, now)
        self._served[request] = Ledger("invoke", request, now)
        if self._after_init is None and self._answers.get(survivors.NAME, OFF) != OFF and self._most:
            self._after_init = self._stood = standing(os.getpid())
        if len(self._served) > 1:
            for ledger in self._served.values():
                ledger.shared = True
        if self.at_begin:
            self.at_begin()

    def answered(self, request: str) -> None:
        """Its answer has arrived."""
        if request in self._served:
            self._served[request].answered = self._clock()

    def ended(self, request: str) -> None:
        """The next is asked for, or the function is at its end."""
        ledger = self._served.pop(request, None)
        if ledger:
            left = self._outlived(ledger)
            self._write(ledger, left)
            if left and self.terminate and self._answers[survivors.NAME] == TERMINATE:
                self.terminate(left[0])
            self._aside = Ledger("invoke", None, self._clock())

    def reached(
        self, call: Call, reach: str, thing: str, task: Task, verdict: str, found: Judgement | None
    ) -> None:  # fmt: skip
        """An access that an entry of the profile allows, whether a detector kept it from being made or not."""
        for ledger in self._open():
            ledger.accesses[reach] = ledger.accesses.get(reach, 0) + 1
            ledger.reach(reach, thing, found.users if found else ())
            self._suspect(ledger, thing, found)
            if verdict != ALLOWED:
                _count(ledger.refused, counted_as(call, verdict))
        if self.full:
            self._tell(call, reach, thing, task, verdict, found.by if found else None)

    def refused(
        self, call: Call, reach: str, target: str, task: Task, verdict: str, *, known: bool = False
    ) -> None:  # fmt: skip
        """An access that the profile does not allow; with `reported` it was made all the same.

        `known`: training met the same refusal.
        """
        for ledger in self._open():
            if reach:
                ledger.accesses[reach] = ledger.accesses.get(reach, 0) + 1
            _count(ledger.refused, counted_as(call, verdict))
            if not known:
                ledger.name(ledger.new, f"{call} {target}".strip())
        if self.full:
            self._tell(call, reach, target, task, verdict, None)

    def suspected(self, target: str, found: Judgement) -> None:
        """What a detector says of an access that `refused` was told of."""
        for ledger in self._open():
            self._suspect(ledger, target, found)

    def looked(self, call: Call, reach: str, path: str, task: Task) -> None:
        """A path that a call reads or writes, and may."""
        for ledger in self._open():
            ledger.accesses[reach] = ledger.accesses.get(reach, 0) + 1
            if reach == WRITE and path:
                ledger.name(ledger.written, path)
        if self.full:
            self._tell(call, reach, path, task, ALLOWED, None)

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to write."""
        return None if self._due is None else max(0.0, self._due - self._clock())

    def tick(self) -> None:
        """Write the line of an hour that is over."""
        now = self._clock()
        if self._due is not None and now >= self._due:
            self._write(self._aside)
            self._aside = Ledger("run", None, now)
            self._due = now + INTERVAL

    def finish(self) -> None:
        """The function has ended: write what has no line yet."""
        for request in list(self._served):
            self.ended(request)
        if self._aside.phase != "invoke" or not self._aside.is_empty:
            self._write(self._aside)

    def _open(self) -> Iterable[Ledger]:
        return self._served.values() or (self._aside,)

    def _write(self, ledger: Ledger, outlived: Sequence[str] = ()) -> None:
        before, self._spent = self._spent, time.process_time()
        cost = round((self._spent - before) * 1000, 3)
        record = ledger.record(self._function, self._clock(), looks=self._looks, cost=cost, outlived=outlived)
        self._journal.write(record)

    def burst(self, call: Call) -> tuple[Anomaly | None, str]:
        """Count a call that the profile allows: what that is suspected of, and the response of the profile.

        What is only reported is suspected once in an invocation.
        """
        sort, answer = COUNTED.get(call.syscall, ""), self._answers.get(burst.NAME, OFF)
        if not sort or not self._served:
            return None, OFF
        found: Anomaly | None = None
        for ledger in self._served.values():
            ledger.counts[sort] = ledger.counts.get(sort, 0) + 1
            if answer != OFF:
                found = burst.suspect(sort, ledger.counts[sort], self._most) or found
        told = answer == REPORT and any(burst.NAME in ledger.anomalies for ledger in self._served.values())
        return (None, OFF) if found is None or told else (found, answer)

    def _outlived(self, ledger: Ledger) -> Sequence[str]:
        """The names of what an invocation has begun and left, more of it than training ever did."""
        if self._after_init is None or self._stood is None:
            return ()
        now = standing(os.getpid(), self._stood)
        begun, grown = now.since(self._stood), now.grown(self._after_init)
        self._stood = now
        left: list[str] = []
        for sort, _ in survivors.suspect(begun, grown, self._most):
            _count(ledger.anomalies, survivors.NAME)
            left += begun[sort]
        return left

    @staticmethod
    def _suspect(ledger: Ledger, thing: str, found: Judgement | None) -> None:
        suspicion = found.anomaly if found else None
        if suspicion:
            _count(ledger.anomalies, suspicion.detector)
            if suspicion.detector in NEW_LIBRARY:
                ledger.name(ledger.new, f"{thing}: {suspicion.detail}")

    def _tell(self, call: Call, reach: str, target: str, task: Task, verdict: str, by: Origin | None) -> None:
        request = next(iter(self._served)) if len(self._served) == 1 else None
        phase = "invoke" if self._served else self._aside.phase
        self._journal.write(AccessRecord(
            function=self._function, phase=phase, request=request, pid=task.process(), tid=task.tid,
            comm=comm(task.tid), call=call, reach=reach, target=target, verdict=verdict, by=by,
        ))  # fmt: skip


def _count(where: dict[str, int], text: str) -> None:
    if text in where or len(where) < MOST_KEPT:
        where[text] = where.get(text, 0) + 1
