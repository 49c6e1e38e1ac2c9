"""SANDBOX_MODE=learn: run the handler under notification and write down what it does, on any platform.

The observer is the parent: it forwards signals, answers every notification with "go on" (or with the hard deny's
errno), and ends as the handler ended. One JSON line for each new item and each finished invocation goes to standard
error, or to the file that SANDBOX_OBSERVATIONS names.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sandbox.behaviour.stand_ins import WHERE, StandIns
from sandbox.confine import Command, not_executed, parent, restore_signals
from sandbox.confine.child import ChildRefused, ListenerPage, spawn
from sandbox.egress.destinations import api_addresses
from sandbox.errors import InstallRefused, ListenerBusy, UsageError, log_entry
from sandbox.kernel import abi, bpf, seccomp
from sandbox.kernel.notification import Listener, Notification
from sandbox.kernel.standing import standing
from sandbox.kernel.tables import machine
from sandbox.learn import denials, host
from sandbox.learn.loaded import Libraries
from sandbox.learn.naming import Naming
from sandbox.learn.observation_log import ObservationLog
from sandbox.learn.recorder import Recorder
from sandbox.learn.whose import Readings, Whose

DRAIN = 0.5
"""Seconds that children of the handler get to end after it, before the observation closes."""

ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH})
"""Signals after which a platform kills, if the program does not end by itself."""
READY = 10.0
"""Seconds until the child must have installed its filter."""
PRCTL, SECCOMP = range(2)
STEPS = ("prctl(PR_SET_NO_NEW_PRIVS)", "seccomp(2)")


class ObserverDuties(NamedTuple):
    """What a start asks of its observer.

    `function` and `handler` are the platform's names, `api` is (host, port) of its Runtime API. `grants` are calls of
    the hard deny to let through, `observations` the file for the lines ('': standard error), `local_domains` what
    LOCALDOMAIN says (man 5 resolv.conf); `debug` shows the causes of an error, `stand_ins` stand for destinations,
    `refuses` are numbers of syscalls with the errnos of the platform that is trained for.
    """

    function: str
    handler: str
    api: tuple[str, int] | None
    grants: frozenset[str]
    observations: str
    local_domains: Sequence[str]
    debug: bool
    stand_ins: StandIns | None = None
    refuses: Sequence[tuple[int, int]] = ()


def observe(command: Command, duties: ObserverDuties, asked: host.Asked) -> int:
    """Run the command and observe it to its end. Returns the exit status to end with. Raises SandboxError."""
    arch = machine()
    if duties.stand_ins and (refused := parent.refuses_duplicates()):
        raise InstallRefused(
            f"{refused}: no connect can be led to what stands for its destination", where=WHERE,
            todo="train without it, or where pidfd_getfd(2) is allowed",
        )  # fmt: skip
    with open(os.path.join(denials.DATA, f"{arch}.bpf"), "rb") as file:
        program = bpf.refusing(duties.refuses, abi.AUDIT_ARCH) + file.read()
    # From here on: what asks for the end meanwhile is handed on to the program, and not lost as a first process' is.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, parent.HELD)
    sink = ObservationLog(duties.observations, duties.function)
    start = host.describe(command, duties.function, duties.handler, asked, api=duties.api is not None)
    sink.emit(start)
    recorder = Recorder(
        arch, sink.emit, api=_addresses(duties.api), denied=denials.load(), granted=duties.grants, places=start.places
    )
    recorder.stands = lambda: standing(os.getpid())
    recorder.loaded = Libraries(start.python, start.places.get("{python}", ""))
    poll = select.poll()
    naming = Naming(
        recorder.tasks, duties.local_domains, poll, arch, recorder.note_receive, duties.stand_ins, recorder.note_name
    )
    recorder.names_of, recorder.asked_as, recorder.leads = naming.names_of, naming.asked_as, naming.leads
    if duties.stand_ins and not naming.forwarder:
        raise InstallRefused(
            "names cannot be led: dnslib is not there, or loopback cannot be bound", where=WHERE,
            todo="install dnslib beside the package, or train without it",
        )  # fmt: skip
    return _Observation(recorder, sink, naming, poll).run(command, program, before, debug=duties.debug)


def _addresses(api: tuple[str, int] | None) -> frozenset[tuple[str, int]]:
    if api is None:
        return frozenset()
    try:
        return api_addresses(*api)
    except (OSError, ValueError) as error:
        what = f"is {':'.join(map(str, api))!r}, whose host is not known"
        raise UsageError(what, where="AWS_LAMBDA_RUNTIME_API", todo="the platform sets it") from error


class _Observation:
    """The loop around one child."""

    def __init__(self, recorder: Recorder, sink: ObservationLog, naming: Naming, poll: select.poll) -> None:
        self._recorder = recorder
        self._naming = naming
        self._poll = poll
        self._sink = sink
        self._pid = 0
        self._listener: Listener | None = None
        self._readings = Readings()
        recorder.users.whose, recorder.users.becomes = self._whose, self._readings.becomes

    def run(self, command: Command, program: bytes, mask: Iterable[int], *, debug: bool) -> int:
        """To the program's end; `mask` are the signals that are blocked for it. Returns the exit status."""
        wake = parent.wake_descriptor()
        self._pid = self._start(command, program, mask, debug=debug)
        parent.forward_signals(self._pid)
        # Whoever started us may have blocked some; the handler, started above, keeps that, and we must hear of its end.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, parent.HELD)
        return parent.end_like(self._loop(wake))

    def _start(self, command: Command, program: bytes, mask: Iterable[int], *, debug: bool) -> int:
        """Exec the command in a child under `program`, whose listener is then ours. Returns its pid.

        Raises InstallRefused, ListenerBusy or HandlerNotFound.
        """
        page = ListenerPage()
        needs_bit = seccomp.read_status().get("NoNewPrivs") != "1"

        def begin() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _install_and_exec(page, command, program, needs_bit=needs_bit, debug=debug)

        pid = spawn(begin)
        gc.enable()
        try:
            fd = page.listener(pid, READY)
            if fd is None:
                raise InstallRefused(
                    "the child did not install its filter", where="clone", todo="report this with the kernel's version"
                )
            self._listener = Listener(fd)
            self._listener.set_sync_wake_up()
            page.send(0)  # now its exec is the first call that waits here
        except BaseException as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if isinstance(error, ChildRefused):
                raise _refusal(error) from error
            raise
        return pid

    def _whose(self, call: Notification, process: int) -> Whose | None:
        """Whose call waits, as its thread's stack says while it does."""
        found = self._readings.read(call.pid, process)
        return found if found and self._listener and self._listener.is_valid(call.id) else None

    def _loop(self, wake: int) -> int:
        """Answer until the handler and what it started have ended. Returns the handler's wait status."""
        listener, recorder = self._listener, self._recorder
        assert listener is not None
        poll = self._poll
        poll.register(listener.fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        naming = self._naming
        ended: int | None = None
        released = False  # nobody is left under the filter
        deadline = 0.0
        while True:
            pause = self._sink.timeout() if ended is None else max(0.0, deadline - time.monotonic())
            for fd, event in poll.poll(None if pause is None else int(pause * 1000) + (ended is None)):
                if fd == wake:
                    signals = os.read(wake, 512)
                    if ended is None:
                        ended = parent.all_reaped(self._pid)
                        deadline = time.monotonic() + DRAIN
                    if ended is None and not ENDING.isdisjoint(signals):
                        recorder.so_far()  # a platform that asks for the end does not wait for it for long
                elif fd != listener.fd:
                    if naming.forwarder:
                        naming.forwarder.handle(fd, event)
                elif event & select.POLLIN:
                    call = listener.receive()
                    if call is None:
                        continue
                    refused = recorder.take(call)
                    name = naming.calls.get(call.nr)
                    if name and recorder.started and not refused and naming.take(listener, call, name, recorder.named):
                        continue
                    done = listener.refuse(call.id, refused) if refused else listener.let_through(call.id)
                    if not done:
                        recorder.cancelled()
                elif event & select.POLLHUP:
                    poll.unregister(listener.fd)
                    released = True
            if ended is None and self._sink.again():
                recorder.so_far()
            if ended is not None and (released or time.monotonic() >= deadline):
                recorder.finish(os.waitstatus_to_exitcode(ended))
                return ended


def _install_and_exec(page: ListenerPage, command: Command, program: bytes, *, needs_bit: bool, debug: bool) -> None:
    """In the child: NoNewPrivs, the filter, the go-ahead, the exec."""
    step = PRCTL
    try:
        if needs_bit:
            seccomp.set_no_new_privs()
        step = SECCOMP
        try:
            listener = seccomp.install(program, seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            listener = seccomp.install(program, seccomp.FLAG_NEW_LISTENER)  # before Linux 5.19
    except OSError as error:
        page.refuse(error, step)
        return
    page.tell(listener)
    page.receive()
    restore_signals()
    try:
        os.execve(command.path, list(command.argv), dict(command.environ))
    except OSError as error:
        failed = not_executed(command.path, error)
        failed.__cause__ = error
        os.write(2, log_entry(failed, debug=debug))
        os._exit(failed.exit_code)


def _refusal(refused: ChildRefused) -> InstallRefused:
    """The error that a user can act on."""
    if refused.step == SECCOMP and refused.errno == errno.EBUSY:
        return ListenerBusy("a notification listener stands above this process", where="seccomp(2)",
                            todo="observe outside of the other supervisor")  # fmt: skip
    if refused.step == SECCOMP and refused.errno == errno.EINVAL:
        return InstallRefused("this kernel has no user notification (gVisor, or Linux before 5.0)", where="seccomp(2)",
                              todo="learn on another host; a profile works on all of them")  # fmt: skip
    return InstallRefused(f"{STEPS[refused.step]} failed: {refused.strerror}", where="the observed child",
                          todo="learn where a process may install a seccomp filter")  # fmt: skip
