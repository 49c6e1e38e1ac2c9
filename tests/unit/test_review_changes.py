"""The list of changes and its formats: every change has its place, and no stranger's text becomes more than text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sandbox.cli.loading import app
from sandbox.profile import document
from sandbox.review import markdown, rules, sarif
from sandbox.review.changes import ProfileChange, changes, widest

OLD = """\
schema: 2
function: {name: f, handler: app.handler, environment: [STAGE]}
promises: [rpath]
processes: [/usr/bin/convert]
network: [runtime-api, {to: "a.example:443", by: [botocore]}]
listen: [tcp://127.0.0.1:80]
files: {read: [/etc/**], write: [/tmp/**]}
responses: {openat create: deny}
on-anomaly: {burst: deny}
syscalls:
  invoke:
    openat: {classes: {read: 300}, because: learned from every event}
    getcwd: {count: 1, because: learned from every event}
"""
NEW = """\
schema: 2
function: {name: f, handler: app.handler, runtime-api: true}
promises: [exec, rpath]
processes: [/usr/bin/convert, {program: /tmp/x, sha256: [any]}]
network: [runtime-api, {to: "a.example:443", by: [botocore, requests]}]
files:
  read: [/etc/**, /srv/data]
  write: [/tmp/**]
grants: [{syscall: ptrace, because: the function is a debugger}]
tolerates: [{call: mount, phase: invoke, at: self, errno: EPERM, because: learned from a.json}]
audit-until: '2030-01-31'
responses: {openat create: report}
names: {keep: 2h}
on-anomaly: {burst: report}
syscalls:
  invoke:
    execve: {count: 1, because: learned from a.json only}
    openat: {classes: {read: 300}, because: learned from every event}
"""


def compared(tmp_path: Path, old: str = OLD, new: str = NEW) -> tuple[ProfileChange, ...]:
    """The changes between two texts, the new one in a file."""
    (tmp_path / "new.yaml").write_text(new)
    return changes(document.parse(old, "old.yaml"), document.read(str(tmp_path / "new.yaml")))


def test_each_change_has_its_line_effect_and_risk(tmp_path: Path) -> None:
    """What came has its own line in the new profile, what went its section's and its line in the old one."""
    found = compared(tmp_path)
    assert [(c.rule, c.sign, c.section, c.subject, c.effect, c.risk, c.line, c.old_line) for c in found] == [
        ("setting", "+", "audit-until", "audit-until", "widens", "high", 11, 0),
        ("setting", "+", "names.keep", "names.keep", "widens", "low", 13, 0),
        ("setting", "+", "responses", "openat create", "widens", "high", 12, 8),
        ("variable", "-", "function.environment", "STAGE", "neither", "low", 2, 2),
        ("promise", "+", "promises", "exec", "widens", "high", 3, 0),
        ("processes", "+", "processes", "/tmp/x", "widens", "high", 4, 0),
        ("processes", "+", "processes", "/tmp/x with the content any", "widens", "high", 4, 0),
        ("listen", "-", "listen", "tcp://127.0.0.1:80", "narrows", "high", 1, 6),
        ("read", "+", "files.read", "/srv/data", "widens", "low", 7, 0),
        ("user", "+", "network", "a.example:443", "widens", "medium", 5, 5),
        ("grant", "+", "grants", "ptrace", "widens", "high", 9, 0),
        ("tolerated", "+", "tolerates", "mount", "widens", "low", 10, 0),
        ("anomaly", "+", "on-anomaly", "burst", "widens", "medium", 14, 9),
        ("call", "+", "syscalls.invoke", "execve", "widens", "high", 17, 0),
        ("call", "-", "syscalls.invoke", "getcwd", "narrows", "low", 16, 13),
    ]
    assert widest(found) == "high"
    assert widest(change for change in found if change.effect == "narrows") is None


def test_sarif_is_what_code_scanning_takes(tmp_path: Path) -> None:
    """Each result has a rule with help, a file below its base, a line, and fingerprints that no other one has."""
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "a b:c"
    folder.mkdir()
    log = json.loads(sarif.log(rules.of_changes(), rules.widenings(compared(folder), "f"), "sandbox-profile-diff/f"))
    (run,) = log["runs"]
    known = run["tool"]["driver"]["rules"]
    for rule in known:
        assert rule["shortDescription"]["text"]
        assert rule["fullDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["help"]["markdown"]
    assert len({rule["id"] for rule in known}) == len(known)
    assert len(run["results"]) == 12
    for result in run["results"]:
        (place,) = result["locations"]
        assert known[result["ruleIndex"]]["id"] == result["ruleId"]
        assert place["physicalLocation"]["artifactLocation"] == {"uri": "a%20b%3Ac/new.yaml"}
        assert place["physicalLocation"]["region"]["startLine"] >= 1
        assert result["level"] in ("error", "warning", "note")
    prints = [result["partialFingerprints"] for result in run["results"]]
    assert len({one["sandboxFinding/v1"] for one in prints}) == len(prints)
    lower = compared(folder, new="\n# moved down\n" + NEW)
    linked = compared(folder, new=NEW.replace("/srv/data", '"/srv/[x](http://evil.example)"'))
    assert "](" not in sarif.log(rules.of_changes(), rules.widenings(linked, "f"), "sandbox-profile-diff/f")
    moved = json.loads(sarif.log(rules.of_changes(), rules.widenings(lower, "f"), "sandbox-profile-diff/f"))
    assert [one["partialFingerprints"]["sandboxFinding/v1"] for one in moved["runs"][0]["results"]] == [
        one["sandboxFinding/v1"] for one in prints
    ]


def test_markdown_shows_names_as_text(tmp_path: Path) -> None:
    """A name that would be a link, a mention, HTML or a cell of its own is text, and a long list ends with a word."""
    hostile = '"</details><img src=x>|@team ![x](http://evil.example) www.evil.example `"'
    shown = markdown.of_changes(compared(tmp_path, new=NEW.replace("/srv/data", hostile)), "f")
    assert "**12 changes widen what f may do**, the highest risk is high." in shown
    for token in ("<img", "@team", "](", "http://", "www.evil", "`"):
        assert token not in shown.replace("</details>\n", "")
    assert shown.count("<details>") == shown.count("</details>")
    many = ", ".join(f"/srv/{i}/{'x' * 100}" for i in range(1000))
    long = markdown.of_changes(compared(tmp_path, new=NEW.replace("/srv/data", many)), "f")
    assert len(long) < 65_000
    assert "`sandbox profile diff` shows all" in long
    assert markdown.of_changes((), "f") == "No difference in what f is allowed.\n"


@pytest.mark.parametrize(
    ("options", "status"),
    [((), 1), (("--fail-on", "high"), 1), (("--fail-on", "never"), 0), (("--format", "json", "--fail-on", "low"), 1)],
)
def test_the_least_risk_that_fails(tmp_path: Path, options: tuple[str, ...], status: int) -> None:
    """--fail-on says from which risk on a widening exits with 1, whatever the format."""
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)
    command = ["profile", "diff", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == status
    if "json" in options:
        assert json.loads(done.stdout)["changes"][0]["effect"] == "widens"
    (tmp_path / "new.yaml").write_text(OLD.replace("/etc/**", "/etc/**, /srv/x"))
    done = CliRunner().invoke(app, command)
    assert done.exit_code == (0 if {"never", "high"} & {*options} else 1)


LINTED = """\
schema: 2
function: {name: f}
promises: [exec]
network: ["93.184.216.34:443", "93.184.216.35:443"]
ignores: [{rule: address, at: "93.184.216.35:443", because: the vendor publishes no name}]
syscalls: {run: {execve: {count: 1, because: learned}}}
"""


def test_lint_for_machines(tmp_path: Path) -> None:
    """Each format names rule, file and line of each finding; what is ignored, with its reason, is an alert nowhere."""
    file = tmp_path / "p,1:%.yaml"
    file.write_text(LINTED)

    def lint(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["profile", "lint", str(file), *options])
        return done.exit_code, done.stdout

    status, text = lint()
    assert status == 1
    assert "ignored warning: 93.184.216.35:443 is an address (ignored: the vendor publishes no name)" in text
    status, text = lint("--format", "github", "--fail-on", "never")
    assert status == 0
    named = str(file).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    assert f"::error file={named},line=6,col=18,title=A dangerous call has no reason (no-reason)::execve in run" in text
    assert "93.184.216.34:443" in text
    assert "93.184.216.35:443" not in text
    objects = [json.loads(line) for line in lint("--format", "json")[1].splitlines()]
    assert [one["ignored"] for one in objects if one["rule"] == "address"] == ["", "the vendor publishes no name"]
    (run,) = json.loads(lint("--format", "sarif")[1])["runs"]
    known = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert all(rule["help"]["text"] and rule["shortDescription"]["text"] for rule in known.values())
    assert [one["ruleId"] for one in run["results"]].count("lint/address") == 1
    assert all(one["locations"][0]["physicalLocation"]["region"]["startLine"] for one in run["results"])
    file.write_text("schema: [")
    assert lint("--fail-on", "never")[0] == 0
    (run,) = json.loads(lint("--format", "sarif")[1])["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["lint/invalid"]
