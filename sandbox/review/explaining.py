"""What a call, a class, a promise or a violation is, why it is risky, who needs it here, and how to allow it.

All that is said comes from the base (profiles/base), the tables of the kernel and the profile; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sandbox.behaviour import arguments, spelling
from sandbox.behaviour.call import Call
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.policy.rules import families
from sandbox.profile import base, risk
from sandbox.profile.document import Document
from sandbox.profile.model import PHASES, Use
from sandbox.profile.nearest import nearest
from sandbox.violations.reader import explained, moment
from sandbox.violations.record import Suspected, Violation, technique_of

MOST = 12
"""Classes, calls or uses that one list shows."""


@dataclass(frozen=True)
class Explanation:
    """`subject` is as the profile spells it; the others are lines of text. `needed_here` is None without a profile."""

    subject: str
    what: tuple[str, ...]
    risky: tuple[str, ...]
    allow: tuple[str, ...]
    risk: risk.Risk
    needed_here: tuple[str, ...] | None = None


def explain(text: str, profile: Document | None = None) -> list[Explanation]:
    """Explanations of a promise, a syscall, a call with its class, or a class, which several syscalls may have.

    Empty where there is none of that name; `alike` says what may have been meant.
    """
    text = " ".join(text.split())
    if not text:
        return []
    promise = next((one for one in base.promises() if one.name == text), None)
    found = [of_promise(promise, profile)] if promise else []
    call = Call.parse(text)
    if call.syscall in tables.every_name():
        if not call.arg_class or _has(call):
            found.append(of_call(call, profile))
    elif not found:
        found += [of_call(one, profile) for one in _with_class(text)[:MOST]]
    return found


def alike(text: str) -> str:
    """`: did you mean openat?`, or ''."""
    call = Call.parse(" ".join(text.split()))
    if call.syscall in tables.every_name():
        near = nearest(call.arg_class, _classes(call.syscall))
        return near.replace("mean ", f"mean {call.syscall} ")
    every = {promise.name for promise in base.promises()} | tables.every_name()
    classes = {name for syscall in tables.every_name() for name in _classes(syscall)}
    return nearest(text, every) or nearest(text, classes)


def of_promise(promise: base.Promise, profile: Document | None) -> Explanation:
    """A promise: the calls that it stands for, and the uses that need it here."""
    uses = [use for use in _uses(profile) if base.promise_of(use.call) == promise.name]
    calls = [str(call) for call in promise.items]
    return Explanation(
        subject=promise.name,
        what=(f"a promise: {promise.about}", f"stands for {_listed(calls)}", f"needed by {promise.needs}"),
        risky=(promise.attack,),
        allow=("list it under `promises`, and its calls under `syscalls`: a promise alone grants nothing",),
        risk=risk.of_promise(promise.name),
        needed_here=_needed(uses, profile),
    )


def of_call(call: Call, profile: Document | None, phase: str = "") -> Explanation:
    """A call, or a syscall with all its classes. `phase` is where it would be allowed, if that is known."""
    promise = next((one for one in base.promises() if one.name == base.promise_of(call)), None)
    uses = [
        use for use in _uses(profile)
        if use.syscall == call.syscall and f"{use.arg_class} ".startswith(f"{call.arg_class} ".lstrip())
    ]  # fmt: skip
    return Explanation(
        subject=str(call),
        what=tuple(_what(call, promise)),
        risky=tuple(_risky(call, promise)),
        allow=tuple(_allow(call, phase, uses, profile)),
        risk="high" if base.denial(call) else risk.of_call(call),
        needed_here=_needed(uses, profile),
    )


def of_violation(record: Violation | Suspected, profile: Document | None) -> Explanation:
    """One line of a log: what became of the call comes first, then what is true of the call itself."""
    found = of_call(record.call, profile, record.phase)
    where = f" in {record.phase}" if record.phase else ""
    where += f", invocation {record.request}" if record.request else ""
    told = [f"at {moment(record.time)}{where}: {explained(record)}"]
    if record.target:
        told.append(f"it named {record.target}")
    if record.by:
        told.append(f"made by {record.by}")
    allow = found.allow  # of the kernel's own record, which knows neither phase nor profile
    if record.phase:
        beside = (line for line in found.allow if not line.startswith(("write ", "allowed already", "only a person")))
        allow = (f"write {record.allow}", *beside) if record.allow else ("nothing can allow this access",)
    return Explanation(
        found.subject, (*told, *found.what), found.risky, allow,
        "high" if record.risk == "high" else found.risk, found.needed_here,
    )  # fmt: skip


def _what(call: Call, promise: base.Promise | None) -> Iterator[str]:
    promised = f"of the promise {promise.name}: {promise.about}" if promise else "that no promise names"
    yield f"a system call (man 2 {call.syscall}) {promised}"
    known = [*_classes(call.syscall)]
    if known and not call.arg_class:
        yield f"its argument classes: {_listed(known)}"
    family = _family(call.syscall)
    if family:
        yield f"does the same job as {_listed(family)}: who learned one may make the others of the same class"
    if promise:
        yield f"needed by {promise.needs}"


def _risky(call: Call, promise: base.Promise | None) -> Iterator[str]:
    for entries in (base.hard_deny(), base.dangerous()):
        lines = [line for line in entries if line.covers(call) or (not call.arg_class and line.syscall == call.syscall)]
        for line in lines:
            yield f"{spelled(line.syscall, line.classes)} {_reason(line, entries)}"
    if promise:
        yield f"in attacks: {promise.attack}"
    _, technique, title = technique_of(call)
    yield f"MITRE ATT&CK {technique}: {title}"


def _reason(line: base.BaseEntry, entries: Sequence[base.BaseEntry]) -> str:
    """The reason of a line of the base, which may be that of the line before it."""
    above = entries[: entries.index(line) + 1]
    return next(one.because for one in reversed(above) if not one.because.startswith("the same"))


def _allow(call: Call, phase: str, uses: Sequence[Use], profile: Document | None) -> Iterator[str]:
    if always := base.find(base.floor(), call):
        yield f"always allowed: {always.because}"
        return
    denied = base.denial(call)
    if denied and denied.unreadable:
        yield f"refused with {denied.errno}, after which the C library makes a call whose flags can be read"
        return
    if denied and not denied.grantable:
        yield f"nothing can: it is refused with {denied.errno} in every mode but off"
        return
    if denied:
        yield f"only a person can, by {spelling.of_grant(call.syscall, denied.classes and (call.arg_class,))}"
        return
    if call.arg_class and not _is_whole(call):
        yield "by its whole class, as a violation or a profile spells it"
        return
    if not call.arg_class and arguments.has_classes(call.syscall):
        yield f"by argument class: `sandbox explain {call.syscall} CLASS` says how"
        return
    if uses:
        yield f"allowed already in {' and '.join(dict.fromkeys(use.phase for use in uses))}"
    used = {use.phase for use in uses}
    runtime_api = profile.profile.function.runtime_api if profile else True
    phases = [phase] if phase else [one for one in PHASES if (one == "run") != runtime_api]
    for one in (one for one in phases if one not in used):
        yield f"write {spelling.of_use(one, call)}"
    if base.find(base.dangerous(), call):
        yield "lint wants a person's reason beside it"
    elsewhere = {"exec": "processes", "inet": "network", "listen": "listen", "cpath": "files.write"}
    if section := elsewhere.get(base.promise_of(call)):
        yield f"what it may reach is listed under {section}"


def _needed(uses: Iterable[Use], profile: Document | None) -> tuple[str, ...] | None:
    if profile is None:
        return None
    ordered = sorted(uses, key=lambda use: (PHASES.index(use.phase), use.call))
    lines = [
        f"{profile.line_of(use)}: {use.call} in {use.phase}, {use.count} times: {'; '.join(sorted(use.because))}"
        + (f" (by {', '.join(sorted(use.by))})" if use.by else "")
        for use in ordered[:MOST]
    ]
    return (*lines, *([f"and {len(ordered) - MOST} more"] if len(ordered) > MOST else ()))


def _uses(profile: Document | None) -> frozenset[Use]:
    return profile.profile.uses if profile else frozenset()


def _classes(syscall: str) -> Sequence[str]:
    """The classes of a closed list, else the words of which its classes are made."""
    if known := arguments.partition_classes(syscall):
        return known
    fields = [part.split(":")[0] for part in arguments.classification(syscall).split(",") if part]
    return [name for group in fields if group in tables.groups() for name in tables.constants(group)]


def _has(call: Call) -> bool:
    """Whether a call has such a class, or its classes are made of such words."""
    known = _classes(call.syscall)
    if not known or arguments.partition_classes(call.syscall):
        return call.arg_class in known
    return all(word in known for word in call.arg_class.split()) or _is_whole(call)


def _is_whole(call: Call) -> bool:
    try:
        base.arguments_exist(call, "")
    except ProfileError:
        return False
    return True


def _with_class(text: str) -> list[Call]:
    return [Call(syscall, text) for syscall in sorted(tables.every_name()) if _has(Call(syscall, text))]


def _family(syscall: str) -> list[str]:
    return sorted({*families().get(syscall, ())} - {syscall})


def spelled(syscall: str, classes: Iterable[str]) -> str:
    """`prctl PR_SET_MM, PR_SET_TSC`, or the name alone."""
    return f"{syscall} {', '.join(classes)}".rstrip()


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:MOST])
    return f"{shown} and {len(words) - MOST} more" if len(words) > MOST else shown
