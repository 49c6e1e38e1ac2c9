"""The answer to an exec, where the profile grants it: refused with a line, let go on, or followed into its program."""

from __future__ import annotations

import errno

from sandbox.behaviour.call import Call
from sandbox.supervise import seized
from sandbox.supervise.decision import DENY, REPORT, TERMINATE, Decision
from sandbox.supervise.programs import ExecRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task
    from sandbox.supervise.decision import Decider
    from sandbox.supervise.programs import Expected, Programs

    Report = Callable[[Notification, Task, Call, Decision, str | None, SocketAddress | None, int], None]

REREAD = "a script where the function writes is read again by its interpreter, changed or not"
UNSEIZED = "ptrace(2) is refused: an exec is compared before, not when, its program starts"
SWAPPED = "another program, put in the place of a listed one between the look and the exec"


class Executing:
    """Answers execs for one supervisor, by what it is given of it.

    `report` writes the line of a violation, `degraded` one of what is not held, `terminate` ends the function, `forget`
    closes what is open of tasks that become other programs, `ended` hears of a process that ended in its exec.
    """

    def __init__(
        self, programs: Programs, decider: Decider, report: Report, *, degraded: Callable[[str], None],
        terminate: Callable[[str], None], forget: Callable[[], None], ended: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self._programs = programs
        self._decider = decider
        self._report = report
        self._degraded = degraded
        self._terminate = terminate
        self._forget = forget
        self._ended = ended
        self._said: set[str] = set()
        for interpreter in programs.free:
            self._say(f"{interpreter} interprets scripts and is listed itself, so that it starts for any")

    def answer(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        """Answer one exec."""
        try:
            expected = self._programs.check(call, syscall, task)
        except ExecRefused as refused:
            answer = self._decider.response(Call(syscall)) if refused.reason else DENY
            if refused.reason:
                decision = Decision(answer, refused.reason, self._programs.spelled(refused))
                self._report(call, task, Call(syscall), decision, refused.path, None, refused.errno)
            if answer != REPORT:
                if answer == TERMINATE:
                    self._terminate(syscall)
                listener.refuse(call.id, refused.errno)
                return
            expected = None
        self._forget()
        if expected:
            self._follow(listener, call, syscall, task, expected)
        else:
            listener.let_through(call.id)

    def _follow(
        self, listener: Listener, call: Notification, syscall: str, task: Task, expected: Expected
    ) -> None:
        """Let an exec go on that could start something else by now, and end what does."""
        ends = not self._decider.audit
        if expected.by_content and expected.script:
            self._say(REREAD)
        try:
            start = seized.follow(listener, call, task.process(), expected.runs_in, ends=ends)
        except OSError as error:
            if error.errno != errno.ESRCH:  # ended meanwhile
                self._say(UNSEIZED)
            listener.let_through(call.id)
            return
        finally:
            expected.close()
        if start.ended:
            self._ended(*start.ended)
        if start.outcome == seized.OTHER:
            decision = Decision(DENY if ends else REPORT, SWAPPED)
            self._report(call, task, Call(syscall), decision, expected.path, None, 0)

    def _say(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._degraded(f"programs: {why}")
