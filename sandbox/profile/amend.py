"""From violations to the smallest widening of a profile that would have allowed them. Pure; the decision is a person's.

Where a call was refused, the event ended before it showed what it would have done next: the calls of the same job
(profiles/base/together.yaml) are proposed with it. Only what a filter, a destination, a program or a path can say is
proposed. A hard-denied call never is: it is listed with what a person would have to write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sandbox.behaviour import arguments, destination, listener, spelling
from sandbox.behaviour.call import Call
from sandbox.behaviour.path import covers, rule_of
from sandbox.errors import ProfileError
from sandbox.kernel import tables
from sandbox.profile import base, document, risk
from sandbox.profile.folding import is_secret, proposed
from sandbox.profile.libraries import learned_users, placed, uses_named, with_library
from sandbox.profile.model import PHASES, Phase, Profile, Use, UsedBy
from sandbox.profile.promises import promises_of
from sandbox.profile.risk import Risk
from sandbox.profile.unfit import also_by_tcp, unfit
from sandbox.violations.record import DENIED, QUESTION, TERMINATED, Violation

REASON = "learned from violations"
"""The reason of an amended use. It begins with `learned`, so that lint still asks for a person's where it matters."""

READABLE = {"clone3": "clone", "openat2": "openat"}
"""Calls whose flags lie behind a pointer, and the ones that libc makes after ENOSYS."""

EPHEMERAL = 32768
"""From here on the kernel chooses ports for those who ask for none (net.ipv4.ip_local_port_range, man 7 ip)."""

SHOWN_OF_OTHERS = ("/proc/*/", "/proc/net/")
"""How a text begins that allows what /proc shows of others, of whichever process (sandbox/behaviour/proc.py)."""

_WRITING = ("wpath", "cpath", "dpath", "fattr")
_SECTIONS: Mapping[str, Literal["processes", "network", "listen", "reads", "writes"]] = {
    "processes": "processes", "network": "network", "listen": "listen", "files.read": "reads", "files.write": "writes",
}  # fmt: skip


@dataclass(frozen=True)
class Proposal:
    """One line that the profile would get: its text, its risk, how many violations ask for it, and one of them.

    Where none does, `because` says why it goes with the violation.
    """

    change: str
    risk: Risk
    evidence: int
    example: Violation
    because: str = ""


@dataclass(frozen=True)
class Refusal:
    """What is not proposed: the call or place, why, and what a person would write ('' when nothing allows it)."""

    what: str
    reason: str
    how: str
    evidence: int
    example: Violation


