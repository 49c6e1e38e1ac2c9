"""A child that installs its own filter, beside a parent that holds the listener, without pidfd.

clone(CLONE_FILES) gives parent and child one descriptor table until the child's exec, which unshares it (man 2 execve).
So the number that seccomp(2) returns in the child is a descriptor of the parent too, and a shared page says which:

    page = ListenerPage()
    pid = spawn(lambda: page.tell(seccomp.install(program, seccomp.FLAG_NEW_LISTENER)))
    listener = page.listener(pid)

The child's own copy is close-on-exec by the kernel (kernel/seccomp.c: init_listener). Learning, supervision and the
doctor start their child here.
"""

from __future__ import annotations

import _signal  # the core of signal, loaded anyway; signal itself loads enum
import gc
import mmap
import os
import struct
import time

from sandbox.errors import SandboxError
from sandbox.kernel import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_FILES = 0x400  # linux/sched.h
PAUSE = 0.0005
"""Seconds between two looks at the page: a futex would need a call that a filter may refuse."""

_UNSET, _LISTENS, _ALONE, _REFUSED = range(4)
_STATE = 3
"""The bits of the first word that hold one of these four."""
_FIRST, _SECOND = 0, 8
"""Offsets of the page's two words."""


class ChildRefused(OSError):
    """The child could not get a listener: the errno of what was refused to it, and which step that was."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(number, os.strerror(number))
        self.step = step


class ListenerPage:
    """A page that parent and child share: what became of the child's filter, and one more word of either to the other.

    Each word is written once and whole: struct's native `q` is one aligned store of 8 bytes, where the standard `<q`
    is put together byte by byte, so that the reader could see half of a number.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)

    def tell(self, listener: int | None) -> None:
        """In the child: the listener's number, or that it goes on without one."""
        word = _ALONE if listener is None else listener << 2 | _LISTENS
        struct.pack_into("q", self._page, _FIRST, word)

    def refuse(self, error: OSError, step: int = 0) -> None:
        """In the child: that it ends, because `error` was the answer to the step of this number."""
        struct.pack_into("q", self._page, _FIRST, (step << 16 | (error.errno or 0)) << 2 | _REFUSED)

    def listener(self, pid: int, limit: float | None = None) -> int | None:
        """In the parent: the listener's number; None where the child has none, has ended, or says nothing in `limit` s.

        Raises ChildRefused. A child that has ended is not reaped.
        """
        deadline = None if limit is None else time.monotonic() + limit
        while deadline is None or time.monotonic() < deadline:
            # Asked before the look at the page: what it wrote before its end is there by then.
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            (word,) = struct.unpack_from("q", self._page, _FIRST)
            state, value = word & _STATE, int(word) >> 2
            if state == _LISTENS:
                return value
            if state == _REFUSED:
                raise ChildRefused(value & 0xFFFF, value >> 16)
            if state == _ALONE or ended:
                return None
            time.sleep(PAUSE)
        return None

    def send(self, value: int) -> None:
        """The second word, in either: a go-ahead, or what a call gave. Once, 62 bits with sign."""
        struct.pack_into("q", self._page, _SECOND, value << 1 | 1)

    def receive(self, limit: float | None = None) -> int | None:
        """What the other sent; None where that is nothing in `limit` seconds."""
        deadline = None if limit is None else time.monotonic() + limit
        while deadline is None or time.monotonic() < deadline:
            (word,) = struct.unpack_from("q", self._page, _SECOND)
            if word:
                return int(word) >> 1
            time.sleep(PAUSE)
        return None


def spawn(child: Callable[[], None]) -> int:
    """Run `child` in a new process that shares this one's descriptor table until its exec. Returns its pid.

    The child ends with SandboxError's exit code when `child` returns or raises; it says nothing then, so that a child
    that can fail says why itself. Garbage collection stays off in both: whoever goes on turns it on again. Raises
    OSError.

    The raw call and not os.fork(), which cannot share the table (CLONE_FILES), and which would run the handlers of
    os.register_at_fork in a process that only installs a filter and execs. Without them Python's locks are not made
    anew in the child, so that the caller must have no second thread.
    """
    # A collection writes to the header of every object, and so copies every page that the two still share. Freezing
    # keeps today's objects out of it (gc.freeze), disabling keeps one from starting between here and the exec.
    gc.disable()
    gc.freeze()
    pid = abi.syscall(abi.number("clone"), CLONE_FILES | _signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        try:
            child()
        finally:
            # At once: what the parent has registered for its own exit is not for the child to run.
            os._exit(SandboxError.exit_code)
    return pid
