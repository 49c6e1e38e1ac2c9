"""What a reviewer would object to in a profile, each with its place: missing reasons, stray paths, thin training.

    profiles/thumbnail.yaml:31:5: error: execve in invoke (runs another program) has no reason in a person's words
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from sandbox.behaviour import anomaly, destination, listener
from sandbox.behaviour.call import Call
from sandbox.behaviour.destination import needs_own_entry
from sandbox.behaviour.path import below, covers, rule_of
from sandbox.behaviour.spelling import scalar
from sandbox.bundle import ANY
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.profile import base
from sandbox.profile.circumstances import unseen
from sandbox.profile.completeness import THIN, best_estimates, still_needed
from sandbox.profile.document import Document
from sandbox.profile.executables import by_program, written
from sandbox.profile.finding import Finding, Severity
from sandbox.profile.ignores import subject_of, with_ignores
from sandbox.profile.model import PHASES, SCHEMA, SECTIONS, Phase
from sandbox.profile.nearest import nearest
from sandbox.profile.places import Path, excerpt
from sandbox.profile.promises import promises_of
from sandbox.profile.reasons import is_empty_reason, spoken
from sandbox.violations.library import named

EXPECTED_WRITES = ("/tmp/**", "{root}/**", "/dev/null")

PLACES: dict[Phase, str] = {"init": "cold starts", "invoke": "invocations", "run": "runs"}


def lint(document: Document) -> tuple[Finding, ...]:
    """All findings, in the order of the file."""
    raw = [(*one, check is _problems) for check in CHECKS for one in check(document)]
    invalid = {path for *_, path, _, _, is_problem in raw if is_problem}  # of which nothing else is to be said
    found = [
        Finding(
            severity, document.source, *document.place(path), message, todo, rule, subject_of(path, document),
            excerpt=excerpt(document.text, document.place(path)) if is_problem else "",
        )
        for severity, rule, path, message, todo, is_problem in raw if is_problem or path not in invalid
    ]  # fmt: skip
    found = [*with_ignores(found, document)]
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.column, finding.severity, finding.message)))


_Raw = tuple[Severity, str, Path, str, str]
"""(severity, rule, where, message, what to do)."""


def _reasons(document: Document) -> Iterator[_Raw]:
    for use in sorted(document.profile.uses):
        danger = base.find(base.dangerous(), use.call)
        if danger is None or (use.syscall in tables.LISTENS and not document.profile.listen):
            continue  # what is bound without an entry of `listen` takes nothing from others
        path: Path = ("syscalls", use.phase, use.syscall, "classes", use.arg_class)
        path = path if use.arg_class else path[:3]
        given = spoken(use.because)
        if not given:
            yield (
                "error", "no-reason", path,
                f"{use.call} in {use.phase} ({danger.because}) has no reason in a person's words",
                "add to its `because` why the function needs it, or remove it",
            )  # fmt: skip
        elif all(is_empty_reason(reason) for reason in given):
            yield (
                "error", "empty-reason", path,
                f"{use.call} in {use.phase} ({danger.because}): {given[0]!r} is not a reason",
                "say what the function does with it",
            )  # fmt: skip


def _grants(document: Document) -> Iterator[_Raw]:
    for i, line in enumerate(document.tree.get("grants", ())):
        if is_empty_reason(line["because"]) or not spoken([line["because"]]):
            what = " ".join((line["syscall"], *line.get("classes", ())))
            yield (
                "error", "empty-reason", ("grants", i, "because"),
                f"the grant of {what}: {line['because']!r} is not a reason",
                "say why the function needs it, or remove the grant",
            )  # fmt: skip


def _promises(document: Document) -> Iterator[_Raw]:
    known = {promise.name for promise in base.promises()} | {"other"}
    needed = promises_of(document.profile.uses)
    for i, name in enumerate(document.profile.promises):
        if name not in known:
            what = f"{name!r} is not a promise{nearest(name, known)}"
            yield "error", "unknown-promise", ("promises", i), what, "correct or remove it"
        elif name not in needed:
            yield (
                "warning", "unneeded-promise", ("promises", i), f"no syscall needs the promise {name}",
                "remove it: it grants nothing",
            )  # fmt: skip


def _processes(document: Document) -> Iterator[_Raw]:
    profile = document.profile
    executes = sorted(use for use in profile.uses if use.syscall in ("execve", "execveat"))
    if profile.processes and not executes:
        yield (
            "warning", "programs-without-exec", ("processes",), "programs are listed, but no phase may exec",
            "remove them, or add execve with a reason",
        )  # fmt: skip
    if executes and not profile.processes:
        yield (
            "warning", "exec-without-programs", ("syscalls", executes[0].phase, executes[0].syscall),
            f"{executes[0].syscall} is allowed, but no program is listed under processes",
            "name the programs that the function starts, or remove it",
        )  # fmt: skip
    contents, places = by_program(profile.digests), written(profile)
    for i, program in enumerate(document.entries("processes")):
        if program in places and ANY in contents.get(program, ()):
            yield (
                "warning", "writable-program", ("processes", i),
                f"{program} lies where the function writes ({places[program]}), and whatever is put there is started",
                "list the contents that it may have, where there is an end of them",
            )  # fmt: skip
        elif program in places and len(contents.get(program, ())) > 1:
            yield (
                "warning", "writable-program", ("processes", i),
                f"{program} lies where the function writes ({places[program]}) and had {len(contents[program])} "
                "contents in training: with another one it is not started",
                "train with all that it may be, or write `sha256: [any]`, with which whatever is put there is started",
            )  # fmt: skip
        elif program in places and program in contents:
            yield (
                "warning", "writable-program", ("processes", i),
                f"{program} lies where the function writes ({places[program]}): a supervisor tells it by its content, "
                "and without one whatever is put there can be started",
                "package it with the function, outside of what it writes, where that is possible",
            )  # fmt: skip
        elif program in places:
            yield (
                "error", "writable-program", ("processes", i),
                f"{program} lies where the function writes ({places[program]}), and nothing says what its content is: "
                "it is not started",
                f"train again, or write {{program: {scalar(program)}, sha256: [...]}}; better, package it elsewhere",
            )  # fmt: skip
        scripts = sorted(script for script, interpreter in profile.interpreters if interpreter == program)
        if scripts:
            yield (
                "warning", "interpreter-listed", ("processes", i),
                f"{program} interprets {', '.join(scripts)} and is listed itself, so that it starts for any script",
                "name the interpreter by its path in the `#!` line: env(1) starts it by an exec of its own",
            )  # fmt: skip


def _network(document: Document) -> Iterator[_Raw]:
    for i, place in enumerate(document.entries("network")):
        path: Path = ("network", i)
        try:
            entry = destination.parse(place)
        except ProfileError:
            continue  # among the document's problems
        if entry.kind == "network" and entry.bits == 0:
            yield (
                "warning", "any-destination", path, f"{place} is any destination",
                "name the hosts that the function talks to",
            )  # fmt: skip
        elif entry.is_metadata:
            yield (
                "error", "metadata", path, f"{place} hands out the machine's credentials",
                "remove it; give the function credentials of its own",
            )  # fmt: skip
        elif entry.port == destination.DNS_PORT:
            yield (
                "warning", "resolver", path,
                f"{place} carries questions to a resolver, and whatever else is put into them",
                "train again where the supervisor can answer them, so that names take its place",
            )  # fmt: skip
        elif isinstance(entry.value, bytes) and entry.kind != "network" and not needs_own_entry(entry.value):
            yield "warning", "address", path, f"{place} is an address", "write the host's name: addresses change owners"


def _listen(document: Document) -> Iterator[_Raw]:
    said: dict[str, list[str]] = {}
    for place, reason in document.profile.listen_because:
        said.setdefault(place, []).append(reason)
    for i, place in enumerate(document.entries("listen")):
        path: Path = ("listen", i)
        try:
            entry = listener.parse(place)
        except ProfileError:
            continue  # among the document's problems
        given = spoken(said.get(place, ()))
        if entry.kind == listener.ANY:
            yield (
                "warning", "any-listener", path, "any: where the function listens is not decided by address",
                "train again, or write the addresses in its place",
            )  # fmt: skip
        elif entry.is_unspecified and all(is_empty_reason(reason) for reason in given):
            yield (
                "error", "listens-on-all", path,
                f"{place} listens on every address of the host, without a reason in a person's words",
                f"listen on 127.0.0.1, or write {{at: {place!r}, because: ...}} with who connects from outside",
            )  # fmt: skip


def _tolerates(document: Document) -> Iterator[_Raw]:
    for i, line in enumerate(document.tree.get("tolerates", ())):
        call = Call.parse(line["call"])
        denied = base.denial(call)
        assert denied is not None  # or the document would not have been read
        whom = {"self": "its own process", "child": "a process of its own", "other": "anything else"}[line["at"]]
        ends = denied.response == "terminate"
        yield (
            "warning" if ends else "info", "tolerated", ("tolerates", i),
            f"{call} at {whom} in {line['phase']} ({denied.because}) is refused"
            + (" and no longer ends the function" if ends else " with a line of low risk")
            + f": risk {'medium' if ends else 'low'}",
            "remove the entry if the function can do without the call",
        )  # fmt: skip


def _schema(document: Document) -> Iterator[_Raw]:
    if document.tree["schema"] < SCHEMA:
        yield (
            "info", "old-schema", ("schema",),
            f"schema {document.tree['schema']}: listeners and tolerated refusals were not learned",
            "train again; this version is read all the same",
        )  # fmt: skip


def _by(document: Document) -> Iterator[_Raw]:
    """Names under `by` that no reading of a stack can be compared with."""
    for section in SECTIONS:
        users = document.profile.users(section)
        for i, entry in enumerate(document.entries(section)):
            for name in users.get(entry, ()):
                if name != named(name):
                    path: Path = ("files", "write", i) if section == "write" else (section, i)
                    how = f"write {named(name)}" if named(name) else "write the name of its metadata, in lower case"
                    yield (
                        "warning", "library-name", path,
                        f"{name} under `by` is not how a distribution's name is compared", how,
                    )  # fmt: skip


def _verified(document: Document) -> Iterator[_Raw]:
    found = document.profile.verified
    for mode, outcome in (("audit", found.audit), ("enforce", found.enforce)) if found else ():
        if outcome.split(",")[0] == "ok":
            continue
        yield (
            "warning" if outcome.startswith("not installed") else "error", "not-verified", ("verified", mode),
            f"{mode}: the events of the training were not served again as they were trained: {outcome}",
            "amend the profile, or train it again; `sandbox learn` serves the events again at its end",
        )  # fmt: skip


def _on_anomaly(document: Document) -> Iterator[_Raw]:
    for name, answer in sorted(document.profile.on_anomaly):
        if answer != anomaly.OFF:
            continue
        who = "no detector is" if name == anomaly.ALL else f"{name} is not"
        yield (
            "warning", "detector-off", ("on-anomaly", name), f"{who} asked about any call",
            "write report: a line costs nothing, and says what a false alarm looks like",
        )  # fmt: skip


def _counting(document: Document) -> Iterator[_Raw]:
    """Where a person asks a detector that looks at whole invocations, that it has nothing to go by, or needs more."""
    profile = document.profile
    for name in anomaly.OF_INVOCATIONS:
        if dict(profile.on_anomaly).get(name, anomaly.OFF) == anomaly.OFF:
            continue
        if profile.most:
            yield (
                "info", "detector-idle", ("on-anomaly", name), f"{name} is asked only with SANDBOX_ACTIVITY",
                "set it where this runs",
            )  # fmt: skip
        else:
            yield (
                "info", "detector-idle", ("on-anomaly", name), f"training counted nothing: {name} suspects nobody",
                "train again: `sandbox learn` counts what one event of a function does",
            )  # fmt: skip


def _users(document: Document) -> Iterator[_Raw]:
    """Where detectors have a say, that one of them has nothing to go by."""
    settings = dict(document.profile.on_anomaly)
    if settings and not document.profile.by and anomaly.response(settings, anomaly.NEW_LIBRARY) != anomaly.OFF:
        yield (
            "info", "detector-idle", ("on-anomaly",),
            f"no entry says who uses it: {anomaly.NEW_LIBRARY} suspects nobody",
            "train again: `sandbox learn` lists the libraries of Python functions",
        )  # fmt: skip


def _writes(document: Document) -> Iterator[_Raw]:
    for i, place in enumerate(document.entries("write")):
        if any(covers(expected, posixpath.normpath(place)) for expected in EXPECTED_WRITES):
            continue
        yield (
            "warning", "writes-elsewhere", ("files", "write", i),
            f"{place} is written, outside /tmp and the function's own directory",
            "write to /tmp instead where that is possible: elsewhere files outlive the function and reach others",
        )  # fmt: skip


def _random_parts(document: Document) -> Iterator[_Raw]:
    for mode in ("read", "write"):
        for i, place in enumerate(document.entries(mode)):
            base, path, whole = rule_of(place)
            if not whole or covers(place, below(base + path)) or path == "/proc":
                continue
            yield (
                "info", "whole-folder", ("files", mode, i),
                f"{place} opens all of {base}{path}: Landlock holds no random part of a name",
                "keep nothing else in that folder, or give the function a folder of its own there",
            )  # fmt: skip


def _completeness(document: Document) -> Iterator[_Raw]:
    """One finding a profile: phases of which nothing is known, or else the one that training knows the least."""
    best = {estimate.phase: (id_, estimate) for id_, estimate in best_estimates(document.profile.trainings)}
    lines = [line["training"] for line in document.tree.get("completeness", ())]
    used = [phase for phase in PHASES if document.profile.phase(phase)]
    unknown = [phase for phase in used if phase not in best]
    if unknown:
        yield (
            "warning", "incomplete", ("syscalls", unknown[0]), f"nothing says how complete {' and '.join(unknown)} is",
            "learn it, and commit what `sandbox learn` writes under completeness",
        )  # fmt: skip
        return
    thin = [best[phase] for phase in used if max(best[phase][1].bound, best[phase][1].novelty) > THIN]
    if not thin:
        return
    training_id, estimate = max(thin, key=lambda pair: (pair[1].bound, pair[1].novelty, pair[1].phase))
    place, more = PLACES[estimate.phase], still_needed(estimate.quiet)
    new = f", and {estimate.novelty:.0%} of those in training were new to the others" if estimate.novelty else ""
    yield (
        "warning", "thin-training", ("completeness", lines.index(training_id), estimate.phase),
        f"{estimate.phase}: up to {estimate.bound:.0%} of {place} may need something unseen{new} "
        "(if training is drawn like production)",
        f"train on: {more} more quiet {place} reach 1 %",
    )  # fmt: skip


def _problems(document: Document) -> Iterator[_Raw]:
    """What a compiler refuses."""
    for problem in document.problems():
        yield "error", "invalid", problem.path, problem.what, problem.todo


def _environment(document: Document) -> Iterator[_Raw]:
    if names := document.profile.function.environment:
        yield (
            "info", "variables", ("function", "environment"), f"training was given {', '.join(names)}",
            "set them where it is deployed: without them it may do what training never saw",
        )  # fmt: skip


def _provenance(document: Document) -> Iterator[_Raw]:
    trainings = document.profile.trainings
    if on := sorted({training.platform for training in trainings} - {""}):
        yield (
            "info", "one-host", ("provenance",), f"trained for {', '.join(on)}",
            "what it lacks was not there in training: train for another platform before you deploy there",
        )  # fmt: skip
    for field, values in (
        ("architecture", {training.architecture for training in trainings}),
        ("libc", {training.libc for training in trainings}),
    ):
        if len(values) == 1 and (only := next(iter(values))):
            yield (
                "info", "one-host", ("provenance",), f"trained on {only} only",
                f"families cover others; train on another {field} before you deploy there",
            )  # fmt: skip


def _circumstances(document: Document) -> Iterator[_Raw]:
    """One finding a profile: how production may start and serve the function that no training did."""
    found = list(unseen([training.circumstances for training in document.profile.trainings]))
    if found:
        yield (
            "info", "circumstances", ("provenance",), f"training saw no {', no '.join(what for what, _ in found)}",
            "; ".join(dict.fromkeys(todo for _, todo in found)),
        )  # fmt: skip


CHECKS = (
    _problems, _schema, _environment, _verified, _reasons, _grants, _promises, _processes, _network, _listen, _writes,
    _random_parts, _by, _tolerates, _on_anomaly, _counting, _users, _completeness, _provenance,
    _circumstances,
)  # fmt: skip
