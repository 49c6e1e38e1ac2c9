"""An access below a function that turns data into calls: a deserialiser, a template engine, an evaluator, an extractor.

The data says what is called there, and it may be a stranger's. entry_points.json has these functions, each with where
it is documented. What an entry point calls on purpose, the `read` of the file that it loads, is not misuse; nor is what
a module does while it is imported.
"""

from __future__ import annotations

import os

from sandbox.behaviour.access import READ
from sandbox.behaviour.anomaly import Anomaly
from sandbox.memo import memo
from sandbox.plain_json import parse
from sandbox.violations.origin import STANDARD_LIBRARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sandbox.behaviour.access import Access
    from sandbox.sensor.detectors.seen import Known, Seen
    from sandbox.sensor.reading import StackFrame

NAME = "library-misuse"
IMPORTS = "<frozen importlib."
"""How the modules that import others begin their files' names."""
PYTHON = "python"


class EntryPoint:
    """One row of entry_points.json: functions of a module (`module`, its path from where libraries are installed on).

    `name` stands for it where a profile says who makes an access. `library` is its distribution, PYTHON for Python's
    own; `c` are functions in C by which it is called, too, `callbacks` the names of what it calls on purpose.
    """

    __slots__ = ("c", "callbacks", "functions", "kind", "module", "name", "python")

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.name: str = row["name"]
        self.kind: str = row["kind"]
        self.python: bool = row["library"] == PYTHON
        self.module: str = row["module"]
        self.functions = frozenset(row["functions"])
        self.c = frozenset(row.get("c", ()))
        self.callbacks = frozenset(row.get("callbacks", ()))


@memo
def _entry_points() -> tuple[Mapping[str, Sequence[EntryPoint]], Mapping[str, EntryPoint]]:
    """By the last part of their module's path, and by their functions in C."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "entry_points.json")
    with open(path, encoding="utf-8") as file:
        found = [EntryPoint(row) for row in parse(file.read())]
    by_file: dict[str, list[EntryPoint]] = {}
    for one in found:
        by_file.setdefault(_base(one.module), []).append(one)
    return by_file, {name: one for one in found for name in one.c}


def entered(frames: Sequence[StackFrame]) -> tuple[EntryPoint, StackFrame] | None:
    """The innermost entry point on a stack that what is inside of it was not called by on purpose; with its frame."""
    by_file, in_c = _entry_points()
    inside: StackFrame | None = None
    for frame in frames:
        if frame.file.startswith(IMPORTS):
            return None
        one = in_c.get(frame.c_function) if in_c else None
        if one is None:
            one = next((entry for entry in by_file.get(_base(frame.module), ()) if _is_of(entry, frame)), None)
        if one and not (inside and _last(inside.function) in one.callbacks):
            return one, frame
        inside = frame
    return None


def suspect(seen: Seen, access: Access, known: Known) -> Anomaly | None:
    """Where the stack leads through an entry point, unless training saw the same access below it."""
    if access.reach == READ:
        return None
    found = entered(seen.frames)
    if found is None or known.has(found[0].name):
        return None
    one, frame = found
    what = f"below {frame.c_function}" if frame.c_function in one.c else f"in {frame.module} {_last(frame.function)}"
    return Anomaly(NAME, f"{what} line {frame.line or '?'}: {one.kind}, {one.name}")


def _is_of(entry: EntryPoint, frame: StackFrame) -> bool:
    if entry.python != (frame.owner == STANDARD_LIBRARY):
        return False
    # Where no distribution is recorded, as of what was copied beside the function, the module is the whole path.
    same = frame.module == entry.module or (not entry.python and frame.module.endswith(f"/{entry.module}"))
    return same and _last(frame.function) in entry.functions


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _last(function: str) -> str:
    return function.rpartition(".")[2]
