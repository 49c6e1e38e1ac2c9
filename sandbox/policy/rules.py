"""From a profile to the rules of one architecture: families closed, floor added, hard deny on top.

`rules_for` is pure; the result can answer for itself (`Rules.verdict`) what the filter must do with any call. The
verifier compares the compiled program with exactly that.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations
from typing import Literal

from sandbox.behaviour import arguments, comparison, destination
from sandbox.behaviour.call import Call
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.errors import ProfileError
from sandbox.kernel import bpf, tables
from sandbox.profile import base
from sandbox.profile.model import Profile

Origin = Literal["profile", "family", "grant", "runtime client", "floor", "launch"]

EVERY = ""
"""In place of a class: the syscall has none, or a base entry or a grant means all of them."""


@dataclass(frozen=True)
class Rule:
    """One way in which a syscall is allowed: all conditions hold. `detail` names what it comes from."""

    syscall: str
    arg_class: str
    conditions: Conjunction
    origin: Origin
    detail: str

    @property
    def call(self) -> Call:
        """What is allowed."""
        return Call(self.syscall, self.arg_class)


class _Alternatives:
    """Rules of one syscall by what they compare: each set of masked arguments with the values that some rule wants.

    A call is looked up once for each set, of which there are few, and not compared with each rule, of which a profile
    may have hundreds.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._wanted: dict[tuple[tuple[int, int], ...], set[tuple[int, ...]]] = {}
        for rule in rules:
            masked = tuple((condition.argument, condition.mask) for condition in rule.conditions)
            self._wanted.setdefault(masked, set()).add(tuple(condition.value for condition in rule.conditions))

    def holds(self, args: Sequence[int]) -> bool:
        """Whether all conditions of one of the rules hold for six register values."""
        return any(
            tuple([args[argument] & mask for argument, mask in masked]) in values
            for masked, values in self._wanted.items()
        )


@dataclass(frozen=True)
class Rules:
    """What the filter of one architecture does: allow what a rule allows, refuse the rest.

    `refuse` {number: errno} and `static` (classes that get EPERM) are refused in the kernel whatever `default` is: with
    a supervisor the default is a notification.
    """

    arch: str
    allow: Mapping[int, tuple[Rule, ...]]
    refuse: Mapping[int, int]
    default: int = bpf.ERRNO | errno.EPERM
    static: Mapping[int, tuple[Rule, ...]] = field(default_factory=dict)

    def verdict(self, arch: int, nr: int, args: Sequence[int]) -> int:
        """The action (linux/seccomp.h) for a call with an AUDIT_ARCH_* value, a number and six arguments."""
        if arch != tables.AUDIT_ARCH[self.arch]:
            return bpf.KILL_PROCESS
        if self.arch == "x86_64" and bpf.X32_BIT <= nr < bpf.NEGATIVE:
            return bpf.KILL_PROCESS
        if nr in self._allowed and self._allowed[nr].holds(args):
            return bpf.ALLOW
        if nr not in tables.names(self.arch):
            return bpf.ERRNO | errno.ENOSYS
        if nr in self.refuse:
            return bpf.ERRNO | self.refuse[nr]
        if nr in self._refused and self._refused[nr].holds(args):
            return bpf.ERRNO | errno.EPERM
        return self.default

    @cached_property
    def _allowed(self) -> Mapping[int, _Alternatives]:
        return {nr: _Alternatives(found) for nr, found in self.allow.items()}

    @cached_property
    def _refused(self) -> Mapping[int, _Alternatives]:
        return {nr: _Alternatives(found) for nr, found in self.static.items()}

    def compared(self) -> Mapping[int, tuple[Rule, ...]]:
        """All rules by number, those that allow and those that refuse."""
        return {nr: (*self.allow.get(nr, ()), *self.static.get(nr, ())) for nr in {*self.allow, *self.static}}

    def rule_for(self, nr: int, args: Sequence[int]) -> Rule | None:
        """The first rule that allows the call."""
        for rule in self.allow.get(nr, ()):
            if all(condition.holds(args) for condition in rule.conditions):
                return rule
        return None


@cache
def families() -> Mapping[str, tuple[str, ...]]:
    """For each syscall that has equals elsewhere, the others of its family."""
    path = os.path.join(os.path.dirname(tables.__file__), "families.json")
    with open(path, encoding="utf-8") as file:
        found: dict[str, tuple[str, ...]] = {}
        for family in json.load(file)["families"]:
            for member in family:
                found[member] = found.get(member, ()) + tuple(other for other in family if other != member)
    return found


def relatives(call: Call) -> Iterable[Call]:
    """The calls that do the same job; never of a wider class than the given one."""
    syscall, arg_class = call
    for other in families().get(syscall, ()):
        if arguments.classification(other) == arguments.classification(syscall) and (
            not arg_class or arg_class in arguments.partition_classes(other)
        ):
            yield Call(other, arg_class)


def exec_granted(profile: Profile) -> bool:
    """Whether the function may start programs, so that the launcher cannot close exec behind itself."""
    return any(use.syscall in ("execve", "execveat") for use in profile.uses)


def signals_granted(profile: Profile) -> bool:
    """Whether the function may signal other processes: it was seen to, or it makes some of its own."""
    return exec_granted(profile) or any(
        use.call.signals_others or (arguments.classification(use.syscall) == "clone" and use.arg_class == "process")
        for use in profile.uses
    )


