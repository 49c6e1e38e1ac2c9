"""sandbox/alerts: findings and metrics out of a log, and the data file that names techniques."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from sandbox.alerts import attack, finding, metrics, security_hub
from sandbox.alerts.resource import resource
from sandbox.cli.loading import app
from sandbox.errors import UsageError
from sandbox.violations import reader, record

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:thumbnail"
VIOLATION = {
    "event": "violation", "time": 1748779200.123, "seq": 1, "supervisor": "0123abcd", "function": "thumbnail",
    "phase": "invoke", "request": "r-1", "pid": 41, "tid": 42, "comm": "python3", "syscall": "connect", "class": "",
    "args": ["6", "192.0.2.7:443", "16"], "target": "tcp://192.0.2.7:443", "verdict": "denied", "errno": "EACCES",
    "reason": "the profile does not list the destination", "risk": "high", "technique": "T1071",
    "allow": "network: ['tcp://192.0.2.7:443']",
}  # fmt: skip
STATUS = {
    "event": "sandbox", "mode": "enforce", "function": "thumbnail", "policy": "sha256:00", "requested": [],
    "enforced": [], "degraded": ["files: no Landlock"],
}  # fmt: skip


def _log(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({"event": line["event"], **line}).encode() + b"\n" for line in lines)


def _read(*lines: dict[str, Any]) -> list[reader.Line]:
    return list(reader.lines(io.BytesIO(_log(*lines)), starts=True))


def test_every_technique_of_a_call_is_in_the_matrix() -> None:
    """attack.json names each technique that lines can carry as techniques.json does, with a tactic and a source."""
    named = {entry["technique"]: entry["title"] for entry in record.techniques().values()}
    named[record.UNRATED[1]] = record.UNRATED[2]
    for uid, title in named.items():
        found = attack.technique(uid)
        assert found is not None, uid
        assert found.title == title
        assert found.tactics
        assert (found.sub_technique or found.technique).source.endswith(uid.replace(".", "/"))
    assert attack.technique("T0000") is None
    assert list(attack.attacks("T9999.001")) == []


def test_a_violation_is_a_detection_finding() -> None:
    """Its numbers follow the class, its time is in milliseconds, and it says what was refused to whom."""
    (line,) = _read(VIOLATION)
    found: Any = finding.finding(line, resource(ARN))
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"] == 200401
    assert found["time"] == 1748779200123
    assert (found["severity_id"], found["action_id"], found["disposition_id"]) == (4, 2, 2)
    assert found["metadata"]["version"] == "1.5.0"
    assert found["metadata"]["uid"] == found["finding_info"]["uid"] == "0123abcd-1"
    assert found["evidences"][0]["dst_endpoint"] == {"ip": "192.0.2.7", "port": 443}
    assert found["attacks"][0]["tactic"]["uid"] == "TA0011"
    assert found["cloud"]["account"]["uid"] == "123456789012"


def test_what_was_let_through_is_observed() -> None:
    """An audited call and one that a detector suspected are findings of which nothing was blocked."""
    audited = {**VIOLATION, "verdict": "reported", "errno": "", "target": "/etc/passwd", "syscall": "openat"}
    suspected = {**VIOLATION, "event": "anomaly", "anomaly": "new-library-for-access", "detail": "by evil"}
    first, second = (finding.finding(line) for line in _read(audited, suspected))
    for found in (first, second):
        assert found is not None
        assert (found["action"], found["disposition"]) == ("Observed", "Detected")
    assert first is not None
    assert second is not None
    assert first["evidences"][0]["file"]["path"] == "/etc/passwd"  # type: ignore[index]
    assert second["finding_info"]["analytic"]["type_id"] == 2  # type: ignore[index]


def test_metrics_count_each_violation_once() -> None:
    """Lines, summaries and the last summary add up to the total of the run; starts, losses and cost have their own."""
    more = {key: VIOLATION[key] for key in ("supervisor", "function")} | {"event": "violations", "time": 1748779201.0}
    activity = {
        "event": "activity", "time": 1748779202.0, "seq": 4, "supervisor": "0123abcd", "function": "thumbnail",
        "phase": "invoke", "request": "r-1", "duration": 5.0, "cost": 1.25,
    }  # fmt: skip
    lost = {"event": "degraded", "time": 1748779202.5, "seq": 5, "supervisor": "0123abcd", "function": "thumbnail"}
    long = "\u00e4" * 300
    found = list(metrics.documents(_read(
        {**STATUS, "degraded": [long, long]}, {**VIOLATION, "target": long},
        {**more, "seq": 2, "final": False, "counts": {"connect: denied": 3}},
        activity, {**lost, "reason": "cannot see paths"},
        {**more, "seq": 6, "final": True, "counts": {"connect: denied": 6}, "total": 6},
        {**VIOLATION, "event": "anomaly", "anomaly": "burst", "detail": "x", "seq": 7},
    )))  # fmt: skip
    totals: dict[str, float] = {}
    for one in found:
        (directive,) = one["_aws"]["CloudWatchMetrics"]  # type: ignore[index]
        assert len(directive["Metrics"]) <= 100
        assert len(json.dumps(one)) < 4096
        assert all(key in one for key in directive["Dimensions"][0])
        for metric in directive["Metrics"]:
            totals[metric["Name"]] = totals.get(metric["Name"], 0) + one[metric["Name"]]  # type: ignore[operator]
    assert totals == {
        "Violations": 6, "HighRiskViolations": 1, "Anomalies": 1, "Starts": 1, "DegradedStarts": 1, "Losses": 1,
        "SupervisorCost": 1.25,
    }  # fmt: skip
    assert found[1]["_aws"]["Timestamp"] == 1748779200123  # type: ignore[index]


def test_batches_for_security_hub_fit_a_call() -> None:
    """At most 100 findings and one argument's bytes a batch, none lost, whatever a log's texts are."""
    hostile = {**VIOLATION, "target": "/a" * 900, "comm": "\x1b[2J", "technique": "T9", "reason": "\x07" * 300}
    lines = _read(*({**hostile, "seq": number} for number in range(1, 251)))
    batches = list(security_hub.batches(lines, resource(ARN)))
    assert sum(map(len, batches)) == 250
    assert all(len(batch) <= 100 and len(json.dumps(batch)) < 1 << 17 for batch in batches)
    one: Any = batches[0][0]
    assert len(one["Title"]) <= 256
    assert "\\u001b" not in json.dumps(one)
    assert one["ProductArn"] == "arn:aws:securityhub:eu-west-1:123456789012:product/123456789012/default"
    with pytest.raises(UsageError, match="--resource"):
        resource("thumbnail")


def test_events_writes_whole_lines() -> None:
    """Each document of --format stands on a line of its own that ends, and bad combinations are errors of usage."""
    log = _log(STATUS, VIOLATION, VIOLATION)
    for form, count in (("ocsf", 2), ("emf", 3), ("asff", 1)):
        done = CliRunner().invoke(app, ["events", "-", "--format", form, "--resource", ARN], input=log)
        assert done.stdout.endswith("}\n" if form != "asff" else "]\n"), done.stdout
        assert len([json.loads(text) for text in done.stdout.splitlines() if text]) == count
        if form == "emf":  # behind what another left unended
            assert len([text for text in f"unended{done.stdout}".split("\n") if text.startswith('{"_aws"')]) == count
    assert re.search(r"--resource", str(CliRunner().invoke(app, ["events", "-", "--format", "asff"]).exception))
    assert isinstance(CliRunner().invoke(app, ["events", "-", "--format", "emf", "--json"]).exception, UsageError)
