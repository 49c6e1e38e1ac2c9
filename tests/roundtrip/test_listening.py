"""Functions that listen, from training to production: what was trained is served without a line, and no more."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_command import Workshop, workshop_of
from users_and_folders import USERS, user_id

from sandbox.kernel import landlock
from sandbox.profile import document

CODE = """
import asyncio, http.server, json, multiprocessing, socket, threading, urllib.request


class Pong(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"pong")

    def log_message(self, *arguments):
        pass


async def echo():
    async def answer(reader, writer):
        writer.write(await reader.read(9))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"echo")
    found = await reader.read(9)
    writer.close()
    server.close()
    return found.decode()


def web(host, port):
    with http.server.ThreadingHTTPServer((host, port), Pong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/" % server.server_port, timeout=5).read().decode()
        finally:
            server.shutdown()
            thread.join()


def datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        two.sendto(b"sent", one.getsockname())
        data, client = one.recvfrom(9)
        one.sendto(data, client)
        return two.recv(9).decode()


def route(said):
    with socket.socket(type=socket.SOCK_DGRAM) as line:
        line.connect(("127.0.0.3", PORT))
        return line.send(said) if said else line.getsockname()[0]


def handler(event, context):
    if "said" in event:
        return route(event["said"].encode())
    if "listen" in event:
        host, port = event["listen"]
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.bind((host, port))
            line.listen()
            return "listens"
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        shared["kept"] = "kept"
        kept = shared["kept"]
    return [web("127.0.0.1", 0), web("127.0.0.1", PORT), asyncio.run(echo()), datagram(), route(b""), kept]
"""
ALL = ["pong", "pong", "echo", "sent", "127.0.0.1", "kept"]
FREE = 18471


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """Each user with the commands."""
    with workshop_of(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def trained(workshop: Workshop) -> tuple[Path, tuple[str, ...]]:
    """The profile of the function, and the options that start it."""
    root = workshop.folder / "function"
    root.mkdir()
    (root / "app.py").write_text(CODE.replace("PORT", str(FREE)))
    for place in (root, root / "app.py"):
        place.chmod(0o755)
    start, path = ("--handler", "app.handler", "--root", str(root)), workshop.new()
    events = ("--events", workshop.events({"n": 1}, {"n": 2}), "--cold-starts", "1")
    workshop.sandbox("learn", "listens", "--no-verify", *start, *events, "--output", path)
    return path, start


def violations(log: str) -> list[dict[str, object]]:
    """The lines of violations in a log."""
    found = [json.loads(line) for line in log.splitlines() if line.startswith('{"')]
    return [line for line in found if line.get("event") == "violation"]


def test_what_is_learned(trained: tuple[Path, tuple[str, ...]]) -> None:
    """The port that the function names, any for those that the kernel chooses, and the pattern of the manager."""
    profile = document.read(str(trained[0])).profile
    assert {"tcp://127.0.0.1:*"} <= profile.listen <= {
        "tcp://127.0.0.1:*", f"tcp://127.0.0.1:{FREE}", "unix:/tmp/pymp-*/listener-*",
    }  # fmt: skip
    assert {"own", "routes"} <= profile.network
    assert not [entry for entry in profile.network if entry.startswith(("tcp://", "udp://")) and str(FREE) not in entry]


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_trained_listeners_are_served(
    workshop: Workshop, trained: tuple[Path, tuple[str, ...]], mode: str
) -> None:
    """An HTTP server, asyncio with its socket pair, a datagram to itself and back, and a manager write no line.

    Neither does a datagram socket that only asks for its address, and what it then tries to send goes nowhere.
    """
    profile, start = trained
    events, more = workshop.events({"n": 3}, {"said": "a secret"}), {"SANDBOX_MODE": mode}
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.3", FREE))
        stranger.setblocking(False)
        done = workshop.sandbox("invoke", profile, *start, "--events", events, "--json", expect=1, more=more)
        with pytest.raises(BlockingIOError):
            stranger.recv(9)
    served, mute = (json.loads(line) for line in done.stdout.splitlines())
    assert (json.loads(served["result"]), mute["error_type"]) == (ALL, "BrokenPipeError")
    assert f'"mode": "{mode}"' in done.stderr
    assert violations(done.stderr) == []


def test_another_listener_is_refused_and_amended(workshop: Workshop, trained: tuple[Path, tuple[str, ...]]) -> None:
    """On every address it is refused with one line, and allowed after amend with that line."""
    profile, start = trained
    events = workshop.events({"listen": ["0.0.0.0", FREE]}, {"n": 4})
    done = workshop.sandbox("invoke", profile, *start, "--events", events, "--json", expect=None)
    refused, served = (json.loads(line) for line in done.stdout.splitlines())
    assert (refused["error_type"], json.loads(served["result"])) == ("PermissionError", ALL)
    (line,) = violations(done.stderr)
    assert (line["syscall"], line["target"]) == ("bind", f"tcp://0.0.0.0:{FREE}")
    log, better = workshop.new(".log"), workshop.new()
    log.write_text(done.stderr)
    better.write_text(profile.read_text())
    better.chmod(0o666)
    workshop.sandbox("profile", "amend", better, "--from", log, "--yes")
    assert f"tcp://0.0.0.0:{FREE}" in document.read(str(better)).profile.listen
    assert [found["result"] for found in workshop.invoke(better, start, events)] == ['"listens"', json.dumps(ALL)]


@pytest.mark.skipif(landlock.abi_version() < 4, reason="Landlock ABI 4 is needed for ports (Linux 6.7)")
def test_without_a_supervisor_landlock_keeps_the_ports(
    workshop: Workshop, trained: tuple[Path, tuple[str, ...]]
) -> None:  # fmt: skip
    """With named ports only these are bound, whatever the address, and the status line says what stays open."""
    profile, start = trained
    text = profile.read_text()
    narrow = workshop.new()
    narrow.write_text(text.replace("tcp://127.0.0.1:*", f"tcp://127.0.0.1:{FREE}"))
    events = workshop.events({"listen": ["0.0.0.0", FREE + 1]}, {"listen": ["0.0.0.0", FREE]})
    options = ("--events", events, "--json")
    done = workshop.sandbox("invoke", narrow, *start, *options, expect=None, more={"SANDBOX_SUPERVISE": "0"})
    refused, served = (json.loads(line) for line in done.stdout.splitlines())
    assert (refused["error_type"], served["result"]) == ("PermissionError", '"listens"')
    assert '"listening: on any address"' in done.stderr
