"""YAML in and out. A profile that does not fit is refused with file, line and column, never with a traceback.

Shape is checked by the JSON Schema that editors use too (schema.json); names of syscalls and classes by the tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
import yaml

from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.profile import base
from sandbox.profile.model import PHASES, Estimate, Function, Grant, Phase, Profile, Training, Use
from sandbox.profile.places import Path, Place, compose
from sandbox.profile.promises import promises_of

LARGEST = 1 << 20
"""Bytes; a profile is about one screen, so that anything near this is not one."""


@dataclass(frozen=True)
class Document:
    """A parsed profile with the place of everything in it."""

    profile: Profile
    source: str
    places: Mapping[Path, Place]

    def where(self, path: Path) -> str:
        """`file:line:column` of a path into the document, or of the nearest parent that has a place."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (1, 1))
        return f"{self.source}:{line}:{column}"

    def line_of(self, use: Use) -> str:
        """Where the document says that this use is allowed."""
        return self.where(("syscalls", use.phase, use.syscall, "classes", use.name))


def read(path: str) -> Document:
    """Read a profile from a file. Raises ProfileError with the place and what to do."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ProfileError(
            f"cannot be read: {error.strerror}", where=path, todo="check the name; `sandbox learn` makes a profile"
        ) from None
    return parse(data, path)


def parse(data: bytes | str, source: str = "<profile>") -> Document:
    """Parse a profile's text. Raises ProfileError with file, line and column."""
    if len(data) > LARGEST:
        raise ProfileError(f"larger than {LARGEST} bytes", where=f"{source}:1:1", todo="this is no profile of a function")
    tree, places = compose(data, source)
    document = Document(Profile(Function("")), source, places)
    problems = sorted(_validator().iter_errors(tree), key=lambda found: (len(found.path), str(found.path)))
    if problems:
        deepest = jsonschema.exceptions.best_match(iter(problems))
        raise ProfileError(
            f"{_dotted(deepest.absolute_path)}: {_plain(deepest)}",
            where=document.where(tuple(deepest.absolute_path)),
            todo="see sandbox/profile/schema.json, or point your editor at it",
        )
    return Document(_build(tree, document), source, places)


@cache
def _validator() -> jsonschema.protocols.Validator:
    with open(schema_path(), encoding="utf-8") as file:
        return jsonschema.Draft202012Validator(json.load(file))


def schema_path() -> str:
    """The JSON Schema file that editors can use."""
    return os.path.join(os.path.dirname(__file__), "schema.json")


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(str(part) for part in path) or "the document"


def _plain(error: jsonschema.ValidationError) -> str:
    text = error.message
    return text if len(text) < 200 else text[:200] + " ..."


def _build(tree: Mapping[str, Any], document: Document) -> Profile:
    function = tree["function"]
    profile = Profile(
        function=Function(function["name"], function.get("handler", ""), function.get("runtime-api", True)),
        uses=frozenset(_uses(tree["syscalls"], document)),
        processes=frozenset(tree.get("processes", ())),
        network=frozenset(tree.get("network", ())),
        reads=frozenset(tree.get("files", {}).get("read", ())),
        writes=frozenset(tree.get("files", {}).get("write", ())),
        grants=frozenset(_grants(tree.get("grants", ()), document)),
        trainings=frozenset(_trainings(tree)),
        promises=tuple(tree["promises"]),
    )
    missing = [name for name in promises_of(profile.uses) if name not in profile.promises]
    if missing:
        raise ProfileError(
            f"the promises leave out {', '.join(missing)}, which the syscalls below need",
            where=document.where(("promises",)),
            todo="add the promise, or remove the syscalls; `sandbox profile show` lists which belong to it",
        )
    return profile


def _uses(phases: Mapping[str, Any], document: Document) -> Iterable[Use]:
    for phase in PHASES:
        for syscall, body in phases.get(phase, {}).items():
            path: Path = ("syscalls", phase, syscall)
            _known(syscall, document.where(path))
            classes = body.get("classes")
            if (classes is not None) != base.arguments.has_classes(syscall):
                raise ProfileError(
                    f"{syscall} has no argument classes" if classes else f"{syscall} needs its argument classes",
                    where=document.where(path),
                    todo=f"write `{syscall}: {{count: 1, because: ...}}`" if classes
                    else f"write `{syscall}: {{classes: {{...: 1}}, because: ...}}`",
                )  # fmt: skip
            for name, count in (classes if classes is not None else {"": body.get("count", 0)}).items():
                at = document.where((*path, "classes", name) if name else path)
                if name:
                    base.arguments_exist(syscall, name, at)
                denied = base.find(base.hard_deny(), syscall, name)
                if denied and denied.risk != "unreadable":
                    raise ProfileError(f"{syscall} {name} is hard-denied: {denied.because}", where=at, todo=_how(denied))
                yield Use(phase, syscall, name, count, _reasons(body["because"]))


def _how(entry: base.Entry) -> str:
    if not entry.grantable:
        return "remove it; nothing can grant this one"
    return f"remove it, or grant it under `grants: [{{syscall: {entry.syscall}, because: <your reason>}}]`"


def _known(syscall: str, where: str) -> None:
    if syscall not in tables.every_name():
        raise ProfileError(
            f"{syscall!r} is not a system call of Linux {tables.LINUX} on {' or '.join(tables.ARCHES)}",
            where=where,
            todo="correct the name (spelled as in the kernel's tables: newfstatat, not fstatat)",
        )


def _reasons(because: Any) -> frozenset[str]:
    return frozenset([because] if isinstance(because, str) else because)


