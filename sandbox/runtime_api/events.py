"""Sample events from disk: a folder of *.json files, one .json file, or a .jsonl file with one event a line."""

from __future__ import annotations

import json
import os

from sandbox.errors import UsageError
from sandbox.runtime_api.model import Invocation


def load_events(path: str) -> tuple[Invocation, ...]:
    """The events in the order of their names (or lines). Raises UsageError with file and line for what is not JSON."""
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
        found = [_event(_read(os.path.join(path, name)), name, os.path.join(path, name)) for name in names]
    elif path.endswith(".jsonl"):
        base = os.path.basename(path)
        lines = enumerate(_read(path).split(b"\n"), 1)
        found = [_event(line, f"{base}:{n}", f"{path}:{n}") for n, line in lines if line.strip()]
    else:
        found = [_event(_read(path), os.path.basename(path), path)]
    if not found:
        raise UsageError("holds no events", where=path, todo="put one *.json file there for each sample event")
    return tuple(found)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=path, todo="give a folder of *.json files or a .jsonl file"
        ) from error


def _no_number(name: str) -> None:
    """Python's json takes NaN and Infinity, which are no JSON (RFC 8259): no other client does."""
    raise ValueError(f"{name} is not a number in JSON")


def _event(data: bytes, name: str, where: str) -> Invocation:
    try:
        json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not JSON: {error}", where=where, todo="correct the event") from error
    return Invocation(payload=data, name=name)
