"""Local fakes for destinations of production: trained and served against them, under production's names."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from guests import inside
from local_service import answering
from sandbox_command import Workshop

from sandbox.profile import document

ROOT = Path(__file__).resolve().parents[2]
NAME = "db.example.invalid"
"""No resolver has it (RFC 6761, 6.4), so that an answer can only be the fake's."""


def fake(host: str = "127.0.0.1") -> AbstractContextManager[int]:
    """A TCP service that answers each connection once; its port."""
    return answering(host, b"the fake\n")


def network(path: Path) -> set[str]:
    """The destinations of a profile, without what glibc asks for before it asks a resolver."""
    return set(document.read(str(path)).profile.network - {"unix:/run/nscd/socket"})


def results(lines: list[dict[str, str]]) -> list[object]:
    """What each event returned."""
    return [json.loads(line["result"]) for line in lines]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_function_is_trained_and_served_against_a_fake(workshop: Workshop, host: str) -> None:
    """The profile names production alone; enforced, the name leads to the fake, and nothing else is reached."""
    path, bundle = workshop.new(), workshop.new("")
    where = ("--handler", "fetch.handler", "--root", str(workshop.targets))
    good = {"host": NAME, "port": 5432}
    with fake("::1" if host == "::1" else "127.0.0.1") as port:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        stands_for = ("--stands-for", f"{NAME}:5432={address}")
        learn = ("learn", "fetch", *where, "--events", workshop.events(good), "--output", path, "--cold-starts", "1")
        done = workshop.sandbox(*learn, *stands_for)
        assert "nothing connected" not in done.stderr
        assert network(path) == {"runtime-api", f"{NAME}:5432"}

        asked = workshop.events(
            good, {"host": NAME, "port": 80}, {"host": "127.0.0.1", "port": port}, {"host": "198.18.0.1", "port": 80},
            {"host": "other.example.invalid", "port": 5432}, good,
        )  # fmt: skip
        served = workshop.sandbox("invoke", path, *where, *stands_for, "--events", asked, "--json")
        answers = results([json.loads(line) for line in served.stdout.splitlines()])
        assert answers[0] == answers[5] == {"answer": "the fake\n"}
        assert answers[1:4] == [{"error": "PermissionError 1"}] * 3
        assert str(answers[4]).startswith("{'error': 'gaierror")
        assert f"{NAME}:5432=" in served.stderr.partition("degraded")[2].partition("]")[0]
        assert f'"target": "{NAME}:80"' in served.stderr

        served = workshop.sandbox(
            "invoke", path, *where, *stands_for, "--events", workshop.events(good), more={"SANDBOX_MODE": "audit"}
        )
        assert "the fake" in served.stdout
        assert '"event": "violation"' not in served.stderr

        alone = workshop.sandbox(
            "invoke", path, *where, *stands_for, "--events", asked, expect=1, more={"SANDBOX_SUPERVISE": "0"}
        )
        assert "SANDBOX_STANDS_FOR: is set, but without a supervisor no connect is led to a fake" in alone.stderr
        assert "the fake" not in alone.stdout
        [answer] = results(workshop.invoke(path, where, workshop.events(good)))
        assert str(answer).startswith("{'error': 'gaierror")
    workshop.sandbox("compile", path, "--output", bundle)
    for file in Path(bundle).rglob("*"):
        assert b"198.18" not in file.read_bytes()
        assert str(port).encode() not in file.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a guest: needs root")
