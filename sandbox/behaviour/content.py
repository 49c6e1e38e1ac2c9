"""What identifies a program that lies where its function writes: the digest of its content.

A path says nothing there: whoever may write the folder chooses what lies at it.
"""

from __future__ import annotations

import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 1 << 30
"""Bytes of a program whose digest is computed: whoever starts larger ones could stop its supervisor with them."""
SETTLED = 2.0
"""Seconds since the last change after which a further change shows in the time of a file: the kernel's clock for files
has ticks of up to 10 ms (man 7 time), and a server's clock may be another."""
BLOCK = 1 << 20
MOST = 64
"""Digests that are remembered."""
_HARMLESS = 23
"""SIGURG, which is ignored by default: a lease that somebody waits for is told by a signal (man 2 fcntl)."""


class Opened:
    """A file that is open for reading. While it is `held`, by a lease, nobody opens it for writing or truncates it."""

    def __init__(self, path: str, *, follow: bool = False) -> None:
        """The regular file at a physical path, or where a link leads. Raises OSError.

        `identity` is its (st_dev, st_ino).
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        self.fd = os.open(path, flags)
        try:
            seen = os.fstat(self.fd)
            self.identity = seen.st_dev, seen.st_ino
            if seen.st_mode & 0o170000 != 0o100000:
                raise FileNotFoundError
        except OSError:
            self.close()
            raise
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETSIG, _HARMLESS)
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError:
            pass  # somebody has it open for writing, or it is another user's, or its file system has no leases

    @property
    def held(self) -> bool:
        """Whether nobody can have changed it since it was opened."""
        try:
            return fcntl.fcntl(self.fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
        except OSError:
            return False

    def close(self) -> None:
        """Let the file go, and its lease with it."""
        os.close(self.fd)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class Digests:
    """SHA-256 of files, computed again only for a file that may have changed since."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def of(self, file: Opened) -> str:
        """In hexadecimal; '' for a file that is too large. Raises OSError."""
        seen = os.fstat(file.fd)
        if seen.st_size > LARGEST:
            return ""
        key = (*file.identity, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        found = self._known.get(key)
        if found is None:
            found = _digest(file.fd)
            # Who has it open for writing may have it mapped, and what is written there leaves no time.
            if file.held and time.time() - seen.st_ctime > SETTLED:
                while len(self._known) >= MOST:
                    del self._known[next(iter(self._known))]
                self._known[key] = found
        return found


def _digest(fd: int) -> str:
    from hashlib import sha256  # OpenSSL's: several times as quick as the interpreter's own, and programs are large

    found: Any = sha256()
    at = 0
    while at < LARGEST:
        data = os.pread(fd, BLOCK, at)
        if not data:
            break
        found.update(data)
        at += len(data)
    return str(found.hexdigest())
