"""Writing profiles: the same profile gives the same text, in the order in which people review it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from sandbox.behaviour import anomaly, arguments
from sandbox.behaviour.spelling import ENTRIES
from sandbox.profile.executables import by_program
from sandbox.profile.model import (
    PHASES,
    PROVENANCE,
    SCHEMA,
    Grant,
    Ignore,
    Library,
    Profile,
    Section,
    Tolerated,
    Training,
    Use,
)
from sandbox.profile.promises import promises_of

BREAKS = frozenset("\n\r\x85\u2028\u2029")


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

_Dumper.add_representer(str, lambda dumper, data: _text(dumper, data))


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    # PyYAML folds line breaks inside plain and single-quoted text, and does not give every one of them back.
    style = '"' if BREAKS & set(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


SCHEMA_FILE = "profile.schema.json"
"""The copy of the schema beside a profile, by which editors complete and check it."""

HEADER = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# What {{name}} may do; everything else fails in the kernel. Review it like code: `sandbox profile lint FILE`.
# The floor that every program needs (memory, locks, clocks, open descriptors) is in profiles/base/floor.yaml.
"""


def write(profile: Profile) -> str:
    """The profile's YAML: the same profile gives the same text."""
    trainings = sorted(profile.trainings)
    sections: list[dict[str, Any]] = [
        {
            "schema": SCHEMA,
            "function": _Flow(
                {"name": profile.function.name, "handler": profile.function.handler}
                | {"runtime-api": profile.function.runtime_api}
                | ({"environment": _FlowList(names)} if (names := profile.function.environment) else {})
            ),
            "promises": _FlowList(promises_of(profile.uses)),
            "processes": _FlowList(
                _annotated(
                    profile, "processes", profile.processes, sha256=by_program(profile.digests),
                    interpreters=by_program(profile.interpreters),
                )
            ),
            "network": _FlowList(_annotated(profile, "network", profile.network)),
        },
        {"listen": _FlowList(_annotated(profile, "listen", profile.listen, because=by_program(profile.listen_because)))}
        if profile.listen
        else {},
        {"names": of_names} if (of_names := _names(profile)) else {},
        {"files": {"read": sorted(profile.reads), "write": _annotated(profile, "write", profile.writes)}},
        {"grants": [_grant(grant) for grant in sorted(profile.grants, key=_order)]}
        if profile.grants
        else {},
        {"tolerates": [_tolerated(entry) for entry in sorted(profile.tolerates, key=_by_key)]}
        if profile.tolerates
        else {},
        {"audit-until": profile.audit_until} if profile.audit_until else {},
        {"responses": dict(sorted(profile.responses))} if profile.responses else {},
        {"on-anomaly": _on_anomaly(profile)} if profile.on_anomaly else {},
        {"most": _Flow(sorted(profile.most, key=lambda pair: anomaly.MOST.index(pair[0])))} if profile.most else {},
        {"ignores": [_ignore(one) for one in sorted(profile.ignores)]} if profile.ignores else {},
        {"verified": _Flow(vars(profile.verified))} if profile.verified else {},
        {"completeness": [_completeness(training) for training in trainings]} if trainings else {},
        {"provenance": [_provenance(training) for training in trainings]} if trainings else {},
        {"libraries": [_library(library) for library in sorted(profile.libraries)]} if profile.libraries else {},
    ]
    parts = [HEADER.format(name=profile.function.name)]
    parts += [_dump(section) for section in sections if section]
    body = ["syscalls:" + ("" if profile.uses else " {}") + "\n"]
    for phase in PHASES:
        lines = _phase(profile.phase(phase))
        if lines:
            body.append(f"  {phase}:\n" + "".join("    " + line for line in _dump(lines).splitlines(keepends=True)))
    return "\n".join(parts) + "\n" + "".join(body)


def _names(profile: Profile) -> _Flow:
    receives = sorted(profile.names_receives)
    keep = {"keep": profile.names_keep} if profile.names_keep else {}
    return _Flow(keep | ({"receives": _FlowList(receives)} if receives else {}))


