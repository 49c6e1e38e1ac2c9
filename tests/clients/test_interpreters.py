"""Functions in many languages: trained, audited and enforced by the starter that their platform has, and attacked.

What came of it is a table in docs/platforms.md. UPDATE_PLATFORMS=1 writes the rows of the runtimes that are here.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from child_processes import in_child
from interpreters import FUNCTIONS, INTERPRETERS, Interpreter
from language_runtimes import Missing
from resolving_world import ADDRESSES, PORT, unshared
from sandbox_command import Workshop, workshop_of
from users_and_folders import HOME

from sandbox import launcher
from sandbox.kernel import abi
from sandbox.learn.host import ask_for_client
from sandbox.learn.training import bootstrap
from sandbox.profile import document
from sandbox.runtime_api import Environment, Function, Invocation
from sandbox.violations import reader

PAGE = HOME / "docs" / "platforms.md"
BEGIN, END = "<!-- runtimes: tests/clients/test_interpreters.py -->\n", "<!-- end -->"
HEAD = ("| runtime | version | starter | calls allowed | lines on its own events |", "|---|---|---|---|---|")
LIMIT = 150.0
"""Seconds for one runtime."""
UNAME, FILE = "/bin/uname", f"/tmp/interpreters-{os.getpid()}.txt"
STRANGER = ADDRESSES[1]
NAMED = {"host": "one.demo.test", "port": PORT}
TRAINED: tuple[Mapping[str, Any], ...] = ({"work": 2, "file": FILE}, {"program": UNAME}, {**NAMED, "work": 1})
NSCD = "unix:/run/nscd/socket"
"""Where glibc looks first."""
NUMBERS = {os.strerror(number): str(number) for number in errno.errorcode}
HOT: Mapping[str, Any] = {"work": 4, "file": FILE}
ROWS: dict[str, str] = {}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """Where starts see what they were trained with: not below /tmp."""
    with workshop_of(None, "/var/tmp") as found:
        yield found


class Served:
    """One start under enforcement, and what it says and does."""

    def __init__(self, workshop: Workshop, runtime: Interpreter, command: tuple[str, ...], bundle: Path) -> None:
        self.log = workshop.new(".log")
        variables = {"SANDBOX_POLICY": str(bundle), "PYTHONDONTWRITEBYTECODE": "1"}
        start = (str(launcher.path(abi.MACHINE)), *command)
        if runtime.python:
            client = ask_for_client(command[0], str(FUNCTIONS))
            variables |= {"SANDBOX_PYTHON": client.path, "AWS_EXECUTION_ENV": client.execution_environment}
            start = bootstrap()
        self._function = Function(
            command=start, root=str(FUNCTIONS), handler="function.handler", environment=variables, name="function",
            timeout=30,
        )  # fmt: skip

    def __enter__(self) -> Served:
        self._output = self.log.open("wb")
        self._environment = Environment(self._function, stdout=self._output, stderr=self._output)
        self._environment.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.__exit__(None, None, None)
        self._output.close()

    def ask(self, event: Mapping[str, Any]) -> dict[str, str]:
        """Serve it. The answer, in which texts of strerror(3) are numbers."""
        outcome = self._environment.invoke(Invocation(json.dumps(event).encode()))
        assert outcome.status == "ok", (outcome, self.log.read_text(errors="replace"))
        answer: dict[str, str] = json.loads(outcome.payload)
        return {name: _number(said) for name, said in answer.items()}

    def lines(self) -> list[str]:
        """The violations so far: call and target."""
        with self.log.open("rb") as file:
            return [f"{one.syscall} {one.target}" for line in reader.lines(file) if (one := line.violation)]

    @property
    def in_force(self) -> list[str]:
        """What the status line says."""
        lines = self.log.read_text(errors="replace").splitlines()
        (status,) = [json.loads(line) for line in lines if line.startswith('{"event": "sandbox"')]
        assert status["mode"] == "enforce"
        enforced: list[str] = status["enforced"]
        return enforced


def _number(said: str) -> str:
    return next((number for text, number in NUMBERS.items() if said.endswith(text)), said)


def good(event: Mapping[str, Any]) -> dict[str, str]:
    """The answer to an event of training."""
    names = {"host": "connect"}
    return {names.get(name, name): "ok" for name in event if name != "port"}


@pytest.mark.parametrize("runtime", INTERPRETERS, ids=lambda runtime: runtime.name)
def test_a_runtime(workshop: Workshop, runtime: Interpreter) -> None:
    """Audited and enforced it serves what it was trained for without a line, and three attacks are refused."""
    try:
        command = runtime.build(workshop.folder)
    except Missing as missing:
        pytest.skip(str(missing))
    path, bundle, marker = workshop.new(), workshop.new(""), workshop.new("")
    start = ("--python", command[0], "--handler", "function.handler") if runtime.python else ("--", *command)
    script = workshop.new(".sh")
    script.write_text(f"#!/bin/sh\n: > {marker}\n")
    script.chmod(0o755)

    def inside() -> None:
        with unshared(ipv6=False) as world, socket.create_server((STRANGER, 0)) as stranger:
            stranger.setblocking(False)
            workshop.sandbox(
                "learn", "function", "--root", FUNCTIONS, "--events", workshop.events(*TRAINED), "--cold-starts", "1",
                "--output", path, *start,
            )  # fmt: skip
            workshop.sandbox("compile", path, "--output", bundle)
            with Served(workshop, runtime, command, bundle) as served:
                for event in (*TRAINED * 2, *[HOT] * runtime.hot, *TRAINED):
                    assert served.ask(event) == good(event), served.lines()
                assert served.lines() == []
                assert {"syscalls", "supervision"} <= {text.partition(":")[0] for text in served.in_force}
                assert served.ask({"file": str(marker)}) == {"file": str(errno.EACCES)}
                assert served.ask({"program": str(script)}) == {"program": runtime.not_started}
                attack = {"host": STRANGER, "port": stranger.getsockname()[1]}
                assert served.ask(attack) == {"connect": str(errno.EPERM)}
                assert any(f"{attack['host']}:{attack['port']}" in line for line in served.lines()), served.lines()
                for event in TRAINED:
                    assert served.ask(event) == good(event)
            assert not marker.exists()
            with pytest.raises(BlockingIOError):
                stranger.accept()
            assert set(world.asked) == {"one.demo.test"}

    in_child(inside, None, limit=LIMIT)
    profile = document.read(str(path)).profile
    assert profile.network - {NSCD} == {"runtime-api", f"one.demo.test:{PORT}"}
    assert profile.verified
    assert (profile.verified.audit, profile.verified.enforce) == ("ok", "ok")
    calls = len({use.syscall for use in profile.uses})
    ROWS[runtime.name] = f"| {runtime.name} | {runtime.said_version(command)} | {runtime.starter} | {calls} | none |"


def test_the_table() -> None:
    """docs/platforms.md has the rows of this very run, but for numbers; those of runtimes that are not here stay."""
    before, mark, rest = PAGE.read_text().partition(BEGIN)
    told = {row.split(" | ")[0].removeprefix("| "): row for row in rest[: rest.index(END)].splitlines() if "|" in row}
    rows = [ROWS.get(name) or told.get(name) for name in (runtime.name for runtime in INTERPRETERS)]
    if os.environ.get("UPDATE_PLATFORMS"):
        text = "\n".join(["", *HEAD, *filter(None, rows), "", ""])
        PAGE.write_text(before + mark + text + rest[rest.index(END) :])
        return
    assert mark
    for name, row in ROWS.items():
        assert re.sub(r"\d[\d.]*", "N", told[name]) == re.sub(r"\d[\d.]*", "N", row)
