"""Reading observation files: JSON lines of any number of environments, in any order, become plain data.

A damaged or foreign file is refused with file and line. The last line may be cut short: a platform kills without
warning, and what was written before counts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.behaviour.call import Call
from sandbox.errors import ObservationError, ProfileError
from sandbox.kernel import tables
from sandbox.learn.observe import FORMAT
from sandbox.profile import base
from sandbox.profile.model import PHASES

OURS = b'{"event": "'
"""How each line of the observer begins; what begins otherwise and is no JSON is somebody else's text."""

Item = tuple[str, str, str]
"""(phase, syscall, class)"""


@dataclass(frozen=True)
class Sample:
    """One invocation, or one cold start (`kind` init or run): the items with counts, and how it ended.

    `label` is the event's name where the trainer told it, else the request id: samples with one label are one event.
    """

    kind: str
    label: str
    outcome: str
    items: Mapping[Item, int]
    time: float


@dataclass(frozen=True)
class Failure:
    """An invocation or initialisation that failed, with the last calls before it."""

    label: str
    last: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """Everything that one environment observed."""

    id: str
    source: str
    start: Mapping[str, Any]
    samples: tuple[Sample, ...] = ()
    failures: tuple[Failure, ...] = ()
    items: frozenset[Item] = frozenset()
    network: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    entries: frozenset[str] = frozenset()
    processes: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    status: int | None = None
    last: tuple[str, ...] = ()


@dataclass
class _Building:
    start: dict[str, Any]
    digest: Any = field(default_factory=hashlib.sha256)
    items: dict[str, Item] = field(default_factory=dict)
    samples: list[tuple[str, str, str, dict[Item, int], float]] = field(default_factory=list)
    failures: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    facts: dict[str, set[str]] = field(default_factory=dict)
    status: int | None = None
    last: tuple[str, ...] = ()

    def finish(self, source: str) -> Environment:
        def label(request: str) -> str:
            return self.labels.get(request, request)

        return Environment(
            id=self.digest.hexdigest()[:16],
            source=source,
            start=self.start,
            samples=tuple(Sample(k, label(r), o, i, t) for k, r, o, i, t in self.samples),
            failures=tuple(Failure(label(r), last) for r, last in self.failures),
            items=frozenset(self.items.values()),
            network=frozenset(self.facts.get("network", ())),
            reads=frozenset(self.facts.get("read", ())),
            writes=frozenset(self.facts.get("write", ())),
            entries=frozenset(self.facts.get("entry", ())),
            processes=frozenset(self.facts.get("exec", ())),
            denied=frozenset(self.facts.get("denied", ())),
            status=self.status,
            last=self.last,
        )


def read(paths: Iterable[str]) -> tuple[Environment, ...]:
    """All environments of some files, sorted by id. Raises ObservationError with file and line."""
    files = list(paths)
    found = [environment for path in files for environment in _read_file(path)]
    unique = {environment.id: environment for environment in found}
    if not unique:
        raise ObservationError(
            "hold no observations", where=", ".join(files), todo="run the function with SANDBOX_MODE=learn first"
        )
    return tuple(unique[key] for key in sorted(unique))


def _read_file(path: str) -> Iterator[Environment]:
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise ObservationError(f"cannot be read: {error.strerror}", where=path, todo="check the name") from error
    building: _Building | None
    found: dict[str, _Building] = {}  # lines of environments that run at the same time may lie between each other
    for number, line in enumerate(lines, 1):
        if not line.strip().startswith(b"{"):
            continue  # a platform's log has lines of others between ours
        where = f"{path}:{number}"
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not line.strip().startswith(OURS):
                continue
            if number == len(lines) or (number == len(lines) - 1 and not lines[-1].strip()):
                continue  # cut short
            todo = "remove the line, or collect the file again"
            raise ObservationError("is no JSON", where=where, todo=todo) from error
        if not isinstance(event, dict) or "event" not in event:
            continue
        if event["event"] == "label":  # the trainer's, which knows no environment
            for known in found.values():
                known.labels[str(event.get("request"))] = str(event.get("name"))
            continue
        if "environment" not in event:
            continue  # a program's own log may have events too
        key = str(event["environment"])
        if event["event"] == "start":
            if event.get("format") != FORMAT:
                raise ObservationError(
                    f"is of format {event.get('format')!r}, this version reads {FORMAT}", where=where,
                    todo="observe again with the same version of seccomp-bootstrap",
                )  # fmt: skip
            if key in found:
                yield found[key].finish(path)
            building = found[key] = _Building(event)
        else:
            building = found.get(key)
        if building is None:
            raise ObservationError("comes before any start", where=where, todo="collect the whole file")
        try:
            _add(building, event)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ProfileError) as error:
            raise ObservationError(
                f"is damaged ({type(error).__name__}: {error})", where=where, todo="remove the line, or observe again"
            ) from error
        building.digest.update(line.strip())
    for building in found.values():
        yield building.finish(path)


def _add(building: _Building, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "start":
        places = event.get("places", {})
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in places.items()):
            raise ValueError("places are not names of directories")
    elif kind == "item":
        phase, syscall, arg_class = event["phase"], event["syscall"], event["class"]
        if phase not in PHASES:
            raise ValueError(f"unknown phase {phase!r}")
        if syscall not in tables.every_name():
            raise ValueError(f"unknown system call {syscall!r}")
        base.arguments_exist(Call(syscall, arg_class), "class")
        building.items[str(event["id"])] = (phase, syscall, arg_class)
    elif kind in ("init", "run", "invocation", "tail"):
        items = {building.items[str(item)]: int(count) for item, count in event["items"].items()}
        time = float(event["time"])
        if not math.isfinite(time) or any(count < 0 for count in items.values()):
            raise ValueError("a count or the time is impossible")
        request, outcome = str(event.get("request", "")), str(event.get("outcome", "ok"))
        building.samples.append((kind, request, outcome, items, time))
    elif kind == "failed":
        building.failures.append((str(event["request"]), tuple(map(str, event["last"]))))
    elif kind == "file":
        mode = event["mode"] if event["mode"] in ("read", "entry") else "write"
        building.facts.setdefault(mode, set()).add(str(event["value"]))
    elif kind in ("network", "exec", "denied"):
        building.facts.setdefault(kind, set()).add(str(event["value"]))
    elif kind == "end":
        building.status, building.last = int(event["status"]), tuple(map(str, event["last"]))
