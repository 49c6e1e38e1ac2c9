"""The lines of one supervisor's violations: which of them are written, what they name, and what else is read for them.

Loaded behind the answer to the supervisor's first call: later there may be no descriptor or memory left for it.
"""

from __future__ import annotations

import errno
import time

from sandbox.behaviour import access, anomaly, spelling
from sandbox.behaviour.access import LISTEN, NETWORK, PROGRAM, READ, WRITE, Access
from sandbox.behaviour.anomaly import OFF
from sandbox.behaviour.call import Call
from sandbox.behaviour.destination import Entry
from sandbox.kernel import tables
from sandbox.supervise.decision import DENY, REPORT, TERMINATE, VERDICTS, Decision
from sandbox.supervise.judging import Judgement
from sandbox.violations.activity import ALLOWED
from sandbox.violations.decode import decode_args
from sandbox.violations.limit import RateLimit
from sandbox.violations.record import QUESTION, Suspected, Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sandbox.egress.relay import Relay
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task
    from sandbox.names.forwarder import Forwarder
    from sandbox.supervise.activity import Follower
    from sandbox.supervise.judging import Judge
    from sandbox.violations.journal import Journal

MOST_TOLERANT = 64
"""Processes whose first tolerated refusal has a line; those of further ones are only counted."""

TARGETS = (*tables.BY_PATH, "openat2", *tables.EXECS)
"""The calls whose violation names the file or program as its target."""
BYTECODE = "/__pycache__"
"""The folder that Python makes beside code whose bytecode is missing, as any import may. Refused, it does without: in
training it is told not to (PYTHONDONTWRITEBYTECODE), and the refusal is not an alarm.
"""
OPENS = ("open", "openat")


def _reach(asked: Call) -> str:
    """What a call reaches, as Access names it."""
    if asked.syscall in tables.EXECS:
        return PROGRAM
    if asked.syscall in tables.LISTENS:
        return LISTEN
    if asked.syscall in tables.WITH_DESTINATION:
        return NETWORK
    if asked.syscall in OPENS and asked.arg_class == "read":
        return READ
    return WRITE if asked.syscall in tables.BY_PATH else ""


def _is_bytecode(syscall: str, target: str) -> bool:
    """Whether a call is to make Python's folder for bytecode, or in it the file that it then renames."""
    if syscall in tables.MKDIRS:
        return target.endswith(BYTECODE)
    folder, _, name = target.rpartition("/")
    module, _, number = name.rpartition(".")
    return syscall in OPENS and folder.endswith(BYTECODE) and module.endswith(".pyc") and number.isdecimal()


