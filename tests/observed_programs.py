"""Programs under observation: a user with a folder, ways to run programs there, and what was seen of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from users_and_folders import as_user, identity

from sandbox.learn import observations
from sandbox.learn.cold_starts import ColdStart, Item
from sandbox.runtime_api import Environment as Served
from sandbox.runtime_api import Function, Invocation, Outcome

PYTHON = os.path.realpath(sys.executable)
LIMIT = 30.0
LIBC = "import ctypes, os, socket\nLIBC = ctypes.CDLL(None, use_errno=True)\n"


@dataclass(frozen=True)
class Seen:
    """What a run left: its observations as data and as lines, its exit status, its output and the answers."""

    cold_start: ColdStart
    lines: list[dict[str, Any]]
    status: int | None
    output: str = ""
    outcomes: tuple[Outcome, ...] = ()

    def items(self, phase: str = "run") -> set[str]:
        """`syscall class` of a phase."""
        return {f"{syscall} {name}".strip() for found, syscall, name in self.cold_start.items if found == phase}

    def count(self, item: Item) -> int:
        """How often an item was counted in all samples."""
        return sum(sample.items.get(item, 0) for sample in self.cold_start.samples)

    @property
    def network(self) -> set[str]:
        """Destinations but for the Runtime API."""
        return set(self.cold_start.network) - {"runtime-api"}


class Bench:
    """A user with a folder, and ways to observe programs as this user."""

    def __init__(self, uid: int | None, home: Path, folder: Path) -> None:
        self.uid, self.home, self.folder = uid, home, folder
        self._runs = 0

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """The command that starts the bootstrap."""
        return (sys.executable, "-I", "-S", str(self.home / "bootstrap"))

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for the bootstrap; observations go to a new file."""
        self._runs += 1
        file = self.folder / f"observations-{self._runs}.jsonl"
        return {"PATH": os.defpath, "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(file), **more}

    def start(self, *command: str, **more: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a command under observation."""
        environment = self.environment(**more)
        process = subprocess.Popen(
            [*self.bootstrap, *command], cwd=self.folder, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **identity(self.uid),
        )  # fmt: skip
        return process, Path(environment["SANDBOX_OBSERVATIONS"])

    def run(self, *command: str, **more: str) -> Seen:
        """Observe a command to its end."""
        process, file = self.start(*command, **more)
        output, log = process.communicate(timeout=LIMIT)
        assert file.exists(), log
        return seen(file, process.returncode, output=output)

    def python(self, code: str, *arguments: str, **more: str) -> Seen:
        """Observe a piece of Python that must end well."""
        found = self.run(PYTHON, "-I", "-S", "-c", LIBC + textwrap.dedent(code), *arguments, **more)
        assert found.status == 0, found
        return found

    def serve(self, handler: str, *events: Mapping[str, Any], **more: str) -> Seen:
        """Observe a handler of tests/targets under awslambdaric and the Runtime API."""
        variables = self.environment(SANDBOX_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1", **more)
        command = as_user(self.uid, self.bootstrap)
        function = Function(
            command, str(self.home / "tests/targets"), variables, handler=handler, timeout=LIMIT, init_timeout=LIMIT
        )
        log = self.folder / "log"
        with log.open("w") as out, Served(function, stdout=out, stderr=out) as served:
            outcomes = tuple(served.invoke(Invocation(json.dumps(event).encode())) for event in events)
            status = served.stop()
        return seen(Path(variables["SANDBOX_OBSERVATIONS"]), status, outcomes=outcomes)


def seen(file: Path, status: int | None, output: str = "", outcomes: Sequence[Outcome] = ()) -> Seen:
    """Read what was observed."""
    (cold_start,) = observations.read([str(file)])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return Seen(cold_start, lines, status, output, tuple(outcomes))


def result(outcome: Outcome) -> dict[str, Any]:
    """What a handler answered."""
    assert outcome.status == "ok", outcome
    found: dict[str, Any] = json.loads(outcome.payload)
    return found


class Listener:
    """A TCP server on loopback that answers each line with `pong`, and a UDP socket that takes what comes."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(5)
        self.port: int = self.tcp.getsockname()[1]
        self.udp_port: int = self.udp.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self.tcp.accept()
            except OSError:
                return
            with line:
                if line.recv(64):
                    line.sendall(b"pong\n")

    def close(self) -> None:
        """End the server."""
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        self._thread.join()
        self.udp.close()
