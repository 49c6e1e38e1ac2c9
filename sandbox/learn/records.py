"""The lines of an observation file: each record and its JSON both ways. Nothing else knows their keys.

A line carries the `environment` that wrote it (a number of one cold start's own) and its `time`, but for a Label, which
the trainer writes beside them. The readers' side believes nothing: what a record needs and the line lacks is an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sandbox.kernel.standing import SORTS
from sandbox.violations.library import named

FORMAT = 2
"""Of the file, as it is written."""
FORMATS = (1, FORMAT)
"""What is read. In format 1 a fact has no id, and stands once before the end of the span in which it came first."""

OURS = b'{"event": "'
"""How each line begins; what begins otherwise and is not JSON is somebody else's text."""

DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a record of a line raises where the line is not one of ours or was damaged."""

SHA256 = re.compile("[0-9a-f]{64}")

Mode = Literal["read", "write", "entry"]
SpanKind = Literal["init", "run", "invocation", "tail"]


class Start(NamedTuple):
    """A cold start: the function, and where and on what it runs; what could not be found out is ''.

    `places` names directories ({root}, {python}) so that paths can be compared between hosts. `interpreter` is the path
    of the Python that the function runs under.
    """

    format: object = FORMAT
    version: str = ""
    function: str = ""
    handler: str = ""
    api: bool = False
    host: str = ""
    kernel: str = ""
    libc: str = ""
    python: str = ""
    architecture: str = ""
    handler_digest: str = ""
    places: Mapping[str, str] = {}  # a NamedTuple's default, which nobody writes to
    lock_digest: str = ""
    interpreter: str = ""


class NewItem(NamedTuple):
    """A call with its class in a phase, seen for the first time: later lines name it by its id."""

    id: int
    phase: str
    syscall: str
    arg_class: str


class Span(NamedTuple):
    """What was called how often, by item id, in an init phase, a whole run, an invocation, or after the last one.

    `facts` are the ids of the facts that were seen in it, however often. `left` counts by sort how much more
    there was at the end of an invocation than after init (sandbox/kernel/standing.py); empty where nobody looked.
    """

    kind: SpanKind
    items: Mapping[int, int]
    request: str = ""
    outcome: str = "ok"
    facts: frozenset[int] = frozenset()
    left: Mapping[str, int] = MappingProxyType({})


class SoFar(NamedTuple):
    """What a span of a whole run has by now, each time in place of the one before: its end may never be told."""

    items: Mapping[int, int]
    facts: frozenset[int] = frozenset()


class Part(NamedTuple):
    """More items and facts of the span, or SoFar, that comes next: a line has bounds."""

    items: Mapping[int, int]
    facts: frozenset[int] = frozenset()


class FileAccess(NamedTuple):
    """A path that was read or written, or an entry of a folder that was made, removed or renamed."""

    path: str
    mode: Mode


class Connect(NamedTuple):
    """A destination, as a profile writes it. The second field tells it from other facts of the same text."""

    destination: str
    reach: Literal["network"] = "network"


class Listen(NamedTuple):
    """Where a socket was bound to or listened, as a profile writes it."""

    address: str
    reach: Literal["listen"] = "listen"


class Program(NamedTuple):
    """A program that was started: by which path, and the physical one (`real`) where a link led there.

    `sha256` is the digest of its content, in hexadecimal, '' where that could not be read. `interpreters` are the
    programs that its `#!` line starts, and those of their scripts; `loader` is the dynamic loader of a compiled one.
    """

    path: str
    reach: Literal["exec"] = "exec"
    real: str = ""
    sha256: str = ""
    interpreters: tuple[str, ...] = ()
    loader: str = ""


class Receive(NamedTuple):
    """A call by which a resolver sees who answered."""

    syscall: str
    reach: Literal["receive"] = "receive"


class MadeBy(NamedTuple):
    """Which libraries reached a fact (`of` is its id), or made a call of an item where `is_item`.

    `by` are the names of distributions, in order, or one of sandbox/learn/whose.py; `library` is the innermost of them
    with its version, module and function, '' for the function's own code.
    """

    of: int
    is_item: bool
    by: tuple[str, ...]
    library: str = ""
    reach: Literal["by"] = "by"


class Loaded(NamedTuple):
    """A library of which code was opened (`loaded`), or stood on a stack that was read (`executed`).

    `name` is that of its distribution as names are compared, `version` '' where it is not known.
    """

    name: str
    version: str
    how: Literal["loaded", "executed"]


Fact = FileAccess | Connect | Listen | Program | Receive | MadeBy | Loaded
"""What was reached: each once in a file, with an id by which spans name it."""


class Again(NamedTuple):
    """The same start once more, and then all that is known of it, for whoever has lost what came before."""

    start: Start


class Full(NamedTuple):
    """Nothing more is noted: so many facts were."""

    facts: int


class NewFact(NamedTuple):
    """A fact, seen for the first time; `id` is None in a file of format 1."""

    id: int | None
    fact: Fact


class DeniedCall(NamedTuple):
    """A hard-denied call that was refused: `syscall class`, the phase, and whom it was aimed at (behaviour/aim.py).

    Told once for each span, in which it comes before the span itself.
    """

    call: str
    phase: str = ""
    at: str = ""


class Failure(NamedTuple):
    """An invocation that failed, or the init phase (request ''), with the last calls before."""

    request: str
    last: tuple[str, ...]


class End(NamedTuple):
    """The end of the process: its exit status (as os.waitstatus_to_exitcode) and its last calls."""

    status: int
    last: tuple[str, ...]


class Label(NamedTuple):
    """The trainer's: the name of the event that a request was."""

    request: str
    name: str


