"""The tables of a store: their columns, in their order, with their types. Nothing is ever inferred from data.

A row is one fact, and its `id` says which: the first 63 bits of the SHA-256 of the line that it comes from. The same
line twice gives two equal rows, and a question counts one. Columns that every table has:

- `version`: of this schema, so that a later one can tell;
- `id`; `day`: YYYY-MM-DD in UTC, '' where the line says no time; `function`: the name as the line says it;
- `time`: milliseconds since 1970, null where the line says none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

VERSION = 1
METADATA = b"seccomp-bootstrap.fleet"
"""The key in a file's own metadata under which the version stands."""

_EVERY = {"version": "int16", "id": "int64", "day": "string", "function": "string", "time": "int64"}

TABLES: Mapping[str, Mapping[str, str]] = {
    "violations": {
        **_EVERY, "event": "string", "phase": "string", "request": "string", "comm": "string", "syscall": "string",
        "class": "string", "args": "string", "target": "string", "verdict": "string", "errno": "string",
        "reason": "string", "risk": "string", "technique": "string", "allow": "string", "anomaly": "string",
        "detail": "string", "library": "string", "library_version": "string", "code": "string",
        "supervisor": "string", "seq": "int64", "kind": "string",
    },
    "counts": {**_EVERY, "supervisor": "string", "kind": "string", "count": "int64", "final": "bool"},
    "statuses": {
        **_EVERY, "mode": "string", "tier": "string", "release": "string", "requested": "string",
        "enforced": "string", "degraded": "string", "stale": "string",
    },
    "runs": {**_EVERY, "supervisor": "string", "release": "string", "mode": "string", "tier": "string"},
    "things": {
        **_EVERY, "source": "string", "phase": "string", "sort": "string", "thing": "string", "count": "int64",
        "library": "string",
    },
    "observations": {**_EVERY, "cold_start": "string", "host": "string", "lines": "string"},
    "profiles": {**_EVERY, "profile": "string", "source": "string", "text": "string"},
    "rights": {**_EVERY, "profile": "string", "section": "string", "entry": "string"},
    "trainings": {
        **_EVERY, "profile": "string", "training": "string", "date": "string", "tool": "string", "host": "string",
        "kernel": "string", "libc": "string", "python": "string", "architecture": "string", "handler": "string",
        "lock": "string", "platform": "string", "circumstances": "string",
    },
    "estimates": {
        **_EVERY, "profile": "string", "training": "string", "phase": "string", "samples": "int64", "items": "int64",
        "novelty": "float64", "quiet": "int64", "bound": "float64", "users": "float64",
    },
    "bundles": {
        **_EVERY, "release": "string", "architecture": "string", "source": "string", "fact": "string",
        "value": "string",
    },
}  # fmt: skip
"""`violations` holds what detectors suspected, too (`event`). `counts` are the summaries behind them. `runs` say under
which release a supervisor ran. `things` is what was reached, listed by activity, accesses and observations.
`observations` holds the lines of a cold start as text, from which a profile is learned.
"""


def identity(*parts: str) -> int:
    """The id of the row that these parts make."""
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def arrow(table: str) -> Any:
    """The schema of a table's files (pyarrow.Schema)."""
    import pyarrow

    types = {
        "int16": pyarrow.int16(), "int64": pyarrow.int64(), "float64": pyarrow.float64(),
        "string": pyarrow.string(), "bool": pyarrow.bool_(),
    }  # fmt: skip
    fields = [pyarrow.field(name, types[kind]) for name, kind in TABLES[table].items()]
    return pyarrow.schema(fields, metadata={METADATA: str(VERSION).encode()})
