"""Reading profiles. A profile that does not fit is refused with file, line and column, never with a traceback.

Shape is checked by the JSON Schema that editors use too (schema.json); names of syscalls and classes by the tables.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sandbox.behaviour import anomaly, arguments, destination, listener, spelling
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import check
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.profile import base, shape
from sandbox.profile.call_names import class_exists, name_exists, spellings
from sandbox.profile.executables import by_program, written
from sandbox.profile.libraries import united_libraries
from sandbox.profile.model import (
    PHASES,
    PROVENANCE,
    SCHEMA,
    SECTIONS,
    Estimate,
    Grant,
    Ignore,
    Library,
    Profile,
    ProfiledFunction,
    Tolerated,
    Training,
    Use,
    UsedBy,
    Verified,
)
from sandbox.profile.places import Path, Place, compose, excerpt
from sandbox.profile.promises import promises_of
from sandbox.profile.writing import write as write

LARGEST = 1 << 20
"""Bytes; a profile is about one screen, so that anything near this is not one."""

SINCE_2 = ("listen", "most", "names", "on-anomaly", "tolerates", "verified", "ignores")
"""The sections that a profile of schema 1 cannot have."""


class Problem(NamedTuple):
    """An entry that no compiler would take: where it stands in the tree, what is wrong, and what to do."""

    path: Path
    what: str
    todo: str


@dataclass(frozen=True)
class Document:
    """A parsed profile with the place of everything in it; `tree` are the values as they stand in the text."""

    profile: Profile
    source: str
    places: Mapping[Path, Place]
    tree: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""

    def where(self, path: Path) -> str:
        """`file:line:column` of a path into the document, or of the nearest parent that has a place."""
        line, column = self.place(path)
        return f"{self.source}:{line}:{column}"

    def place(self, path: Path) -> Place:
        """(line, column) of a path, or of the nearest parent that has a place."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def line_of(self, use: Use) -> str:
        """Where the document says that this use is allowed."""
        return self.where(("syscalls", use.phase, use.syscall, "classes", use.arg_class))

    def line_of_grant(self, syscall: str) -> str:
        """Where a person grants a hard-denied syscall. Raises StopIteration where nobody does."""
        at = next(i for i, grant in enumerate(self.tree["grants"]) if grant["syscall"] == syscall)
        return self.where(("grants", at, "syscall"))

    def checked(self) -> Document:
        """Itself, when each of its entries means something. Raises ProfileError with the place of one without."""
        for problem in self.problems():
            raise self.error(problem.path, problem.what, problem.todo)
        return self

    def problems(self) -> Iterator[Problem]:
        """Each entry that no compiler would take, in the order of its section; lint and compile have this list."""
        yield from self._refused(("network",), "network", destination.parse)
        yield from self._refused(("listen",), "listen", listener.parse)
        for mode in ("read", "write"):
            yield from self._refused(("files", mode), mode, lambda text: check(text, ""))
        by_content = {program for program, _ in self.profile.digests} & written(self.profile).keys()
        interpreters = by_program(self.profile.interpreters)
        for i, program in enumerate(self.entries("processes")):
            for path in interpreters.get(program, ()) if program in by_content else (program,):
                yield from self._refused_one(("processes", i), path, lambda text: check(text, "", program=True))

    def _refused(self, path: Path, section: str, parsed: Callable[[str], object]) -> Iterator[Problem]:
        for i, text in enumerate(self.entries(section)):
            yield from self._refused_one((*path, i), text, parsed)

    def _refused_one(self, path: Path, text: str, parsed: Callable[[str], object]) -> Iterator[Problem]:
        try:
            parsed(text)
        except ProfileError as error:
            yield Problem(path, error.what, error.todo)

    def error(self, path: Path, what: str, todo: str) -> ProfileError:
        """An error at a path, with the line that it stands in."""
        found = ProfileError(what, where=self.where(path), todo=todo)
        found.excerpt = excerpt(self.text, self.place(path))
        return found

    def entries(self, section: str) -> tuple[str, ...]:
        """The texts of a section in the order of the file, without what is said of them.

        It is `processes`, `network`, `listen`, or `read` or `write` of files.
        """
        lists = self.tree.get("files", {}) if section in ("read", "write") else self.tree
        return tuple(_entry(line) for line in lists.get(section, ()))