def _grants(lines: Iterable[Mapping[str, Any]], document: Document) -> Iterable[Grant]:
    for i, line in enumerate(lines):
        path: Path = ("grants", i, "syscall")
        syscall, classes = line["syscall"], frozenset(line.get("classes", ()))
        _known(syscall, document.where(path))
        for name in classes or {""}:
            if name:
                base.arguments_exist(syscall, name, document.where(path))
            denied = base.find(base.hard_deny(), syscall, name)
            if denied is None:
                raise ProfileError(
                    f"{' '.join(filter(None, (syscall, name)))} is not hard-denied, so that it needs no grant",
                    where=document.where(path),
                    todo="write it under `syscalls` instead",
                )
            if not denied.grantable:
                raise ProfileError(
                    f"{syscall} can never be granted: {denied.because}", where=document.where(path), todo="remove the grant"
                )
        yield Grant(syscall, classes, line["because"])


def _trainings(tree: Mapping[str, Any]) -> Iterable[Training]:
    estimates: dict[str, tuple[Estimate, ...]] = {}
    for line in tree.get("completeness", ()):
        estimates[line["training"]] = tuple(
            Estimate(
                phase=phase, samples=body["samples"], items=body["items"], once=body["once"], novelty=body["novelty"],
                quiet=body["quiet"], bound=body["bound"], chao2=body["chao2"],
            )
            for phase in PHASES
            if (body := line.get(phase))
        )  # fmt: skip
    origins = {line["training"]: line for line in tree.get("provenance", ())}
    for key in sorted(estimates.keys() | origins.keys()):
        line = origins.get(key, {})
        yield Training(
            id=key, host=line.get("host", ""), kernel=line.get("kernel", ""), libc=line.get("libc", ""),
            python=line.get("python", ""), architecture=line.get("architecture", ""),
            handler_digest=line.get("handler", ""), lock_digest=line.get("lock", ""), estimates=estimates.get(key, ()),
        )  # fmt: skip


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


class _FlowList(list[Any]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    _Flow, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)
)
_Dumper.add_representer(
    _FlowList, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)

HEADER = """\
# What {name} may do; everything else fails in the kernel. Review it like code: `sandbox profile lint FILE`.
# The floor that every program needs (memory, locks, clocks, open descriptors) is in profiles/base/floor.yaml.
"""


def write(profile: Profile) -> str:
    """The profile's YAML: the same profile gives the same text."""
    trainings = sorted(profile.trainings)
    sections: list[dict[str, Any]] = [
        {
            "schema": 1,
            "function": _Flow(
                {"name": profile.function.name, "handler": profile.function.handler}
                | {"runtime-api": profile.function.runtime_api}
            ),
            "promises": _FlowList(promises_of(profile.uses)),
            "processes": _FlowList(sorted(profile.processes)),
            "network": _FlowList(sorted(profile.network)),
        },
        {"files": {"read": sorted(profile.reads), "write": sorted(profile.writes)}},
        {"grants": [_grant(grant) for grant in sorted(profile.grants, key=lambda g: (g.syscall, sorted(g.classes)))]}
        if profile.grants
        else {},
        {"completeness": [_completeness(training) for training in trainings]} if trainings else {},
        {"provenance": [_provenance(training) for training in trainings]} if trainings else {},
    ]
    parts = [HEADER.format(name=profile.function.name)]
    parts += [_dump(section) for section in sections if section]
    body = ["syscalls:" + ("" if profile.uses else " {}") + "\n"]
    for phase in PHASES:
        lines = _phase(profile.phase(phase))
        if lines:
            body.append(f"  {phase}:\n" + "".join("    " + line for line in _dump(lines).splitlines(keepends=True)))
    return "\n".join(parts) + "\n" + "".join(body)


def _dump(data: Mapping[str, Any]) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True))


def _grant(grant: Grant) -> _Flow:
    classes = {"classes": _FlowList(sorted(grant.classes))} if grant.classes else {}
    return _Flow({"syscall": grant.syscall} | classes | {"because": grant.because})


def _completeness(training: Training) -> dict[str, Any]:
    return {"training": training.id} | {
        e.phase: _Flow(
            samples=e.samples, items=e.items, once=e.once, novelty=round(e.novelty, 4), quiet=e.quiet,
            bound=round(e.bound, 4), chao2=round(e.chao2, 2),
        )
        for e in training.estimates
    }  # fmt: skip


def _provenance(training: Training) -> _Flow:
    fields = {
        "training": training.id, "host": training.host, "kernel": training.kernel, "libc": training.libc,
        "python": training.python, "architecture": training.architecture, "handler": training.handler_digest,
        "lock": training.lock_digest,
    }  # fmt: skip
    return _Flow({key: value for key, value in fields.items() if value})


def _phase(uses: Iterable[Use]) -> dict[str, Any]:
    grouped: dict[str, list[Use]] = {}
    for use in uses:
        grouped.setdefault(use.syscall, []).append(use)
    found: dict[str, Any] = {}
    for syscall, members in grouped.items():
        reasons = sorted(frozenset().union(*(use.because for use in members)))
        because = reasons[0] if len(reasons) == 1 else _FlowList(reasons)
        if base.arguments.has_classes(syscall):
            shown: dict[str, Any] = {"classes": _Flow({use.name: use.count for use in members})}
        else:
            shown = {"count": members[0].count}
        found[syscall] = _Flow(shown | {"because": because})
    return found


def phase_of(name: str) -> Phase:
    """`name` as a phase. Raises ValueError for a word that is none."""
    for phase in PHASES:
        if phase == name:
            return phase
    raise ValueError(f"{name!r} is no phase; there are {', '.join(PHASES)}")
