"""Where the lines go: an own way to stderr, a file, or a unix socket. One write a line, and never a wait.

A sink that is full or gone loses lines rather than time: it counts them and says so (`lost`) in the next line that gets
through. SIGPIPE must be ignored, as Python does from its start: a reader that went away is no reason to die.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import time

from sandbox.errors import UsageError
from sandbox.violations import chain
from sandbox.violations.record import LONGEST, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.violations.record import Record

RETRY = 1.0
"""Seconds between attempts to reach a sink that is gone."""

LONGEST_SOCKET_PATH = 107
"""Bytes of sun_path with its NUL (man 7 unix)."""

_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMSGSIZE)
_GONE = 0
_WAITS = -1


class Sink:
    """Writes records as lines, each with its `seq` and `supervisor`, with a key its `hmac`. Not for several threads."""

    __slots__ = (
        "_again", "_before", "_clock", "_fd", "_key", "_kind", "_path", "_polled", "_previous", "_rest", "_retry",
        "_socket", "_stderr", "lost", "seq", "supervisor",
    )  # fmt: skip

    def __init__(
        self, target: str = "", key: bytes | None = None, *, stderr: int = 2, retry: float = RETRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`target`: '' for a duplicate of the descriptor `stderr`, `file:PATH`, or `unix:PATH` (`unix:@NAME` abstract).

        A socket, or a pipe with a name, whose other end is not there yet is tried again with the lines to come, once in
        `retry` seconds of `clock`. Raises UsageError for any other target and for a file that cannot be opened.
        """
        self.seq = 0
        self.lost = 0
        self.supervisor = os.urandom(4).hex()
        self._key = key
        self._clock = clock
        self._retry = retry
        self._again = 0.0
        self._previous = self._before = ""
        self._rest = b""
        self._fd = -1
        self._socket: _socket.socket | None = None
        self._polled = False
        self._stderr = stderr
        self._kind, self._path = _parsed(target)
        try:
            self._open()
        except OSError as error:
            if self._kind == "file" and error.errno != errno.ENXIO:
                raise UsageError(
                    f"cannot be opened: {error.strerror}", where=f"SANDBOX_EVENTS={target}",
                    todo="name a file that this user can write",
                ) from error  # fmt: skip
            said = f"sandbox: SANDBOX_EVENTS={target}: {error.strerror}: lines are lost until somebody reads there\n"
            try:
                os.write(stderr, said.encode(errors="backslashreplace"))
            except OSError:
                return  # nobody reads there either

    def write(self, record: Record) -> bool:
        """Write one record; False when it was lost. Never waits, never raises for what the other end does."""
        self.seq += 1
        for _ in range(2):  # a second time where the other end was there again at once
            if not self._ready():
                break
            line, signature = self._line(record)
            count = self._put(line)
            if count == _WAITS:
                break
            if count > 0:
                self._rest = line[count:]
                self._before, self._previous = self._previous, signature
                self.lost = 0
                return True
        self.lost += 1
        return False

    def close(self) -> None:
        """Give the descriptors back; what was written stays. The object can be closed twice."""
        if self._rest:
            self._put(self._rest)
        self._close()
        self._kind = "closed"

    def _line(self, record: Record) -> tuple[bytes, str]:
        stamped: dict[str, object] = {
            "event": record.event, "time": record.time, "seq": self.seq, "supervisor": self.supervisor,
        }  # fmt: skip
        if self.lost:
            stamped["lost"] = self.lost
        stamped |= record.fields()
        body = render(stamped, LONGEST - 1 - (chain.SIZE if self._key is not None else 0))
        if self._key is None:
            return (body + "\n").encode(), ""
        signature = chain.sign(self._key, self._previous, body)
        return (chain.signed(body, signature) + "\n").encode(), signature

    def _ready(self) -> bool:
        """Whether a whole line may be written now: connected, and the rest of the last one through."""
        if self._fd < 0 and self._socket is None and not self._reopen():
            return False
        if self._rest:
            count = self._put(self._rest)
            if count > 0:
                self._rest = self._rest[count:]
            elif count == _GONE:
                return self._reopen()
        return not self._rest

    def _reopen(self) -> bool:
        now = self._clock()
        if self._kind in ("stderr", "closed") or now < self._again:
            return False
        self._again = now + self._retry
        try:
            self._open()
        except OSError:
            return False
        return True

    def _open(self) -> None:
        if self._kind == "unix":
            self._socket = _connected(self._path)
        elif self._kind == "file":
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            self._fd = os.open(self._path, flags, 0o600)
        else:
            self._duplicate()

    def _duplicate(self) -> None:
        """An own way to stderr that does not wait.

        O_NONBLOCK belongs to the open file and not to the descriptor, so that setting it on a duplicate would make the
        function's own writes fail: a pipe or terminal is opened anew. Where that is not allowed (it belongs to another
        user), each write first asks whether there is room for it: a pipe that polls writable takes 4096 bytes.
        """
        fd = fcntl.fcntl(self._stderr, fcntl.F_DUPFD_CLOEXEC, 3)
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = _socket.socket(fileno=fd)
            return
        self._fd = fd
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
                self._fd = os.open(f"/proc/self/fd/{fd}", flags)
            except OSError:
                self._polled = True
            else:
                os.close(fd)

    def _put(self, data: bytes) -> int:
        """How many bytes were taken; _WAITS if the pipe or socket is full, _GONE when the other end is gone."""
        try:
            if self._socket is not None:
                return self._socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            if self._polled and not _has_room(self._fd):
                return _WAITS
            return os.write(self._fd, data)
        except OSError as error:
            if error.errno in _FULL:
                return _WAITS
            self._close()
            if self._rest:  # the line before was cut in the middle: it is lost, and the chain goes on from before it
                self._rest = b""
                self._previous = self._before
                self.lost += 1
            return _GONE

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _parsed(target: str) -> tuple[str, str]:
    if not target:
        return "stderr", ""
    kind, _, path = target.partition(":")
    problem = ""
    if kind not in ("file", "unix") or not path or "\0" in path:
        problem = "is neither file:PATH nor unix:PATH"
    elif kind == "unix" and len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        problem = f"is longer than the {LONGEST_SOCKET_PATH} bytes of a socket's path"
    if problem:
        raise UsageError(problem, where=f"SANDBOX_EVENTS={target}", todo="correct it, or unset it for stderr")
    # The working directory changes before the first line may be written.
    return kind, path if path.startswith("@") and kind == "unix" else os.path.abspath(path)


def _connected(path: str) -> _socket.socket:
    """A socket of the kind that listens there, datagrams before stream. Raises OSError."""
    address = b"\0" + os.fsencode(path[1:]) if path.startswith("@") else os.fsencode(path)
    try:
        return _connect(_socket.SOCK_DGRAM, address)
    except OSError as error:
        # An address of the other kind: EPROTOTYPE where it is a file, ECONNREFUSED where it is abstract (af_unix.c).
        if error.errno not in (errno.EPROTOTYPE, errno.ECONNREFUSED):
            raise
    return _connect(_socket.SOCK_STREAM, address)


def _connect(kind: int, address: bytes) -> _socket.socket:
    found = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    try:
        found.connect(address)
    except OSError:
        found.close()
        raise
    return found


def _has_room(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))