Record = Start | Again | NewItem | NewFact | Full | Span | SoFar | Part | DeniedCall | Failure | End | Label


def encode(record: Record, environment: str = "", time: float = 0.0) -> bytes:
    """The line of a record, with its newline. `time` is in seconds since 1970; both are left out for a Label."""
    stamp = {} if isinstance(record, Label) else {"environment": environment, "time": round(time, 3)}
    return (json.dumps({**_fields(record), **stamp}) + "\n").encode()


def _fields(record: Record) -> dict[str, object]:
    match record:
        case Start():
            return {"event": "start", **record._asdict(), "places": dict(record.places)}
        case Again(start):
            return {**_fields(start), "event": "again"}
        case Full(count):
            return {"event": "full", "count": count}
        case NewItem(id_, phase, syscall, arg_class):
            return {"event": "item", "id": id_, "phase": phase, "syscall": syscall, "class": arg_class}
        case Span(kind, items, request, outcome, facts, left):
            whose = {"request": request, "outcome": outcome} if kind == "invocation" else {}
            return {"event": kind, **whose, **({"left": dict(left)} if left else {}), **_reached(items, facts)}
        case SoFar(items, facts):
            return {"event": "so-far", **_reached(items, facts)}
        case Part(items, facts):
            return {"event": "part", **_reached(items, facts)}
        case NewFact(id_, FileAccess(path, mode)):
            return {"event": "file", "id": id_, "value": path, "mode": mode}
        case NewFact(id_, Program(path, reach, real, sha256, interpreters, loader)):
            what = {"real": real, "sha256": sha256, "interpreters": list(interpreters), "loader": loader}
            return {"event": reach, "id": id_, "value": path, **{key: told for key, told in what.items() if told}}
        case NewFact(id_, Loaded(name, version, how)):
            return {"event": "library", "id": id_, "value": name, "version": version, "how": how}
        case NewFact(id_, MadeBy(of, is_item, by, library, reach)):
            return {"event": reach, "id": id_, "item" if is_item else "fact": of, "value": list(by), "library": library}
        case NewFact(id_, fact):
            return {"event": fact[1], "id": id_, "value": fact[0]}
        case DeniedCall(call, phase, at):
            return {"event": "denied", "value": call, "phase": phase, "at": at}
        case Failure(request, last):
            return {"event": "failed", "request": request, "last": list(last)}
        case End(status, last):
            return {"event": "end", "status": status, "last": list(last)}
        case Label(request, name):
            return {"event": "label", "request": request, "name": name}


def _reached(items: Mapping[int, int], facts: frozenset[int]) -> dict[str, object]:
    return {"items": {str(item): count for item, count in sorted(items.items())}, "facts": sorted(facts)}


class ObservedLine:
    """A line of JSON that says it is an event, which may be another program's; `record` looks at the rest of it."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    @property
    def environment(self) -> str | None:
        """Whose line it is; None for a line of others, and for a Label."""
        return str(self._fields["environment"]) if "environment" in self._fields else None

    @property
    def label(self) -> Label | None:
        """The trainer's word on a request, when it is that."""
        fields = self._fields
        return _label(fields) if fields["event"] == "label" else None

    @property
    def is_start(self) -> bool:
        """Whether it begins an environment, or tells one from the beginning again."""
        return bool(self._fields["event"] in ("start", "again"))

    @property
    def time(self) -> float:
        """Seconds since 1970. Raises one of DAMAGE."""
        time = float(self._fields["time"])
        if not math.isfinite(time):
            raise ValueError("the time is impossible")
        return time

    def record(self) -> Record | None:
        """What it says; None for an event that is unknown here. Raises one of DAMAGE."""
        read = _READERS.get(str(self._fields["event"]))
        return read(self._fields) if read else None


def _counted(fields: Mapping[str, Any]) -> tuple[dict[int, int], frozenset[int]]:
    items = {int(item): int(count) for item, count in fields["items"].items()}
    if any(count < 0 for count in items.values()):
        raise ValueError("a count is impossible")
    return items, frozenset(int(fact) for fact in _list(fields.get("facts", [])))


