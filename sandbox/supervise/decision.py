"""What a supervisor answers to a call that waits, from the policy, the phase and the call's registers.

    decide(Call("ptrace"), "invoke")  ->  Decision("terminate", ...)

For a signal it also counts whom it reaches: the function itself, others, or the supervisor, which none may reach. That
is decided on registers alone, so that the call may go on; but for a pidfd, which says nothing to a filter and can be
exchanged after a look. Where Landlock holds signals in the function's domain (ABI 6) the kernel decides about those.
"""

from __future__ import annotations

import os

from sandbox.behaviour import arguments
from sandbox.behaviour.call import Call
from sandbox.behaviour.walker import Walker
from sandbox.violations.record import DENIED, REPORTED, TERMINATED, technique_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.kernel.task import Task
    from sandbox.supervised import Supervision

CONTINUE, DENY, TERMINATE, REPORT = "continue", "deny", "terminate", "report"
VERDICTS = {DENY: DENIED, TERMINATE: TERMINATED, REPORT: REPORTED}

SIGNALS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal")
TO_SUPERVISOR = "a signal to the supervisor, or to all that it is among"
OUTSIDE = "a signal by a pidfd to a process that is none of the function's"
UNSEEN = "a signal by a pidfd, whose target only Landlock ABI 6 could hold, which is not in force"
ENDS = ("SIGTERM", "SIGKILL")
"""With these a process may end its own children. Whether it does is often chance: a pool of processes that is closed
signals the workers that have not ended by then, which training sees or not."""


class Decision:
    """`answer` is one of the four constants; the texts are for the violation (all but CONTINUE are one)."""

    __slots__ = ("allow", "answer", "reason", "risk")

    def __init__(self, answer: str, reason: str = "", allow: str = "", risk: str | None = None) -> None:
        """`risk` is that of the call unless something else is said."""
        self.answer = answer
        self.reason = reason
        self.allow = allow
        self.risk = risk


class Decider:
    """The policy's side of the supervisor. `audit` lets through and reports what is not hard-denied."""

    def __init__(self, supervision: Supervision, *, audit: bool) -> None:
        self._init = {Call(name, arg_class) for name, classes in supervision.init.items() for arg_class in classes}
        self._denied = supervision.denied
        self._never = frozenset(map(Call.parse, supervision.never_granted))
        self._terminate = frozenset(supervision.terminate)
        self._responses = {Call.parse(text): response for text, response in supervision.responses.items()}
        self._brokered = frozenset(map(Call.parse, supervision.brokered))
        self._tolerates: dict[Call, set[tuple[str, str]]] = {}
        for text in supervision.tolerates:
            phase, at, called = text.split(" ", 2)
            self._tolerates.setdefault(Call.parse(called), set()).add((phase, at))
        self.on_anomaly = supervision.on_anomaly
        self.by = supervision.by
        self.libraries = supervision.libraries
        self.audit = audit

    def takes(self, call: Call, phase: str) -> bool:
        """Whether the profile has this call for the phase, so that whom it reaches alone decides."""
        return call.is_taken(phase, self._brokered, self._init)

    def response(self, call: Call, *, final: bool = False) -> str:
        """The answer to a call whose destination is not allowed; `final` ones are never let through."""
        answer = REPORT if self.audit else self._response(call, DENY)
        return DENY if final and answer == REPORT else answer

    def knows_refusal(self, call: Call) -> bool:
        """Whether training survived a refusal of this call, in whatever phase and whomever it was aimed at.

        What the profile answers to it expressly stands before that.
        """
        answered = call in self._responses or Call(call.syscall) in self._responses
        return call in self._tolerates and not answered

    def tolerates(self, call: Call, phase: str, at: str) -> bool:
        """Whether training survived it in this phase, aimed at the same; during init what any phase may do counts."""
        return any(known == at and where in (phase, "invoke") for where, known in self._tolerates.get(call, ()))

    def tolerated(self, call: Call, args: Sequence[int], task: Task, phase: str) -> Decision | None:
        """The answer to a hard-denied call that training survived, at the same target; None for any other."""
        from sandbox.behaviour.aim import aim

        at = aim(call.syscall, args, task, os.getpid())
        if not self.tolerates(call, phase, at):
            return None
        return Decision(DENY, f"tolerated: training met the same refusal, at {at}", risk="low")

    def decide(self, call: Call, phase: str) -> Decision:
        """For a call in a phase (init, invoke, run)."""
        syscall, arg_class = call
        known_in_init = call in self._init
        classes = self._denied.get(syscall)
        hard = classes is not None and (not classes or arg_class in classes)
        if known_in_init and phase == "init" and not hard:
            return Decision(CONTINUE)
        from sandbox.behaviour import spelling  # a start without violations does without

        if classes is not None and hard:
            _, _, title = technique_of(call)
            never = call in self._never or Call(syscall) in self._never
            text = "" if never else spelling.of_grant(syscall, (arg_class,) if classes else ())
            usual = TERMINATE if syscall in self._terminate else DENY
            answer = self._response(call, usual)
            # `report` for a whole syscall means its other classes: a hard denial is never let through.
            return Decision(usual if answer == REPORT else answer, f"hard-denied: {title}", text)
        reason = "learned for the init phase only" if known_in_init else "not in the profile"
        answer = REPORT if self.audit else self._response(call, DENY)
        return Decision(answer, reason, spelling.of_use(phase, call))

    def _response(self, call: Call, usual: str) -> str:
        """What the profile says of this very class, of the syscall, or the usual."""
        return self._responses.get(call, self._responses.get(Call(call.syscall), usual))


