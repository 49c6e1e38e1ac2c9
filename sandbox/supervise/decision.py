"""What a supervisor answers to a call that waits: pure, from the policy, the phase and the call's registers.

    decide("ptrace", "", "invoke")  ->  Decision("terminate", ...)
"""

from __future__ import annotations

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
        self._init = {(syscall, name) for syscall, names in supervision.init.items() for name in names}
        self._denied = supervision.denied
        self._never = frozenset(supervision.never_granted)
        self._terminate = frozenset(supervision.terminate)
        self._responses = supervision.responses
        self._brokered = frozenset(supervision.brokered)
        self._audit = audit

    def takes(self, syscall: str, name: str, phase: str) -> bool:
        """Whether the profile has this call for the phase, so that whom it reaches alone decides."""
        for item, class_ in ((f"{syscall} {name}".strip(), name), (syscall, "")):
            if item in self._brokered and (phase == "init" or (syscall, class_) not in self._init):
                return True
        return False

    def response(self, syscall: str, name: str, *, final: bool = False) -> str:
        """The answer to a call whose destination is not allowed; `final` ones are never let through."""
        answer = REPORT if self._audit else self._response(syscall, name, DENY)
        return DENY if final and answer == REPORT else answer

    def decide(self, syscall: str, name: str, phase: str) -> Decision:
        """For a syscall with an argument class ('' without) in a phase (init, invoke, run)."""
        known_in_init = (syscall, name) in self._init
        classes = self._denied.get(syscall)
        hard = classes is not None and (not classes or name in classes)
        if known_in_init and phase == "init" and not hard:
            return Decision(CONTINUE)
        from sandbox.behaviour import spelling  # a start without violations does without

        if classes is not None and hard:
            _, _, title = technique_of(syscall, name)
            never = f"{syscall} {name}".strip() in self._never or syscall in self._never
            text = "" if never else spelling.of_grant(syscall, (name,) if classes else ())
            usual = TERMINATE if syscall in self._terminate else DENY
            answer = self._response(syscall, name, usual)
            # `report` for a whole syscall means its other classes: a hard denial is never let through.
            return Decision(usual if answer == REPORT else answer, f"hard-denied: {title}", text)
        reason = "learned for the init phase only" if known_in_init else "not in the profile"
        answer = REPORT if self._audit else self._response(syscall, name, DENY)
        return Decision(answer, reason, spelling.of_use(phase, syscall, name))

    def _response(self, syscall: str, name: str, usual: str) -> str:
        """What the profile says of this very class, of the syscall, or the usual."""
        return self._responses.get(f"{syscall} {name}", self._responses.get(syscall, usual))
