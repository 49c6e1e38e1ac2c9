"""Calls that wait at a listener of the test's own: a child runs a function, and the test answers what it calls.

    with supervised(lambda _: raw.call("getppid"), "getppid") as other:
        other.listener.answer(other.next().id, 4711)
        assert other.result() == 4711
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from refusing_filters import notifying

from sandbox.kernel import seccomp
from sandbox.kernel.notification import Listener, Notification

LIMIT = 10.0
"""Seconds that anything here may take."""


@dataclass
class Supervised:
    """A child whose calls wait at a listener of ours."""

    pid: int
    listener: Listener
    _results: int
    _own: socket.socket

    def next(self) -> Notification:
        """The next call that waits."""
        for _ in range(100):
            assert select.select([self.listener.fd], [], [], LIMIT)[0], "no call came"
            call = self.listener.receive()
            if call:
                return call
        raise AssertionError("no call stayed")

    def calls(self) -> Iterator[Notification]:
        """Every call until nobody is left under the filter; each is to be answered before the next."""
        poll = select.poll()
        poll.register(self.listener.fd, select.POLLIN)
        while events := poll.poll(LIMIT * 1000):
            if not events[0][1] & select.POLLIN:
                return
            call = self.listener.receive()
            if call:
                yield call
        raise AssertionError("no call came, and the child did not end")

    def hung_up(self) -> bool:
        """Whether the kernel says that nobody is left under the filter."""
        poll = select.poll()
        poll.register(self.listener.fd, select.POLLIN)
        return any(event & select.POLLHUP for _, event in poll.poll(LIMIT * 1000))

    def result(self) -> Any:
        """What the child's function returned. Waits for its end."""
        data = b""
        while select.select([self._results], [], [], LIMIT)[0] and (more := os.read(self._results, 1 << 16)):
            data += more
        return pickle.loads(data)

    def go_on(self) -> None:
        """Tell the child what it waits for."""
        self._own.send(b"x")


@contextlib.contextmanager
def supervised(function: Callable[[socket.socket], Any], *names: str, flags: int = 0) -> Iterator[Supervised]:
    """A child that runs `function(socket to its supervisor)` while the calls `names` wait for us."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    results, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(int(LIMIT) * 3)
            ours.close()
            seccomp.set_no_new_privs()
            fd = seccomp.install(notifying(*names), seccomp.FLAG_NEW_LISTENER | flags)
            socket.send_fds(theirs, [b"l"], [fd])
            os.close(fd)
            with open(report, "wb") as file:
                file.write(pickle.dumps(function(theirs)))
            code = 0
        finally:
            os._exit(code)
    os.close(report)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    found = Supervised(pid, Listener(fds[0]), results, ours)
    try:
        yield found
    finally:
        with contextlib.suppress(OSError):
            os.close(found.listener.fd)
        os.close(results)
        ours.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
