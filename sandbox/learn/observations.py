"""Reading observation files: JSON lines of any number of environments, in any order, become plain data.

A damaged or foreign file is refused with file and line. The last line may be cut short: a platform kills without
warning, and what was written before counts. In a log, lines of others lie between ours, and its beginning may be gone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sandbox.behaviour.call import Call
from sandbox.egress.answers import RECEIVES
from sandbox.errors import ObservationError, ProfileError
from sandbox.kernel import tables
from sandbox.learn.cold_starts import (
    Attributed,
    ColdStart,
    FailedSample,
    Item,
    Reached,
    RefusedCall,
    Sample,
    SharedValues,
)
from sandbox.learn.observation_log import ours
from sandbox.learn.records import (
    BEGINNINGS,
    DAMAGE,
    FORMAT,
    FORMATS,
    Again,
    Connect,
    DeniedCall,
    End,
    Fact,
    Failure,
    FileAccess,
    Full,
    Label,
    Listen,
    MadeBy,
    Mode,
    NewFact,
    NewItem,
    ObservedLine,
    Part,
    Program,
    Receive,
    Record,
    SoFar,
    Span,
    Start,
    encode,
    parse,
)
from sandbox.profile import base
from sandbox.profile.model import PHASES

STDIN = "-"
NO_ITEMS: Mapping[int, int] = MappingProxyType({})
AGAIN = "remove the line, or collect the log again"


@dataclass
class _Building:
    start: Start
    shared: SharedValues
    digest: Any = field(default_factory=hashlib.sha256)
    items: dict[int, Item] = field(default_factory=dict)
    facts: dict[int, Reached] = field(default_factory=dict)
    loose: set[Reached] = field(default_factory=set)
    part: Mapping[Item, int] = field(default_factory=dict)
    so_far: tuple[Mapping[Item, int], frozenset[Reached], float] | None = None
    full: bool = False
    spans: list[tuple[Span, Mapping[Item, int], frozenset[Reached], float]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    files: dict[Mode, set[str]] = field(default_factory=lambda: {"read": set(), "write": set(), "entry": set()})
    network: set[str] = field(default_factory=set)
    listen: set[str] = field(default_factory=set)
    processes: set[Program] = field(default_factory=set)
    receives: set[str] = field(default_factory=set)
    refusals: list[tuple[DeniedCall, Span | None]] = field(default_factory=list)
    end: End | None = None
    text: list[bytes] | None = None

    def finish(self, source: str) -> ColdStart:
        def label(request: str) -> str:
            return self.labels.get(request, request)

        spans, shared = list(self.spans), self.shared
        if not spans and not self.start.api and self.items:
            # A program that was killed, or still runs. Before the first SoFar nothing is counted.
            heard = dict.fromkeys(self.items.values(), 0), frozenset(self.facts.values()), self.time
            spans.append((Span("run", {}), *(self.so_far or heard)))
        return ColdStart(
            id=self.digest.hexdigest()[:16],
            source=source,
            start=self.start,
            samples=tuple(
                Sample(span.kind, label(span.request), span.outcome, items, time, *self.shared.apart(facts), span.left)
                for span, items, facts, time in spans
            ),
            failures=tuple(FailedSample(label(failure.request), failure.last) for failure in self.failures),
            items=shared.of(frozenset(self.items.values())),
            network=shared.of(frozenset(self.network)),
            listen=shared.of(frozenset(self.listen)),
            reads=shared.of(frozenset(self.files["read"])),
            writes=shared.of(frozenset(self.files["write"])),
            entries=shared.of(frozenset(self.files["entry"])),
            processes=shared.of(frozenset(self.processes)),
            receives=shared.of(frozenset(self.receives)),
            whose=shared.apart(frozenset(self.facts.values()))[1],
            refusals=frozenset(
                RefusedCall(
                    refused.phase, refused.call, refused.at, label(span.request) if span else "",
                    survived=span is not None and span.outcome == "ok",
                )
                for refused, span in self.refusals
            ),
            status=self.end.status if self.end else None,
            last=self.end.last if self.end else (),
            full=self.full,
            text=self._said(),
        )

    def _said(self) -> bytes:
        if self.text is None:
            return b""
        labels = (encode(Label(request, name)) for request, name in self.labels.items())
        return b"".join([*(line + b"\n" for line in self.text), *labels])

    def add(self, record: Record | None, line: ObservedLine) -> None:
        """Take in one record of this environment. Raises one of DAMAGE, or ProfileError."""
        self.time = line.time
        match record:
            case NewItem(id_, text, syscall, arg_class):
                phase = next((phase for phase in PHASES if phase == text), None)
                if phase is None:
                    raise ValueError(f"unknown phase {text!r}")
                if syscall not in tables.every_name():
                    raise ValueError(f"unknown system call {syscall!r}")
                base.arguments_exist(Call(syscall, arg_class), "class")
                self.items[id_] = self.shared.of((phase, syscall, arg_class))
            case Part():
                self.part, loose = self._reached(record)
                self.loose = set(loose)
            case SoFar():
                self.so_far = (*self._reached(record), line.time)
                self.part, self.loose = {}, set()
            case Full():
                self.full = True
            case Span():
                items, facts = self._reached(record)
                self.part, self.loose = {}, set()
                told = record._replace(items=NO_ITEMS, facts=frozenset())  # they are known by what they mean now
                self.refusals = [(refused, span or told) for refused, span in self.refusals]
                self.spans.append((told, items, facts, line.time))
            case Failure():
                self.failures.append(record)
            case NewFact(id_, fact):
                self.reached(id_, fact)
            case DeniedCall():
                self.refusals.append((record, None))
            case End():
                self.end = record

    def _reached(self, record: Span | SoFar | Part) -> tuple[Mapping[Item, int], frozenset[Reached]]:
        """The items and facts of a record, with those of the parts before it."""
        items = {self.items[item]: count for item, count in record.items.items()}
        facts = frozenset(self.facts[fact] for fact in record.facts) | self.loose
        return self.shared.counts({**self.part, **items}), self.shared.of(facts)

    def reached(self, id_: int | None, fact: Fact) -> None:
        """Take in a fact. Raises KeyError for one without the id that its format asks for, or of nothing known."""
        if isinstance(fact, MadeBy):
            if id_ is None:
                raise KeyError("id")
            what = self.items[fact.of] if fact.is_item else self.facts[fact.of]
            if isinstance(what, Attributed):
                raise ValueError("who reached something is nothing to reach")
            self.facts[id_] = self.shared.of(Attributed(what, fact.by, fact.library))
        elif id_ is not None:
            self.facts[id_] = self.shared.of(fact)
        elif self.start.format == FORMAT:
            raise KeyError("id")
        else:
            self.loose.add(fact)
        match fact:
            case FileAccess(path, mode):
                self.files[mode].add(path)
            case Connect(destination):
                self.network.add(destination)
            case Listen(address):
                self.listen.add(address)
            case Program():
                self.processes.add(fact)
            case Receive(syscall):
                if syscall not in RECEIVES:
                    raise ValueError(f"not a call that receives: {syscall!r}")
                self.receives.add(syscall)


def read(paths: Iterable[str]) -> tuple[ColdStart, ...]:
    """All cold starts of some files, sorted by id. Raises ObservationError with file and line."""
    files, shared = list(paths), SharedValues()
    unique = {cold_start.id: cold_start for path in files for cold_start in _read_file(path, shared)}
    if not unique:
        raise ObservationError(
            "hold no observations", where=", ".join(files), todo="run the function with SANDBOX_MODE=learn first"
        )
    return tuple(unique[key] for key in sorted(unique))


def _read_file(path: str, shared: SharedValues) -> Iterator[ColdStart]:
    name = path if path != STDIN else "standard input"
    try:
        descriptor = os.dup(0) if path == STDIN else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        file = os.fdopen(descriptor, "rb")
    except OSError as error:
        raise ObservationError(f"cannot be read: {error.strerror}", where=path, todo="check the name") from error
    reader = Reader(name, shared)
    with file:
        for number, line in enumerate(file, 1):
            yield from reader.take(line, number)
    yield from reader.end()


class Reader:
    """Takes the lines of one file, one after the other, and gives each cold start once all of it has come."""

    def __init__(self, name: str, shared: SharedValues | None = None, *, keeps_text: bool = False) -> None:
        """`name` is the file's, for errors; `shared` that of other files of the function.

        `keeps_text` gives each cold start its lines.
        """
        self._name = name
        self._shared = shared or SharedValues()
        self._keeps_text = keeps_text
        self._found: dict[str, _Building] = {}  # environments that run at the same time may lie between each other
        self._before: dict[str, str] = {}  # where lines begin whose start was not there yet: a log is cut in front, too
        self._cut = ""

    def take(self, line: bytes, number: int) -> Iterator[ColdStart]:
        """Take a line; what it ends is given. Raises ObservationError for a damaged one."""
        where = f"{self._name}:{number}"
        pieces = list(ours(line))
        for position, piece in enumerate(pieces):
            try:
                read = parse(piece)
            except (ValueError, RecursionError):
                if position == len(pieces) - 1 and piece.startswith(BEGINNINGS):
                    self._cut = self._cut or where  # fine, where nothing of that environment comes after it
                continue
            if read is None:
                continue
            if self._cut and not read.is_start:
                raise ObservationError("is not JSON", where=self._cut, todo=AGAIN)
            self._cut = ""
            if label := read.label:  # the trainer's, which knows no environment
                for known in self._found.values():
                    known.labels[label.request] = label.name
                continue
            if read.environment is None:
                continue  # a program's own log may have events too
            if read.environment not in self._found and not read.is_start:
                self._before.setdefault(read.environment, where)
                continue
            yield from self._taken(read, piece, where)
            self._before.pop(read.environment, None)

    def end(self) -> Iterator[ColdStart]:
        """The cold starts that nothing has ended. Then raises ObservationError for lines of one that never began."""
        while self._found:  # in their order, and each gives up what it was made of
            yield self._found.pop(next(iter(self._found))).finish(self._name)
        for where in self._before.values():
            raise ObservationError("comes before any start", where=where, todo="collect the whole file")

    def _taken(self, read: ObservedLine, line: bytes, where: str) -> Iterator[ColdStart]:
        environment = str(read.environment)
        building = self._found.get(environment)
        try:
            record = read.record()
            start = record.start if isinstance(record, Again) else record
            if isinstance(start, Start):
                if start.format not in FORMATS:
                    raise ObservationError(
                        f"is of format {start.format!r}, this version reads {' and '.join(map(str, FORMATS))}",
                        where=where,
                        todo="observe again with the same version of seccomp-bootstrap",
                    )  # fmt: skip
                if building and not isinstance(record, Again):
                    yield building.finish(self._name)
                if not building or not isinstance(record, Again):
                    text: list[bytes] | None = [] if self._keeps_text else None
                    building = self._found[environment] = _Building(start, self._shared, text=text)
            assert building is not None
            building.add(record, read)
        except (*DAMAGE, ProfileError) as error:
            raise ObservationError(f"is damaged ({type(error).__name__}: {error})", where=where, todo=AGAIN) from error
        building.digest.update(line.strip())
        if building.text is not None:
            building.text.append(line.strip())
