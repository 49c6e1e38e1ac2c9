"""User notification in the running kernel: every answer, interrupted and dead callers, a listener that is closed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable

import pytest
from child_processes import in_child
from refusing_filters import notifying
from waiting_calls import LIMIT, supervised

from sandbox.kernel import abi, seccomp
from sandbox.kernel.notification import Notification
from sandbox.probe import raw


def test_a_call_arrives_as_it_was_made(uid: int | None) -> None:
    """The notification holds caller, number, architecture and all six whole registers."""
    args = (1, 1 << 32, 0xFFFFFFFFFFFFFFFF, 4, 0x8000000000000000, 6)

    def run() -> tuple[Notification, int, int]:
        with supervised(lambda _: raw.call("getppid", *args), "getppid") as other:
            call = other.next()
            assert other.listener.answer(call.id, 4711)
            return call, other.pid, other.result()

    call, pid, result = in_child(run, uid)
    assert (call.pid, call.nr, call.arch) == (pid, raw.NUMBERS["getppid"], abi.AUDIT_ARCH)
    assert call.args == args
    assert result == 4711


def test_the_four_answers(uid: int | None) -> None:
    """Letting through makes the call, refusing gives the errno, answering gives any value."""

    def run() -> tuple[list[int], int]:
        with supervised(lambda _: [raw.call("getppid") for _ in range(5)], "getppid") as other:
            answers: list[Callable[[int], bool]] = [
                other.listener.let_through,
                lambda id_: other.listener.refuse(id_, errno.ENODEV),
                lambda id_: other.listener.answer(id_, 0),
                lambda id_: other.listener.answer(id_, 0x7FFF_FFFF_FFFF),
                lambda id_: other.listener.answer(id_, -4096),
            ]
            for answer in answers:
                assert answer(other.next().id)
            return other.result(), os.getpid()

    results, parent = in_child(run, uid)
    assert results == [parent, -errno.ENODEV, 0, 0x7FFF_FFFF_FFFF, -4096]


def test_other_calls_do_not_wait(uid: int | None) -> None:
    """What the filter does not name is made at once, and the listener hears nothing of it."""

    def run() -> bool:
        with supervised(lambda _: [os.getpid() for _ in range(100)], "getppid") as other:
            other.result()
            os.waitpid(other.pid, 0)  # Linux 5.10 hangs up when the caller is reaped, newer kernels when it ends
            return other.hung_up()

    assert in_child(run, uid)


def test_a_call_is_valid_until_it_is_answered(uid: int | None) -> None:
    """An identity is valid while its call waits; afterwards it is not, and a second answer goes nowhere."""

    def run() -> list[bool]:
        with supervised(lambda _: raw.call("getppid"), "getppid") as other:
            call = other.next()
            found = [other.listener.is_valid(call.id), other.listener.is_valid(call.id + 1)]
            found.append(other.listener.answer(call.id, 1))
            found.append(other.result() == 1)  # until the caller woke up the kernel would say EINPROGRESS
            return [*found, other.listener.is_valid(call.id), other.listener.answer(call.id, 2)]

    assert in_child(run, uid) == [True, False, True, True, False, False]


@pytest.mark.parametrize("cloexec", [True, False])
def test_a_descriptor_is_handed_over(uid: int | None, cloexec: bool) -> None:
    """A descriptor of ours becomes one of the caller's, which reads from it; close-on-exec as asked for."""

    def use(_: socket.socket) -> tuple[bytes, bool]:
        fd = raw.call("getppid")
        return os.read(fd, 100), bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def run() -> tuple[bytes, bool]:
        with supervised(use, "getppid") as other:
            read, write = os.pipe()
            os.write(write, b"from outside")
            call = other.next()
            there = other.listener.add_descriptor(call.id, read, cloexec=cloexec)
            assert other.listener.answer(call.id, there)
            found: tuple[bytes, bool] = other.result()
            return found

    assert in_child(run, uid) == (b"from outside", cloexec)


def test_a_descriptor_for_nobody(uid: int | None) -> None:
    """Handing a descriptor to a call that does not wait is an OSError."""

    def run() -> int | None:
        with supervised(lambda _: raw.call("getppid"), "getppid") as other:
            call = other.next()
            try:
                other.listener.add_descriptor(call.id + 1, 0)
            except OSError as error:
                return error.errno
            return None

    assert in_child(run, uid) == errno.ENOENT


