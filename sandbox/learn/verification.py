"""Serving the events of a training once more, under the profile that was made of them: audited, then enforced.

Each mode gets one start in a clean place, with sight of files. An event that fails, and an access that is reported or
refused though training made it, is a disagreement between what is learned and what is enforced. What the hard deny
refused in training already, it refuses again, which is no disagreement as long as the function goes on.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sandbox import __version__
from sandbox.errors import InstallRefused, PolicyWritable, SandboxError, printable
from sandbox.kernel import tables
from sandbox.learn import program
from sandbox.learn.place import StartPlace
from sandbox.learn.training import CLOSE_EVERY, TrainingPlan, run_program
from sandbox.learn.visits import visits
from sandbox.policy import build
from sandbox.profile.model import Profile, Verified
from sandbox.runtime_api import Environment
from sandbox.runtime_api.model import exit_text
from sandbox.runtime_api.variables import masked
from sandbox.violations.reader import BEGIN, lines

AUDIT, ENFORCE = MODES = "audit", "enforce"
OK = "ok"
"""The outcome of a mode, or how it begins where something of the policy was not in force."""
ABSENT = "not installed"
"""How the outcome of a mode begins that this host refuses."""
MOST = 5
"""Accesses that an outcome names."""
LOG_LINES = 5
NOT_INSTALLED: tuple[type[SandboxError], ...] = (InstallRefused, *InstallRefused.__subclasses__(), PolicyWritable)
"""Errors of a start that speak of the host, not of the profile."""
STATUS_LINE = b'{"event": "sandbox"'


@dataclass(frozen=True)
class Served:
    """What became of the events in one mode.

    `failed` is what failed, '' for nothing; `accesses` what was reported or refused; `absent` why nothing could be
    installed; `lacking` what the policy asks for and this host does not have; `log` the last lines of the function.
    """

    mode: str
    failed: str = ""
    accesses: tuple[str, ...] = ()
    absent: str = ""
    lacking: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against the profile; a host that cannot enforce it does not."""
        return bool(self.absent) or not (self.failed or self.accesses)

    @property
    def outcome(self) -> str:
        """In words, for the profile."""
        if self.absent:
            return f"{ABSENT}: {self.absent}"
        if self.agrees:
            return OK + (f", but not in force here: {', '.join(self.lacking)}" if self.lacking else "")
        more = len(self.accesses) - MOST
        return "; ".join([*self.accesses[:MOST], *([f"{more} more"] if more > 0 else [])]) or self.failed


@dataclass(frozen=True)
class Verification:
    """The two modes, and how many events were served; 0 is one run of a plain program."""

    events: int
    audit: Served
    enforce: Served

    @property
    def modes(self) -> tuple[Served, Served]:
        """Both."""
        return self.audit, self.enforce

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against the profile."""
        return all(mode.agrees for mode in self.modes)

    def written(self) -> Verified:
        """As the profile says it."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return Verified(today, __version__, self.events, self.audit.outcome, self.enforce.outcome)


def verify(plan: TrainingPlan, profile: Profile, denied: frozenset[str]) -> Verification:
    """Serve the events of the plan under the profile. `denied` are the calls that training was refused.

    Raises ProfileError, KernelUnsupported or PolicyUnverified for a profile that cannot be compiled, and what starting
    the function raises.
    """
    found = []
    with plan.place() as place:
        for mode in MODES:
            policy = os.path.join(place.layout.scratch, f"{mode}-policy")
            build.write(build.build(place.as_enforced(profile, mode), (tables.machine(),)), policy)
            build.close(policy)
            found.append(_without_values(_served(plan, place, mode, policy, denied), plan.environment))
    return Verification(len(plan.events), *found)


