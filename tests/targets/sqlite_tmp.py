"""A handler that makes a WAL-mode SQLite database in a new directory under /tmp, uses it and removes it."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Insert `rows` rows (10 by default); return their count, their sum and the journal mode in force."""
    numbers = [(n,) for n in range(int(event.get("rows", 10)))]
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as directory,
        contextlib.closing(sqlite3.connect(Path(directory) / "target.sqlite")) as database,
    ):
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        with database:
            database.execute("CREATE TABLE numbers (n INTEGER)")
            database.executemany("INSERT INTO numbers VALUES (?)", numbers)
        count, total = database.execute("SELECT count(*), sum(n) FROM numbers").fetchone()
    return {"count": count, "sum": total, "journal": mode}