class Signalling:
    """Decides on signals: by the class of the call, which `decider` knows, and by whom it would reach."""

    def __init__(self, decider: Decider, *, self_only: bool, scoped: bool, attendant: int = 0) -> None:
        """`self_only`: every signal to others is notified, whatever its class.

        `scoped` is whether Landlock keeps the function's signals in its own domain, or in an audit would. `attendant`
        is the number of another process that counts as the supervisor; 0 for none.
        """
        self._decider = decider
        self._self_only = self_only
        self._scoped = scoped
        self._audit = decider.audit
        self._pid = os.getpid()
        self._attendant = attendant or self._pid
        self._group = os.getpgrp()

    def decide(self, asked: Call, args: Sequence[int], task: Task, phase: str) -> tuple[Call, Decision]:
        """The call that is reported, and the decision."""
        if self.raises(asked.syscall, args, task):
            return asked, Decision(CONTINUE)
        inside = not self._self_only or self.is_own(asked.syscall, args, task)
        objection = self.objection(asked.syscall, args, task)
        if inside and not objection and (self._decider.takes(asked, phase) or self._ends_child(asked, args, task)):
            return asked, Decision(CONTINUE)
        if not inside:
            asked = asked.to_others()
        decision = self._decider.decide(asked, phase)
        if not objection or decision.answer == TERMINATE:
            return asked, decision
        return asked, Decision(DENY if objection == TO_SUPERVISOR else self._decider.response(asked), objection)

    def _ends_child(self, asked: Call, args: Sequence[int], task: Task) -> bool:
        """Whether a process ends a child of its own, where the function makes processes."""
        if self._self_only or asked.syscall != "kill" or asked.arg_class not in ENDS:
            return False
        from sandbox.behaviour.aim import is_child

        return is_child(args[0] & arguments.LOW, task)

    def objection(self, syscall: str, args: Sequence[int], task: Task) -> str:
        """Why the call may never go on, whatever the profile holds; '' when only the profile decides."""
        if syscall == "pidfd_send_signal":
            return self._objection_to_pidfd(args, task)
        target = args[0] & arguments.LOW
        if target in (self._pid, self._attendant, -1 & arguments.LOW, -self._group & arguments.LOW):
            return TO_SUPERVISOR
        # kill(2) takes the number of any thread for its process, and 0 for the caller's process group.
        if os.path.exists(f"/proc/self/task/{target}"):
            return TO_SUPERVISOR
        return TO_SUPERVISOR if target == 0 and syscall == "kill" and _group(task.tid) in (self._group, -1) else ""

    def _objection_to_pidfd(self, args: Sequence[int], task: Task) -> str:
        """No signal reaches nobody: Go asks so whether pidfds work."""
        if not args[1] & arguments.LOW or (self._scoped and not self._audit):
            return ""
        if not self._scoped:
            return UNSEEN
        from sandbox.behaviour.aim import OTHER, aim

        return OUTSIDE if aim("pidfd_send_signal", args, task, self._pid) == OTHER else ""

    def raises(self, syscall: str, args: Sequence[int], task: Task) -> bool:
        """Whether a process signals itself by its number, or a thread itself, as each always may by tgkill(2).

        glibc's raise(3) is tgkill, musl's is tkill. Neither number can become another's while its owner waits for us.
        """
        target = args[0] & arguments.LOW
        return (syscall == "tkill" and target == task.tid) or (syscall == "kill" and target == task.process())

    def is_own(self, syscall: str, args: Sequence[int], task: Task) -> bool:
        """Whether the call reaches its caller's own process only; for a pidfd, where the domain holds it, too."""
        target = args[0] & arguments.LOW
        if syscall == "pidfd_send_signal":
            return True
        process = task.process()
        return target == process or (syscall == "tkill" and os.path.exists(f"/proc/{process}/task/{target}"))


def _group(tid: int) -> int:
    try:
        return os.getpgid(tid)
    except ProcessLookupError:
        return -1


def keeps_owner(args: Sequence[int], task: Task) -> bool:
    """Whether an fchown(2) names the owner that its file has, as SQLite's for root do, who trained as somebody else.

    Whoever exchanges the descriptor meanwhile wins nothing: the call is not made.
    """
    place = f"/proc/{task.tid}/fd/{args[0] & arguments.LOW}"
    try:
        if Walker(task.tid).walk(None, os.fsencode(os.readlink(place))).unsure:
            return False  # on a file system that may hang
        found = os.stat(place)
    except OSError:
        return False
    return all(args[at] & arguments.LOW in (own, arguments.LOW) for at, own in ((1, found.st_uid), (2, found.st_gid)))
