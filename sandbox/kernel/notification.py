"""Seccomp user notification: receive, answer, check, add descriptors (man 2 seccomp_unotify, linux/seccomp.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECV = 0xC0502100
SEND = 0xC0182101
ID_VALID = 0x40082102
ADDFD = 0x40182103
SET_FLAGS = 0x40082104  # Linux 6.6

FLAG_CONTINUE = 1
ADDFD_FLAG_SEND = 1 << 1  # Linux 5.14
FD_SYNC_WAKE_UP = 1

_NOTIF = struct.Struct("<QIIiIQ6Q")
_RESP = struct.Struct("<QqiI")


class Notification:
    """struct seccomp_notif: one call that waits for an answer. `pid` is the calling thread's id."""

    __slots__ = ("arch", "args", "flags", "id", "ip", "nr", "pid")

    def __init__(self, fields: tuple[int, ...]) -> None:
        self.id, self.pid, self.flags, self.nr, self.arch, self.ip, *_ = fields
        self.args = fields[6:]
        """The six register arguments."""

    @staticmethod
    def unpack(data: bytes) -> Notification:
        """One that somebody else has received: struct seccomp_notif, SIZE bytes."""
        return Notification(_NOTIF.unpack(data))


SIZE = _NOTIF.size


class Listener:
    """The supervisor's end. Reuses one buffer: not for several threads at once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.source = fd
        """The descriptor that can be read when there is a call to receive."""
        self._buffer = bytearray(_NOTIF.size)
        self._zero = bytes(_NOTIF.size)
        self._answers_with = True
        """Whether the kernel adds a descriptor and answers with it in one step."""

    def set_sync_wake_up(self) -> bool:
        """Ask the kernel to switch straight between task and supervisor; False before Linux 6.6."""
        try:
            fcntl.ioctl(self.fd, SET_FLAGS, FD_SYNC_WAKE_UP)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
            return False
        return True

    def receive(self) -> Notification | None:
        """The next call that waits; None when it was interrupted or its task is gone. Raises OSError otherwise."""
        buffer = self._buffer
        buffer[:] = self._zero  # the kernel wants zeroes (EINVAL)
        try:
            fcntl.ioctl(self.fd, RECV, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        return Notification(_NOTIF.unpack(buffer))

    def let_through(self, id_: int) -> bool:
        """Let the kernel make the call as it stands. False when the task is gone or was interrupted by a signal."""
        return self._send(_RESP.pack(id_, 0, 0, FLAG_CONTINUE))

    def refuse(self, id_: int, number: int) -> bool:
        """Answer with an errno. False when the task is gone or was interrupted by a signal."""
        return self._send(_RESP.pack(id_, 0, -number, 0))

    def answer(self, id_: int, value: int) -> bool:
        """Answer with a return value. False when the task is gone or was interrupted by a signal."""
        return self._send(_RESP.pack(id_, value, 0, 0))

    def _send(self, response: bytes) -> bool:
        try:
            fcntl.ioctl(self.fd, SEND, response)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def finish(self) -> None:
        """Nobody is left who could make a call: hear what else was said."""

    def is_valid(self, id_: int) -> bool:
        """Whether the call still waits: ask after every look into the task's memory, against reused pids."""
        try:
            fcntl.ioctl(self.fd, ID_VALID, struct.pack("<Q", id_))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True

    def add_descriptor(self, id_: int, fd: int, *, cloexec: bool = True) -> int:
        """Install a copy of `fd` in the task and return its number there. Raises OSError."""
        return self._add(id_, fd, 0, cloexec)

    def answer_with_descriptor(self, id_: int, fd: int, *, cloexec: bool) -> int:
        """Install a copy of `fd` in the task and answer its call with the number there, which is returned.

        Raises OSError: ENOENT when the task is gone or was interrupted, EMFILE when it has no number left, and the
        call still waits. Before Linux 5.14 these are two steps: a signal between them costs the task a descriptor.
        """
        if self._answers_with:
            try:
                return self._add(id_, fd, ADDFD_FLAG_SEND, cloexec)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._answers_with = False
        number = self._add(id_, fd, 0, cloexec)
        if not self.answer(id_, number):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return number

    def _add(self, id_: int, fd: int, flags: int, cloexec: bool) -> int:
        newfd_flags = os.O_CLOEXEC if cloexec else 0
        # A buffer that can be written: for bytes, ioctl returns the bytes and not the call's result.
        return int(fcntl.ioctl(self.fd, ADDFD, bytearray(struct.pack("<QIIII", id_, flags, fd, 0, newfd_flags))))


class CallTable:
    """Calls told by number and registers alone, as a filter compares them."""

    __slots__ = ("_calls",)

    def __init__(self, calls: Mapping[str, Sequence[Sequence[Sequence[int]]]]) -> None:
        """`calls` is {number: alternatives of [argument, mask, value]} (sandbox/policy/supervision.py)."""
        self._calls = {int(nr): alternatives for nr, alternatives in calls.items()}

    def allows(self, call: Notification) -> bool:
        """Whether a call is one of them."""
        args = call.args
        for conditions in self._calls.get(call.nr, ()):
            for argument, mask, value in conditions:
                if args[argument] & mask != value:
                    break
            else:
                return True
        return False
