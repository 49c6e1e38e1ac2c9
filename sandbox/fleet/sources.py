"""Where lines come from: files, folders, standard input, and by fsspec whatever it knows (s3://bucket/logs).

What ends in .gz is read through gzip. Of a folder all files are taken, in the order of their names.
"""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from sandbox.errors import UsageError
from sandbox.fleet.extras import require

STDIN = "-"
PIECE = 1 << 18
"""Bytes that are read at once."""


@dataclass(frozen=True)
class Source:
    """One file: its name for people, and when it was last changed, in seconds since 1970; None where unknown."""

    name: str
    changed: float | None
    url: str = ""
    """Not '' for what fsspec opens."""

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Its bytes, without compression. Raises UsageError where it cannot be opened."""
        if self.name == STDIN:
            yield sys.stdin.buffer
            return
        with _file(self) as file:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if self.name.endswith(".gz") else file


def pieces(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The bytes of a file, as they come. Raises UsageError where what it holds is not what its name says."""
    read = getattr(file, "read1", file.read)
    try:
        while piece := read(PIECE):
            yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        todo = "collect the file again; what came before the damage was taken"
        raise UsageError(f"is damaged: {error}", where=name, todo=todo) from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=name, todo="check the name") from error


def sources(names: Iterable[str]) -> Iterator[Source]:
    """The files that some names mean. Raises UsageError for a name that means none."""
    for name in names:
        if name == STDIN:
            yield Source(STDIN, None)
        elif "://" in name:
            yield from _remote(name)
        else:
            yield from _local(name)


def _local(name: str) -> Iterator[Source]:
    try:
        found = os.stat(name)
        if not stat.S_ISDIR(found.st_mode):
            yield Source(name, found.st_mtime)
            return
        for folder, folders, files in os.walk(name):
            folders.sort()
            for file in sorted(files):
                path = os.path.join(folder, file)
                if os.path.isfile(path):  # a pipe in a folder would be waited for
                    yield Source(path, os.stat(path).st_mtime)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot be read: {reason}", where=name, todo="check the name") from error


def _remote(url: str) -> Iterator[Source]:
    require("fsspec")
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        found = filesystem.find(path, detail=True)
    except ImportError as error:
        raise UsageError(f"needs a package: {error}", where=url, todo="install it (s3:// needs s3fs)") from error
    except Exception as error:  # each file system has errors of its own
        raise _unread(url, error) from error
    if not found:
        raise UsageError("holds no files", where=url, todo="check the name, and what it may be read with")
    scheme = url.partition("://")[0]
    for name, details in sorted(found.items()):
        changed = details.get("LastModified", details.get("mtime"))
        seconds = changed.timestamp() if hasattr(changed, "timestamp") else changed
        full = filesystem.unstrip_protocol(name) if scheme != "memory" else f"memory://{name}"
        yield Source(full, seconds if isinstance(seconds, int | float) else None, full)


@contextmanager
def _file(source: Source) -> Iterator[Any]:
    if not source.url:
        try:
            file = open(source.name, "rb")  # noqa: SIM115  # a with statement would take errors of the caller for ours
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", where=source.name, todo="check the name") from error
        with file:
            yield file
        return
    import fsspec

    try:
        opened = fsspec.open(source.url, "rb").open()
    except Exception as error:  # each file system has errors of its own
        raise _unread(source.url, error) from error
    with opened:
        yield opened


def _unread(url: str, error: Exception) -> UsageError:
    what = str(error) or type(error).__name__
    return UsageError(f"cannot be read: {what}", where=url, todo="check the name, the network, and your credentials")
