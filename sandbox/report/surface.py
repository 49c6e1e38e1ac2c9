"""The attack surface that a profile leaves: every system call of the tables, its risk, and what becomes of it.

The answers are read off the rules that are compiled (sandbox/policy/supervision.py), and the risks are those of
sandbox/profile/risk.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sandbox.behaviour.call import Call
from sandbox.kernel import tables
from sandbox.policy import supervision
from sandbox.policy.rules import Rule, exec_granted
from sandbox.profile import base
from sandbox.profile.model import Profile
from sandbox.profile.risk import of_call

Standing = Literal["allowed", "in part", "init only", "refused"]
STANDINGS: tuple[Standing, ...] = ("allowed", "in part", "init only", "refused")
RISKS = ("high", "medium", "low")

MEANINGS: Mapping[Standing, str] = {
    "allowed": "whatever its arguments are",
    "in part": "with some arguments only",
    "init only": "until the first event, where a supervisor runs",
    "refused": "the kernel does not carry it out",
}
MARKS: Mapping[Standing, str] = {"allowed": "\u25a0", "in part": "\u25e2", "init only": "\u25a1", "refused": "\u00b7"}
"""What stands for each in a picture: a square, a half, a hollow one, a dot."""


@dataclass(frozen=True)
class SystemCall:
    """One system call: how much it says of an attack, and what becomes of it.

    `classes` are the argument classes that are allowed, none where arguments do not matter; `because` says why it is
    allowed, or why no training lifts the refusal.
    """

    name: str
    risk: str
    standing: Standing
    classes: tuple[str, ...] = ()
    because: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surface:
    """All system calls of one architecture."""

    arch: str
    calls: tuple[SystemCall, ...]
    withheld: tuple[base.Promise, ...]
    """The promises with a risk of which no call is allowed at all."""

    @cached_property
    def _counts(self) -> Counter[tuple[str, str]]:
        return Counter((call.risk, call.standing) for call in self.calls)

    def count(self, risk: str, standing: str) -> int:
        """How many calls of a risk stand so."""
        return self._counts[risk, standing]

    def of(self, risk: str) -> tuple[SystemCall, ...]:
        """The calls of a risk: what is open first."""
        found = (call for call in self.calls if call.risk == risk)
        return tuple(sorted(found, key=lambda call: (STANDINGS.index(call.standing), call.name)))

    def standing(self, standing: str) -> int:
        """How many calls stand so."""
        return sum(self.count(risk, standing) for risk in RISKS)

    @property
    def open_high(self) -> tuple[SystemCall, ...]:
        """The calls of high risk that are allowed in any way."""
        return tuple(call for call in self.of("high") if call.standing != "refused")


def surface_of(profile: Profile) -> Surface:
    """What a profile leaves open on the architecture that it was trained on (x86_64 where nothing says which).

    Raises ProfileError for a profile that does not compile.
    """
    trained = {training.architecture for training in profile.trainings} & {*tables.ARCHES}
    arch = "aarch64" if trained == {"aarch64"} else "x86_64"
    both = supervision.filters(profile, arch)
    users: dict[str, set[str]] = {}
    for use in profile.uses:
        users.setdefault(use.syscall, set()).update(use.by)
    started = exec_granted(profile)
    calls = []
    for name, number in tables.numbers(arch).items():
        plain, later = (
            [rule for rule in rules.allow.get(number, ()) if started or rule.origin != "launch"]
            for rules in (both.plain, both.later)
        )
        calls.append(_call(name, plain, later, users.get(name, ())))
    open_ = {
        base.promise_of(rule.call) for rules in both.plain.allow.values() for rule in rules
        if rule.origin not in ("floor", "launch")
    }  # fmt: skip
    withheld = tuple(promise for promise in base.promises() if promise.risk and promise.name not in open_)
    return Surface(arch, tuple(sorted(calls, key=lambda call: call.name)), withheld)


def _call(name: str, plain: list[Rule], later: list[Rule], users: Iterable[str]) -> SystemCall:
    risk = of_call(Call(name))
    if not plain:
        denied = base.denial(Call(name))
        why = denied.because if denied and not denied.classes else ""
        return SystemCall(name, risk, "refused", because=why)
    standing: Standing = "init only" if not later else "in part"
    if any(not rule.conditions for rule in later):
        standing = "allowed"
    classes = tuple(sorted({rule.arg_class for rule in later or plain} - {""})) if standing != "allowed" else ()
    because = tuple(dict.fromkeys(_because(rule) for rule in later or plain))
    return SystemCall(name, risk, standing, classes, "; ".join(because), tuple(sorted(users)))


def _because(rule: Rule) -> str:
    words = {"floor": "every program", "runtime client": "Runtime API client", "grant": "granted", "family": "as"}
    origin = words.get(rule.origin, "")
    return f"{origin}{' ' if rule.origin == 'family' else ': '}{rule.detail}" if origin else rule.detail
