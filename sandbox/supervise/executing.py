"""The answer to an exec, where the profile grants it: refused with a line, or let go on and followed into its program.

Followed means that what started is compared with what was looked at, on the best rung that the host and the task offer
(sandbox/supervise/seized.py). Below these the first call of the new program that is notified waits for the comparison.
None of it makes the loop wait: an exec takes as long as its file system does.
"""

from __future__ import annotations

import errno
import os
import time

from sandbox.behaviour.call import Call
from sandbox.confine import parent
from sandbox.kernel.task import Task
from sandbox.supervise import seized
from sandbox.supervise.decision import DENY, REPORT, TERMINATE, Decision
from sandbox.supervise.programs import ExecRefused, running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.supervise.decision import Decider
    from sandbox.supervise.programs import Expected, Programs

    Suspects = Callable[[Notification, Task, Call, str, str, str], bool]
    Report = Callable[[Notification, Task, Call, Decision, str | None, SocketAddress | None, int], None]

PATIENCE, PAUSE = 0.02, 0.0002
"""Seconds for which the loop itself waits for a stop by a signal, which nothing tells, and between two looks."""
LATER = 0.002
"""Seconds between the looks of the loop at what has not stopped by then."""
MOST = 256
"""Execs that are remembered; of further ones those are forgotten whose process is gone."""

REREAD = "a script where the function writes is read again by its interpreter, changed or not"
UNSEIZED = "ptrace(2) is refused, other than the status line says"
UNSTOPPED = "what starts is compared at the first call that is notified, and not before its first instruction"
OPEN_MEMORY = "nor does Landlock hold the programs: who may write to /proc/PID/mem of another can change its path"
SWAPPED = "another program, put in the place of a listed one between the look and the exec"
UNFOLLOWED = "ptrace(2) was refused for the task, and Landlock does not hold the program here"


class Followed:
    """An exec that went on: its call, what must start, and what tells its process from the one before the exec."""

    __slots__ = ("before", "call", "expected", "process", "syscall")

    def __init__(self, call: Notification, syscall: str, process: int, expected: Expected) -> None:
        self.call = call
        self.syscall = syscall
        self.process = process
        self.expected = expected
        self.before = b""


