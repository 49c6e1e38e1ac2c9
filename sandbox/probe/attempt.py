"""An attempt is one attack, an effect is what the attack saw, a result is the judgement on it.

result = run_attempt(attempt, install=policy.install, uid=65534)
result.verdict        # "blocked", "succeeded" or "inconclusive"
"""

from __future__ import annotations

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
