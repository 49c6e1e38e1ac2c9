"""explain: it says what the base, the tables and the profile say of a call, and what it says to write is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sandbox.cli.loading import app
from sandbox.errors import UsageError
from sandbox.kernel import tables
from sandbox.profile import base, document
from sandbox.review.explaining import explain
from sandbox.violations.record import Violation

PROFILE = """\
schema: 2
function: {name: f, handler: app.handler}
promises: [rpath, cpath]
syscalls:
  init:
    openat: {classes: {read: 300}, because: learned from every event, by: [botocore]}
  invoke:
    openat: {classes: {create: 2}, because: writes the thumbnail}
"""


def run(*arguments: str, lines: str = "") -> Result:
    """The command's result; an error that the command prints for people is raised as it is."""
    result = CliRunner().invoke(app, ("explain", *arguments), input=lines)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_everything_of_the_tables_can_be_explained() -> None:
    """Each syscall and each promise has what it is, why it is risky and how to allow it, or that nothing can."""
    for name in sorted(tables.every_name() | {promise.name for promise in base.promises()}):
        for found in explain(name):
            assert found.what
            assert found.risky
            assert found.allow, name
    assert all(promise.attack and promise.needs for promise in base.promises())


def test_what_it_says_to_write_is_a_profile() -> None:
    """The lines that would allow a call are accepted by the reader as they are, but for the reason."""
    read = document.parse(PROFILE, "p.yaml")
    (found,) = explain("openat create", read)
    assert found.needed_here == ("p.yaml:8:24: openat create in invoke, 2 times: writes the thumbnail",)
    assert found.allow[0] == "allowed already in invoke"
    text = found.allow[1].removeprefix("write syscalls.init.").replace("<your reason>", "keeps a cache")
    line = "    openat: {classes: {read: 300}, because: learned from every event, by: [botocore]}"
    assert document.parse(PROFILE.replace(line, f"    {text}")).profile.uses
    (granted,) = explain("prctl PR_SET_MM")
    grant = granted.allow[0].removeprefix("only a person can, by ").replace("<your reason>", "moves its own image")
    assert document.parse(PROFILE + grant + "\n").profile.grants
    assert explain("seccomp")[0].allow == ("nothing can: it is refused with EPERM in every mode but off",)
    assert explain("getpid")[0].allow[0].startswith("always allowed: ")
    assert [one.subject for one in explain("AF_NETLINK")] == ["socket AF_NETLINK", "socketpair AF_NETLINK"]


@pytest.mark.parametrize(
    ("word", "near"), [("opneat", "openat"), ("openat crate", "openat create"), ("prot_exe", "prot_exec")]
)
def test_a_misspelled_word_gets_the_nearest(word: str, near: str) -> None:
    """A word that nothing has is an error with the one that was meant."""
    with pytest.raises(UsageError, match=f"did you mean {near}"):
        run(*word.split())


def test_a_violation_is_explained_from_its_line(tmp_path: Path) -> None:
    """A line from a log, by itself or among others, says what became of the call, its target, and what allows it."""
    violation = Violation(
        function="f", phase="invoke", request="r-1", pid=1, tid=1, comm="f", syscall="execve", arg_class="",
        args=("/bin/sh",), target="/bin/sh", verdict="denied", errno="EPERM", reason="not in the profile",
        allow="processes: [/bin/sh]",
    )  # fmt: skip
    fields = {"event": "violation", "time": violation.time, "seq": 1, "supervisor": "0badc0de", **violation.fields()}
    line = json.dumps(fields)
    (tmp_path / "p.yaml").write_text(PROFILE)
    direct = run(line, "--profile", str(tmp_path / "p.yaml")).stdout
    piped = run("-", "--profile", str(tmp_path / "p.yaml"), lines=f"noise\n2030-01-31 {line}\n{line}\n").stdout
    assert direct == piped
    for part in ("denied: not in the profile", "it named /bin/sh", "runs another program", "write processes: [/bin/sh]",
                 "nothing in this profile needs it"):  # fmt: skip
        assert part in direct
    for nothing in ("nothing\n", ""):
        with pytest.raises(UsageError, match="no line of a violation"):
            run("-", lines=nothing)
    with pytest.raises(UsageError, match="is not a syscall"):
        run(" ")
    with pytest.raises(UsageError, match="is not a syscall") as caught:
        run(str(tmp_path / "p.yaml"))
    assert caught.value.todo == f"its violations: `sandbox explain - <{tmp_path / 'p.yaml'}`"
    record = "type=SECCOMP msg=audit(1700000000.123:42): auid=1 uid=0 gid=0 ses=1 pid=12 comm=\"f\" exe=\"/bin/f\" "
    kernel = run("-", lines=f"{record}sig=0 arch=c000003e syscall=59 compat=0 ip=0x7f code=0x50000\n").stdout
    assert "write syscalls.invoke.execve" in kernel
    shown = json.loads(run(line, "--json").stdout)
    assert [one["subject"] for one in shown] == ["execve"]
