"""A log as it grows: its bytes as they come, over rotations, until somebody ends it.

A rotated file is read to its end, and for GRACE seconds more, since whoever writes it opens the new one only when it is
told to. A file that was cut to nothing, and perhaps filled again (copytruncate of logrotate), is read from its start:
what stands before the place that was reached is then another text.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Iterator

from sandbox.errors import UsageError
from sandbox.logs.reading import PIECE, LogReader
from sandbox.violations.reader import Line

INTERVAL = 0.25
"""Seconds between two looks at a file: inotify is silent on network file systems, which logs lie on."""
GRACE = 2.0
LAST = 64
"""Bytes before the place that was reached, by which a file is known again."""
STDIN = "-"


class LogFollower:
    """The bytes of one log. Only `stop` may be called by a signal handler or another thread."""

    def __init__(self, path: str, *, output: int = -1, source: int = 0) -> None:
        """`path` may be STDIN, which stands for the descriptor `source`. `output` is a descriptor, too; once nobody
        reads its other end, following ends.
        """
        self._path = path
        self._source = source
        self._output = output
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._fd = -1
        self._offset = 0
        self._last = b""
        self._is_file = False
        self._leaving = 0.0

    def stop(self) -> None:
        """End the following soon."""
        os.write(self._wake, b"\0")

    def close(self) -> None:
        """Give the descriptors back."""
        self._leave()
        os.close(self._woken)
        os.close(self._wake)

    def lines(self, reader: LogReader, *, starts: bool = False) -> Iterator[Line]:
        """What is ours in it, as LogReader.lines has it. Raises as `pieces` does."""
        for piece in self.pieces():
            yield from reader.end(starts=starts) if piece is None else reader.feed(piece, starts=starts)
        yield from reader.end(starts=starts)

    def pieces(self) -> Iterator[bytes | None]:
        """The bytes as they come; None where another file, or another text, begins.

        Ends when it is stopped, and where standard input ends. Raises UsageError for what cannot be read, and
        BrokenPipeError where nobody reads the output any more.
        """
        if self._path == STDIN and not stat.S_ISREG(os.fstat(self._source).st_mode):
            yield from self._streamed()
            return
        while True:
            if self._fd < 0 and not self._open():
                if not self._waits(INTERVAL):
                    return
                continue
            if self._is_file and self._is_another_text():
                self._rewind()
                yield None
            if data := self._more():
                yield data
                if not self._waits(0):
                    return
            elif self._is_replaced():
                self._leave()
                yield None
            elif not self._waits(INTERVAL):
                return

    def _streamed(self) -> Iterator[bytes]:
        """Standard input: a pipe, a socket or a terminal."""
        while self._waits(None, self._source):
            data = os.read(self._source, PIECE)
            if not data:
                return
            yield data

    def _open(self) -> bool:
        """Open the log; False where it is not there (yet)."""
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
            self._fd = os.dup(self._source) if self._path == STDIN else os.open(self._path, flags)
            found = os.fstat(self._fd)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(f"cannot be read: {reason}", where=self._path, todo="check the name") from error
        self._is_file = stat.S_ISREG(found.st_mode)
        self._offset, self._last, self._leaving = 0, b"", 0.0
        return True

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _more(self) -> bytes:
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return b""
        self._offset += len(data)
        self._last = (self._last + data)[-LAST:]
        return data

    def _is_another_text(self) -> bool:
        """Whether the file was cut since, or is not what it was before the place that was reached."""
        if os.fstat(self._fd).st_size < self._offset:
            return True
        return os.pread(self._fd, len(self._last), self._offset - len(self._last)) != self._last

    def _rewind(self) -> None:
        """Go to where the new text begins: who goes on writing where he was leaves a hole before it."""
        self._offset, self._last = 0, b""
        try:
            self._offset = os.lseek(self._fd, 0, os.SEEK_DATA)
        except OSError:
            os.lseek(self._fd, 0, os.SEEK_SET)

    def _is_replaced(self) -> bool:
        """Whether the name leads to another file by now, and has for so long that nothing more comes in this one."""
        try:
            new, old = os.stat(self._path), os.fstat(self._fd)
        except OSError:
            return False
        if (new.st_dev, new.st_ino) == (old.st_dev, old.st_ino):
            self._leaving = 0.0
            return False
        self._leaving = self._leaving or time.monotonic() + GRACE
        return time.monotonic() >= self._leaving

    def _waits(self, seconds: float | None, fd: int = -1) -> bool:
        """Wait, no longer than until `fd` can be read; False once it is to end. Raises BrokenPipeError."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if fd >= 0:
            poll.register(fd, select.POLLIN)
        if self._output >= 0:
            poll.register(self._output, 0)
        found = dict(poll.poll(None if seconds is None else seconds * 1000))
        if self._output in found:
            raise BrokenPipeError
        return self._woken not in found
