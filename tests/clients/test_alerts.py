"""Findings and alarms of real lines, judged by what others publish: the OCSF schema, Security Hub's API, cfn-lint."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sandbox_command import Workshop

import sandbox

ROOT = Path(sandbox.__file__).parent.parent
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:greet"
PROGRAM = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
if sys.argv[1:]:
    for attempt in (lambda: socket.create_connection(("192.0.2.7", 443)), lambda: open("/etc/shadow").read()):
        try:
            attempt()
        except OSError:
            pass
"""

OCSF = """
import json, sys
import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

published = get_ocsf_schema(version="1.5.0")
attributes = published["classes"]["detection_finding"]["attributes"]
for line in sys.stdin:
    found = json.loads(line)
    profiles = found["metadata"]["profiles"]
    schema = OcsfJsonSchemaEmbedded(published).get_class_schema("detection_finding", profiles=profiles)
    jsonschema.Draft202012Validator(schema).validate(found)
    for name in ("activity", "action", "disposition", "severity", "status"):
        caption = found.get(name) or found[name + "_name"]
        assert attributes[name + "_id"]["enum"][str(found[name + "_id"])]["caption"] == caption, name
    print(found["finding_info"]["title"])
"""

SECURITY_HUB = """
import json, sys
import boto3
from moto import mock_aws

with mock_aws():
    hub = boto3.client(
        "securityhub", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    hub.enable_security_hub()
    for line in sys.stdin:
        answer = hub.batch_import_findings(Findings=json.loads(line))
        assert answer["FailedCount"] == 0, answer
    for found in hub.get_findings()["Findings"]:
        print(found["Title"])
"""


@pytest.fixture(scope="module")
def log(workshop: Workshop) -> Path:
    """The lines of a program that was attacked under its profile."""
    program = workshop.folder / "greet.py"
    program.write_text(PROGRAM)
    workshop.sandbox(
        "learn", "greet", "--no-verify", "--cold-starts", "1", "--output", workshop.folder / "greet.yaml",
        "--", sys.executable, program,
    )  # fmt: skip
    done = workshop.sandbox("run", workshop.folder / "greet.yaml", "--", sys.executable, program, "attack")
    found = workshop.folder / "greet.log"
    found.write_text(done.stderr)
    return found


def _judged(clients: Path, script: str, text: str) -> list[str]:
    done = subprocess.run(
        [clients / "bin" / "python", "-c", script], input=text, text=True, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_findings_fit_the_published_schemas(workshop: Workshop, clients: Path, log: Path) -> None:
    """Each refused call is a Detection Finding of OCSF 1.5.0, and Security Hub takes it as ASFF."""
    for options in ((), ("--resource", ARN)):
        text = workshop.sandbox("events", log, "--format", "ocsf", *options).stdout
        titles = _judged(clients, OCSF, text)
    imported = _judged(
        clients, SECURITY_HUB, workshop.sandbox("events", log, "--format", "asff", "--resource", ARN).stdout
    )
    assert sorted(imported) == sorted(titles)
    assert any("192.0.2.7:443" in title for title in titles), titles
    assert any("/etc/shadow" in title for title in titles), titles


def test_a_start_and_its_violations_are_metrics(workshop: Workshop, log: Path) -> None:
    """The status line counts as a start, and each violation once, although the last summary counts it again."""
    totals: dict[str, int] = {}
    written = workshop.sandbox("events", log, "--format", "emf").stdout.splitlines()
    documents: list[dict[str, Any]] = [json.loads(line) for line in written if line]
    for one in documents:
        for metric in one["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
            totals[metric["Name"]] = totals.get(metric["Name"], 0) + one[metric["Name"]]
    assert totals["Starts"] == 1
    assert totals["Violations"] == len(workshop.sandbox("events", log, "--json").stdout.splitlines()) > 1
    assert {one["Function"] for one in documents} == {"greet"}


def _selects(pattern: str, fields: dict[str, Any]) -> bool:
    """Whether a JSON pattern of CloudWatch selects a line, for as much of their grammar as the recipe uses."""
    conditions = re.findall(r'\$\.(\w+)(\[0\])? = "([^"]*)"', pattern)
    assert pattern == "{ " + " && ".join(f'$.{name}{index} = "{value}"' for name, index, value in conditions) + " }"
    for name, index, value in conditions:
        found = fields.get(name)
        if index:
            found = found[0] if isinstance(found, list) and found else None
        if not isinstance(found, str) or value not in ("*", found):
            return False
    return True


def test_the_alarms_are_a_template(workshop: Workshop, log: Path) -> None:
    """cfn-lint finds nothing in the recipe; its filters select the lines of a real log that they are named for."""
    template = ROOT / "examples/alerts/alarms.yaml"
    lines = [json.loads(text) for text in log.read_text().splitlines() if text.startswith("{")]
    patterns = dict(re.findall(r"^  (\w+):\n    Type: AWS::Logs::MetricFilter\n(?:.*\n){2,3}? +FilterPattern: '(.*)'$",
                               template.read_text(), re.MULTILINE))  # fmt: skip
    chosen = {name: [line for line in lines if _selects(pattern, line)] for name, pattern in patterns.items()}
    listed = workshop.sandbox("events", log, "--json").stdout.splitlines()
    assert chosen["Violations"] == [json.loads(text) for text in listed]
    assert chosen["DegradedStarts"] == [line for line in lines if line["event"] == "sandbox" and line["degraded"]]
    assert chosen["Anomalies"] == []
    assert _selects(patterns["Anomalies"], {"event": "anomaly"})
    assert _selects(patterns["DegradedStarts"], {"event": "sandbox", "degraded": ["files: no Landlock"]})
    lint = Path(sys.executable).with_name("cfn-lint")
    command = [str(lint), "--regions", "eu-west-1", "--", str(template)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