def refused_quietly(profile: Profile) -> tuple[base.BaseEntry, ...]:
    """What is refused without loss and without report (profiles/base/runtime-client.yaml, `refuse` and `resolver`)."""
    known = tuple(destination.entries(profile.network))
    found: tuple[base.BaseEntry, ...] = ()
    if profile.function.runtime_api and not any(destination.by_datagram(entry) for entry in known):
        found = base.refusals()
    if any(entry.kind in ("name", "suffix") for entry in known):
        learned = {use.call for use in profile.uses}
        found += tuple(entry for entry in base.resolver() if not any(map(entry.covers, learned)))
    return found


def rules_for(profile: Profile, arch: str) -> Rules:
    """The rules of a profile on an architecture. Raises ProfileError when a class does not fit the architecture."""
    found: dict[Call, tuple[Origin, str]] = {}

    def add(call: Call, origin: Origin, detail: str) -> None:
        found.setdefault(call, (origin, detail))
        for other in relatives(call):
            found.setdefault(other, ("family", f"{call.syscall}: {detail}" if detail else call.syscall))

    denied = _denied(profile)
    quiet = refused_quietly(profile)
    for use in sorted(profile.uses):
        if not base.find(quiet, use.call):
            add(use.call.as_compared(), "profile", "; ".join(sorted(use.because)))
    for grant in sorted(profile.grants, key=lambda g: (g.syscall, sorted(g.classes), g.because)):
        for arg_class in sorted(grant.classes) or [EVERY]:
            found.setdefault(Call(grant.syscall, arg_class), ("grant", grant.because))
    for entry in base.floor():
        for arg_class in entry.classes or (EVERY,):
            add(Call(entry.syscall, arg_class), "floor", entry.because)
    if profile.function.runtime_api:
        for entry in base.runtime_client():
            for arg_class in entry.classes or (EVERY,):
                add(Call(entry.syscall, arg_class), "runtime client", entry.because)
    if not exec_granted(profile):
        found[Call("execve")] = ("launch", "the launcher's own exec, which it lets pass once")
    found.setdefault(Call("execve"), ("launch", "the launcher's own exec; the function may exec too (execveat)"))

    allow: dict[int, list[Rule]] = {}
    numbers = tables.numbers(arch)
    for (syscall, arg_class), (origin, detail) in found.items():
        if syscall not in numbers or arguments.opaque(syscall):
            continue
        against = [e for e in denied if e.syscall == syscall and not (origin == "grant" and e.grantable)]
        try:
            every = arg_class == EVERY
            alternatives = comparison.anything(syscall) if every else comparison.conditions(syscall, arg_class, arch)
        except ValueError as error:
            raise ProfileError(str(error), where=f"{profile.function.name} on {arch}") from error
        if any(_lets_through(arg_class, alternatives, entry, arch) for entry in against):
            continue
        for conditions in alternatives:
            allow.setdefault(numbers[syscall], []).append(Rule(syscall, arg_class, conditions, origin, detail))
    refuse = {
        numbers[entry.syscall]: getattr(errno, entry.errno)
        for entry in denied
        if entry.errno != "EPERM" and entry.syscall in numbers and numbers[entry.syscall] not in allow
    }
    return Rules(
        arch=arch,
        allow={nr: _simplest(rules) for nr, rules in sorted(allow.items())},
        refuse=dict(sorted(refuse.items())),
    )


def _lets_through(arg_class: str, alternatives: Sequence[Conjunction], entry: base.BaseEntry, arch: str) -> bool:
    """Whether a class lets anything through that a hard denial of its syscall means, however it is spelled."""
    if not entry.classes or arg_class == EVERY:
        return True
    if arguments.partition_classes(entry.syscall):
        return arg_class in entry.classes
    refused = [other for known in entry.classes for other in comparison.conditions(entry.syscall, known, arch)]
    return any(_overlap(conditions, other) for conditions in alternatives for other in refused)


def _overlap(one: Conjunction, other: Conjunction) -> bool:
    """Whether some arguments satisfy both."""
    return all(not (a.value ^ b.value) & a.mask & b.mask for a in one for b in other if a.argument == b.argument)


def _denied(profile: Profile) -> tuple[base.BaseEntry, ...]:
    """The hard denials that no grant lifts as a whole."""
    whole = {grant.syscall for grant in profile.grants if not grant.classes}
    return tuple(entry for entry in base.hard_deny() if not (entry.grantable and entry.syscall in whole))


def _simplest(rules: list[Rule]) -> tuple[Rule, ...]:
    """The rules without those that another one of the same syscall makes superfluous."""
    unconditional = [rule for rule in rules if not rule.conditions]
    if unconditional:
        return (unconditional[0],)
    seen: dict[Conjunction, Rule] = {}
    for rule in rules:
        seen.setdefault(rule.conditions, rule)
    # The parts of a rule are looked up, not all rules compared with it: it has few conditions, a syscall may have
    # hundreds of rules.
    known = {frozenset(conditions) for conditions in seen}
    kept = [rule for rule in seen.values() if known.isdisjoint(_parts(rule.conditions))]
    return tuple(sorted(kept, key=lambda rule: (rule.syscall, rule.conditions)))


def _parts(conditions: Conjunction) -> Iterator[frozenset[Condition]]:
    """What is left of conditions when one or more of them are dropped, but not all."""
    for size in range(1, len(conditions)):
        yield from map(frozenset, combinations(conditions, size))
