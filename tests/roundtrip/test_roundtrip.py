"""learn, compile, invoke: the command as people use it, in its own processes, as root and as an unprivileged user."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from users import NOBODY, USERS, as_user, home_for, imports, place
from workshop import Event, Workshop

from sandbox.profile import document
from sandbox.profile.model import Profile
from sandbox.runtime_api import Environment, Function, Invocation

BASE_PYTHON = os.path.realpath(sys.executable)


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """The user of the tests."""
    with place(None) as folder, home_for(None) as home:
        yield Workshop(None, home, folder)


@pytest.fixture(scope="module")
def workshops() -> Iterator[dict[int | None, Workshop | str]]:
    """A workshop for each user, or the reason why there is none."""
    found: dict[int | None, Workshop | str] = {}
    with home_for(None) as home, place(None) as folder, home_for(NOBODY) as other_home, place(NOBODY) as other_folder:
        found[None] = Workshop(None, home, folder)
        problem = imports(NOBODY, other_home)
        found[NOBODY] = problem or Workshop(NOBODY, other_home, other_folder)
        yield found


@pytest.fixture(scope="module")
def c_runtime() -> Iterator[Path]:
    """The custom runtime in C."""
    with place(None) as folder, home_for(None) as home:
        source = home / "examples" / "c-runtime" / "runtime.c"
        subprocess.run(["cc", "-O2", "-std=c11", "-o", str(folder / "runtime"), str(source)], check=True)
        yield folder / "runtime"


@dataclass(frozen=True)
class Case:
    """A function: how it is started, what it is trained on, what it must then still do, and what it was seen to do."""

    name: str
    handler: str = ""
    root: str = "tests/targets"
    command: tuple[str, ...] = ()
    events: tuple[Event, ...] | str = ()
    held_out: tuple[Event, ...] = ()
    promises: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset({"proc", "exec", "prot_exec"})
    processes: frozenset[str] = field(default=frozenset())

    def start(self, workshop: Workshop) -> list[str]:
        """The options of learn and invoke."""
        root = ["--root", str(workshop.home / self.root)]
        return [*root, "--handler", self.handler] if self.handler else [*root, "--", *self.command]


HELLO = Case(
    "hello", "hello.handler", events="examples/hello/events", held_out=({"x": [1, 2]}, {"long": "y" * 100_000})
)
THREADS = Case(
    "threads",
    "threads.handler",
    events=({}, {"threads": 2}),
    held_out=({"threads": 7},),
    promises=frozenset({"thread"}),
)
SHELL = Case(
    "shell",
    root="examples/shell-runtime",
    command=("./bootstrap.handler",),
    events="examples/shell-runtime/events",
    held_out=({"text": "held out"}, {"n": 7}),
    promises=frozenset({"proc", "exec", "inet"}),
    without=frozenset({"prot_exec"}),
    processes=frozenset({"curl", "sha256sum", "wc"}),
)
CASES = [
    HELLO,
    THREADS,
    SHELL,
    Case(
        "sqlite",
        "sqlite_tmp.handler",
        events=({}, {"rows": 3}),
        held_out=({"rows": 500},),
        promises=frozenset({"cpath", "wpath"}),
    ),
    Case(
        "subprocess",
        "subprocess_one.handler",
        events=({}, {"stdin": "some text"}),
        held_out=({"stdin": "other " * 2000},),
        promises=frozenset({"proc", "exec"}),
        without=frozenset({"prot_exec"}),
        processes=frozenset({"true", "gzip"}),
    ),
    Case(
        "c-runtime",
        root="examples/c-runtime",
        command=("RUNTIME",),
        events="examples/c-runtime/events",
        held_out=({"text": "held out"}, {"none": 1}),
        promises=frozenset({"inet"}),
        without=frozenset({"proc", "exec", "thread"}),
    ),
]
ALSO_UNPRIVILEGED = (HELLO, THREADS, SHELL)
ROUNDS = [(case, uid) for case in CASES for uid in USERS if uid is None or case in ALSO_UNPRIVILEGED]


@pytest.mark.parametrize(("case", "uid"), ROUNDS, ids=[f"{case.name}-{uid or 'self'}" for case, uid in ROUNDS])
def test_round_trip(workshops: dict[int | None, Workshop | str], c_runtime: Path, case: Case, uid: int | None) -> None:
    """What was trained works under the compiled policy, what was held out too, and the profile says what it is."""
    workshop = workshops[uid]
    if isinstance(workshop, str):
        pytest.skip(workshop)
    start = [str(c_runtime) if part == "RUNTIME" else part for part in case.start(workshop)]
    events = workshop.home / case.events if isinstance(case.events, str) else workshop.events(*case.events)
    path = workshop.new()
    options = start[: start.index("--")] if "--" in start else start
    command = start[start.index("--") :] if "--" in start else []
    told = workshop.sandbox("learn", case.name, *options, "--events", events, "--output", path, *command).stdout
    assert "cold start 3/3" in told
    assert re.search(r"\d+ more quiet (invocations|starts) reach 1%", told)

    profile = document.read(str(path)).profile
    assert case.promises <= set(profile.promises)
    assert not case.without & set(profile.promises)
    assert {Path(program).name for program in profile.processes} >= case.processes
    assert bool(profile.processes) == bool(case.processes)
    assert {use.phase for use in profile.uses} == {"init", "invoke"}
    inet = {destination for destination in profile.network if not destination.startswith("unix:")}
    assert inet == {"runtime-api"}

    bundle = workshop.new("")
    workshop.sandbox("compile", path, "--output", bundle)
    assert {entry.name for entry in bundle.iterdir()} >= {"x86_64.bpf", "aarch64.bpf", "policy.json", "listing.txt"}

    results = workshop.invoke(path, start, events)
    assert len(results) >= 2
    assert [line["status"] for line in results] == ["ok"] * len(results)
    assert [line["index"] for line in results] == list(range(len(results)))
    held_out = workshop.invoke(path, start, workshop.events(*case.held_out))
    assert [line["status"] for line in held_out] == ["ok"] * len(case.held_out)


@pytest.fixture(scope="module")
def hello(workshop: Workshop) -> Path:
    """The profile of the plainest handler."""
    path = workshop.new()
    events = workshop.home / "examples/hello/events"
    workshop.sandbox("learn", "hello", *HELLO.start(workshop), "--events", events, "--output", path)
    return path


@pytest.fixture(scope="module")
def fails(workshop: Workshop) -> Path:
    """The profile of a handler that fails when asked to, learned from an event that does not ask."""
    path = workshop.new()
    start = ("--handler", "fails.handler", "--root", workshop.targets)
    workshop.sandbox("learn", "fails", *start, "--events", workshop.events({}), "--output", path, "--cold-starts", "1")
    return path


def test_what_was_not_learned_is_refused(workshop: Workshop, hello: Path) -> None:
    """Under the profile of hello a fork fails with EPERM, nothing was made, and the next event still works."""
    marker = workshop.new("")
    start = ("--handler", "forks.handler", "--root", str(workshop.targets))
    results = workshop.invoke(hello, start, workshop.events({"marker": str(marker)}, {}))
    assert [json.loads(line["result"]) for line in results] == [{"errno": 1}] * 2
    assert not marker.exists()


def test_a_failed_invocation_has_exit_status_1(workshop: Workshop, fails: Path) -> None:
    """Each result is printed with its error, and the events after a failure are served."""
    start = ("--handler", "fails.handler", "--root", str(workshop.targets))
    results = workshop.invoke(fails, start, workshop.events({}, {"fail": True}, {}), expect=1)
    assert [line["status"] for line in results] == ["ok", "error", "ok"]
    assert (results[1]["error_type"], results[1]["error_message"]) == ("ValueError", "asked to fail")
    assert all(isinstance(line["duration"], float) for line in results)
    plain = workshop.sandbox("invoke", fails, *start, "--events", workshop.events({"fail": True}), expect=1)
    assert "ValueError: asked to fail" in plain.stdout
    assert "1 of 1 invocations failed" in plain.stderr


def test_a_plain_program(workshop: Workshop) -> None:
    """Without a Runtime API there is one phase, and `sandbox run` takes the program's place and its exit status."""
    path, source, copy = workshop.new(), workshop.new(".txt"), workshop.new(".txt")
    source.write_text("some text\n")
    script = (workshop.targets / "plain_copy.sh", source, copy)
    workshop.sandbox("learn", "copy", "--output", path, "--", "/bin/sh", *script)
    assert copy.read_text() == "some text\n"
    profile = document.read(str(path)).profile
    assert not profile.function.runtime_api
    assert {use.phase for use in profile.uses} == {"run"}
    assert {Path(program).name for program in profile.processes} == {"cp", "cmp"}
    assert {"exec", "proc", "cpath"} <= set(profile.promises)
    assert profile.network == frozenset()

    copy.unlink()
    workshop.sandbox("run", path, "--", "/bin/sh", *script)
    assert copy.read_text() == "some text\n"
    workshop.sandbox("run", path, "--", "/bin/sh", "-c", "exit 7", expect=7)
    link = workshop.new("")
    refused = workshop.sandbox("run", path, "--", "/bin/sh", "-c", f"ln -s target {link}", expect=1)
    assert "Operation not permitted" in refused.stderr
    assert not link.is_symlink()
    bundle = workshop.new("")
    workshop.sandbox("compile", path, "--output", bundle)
    workshop.sandbox("run", bundle, "--", "/bin/sh", *script)


