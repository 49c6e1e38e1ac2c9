"""`sandbox learn`: failures, merging, observations from elsewhere, grants, interpreters, and mistakes."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from sandbox_command import Event, Workshop
from users_and_folders import as_user

from sandbox.profile import document
from sandbox.profile.model import Profile
from sandbox.runtime_api import Environment, Function, Invocation

BASE_PYTHON = os.path.realpath(sys.executable)

FAILING = [
    ("fails.handler", {"fail": True}, "ValueError: asked to fail"),
    ("dies.handler", {"exit": 3}, "exit status 3"),
    ("dies.handler", {"signal": 9}, "signal: killed"),
    ("init_fails.handler", {}, "this module cannot be imported"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("handler", "event", "error"), FAILING, ids=["raises", "exits", "is killed", "cannot be imported"]
)
def test_a_failed_training_writes_no_profile(workshop: Workshop, handler: str, event: Event, error: str) -> None:
    """Exit status 74; the event, the error and the last system calls are named. --allow-failed overrides."""
    path = workshop.new()
    start = ("--handler", handler, "--root", workshop.targets, "--cold-starts", "1")
    events = workshop.events(event) if handler == "init_fails.handler" else workshop.events({}, event)
    where = "cold start" if handler == "init_fails.handler" else f"{events.name}:2"
    done = workshop.sandbox("learn", "failing", *start, "--events", events, "--output", path, expect=74)
    assert not path.exists()
    assert re.search(rf"failed in cold start 1: {re.escape(where)}: .*{re.escape(error)}", done.stderr)
    assert re.search(r"the last system calls: \w+.*, ", done.stderr)
    assert "--allow-failed" in done.stderr
    workshop.sandbox("learn", "failing", *start, "--events", events, "--output", path, "--allow-failed")
    assert document.read(str(path)).profile.uses


def test_a_failed_training_leaves_a_profile_that_was_there_alone(workshop: Workshop, fails: Path) -> None:
    """Neither replaced nor touched, with --merge and without."""
    before = fails.read_bytes()
    start = ("--handler", "fails.handler", "--root", workshop.targets, "--cold-starts", "1")
    for merge in ((), ("--merge",)):
        events = workshop.events({"fail": True})
        workshop.sandbox("learn", "fails", *start, "--events", events, "--output", fails, *merge, expect=74)
        assert fails.read_bytes() == before


def test_a_function_that_ends_between_events(workshop: Workshop) -> None:
    """Its answers were good, but it is no training; served under its profile, it is told and counts as failed."""
    path = workshop.new()
    start = ("--root", workshop.folder, "--cold-starts", "1")
    runtime = ("--", sys.executable, "-I", "-S", str(workshop.targets / "plain_runtime.py"))
    events = workshop.events({"do": "exit after", "status": 3}, {"do": "echo"}, {"do": "echo"})
    done = workshop.sandbox("learn", "ends", *start, "--events", events, "--output", path, *runtime, expect=74)
    assert "it ended between two events: Runtime exited with error: exit status 3" in done.stderr
    workshop.sandbox("learn", "ends", *start, "--events", workshop.events({"do": "echo"}), "--output", path, *runtime)
    done = workshop.sandbox("invoke", path, "--root", workshop.folder, "--events", events, *runtime, expect=1)
    assert done.stdout.count(": ok in ") == 3
    assert "the function ended between two events: Runtime exited with error: exit status 3" in done.stderr


def test_a_program_that_cannot_be_started(workshop: Workshop) -> None:
    """Whatever keeps it from starting is said, without a traceback; no profile is written."""
    path = workshop.new()
    done = workshop.sandbox("learn", "missing", "--output", path, "--", "/nowhere/program", expect=74)
    assert "/nowhere/program: does not exist" in done.stderr
    done = workshop.sandbox("learn", "missing", "--output", path, "--allow-failed", "--", "/nowhere/program", expect=74)
    assert not path.exists()


def test_json_lines(workshop: Workshop) -> None:
    """With --json every line on standard output is an object that says in `event` what it is."""
    path = workshop.new()
    start = ("--handler", "fails.handler", "--root", workshop.targets, "--cold-starts", "2", "--json")
    good = workshop.sandbox("learn", "json", *start, "--events", workshop.events({}), "--output", path)
    lines = [json.loads(line) for line in good.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["step"] * 6 + ["place", "verified", "profile"]
    assert [(line["cold_start"], line["status"], line["order"]) for line in lines[:6]] == [
        (1, "ready", ""), (1, "ok", ""), (2, "ready", ""), (2, "ok", ""), (2, "ok", "again"),
        (2, "ok", "after a restart"),
    ]  # fmt: skip
    assert sum(line["new_items"] for line in lines[:2]) > 5
    profile = document.read(str(path)).profile
    assert (lines[-1]["path"], lines[-1]["promises"]) == (str(path), list(profile.promises))
    assert lines[-1]["completeness"]["invoke"]["samples"] == 1
    events = workshop.events({"fail": True})
    bad = workshop.sandbox("learn", "json", *start, "--events", events, "--output", workshop.new(), expect=74)
    failed = [line for line in map(json.loads, bad.stdout.splitlines()) if line["event"] == "failed"]
    assert [line["cold_start"] for line in failed] == [1, 2]
    assert (failed[0]["sample"], failed[0]["error"]) == (f"{events.name}:1", "ValueError: asked to fail")
    assert failed[0]["last"]


def test_merge_adds_and_keeps(workshop: Workshop) -> None:
    """--merge adds what is new to the profile that is there, and keeps its items, grants and people's reasons."""
    path = workshop.new()
    start = ("--handler", "subprocess_one.handler", "--root", workshop.targets, "--cold-starts", "1", "--output", path)
    workshop.sandbox("learn", "merged", *start, "--events", workshop.events({}))
    grants = "grants:\n- {syscall: bpf, because: counts its own packets}\n"
    text = path.read_text().replace("\ncompleteness:", f"\n{grants}\ncompleteness:")
    # The C library makes a child with vfork or, from glibc 2.41 on, with clone3.
    ours = r"\1because: runs /bin/true to see that it can}"
    text, count = re.subn(r"((?:vfork|clone3): {classes: {process: \d+[^}]*}, )because: .*}", ours, text)
    assert count == 1, text
    path.write_text(text)
    first = document.read(str(path)).profile
    workshop.sandbox("learn", "merged", *start, "--events", workshop.events({"stdin": "text"}), "--merge")
    both = document.read(str(path)).profile
    assert [(grant.syscall, grant.because) for grant in both.grants] == [("bpf", "counts its own packets")]
    assert both.items() > first.items()
    assert both.processes == {"/bin/true", "/usr/bin/gzip"}
    assert len(both.trainings) == 2
    kept = {use.syscall for use in both.uses if "runs /bin/true to see that it can" in use.because}
    assert kept in ({"vfork"}, {"clone3"})
    before = path.read_bytes()
    done = workshop.sandbox("learn", "merged", *start, "--events", workshop.events({}), expect=64)
    assert "holds grants and a person's reasons" in done.stderr
    assert path.read_bytes() == before
    workshop.sandbox("learn", "merged", *start, "--events", workshop.events({}), "--force")
    assert document.read(str(path)).profile.processes == {"/bin/true"}


