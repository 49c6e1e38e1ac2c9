"""What a new version of a profile allows and what it no longer allows, in the order in which people review it.

    + promise exec in invoke: runs programs (risk: high)
    + invoke: execve, exec, runs another program (learned from a.json only)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sandbox.behaviour import anomaly, destination, listener
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import covers
from sandbox.profile import base
from sandbox.profile.libraries import UserChange, changes
from sandbox.profile.model import PHASES, STRICTNESS, Grant, Ignore, Phase, Profile, Tolerated, Use
from sandbox.profile.promises import promises_of

Sign = Literal["+", "-"]
Section = Literal["processes", "network", "listen", "read", "write"]
CLIENT = "function: what a client of the Runtime API needs (profiles/base/runtime-client.yaml)"
CONTENT = " with the content "
"""Between a program and the SHA-256 of its content, as one text."""
INTERPRETED = " interpreted by "
NOBODY: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True)
class PromiseChange:
    """A promise that some phases need now (`+`) or no longer need; `others` are the phases where it stays."""

    sign: Sign
    name: str
    phases: tuple[Phase, ...]
    others: tuple[Phase, ...]
    about: str
    risk: str


@dataclass(frozen=True)
class UseChange:
    """A syscall with a class that one phase may make now or no longer. `before` are the phases that had it before."""

    sign: Sign
    use: Use
    promise: str
    danger: str
    before: tuple[Phase, ...]


@dataclass(frozen=True)
class PlaceChange:
    """A program, a destination, a listener or a path pattern that came or went; `by` are the libraries that use it."""

    sign: Sign
    section: Section
    place: str
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class GrantChange:
    """A hard-denied call that a person granted or took back."""

    sign: Sign
    grant: Grant


@dataclass(frozen=True)
class ToleratedChange:
    """A line of `tolerates`, added or removed: without it the hard-denied call may end the function."""

    sign: Sign
    entry: Tolerated


@dataclass(frozen=True)
class VariableChange:
    """A variable that training was given now, or no longer. It allows nothing, but behaviour may hang on it."""

    sign: Sign
    name: str


@dataclass(frozen=True)
class AnomalyChange:
    """What is done about what a detector (or `all` others) suspects: laxer (`+`) or stricter; '' for nothing said."""

    sign: Sign
    detector: str
    before: str
    after: str


@dataclass(frozen=True)
class SettingChange:
    """A line that decides how strictly the rest is applied: laxer (`+`) or stricter; '' for nothing said.

    `section` is `audit-until`, `names.keep`, or `responses`, of which `name` is the call.
    """

    sign: Sign
    section: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class IgnoreChange:
    """A finding of lint that the profile ignores now, or no longer. It allows nothing, but a reviewer sees less."""

    sign: Sign
    ignore: Ignore


Change = (
    PromiseChange | UseChange | PlaceChange | GrantChange | ToleratedChange | AnomalyChange | SettingChange
    | UserChange | VariableChange | IgnoreChange
)  # fmt: skip


@dataclass(frozen=True)
class Diff:
    """Everything that changed. `client` says that the needs of a Runtime API client came or went."""

    promises: tuple[PromiseChange, ...] = ()
    uses: tuple[UseChange, ...] = ()
    places: tuple[PlaceChange, ...] = ()
    grants: tuple[GrantChange, ...] = ()
    tolerates: tuple[ToleratedChange, ...] = ()
    anomalies: tuple[AnomalyChange, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    users: tuple[UserChange, ...] = ()
    variables: tuple[VariableChange, ...] = ()
    ignores: tuple[IgnoreChange, ...] = ()
    client: Sign | None = None

    @property
    def widened(self) -> bool:
        """Whether anything is allowed that was not."""
        allowing = (change for change in self.changes if not isinstance(change, VariableChange | IgnoreChange))
        return any(change.sign == "+" for change in allowing) or self.client == "+"

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes, in the order of a review."""
        return (
            *self.settings, *self.variables, *self.ignores, *self.promises, *self.places, *self.users, *self.grants,
            *self.tolerates, *self.anomalies, *self.uses,
        )  # fmt: skip


