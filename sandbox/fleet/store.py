"""A store on disk: files of Parquet that are written whole and never changed, by any number of writers at once.

    STORE/fleet.json                                   the version
    STORE/violations/day=2026-11-30/function=orders/DIGEST.parquet
    STORE/.writing/                                    what a writer has not finished

A file is written beside, synced and renamed, so that a reader sees all of it or nothing. Each row is in one file: who
writes to a folder looks, alone there (man 2 flock), which of its rows the folder has. Names of folders are there to
skip what is not asked for; what counts stands in the rows.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from sandbox.errors import UsageError
from sandbox.fleet.schema import TABLES, VERSION, arrow

MARK = "fleet.json"
EMPTY = "empty.parquet"
"""The first file of each table: no rows, and the columns of which every other file must be."""
WRITING = ".writing"
MOST_ROWS = 200_000
"""Rows that wait in memory before they are written."""
ABANDONED = 24 * 3600
"""Seconds after which an unfinished file is nobody's."""
UNDATED = "undated"
OTHERS = "~"
"""The folder of functions whose names are none that a profile can have."""
LONGEST = 100
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")

Row = tuple[Any, ...]
"""One row of a table, in the order of its columns."""


class Store:
    """One store. `create` makes it where there is none."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        """Raises UsageError for what is not a store, or one of a newer version."""
        self.path = os.path.abspath(path)
        mark = os.path.join(self.path, MARK)
        if create and not os.path.exists(mark):
            self._make(mark)
        try:
            with open(mark, encoding="utf-8") as file:
                version = json.load(file)["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            todo = "name a folder that `sandbox fleet ingest` made"
            raise UsageError("is not a store", where=path, todo=todo) from error
        if version != VERSION:
            todo = "use the version of seccomp-bootstrap that made it, or ingest the logs into a new store"
            raise UsageError(f"is of schema {version!r}, this version reads {VERSION}", where=path, todo=todo)

    def _make(self, mark: str) -> None:
        try:
            os.makedirs(self.path, exist_ok=True)
            if any(name not in (WRITING, *TABLES) for name in os.listdir(self.path) if not name.startswith(".fleet")):
                raise UsageError(
                    "holds other files, and is not a store", where=self.path, todo="name a new or empty folder"
                )
            new = os.path.join(self.path, f".fleet.{os.getpid()}.{time.monotonic_ns()}")
            with open(new, "x", encoding="utf-8") as file:
                json.dump({"schema": VERSION}, file)
                file.flush()
                os.fsync(file.fileno())
            for table in TABLES:  # so that a table has its columns before it has rows
                os.makedirs(os.path.join(self.path, table), exist_ok=True)
                _put(self.path, os.path.join(self.path, table, EMPTY), table, [])
            os.replace(new, mark)
        except OSError as error:
            raise UsageError(
                f"cannot be made: {error.strerror}", where=self.path, todo="choose another folder"
            ) from error

    def files(self, table: str, since: str = "", function: str = "") -> list[str]:
        """The finished files of a table, of days from `since` (YYYY-MM-DD) on, in order; undated ones always.

        With `function` those that may hold rows of it.
        """
        top = os.path.join(self.path, table)
        found = [os.path.join(top, EMPTY)]
        for day in sorted(_folders(top)):
            if since and day != f"day={UNDATED}" and day < f"day={since}":
                continue
            for name in sorted(_folders(os.path.join(top, day))):
                if function and name != f"function={folder_of(function)}":
                    continue
                folder = os.path.join(top, day, name)
                with os.scandir(folder) as entries:
                    found += sorted(entry.path for entry in entries if entry.name.endswith(".parquet"))
        return found

    def tidy(self) -> None:
        """Remove what writers left unfinished that were killed long ago."""
        with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(self.path, WRITING)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - entry.stat().st_mtime > ABANDONED:
                        os.unlink(entry.path)


def _folders(path: str) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        yield from (entry.name for entry in entries if entry.is_dir())


class Writer:
    """Takes rows and writes them as files of the store. Not for several threads; use several writers.

    What was taken is in the store after `flush`. `new` counts the rows that it had not, `files` what they are in.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[tuple[str, str, str], dict[int, Row]] = {}
        self._rows = 0
        self.taken = 0
        self.new = 0
        self.files = 0

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Take rows of a table; the second of one id is left out."""
        for row in rows:
            known = self._waiting.setdefault((table, row[2], row[3]), {})
            before = len(known)
            known.setdefault(row[1], row)
            self._rows += len(known) - before
            self.taken += 1
        if self._rows >= MOST_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits. Raises OSError, for one DiskFull."""
        for (table, day, function), rows in self._waiting.items():
            self._write(table, day, function, rows)
        self._waiting.clear()
        self._rows = 0

    def _write(self, table: str, day: str, function: str, rows: dict[int, Row]) -> None:
        folder = os.path.join(self._store.path, table, f"day={day or UNDATED}", f"function={folder_of(function)}")
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for known in _ids(folder):
                rows.pop(known, None)
            if not rows:
                return
            chosen = sorted(rows)
            digest = hashlib.sha256(b"".join(key.to_bytes(8, "big") for key in chosen)).hexdigest()
            path = os.path.join(folder, f"{digest[:32]}.parquet")
            _put(self._store.path, path, table, [rows[key] for key in chosen])
        finally:
            os.close(descriptor)
        self.files += 1
        self.new += len(rows)


def _ids(folder: str) -> Iterator[int]:
    """The ids of the rows that a folder has."""
    import pyarrow
    import pyarrow.parquet

    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".parquet"):
                try:
                    column = pyarrow.parquet.read_table(entry.path, columns=["id"], partitioning=None)["id"]
                except (pyarrow.ArrowException, OSError, KeyError) as error:
                    raise damaged(entry.path, error) from error
                yield from column.to_pylist()


def damaged(where: str, error: Exception) -> UsageError:
    """The error for what is in a store and no file of it."""
    first = str(error).partition("\n")[0]
    todo = "take the file away that it names, and ingest the logs again: the rows that are there stay"
    return UsageError(f"cannot be read: {first}", where=where, todo=todo)


def _put(store: str, path: str, table: str, rows: Sequence[Row]) -> None:
    """Write a file beside, and rename it."""
    import pyarrow
    import pyarrow.parquet

    schema = arrow(table)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    data = pyarrow.Table.from_arrays(
        [_array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
    writing = os.path.join(store, WRITING)
    os.makedirs(writing, exist_ok=True)
    new = os.path.join(writing, f"{os.getpid()}.{os.urandom(8).hex()}")
    with open(new, "xb") as file:
        pyarrow.parquet.write_table(data, file, compression="zstd", version="2.6")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def _array(column: Sequence[Any], kind: Any) -> Any:
    import pyarrow

    try:
        return pyarrow.array(column, kind)
    except (UnicodeEncodeError, pyarrow.ArrowException):
        # A lone surrogate, which JSON can say and UTF-8 cannot; a number beyond 64 bits was refused before.
        texts = [value.encode("utf-8", "backslashreplace").decode() if value is not None else None for value in column]
        return pyarrow.array(texts, kind)


def folder_of(function: str) -> str:
    """The name of a function's folder, whatever the function is called."""
    if function and len(function) <= LONGEST and _NAME.issuperset(function):
        return quote(function, safe="")
    return OTHERS
