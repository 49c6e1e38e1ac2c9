"""Connecting a task's socket for it, in training: only to what stands for the destination that it asked for."""

from __future__ import annotations

import errno
import os
import threading

from sandbox.egress import sockets
from sandbox.kernel.notification import Listener, Notification


def connect(listener: Listener, call: Notification, fd: int, target: bytes) -> None:
    """Connect a duplicate of the task's socket to a struct sockaddr (b"": to nobody) and answer; closes `fd`.

    What would sleep in the task sleeps in a thread of its own.
    """
    number = errno.ECONNREFUSED
    if target:
        blocking = sockets.is_blocking(fd)
        number = sockets.connect_without_sleep(fd, target) if blocking else sockets.connect(fd, target)
        if blocking and number in sockets.SLEEPS:
            threading.Thread(target=_wait, args=(listener, call, fd, target, number), daemon=True).start()
            return
    _answer(listener, call, fd, number)


def _wait(listener: Listener, call: Notification, fd: int, target: bytes, first: int) -> None:
    _answer(listener, call, fd, sockets.wait_connected(listener, call, fd, target, first))


def _answer(listener: Listener, call: Notification, fd: int, number: int) -> None:
    os.close(fd)
    if number:
        listener.refuse(call.id, number)
    else:
        listener.answer(call.id, 0)