def observed(workshop: Workshop, handler: str, *events: Event) -> Path:
    """The observations of one environment, as a platform would start it."""
    file = workshop.new(".jsonl")
    variables = {"SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(file), "SANDBOX_PYTHON": sys.executable}
    bootstrap = as_user(workshop.uid, (sys.executable, "-I", "-S", str(workshop.home / "bootstrap")))
    function = Function(bootstrap, str(workshop.targets), variables, handler=handler, init_timeout=30.0)
    with Environment(function, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as environment:
        for event in events:
            environment.invoke(Invocation(json.dumps(event).encode()))
    return file


def test_a_profile_from_observations(workshop: Workshop) -> None:
    """The files of several environments give the same profile in any order, and it holds what any of them did."""
    files = [
        observed(workshop, "late_thread.handler", {}), observed(workshop, "late_thread.handler", {}, {}),
        observed(workshop, "late_thread.handler", {}, {}, {}),
    ]  # fmt: skip
    texts = set()
    for order in itertools.permutations(files):
        path = workshop.new()
        workshop.sandbox("learn", "observed", "--output", path, "--from", order[0], *order[1:])
        texts.add(path.read_text())
    assert len(texts) == 1
    profile = document.read(str(path)).profile
    assert "thread" in profile.promises
    (training,) = profile.trainings
    assert {estimate.phase: estimate.samples for estimate in training.estimates} == {"init": 3, "invoke": 6}
    start = ("--handler", "late_thread.handler", "--root", str(workshop.targets))
    results = workshop.invoke(path, start, workshop.events({}, {}, {}))
    assert [json.loads(line["result"])["thread"] for line in results] == [False, True, False]


def test_observations_of_a_failed_run_give_no_profile(workshop: Workshop) -> None:
    """An invocation that failed and a process that died are failures in observations too; --allow-failed overrides."""
    for handler, event in (
        ("fails.handler", {"fail": True}),
        ("dies.handler", {"exit": 3}),
        ("dies.handler", {"signal": 11}),
    ):
        file, path = observed(workshop, handler, {}, event), workshop.new()
        done = workshop.sandbox("learn", "failed", "--output", path, "--from", file, expect=74)
        assert not path.exists()
        assert file.name in done.stderr
        workshop.sandbox("learn", "failed", "--output", path, "--from", file, "--allow-failed")
        assert path.exists()


def test_observations_of_an_older_version(workshop: Workshop) -> None:
    """They give the same files and programs; the report says that the estimate knows only where each came first."""
    file, old = observed(workshop, "subprocess_one.handler", {}, {}), workshop.new(".jsonl")
    lines = []
    for line in map(json.loads, file.read_text().splitlines()):
        if line["event"] in ("by", "library"):
            continue  # it read no stacks
        dropped = "id" if line["event"] in ("file", "network", "exec", "listen") else "facts"
        kept = {key: value for key, value in line.items() if key != dropped}
        lines.append(json.dumps({**kept, "format": 1} if line["event"] == "start" else kept) + "\n")
    old.write_text("".join(lines))
    path, older = workshop.new(), workshop.new()
    done = workshop.sandbox("learn", "f", "--output", path, "--from", file)
    assert "older version" not in done.stderr
    done = workshop.sandbox("learn", "f", "--output", older, "--from", old)
    assert f"{old}: of an older version" in done.stderr
    one, other = (document.read(str(name)).profile for name in (path, older))
    assert (one.reads, one.writes, one.processes) == (other.reads, other.writes, other.processes)
    assert {(use.key, use.count) for use in one.uses} == {(use.key, use.count) for use in other.uses}
    assert one.by
    assert not other.by


def test_damaged_observations_are_named(workshop: Workshop) -> None:
    """Exit status 75 with file and line."""
    file = observed(workshop, "hello.handler", {})
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:3], lines[3][:25] + "\n", *lines[4:]]))
    done = workshop.sandbox("learn", "damaged", "--output", workshop.new(), "--from", file, expect=75)
    assert f"{file}:4" in done.stderr