_Class = tuple[str, Mapping[str, Any], str]


def read(path: str) -> Document:
    """Read a profile from a file. Raises ProfileError with the place and what to do."""
    return parse(load(path), path)


def load(path: str) -> bytes:
    """The content of a file, once: it may be a pipe. Raises ProfileError for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ProfileError(
            f"cannot be read: {reason}", where=path, todo="check the name; `sandbox learn` makes a profile"
        ) from error


def parse(data: bytes | str, source: str = "<profile>") -> Document:
    """Parse a profile's text. Raises ProfileError with file, line and column, and the line itself."""
    if len(data) > LARGEST:
        raise ProfileError(
            f"larger than {LARGEST} bytes", where=f"{source}:1:1", todo="this is not the profile of a function"
        )
    try:
        return _parse(data, source)
    except ProfileError as error:
        line, column = (int(part) for part in error.where.rsplit(":", 2)[1:])
        text = data if isinstance(data, str) else data.decode("utf-8-sig", "replace")
        error.excerpt = excerpt(text, (line, column))
        raise


def _parse(data: bytes | str, source: str) -> Document:
    tree, places = compose(data, source)
    document = Document(Profile(ProfiledFunction("")), source, places)
    for path, what in shape.faults(tree):
        raise ProfileError(what, where=document.where(path), todo=shape.REMEDY)
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    return Document(_build(tree, document), source, places, tree, text)


def _build(tree: Mapping[str, Any], document: Document) -> Profile:
    if tree["schema"] < SCHEMA and (later := next(_since_2(tree), None)):
        name, path = later
        what, todo = f"{name!r} needs `schema: {SCHEMA}`", f"write `schema: {SCHEMA}`"
        raise ProfileError(what, where=document.where(path), todo=todo)
    function = tree["function"]
    profile = Profile(
        function=ProfiledFunction(
            function["name"], function.get("handler", ""), function.get("runtime-api", True),
            tuple(sorted(function.get("environment", ()))),
        ),
        uses=frozenset(_uses(tree["syscalls"], document)),
        processes=frozenset(map(_entry, tree.get("processes", ()))),
        digests=frozenset(_notes(tree.get("processes", ()), "sha256")),
        interpreters=frozenset(_notes(tree.get("processes", ()), "interpreters")),
        network=frozenset(map(_entry, tree.get("network", ()))),
        reads=frozenset(map(_entry, tree.get("files", {}).get("read", ()))),
        writes=frozenset(map(_entry, tree.get("files", {}).get("write", ()))),
        grants=frozenset(_grants(tree.get("grants", ()), document)),
        trainings=frozenset(_trainings(tree, document)),
        promises=tuple(tree["promises"]),
        audit_until=_date(str(tree.get("audit-until", "")), document),
        responses=frozenset(_responses(tree.get("responses", {}), document)),
        listen=frozenset(map(_entry, tree.get("listen", ()))) | _undecided(tree),
        listen_because=frozenset(_notes(tree.get("listen", ()), "because")),
        by=frozenset(_users(tree)),
        libraries=united_libraries(Library(**{"version": "", **line}) for line in tree.get("libraries", ())),
        names_keep=tree.get("names", {}).get("keep", ""),
        names_receives=frozenset(tree.get("names", {}).get("receives", ())),
        tolerates=frozenset(_tolerated(tree.get("tolerates", ()), document)),
        verified=_verified(tree, document),
        on_anomaly=_on_anomaly(tree.get("on-anomaly", {})),
        most=frozenset(tree.get("most", {}).items()),
        ignores=frozenset(
            Ignore(line["rule"], line.get("at", ""), line.get("because", "")) for line in tree.get("ignores", ())
        ),
    )
    missing = [name for name in promises_of(profile.uses) if name not in profile.promises]
    if missing:
        raise ProfileError(
            f"the promises leave out {', '.join(missing)}, which the syscalls below need",
            where=document.where(("promises",)),
            todo="add the promise, or remove the syscalls; `sandbox profile show` lists which belong to it",
        )
    return profile