def _without_values(served: Served, variables: Mapping[str, str]) -> Served:
    """With the names of variables in place of their values: the outcome is written into the profile."""

    def plain(texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(masked(text, variables) for text in texts)

    (failed, absent), accesses, log = plain((served.failed, served.absent)), plain(served.accesses), plain(served.log)
    return replace(served, failed=failed, absent=absent, accesses=accesses, log=log)


def _served(plan: TrainingPlan, place: StartPlace, mode: str, policy: str, denied: frozenset[str]) -> Served:
    journal, log_file = policy + ".journal", policy + ".log"
    variables = {
        **plan.settings(), "SANDBOX_POLICY": place.inside(policy), "SANDBOX_MODE": mode, "SANDBOX_FILES": "look",
        **place.variables(mode),
    }  # fmt: skip
    with open(journal, "wb") as collector, program.piped(log_file) as log:
        collected = collector.fileno()
        variables["SANDBOX_EVENTS"] = f"fd:{collected}"
        if plan.events:
            failed, error_type = _events(plan, place, variables, log, collected, mode)
            refused = error_type in {error.error_type for error in NOT_INSTALLED}
        else:
            run = run_program(plan, place, variables, log, pass_fds=(collected,))
            failed = f"the run: {run.problem}" if run.problem else ""
            refused = run.status in {error.exit_code for error in NOT_INSTALLED}
    with open(log_file, "rb") as log:
        text = log.read()
    said = [line for line in text.splitlines() if not line.startswith(BEGIN)]
    tail = tuple(line.decode(errors="replace") for line in said[-LOG_LINES:])
    status_line = _status_line(text)
    if refused and not status_line:
        return Served(mode, absent=printable(failed), log=tail)
    return Served(mode, failed, tuple(_accesses(journal, denied)), "", _lacking(status_line), tail if failed else ())


def _events(
    plan: TrainingPlan, place: StartPlace, variables: Mapping[str, str], log: int, collector: int, mode: str
) -> tuple[str, str]:
    """Serve the events, enforced as the last start of training did. What failed first and its error type, or ''."""
    function = plan.function(place.lasting(mode), variables)
    close_every = CLOSE_EVERY if mode == ENFORCE else 0
    with Environment(
        function, close_every=close_every, stdout=log, stderr=log, pass_fds=(collector,)
    ) as environment:
        environment.start()
        if failed := environment.wait_ready():
            return f"the cold start failed: {failed.error_message or failed.status}", failed.error_type or ""
        for visit in visits(plan.events, plan.cold_starts, plan.cold_starts):
            if mode == AUDIT and not visit.is_first:
                break
            outcome = visit.carried_out(environment)
            name = f"{visit.name} {visit.order}".strip()
            if outcome.status != "ok" and (visit.is_first or visit.name not in plan.once_only):
                return f"{name} failed: {outcome.failure}", ""
            if ended := [status for status in environment.resets if status]:
                return f"{name}: it ended between two events: {exit_text(ended[0])}", ""
    return "", ""


def _accesses(journal: str, denied: frozenset[str]) -> Iterator[str]:
    """What was reported or refused, each once: call and target; not what training was refused or is tolerated."""
    seen = set()
    with open(journal, "rb") as file:
        for line in lines(file):
            violation = line.violation
            if violation is None or violation.reason.startswith("tolerated"):
                continue
            if str(violation.call) in denied and violation.verdict == "denied":
                continue
            text = printable(f"{violation.call} {violation.target}".strip())
            if text not in seen:
                seen.add(text)
                yield text


def _status_line(log: bytes) -> Mapping[str, Any]:
    """The bootstrap's own line, which comes before the function's first word; {} where there is none."""
    for line in log.splitlines():
        if line.startswith(STATUS_LINE):
            found: Mapping[str, Any] = json.loads(line)
            return found
    return {}


def _lacking(status: Mapping[str, Any]) -> tuple[str, ...]:
    """What was requested and is not in force, by its first word: `files`, `network`."""
    watched = status.get("reported", ()) if status.get("mode") == AUDIT else ()
    in_force = {str(text).partition(":")[0] for text in (*status.get("enforced", ()), *watched)}
    asked = [str(text).partition(":")[0] for text in status.get("requested", ())]
    return tuple(name for name in asked if name not in in_force)