def test_a_supervisor_that_makes_the_sockets_leads_them_too(workshop: Workshop) -> None:
    """Where sockets cannot be duplicated, a fake is reached all the same; training there is refused."""
    path = workshop.new()
    where = ("--handler", "fetch.handler", "--root", str(workshop.targets))
    events = workshop.events({"host": NAME, "port": 5432})
    with fake() as port:
        stands_for = ("--stands-for", f"{NAME}:5432=127.0.0.1:{port}", "--events", str(events))
        learn = ("learn", "fetch", *where, *stands_for, "--output", str(workshop.new()), "--cold-starts", "1")
        workshop.sandbox(*learn[:-4], "--output", path, "--cold-starts", "1")
        invoke = ("invoke", str(path), *where, *stands_for, "--json")
        served, refused = (
            subprocess.run(
                [*inside("docker-like"), sys.executable, "-m", "sandbox", *arguments], cwd=ROOT, capture_output=True,
                text=True, check=False, timeout=120,
            )
            for arguments in (invoke, learn)
        )  # fmt: skip
    assert "the fake" in served.stdout, served.stderr
    assert refused.returncode == 74
    assert "no connect can be led to what stands for its destination" in refused.stderr


def test_a_fake_that_is_not_there(workshop: Workshop) -> None:
    """The function gets its ECONNREFUSED, for another port of the name as well; a fake that nobody used is told."""
    path = workshop.new()
    start = ("--handler", "fetch.handler", "--root", workshop.targets, "--output", path, "--cold-starts", "1")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        stands_for = ("--stands-for", f"{NAME}:5432=127.0.0.1:{nobody.getsockname()[1]}")
        events = workshop.events({"host": NAME, "port": 5432}, {"host": NAME, "port": 80})
        workshop.sandbox("learn", "fetch", *start, *stands_for, "--events", events)
    assert network(path) == {"runtime-api", f"{NAME}:5432", f"{NAME}:80"}
    events = workshop.events({"host": "127.0.0.1", "port": 1})
    done = workshop.sandbox("learn", "fetch", *start, *stands_for, "--events", events, "--force")
    assert f"nothing connected to {NAME}:5432, for which --stands-for names a fake" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("db:5432", "'db:5432' is not a destination and a fake"),
        ("*.db.test:1=127.0.0.1:1", "not one host and port"),
        ("db.test:*=127.0.0.1:1", "not one host and port"),
        ("udp://db.test:1=127.0.0.1:1", "not one host and port"),
        ("unix:/x=127.0.0.1:1", "not one host and port"),
        ("10.0.0.1:1=127.0.0.1:*", "'127.0.0.1:*' is not an address and a port"),
        ("db.test:1=no.such.host.invalid:1", "cannot be resolved"),
    ],
)
def test_what_stands_for_nothing(workshop: Workshop, text: str, says: str) -> None:
    """A fake is one address and port for one name or address and port; anything else is an error of its option."""
    done = workshop.sandbox("learn", "x", "--stands-for", text, "--", "/bin/true", expect=64)
    assert done.stderr.startswith("sandbox: --stands-for: ")
    assert says in done.stderr


OWN_RESOLVER = """
import socket, struct
SERVER = ("192.0.2.53", 53)

def handler(event, context):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in event["host"].split("."))
    question = struct.pack(">6H", 7, 256, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.settimeout(5)
        resolver.sendto(question, SERVER)
        answer, sender = resolver.recvfrom(512)
    if sender != SERVER or answer[7] != 1:
        return {"sender": sender, "answers": answer[7]}
    with socket.create_connection((socket.inet_ntoa(answer[-4:]), event["port"]), 5) as connection:
        connection.sendall(b"hello\\n")
        return {"answer": connection.recv(64).decode()}
"""


def test_a_resolver_of_the_functions_own_finds_the_fake(workshop: Workshop) -> None:
    """One that sends without connecting and looks at who answers, as musl and dnspython do, is led like any other."""
    (workshop.folder / "own_resolver.py").write_text(OWN_RESOLVER)
    path, events = workshop.new(), workshop.events({"host": NAME, "port": 5432})
    with fake() as port:
        where = ("--handler", "own_resolver.handler", "--root", ".", "--stands-for", f"{NAME}:5432=127.0.0.1:{port}")
        workshop.sandbox("learn", "own", *where, "--events", events, "--output", path, "--cold-starts", "1")
        assert network(path) == {"runtime-api", f"{NAME}:5432"}
        assert results(workshop.invoke(path, where, events)) == [{"answer": "the fake\n"}]
