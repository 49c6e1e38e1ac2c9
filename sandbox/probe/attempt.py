"""An attempt is one attack, an effect is what the attack saw, a result is the judgement on it.

result = run_attempt(attempt, install=policy.install, uid=65534)
result.verdict        # "blocked", "succeeded" or "inconclusive"

The judgement is a pure function of the effect, the evidence and the death. A crash, a time-out and an errno of the
world (ENOENT, ECONNREFUSED ...) are never a block.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sandbox.probe.scene import Scene

Verdict = Literal["blocked", "succeeded", "inconclusive"]

GROUPS = ("process", "exec", "network", "memory", "kernel", "files", "signals", "abi", "filter")


@dataclass(frozen=True)
class Effect:
    """What the attacker's side saw: whether it got what it wanted, or the errno of the call that refused."""

    happened: bool
    errno: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Attempt:
    """One attack.

    `syscall` and `args` are the decisive call, for asking a policy which rule applies: pointers are 0 or 1,
    numbers that only the run knows (a pid, a descriptor) are 1. `live` says how a bare run shows that the
    attempt is live. `reached` holds the errnos that prove that the call got past a filter into the kernel;
    `refused` those with which a kernel refuses it by itself, to lack of privilege or of the feature.
    `enosys` marks calls for which ENOSYS is a filter's designed answer. `evidence` is what the parent looks
    for afterwards (see sandbox/probe/evidence.py); "" when the errno or the return value is all there is.
    """

    id: str
    group: str
    title: str
    technique: str
    syscall: str
    args: tuple[int, ...]
    run: Callable[[Scene], Effect]
    live: str
    reached: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    enosys: bool = False
    evidence: str = ""


@dataclass(frozen=True)
class Result:
    """What became of an attempt; `errno` is the name (EPERM ...) or ""."""

    attempt: str
    verdict: Verdict
    errno: str
    detail: str


REFUSALS = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True)
class AttemptEnd:
    """What the parent holds in hand after an attempt.

    `effect` is None when nothing was reported; then `failure` says why if the attempt could say it, `signal`
    is the one that ended it, `exit_status` the status it left with, and all are empty after a time-out.
    `seen` is the evidence: True or False, None where there was nothing to look at.
    """

    effect: Effect | None
    seen: bool | None
    failure: str = ""
    signal: int | None = None
    exit_status: int | None = None


def errno_name(number: int | None) -> str:
    """The errno's name ("EPERM"), its digits if it has none, "" for None or 0."""
    return errno.errorcode.get(number, str(number)) if number else ""


def judge(attempt: Attempt, outcome: AttemptEnd, *, bare: bool) -> Result:
    """The verdict on an attempt; `bare` tells that no filter was installed before it."""
    effect = outcome.effect
    kind = attempt.evidence.partition(":")[0]
    if outcome.seen:
        said = effect.detail if effect is not None else "the process image was replaced"
        return Result(attempt.id, "succeeded", "", f"{said}; seen by the parent ({kind})")
    if effect is None:
        return _without_report(attempt, outcome)
    if effect.happened:
        if outcome.seen is None:
            return Result(attempt.id, "succeeded", "", effect.detail)
        return Result(
            attempt.id, "inconclusive", "", f"{effect.detail}; claimed, but not seen by the parent ({kind})"
        )
    return _refusal(attempt, effect, bare=bare)


def _without_report(attempt: Attempt, outcome: AttemptEnd) -> Result:
    if outcome.failure:
        return Result(attempt.id, "inconclusive", "", outcome.failure)
    if outcome.signal is not None:
        name = signal.Signals(outcome.signal).name
        if outcome.signal == signal.SIGSYS and attempt.group == "abi":
            return Result(attempt.id, "blocked", "", "killed by SIGSYS")
        return Result(attempt.id, "inconclusive", "", f"died of {name}")
    if outcome.exit_status is not None:
        if attempt.group == "exec":
            # An attempt never leaves normally without a report, so another program has taken its place.
            detail = f"the process image was replaced; it left with status {outcome.exit_status}"
            return Result(attempt.id, "succeeded", "", detail)
        return Result(attempt.id, "inconclusive", "", f"exit status {outcome.exit_status}, no report")
    return Result(attempt.id, "inconclusive", "", "no report in time")


def _refusal(attempt: Attempt, effect: Effect, *, bare: bool) -> Result:
    number = effect.errno
    name = errno_name(number)
    if number is None:
        return Result(attempt.id, "inconclusive", "", effect.detail or "no effect and no errno")
    if number in attempt.reached:
        return Result(
            attempt.id, "succeeded", name, _said(f"{name} shows that it reached the kernel", effect)
        )
    if bare and number in attempt.refused:
        return Result(attempt.id, "blocked", name, _said("the kernel itself refuses, unfiltered", effect))
    if number in REFUSALS or (number == errno.ENOSYS and attempt.enosys):
        why = "refused"
        if number in attempt.refused:
            why = "refused (without privilege the kernel would refuse it too)"
        return Result(attempt.id, "blocked", name, _said(why, effect))
    return Result(attempt.id, "inconclusive", name, _said("not an answer of a filter", effect))


def _said(why: str, effect: Effect) -> str:
    return f"{why}; {effect.detail}" if effect.detail else why
