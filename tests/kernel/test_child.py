"""A child that shares its parent's descriptors, and the page by which it says what it got."""

from __future__ import annotations

import errno
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from child_processes import in_child
from refusing_filters import notifying

from sandbox.confine.child import ChildRefused, ListenerPage, spawn
from sandbox.errors import SandboxError
from sandbox.kernel import seccomp
from sandbox.kernel.notification import Listener


@pytest.fixture
def born() -> Iterator[Callable[[Callable[[], None]], int]]:
    """spawn, with the collector on again and every child ended."""
    pids = []

    def make(child: Callable[[], None]) -> int:
        pids.append(spawn(child))
        gc.enable()
        return pids[-1]

    yield make
    gc.unfreeze()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def listening() -> int:
    """The errno that the parent gave the child's call through a listener that only the child installed."""
    page = ListenerPage()

    def child() -> None:
        seccomp.set_no_new_privs()
        page.tell(seccomp.install(notifying("getppid"), seccomp.FLAG_NEW_LISTENER))
        page.send(os.getppid())

    pid = spawn(child)
    fd = page.listener(pid, 10)
    assert fd is not None
    listener = Listener(fd)
    call = listener.receive()
    assert call is not None
    listener.answer(call.id, 4242)
    found = page.receive(10)
    os.waitpid(pid, 0)
    return found or 0


def test_the_childs_listener_is_the_parents(uid: int | None) -> None:
    """Its number is a descriptor here, and answers the child's calls."""
    assert in_child(listening, uid) == 4242


def test_a_child_without_a_listener(born: Callable[[Callable[[], None]], int]) -> None:
    """Whether it says so and goes on, or ends without a word; what it wrote before its end is read."""
    page = ListenerPage()
    assert page.listener(born(lambda: page.tell(None))) is None
    assert ListenerPage().listener(born(lambda: None)) is None
    late = ListenerPage()
    pid = born(lambda: late.tell(7))
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert late.listener(pid) == 7


def test_a_child_that_is_refused(born: Callable[[Callable[[], None]], int]) -> None:
    """The errno and the step."""
    page = ListenerPage()
    pid = born(lambda: page.refuse(OSError(errno.EBUSY, "busy"), 3))
    with pytest.raises(ChildRefused) as refused:
        page.listener(pid)
    assert (refused.value.errno, refused.value.step) == (errno.EBUSY, 3)


def test_waiting_has_an_end(born: Callable[[Callable[[], None]], int]) -> None:
    """A child that says nothing holds nobody up."""
    page = ListenerPage()
    pid = born(signal.pause)
    started = time.monotonic()
    assert page.listener(pid, 0.05) is None
    assert page.receive(0.05) is None
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("value", [0, 1, -errno.EXDEV, 1 << 40])
def test_the_second_word(born: Callable[[Callable[[], None]], int], value: int) -> None:
    """Any number goes over."""
    page = ListenerPage()
    born(lambda: page.send(value))
    assert page.receive(10) == value


def test_a_child_never_comes_back(born: Callable[[Callable[[], None]], int]) -> None:
    """Whatever it does, it ends with our code and runs nothing of its parent's."""

    def fault() -> None:
        raise KeyError

    for child in (fault, lambda: None):
        pid = born(child)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert ended.si_status == SandboxError.exit_code