def _fact(fields: Mapping[str, Any], fact: Fact) -> NewFact:
    return NewFact(int(fields["id"]) if "id" in fields else None, fact)


def _program(fields: Mapping[str, Any]) -> Program:
    sha256 = str(fields.get("sha256", ""))
    if sha256 and not SHA256.fullmatch(sha256):
        raise ValueError("not a SHA-256")
    interpreters = tuple(map(str, _list(fields.get("interpreters", []))))
    real, loader = (str(fields.get(key, "")) for key in ("real", "loader"))
    return Program(str(fields["value"]), "exec", real, sha256, interpreters, loader)


def _made_by(fields: Mapping[str, Any]) -> MadeBy:
    names = tuple(map(str, _list(fields["value"])))
    if not names or any(named(name) != name for name in names):
        raise ValueError("a distribution has no such name")
    is_item = "item" in fields
    of = int(fields["item" if is_item else "fact"])
    return MadeBy(of, is_item, tuple(sorted({*names})), str(fields.get("library", "")))


def _loaded(fields: Mapping[str, Any]) -> Loaded:
    name, how = str(fields["value"]), fields["how"]
    if not name or named(name) != name or how not in ("loaded", "executed"):
        raise ValueError("not a library, or not how one is met")
    return Loaded(name, str(fields.get("version", "")), how)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("what should be a list is not one")
    return value


def _start(fields: Mapping[str, Any]) -> Start:
    if fields.get("format") not in FORMATS:
        return Start(fields.get("format"))
    places = fields.get("places", {})
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in places.items()):
        raise ValueError("places are not names of directories")
    texts = {key: str(fields.get(key, "")) for key in Start._fields if key not in ("format", "api", "places")}
    return Start(fields["format"], api=bool(fields.get("api")), places=places, **texts)


def _span(kind: SpanKind) -> Callable[[Mapping[str, Any]], Span]:
    def read(fields: Mapping[str, Any]) -> Span:
        items, facts = _counted(fields)
        left = fields.get("left", {})
        if not all(sort in SORTS and type(count) is int and count >= 0 for sort, count in left.items()):
            raise ValueError("what was left is not counted by sort")
        return Span(kind, items, str(fields.get("request", "")), str(fields.get("outcome", "ok")), facts, left)

    return read


def _file(fields: Mapping[str, Any]) -> FileAccess:
    mode: Mode = fields["mode"] if fields["mode"] in ("read", "entry") else "write"
    return FileAccess(str(fields["value"]), mode)


def _label(fields: Mapping[str, Any]) -> Label:
    return Label(str(fields.get("request")), str(fields.get("name")))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Record]] = {
    "start": _start,
    "again": lambda fields: Again(_start(fields)),
    "full": lambda fields: Full(int(fields["count"])),
    "item": lambda fields: NewItem(int(fields["id"]), fields["phase"], fields["syscall"], fields["class"]),
    "init": _span("init"),
    "run": _span("run"),
    "invocation": _span("invocation"),
    "tail": _span("tail"),
    "so-far": lambda fields: SoFar(*_counted(fields)),
    "part": lambda fields: Part(*_counted(fields)),
    "file": lambda fields: _fact(fields, _file(fields)),
    "network": lambda fields: _fact(fields, Connect(str(fields["value"]))),
    "listen": lambda fields: _fact(fields, Listen(str(fields["value"]))),
    "exec": lambda fields: _fact(fields, _program(fields)),
    "receive": lambda fields: _fact(fields, Receive(str(fields["value"]))),
    "by": lambda fields: _fact(fields, _made_by(fields)),
    "library": lambda fields: _fact(fields, _loaded(fields)),
    "denied": lambda fields: DeniedCall(
        str(fields["value"]), str(fields.get("phase", "")), str(fields.get("at", ""))
    ),
    "failed": lambda fields: Failure(str(fields["request"]), tuple(map(str, fields["last"]))),
    "end": lambda fields: End(int(fields["status"]), tuple(map(str, fields["last"]))),
    "label": _label,
}  # fmt: skip
BEGINNINGS = tuple(OURS + name.encode() + b'"' for name in _READERS)
"""How each of our lines begins; a program's own have other events."""


def parse(line: bytes) -> ObservedLine | None:
    """A line of a file, whatever follows it; None for what is not an event.

    Raises ValueError or RecursionError for what is not JSON.
    """
    fields, _ = json.JSONDecoder().raw_decode(line.decode("utf-8", "surrogateescape").lstrip())
    return ObservedLine(fields) if isinstance(fields, dict) and "event" in fields else None


def count_items(data: bytes) -> int:
    """How many items the lines hold."""
    return data.count(b'"event": "item"')