def test_hard_denied_calls_need_a_persons_word(workshop: Workshop) -> None:
    """The report says what to write; once it stands in the profile, training and enforcement let the call through."""
    path = workshop.new()
    start = ("--handler", "hard_denied.handler", "--root", str(workshop.targets))
    events = workshop.events({"call": "ptrace"})
    learn = ("learn", "debugger", *start, "--events", events, "--output", path, "--cold-starts", "1")
    done = workshop.sandbox(*learn, expect=81)
    assert "refused in training, hard-denied: ptrace" in done.stdout
    assert "enforce: ptrace (events-" in done.stderr  # it ends the function
    (grant,) = re.findall(r"to grant it: (grants: .*)", done.stdout)
    assert "ptrace" not in {use.syscall for use in document.read(str(path)).profile.uses}
    # Supervised it would be ended for it.
    refused = workshop.invoke(path, start, events, more={"SANDBOX_SUPERVISE": "0"})
    assert json.loads(refused[0]["result"])["errno"] == 1

    line = grant.replace("<your reason>", "it debugs the programs that it starts")
    path.write_text(path.read_text().replace("\ncompleteness:", f"\n{line}\n\ncompleteness:"))
    again = workshop.sandbox(*learn, "--merge")
    assert "hard-denied" not in again.stdout
    profile = document.read(str(path)).profile
    assert [grant.syscall for grant in profile.grants] == ["ptrace"]
    allowed = workshop.invoke(path, start, events)
    assert json.loads(allowed[0]["result"])["errno"] == 3  # ESRCH: the kernel's own answer