def test_sync_wake_up(uid: int | None) -> None:
    """Switching straight between caller and supervisor can be asked for; where it is new the answer is False."""
    newer = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 6)

    def run() -> tuple[bool, list[int]]:
        with supervised(lambda _: [raw.call("getppid") for _ in range(50)], "getppid") as other:
            able = other.listener.set_sync_wake_up()
            for number in range(50):
                assert other.listener.answer(other.next().id, number)
            return able, other.result()

    assert in_child(run, uid) == (newer, list(range(50)))


@pytest.mark.parametrize("restarts", [False, True], ids=["interrupts", "restarts"])
def test_a_signal_cancels_a_call_that_waits(uid: int | None, restarts: bool) -> None:
    """After a signal the call that waited is void; it fails with EINTR, or comes again under another identity."""

    def use(_: socket.socket) -> int:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR1, not restarts)
        raw.call("getppid")  # the first call says that the handler stands
        return raw.call("getppid")

    def run() -> tuple[bool, bool, bool, int]:
        with supervised(use, "getppid") as other:
            assert other.listener.answer(other.next().id, 0)
            call = other.next()
            os.kill(other.pid, signal.SIGUSR1)
            again = call
            if restarts:
                again = other.next()
                assert other.listener.answer(again.id, 5)
            result = other.result()
            return again.id != call.id, other.listener.is_valid(call.id), other.listener.let_through(call.id), result

    assert in_child(run, uid) == (restarts, False, False, 5 if restarts else -errno.EINTR)


def test_a_dead_caller(uid: int | None) -> None:
    """When the caller is killed while it waits, every answer is False and the listener hangs up."""

    def run() -> tuple[list[bool], int | None]:
        with supervised(lambda _: raw.call("getppid"), "getppid") as other:
            call = other.next()
            os.kill(other.pid, signal.SIGKILL)
            os.waitpid(other.pid, 0)
            found = [
                other.listener.is_valid(call.id), other.listener.let_through(call.id),
                other.listener.refuse(call.id, errno.EPERM), other.listener.answer(call.id, 0), not other.hung_up(),
            ]  # fmt: skip
            try:
                other.listener.add_descriptor(call.id, 0)
            except OSError as error:
                return found, error.errno
            return found, None

    assert in_child(run, uid) == ([False] * 5, errno.ENOENT)


def test_a_call_that_vanished_before_it_was_received(uid: int | None) -> None:
    """A caller killed before its call was received leaves nothing: receiving finds none instead of raising."""

    def run() -> Notification | None:
        with supervised(lambda _: raw.call("getppid"), "getppid") as other:
            assert select.select([other.listener.fd], [], [], LIMIT)[0]
            os.kill(other.pid, signal.SIGKILL)
            os.waitpid(other.pid, 0)
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)  # where the kernel waits on, this ends the wait
            return other.listener.receive()

    assert in_child(run, uid) is None


def test_a_closed_listener_refuses(uid: int | None) -> None:
    """When the supervisor is gone the call that waits, and all later ones, fail with ENOSYS: closed, not open."""

    def run() -> list[int]:
        with supervised(lambda _: [raw.call("getppid") for _ in range(3)], "getppid") as other:
            other.next()
            os.close(other.listener.fd)
            found: list[int] = other.result()
            return found

    assert in_child(run, uid) == [-errno.ENOSYS] * 3


def test_one_listener_at_a_time(uid: int | None) -> None:
    """While a listener stands above, a second is EBUSY, and a filter without one is not."""

    def use(_: socket.socket) -> list[int]:
        answers = []
        for flags in (seccomp.FLAG_NEW_LISTENER, 0):
            try:
                seccomp.install(notifying("getppid"), flags)
                answers.append(0)
            except OSError as error:
                answers.append(error.errno or 0)
        return answers

    def run() -> list[int]:
        with supervised(use, "getppid") as other:
            found: list[int] = other.result()
            return found

    assert in_child(run, uid) == [errno.EBUSY, 0]


def test_the_buffer_is_clean_for_each_call(uid: int | None) -> None:
    """Calls of several syscalls come one after the other without rests of the one before."""
    buffer = ctypes.create_string_buffer(64)

    def use(_: socket.socket) -> list[int]:
        return [raw.call("getppid", 7, 7, 7, 7, 7, 7), raw.call("getcwd", raw.address(buffer), 64)]

    def run() -> tuple[list[tuple[int, int]], int]:
        with supervised(use, "getppid", "getcwd") as other:
            seen = []
            for _ in range(2):
                call = other.next()
                seen.append((call.nr, call.args[1]))
                assert other.listener.refuse(call.id, errno.EACCES)
            return seen, sum(other.result())

    wanted = [(raw.NUMBERS["getppid"], 7), (raw.NUMBERS["getcwd"], 64)]
    assert in_child(run, uid) == (wanted, -2 * errno.EACCES)