def test_compiling_twice_gives_the_same_bytes(workshop: Workshop, hello: Path) -> None:
    """A bundle depends on the profile and on nothing else."""
    one, other = workshop.new(""), workshop.new("")
    workshop.sandbox("compile", hello, "--output", one)
    workshop.sandbox("compile", hello, "--output", other, "--arch", "all")
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes()


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
    assert [line["event"] for line in lines] == ["step"] * 4 + ["profile"]
    assert [(line["cold_start"], line["status"]) for line in lines[:4]] == [
        (1, "ready"),
        (1, "ok"),
        (2, "ready"),
        (2, "ok"),
    ]
    assert sum(line["new_items"] for line in lines[:2]) > 5
    profile = document.read(str(path)).profile
    assert (lines[4]["path"], lines[4]["promises"]) == (str(path), list(profile.promises))
    assert lines[4]["completeness"]["invoke"]["samples"] == 1
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
    text = re.sub(r"(vfork: .*)because: .*}", r"\1because: runs /bin/true to see that it can}", text)
    path.write_text(text)
    first = document.read(str(path)).profile
    workshop.sandbox("learn", "merged", *start, "--events", workshop.events({"stdin": "text"}), "--merge")
    both = document.read(str(path)).profile
    assert [(grant.syscall, grant.because) for grant in both.grants] == [("bpf", "counts its own packets")]
    assert both.items() > first.items()
    assert both.processes == {"/bin/true", "/usr/bin/gzip"}
    assert len(both.trainings) == 2
    assert "runs /bin/true to see that it can" in next(use.because for use in both.uses if use.syscall == "vfork")
    workshop.sandbox("learn", "merged", *start, "--events", workshop.events({}))
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
    done = workshop.sandbox(*learn)
    assert "refused in training, hard-denied: ptrace" in done.stdout
    (grant,) = re.findall(r"to grant it: (grants: .*)", done.stdout)
    assert "ptrace" not in {use.syscall for use in document.read(str(path)).profile.uses}
    refused = workshop.invoke(path, start, events)
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


@pytest.mark.parametrize("named", ["/nowhere/python", "/bin/true", "/etc/passwd"])
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
    (64, ["learn", "x", "--handler", "hello.handler", "--events", "e", "--", "/bin/true"], "--handler"),
    (64, ["learn", "x", "--handler", "hello.handler", "--root", "/nowhere", "--events", "e"], "/nowhere"),
    (64, ["learn", "x", "--handler", "hello.handler", "--events", "/nowhere"], "/nowhere"),
    (65, ["learn", "a/b", "--", "/bin/true"], "a/b"),
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
