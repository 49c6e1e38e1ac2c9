"""What commands write for programs, held to the schemas that the repository publishes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

import sandbox

HOME = Path(sandbox.__file__).parent
SCHEMAS = sorted(HOME.glob("*/*schema.json"))
OF_COMMANDS = {
    "learn": ("cli/learn",), "invoke": ("cli/invoke",), "probe": ("cli/probe",), "doctor": ("doctor/report",),
    "profile show": ("cli/show",), "profile diff": ("cli/diff",), "profile lint": ("cli/lint",),
    "events": ("violations", "cli/events"), "explain": ("cli/explain",), "promote": ("cli/promote",),
    "fleet ingest": ("fleet/ingest",), "fleet query": ("fleet/row",), "fleet learn": ("cli/learn",),
}  # fmt: skip
"""The commands with --json."""


def _closed(schema: Any) -> Any:
    """The schema without room for what it does not name: a consumer must expect more, our own tests must not."""
    if isinstance(schema, dict):
        closed = {key: _closed(value) for key, value in schema.items()}
        if schema.get("type") == "object" and "properties" in schema:
            closed.setdefault("additionalProperties", False)
        return closed
    return [_closed(one) for one in schema] if isinstance(schema, list) else schema


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """Of `cli/learn`: the file sandbox/cli/learn.schema.json; of `violations`: sandbox/violations/schema.json."""
    path = HOME / name / "schema.json" if (HOME / name).is_dir() else HOME / f"{name}.schema.json"
    return jsonschema.Draft202012Validator(_closed(json.loads(path.read_text())))


def documents(text: str) -> Iterable[Any]:
    """One document, or one a line."""
    try:
        yield json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            yield json.loads(line)


def check(arguments: Sequence[str], output: str) -> None:
    """Hold what a command wrote with --json to its schema; what it writes otherwise is nobody's."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" not in options or not output:
        return
    name = next(one for one in OF_COMMANDS if tuple(one.split()) == tuple(arguments[: len(one.split())]))
    for document in documents(output):
        problems = [[*validator(one).iter_errors(document)] for one in OF_COMMANDS[name]]
        said = [f"{error.json_path}: {error.message[:300]}" for errors in problems for error in errors]
        assert not all(problems), f"{name}: {said[:3]} in {str(document)[:300]}"
