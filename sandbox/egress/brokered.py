"""One call under work in the broker: its task, the descriptor of its socket, its target, and its answer.

What may sleep does so in a thread of its own, for its task alone.
"""

from __future__ import annotations

import _thread
import errno
import os

from sandbox.egress.destinations import Denied
from sandbox.egress.sockets import ASLEEP, MOST_ASLEEP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from sandbox.kernel.notification import Listener, Notification
    from sandbox.kernel.sockaddr import SocketAddress
    from sandbox.kernel.task import Task

    class SocketSource(Protocol):
        """Where descriptors of the tasks' sockets come from: Duplicates, or sandbox/egress/owned.py.

        `duplicate` raises OSError, or Denied for a socket of which it has none.
        """

        def duplicate(self, task: Task, number: int) -> int: ...
        def release(self, fd: int) -> None: ...

    Answer = tuple[int, int]  # the call's value, and an errno that is 0 where there is a value

CROWD = f"more calls sleep at a time than the supervisor waits for ({MOST_ASLEEP}, or a part of its descriptors)"
STACK = 128 << 10  # bytes for a thread that only sleeps in one system call


class Duplicates:
    """The tasks' sockets by pidfd_getfd(2)."""

    @staticmethod
    def duplicate(task: Task, number: int) -> int:
        """A descriptor of our own for a number of the task. Raises OSError."""
        return task.duplicate(number)

    @staticmethod
    def release(fd: int) -> None:
        """The call is made, and its task has no answer yet."""
        os.close(fd)


class Target:
    """The address that is really used, None to go where the socket is connected to.

    `pinned` are descriptors of ours that the call needs: of the unix socket that the address names, or those that the
    message hands over. `mute`: the socket may be connected, and sends nothing afterwards.
    `resolver` is the struct sockaddr of the resolver in whose place the address is the forwarder's, else b"".
    """

    __slots__ = ("address", "mute", "pinned", "resolver")

    def __init__(
        self, address: bytes | None, pinned: Iterable[int] = (), *, mute: bool = False, resolver: bytes = b""
    ) -> None:
        self.address = address
        self.mute = mute
        self.resolver = resolver
        self.pinned = list(pinned)

    def close(self) -> None:
        """Let go of what it names."""
        while self.pinned:
            os.close(self.pinned.pop())


class Brokered:
    """One call that the broker answers, with the descriptor of its socket.

    `address` is the one that the call, or the message of it that is under work, names; as it was read and parsed.
    `reaches_own`: it leads to a socket of the function itself.
    """

    __slots__ = (
        "address", "call", "domain", "fd", "in_thread", "listener", "reaches_own", "socket_type", "source", "syscall",
        "task",
    )  # fmt: skip

    def __init__(
        self, listener: Listener, call: Notification, syscall: str, task: Task, fd: int, source: SocketSource
    ) -> None:
        self.listener = listener
        self.call = call
        self.syscall = syscall
        self.task = task
        self.fd = fd
        self.source = source
        self.in_thread = False
        """A thread answers, and releases the descriptor."""
        self.domain = self.socket_type = 0
        self.address: SocketAddress | None = None
        self.reaches_own = False

    def answer(self, value: int, number: int) -> None:
        """A value, or an errno that is not 0."""
        if number:
            self.listener.refuse(self.call.id, number)
        else:
            self.listener.answer(self.call.id, value)

    def sleep(self, perform: Callable[[], Answer], target: Target) -> Answer | None:
        """Answer with what `perform` returns, in a thread: it may take as long as the task waits.

        Raises Denied where too many sleep already.
        """
        if not ASLEEP.begin():
            raise Denied(CROWD, address=self.address, final=True)

        def run() -> None:
            try:
                answer = perform()
            finally:
                ASLEEP.end()
                self.source.release(self.fd)
                target.close()
            self.answer(*answer)

        self.in_thread = True
        try:
            _thread.start_new_thread(run, ())
        except RuntimeError:  # no more threads
            self.in_thread = False
            ASLEEP.end()
            return 0, errno.ENOBUFS
        return None
