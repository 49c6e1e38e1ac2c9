"""Four ways of one profile, by the command: learn, audit, amend and enforcement, which must agree about every event.

trip = Trip(workshop, ("--handler", "everyday.handler", "--root", str(workshop.targets)))
assert trip.serve(trip.learn(*events), events, AUDIT).is_quiet
trip.heals_by_audit(trip.learn({}), events)
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sandbox_command import Event, Workshop

AUDIT: Mapping[str, str] = {"SANDBOX_MODE": "audit"}
ENFORCED: Mapping[str, str] = {}
LOOKING: Mapping[str, str] = {"SANDBOX_FILES": "look"}
MODES: Mapping[str, Mapping[str, str]] = {"enforced": ENFORCED, "looking": LOOKING, "audit": AUDIT}
ROUNDS = 5
"""So many enforced runs, each amended with its lines, may a profile need that was trained on too little."""


@dataclass(frozen=True)
class Served:
    """What each event gave, what failed, and the lines of the supervisor."""

    results: list[Any]
    failed: list[str]
    lines: list[dict[str, Any]]
    status: dict[str, Any]

    @property
    def told(self) -> list[tuple[str, ...]]:
        """Each violation in short, for the message of a failed test."""
        names = ("verdict", "phase", "syscall", "class", "target", "reason", "allow")
        return [tuple(line[name] for name in names) for line in self.lines if line["event"] == "violation"]

    @property
    def is_quiet(self) -> bool:
        """Whether every event was served, and nothing was written."""
        return not self.failed and not self.lines


def _is_of_every_audit(line: Mapping[str, Any]) -> bool:
    """Whether it only says that an audit began, or that it ended without a violation."""
    return line["event"] == "begin" or (line["event"] == "violations" and line.get("total") == 0)


def _server() -> socket.socket:
    for port in random.sample(range(20000, 30000), 50):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise OSError("no port is free")


@contextlib.contextmanager
def greeter() -> Iterator[int]:
    """The port of a server on loopback that greets whoever connects; none of those that the kernel chooses."""
    with _server() as listener:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as one:
                        one.sendall(b"hello")

        threading.Thread(target=greet, daemon=True).start()
        yield listener.getsockname()[1]


def everyday(workshop: Workshop) -> tuple[str, ...]:
    """The options that start tests/targets/everyday.py from a folder of its own."""
    root = workshop.folder / "function"
    root.mkdir(exist_ok=True)
    shutil.copy(workshop.targets / "everyday.py", root)
    for path in (root, root / "everyday.py"):
        path.chmod(0o755)
    return "--handler", "everyday.handler", "--root", str(root)


class Trip:
    """One function, by the options that start it, with its profiles."""

    def __init__(
        self, workshop: Workshop, start: Sequence[str], command: Sequence[str] = (), platform: str = "host"
    ) -> None:
        self.workshop, self.start, self.command = workshop, start, ("--", *command) if command else ()
        self.platform = platform
        self.lines = workshop.folder

    def learn(self, *events: Event | Path) -> Path:
        """The profile of one cold start with these events, or those of a folder."""
        path = self.workshop.new()
        options = ("--cold-starts", "1", "--platform", self.platform, "--events", self._written(events))
        self.workshop.sandbox("learn", "trip", "--no-verify", *self.start, *options, "--output", path, *self.command)
        return path

    def serve(self, profile: Path, events: Sequence[Event] | Path, mode: Mapping[str, str]) -> Served:
        """Serve events with a supervisor; nothing of it is expected here."""
        self.last = self.lines / self.workshop.new(".jsonl").name
        path = events if isinstance(events, Path) else self._written(events)
        with self.last.open("wb") as collector:
            more = {"SANDBOX_SUPERVISE": "1", "SANDBOX_EVENTS": f"fd:{collector.fileno()}", **mode}
            results, said = self.invoke(profile, path, more, (collector.fileno(),))
        status = [json.loads(line) for line in said.splitlines() if line.startswith('{"event": "sandbox"')]
        assert results, said
        assert status, said
        assert status[0]["mode"] == ("audit" if mode is AUDIT else "enforce")
        assert "supervision" in status[0]["enforced"], said
        failed = [str(result) for result in results if result["status"] != "ok"]
        lines = self.last.read_text().splitlines()
        told = [line for line in map(json.loads, lines) if not _is_of_every_audit(line)]
        return Served([result["result"] for result in results], failed, told, status[0])

    def invoke(
        self, profile: Path, events: Path, more: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> tuple[list[dict[str, Any]], str]:
        """What `sandbox invoke` says of each event, and what the starter and the function wrote."""
        arguments: tuple[str | Path, ...] = ("invoke", profile, *self.start, "--events", events, "--json")
        done = self.workshop.sandbox(*arguments, *self.command, expect=None, more=more, pass_fds=pass_fds)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def amend(self, profile: Path) -> str:
        """Take up the lines of the last run; what amend said."""
        return self.workshop.sandbox("profile", "amend", profile, "--from", self.last, "--yes").stdout

    def heals_by_audit(self, profile: Path, events: Sequence[Event]) -> None:
        """One audit serves all; amended with its lines, enforcement has nothing to refuse."""
        amended = self._copy(profile)
        audited = self.serve(amended, events, AUDIT)
        assert not audited.failed, audited
        said = self.amend(amended) if audited.lines else ""
        after = self.serve(amended, events, LOOKING)
        if not after.is_quiet:
            pytest.fail(f"audit: {audited.told}\namend: {said}\nafterwards: {after.failed} {after.told}")

    def heals_by_refusals(self, profile: Path, events: Sequence[Event]) -> int:
        """Enforced, looked at and amended until nothing is refused; how often that was. Fails after ROUNDS."""
        amended = self._copy(profile)
        history = []
        for count in range(ROUNDS + 1):
            served = self.serve(amended, events, LOOKING)
            if served.is_quiet:
                return count
            history.append(f"round {count + 1}: {served.failed} {served.told}")
            if count == ROUNDS or not served.lines or "nothing to add" in self.amend(amended):
                break
        pytest.fail("\n".join(history))

    def _written(self, events: Sequence[Event | Path]) -> Path:
        folders = [event for event in events if isinstance(event, Path)]
        return folders[0] if folders else self.workshop.events(*(e for e in events if not isinstance(e, Path)))

    def _copy(self, profile: Path) -> Path:
        copy = self.workshop.new()
        shutil.copyfile(profile, copy)
        copy.chmod(0o666)
        return copy
