"""Attack attempts, each run in a fresh process, under a filter or bare, and judged by its effect only.

    from sandbox.probe import ATTEMPTS, run_attempt
    results = [run_attempt(attempt, install=install) for attempt in ATTEMPTS]

Attempts that this machine's architecture does not have are left out of ATTEMPTS.
"""

from __future__ import annotations

from sandbox.probe.abi import ABI_ATTEMPTS
from sandbox.probe.attempt import GROUPS, Attempt, Effect, Result
from sandbox.probe.calls import load_calls
from sandbox.probe.execution import EXEC_ATTEMPTS
from sandbox.probe.filters import FILTER_ATTEMPTS
from sandbox.probe.network import NETWORK_ATTEMPTS
from sandbox.probe.process import PROCESS_ATTEMPTS
from sandbox.probe.raw import MACHINE, NUMBERS
from sandbox.probe.runner import run_attempt

__all__ = ["ATTEMPTS", "Attempt", "Effect", "Result", "run_attempt"]


def _registry() -> tuple[Attempt, ...]:
    written = PROCESS_ATTEMPTS + EXEC_ATTEMPTS + NETWORK_ATTEMPTS + FILTER_ATTEMPTS
    if MACHINE == "x86_64":
        written += ABI_ATTEMPTS
    known = [attempt for attempt in written + load_calls() if attempt.syscall in NUMBERS]
    return tuple(sorted(known, key=lambda attempt: GROUPS.index(attempt.group)))


ATTEMPTS: tuple[Attempt, ...] = _registry()