def diff(old: Profile, new: Profile) -> Diff:
    """What `new` allows that `old` did not, and the other way round; counts, reasons and trainings do not count."""
    client: Sign | None = None
    if old.function.runtime_api != new.function.runtime_api:
        client = "+" if new.function.runtime_api else "-"
    return Diff(
        promises=tuple(_promises(old, new)),
        uses=tuple(_uses(old, new)),
        places=(
            *_places(
                "processes", old.processes | _contents(old) | _interpreted(old, new),
                new.processes | _contents(new) | _interpreted(new, old),
                old.users("processes"), new.users("processes"),
            ),
            *_places("network", old.network, new.network, old.users("network"), new.users("network")),
            *_places("listen", old.listen, new.listen, old.users("listen"), new.users("listen")),
            *_places("read", old.reads, new.reads),
            *_places("write", old.writes, new.writes, old.users("write"), new.users("write")),
        ),
        users=tuple(changes(old, new)),
        grants=tuple(_grants(old.grants, new.grants)),
        tolerates=tuple(_tolerates(old.tolerates, new.tolerates)),
        anomalies=tuple(_anomalies(dict(old.on_anomaly), dict(new.on_anomaly))),
        settings=tuple(_settings(old, new)),
        ignores=tuple(
            IgnoreChange("+" if one in new.ignores else "-", one) for one in sorted(old.ignores ^ new.ignores)
        ),
        variables=tuple(_variables(old.function.environment, new.function.environment)),
        client=client,
    )


def _contents(profile: Profile) -> frozenset[str]:
    return frozenset(f"{program}{CONTENT}{digest}" for program, digest in profile.digests)


def _interpreted(profile: Profile, other: Profile) -> frozenset[str]:
    """What interprets programs, of those of which both say it: to learn it of one more allows nothing."""
    known = {program for program, _ in other.interpreters}
    pairs = ((program, by) for program, by in profile.interpreters if program in known)
    return frozenset(f"{program}{INTERPRETED}{by}" for program, by in pairs)


def _phases_of(profile: Profile) -> dict[str, tuple[Phase, ...]]:
    """Promise to the phases that need it."""
    needed = {phase: promises_of(profile.phase(phase)) for phase in PHASES}
    return {
        name: tuple(phase for phase in PHASES if name in needed[phase]) for name in promises_of(profile.uses)
    }


def _promises(old: Profile, new: Profile) -> Iterator[PromiseChange]:
    before, after = _phases_of(old), _phases_of(new)
    about = {promise.name: (promise.about, promise.risk) for promise in base.promises()}
    about["other"] = ("calls that no promise names", "")
    signs: tuple[Sign, ...] = ("+", "-")
    for sign, there, here in zip(signs, (before, after), (after, before), strict=True):
        for name, phases in here.items():
            changed = tuple(phase for phase in phases if phase not in there.get(name, ()))
            if changed:
                kept = tuple(phase for phase in phases if phase not in changed)
                yield PromiseChange(sign, name, changed, kept, *about[name])


def _uses(old: Profile, new: Profile) -> Iterator[UseChange]:
    before, after = {use.key: use for use in old.uses}, {use.key: use for use in new.uses}
    found = [("+", after[key]) for key in after.keys() - before.keys()]
    found += [("-", before[key]) for key in before.keys() - after.keys()]
    order = {promise.name: i for i, promise in enumerate(base.promises())}

    def rank(change: tuple[str, Use]) -> tuple[int, int, str, str, str]:
        sign, use = change
        promise = base.promise_of(use.call)
        return (PHASES.index(use.phase), order.get(promise, len(order)), *use.call, sign)

    for sign, use in sorted(found, key=rank):
        danger = base.find(base.dangerous(), use.call)
        yield UseChange(
            sign="+" if sign == "+" else "-",
            use=use,
            promise=base.promise_of(use.call),
            danger=danger.because if danger else "",
            before=tuple(phase for phase in PHASES if (phase, *use.call) in before),
        )