def _since_2(tree: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """What a profile of schema 1 cannot have, by name, and where it stands."""
    yield from ((name, (name,)) for name in SINCE_2 if name in tree)
    if "environment" in tree["function"]:
        yield "environment", ("function", "environment")
    for i, line in enumerate(tree.get("processes", ())):
        if not isinstance(line, str):
            yield "program", ("processes", i)


def _uses(phases: Mapping[str, Any], document: Document) -> Iterable[Use]:
    for phase in PHASES:
        for syscall, body in phases.get(phase, {}).items():
            path: Path = ("syscalls", phase, syscall)
            name_exists(syscall, document.where(path))
            for arg_class, own, at in _classes(syscall, body, path, document):
                for spelled in {arg_class} | (spellings(syscall, arg_class) if arg_class else set()):
                    if denied := base.kept_out(Call(syscall, spelled)):
                        what = f"{Call(syscall, spelled)} is hard-denied: {denied.because}"
                        raise ProfileError(what, where=at, todo=_how(denied, spelled))
                because, by = own.get("because", body["because"]), own.get("by", body.get("by", ()))
                yield Use(phase, syscall, arg_class, int(own["count"]), _reasons(because), frozenset(by))


def _classes(syscall: str, body: Mapping[str, Any], path: Path, document: Document) -> Iterable[_Class]:
    """(class, what is said of it, place) of one syscall's entry; a class may have its own reasons and libraries."""
    classes = body.get("classes")
    if (classes is not None) != arguments.has_classes(syscall):
        raise ProfileError(
            f"{syscall} has no argument classes" if classes else f"{syscall} needs its argument classes",
            where=document.where(path),
            todo=f"write `{syscall}: {{count: 1, because: ...}}`" if classes
            else f"write `{syscall}: {{classes: {{...: 1}}, because: ...}}`",
        )  # fmt: skip
    if classes is None:
        yield "", {"count": 0, **body}, document.where(path)
        return
    if "count" in body:
        raise ProfileError(
            f"{syscall} is counted for each class", where=document.where((*path, "count")), todo="remove this count"
        )
    for arg_class, value in classes.items():
        at = document.where((*path, "classes", arg_class))
        class_exists(syscall, arg_class, at)
        yield arg_class, value if isinstance(value, Mapping) else {"count": value}, at


def _how(entry: base.BaseEntry, arg_class: str) -> str:
    if not entry.grantable:
        return "remove it; nothing can grant this one"
    return f"remove it, or grant it under `{spelling.of_grant(entry.syscall, (arg_class,) if entry.classes else ())}`"


def _reasons(because: Any) -> frozenset[str]:
    return frozenset([because] if isinstance(because, str) else because)


def _grants(lines: Iterable[Mapping[str, Any]], document: Document) -> Iterable[Grant]:
    for i, line in enumerate(lines):
        path: Path = ("grants", i, "syscall")
        syscall, classes = line["syscall"], frozenset(line.get("classes", ()))
        name_exists(syscall, document.where(path))
        for arg_class in classes or {""}:
            if arg_class:
                class_exists(syscall, arg_class, document.where(path))
            denied = base.denial(Call(syscall, arg_class))
            if denied is None:
                raise ProfileError(
                    f"{Call(syscall, arg_class)} is not hard-denied, so that it needs no grant",
                    where=document.where(path),
                    todo="write it under `syscalls` instead",
                )
            if not denied.grantable:
                raise ProfileError(
                    f"{syscall} can never be granted: {denied.because}",
                    where=document.where(path),
                    todo="remove the grant",
                )
        yield Grant(syscall, classes, line["because"])


def _entry(line: str | Mapping[str, Any]) -> str:
    """The entry that a line of `processes`, `network`, `listen` or files is about."""
    return line if isinstance(line, str) else str(next(line[key] for key in spelling.ENTRIES.values() if key in line))


def _users(tree: Mapping[str, Any]) -> Iterable[UsedBy]:
    for section in SECTIONS:
        lines = tree.get("files", {}).get(section, ()) if section == "write" else tree.get(section, ())
        yield from (UsedBy(section, entry, name) for entry, name in _notes(lines, "by"))


def _undecided(tree: Mapping[str, Any]) -> frozenset[str]:
    """For the listeners of a profile of schema 1, which were not learned: `any`, where its calls can listen."""
    listens = any(syscall in calls for calls in tree["syscalls"].values() for syscall in tables.LISTENS)
    return frozenset({listener.ANY} if tree["schema"] < SCHEMA and listens else ())


def _notes(lines: Iterable[str | Mapping[str, Any]], key: str) -> Iterable[tuple[str, str]]:
    for line in lines:
        if not isinstance(line, str):
            yield from ((_entry(line), text) for text in _reasons(line.get(key, ())))


def _tolerated(lines: Iterable[Mapping[str, Any]], document: Document) -> Iterable[Tolerated]:
    seen = set()
    for i, line in enumerate(lines):
        where = document.where(("tolerates", i, "call"))
        call = Call.parse(line["call"])
        name_exists(call.syscall, where)
        if call.arg_class:
            class_exists(*call, where)
        denied = base.kept_out(call)
        if denied is None:
            what, todo = f"{call} is not hard-denied, so that nothing is tolerated", "write it under `syscalls` instead"
            raise ProfileError(what, where=where, todo=todo)
        entry = Tolerated(line["phase"], *call, line["at"], line["errno"], _reasons(line["because"]))
        if entry.at == "other" and denied.response == "terminate":
            raise ProfileError(
                f"{call} at what is not the function's own {denied.because}: it is never tolerated", where=where,
                todo="remove the entry",
            )  # fmt: skip
        if entry.errno != denied.errno:
            raise ProfileError(
                f"{call} is refused with {denied.errno}, never with {entry.errno}",
                where=document.where(("tolerates", i, "errno")), todo=f"write {denied.errno}",
            )  # fmt: skip
        if entry.key in seen:
            raise ProfileError(f"{call} at {entry.at} stands twice", where=where, todo="remove one of the two")
        seen.add(entry.key)
        yield entry


def _verified(tree: Mapping[str, Any], document: Document) -> Verified | None:
    found = tree.get("verified")
    if found is None:
        return None
    date = _date(found["date"], document, ("verified", "date"))
    return Verified(date, found["tool"], found["events"], found["audit"], found["enforce"])


def _date(text: str, document: Document, path: Path = ("audit-until",)) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat() if text else ""
    except ValueError as error:
        raise ProfileError(
            f"{text!r} is not a date", where=document.where(path),
            todo="write it as '2030-01-31', in quotes",
        ) from error  # fmt: skip


def _responses(lines: Mapping[str, str], document: Document) -> Iterable[tuple[str, str]]:
    for text, response in lines.items():
        where = document.where(("responses", text))
        call = Call.parse(text)
        name_exists(call.syscall, where)
        if call.arg_class:
            base.arguments_exist(call, where)
        denied = base.denial(call)
        if denied and response == "report":
            what = f"{call} is hard-denied and cannot only be reported"
            raise ProfileError(what, where=where, todo=_how(denied, call.arg_class))
        yield text, response


def _on_anomaly(said: str | bool | Mapping[str, str | bool]) -> frozenset[tuple[str, str]]:
    known = said if isinstance(said, Mapping) else {anomaly.ALL: said}
    # In YAML 1.1 a bare `off` is a boolean.
    return frozenset((name, answer if isinstance(answer, str) else anomaly.OFF) for name, answer in known.items())


def _trainings(tree: Mapping[str, Any], document: Document) -> Iterable[Training]:
    for section in ("completeness", "provenance"):
        seen: set[str] = set()
        for i, line in enumerate(tree.get(section, ())):
            if line["training"] in seen:
                raise ProfileError(
                    f"the training {line['training']} stands twice under {section}",
                    where=document.where((section, i)),
                    todo="remove one of the two",
                )
            seen.add(line["training"])
    estimates: dict[str, tuple[Estimate, ...]] = {}
    for line in tree.get("completeness", ()):
        estimates[line["training"]] = tuple(
            Estimate(
                phase=phase, samples=body["samples"], items=body["items"], once=body["once"], novelty=body["novelty"],
                quiet=body["quiet"], bound=body["bound"], chao2=body["chao2"], users=body.get("users", 0.0),
            )
            for phase in PHASES
            if (body := line.get(phase))
        )  # fmt: skip
    origins = {line["training"]: line for line in tree.get("provenance", ())}
    for key in sorted(estimates.keys() | origins.keys()):
        facts = {attribute: origins.get(key, {}).get(name, "") for name, attribute in PROVENANCE.items()}
        yield Training(id=key, estimates=estimates.get(key, ()), **facts)
