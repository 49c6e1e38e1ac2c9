"""learn, compile, invoke: the command as people use it, in its own processes, as root and as an unprivileged user."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sandbox_command import Event, Workshop
from users_and_folders import USERS, home_for, imports, place

from sandbox.bundle import arches
from sandbox.kernel import tables
from sandbox.profile import document


@pytest.fixture(scope="module")
def workshops() -> Iterator[dict[int | None, Workshop | str]]:
    """A workshop for each user, or the reason why there is none."""
    with contextlib.ExitStack() as stack:
        found: dict[int | None, Workshop | str] = {}
        for uid in USERS:
            home = stack.enter_context(home_for(uid))
            found[uid] = imports(uid, home) or Workshop(uid, home, stack.enter_context(place(uid)))
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
    options = options if case is HELLO else [*options, "--no-verify"]  # what follows serves more than its own events
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
    assert {entry.name for entry in bundle.iterdir()} == {"policy.bin", "listing.txt", "profile.yaml"}
    assert tuple(arches(str(bundle))) == tables.ARCHES

    results = workshop.invoke(path, start, events)
    assert len(results) >= 2
    assert [line["status"] for line in results] == ["ok"] * len(results)
    assert [line["index"] for line in results] == list(range(len(results)))
    held_out = workshop.invoke(path, start, workshop.events(*case.held_out))
    assert [line["status"] for line in held_out] == ["ok"] * len(case.held_out)


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
    refused = workshop.sandbox("run", path, "--", "/bin/sh", "-c", f"ln -s target {link}", expect=126)
    assert "Operation not permitted" in refused.stderr  # no program that was learned
    assert "a program that the profile does not list" in refused.stderr
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


def test_a_log_lies_where_its_path_says(workshop: Workshop, hello: Path) -> None:
    """A relative path of SANDBOX_EVENTS is the caller's, not in the function's folder; a closed descriptor is named."""
    start = ("--handler", "forks.handler", "--root", str(workshop.targets))
    marker, lines = workshop.new(""), workshop.new(".jsonl")
    more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_EVENTS": f"file:{lines.name}"}
    events = workshop.events({"marker": str(marker)})
    workshop.invoke(hello, start, events, more=more)
    assert json.loads(lines.read_text().splitlines()[0])["event"] == "violation"
    more["SANDBOX_EVENTS"] = "fd:777"
    done = workshop.sandbox("invoke", hello, *start, "--events", events, expect=1, more=more)
    assert "SANDBOX_EVENTS=fd:777: cannot be opened: Bad file descriptor" in done.stdout
