"""From measurements to a verdict: which tier of protection this platform gives, what that means, and what to set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sandbox.doctor.installation import IN_FORCE, KILLABLE, LISTENER
from sandbox.doctor.listening import DUPLICATE, LET_THROUGH, MEMORY, ROUND_TRIP
from sandbox.doctor.measured import Measured
from sandbox.doctor.surroundings import FORK, SENSOR, SHARED
from sandbox.doctor.tripwire import TRIPWIRE

Tier = Literal["kernel + supervisor", "kernel only", "detects", "sensor only", "nothing", "not known"]

MEANS: dict[Tier, str] = {
    "kernel + supervisor": "The kernel refuses what the profile does not allow, and a supervisor reports each attempt "
    "as it happens.",
    "kernel only": "The kernel refuses what the profile does not allow, in silence: no reports, no end of the init "
    "phase's rights, no destinations by name.",
    "detects": "No filter can be installed: nothing contains the function. A tripwire refuses and reports what goes "
    "through glibc; whoever makes system calls by itself passes it.",
    "sensor only": "No filter can be installed: nothing is refused. Python's audit hooks can hear what a Python "
    "function does, which injected native code can go around.",
    "nothing": "No filter can be installed and nothing can be heard: nothing is refused and nothing reported.",
    "not known": "No process can be made to try anything in, so that nothing was measured. A supervisor cannot be "
    "started either.",
}


FILTER = ("seccomp(2)", IN_FORCE, FORK)
SUPERVISOR = (LISTENER, ROUND_TRIP, LET_THROUGH, SHARED)
"""What a tier rests on."""


@dataclass(frozen=True)
class Assessment:
    """`settings` are variables to set; `why` says what is missing for the tier above, `notes` what else is less."""

    tier: Tier
    means: str
    why: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def judge(measured: Measured) -> Assessment:
    """The verdict on what was measured."""
    tier = _tier(measured)
    why = tuple(_missing(measured, tier))
    return Assessment(tier, MEANS[tier], why, _settings(tier), tuple(_notes(measured, tier)))


def _tier(measured: Measured) -> Tier:
    if all(probed.outcome == "not tried" for probed in measured.probes.values()):
        return "not known" if measured.facts.machine in ("x86_64", "aarch64") else "nothing"
    if not measured.works(IN_FORCE):
        if measured.works(TRIPWIRE):
            return "detects"
        return "sensor only" if measured.works(SENSOR) else "nothing"
    if all(map(measured.works, SUPERVISOR)):
        return "kernel + supervisor"
    return "kernel only"


def _settings(tier: Tier) -> tuple[tuple[str, str], ...]:
    if tier == "kernel + supervisor":
        return ("SANDBOX_SUPERVISE", "1"), ("SANDBOX_ON_UNAVAILABLE", "fail")
    if tier == "kernel only":
        return ("SANDBOX_SUPERVISE", "0"), ("SANDBOX_ON_UNAVAILABLE", "fail")
    if tier == "not known":
        return (("SANDBOX_SUPERVISE", "0"),)
    if tier == "detects":
        return ("SANDBOX_SUPERVISE", "0"), ("SANDBOX_ON_UNAVAILABLE", "detect")
    return ("SANDBOX_SUPERVISE", "0"), ("SANDBOX_ON_UNAVAILABLE", "warn")


def _missing(measured: Measured, tier: Tier) -> Iterator[str]:
    """What stands between this platform and the tier above."""
    if tier == "kernel + supervisor":
        return
    lacking = () if tier in ("kernel only", "detects") else (TRIPWIRE,)
    for name in (*(SUPERVISOR if tier == "kernel only" else FILTER), *lacking):
        if not measured.works(name) and name in measured.probes:
            yield f"{name}: {said(measured, name)}"
    if not measured.works(IN_FORCE) and measured.facts.no_new_privs == 0:
        yield "NoNewPrivs is not set, and a process that may not set it itself must be started with it"


def _notes(measured: Measured, tier: Tier) -> Iterator[str]:
    """What is less than it could be, within the tier."""
    landlock = measured.probes.get("Landlock")
    abi = int(landlock.detail.removeprefix("ABI ")) if landlock and landlock.works else 0
    if tier in ("kernel + supervisor", "kernel only"):
        if not abi:
            yield f"Landlock: {said(measured, 'Landlock')}; files, programs and ports are not limited"
        elif abi < 4:
            yield f"Landlock ABI {abi}: files and programs are limited, TCP ports are not (ABI 4, Linux 6.7)"
    elif abi:
        yield f"Landlock ABI {abi} works: with SANDBOX_ON_UNAVAILABLE=warn its limits on files and ports are in force"
    if tier != "kernel + supervisor":
        return
    if not measured.works(DUPLICATE):
        if measured.outcome(DUPLICATE) == "refused":
            means = "the supervisor makes the function's sockets, and refuses to connect those that it did not make"
        else:
            means = "a supervisor cannot connect in the function's place"
        yield f"{DUPLICATE}: {said(measured, DUPLICATE)}; {means}"
    if not any(map(measured.works, MEMORY)):
        yield "the function's memory cannot be read: neither addresses nor paths in the reports"
    if not measured.works(KILLABLE):
        yield "no WAIT_KILLABLE_RECV (Linux 5.19): a signal may interrupt a call that waits for the supervisor"
    if not measured.works("notification SYNC_WAKE_UP"):
        yield "no SYNC_WAKE_UP (Linux 6.6): the way to the supervisor and back takes longer"
    if not measured.works("prctl SET_DUMPABLE"):
        yield "prctl is refused: the supervisor cannot close its memory to processes of the same user"
    if not measured.works("loopback UDP"):
        yield "loopback cannot be bound: no destinations by name"


def said(measured: Measured, name: str) -> str:
    """The outcome of a probe in words."""
    probed = measured.probes.get(name)
    if probed is None:
        return "not tried"
    return " ".join(part for part in (probed.outcome, probed.errno, probed.detail) if part)


WIDTH = 44


def lines(measured: Measured, verdict: Assessment) -> Iterator[str]:
    """The report; the verdict comes last, where a terminal shows it."""
    for name, value in measured.facts.named():
        yield f"{name:{WIDTH}} {'?' if value is None else value}"
    yield ""
    for name in measured.probes:
        yield f"{name:{WIDTH}} {said(measured, name)}"
    yield ""
    yield f"verdict: {verdict.tier}"
    yield f"  {verdict.means}"
    for reason in verdict.why:
        yield f"  missing: {reason}"
    for note in verdict.notes:
        yield f"  note: {note}"
    for name, value in verdict.settings:
        yield f"  set: {name}={value}"
