"""Keep notes in an SQLite database in /tmp: write-ahead log, transactions, an index, a few kinds of query."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

# Named after the user, so that one user's runs never meet files that belong to another.
DATABASE = Path(f"/tmp/notes-{os.getuid()}.sqlite")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Do the event's action: replace all notes, add some, search for a word, or delete by author."""
    action = event["action"]
    if action == "replace":
        for suffix in ("", "-wal", "-shm"):
            Path(f"{DATABASE}{suffix}").unlink(missing_ok=True)
    with contextlib.closing(opened()) as database:
        if action in ("replace", "add"):
            with database:
                database.executemany("INSERT INTO notes VALUES (NULL, :author, :text)", event["notes"])
        elif action == "delete":
            with database:
                database.execute("DELETE FROM notes WHERE author = ?", (event["author"],))
        found = database.execute(
            "SELECT author, text FROM notes WHERE text LIKE ? ORDER BY author, id",
            (f"%{event.get('word', '')}%",),
        ).fetchall()
        authors = database.execute("SELECT author, count(*) FROM notes GROUP BY author").fetchall()
    return {"found": [dict(row) for row in found], "authors": dict(authors)}


def opened() -> sqlite3.Connection:
    """Open the database in WAL mode and make the table where there is none."""
    database = sqlite3.connect(DATABASE)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode = WAL")
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, author TEXT, text TEXT)")
        database.execute("CREATE INDEX IF NOT EXISTS notes_author ON notes (author)")
    return database