class Reports:
    """What one function's supervisor reports."""

    def __init__(
        self, function: str, arch: str, journal: Journal, forwarder: Forwarder | None, relay: Relay | None,
        judge: Judge, follower: Follower | None = None,
    ) -> None:  # fmt: skip
        """`forwarder` knows the names of addresses, `relay` the request that is served.

        `follower` hears of each access, whether it has a line here or not.
        """
        self._function = function
        self._arch = arch
        self._journal = journal
        self._forwarder = forwarder
        self._relay = relay
        self._tolerant: set[tuple[int, Call]] = set()
        self.judge = judge
        self._suspected = RateLimit()
        self._follower = follower

    def report(
        self, call: Notification, task: Task, asked: Call, decision: Decision, phase: str,
        target: str | None = None, address: SocketAddress | None = None, number: int = errno.EPERM,
    ) -> bool:  # fmt: skip
        """Count a violation, and write its line where there is room for one. Whether it is to end the function.

        `number` is the errno that the call gets, 0 for none. `target` and `address` are what was decided on,
        where the decision has read it: it is not read again.
        """
        syscall, arg_class = asked
        walks = target is None and syscall in TARGETS
        if target is None:
            target = self._target(asked, call, task, phase, foresee=False) if walks else ""
        if decision.answer == DENY and _is_bytecode(syscall, target):
            return False
        verdict = VERDICTS[decision.answer]
        if self._follower:
            named = target or (address.endpoint() if address else "")
            self._follower.refused(asked, _reach(asked), named, task, verdict, known=bool(decision.risk))
        if decision.risk:
            wanted = self._is_first(task, asked)
            self._journal.count(syscall, arg_class, verdict, line=wanted)
        else:
            wanted = self._journal.wants(syscall, arg_class, verdict, target)
        if not wanted:
            return False
        if walks:  # with the errno, which takes longer: few lines have room
            target = self._target(asked, call, task, phase)
        args = decode_args(syscall, call.args, task.read, self._arch, self._host_name, address)
        got = "" if decision.answer == REPORT or not number else errno.errorcode[number]
        found = self.judge.judge(call, task, Access(asked, phase, _reach(asked), target))
        if decision.risk:
            found = Judgement(found.by, users=found.users)  # training survived it, whoever made it
        if self._follower:
            self._follower.suspected(target, found)
        self._write(asked, args, target, decision, phase, task.process(), call.pid, got, found)
        return found.response == TERMINATE

    def meet(self, pid: int) -> None:
        """See Judge."""
        self.judge.meet(pid)

    def suspect(
        self, call: Notification, task: Task, asked: Call, phase: str, section: str, entry: str,
        target: str, address: SocketAddress | None = None,
    ) -> str:  # fmt: skip
        """Judge an access that an entry of the profile allows: the response of the profile, `off` for no suspicion.

        `section` is that of the entry, `target` what is reached. What is suspected has its line.
        """
        found: Judgement | None = None
        if self.judge.wants(call.pid, section, entry):
            found = self.judge.judge(call, task, Access(asked, phase, _reach(asked), target), section, entry)
        if self._follower:
            found = self._with_burst(call, task, Access(asked, phase, _reach(asked), target), found)
        answer = {anomaly.DENY: DENY, anomaly.TERMINATE: TERMINATE}.get(found.response, REPORT) if found else REPORT
        if self._follower:
            verdict = VERDICTS[answer] if answer != REPORT else ALLOWED
            self._follower.reached(asked, _reach(asked), entry, task, verdict, found)
        if found is None or found.anomaly is None:
            return OFF
        syscall, arg_class = asked
        if answer != REPORT:
            wanted = self._journal.wants(syscall, arg_class, VERDICTS[answer], target)
        else:
            wanted = self._suspected.take(syscall, found.anomaly.detector, Suspected.event, time.monotonic(), target)
        if wanted:
            args = decode_args(syscall, call.args, task.read, self._arch, self._host_name, address)
            reason = f"{found.anomaly.detector}: {found.anomaly.detail}"
            decision = Decision(answer, reason, spelling.of_anomaly(found.anomaly.detector))
            got = "EPERM" if answer == DENY else ""
            self._write(asked, args, target, decision, phase, task.process(), call.pid, got, found, allowed=True)
        return found.response

    def _with_burst(self, call: Notification, task: Task, access: Access, found: Judgement | None) -> Judgement | None:
        """What is found about an access, with a burst that it may be part of where that is answered more strictly."""
        assert self._follower
        burst, response = self._follower.burst(access.call)
        if burst is None or (found and anomaly.stricter((found.response, response)) == found.response != OFF):
            return found
        if found is None:
            found = self.judge.judge(call, task, access)
        return found.also(burst, response)

    def makes_bytecode(self, call: Notification, task: Task, asked: Call, phase: str) -> bool:
        """Whether a call is Python's own to keep bytecode, which no function needs, and audit refuses, too.

        Let through it could put other code where Python looks for it, and reported it would look like something that
        the function needs.
        """
        makes = asked.syscall in (*tables.MKDIRS, *OPENS)
        return makes and _is_bytecode(asked.syscall, self._target(asked, call, task, phase, foresee=False))

    def question(self, name: str, kind: str, answer: str, phase: str, pid: int) -> None:
        """Report a DNS question of the function's process for a name that the profile does not hold."""
        asked = Call("connect")
        target = str(Entry("tcp", "name", name))  # the port is not known yet
        if not self._journal.wants(*asked, VERDICTS[answer], target):
            return
        reason = QUESTION if answer == REPORT else f"{QUESTION}: NXDOMAIN"
        decision = Decision(answer, reason, spelling.of_entry("network", target))
        self._write(asked, [name, kind], target, decision, phase, pid, pid, "")

    def _is_first(self, task: Task, asked: Call) -> bool:
        """Whether this process gets its line for tolerated calls of this kind now; the others are counted."""
        key = (task.process(), asked)
        if key in self._tolerant or len(self._tolerant) >= MOST_TOLERANT:
            return False
        self._tolerant.add(key)
        return True

    @staticmethod
    def _target(asked: Call, call: Notification, task: Task, phase: str, *, foresee: bool = True) -> str:
        """The physical path that a call reaches, the last of two; '' for a descriptor, which no list could hold.

        A program is named as it was asked for, as in training: without Landlock a list holds no other name of it.

        Nor is what the file system refuses anyway a thing to add to a profile.
        """
        accesses = access.of_call(asked, call.args, task, phase, foresee=foresee)
        last = accesses[-1] if accesses else None
        if last is None or last.error or (last.magic and not last.name):
            return ""
        return last.name or last.thing if last.reach == access.PROGRAM else last.thing

    def _write(
        self, asked: Call, args: Sequence[str], target: str, decision: Decision, phase: str, pid: int, tid: int,
        got: str, found: Judgement | None = None, *, allowed: bool = False,
    ) -> None:  # fmt: skip
        """Write the line of a call by the thread `tid` of a process; `got` is the errno that it sees, or ''.

        `allowed`: the profile allows it, so that it is a violation only where a detector kept it from being made.
        """
        suspicion = found.anomaly if found else None
        told: dict[str, Any] = {
            "function": self._function, "phase": phase, "request": self._relay.request() if self._relay else None,
            "pid": pid, "tid": tid, "comm": comm(tid), "syscall": asked.syscall, "arg_class": asked.arg_class,
            "args": args, "target": target, "allow": decision.allow, "risk": decision.risk,
            "by": found.by if found else None, "anomaly": suspicion.detector if suspicion else "",
            "detail": suspicion.detail if suspicion else "",
        }  # fmt: skip
        if allowed and decision.answer == REPORT:
            self._journal.write(Suspected(**told))
            return
        verdict = VERDICTS[decision.answer]
        self._journal.write(Violation(**told, verdict=verdict, errno=got, reason=decision.reason))

    def _host_name(self, address: bytes) -> str:
        names = self._forwarder.names_of(address) if self._forwarder else frozenset()
        return min(names, default="")


def comm(tid: int) -> str:
    """A thread's name (man 5 proc); '' where it is gone."""
    try:
        with open(f"/proc/{tid}/comm", "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
