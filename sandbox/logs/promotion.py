"""What enforcement would have refused of what an audit let through, from its log.

A run is the life of one supervisor: its first line in audit says under which policy, and its last how many violations
there were. Runs under another policy than the profile's prove nothing about it and are counted apart. What an audit
refuses as well (the hard deny) is not a reason against enforcement: the function was served with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sandbox.behaviour import anomaly
from sandbox.behaviour.call import Call
from sandbox.profile.model import Profile
from sandbox.violations.activities import read
from sandbox.violations.activity import Activity
from sandbox.violations.reader import STATUS, UNLISTED, Line
from sandbox.violations.record import REPORTED, Beginning, Summary, Suspected, Violation, counted_as

AUDIT, ENFORCE = "audit", "enforce"


@dataclass
class Refused:
    """Calls of one sort that enforcement would have refused, or did: how often, when, and in which runs."""

    call: Call
    target: str
    allow: str = ""
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    runs: set[str] = field(default_factory=set)

    def add(self, time: float, run: str, count: int = 1) -> None:
        """Count some more."""
        self.count += count
        self.first = min(self.first or time, time)
        self.last = max(self.last, time)
        self.runs.add(run)


@dataclass
class AuditedRun:
    """One supervisor's. `mode` and `policy` are '' where no line says them; times are since 1970.

    `listed`, `counted` and `totals` are of the whole run, `before` what was counted before the moment asked about.
    """

    supervisor: str
    mode: str = ""
    policy: str = ""
    began: float = 0.0
    last: float = 0.0
    ended: bool = False
    invocations: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    already: int = 0
    listed: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def unlisted(self) -> Iterator[tuple[str, int]]:
        """Violations that have no line, by what a summary calls them."""
        for text in sorted({*self.counted, *self.totals}):
            listed, counted = self.listed.get(text, 0), self.counted.get(text, 0)
            missing = max(self.totals.get(text, 0), listed + counted) - listed - self.before.get(text, 0)
            if missing > 0:
                yield text, missing


@dataclass
class AuditLog:
    """What a log says about a profile. `in_requests` are the invocations in which something was to be refused,
    `starts` counts status lines by mode, `elsewhere` lines of other functions. Nothing before `since` is judged.
    """

    since: float = 0.0
    runs: dict[str, AuditedRun] = field(default_factory=dict)
    refused: dict[tuple[Call, str], Refused] = field(default_factory=dict)
    in_requests: set[str] = field(default_factory=set)
    other_runs: list[AuditedRun] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, int] = field(default_factory=dict)

    @property
    def last_refused(self) -> float:
        """When a call last was of those; 0 for never."""
        return max((one.last for one in self.refused.values()), default=0.0)

    @property
    def began(self) -> float:
        """When the first of the runs began, or `since` where that is later; 0 where there is none."""
        return max(self.since, min(run.began for run in self.runs.values())) if self.runs else 0.0

    def invocations(self, since: float = 0.0) -> int:
        """How many the runs tell of after a moment, in which nothing was to be refused; 0 without SANDBOX_ACTIVITY."""
        return sum(
            time > since and request not in self.in_requests
            for run in self.runs.values() for request, time in run.invocations.items()
        )  # fmt: skip

    def runs_since(self, since: float) -> list[AuditedRun]:
        """Those that went on after a moment."""
        return [run for run in self.runs.values() if run.last > since]


def weigh(lines: Iterable[Line], profile: Profile, is_ours: Callable[[str], bool], since: float = 0.0) -> AuditLog:
    """What lines, with status lines among them, say from a moment on. `is_ours` knows the digest of a policy
    (`sha256:...`) as that of the profile.
    """
    found = AuditLog(since)
    runs: dict[str, AuditedRun] = {}
    calls: list[tuple[AuditedRun, Violation | Suspected]] = []
    mode = ""
    for line in lines:
        fields = line.fields
        function = str(fields.get("function", profile.function.name))
        if fields["event"] == STATUS:
            if function == profile.function.name:
                mode = str(fields.get("mode"))
                found.starts[mode] = found.starts.get(mode, 0) + 1
            continue
        if function != profile.function.name:
            found.elsewhere[function] = found.elsewhere.get(function, 0) + 1
            continue
        if line.supervisor is None:
            continue
        time = float(str(fields["time"]))
        # A start tells of enforcement alone: an audit's run has a beginning, without which nobody knows its policy.
        known = mode if mode == ENFORCE else ""
        run = runs.setdefault(line.supervisor, AuditedRun(line.supervisor, known, began=time))
        run.began, run.last = min(run.began, time), max(run.last, time)
        _add(run, line, time, since)
        if line.call and time >= since:
            calls.append((run, line.call))
    for run in runs.values():
        if run.last < since:
            continue
        if run.policy and not is_ours(run.policy):
            found.other_runs.append(run)
        else:
            found.runs[run.supervisor] = run
    _judge(found, calls, profile)
    return found


def _add(run: AuditedRun, line: Line, time: float, since: float) -> None:
    if line.fields["event"] == Beginning.event:
        run.mode, run.policy = str(line.fields.get("mode", "")), str(line.fields.get("policy", ""))
    elif isinstance(line.record, Violation):
        text = counted_as(line.record.call, line.record.verdict)
        run.listed[text] = run.listed.get(text, 0) + 1
    elif isinstance(line.record, Summary):
        run.ended = run.ended or line.record.final
        counts = [run.totals] if line.record.final else [run.counted, *([run.before] if time < since else [])]
        for text, count in line.record.counts.items():
            for one in counts:
                one[text] = one.get(text, 0) + count
    elif time >= since:
        activity = read(line)
        if isinstance(activity, Activity) and activity.request is not None:
            run.invocations[activity.request] = time


def _judge(found: AuditLog, calls: list[tuple[AuditedRun, Violation | Suspected]], profile: Profile) -> None:
    responses, settings = dict(profile.responses), dict(profile.on_anomaly)
    for run, record in calls:
        if run.supervisor not in found.runs:
            continue
        if isinstance(record, Suspected):
            refuses = anomaly.response(settings, record.anomaly) in (anomaly.DENY, anomaly.TERMINATE)
        elif record.verdict == REPORTED:
            refuses = _answer(record.call, responses) != anomaly.REPORT
        else:
            refuses = run.mode != AUDIT
            run.already += not refuses
        if refuses:
            one = _of(found, record.call, record.target)
            one.add(record.time, run.supervisor)
            one.allow = one.allow or record.allow
            found.in_requests.update(filter(None, [record.request]))
            run.refused += 1
    for run in found.runs.values():
        for text, count in run.unlisted:
            what, _, verdict = text.rpartition(": ")
            call = Call.parse(what)
            if verdict == REPORTED and _answer(call, responses) == anomaly.REPORT:
                continue
            if verdict != REPORTED and run.mode == AUDIT:
                run.already += count
                continue
            _of(found, call, UNLISTED).add(run.last, run.supervisor, count)
            run.refused += count


def _of(found: AuditLog, call: Call, target: str) -> Refused:
    return found.refused.setdefault((call, target), Refused(call, target))


def _answer(call: Call, responses: Mapping[str, str]) -> str:
    """What the profile answers to a call that it does not allow, as the supervisor does: the class before the call."""
    return responses.get(str(call), responses.get(call.syscall, anomaly.DENY))