class Executing:
    """Answers execs for one supervisor, by what it is given of it.

    `report` writes the line of a violation, `degraded` one of what is not held, `terminate` ends the function, `forget`
    closes what is open of tasks that become other programs, `suspects` says of a listed program whether it must not
    start all the same (call, task, its call, section, entry, target).
    """

    def __init__(
        self, programs: Programs, decider: Decider, report: Report, *, degraded: Callable[[str], None],
        terminate: Callable[[str], None], forget: Callable[[], None], suspects: Suspects,
    ) -> None:  # fmt: skip
        self._programs = programs
        self._decider = decider
        self._report = report
        self._degraded = degraded
        self._terminate = terminate
        self._forget = forget
        self._suspects = suspects
        self._said: set[str] = set()
        self._seizes = parent.seizes()
        self._stops: bool | None = None
        self._seized: dict[int, Followed] = {}
        self._stopping: list[Followed] = []
        self._unseen: dict[int, Followed] = {}
        for interpreter in programs.free:
            self._say(f"{interpreter} interprets scripts and is listed itself, so that it starts for any")

    def answer(self, listener: Listener, call: Notification, syscall: str, task: Task) -> None:
        """Answer one exec."""
        # Where the kernel does not hold the list, what is asked of the caller depends on what can be done afterwards.
        compared = not self._programs.held and (self._seizes or self._may_stop()) and not seized.tracer(call.pid)
        try:
            expected = self._programs.check(call, syscall, task, compared=compared)
        except ExecRefused as refused:
            self._refuse(listener, call, syscall, task, refused)
            return
        path = expected.path if expected else self._programs.named(call, syscall, task)
        if self._suspects(call, task, Call(syscall), "processes", path, path):
            if expected:
                expected.close()
            listener.refuse(call.id, errno.EPERM)
            return
        self._forget()
        if expected:
            self._follow(listener, call, syscall, task, expected, compared=compared)
        else:
            listener.let_through(call.id)

    def _refuse(
        self, listener: Listener, call: Notification, syscall: str, task: Task, refused: ExecRefused
    ) -> None:  # fmt: skip
        answer = self._decider.response(Call(syscall)) if refused.reason else DENY
        if refused.reason:
            decision = Decision(answer, refused.reason, self._programs.spelled(refused))
            self._report(call, task, Call(syscall), decision, refused.path, None, refused.errno)
        if answer == REPORT:
            self._forget()
            listener.let_through(call.id)
            return
        if answer == TERMINATE:
            self._terminate(syscall)
        listener.refuse(call.id, refused.errno)

    def _may_stop(self) -> bool:
        if self._stops is None:
            self._stops = seized.stops_by_signal(self._programs.learned)
        return self._stops

    def _follow(
        self, listener: Listener, call: Notification, syscall: str, task: Task, expected: Expected, *, compared: bool
    ) -> None:  # fmt: skip
        """Let an exec go on, and compare what it starts. `compared`: it must not go on where that cannot be."""
        if expected.by_content and expected.script:
            self._say(REREAD)
        found = Followed(call, syscall, task.process(), expected)
        if self._seizes:
            try:
                seized.seize(call.pid)
            except OSError as error:
                if error.errno == errno.ESRCH or not listener.is_valid(call.id):  # ended meanwhile
                    listener.let_through(call.id)
                    expected.close()
                    return
                if not seized.tracer(call.pid):
                    self._seizes = False
                    self._say(UNSEIZED)
            else:
                self._keep(self._seized, call.pid, found)
                listener.let_through(call.id)
                seized.interrupt(call.pid)
                return
        found.before = seized.life(found.process)
        if not seized.tracer(call.pid) and self._may_stop():
            try:
                seized.stop(found.process, call.pid)
            except OSError:
                listener.let_through(call.id)
                expected.close()
                return
            listener.let_through(call.id)
            self._stopping.append(found)
            self._wait(found)
            return
        if compared:
            expected.close()
            self._refuse(listener, call, syscall, task, ExecRefused(errno.EPERM, UNFOLLOWED, expected.path))
            return
        self._say(UNSTOPPED if self._programs.held else f"{UNSTOPPED}; {OPEN_MEMORY}")
        self._keep(self._unseen, found.process, found)
        listener.let_through(call.id)

    def _keep(self, where: dict[int, Followed], key: int, found: Followed) -> None:
        if len(where) >= MOST:
            for gone in [pid for pid in where if not os.path.exists(f"/proc/{pid}")]:
                where.pop(gone).expected.close()
        known = where.pop(key, None)
        if known:
            known.expected.close()
        where[key] = found

    def heard(self, pid: int, status: int) -> None:
        """A process that ended, or a seized task that stopped: past its exec it stands by the number of its process."""
        execs = os.WIFSTOPPED(status) and seized.is_exec(status)
        found = self._seized.pop(seized.former_thread(pid) if execs else pid, None)
        if os.WIFSTOPPED(status):
            same = not found or not execs or self._is_same(found, pid)
            if same or self._decider.audit:
                seized.release(pid, status)
        if found:
            found.expected.close()

    def _wait(self, found: Followed) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._has_stopped(found) and time.monotonic() < deadline:
            time.sleep(PAUSE)

    def _has_stopped(self, found: Followed) -> bool:
        """Whether a task that gets SIGSTOP has gone its way: on with what was looked at, or to its end.

        A timer, or a child whose end is told by SIGCONT, takes the stop back: then what runs by now is compared.
        """
        letter, after = seized.state(found.process), seized.life(found.process)
        if letter == "T" or after not in (b"", found.before):
            if after == found.before or self._is_same(found, found.process) or self._decider.audit:
                seized.resume(found.process)
        elif letter:
            return False
        self._stopping.remove(found)
        found.expected.close()
        return True

    def timeout(self) -> float | None:
        """Seconds until `tick` has something to look at; None where it has not."""
        return LATER if self._stopping else None

    def tick(self) -> None:
        """Look at what was to stop and had not."""
        for found in list(self._stopping):
            self._has_stopped(found)

    @property
    def waits(self) -> bool:
        """Whether there are programs that are compared at their first call."""
        return bool(self._unseen)

    def meet(self, task: Task) -> None:
        """A call that waits: if it is the first of a program that nobody has compared yet, compare it."""
        process = task.process()
        found = self._unseen.get(process)
        if found is None:
            return
        after = seized.life(process)
        if after == found.before:
            if task.tid != found.call.pid:
                return
        else:
            self._is_same(found, process)
        del self._unseen[process]
        found.expected.close()

    def _is_same(self, found: Followed, pid: int) -> bool:
        """Whether a process runs what was looked at. If not, that is reported, and outside audit the function ends."""
        if found.expected.runs_in(pid):
            return True
        decision = Decision(REPORT if self._decider.audit else TERMINATE, f"{SWAPPED}: {running(pid)}")
        task = Task(pid)
        try:
            self._report(found.call, task, Call(found.syscall), decision, found.expected.path, None, 0)
        finally:
            task.close()
        if not self._decider.audit:
            self._terminate(f"{found.syscall} of {found.expected.path}, in whose place {running(pid)} started")
        return False

    def _say(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._degraded(f"programs: {why}")
