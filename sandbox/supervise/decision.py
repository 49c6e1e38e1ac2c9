"""What a supervisor answers to a call that waits: pure, from the policy, the phase and the call's registers.

    decide(Call("ptrace"), "invoke")  ->  Decision("terminate", ...)
"""

from __future__ import annotations

from sandbox.behaviour.call import Call
from sandbox.violations.record import DENIED, REPORTED, TERMINATED, technique_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.bundle import Supervision

CONTINUE, DENY, TERMINATE, REPORT = "continue", "deny", "terminate", "report"
VERDICTS = {DENY: DENIED, TERMINATE: TERMINATED, REPORT: REPORTED}


class Decision:
    """`answer` is one of the four constants; the texts are for the violation (all but CONTINUE are one)."""

    __slots__ = ("allow", "answer", "reason")

    def __init__(self, answer: str, reason: str = "", allow: str = "") -> None:
        self.answer = answer
        self.reason = reason
        self.allow = allow


class Decider:
    """The policy's side of the supervisor. `audit` lets through and reports what is not hard-denied."""

    def __init__(self, supervision: Supervision, *, audit: bool) -> None:
        self._init = {Call(name, arg_class) for name, classes in supervision.init.items() for arg_class in classes}
        self._denied = supervision.denied
        self._never = frozenset(map(Call.parse, supervision.never_granted))
        self._terminate = frozenset(supervision.terminate)
        self._responses = {Call.parse(text): response for text, response in supervision.responses.items()}
        self._brokered = frozenset(map(Call.parse, supervision.brokered))
        self._audit = audit

    def takes(self, call: Call, phase: str) -> bool:
        """Whether the profile has this call for the phase, so that whom it reaches alone decides."""
        for known in (call, Call(call.syscall)):
            if known in self._brokered and (phase == "init" or known not in self._init):
                return True
        return False

    def response(self, call: Call, *, final: bool = False) -> str:
        """The answer to a call whose destination is not allowed; `final` ones are never let through."""
        answer = REPORT if self._audit else self._response(call, DENY)
        return DENY if final and answer == REPORT else answer

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
        answer = REPORT if self._audit else self._response(call, DENY)
        return Decision(answer, reason, spelling.of_use(phase, call))

    def _response(self, call: Call, usual: str) -> str:
        """What the profile says of this very class, of the syscall, or the usual."""
        return self._responses.get(call, self._responses.get(Call(call.syscall), usual))