def _places(
    section: Section, old: frozenset[str], new: frozenset[str],
    before: Mapping[str, Sequence[str]] = NOBODY, after: Mapping[str, Sequence[str]] = NOBODY,
) -> Iterator[PlaceChange]:  # fmt: skip
    """The entries that came or went; `before` and `after` are who uses them."""
    for place in sorted(new - old):
        if not _covered(place, old, section):
            yield PlaceChange("+", section, place, tuple(after.get(place, ())))
    for place in sorted(old - new):
        if not _covered(place, new, section):
            yield PlaceChange("-", section, place, tuple(before.get(place, ())))


def _covered(place: str, others: Iterable[str], section: Section) -> bool:
    if section == "network":
        known = list(destination.entries(others))
        return any(destination.covers(entry, one) for one in destination.entries([place]) for entry in known)
    if section == "listen":
        known = list(listener.entries(others))
        return any(listener.covers(entry, one) for one in listener.entries([place]) for entry in known)
    return section in ("read", "write") and any(covers(pattern, place) for pattern in others)


def _tolerates(old: frozenset[Tolerated], new: frozenset[Tolerated]) -> Iterator[ToleratedChange]:
    before, after = {entry.key: entry for entry in old}, {entry.key: entry for entry in new}
    for key in sorted(after.keys() - before.keys()):
        yield ToleratedChange("+", after[key])
    for key in sorted(before.keys() - after.keys()):
        yield ToleratedChange("-", before[key])