@dataclass(frozen=True)
class Amendment:
    """The widened profile, what was added, and what was not."""

    profile: Profile
    proposals: tuple[Proposal, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class _Wish:
    """A change that one violation asks for: a use, or a place in a section. Refused when `reason` is set.

    `entry`: the place was to be made or removed, a right of the folder that it lies in.
    """

    use: Use | None = None
    section: str = ""
    place: str = ""
    entry: bool = False
    what: str = ""
    reason: str = ""
    how: str = ""


def propose(profile: Profile, violations: Iterable[Violation]) -> Amendment:
    """The smallest widening of a profile that allows the violations.

    The order of the violations decides nothing but which one is the example. Raises nothing for a field that means
    nothing: such a violation is among the refusals.
    """
    counts: dict[_Wish, int] = {}
    examples: dict[_Wish, Violation] = {}
    asked = _without_guesses(list(violations))
    uses: set[UsedBy] = set()
    reached = tuple(destination.entries({*profile.network, *(violation.target for violation in asked)}))
    for violation in asked:
        for wish in _wishes(profile, violation, reached):
            counts[wish] = counts.get(wish, 0) + 1
            examples.setdefault(wish, violation)
            if not wish.reason:
                uses.update(uses_named(violation, wish.section, wish.place))
    counts, examples = _generalised(profile, *_own_ports(profile, counts, examples))
    added: list[Use] = []
    places: dict[str, set[str]] = {}
    proposals, refusals = [], []
    for wish in counts:
        if wish.section and not wish.reason:
            places.setdefault(_SECTIONS[wish.section], set()).add(wish.place)
    wider = _with_places(profile, places)
    new = {(wish.section.removeprefix("files."), wish.place) for wish in counts if not wish.reason}
    by = learned_users(frozenset(use for use in placed(uses, wider) if (use.section, use.entry) in new))
    for wish, count in counts.items():
        if wish.reason:
            refusals.append(Refusal(wish.what, wish.reason, wish.how, count, examples[wish]))
        elif wish.use:
            use = replace(wish.use, count=count)
            added.append(use)
            change = spelling.of_use(use.phase, use.call, count)
            proposals.append(Proposal(change, risk.of_call(use.call), count, examples[wish]))
        else:
            section = wish.section.removeprefix("files.")
            names = sorted(use.distribution for use in by if (use.section, use.entry) == (section, wish.place))
            change = spelling.of_entry(wish.section, wish.place, names)
            proposals.append(Proposal(change, risk.of_entry(wish.section), count, examples[wish]))
    for companion, because, of in _companions(profile, added, examples):
        added.append(companion)
        change = spelling.of_use(companion.phase, companion.call)
        proposals.append(Proposal(change, risk.of_call(companion.call), 0, of, because))
    calls = profile.uses | frozenset(added)
    widened = replace(wider, uses=calls, promises=promises_of(calls), by=profile.by | by)
    order = {"high": 0, "medium": 1, "low": 2}
    return Amendment(
        widened if proposals else profile,
        tuple(sorted(proposals, key=lambda p: (order[p.risk], p.change))),
        tuple(sorted(refusals, key=lambda r: (r.what, r.reason))),
    )


def _with_places(profile: Profile, places: Mapping[str, set[str]]) -> Profile:
    return replace(
        profile,
        processes=profile.processes | places.get("processes", set()),
        network=profile.network | places.get("network", set()),
        listen=profile.listen | places.get("listen", set()),
        reads=profile.reads | places.get("reads", set()),
        writes=profile.writes | places.get("writes", set()),
    )


def _companions(
    profile: Profile, added: Sequence[Use], examples: Mapping[_Wish, Violation]
) -> list[tuple[Use, str, Violation]]:
    """The uses that belong to the job of an added one, if it was refused, each with the reason and the violation.

    A program that is started does at its own start much of what the function did at its: what is harmless of that.
    """
    refused = {
        (wish.use.phase, wish.use.call): violation for wish, violation in examples.items()
        if wish.use and violation.verdict in (DENIED, TERMINATED)
    }  # fmt: skip
    known = {(use.phase, use.call) for use in (*profile.uses, *added)}
    found: list[tuple[Use, str, Violation]] = []
    for use in sorted(added, key=lambda use: use.key):
        violation = refused.get((use.phase, use.call))
        if violation is None:
            continue
        lines = [(call, line.because) for line in base.together() if use.call in line.when for call in line.then]
        if use.syscall in tables.EXECS and use.phase == "invoke":
            of_init = sorted(use.call for use in profile.uses if use.phase == "init")
            harmless = [call for call in of_init if risk.of_call(call) == "low"]
            lines += [(call, "a program may begin as the function did") for call in harmless]
        for call, because in lines:
            if (use.phase, call) not in known and not base.denial(call) and not base.find(base.refusals(), call):
                known.add((use.phase, call))
                found.append((Use(use.phase, *call, 0, frozenset({REASON})), because, violation))
    return found


def _own_ports(
    profile: Profile, counts: Mapping[_Wish, int], examples: Mapping[_Wish, Violation]
) -> tuple[dict[_Wish, int], dict[_Wish, Violation]]:
    """The wishes with `own`, as training learns it, for a connect on loopback to a port that the kernel chose.

    Only where the function listens at such a port: `own` is what itself is bound to, so that nothing else is opened.
    """
    listens = {*profile.listen, *(wish.place for wish in counts if wish.section == "listen" and not wish.reason)}
    chosen = any(
        entry.kind == "address" and entry.port in (destination.ANY_PORT, listener.CHOSEN)
        for entry in listener.entries(listens)
    )
    found: dict[_Wish, int] = {}
    shown: dict[_Wish, Violation] = {}
    for wish, count in counts.items():
        changed = wish
        if chosen and wish.section == "network" and not wish.reason and destination.OWN not in profile.network:
            entry = destination.parse(wish.place)
            address = entry.value if isinstance(entry.value, bytes) and entry.kind == "address" else b""
            here = entry.value == "localhost" or (address and destination.is_loopback(address))
            if here and entry.port >= EPHEMERAL:
                changed = _Wish(section="network", place=destination.OWN)
        found[changed] = found.get(changed, 0) + count
        shown.setdefault(changed, examples[wish])
    return found, shown


def _generalised(
    profile: Profile, counts: Mapping[_Wish, int], examples: Mapping[_Wish, Violation]
) -> tuple[dict[_Wish, int], dict[_Wish, Violation]]:
    """The wishes with places of files as training would have learned them, and refused where a person must decide."""
    written = [wish for wish in counts if wish.section == "files.write" and not wish.reason]
    read = [wish for wish in counts if wish.section == "files.read" and not wish.reason]
    entries = [wish.place for wish in written if wish.entry]
    patterns = {"files.write": proposed((wish.place for wish in written), entries)}
    widened = [*profile.writes, *patterns["files.write"].values()]
    covered = {wish.place for wish in read if any(covers(pattern, wish.place) for pattern in widened)}
    patterns["files.read"] = proposed(wish.place for wish in read if wish.place not in covered)
    found: dict[_Wish, int] = {}
    shown: dict[_Wish, Violation] = {}
    for wish, count in counts.items():
        changed = wish
        if not wish.reason and wish.section in patterns:
            if wish.section == "files.read" and wish.place in covered:
                changed = _Wish(what=wish.what, reason="is written in, and so may be read")
            else:
                pattern = patterns[wish.section][wish.place]
                changed = _Wish(section=wish.section, place=pattern)
                if is_secret(pattern) or is_secret(wish.place):
                    how = spelling.of_entry(wish.section, pattern)
                    changed = _Wish(what=wish.what, reason="may hold secrets: a person decides", how=how)
        found[changed] = found.get(changed, 0) + count
        shown.setdefault(changed, examples[wish])
    return found, shown


def _without_guesses(violations: Sequence[Violation]) -> list[Violation]:
    """Without the DNS questions for names that were connected to as well: a question does not know the port."""
    targets = (violation.target for violation in violations if not _is_question(violation))
    connected = {entry.value for entry in destination.entries(targets) if entry.kind == "name"}
    return [
        violation for violation in violations
        if not (_is_question(violation) and any(e.value in connected for e in destination.entries((violation.target,))))
    ]  # fmt: skip


def _is_question(violation: Violation) -> bool:
    return violation.syscall == "connect" and violation.reason.startswith(QUESTION)


def _wishes(profile: Profile, violation: Violation, reached: Collection[destination.Entry]) -> Iterable[_Wish]:
    """What one violation asks for; one refusal when any part of it cannot be had. `reached` is what others name."""
    what, target = str(violation.call), violation.target
    phase = _phase(profile, violation.phase)
    if violation.syscall not in tables.every_name():
        yield _Wish(what=what, reason=f"is not a system call of Linux {tables.LINUX}")
        return
    if phase is None:
        yield _Wish(what=what, reason=f"the phase {violation.phase!r} is none of this function's")
        return
    if violation.anomaly:
        section, place, _ = _thing(violation.call, violation)
        yield _Wish(what=f"{what} {target}".strip(), reason=f"is suspected ({violation.anomaly}): a person decides",
                    how=with_library(profile, violation, section, place) or violation.allow)  # fmt: skip
        return
    call = Call(READABLE.get(violation.syscall, violation.syscall), violation.arg_class)
    denied = base.denial(call)
    if denied is not None:
        if not _granted(profile, call):
            classes = (call.arg_class,) if denied.classes else ()
            how = spelling.of_grant(call.syscall, classes) if denied.grantable else ""
            yield _Wish(what=what, reason=f"is hard-denied: {denied.because}", how=how)
            return
    elif problem := _problem(profile, phase, call):
        yield _Wish(what=what, reason=problem)
        return
    elif (without := base.find(base.refusals(), call)) and not _sends_datagrams(profile):
        how = "a destination under network that begins with udp://"
        yield _Wish(what=what, reason=f"is refused without loss: {without.because}", how=how)
        return
    if violation.allow.startswith("files.read: [") and violation.allow.strip('"]').endswith("/**"):
        reason = "reads what was put in the place of another file: a person decides about the folder"
        yield _Wish(what=f"{what} {target}", reason=reason, how=violation.allow)
        return
    if call.syscall in tables.EXECS and "sha256: [" in violation.allow:
        reason = "lies where the function writes: a person decides whether it is what it should be"
        yield _Wish(what=f"{what} {target}", reason=reason, how=violation.allow)
        return
    section, target, entry = _thing(call, violation)
    refused = unfit(section, target, asked=_is_question(violation))
    if not refused and call.syscall == "connect":
        refused = also_by_tcp(target, reached)
    if refused:
        yield _Wish(what=f"{what} {target}", reason=refused[0], how=refused[1])
        return
    found = []
    if denied is None and not any((use.phase, use.call) == (phase, call) for use in profile.uses):
        found.append(_Wish(use=Use(phase, *call, 0, frozenset({REASON}))))
    if section and not _allows(profile, section, target):
        found.append(_Wish(section=section, place=target, entry=entry, what=f"{what} {target}"))
    yield from found or [_Wish(what=f"{what} {target}".strip(), reason="is allowed by the profile already")]


def _phase(profile: Profile, name: str) -> Phase | None:
    valid = ("init", "invoke") if profile.function.runtime_api else ("run",)
    return next((phase for phase in PHASES if phase == name and phase in valid), None)


def _granted(profile: Profile, call: Call) -> bool:
    return any(
        grant.syscall == call.syscall and (not grant.classes or call.arg_class in grant.classes)
        for grant in profile.grants
    )


def _sends_datagrams(profile: Profile) -> bool:
    return any(map(destination.by_datagram, destination.entries(profile.network)))


def _problem(profile: Profile, phase: Phase, call: Call) -> str:
    """Why a profile cannot hold the use, in the words of whoever would read it; '' when it can."""
    if not call.arg_class and arguments.opaque(call.syscall):
        return arguments.opaque(call.syscall)
    use = Use(phase, *call, 1, frozenset({REASON}))
    try:
        document.parse(document.write(Profile(profile.function, frozenset({use}))), "the profile")
    except ProfileError as error:
        return error.what
    return ""


def _thing(call: Call, violation: Violation) -> tuple[str, str, bool]:
    """(section, thing, whether it is an entry of a folder) of a violation's target; the text that it allows tells more.

    A place in the function's folder is {root}/... where the text says so. ('', target, False) for no section.
    """
    target = violation.target
    section = _section(call) if target else ""
    entry = section == "files.write" and (call.arg_class == "create" or base.promise_of(call) in ("cpath", "dpath"))
    if section == "listen" and target.startswith("family:"):
        section = "network"  # what sockets of a family do, an entry of it allows
    if section in ("network", "listen"):
        return section, target, False
    if section == "processes":
        text = violation.allow.removeprefix("processes: [").rstrip("]").strip('"')
        named, inside, _ = rule_of(text)
        return section, text if named and target.endswith(inside) else target, False
    for name in ("files.read", "files.write"):
        if target and violation.allow.startswith(f"{name}: ["):
            text = violation.allow[len(name) + 3 : -1].strip('"')
            if text.startswith(SHOWN_OF_OTHERS):
                return name, text, False
            folder, below, whole = rule_of(text)
            entry = name == "files.write" and whole
            inside = f"{below}/{target.rpartition('/')[2]}" if whole else below
            thing = folder + inside if folder and inside and target.endswith(inside) else target
            return name, thing, entry
    return section, target, entry


def _section(call: Call) -> str:
    """Which list of the profile a call's target belongs to; '' for calls whose target no list holds."""
    if call.syscall in tables.WITH_DESTINATION:
        return "network"
    if call.syscall in tables.LISTENS:
        return "listen"
    if call.syscall in tables.EXECS:
        return "processes"
    promise = base.promise_of(call)
    return "files.write" if promise in _WRITING else "files.read" if promise == "rpath" else ""


def _allows(profile: Profile, section: str, target: str) -> bool:
    known: frozenset[str] = getattr(profile, _SECTIONS[section])
    if section.startswith("files"):
        return any(covers(pattern, target) for pattern in known)
    if section == "listen":
        bound = listener.parse(target)
        return any(listener.covers(entry, bound) for entry in listener.entries(known))
    if section == "network":
        wanted = destination.parse(target)
        return any(destination.covers(entry, wanted) for entry in destination.entries(known))
    return target in known
