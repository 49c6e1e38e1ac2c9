"""What a supervisor needs: a call that waits, an answer that arrives, a hand on the caller's memory and descriptors.

The listener is handed over as the bootstrap does it (sandbox/confine/child.py). Every function here runs in a child.
Sources: man 2 seccomp_unotify, man 2 pidfd_getfd, man 2 ptrace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandbox.confine.child import ListenerPage, spawn
from sandbox.confine.parent import refuses_duplicates
from sandbox.doctor.installation import getppid, on_getppid, ready
from sandbox.doctor.isolate import Failed, quiet
from sandbox.kernel import abi, bpf, seccomp
from sandbox.kernel.notification import Listener, Notification
from sandbox.kernel.tables import numbers

PTRACE_SEIZE = 0x4206  # linux/ptrace.h
WAIT = 3.0
"""Seconds for one step; the whole probe has a little more."""
ANSWER = 4242


class WaitingCall:
    """A child whose getppid waits for an answer."""

    def __init__(self) -> None:
        """Raises OSError where the child gets no listener, and Failed."""
        self._page = ListenerPage()
        self.pid = spawn(self._call)
        number = self._page.listener(self.pid, WAIT)
        if number is None:
            raise Failed("the child did not come to its call")
        self.listener = Listener(number)

    def _call(self) -> None:
        quiet(WAIT)
        ready()
        try:
            listener = seccomp.install(on_getppid(bpf.USER_NOTIF), seccomp.FLAG_NEW_LISTENER)
        except OSError as error:
            self._page.refuse(error)
            return
        self._page.tell(listener)
        try:
            found = getppid()
        except OSError as error:
            found = -(error.errno or 0)
        self._page.send(found)

    def waiting(self) -> Notification:
        """The call, once it waits. Raises Failed or OSError."""
        poll = select.poll()
        poll.register(self.listener.fd, select.POLLIN)
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if poll.poll(50):
                call = self.listener.receive()
                if call is not None and call.nr == numbers(abi.MACHINE)["getppid"]:
                    return call
        raise Failed("no call arrived at the listener")

    def answered(self) -> int:
        """What the call gave its caller; minus an errno. Raises Failed."""
        found = self._page.receive(WAIT)
        if found is None:
            raise Failed("the answer did not arrive")
        return found


def _round_trip() -> str:
    child = WaitingCall()
    call = child.waiting()
    if not child.listener.is_valid(call.id):
        raise Failed("a call that waits is said to be gone")
    child.listener.answer(call.id, ANSWER)
    found = child.answered()
    if found != ANSWER:
        raise Failed(f"the caller got {found}, not {ANSWER}")
    return "received, answered, arrived"


def _refusal() -> str:
    child = WaitingCall()
    child.listener.refuse(child.waiting().id, errno.EXDEV)
    found = child.answered()
    if found != -errno.EXDEV:
        raise Failed(f"the caller got {found}, not EXDEV")
    return ""


def _let_through() -> str:
    child = WaitingCall()
    child.listener.let_through(child.waiting().id)
    found = child.answered()
    if found != os.getpid():
        raise Failed(f"the caller got {found}, not its parent's number")
    return ""


def _add_descriptor() -> str:
    child = WaitingCall()
    call = child.waiting()
    number = child.listener.add_descriptor(call.id, child.listener.fd)
    child.listener.answer(call.id, ANSWER)
    return f"as number {number}"


def _sync_wake_up() -> str:
    if not WaitingCall().listener.set_sync_wake_up():
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return ""


@contextmanager
def bystander() -> Iterator[int]:
    """The pid of a child that waits for nothing."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet(WAIT)
            signal.pause()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _pidfd_open() -> str:
    with bystander() as pid:
        abi.syscall(abi.number("pidfd_open"), pid, 0)
    return ""


def _pidfd_getfd() -> str:
    # What a supervised start asks as well: refused there, the supervisor makes the function's sockets.
    refused = refuses_duplicates()
    read, write = os.pipe()
    with bystander() as pid:
        try:
            pidfd = abi.syscall(abi.number("pidfd_open"), pid, 0)
            mine = abi.syscall(abi.number("pidfd_getfd"), pidfd, write, 0)
        except OSError as error:
            if refused:
                raise
            raise Failed(f"of this process alone, not of another: {error.strerror}") from error
        os.write(mine, b"x")
    if os.read(read, 1) != b"x":
        raise Failed("the duplicate is another descriptor")
    return ""


_WORD = ctypes.create_string_buffer(b"seen")


def _vm_readv() -> str:
    found = ctypes.create_string_buffer(4)
    with bystander() as pid:
        local, remote = (struct.pack("<QQ", ctypes.addressof(buffer), 4) for buffer in (found, _WORD))
        abi.syscall(abi.number("process_vm_readv"), pid, local, 1, remote, 1, 0)
    if found.raw != b"seen":
        raise Failed("it read something else")
    return ""


def _proc_mem() -> str:
    with bystander() as pid:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        if os.pread(fd, 4, ctypes.addressof(_WORD)) != b"seen":
            raise Failed("it read something else")
    return ""


def _ptrace() -> str:
    with bystander() as pid:
        abi.syscall(abi.number("ptrace"), PTRACE_SEIZE, pid, 0, 0)
    return ""


ROUND_TRIP = "notification round trip"
LET_THROUGH = "notification CONTINUE"
DUPLICATE = "pidfd_getfd"
MEMORY = ("/proc/PID/mem", "process_vm_readv")

PROBES: dict[str, Callable[[], str]] = {
    ROUND_TRIP: _round_trip,
    "notification errno": _refusal,
    LET_THROUGH: _let_through,
    "notification ADDFD": _add_descriptor,
    "notification SYNC_WAKE_UP": _sync_wake_up,
    "pidfd_open": _pidfd_open,
    DUPLICATE: _pidfd_getfd,
    MEMORY[0]: _proc_mem,
    MEMORY[1]: _vm_readv,
    "ptrace SEIZE": _ptrace,
}
