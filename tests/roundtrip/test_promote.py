"""From audit to enforcement, as people do it: what a log says, before and after the profile was amended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from output_schemas import check

from sandbox.plain_json import encode
from sandbox.profile import document
from sandbox.profile.model import Profile, ProfiledFunction

HANDLER = """
import os, socket


def handler(event, context):
    if event.get("port"):
        return socket.socket().connect_ex(("127.0.0.1", event["port"]))
    return "ok"
"""


class Round:
    """A function, its profile, and what serving it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.profile = folder, folder / "greet.yaml"
        (folder / "app.py").write_text(HANDLER)
        for name, events in (("known", [{}]), ("all", [{}, {"port": 9}, {}])):
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, events)))

    def sandbox(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user does."""
        return subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **variables}, cwd=self.folder,
        )  # fmt: skip

    def serve(self, log: str, **variables: str) -> list[object]:
        """Serve all events; the results, and below `log` what was written meanwhile."""
        served = self.sandbox(
            "invoke", str(self.profile), "--handler", "app.handler", "--events", "all.jsonl", "--json",
            SANDBOX_ACTIVITY="summary", **variables,
        )  # fmt: skip
        assert served.returncode == 0, served.stderr
        (self.folder / log).write_text(served.stderr)
        return [json.loads(line)["result"] for line in served.stdout.splitlines()]

    def promote(self, log: str, *options: str) -> subprocess.CompletedProcess[str]:
        """What the log says about the profile."""
        said = self.sandbox("promote", str(self.profile), "--from", log, *options)
        check(("promote", *options), said.stdout)
        return said


def test_audit_amend_audit_enforce(tmp_path: Path) -> None:
    """It says no with the lines and since when, wants an audit of the amended profile, says yes; enforcement works."""
    one = Round(tmp_path)
    learned = one.sandbox(
        "learn", "greet", "--handler", "app.handler", "--events", "known.jsonl", "--output", str(one.profile),
        "--cold-starts", "1", "--no-verify", "--generalise", "never",
    )  # fmt: skip
    assert learned.returncode == 0, learned.stderr
    refused = '"ok"', "111", '"ok"'  # ECONNREFUSED: let through
    assert one.serve("1.log", SANDBOX_MODE="audit") == list(refused)
    assert one.serve("0.log")[1] == "1"  # EPERM
    said = one.promote("1.log")
    assert said.returncode == 1, said.stderr
    assert "no: enforcement would have refused 1 call of 1 kind" in said.stdout
    assert "none since, over 1 invocation in 1 run" in said.stdout
    assert "SANDBOX_ACTIVITY" not in said.stdout
    assert "1 connect tcp://127.0.0.1:9, from " in said.stdout
    assert "to allow: network: [tcp://127.0.0.1:9]" in said.stdout
    assert one.sandbox("profile", "amend", str(one.profile), "--from", "1.log", "--yes").returncode == 0
    said = one.promote("1.log")
    assert (said.returncode, "under another policy" in said.stdout) == (1, True)
    assert one.serve("2.log", SANDBOX_MODE="audit") == list(refused)
    assert one.promote("2.log", "--invocations", "4").returncode == 1
    said = one.promote("2.log", "--invocations", "3", "--json")
    answer = json.loads(said.stdout)
    assert (said.returncode, answer["promote"], answer["invocations"], answer["refused"]) == (0, True, 3, [])
    assert [(run["mode"], run["ended"], run["refused"]) for run in answer["runs"]] == [("audit", True, 0)]
    said = one.promote("2.log")
    assert "yes: enforcement would have refused nothing since 20" in said.stdout
    assert one.serve("3.log") == list(refused)
    assert one.sandbox("events", "3.log").stdout == ""
    assert one.promote("3.log").returncode == 1  # enforcement's own log is not an audit


def test_what_is_counted_as_to_be_refused(tmp_path: Path) -> None:
    """Calls without a line count, and what a detector will deny; what the profile reports, what an audit refuses, too,
    and lines of other functions do not; a log without a run is an error.
    """
    one = Round(tmp_path)
    profile = Profile(
        ProfiledFunction("greet", "app.handler"), responses=frozenset({("memfd_create", "report")}),
        on_anomaly=frozenset({("late-load", "deny")}),
    )  # fmt: skip
    one.profile.write_text(document.write(profile))
    call = {"function": "greet", "phase": "invoke", "syscall": "connect", "verdict": "reported"}
    events: list[dict[str, object]] = [
        {"event": "begin", "mode": "audit"},
        {"event": "violation", **call, "target": "tcp://10.0.0.1:1"},
        {"event": "violation", **call, "syscall": "memfd_create"},
        {"event": "violation", **call, "syscall": "ptrace", "verdict": "denied"},
        {"event": "anomaly", **call, "anomaly": "late-load", "detail": "x", "target": "tcp://10.0.0.2:1"},
        {"event": "anomaly", **call, "anomaly": "foreign-memory", "detail": "x"},
        {"event": "violations", "final": False, "counts": {"connect: reported": 5, "ptrace: denied": 2}},
        {"event": "violation", **call, "function": "other"},
    ]
    lines = [
        encode({
            "event": event["event"], "time": 1_700_000_000 + number, "seq": number, "supervisor": "0a",
            "function": "greet", **event,
        })
        for number, event in enumerate(events)
    ]  # fmt: skip
    (tmp_path / "log").write_text("\n".join(lines))
    said = one.promote("log", "--json")
    assert said.returncode == 1, said.stderr
    answer = json.loads(said.stdout)
    counts = {(row["syscall"], row["target"]): row["count"] for row in answer["refused"]}
    assert counts == {
        ("connect", "tcp://10.0.0.1:1"): 1, ("connect", "tcp://10.0.0.2:1"): 1, ("connect", "not listed one by one"): 5,
    }  # fmt: skip
    (run,) = answer["runs"]
    assert (run["refused"], run["already"], run["ended"]) == (7, 3, False)
    assert "SANDBOX_ACTIVITY=summary on the function makes its lines count" in one.promote("log").stdout
    (tmp_path / "empty").write_text("nothing\n")
    said = one.promote("empty")
    assert said.returncode == 64
    assert "1 line read: none of a supervisor" in said.stderr
