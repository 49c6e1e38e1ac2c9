"""What a log says about enforcing a profile (sandbox/logs/promotion.py), line by line."""

from __future__ import annotations

from typing import Any

from sandbox.logs.promotion import AuditLog, weigh
from sandbox.logs.reading import LogReader
from sandbox.plain_json import encode
from sandbox.profile.model import Profile, ProfiledFunction

PROFILE = Profile(ProfiledFunction("greet", "app.handler"))
CALL = {"event": "violation", "phase": "invoke", "syscall": "connect", "verdict": "reported"}


def _weighed(*lines: dict[str, Any], since: float = 0.0) -> AuditLog:
    texts = [encode({"event": line["event"], "function": "greet", **line}).encode() for line in lines]
    reading = LogReader()
    found = [one for text in texts for one in reading.feed(text + b"\n", starts=True)]
    assert len(found) == len(lines)
    return weigh(found, PROFILE, lambda digest: digest == "sha256:ours", since)


def _of(supervisor: str, time: float, **line: Any) -> dict[str, Any]:
    return {**line, "time": time, "seq": 1, "supervisor": supervisor}


def test_a_run_without_a_beginning_is_what_the_start_before_it_enforces() -> None:
    """Enforcement writes no beginning; an audit does, so a status line alone never makes one of a run."""
    enforces = {"event": "sandbox", "mode": "enforce", "degraded": []}
    audits = {**enforces, "mode": "audit"}
    begins = {"event": "begin", "mode": "audit", "policy": "sha256:ours"}
    found = _weighed(
        audits, _of("a", 1.0, **begins), _of("a", 2.0, **CALL), enforces, _of("b", 3.0, **CALL | {"verdict": "denied"}),
        audits, _of("c", 4.0, **CALL | {"verdict": "denied"}),
    )  # fmt: skip
    assert {name: (run.mode, run.refused) for name, run in found.runs.items()} == {
        "a": ("audit", 1), "b": ("enforce", 1), "c": ("", 1),
    }  # fmt: skip


def test_since_leaves_out_what_was_before_and_not_what_a_run_is() -> None:
    """A run that began before the moment is the audit that it was, and what it let through before does not count."""
    more = {"event": "violations", "final": False, "counts": {"connect: reported": 5}}
    end = {"event": "violations", "final": True, "counts": {"connect: reported": 9}}
    lines = (
        _of("a", 1.0, event="begin", mode="audit", policy="sha256:ours"), _of("a", 2.0, **CALL), _of("a", 3.0, **more),
        _of("b", 4.0, event="begin", mode="audit", policy="sha256:ours"), _of("a", 10.0, **CALL),
    )  # fmt: skip
    whole, later, none = _weighed(*lines), _weighed(*lines, since=5.0), _weighed(*lines, since=11.0)
    assert [(run.mode, run.refused) for run in whole.runs.values()] == [("audit", 7), ("audit", 0)]
    assert [(run.mode, run.policy, run.refused) for run in later.runs.values()] == [("audit", "sha256:ours", 1)]
    assert (later.began, none.runs) == (5.0, {})
    # Of the nine that the end counts, two have lines, five were counted before, and two are told of only there.
    ended = _weighed(*lines, _of("a", 12.0, **end), since=5.0)
    assert sum(one.count for one in ended.refused.values()) == 3