@pytest.fixture(scope="module")
def other_python(workshop: Workshop) -> Path:
    """A virtual environment of the base interpreter, without the runtime client."""
    folder = workshop.folder / "venv"
    subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def test_an_interpreter_without_the_runtime_client(workshop: Workshop, hello: Path, other_python: Path) -> None:
    """Exit status 73 and the command that installs it, from learn and from invoke, by folder and by executable."""
    start = ("--handler", "hello.handler", "--root", workshop.targets, "--events", workshop.events({}))
    for named in (other_python, other_python / "bin" / "python"):
        for command in (("learn", "other", "--output", workshop.new()), ("invoke", hello)):
            done = workshop.sandbox(*command, *start, "--python", named, expect=73)
            assert "has no awslambdaric" in done.stderr
            assert f"{other_python / 'bin' / 'python'} -m pip install awslambdaric" in done.stderr


@pytest.mark.parametrize("named", ["/nowhere/python", "/bin/true", "/etc/passwd", "python-that-is-nowhere"])
def test_what_is_no_interpreter(workshop: Workshop, named: str) -> None:
    """Exit status 73, the path and what to give instead."""
    start = ("--handler", "hello.handler", "--root", workshop.targets, "--events", workshop.events({}))
    done = workshop.sandbox("learn", "none", "--output", workshop.new(), *start, "--python", named, expect=73)
    assert named in done.stderr
    assert "--python" in done.stderr


