"""Functions with the clients that people use: trained by name, served elsewhere as another user, attacked."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from client_functions import PICKLE, ROWS, Event, Served
from production_servers import SERVERS
from sandbox_command import Workshop, workshop_of
from users_and_folders import NOBODY

from sandbox.profile import document

AMBIENT = {"runtime-api", "unix:/run/nscd/socket"}
ELSEWHERE = "/srv" if os.access("/srv", os.W_OK) else "/var/tmp"
OTHER = NOBODY if os.geteuid() == 0 else None
"""Who serves what the user of the tests has trained."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, clients: Path) -> Iterator[Callable[[str], tuple[int, Path]]]:
    """A server by its name in SERVERS, started once: its port and its folder."""
    with ExitStack() as stack:
        running: dict[str, tuple[int, Path]] = {}

        def start(name: str) -> tuple[int, Path]:
            if name not in running:
                folder = tmp_path_factory.mktemp(name)
                running[name] = stack.enter_context(SERVERS[name][0](folder)), folder
            return running[name]

        yield start


def options(row: Served, root: Path, clients: Path, server: Callable[[str], tuple[int, Path]]) -> tuple[str, ...]:
    """How the function of the row is started from its folder."""
    given = ["--handler", "app.handler", "--root", str(root), "--python", str(clients)]
    for name, value in row.variables.items():
        given += ["--env", f"{name}={value}"]
    for need in row.needs:
        if need.startswith("/"):
            if not Path(need).exists():
                pytest.skip(f"no {need}")
            continue
        port, folder = server(need)
        given += ["--stands-for", f"{SERVERS[need][1]}=127.0.0.1:{port}"]
        if need == "shop":
            given += ["--env", f"SSL_CERT_FILE={readable(folder / 'shop.pem', root)}"]
    return tuple(given)


def readable(certificate: Path, root: Path) -> Path:
    """A copy beside the function, as people bundle an authority of their own."""
    return Path(shutil.copy(certificate, root / "authority.pem"))


def function(row: Served, workshop: Workshop) -> Path:
    """The function in a folder of its own."""
    root = workshop.folder / "deployed" / row.name
    root.mkdir(parents=True)
    (root / "app.py").write_text(row.code)
    return root


def aimed(event: Event, host: str, path: Path) -> dict[str, Any]:
    """The attack with what it aims at."""
    found = {}
    for key, value in event.items():
        if value == PICKLE:
            value = base64.b64encode(base64.b64decode(PICKLE).replace(b"{path}", str(path).encode())).decode()
        found[key] = value.format(host=host, path=path) if isinstance(value, str) else value
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_is_served_as_trained(
    row: Served, workshop: Workshop, clients: Path, server: Callable[[str], tuple[int, Path]]
) -> None:
    """Its profile lists what it needs; in another tree, as another user, no line but the attack's; no attack works."""
    subprocess.run([clients / "bin/python", "-c", f"import {row.requires}"], check=True, capture_output=True)
    path = workshop.new()
    start = options(row, function(row, workshop), clients, server)
    events = workshop.events(*row.events)
    learn: tuple[str | Path, ...] = ("learn", row.name, *start, "--cold-starts", "2", "--events", events)
    learned = workshop.sandbox(*learn, "--output", path)
    profile = document.read(str(path)).profile
    assert profile.network - AMBIENT == row.network, learned.stderr
    assert profile.processes == {path for path in row.processes if path.startswith("{") or os.path.exists(path)}
    assert profile.writes == row.writes
    with workshop_of(OTHER, ELSEWHERE) as elsewhere:
        start = options(row, function(row, elsewhere), clients, server)
        shutil.copy(path, copy := elsewhere.new())
        copy.chmod(0o644)
        for mode, effect in (("enforce", False), ("audit", True)):
            check(row, elsewhere, copy, start, mode, effect)


def check(row: Served, workshop: Workshop, profile: Path, start: tuple[str, ...], mode: str, effect: bool) -> None:
    """Serve the events that training has not seen and the attack, which must have its effect or none."""
    loot = workshop.folder / "loot"
    with stranger() as (host, visits):
        events = workshop.events(*(event for event, _ in row.held_out), aimed(row.attack, host, loot))
        done = workshop.sandbox(
            "invoke", profile, *start, "--platform", "host", "--sampled", "--events", events, "--timeout", "20",
            "--json", expect=None, more={"SANDBOX_MODE": mode},
        )  # fmt: skip
        reached = bool(visits) or loot.exists()
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [json.loads(answer["result"]) for answer in answers[:-1]] == [result for _, result in row.held_out]
    assert reached is effect, done.stdout + done.stderr
    shown = row.shows.format(host=host, path=loot)
    records = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    lines = [json.dumps(record) for record in records if record["event"] not in ("sandbox", "begin", "violations")]
    # What the attack goes on to do is let through in audit; a line about the events before it would be the first.
    assert all(shown in line for line in (lines[:1] if effect else lines)), done.stderr
    assert lines or answers[-1]["status"] != "ok"


@contextmanager
def stranger() -> Iterator[tuple[str, list[str]]]:
    """A listener that nothing of production is: its HOST:PORT, and who came; it hangs up on everybody."""
    visits: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    connection, address = listener.accept()
                    visits.append(str(address))
                    connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", visits
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
