"""The supervisor: the handler's parent, which answers every call that the filter does not decide, and reports it.

One poll loop, no threads but those that sleep in a connect for their caller. If it dies, the kernel answers what waits
with ENOSYS: closed, not open.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from sandbox.enforce import parent
from sandbox.kernel import tables
from sandbox.kernel.notification import Listener
from sandbox.learn.decode import EXECS, OPENS, Reader
from sandbox.profile import arguments
from sandbox.supervise.decision import CONTINUE, DENY, REPORT, TERMINATE, VERDICTS, Decider, Decision
from sandbox.supervise.egress import CALLS, Denied, Egress
from sandbox.violations.decode import decode_args
from sandbox.violations.event import violation
from sandbox.violations.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.kernel.notification import Notification
    from sandbox.supervise.destinations import Destinations
    from sandbox.supervise.names import Forwarder

DRAIN = 0.2
"""Seconds after the handler's end in which waiting calls of its children are still answered."""


class Supervisor:
    """Everything that one handler's supervision needs. `run` returns the handler's wait status."""

    def __init__(
        self, function: str, arch: str, decider: Decider, destinations: Destinations, journal: Journal, *,
        runtime_api: bool, audit: bool,
    ) -> None:  # fmt: skip
        self._function = function
        self._arch = arch
        self._decider = decider
        self._journal = journal
        self._reader = Reader()
        self._names = tables.names(arch)
        self._forwarder: Forwarder | None = None
        self.phase = "init" if runtime_api else "run"
        self.terminated = ""
        self._pid = 0
        self._first_exec = True
        self._egress = Egress(
            destinations, self._reader.process, self._reader.memory, self._connected, self._report_egress, audit=audit
        )

    def use(self, forwarder: Forwarder | None) -> None:
        """Send the function's DNS questions to this forwarder."""
        self._forwarder = self._egress.forwarder = forwarder

    def report_question(self, name: str, kind: str) -> None:
        """A DNS question for a name that the profile does not hold."""
        if not self._journal.wants("connect", "dns", "denied"):
            return
        self._journal.write(
            violation(
                function=self._function, phase=self.phase, request=None, pid=self._pid, tid=self._pid,
                comm=_comm(self._pid), syscall="connect", name="dns", args=[name, kind], verdict="denied",
                errno="", reason="a DNS question for a name that the profile does not hold: NXDOMAIN",
                allow=f"network: [{name}:443]", target=f"{name}:443",
            )
        )  # fmt: skip

    def _connected(self) -> None:
        if self.phase == "init":
            self.phase = "invoke"

    def run(self, pid: int, listener_fd: int, wake: int) -> int:
        """Answer until the handler has ended. Returns its wait status."""
        self._pid = pid
        listener = Listener(listener_fd)
        listener.set_sync_wake_up()
        poll = select.poll()
        poll.register(listener_fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        for fd in self._forwarder.descriptors() if self._forwarder else ():
            poll.register(fd, select.POLLIN)
        ended: int | None = None
        released = False
        deadline = 0.0
        while ended is None or not (released or time.monotonic() >= deadline):
            for fd, event in poll.poll(self._timeout(ended, deadline)):
                if fd == listener_fd:
                    if event & select.POLLIN:
                        call = listener.receive()
                        if call:
                            self._take(listener, call)
                    else:
                        poll.unregister(listener_fd)
                        released = True
                elif fd == wake:
                    os.read(wake, 512)
                    ended = self._reap() if ended is None else ended
                    deadline = time.monotonic() + DRAIN
                elif self._forwarder:
                    self._forwarder.handle(fd, event)
            self._journal.tick()
            if self._forwarder:
                self._forwarder.tick()
        self._end_rest()
        self._journal.finish()
        return ended

    def _timeout(self, ended: int | None, deadline: float) -> int | None:
        waits = [] if ended is None else [max(0.0, deadline - time.monotonic())]
        dues = (self._journal.timeout(), self._forwarder.timeout() if self._forwarder else None)
        waits += [due for due in dues if due is not None]
        return int(min(waits) * 1000) + 1 if waits else None

    def _reap(self) -> int | None:
        """Collect everything that has ended; the handler's wait status when it was among them."""
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if not pid:
                return found
            if pid == self._pid:
                found = status

    def _end_rest(self) -> None:
        """What the function started and left behind ends with it: nothing survives into the next cold start."""
        for pid in parent.descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._reap()

    def _take(self, listener: Listener, call: Notification) -> None:
        syscall = self._names.get(call.nr)
        if syscall is None:
            listener.refuse(call.id, errno.ENOSYS)
            return
        if syscall in CALLS:
            self._egress.take(listener, call, syscall)
            return
        name = arguments.classify(syscall, call.args, self._arch)
        decision = self._decider.decide(syscall, name, self.phase)
        if decision.answer == CONTINUE:
            listener.let_through(call.id)
            return
        self._report(call, syscall, name, decision, self._path(call, syscall))
        if decision.answer == REPORT:
            listener.let_through(call.id)
            return
        if decision.answer == TERMINATE:
            self._terminate(f"{syscall} {name}".strip())
        listener.refuse(call.id, errno.EPERM)

    def _path(self, call: Notification, syscall: str) -> str:
        """The file or program that a call names, as the profile would write it; '' for other calls."""
        place = OPENS.get(syscall) or EXECS.get(syscall)
        if place is None:
            return ""
        dirfd, at = place
        args, reader = call.args, self._reader
        text = reader.string(call.pid, args[at])
        return reader.path(call.pid, args[dirfd] & arguments.LOW if dirfd is not None else None, text) if text else ""

    def _terminate(self, what: str) -> None:
        """End the whole tree before its call is answered: it never runs on."""
        self.terminated = what
        for pid in [*parent.descendants(self._pid), self._pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _report(self, call: Notification, syscall: str, name: str, decision: Decision, target: str = "") -> None:
        verdict = VERDICTS[decision.answer]
        if not self._journal.wants(syscall, name, verdict):
            return
        reader, tid = self._reader, call.pid
        args = decode_args(syscall, call.args, reader.memory(tid).read, self._arch, self._host_name)
        self._journal.write(
            violation(
                function=self._function, phase=self.phase, request=None, pid=reader.process(tid), tid=tid,
                comm=_comm(tid), syscall=syscall, name=name, args=args, verdict=verdict,
                errno="" if decision.answer == REPORT else "EPERM", reason=decision.reason, allow=decision.allow,
                target=target,
            )
        )  # fmt: skip

    def _report_egress(self, call: Notification, syscall: str, denied: Denied) -> None:
        name = arguments.classify(syscall, call.args, self._arch)
        answer = REPORT if denied.reported else DENY
        self._report(call, syscall, name, Decision(answer, denied.reason, denied.allow), denied.target)

    def _host_name(self, address: str) -> str:
        names = self._forwarder.names_of(address) if self._forwarder else frozenset()
        return min(names, default="")


def _comm(tid: int) -> str:
    try:
        with open(f"/proc/{tid}/comm", "rb") as file:
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