def test_another_virtual_environment_runs_the_function(workshop: Workshop, other_python: Path) -> None:
    """The function's own interpreter is started, not that of the tool, in training and under enforcement."""
    folder = workshop.folder / "venv-with-client"
    shutil.copytree(other_python, folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    client = next(entry for entry in sys.path if (Path(entry) / "awslambdaric").is_dir())
    (site / "client.pth").write_text(f"{client}\n")
    path = workshop.new()
    start = ("--handler", "env_dump.handler", "--root", str(workshop.targets), "--python", str(folder))
    events = workshop.events({})
    workshop.sandbox("learn", "venv", *start, "--events", events, "--output", path, "--cold-starts", "1")
    (line,) = workshop.invoke(path, start, events)
    seen = json.loads(line["result"])
    assert seen["arguments"][0] == str(folder / "bin" / "python")
    assert seen["status"]["Seccomp"] == "2"
    assert not [name for name in seen["environment"] if name.startswith("SANDBOX")]
    reads = document.read(str(path)).profile.reads
    assert "{venv}/**" in reads
    assert "{python}/**" in reads


USAGE: list[tuple[int, list[str], str]] = [
    (64, ["learn", "x"], "--handler"),
    (64, ["learn", "x", "--handler", "hello.handler"], "--events"),
    (64, ["learn", "x", "--env", "SET_NOWHERE", "--", "/bin/true"], "--env SET_NOWHERE"),
    (64, ["learn", "x", "--handler", "hello.handler", "--root", "/nowhere", "--events", "e"], "/nowhere"),
    (64, ["learn", "x", "--handler", "hello.handler", "--events", "/nowhere"], "/nowhere"),
    (64, ["learn", "a/b", "--", "/bin/true"], "a/b"),
    (75, ["learn", "x", "--from", "/nowhere"], "/nowhere"),
    (65, ["invoke", "/nowhere.yaml", "--events", "EVENTS", "--", "/bin/true"], "/nowhere.yaml"),
    (64, ["invoke", "/nowhere.yaml", "--", "/bin/true"], "--events"),
    (65, ["run", "/nowhere.yaml", "--", "/bin/true"], "/nowhere.yaml"),
    (65, ["compile", "/nowhere.yaml", "--output", "out"], "/nowhere.yaml"),
    (65, ["probe", "/nowhere.yaml"], "/nowhere.yaml"),
]


@pytest.mark.parametrize(("status", "arguments", "word"), USAGE, ids=[" ".join(case[1]) for case in USAGE])
def test_mistakes_are_told_with_their_own_exit_status(
    workshop: Workshop, status: int, arguments: list[str], word: str
) -> None:
    """What is wrong, where, and what to do; never a traceback."""
    events = str(workshop.events({}))
    done = workshop.sandbox(*[events if part == "EVENTS" else part for part in arguments], expect=status)
    assert word in done.stderr
    assert done.stderr.startswith("sandbox: ")


def test_the_profiles_of_two_functions_are_not_merged(workshop: Workshop, hello: Path) -> None:
    """--merge into another function's profile is refused, and that profile stays as it was."""
    before = hello.read_bytes()
    done = workshop.sandbox("learn", "stranger", "--output", hello, "--merge", "--", "/bin/true", expect=65)
    assert "different functions" in done.stderr
    assert hello.read_bytes() == before


def test_the_default_output_is_profiles_name(workshop: Workshop) -> None:
    """profiles/NAME.yaml in the working directory, made where it is missing."""
    workshop.sandbox("learn", "defaulted", "--cold-starts", "1", "--", "/bin/true")
    profile: Profile = document.read(str(workshop.folder / "profiles" / "defaulted.yaml")).profile
    assert profile.function.name == "defaulted"


def test_the_interpreter_is_named_from_where_the_user_stands(workshop: Workshop) -> None:
    """A relative folder, executable or link, a name on PATH, a script that chooses one: its packages load.

    The environment's own interpreter lies below /tmp, where starts see nothing of the host that they do not need.
    """
    hidden = workshop.folder / "base"
    (hidden / "bin").mkdir(parents=True)
    python = shutil.copy(BASE_PYTHON, hidden / "bin")
    (hidden / "lib").symlink_to(Path(sysconfig.get_path("stdlib")).parent)
    other = workshop.new("")
    subprocess.run([python, "-m", "venv", "--without-pip", other / "environment"], check=True)
    (site,) = other.glob("environment/lib/python3*/site-packages")
    (site / "client.pth").write_text(next(entry for entry in sys.path if (Path(entry) / "awslambdaric").is_dir()))
    (other / "link").symlink_to("environment/bin/python")
    (other / "shims").mkdir()
    shim = other / "shims" / "chosen"
    shim.write_text('#!/bin/sh\nexec "$(cat ./choice)" "$@"\n')
    shim.chmod(0o755)
    (workshop.folder / "choice").write_text(str(other / "environment" / "bin" / "python"))
    (workshop.folder / "here").symlink_to(other)
    start = ("--handler", "env_dump.handler", "--root", str(workshop.targets), "--events", workshop.events({}))
    more = {"PATH": f"{other / 'shims'}:{os.defpath}"}
    for named in ("here/environment", "here/environment/bin/python", "here/link", "chosen"):
        path = workshop.new()
        workshop.sandbox(
            "learn", "named", "--no-verify", *start, "--python", named, "--output", path, "--cold-starts", "1",
            more=more,
        )  # fmt: skip
        reads = document.read(str(path)).profile.reads
        assert "{venv}/**" in reads, named
        assert not [pattern for pattern in reads if "shims" in pattern], named
    done = workshop.sandbox("invoke", path, *start, "--python", "chosen", "--json", more=more)
    seen = json.loads(json.loads(done.stdout)["result"])
    assert seen["arguments"][0] == str(other / "environment" / "bin" / "python")
    script = other / "script"
    script.write_text(f"#!{other / 'environment' / 'bin' / 'python'}\nimport awslambdaric\n")
    script.chmod(0o755)
    program = ("--output", workshop.new(), "--cold-starts", "1", "--", script)
    workshop.sandbox("learn", "program", "--no-verify", *program)
    shim.rename(other / "shims" / "python3")
    path = workshop.new()
    script.write_text("#!/usr/bin/env python3\nimport awslambdaric\n")
    for by_name in (("--", "python3", "-c", "import awslambdaric"), ("--", script)):
        trained = ("--no-verify", "--output", path, "--cold-starts", "1", "--force")
        workshop.sandbox("learn", "program", *trained, *by_name, more=more)
        programs = document.read(str(path)).profile.processes
        assert not [one for one in programs if "/sh" in one or "cat" in one], programs
        done = workshop.sandbox("run", path, *by_name, more=more)
        assert f"is a script that chooses: {other / 'environment' / 'bin' / 'python'} is started" in done.stderr
