"""`sandbox profile show`: what a profile allows, promises first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from sandbox.behaviour import anomaly
from sandbox.cli.arguments import Json, ProfileFile
from sandbox.cli.output import emit, json_text, on_terminal, say
from sandbox.cli.sources import profile_of
from sandbox.errors import ProfileError
from sandbox.profile import base, document
from sandbox.profile.completeness import best_estimates, still_needed
from sandbox.profile.model import PHASES, SECTIONS, Estimate, Phase, Profile, Section, Use
from sandbox.profile.promises import uses_by_promise

SAMPLES: dict[Phase, str] = {"init": "cold starts", "invoke": "invocations", "run": "runs"}


LISTED: Mapping[str, Section] = {
    "processes": "processes", "network": "network", "listens": "listen", "writes": "write",
}  # fmt: skip
"""The titles of lists whose entries may say who uses them."""


def show(
    file: ProfileFile,
    syscalls: Annotated[bool, typer.Option("--syscalls", help="List every call as well")] = False,
    json_output: Json = False,
) -> None:
    """Show what a profile allows: promises first, then programs, destinations, files and completeness.

    Example: sandbox profile show profiles/hello.yaml --syscalls
    """
    profile = document.read(profile_of(file)).profile
    if json_output:
        emit(json_text(_described(profile), indent=2) + "\n")
        return
    speaks = "speaks the Runtime API" if profile.function.runtime_api else "a plain program"
    handler = f" ({profile.function.handler})" if profile.function.handler else ""
    say(f"{profile.function.name}{handler}, {speaks}")
    if names := profile.function.environment:
        say(f"variables in training: {', '.join(names)}")
    _print_promises(profile)
    for title, values in _places(profile):
        users = profile.users(LISTED[title]) if title in LISTED else {}
        texts = (f"{value} (by {', '.join(users[value])})" if value in users else value for value in values)
        say(f"{title}: {', '.join(texts) or 'none'}")
    for grant in sorted(profile.grants, key=lambda g: (g.syscall, sorted(g.classes), g.because)):
        say(f"grant {' '.join((grant.syscall, *sorted(grant.classes)))}: {grant.because}", "yellow")
    for text in _more(profile):
        say(text)
    for title, opened in _beyond(profile):
        say(f"{title}: {', '.join(opened) or 'nothing'}")
    say(_completeness(profile))
    if syscalls:
        for phase in PHASES:
            for use in profile.phase(phase):
                by = f" (by {', '.join(sorted(use.by))})" if use.by else ""
                say(f"{phase:6} {use.call}: {use.count} times, {'; '.join(sorted(use.because))}{by}")


def _places(profile: Profile) -> tuple[tuple[str, list[str]], ...]:
    return (
        ("processes", sorted(profile.processes)),
        ("network", sorted(profile.network)),
        ("listens", sorted(profile.listen)),
        ("reads", sorted(profile.reads)),
        ("writes", sorted(profile.writes)),
    )


def _beyond(profile: Profile) -> tuple[tuple[str, list[str]], ...]:
    """What is open to every such program, whether training used it or not."""
    from sandbox.policy.build import file_fields

    read = write = frozenset[str]()
    every = []
    try:
        files = file_fields(profile)
    except ProfileError as error:  # show describes what no compiler would take
        every = [f"unknown, since {error.what}"]
    else:
        added, written = files["read"], files["write"]
        assert isinstance(added, list)
        assert isinstance(written, list)
        read, write = frozenset(added), frozenset(written)
        every = [] if files["listed"] else ["every file, since the profile lists none"]
    calls = [f"the {len({entry.syscall for entry in base.floor()})} of the floor (profiles/base/floor.yaml)"]
    if profile.function.runtime_api:
        calls.append("those of a Runtime API client (profiles/base/runtime-client.yaml)")
    return (
        ("reads beyond the profile", every or sorted(read - profile.reads)),
        ("writes beyond the profile", every or sorted(write - profile.writes)),
        ("calls beyond the profile", calls),
    )


def _more(profile: Profile) -> Iterator[str]:
    """What only some profiles hold."""
    for program, digest in sorted(profile.digests):
        yield f"{program}: by its content, SHA-256 {digest}"
    for program, interpreter in sorted(profile.interpreters):
        yield f"{program}: interpreted by {interpreter}"
    for entry in sorted(profile.tolerates):
        yield f"tolerates in {entry.phase}: {entry.call} at {entry.at}, refused with {entry.errno}"
    for place, reason in sorted(profile.listen_because):
        yield f"listens on {place}: {reason}"
    if profile.names_keep:
        yield f"names: an address stays with its name for {profile.names_keep}".replace("for forever", "for good")
    if profile.names_receives:
        yield f"names: resolvers receive by {', '.join(sorted(profile.names_receives))}"
    if profile.libraries:
        executed = sorted({one.name for one in profile.libraries if "executed" in (one.init, one.invoke, one.run)})
        yield f"libraries: {len(profile.libraries)} loaded in training, on stacks {', '.join(executed) or 'none'}"
    if profile.most:
        counts = dict(profile.most)
        said = ", ".join(f"{counts[name]} {name}" for name in anomaly.MOST if name in counts)
        yield f"one event of training: {said} at most, of what it left counted from after init"
    if profile.on_anomaly:
        yield f"on an anomaly: {', '.join(f'{name} {answer}' for name, answer in sorted(profile.on_anomaly))}"
    for rule, at, because in sorted(profile.ignores):
        yield f"lint ignores {rule}{f' at {at}' if at else ''}: {because or 'without a reason'}"
    if found := profile.verified:
        outcome = f"audit {found.audit}, enforced {found.enforce}"
        yield f"verified on {found.date} by {found.tool} with {found.events} events: {outcome}"


def _print_promises(profile: Profile) -> None:
    rows = _promises(profile)
    phases = [phase for phase in PHASES if profile.phase(phase)]
    if not on_terminal():
        for row in rows:
            calls = ", ".join(f"{phase} {row['calls'][phase]}" for phase in phases if row["calls"][phase])
            risk = f" (risk: {row['risk']})" if row["risk"] else ""
            say(f"promise {row['name']}: {row['about']}{risk}; calls: {calls}")
        return
    from sandbox.cli.terminal import show_table

    numbers = [f"{phase} calls" for phase in phases]
    cells = []
    for row in rows:
        style = {"high": "red", "medium": "yellow"}.get(row["risk"], "")
        texts = [row["name"], row["about"], row["risk"], *(str(row["calls"][phase] or "") for phase in phases)]
        cells.append([(text, style) for text in texts])
    show_table(("promise", "about", "risk", *numbers), cells, numbers=numbers)


def _promises(profile: Profile) -> list[dict[str, Any]]:
    """Each promise with how many different calls (syscall and class) each phase may make for it, and how often seen."""
    known = {promise.name: promise for promise in base.promises()}
    return [
        {
            "name": name,
            "about": known[name].about if name in known else "calls that no promise names",
            "risk": known[name].risk if name in known else "",
            "calls": {phase: sum(use.phase == phase for use in uses) for phase in PHASES},
            "seen": {phase: sum(use.count for use in uses if use.phase == phase) for phase in PHASES},
        }
        for name, uses in uses_by_promise(profile.uses).items()
    ]


def _completeness(profile: Profile) -> str:
    known = [estimate for _, estimate in best_estimates(profile.trainings)]
    if not known:
        return "completeness: unknown, the profile holds no training"
    worst = max(known, key=lambda estimate: estimate.bound)
    more = still_needed(worst.quiet)
    reach = f"{more} more quiet {SAMPLES[worst.phase]} reach 1 %" if more else "1 % is reached"
    return (
        f"completeness: worst in {worst.phase}: up to {worst.bound:.1%} of {SAMPLES[worst.phase]} may need something "
        f"unseen ({worst.samples} seen, the last {worst.quiet} quiet); {reach}. "
        "This assumes that the training events are drawn like production's."
    )


def _described(profile: Profile) -> dict[str, Any]:
    return {
        "function": vars(profile.function),
        "promises": _promises(profile),
        **dict(_places(profile)),
        "grants": [
            {"syscall": g.syscall, "classes": sorted(g.classes), "because": g.because}
            for g in sorted(profile.grants, key=lambda g: (g.syscall, sorted(g.classes), g.because))
        ],
        "tolerates": [
            {"call": str(t.call), "phase": t.phase, "at": t.at, "errno": t.errno, "because": sorted(t.because)}
            for t in sorted(profile.tolerates)
        ],
        "beyond_the_profile": {title.split()[0]: opened for title, opened in _beyond(profile)},
        "names_keep": profile.names_keep,
        "names_receives": sorted(profile.names_receives),
        "digests": sorted(profile.digests),
        "interpreters": sorted(profile.interpreters),
        "ignores": [one._asdict() for one in sorted(profile.ignores)],
        "on_anomaly": dict(sorted(profile.on_anomaly)),
        "most": dict(sorted(profile.most)),
        "by": {section: users for section in SECTIONS if (users := profile.users(section))},
        "libraries": [vars(library) for library in sorted(profile.libraries)],
        "verified": vars(profile.verified) if profile.verified else None,
        "completeness": [_estimate(id_, estimate) for id_, estimate in best_estimates(profile.trainings)],
        "syscalls": {phase: [_use(use) for use in profile.phase(phase)] for phase in PHASES if profile.phase(phase)},
    }


def _estimate(training: str, estimate: Estimate) -> dict[str, Any]:
    return {"training": training, **vars(estimate), "more_quiet_for_1_percent": still_needed(estimate.quiet)}


def _use(use: Use) -> dict[str, Any]:
    return {
        "syscall": use.syscall, "class": use.arg_class, "count": use.count, "because": sorted(use.because),
        "by": sorted(use.by),
    }  # fmt: skip


