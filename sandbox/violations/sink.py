"""Where the lines go: an own way to stderr, a descriptor, a file, or a unix socket. One write a line, and never a wait.

A sink that is full or gone loses lines rather than time: it counts them and says so (`lost`) in the next line that gets
through. SIGPIPE must be ignored, as Python does from its start: a reader that went away is not a reason to die.

Standard error is the function's as well, which may seek, cut, fill and read it. What can be opened anew is, so that
neither its offset nor its flags are the function's; a line begins on a line of its own, whatever the function left
unended before it. Where that is not enough, the chain of signatures shows what is missing (chain.py).
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import time

from sandbox.errors import UsageError, printable
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
_GIVEN = ("stderr", "fd")
_GONE = 0
_WAITS = -1


class Sink:
    """Writes records as lines, each with its `seq` and `supervisor`, with a key its `hmac`. Not for several threads."""

    __slots__ = (
        "_again", "_before", "_clock", "_end", "_fd", "_file", "_key", "_kind", "_path", "_polled", "_previous",
        "_rest", "_retry", "_shared", "_socket", "_stderr", "lost", "seq", "supervisor",
    )  # fmt: skip

    def __init__(
        self, target: str = "", key: bytes | None = None, *, stderr: int = 2, retry: float = RETRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`target`: '' for the descriptor `stderr`, `fd:N`, `file:PATH`, or `unix:PATH` (`unix:@NAME` abstract).

        The descriptor N is taken over: nobody else in this process may use it. A socket, or a pipe with a name, whose
        other end is not there yet is tried again with the lines to come, once in `retry` seconds of `clock`. Raises
        UsageError for any other target, and for what cannot be opened.
        """
        self.seq = 0
        self.lost = 0
        # Signed logs are collected from many runs, which have to be told apart.
        self.supervisor = os.urandom(4 if key is None else 8).hex()
        self._key = key
        self._clock = clock
        self._retry = retry
        self._again = 0.0
        self._previous = self._before = ""
        self._rest = b""
        self._shared = True
        self._file = False
        self._end = -1
        self._fd = -1
        self._socket: _socket.socket | None = None
        self._polled = False
        self._stderr = stderr
        self._kind, self._path = _parsed(target)
        try:
            self._open()
        except OSError as error:
            if self._kind == "fd" or (self._kind == "file" and error.errno != errno.ENXIO):
                todo = "name a file that this user can write" if self._kind == "file" else "name an open descriptor"
                raise UsageError(
                    f"cannot be opened: {error.strerror}", where=f"SANDBOX_EVENTS={target}", todo=todo
                ) from error
            said = f"sandbox: SANDBOX_EVENTS={target}: {error.strerror}: lines are lost until somebody reads there"
            try:
                os.write(stderr, f"{printable(said)}\n".encode())
            except OSError:
                return  # nobody reads there either

    @property
    def signs(self) -> bool:
        """Whether each line is signed and chained to the one before."""
        return self._key is not None

    def wait(self, seconds: float) -> None:
        """Wait until a line may be taken, no longer than so; not for an end that is gone."""
        fd = self._socket.fileno() if self._socket else self._fd
        if fd >= 0 and seconds > 0:
            _has_room(fd, seconds)

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
                self._end = self._size()
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
        begin = "\n" if self._may_be_unended() else ""
        body = render(stamped, LONGEST - 2 - (chain.SIZE if self._key is not None else 0))
        if self._key is None:
            return f"{begin}{body}\n".encode(), ""
        signature = chain.sign(self._key, self._previous, body)
        return f"{begin}{chain.signed(body, signature)}\n".encode(), signature

    def _may_be_unended(self) -> bool:
        """Whether somebody may have left a line unended where the next one goes."""
        size = self._size()
        if size < 0:
            return self._shared
        if size in (0, self._end):
            return False
        try:
            return os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError:
            return self._shared  # it may only be written

    def _size(self) -> int:
        """Bytes of the regular file that is written to; -1 for anything else."""
        return os.fstat(self._fd).st_size if self._file and self._fd >= 0 else -1

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
        if self._kind in (*_GIVEN, "closed") or now < self._again:
            return False
        self._again = now + self._retry
        try:
            self._open()
        except OSError:
            return False
        return True

    def _open(self) -> None:
        if self._kind == "unix":
            self._socket, self._shared = _connected(self._path), False
        elif self._kind == "fd":
            self._duplicate(int(self._path))
            os.close(int(self._path))
            self._shared = False  # the function never had it
        elif self._kind == "file":
            self._fd, self._shared = _opened(self._path, os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY), False
        else:
            self._duplicate(self._stderr)
        self._file = self._fd >= 0 and stat.S_ISREG(os.fstat(self._fd).st_mode)

    def _duplicate(self, source: int) -> None:
        """An own way to where a descriptor leads, that does not wait.

        O_NONBLOCK belongs to the open file and not to the descriptor, so that setting it on a duplicate would make the
        function's own writes fail: a pipe or terminal is opened anew. Where that is not allowed (it belongs to another
        user), each write first asks whether there is room for it: a pipe that polls writable takes 4096 bytes. A file
        is opened anew to append: its offset and its flags are whose it is. With that offset the function would then
        write over our lines, so its own writes append from now on, too.
        """
        fd = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            self._socket = _socket.socket(fileno=fd)
            # A datagram is a line of its own.
            self._shared = self._socket.type == _socket.SOCK_STREAM
            return
        self._fd = fd
        own = f"/proc/self/fd/{fd}"
        try:
            if stat.S_ISREG(mode):
                fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
                self._fd = _opened(own, 0)
            elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                self._fd = os.open(own, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            else:
                return
        except OSError:
            self._polled = not stat.S_ISREG(mode)
        else:
            os.close(fd)

    def _put(self, data: bytes) -> int:
        """How many bytes were taken; _WAITS if the pipe or socket is full, _GONE when the other end is gone."""
        try:
            if self._socket is not None:
                return self._socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            return self._put_polled(data) if self._polled else os.write(self._fd, data)
        except OSError as error:
            if error.errno in _FULL:
                return _WAITS
            if self._kind not in _GIVEN:  # their other end may come back, and nobody can open them again
                self._close()
            if self._rest:  # the line before was cut in the middle: it is lost, and the chain goes on from before it
                self._rest = b""
                self._previous = self._before
                self.lost += 1
            return _GONE

    def _put_polled(self, data: bytes) -> int:
        """The same for a descriptor that may wait. Raises OSError."""
        try:
            return os.pwritev(self._fd, [data], -1, os.RWF_NOWAIT)  # a pipe since Linux 6.4
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        # Between question and write the function may fill it.
        return os.write(self._fd, data) if _has_room(self._fd, 0) else _WAITS

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def tell(fd: int, data: bytes, seconds: float = 1.0) -> None:
    """Write to a log at the end of a start or run, unless nobody takes it within so long."""
    try:
        if _has_room(fd, seconds):
            os.write(fd, data)
    except OSError:
        return


def _parsed(target: str) -> tuple[str, str]:
    if not target:
        return "stderr", ""
    kind, _, path = target.partition(":")
    problem = ""
    if kind not in ("fd", "file", "unix") or not path or "\0" in path:
        problem = "is neither fd:N nor file:PATH nor unix:PATH"
    elif kind == "fd" and not (path.isascii() and path.isdigit() and len(path) < 9 and int(path) > 2):
        problem = "is not the number of a descriptor above 2"
    elif kind == "unix" and len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        problem = f"is longer than the {LONGEST_SOCKET_PATH} bytes of a socket's path"
    if problem:
        raise UsageError(problem, where=f"SANDBOX_EVENTS={target}", todo="correct it, or unset it for stderr")
    if kind == "fd":
        return kind, path
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


def _opened(path: str, flags: int) -> int:
    """A file to append to; to be read as well, where that is allowed, for its last byte. Raises OSError."""
    flags |= os.O_APPEND | os.O_CLOEXEC
    fd = os.open(path, os.O_WRONLY | flags, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    try:
        both = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return fd
    os.close(fd)
    return both


def _has_room(fd: int, seconds: float) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(int(seconds * 1000)))