def _anomalies(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[AnomalyChange]:
    """Where nothing is said, what would have gone by in silence is not judged: less than a report, more than `off`."""

    def strictness(said: Mapping[str, str], name: str) -> float:
        return anomaly.RESPONSES.index(anomaly.response(said, name)) if said else 0.5

    for name in sorted({*old, *new, *([anomaly.ALL] if old or new else ())}):
        before, after = strictness(old, name), strictness(new, name)
        if before != after:
            texts = (anomaly.response(said, name) if said else "" for said in (old, new))
            yield AnomalyChange("+" if after < before else "-", name, *texts)


def _settings(old: Profile, new: Profile) -> Iterator[SettingChange]:
    if old.audit_until != new.audit_until:
        sign: Sign = "+" if new.audit_until > old.audit_until else "-"
        yield SettingChange(sign, "audit-until", "", old.audit_until, new.audit_until)
    before, after = (one.names_kept() or math.inf for one in (old, new))  # 0 stands for good
    if before != after:
        yield SettingChange("+" if after > before else "-", "names.keep", "", old.names_keep, new.names_keep)
    said, says = dict(old.responses), dict(new.responses)
    for call in sorted({*said, *says}):
        denied = base.denial(Call.parse(call))
        usual = denied.response if denied else "deny"
        was, is_ = said.get(call, usual), says.get(call, usual)
        if was != is_:
            sign = "+" if STRICTNESS.index(is_) < STRICTNESS.index(was) else "-"
            yield SettingChange(sign, "responses", call, said.get(call, ""), says.get(call, ""))


def _variables(old: Iterable[str], new: Iterable[str]) -> Iterator[VariableChange]:
    before, after = set(old), set(new)
    for name in sorted(before ^ after):
        yield VariableChange("+" if name in after else "-", name)


def _grants(old: frozenset[Grant], new: frozenset[Grant]) -> Iterator[GrantChange]:
    for grant in sorted(new, key=_grant_order):
        if not _granted(grant, old):
            yield GrantChange("+", grant)
    for grant in sorted(old, key=_grant_order):
        if not _granted(grant, new):
            yield GrantChange("-", grant)


def _grant_order(grant: Grant) -> tuple[str, list[str], str]:
    return (grant.syscall, sorted(grant.classes), grant.because)


def _granted(grant: Grant, others: frozenset[Grant]) -> bool:
    same = [other for other in others if other.syscall == grant.syscall]
    if any(not other.classes for other in same):
        return True
    return bool(grant.classes) and grant.classes <= frozenset[str]().union(*(other.classes for other in same))


def lines(found: Diff) -> Iterator[str]:
    """One line each, beginning with its sign."""
    if found.client:
        yield f"{found.client} {CLIENT}"
    for change in found.changes:
        yield f"{change.sign} {text_of(change)}"


def text_of(change: Change) -> str:
    """A change without its sign, for people."""
    if isinstance(change, PromiseChange):
        kept = f", as in {' and '.join(change.others)}" if change.others else ""
        risk = f" (risk: {change.risk})" if change.risk else ""
        return f"promise {change.name} in {' and '.join(change.phases)}{kept}: {change.about}{risk}"
    if isinstance(change, PlaceChange):
        return f"{change.section}: {change.place}" + (f" (by {', '.join(change.by)})" if change.by else "")
    if isinstance(change, UserChange):
        return f"{change.section}: {change}"
    if isinstance(change, VariableChange):
        return f"variable in training: {change.name}"
    if isinstance(change, IgnoreChange):
        rule, at, because = change.ignore
        return f"lint ignores {rule}{f' at {at}' if at else ''}: {because or 'without a reason'}"
    if isinstance(change, GrantChange):
        words = " ".join((change.grant.syscall, *sorted(change.grant.classes)))
        return f"grant {words}: {change.grant.because}"
    if isinstance(change, ToleratedChange):
        entry = change.entry
        reasons = "; ".join(sorted(entry.because))
        return f"tolerates in {entry.phase}: {entry.call} at {entry.at}, {entry.errno} ({reasons})"
    if isinstance(change, AnomalyChange):
        after, before = change.after or "nothing said", change.before or "nothing said"
        return f"on-anomaly {change.detector}: {after}, before {before}"
    if isinstance(change, SettingChange):
        after, before = change.after or "nothing said", change.before or "nothing said"
        return f"{change.section}{' of ' * bool(change.name)}{change.name}: {after}, before {before}"
    use = change.use
    before = f", before only in {' and '.join(change.before)}" if change.sign == "+" and change.before else ""
    danger = f", {change.danger}" if change.danger else ""
    return f"{use.phase}: {use.call}, {change.promise}{danger}{before} ({'; '.join(sorted(use.because))})"


def described(found: Diff) -> dict[str, object]:
    """The same as plain values for JSON."""
    return {
        "widened": found.widened,
        "runtime_api": found.client,
        "variables": [vars(change) for change in found.variables],
        "promises": [vars(change) for change in found.promises],
        "places": [vars(change) for change in found.places],
        "users": [{**vars(change), "text": str(change)} for change in found.users],
        "grants": [
            {
                "sign": change.sign, "syscall": change.grant.syscall, "classes": sorted(change.grant.classes),
                "because": change.grant.because,
            }
            for change in found.grants
        ],
        "tolerates": [
            {
                "sign": change.sign, "phase": change.entry.phase, "call": str(change.entry.call),
                "at": change.entry.at, "errno": change.entry.errno, "because": sorted(change.entry.because),
            }
            for change in found.tolerates
        ],
        "on_anomaly": [vars(change) for change in found.anomalies],
        "ignores": [{"sign": change.sign, **change.ignore._asdict()} for change in found.ignores],
        "settings": [vars(change) for change in found.settings],
        "syscalls": [
            {
                "sign": change.sign, "phase": change.use.phase, "syscall": change.use.syscall,
                "class": change.use.arg_class, "promise": change.promise, "danger": change.danger,
                "before": change.before, "because": sorted(change.use.because),
            }
            for change in found.uses
        ],
    }  # fmt: skip