def _on_anomaly(profile: Profile) -> str | _Flow:
    """One word where it is for all detectors."""
    said = dict(sorted(profile.on_anomaly))
    return said[anomaly.ALL] if said.keys() == {anomaly.ALL} else _Flow(said)


def _dump(data: Mapping[str, Any]) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=4096, allow_unicode=True))


def _order(grant: Grant) -> tuple[str, list[str], str]:
    return (grant.syscall, sorted(grant.classes), grant.because)


def _grant(grant: Grant) -> _Flow:
    classes = {"classes": _FlowList(sorted(grant.classes))} if grant.classes else {}
    return _Flow({"syscall": grant.syscall} | classes | {"because": grant.because})


def _annotated(
    profile: Profile, section: Section, entries: Iterable[str], **more: Mapping[str, Sequence[str]]
) -> list[Any]:
    """The entries in order, each as a text or, where more is known of it, as {to: entry, by: libraries, ...}.

    `more` are texts of entries by what they are.
    """
    known = {**more, "by": profile.users(section)}
    lines = (
        (entry, {key: _FlowList(texts[entry]) for key, texts in known.items() if entry in texts})
        for entry in sorted(entries)
    )
    return [_Flow({ENTRIES[section]: entry} | notes) if notes else entry for entry, notes in lines]


def _by_key(entry: Tolerated) -> tuple[str, ...]:
    return (*entry.key, entry.errno)


def _tolerated(entry: Tolerated) -> _Flow:
    return _Flow(
        call=str(entry.call), phase=entry.phase, at=entry.at, errno=entry.errno, because=_because(entry.because)
    )


def _completeness(training: Training) -> dict[str, Any]:
    return {"training": training.id} | {
        e.phase: _Flow(
            samples=e.samples, items=e.items, once=e.once, novelty=round(e.novelty, 4), quiet=e.quiet,
            bound=round(e.bound, 4), chao2=round(e.chao2, 2), **({"users": round(e.users, 4)} if e.users else {}),
        )
        for e in training.estimates
    }  # fmt: skip


def _provenance(training: Training) -> _Flow:
    facts = {name: getattr(training, attribute) for name, attribute in PROVENANCE.items()}
    return _Flow({"training": training.id} | {name: value for name, value in facts.items() if value})


def _ignore(one: Ignore) -> _Flow:
    return _Flow({name: value for name, value in one._asdict().items() if value})


def _library(library: Library) -> _Flow:
    return _Flow({name: value for name, value in vars(library).items() if value})


def _phase(uses: Iterable[Use]) -> dict[str, Any]:
    grouped: dict[str, list[Use]] = {}
    for use in uses:
        grouped.setdefault(use.syscall, []).append(use)
    found: dict[str, Any] = {}
    for syscall, members in grouped.items():
        shared = _shared(members)
        if arguments.has_classes(syscall):
            shown: dict[str, Any] = {"classes": _Flow({use.arg_class: _class(use, shared) for use in members})}
        else:
            shown = {"count": members[0].count}
        because, by = shared
        found[syscall] = _Flow(shown | {"because": _because(because)} | _by(by))
    return found


_Said = tuple[frozenset[str], frozenset[str]]
"""The reasons and the libraries of a use."""


def _shared(members: Sequence[Use]) -> _Said:
    """What most classes of a syscall have; the others show their own."""
    times = Counter((use.because, use.by) for use in members)
    return min(times, key=lambda said: (-times[said], *map(sorted, said)))


def _class(use: Use, shared: _Said) -> Any:
    if (use.because, use.by) == shared:
        return use.count
    by = {"by": _FlowList(sorted(use.by))} if use.by != shared[1] else {}  # an empty list where others have some
    return _Flow({"count": use.count, "because": _because(use.because)} | by)


def _by(by: frozenset[str]) -> dict[str, Any]:
    return {"by": _FlowList(sorted(by))} if by else {}


def _because(reasons: frozenset[str]) -> Any:
    ordered = sorted(reasons)
    return ordered[0] if len(ordered) == 1 else _FlowList(ordered)
