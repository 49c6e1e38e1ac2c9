"""Supervision where descriptors cannot be duplicated: destinations are looked at, refused, reported, and it is said."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from guests import refusing
from supervised import PYTHON, SOCKETS, Supervision, read_events, supervision
from users import USERS

from sandbox.enforce.platform import refuses_duplicates
from sandbox.kernel import seccomp
from sandbox.policy.supervision import BROKERED

GUESTS = {"container": {"pidfd_getfd": errno.EPERM, "kcmp": errno.EPERM}, "lambda": {"pidfd_open": errno.ENOSYS}}

TRY = """
import errno, json, socket, sys
said = {}
def attempt(name, family, kind, call):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(5)
            call(s)
            said[name] = ""
    except OSError as error:
        said[name] = errno.errorcode.get(error.errno, str(error))
tcp, other, udp, path, stranger = json.loads(sys.argv[1])
I, S, D, U = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_UNIX
attempt("tcp", I, S, lambda s: s.connect(("127.0.0.1", tcp)))
attempt("other tcp", I, S, lambda s: s.connect(("127.0.0.1", other)))
attempt("mapped", socket.AF_INET6, S, lambda s: s.connect(("::ffff:127.0.0.1", other)))
attempt("udp", I, D, lambda s: s.sendto(b"x", ("127.0.0.1", udp)))
attempt("other udp", I, D, lambda s: s.sendto(b"x", ("127.0.0.1", other)))
attempt("other message", I, D, lambda s: s.sendmsg([b"x"], [], 0, ("127.0.0.1", other)))
attempt("unix", U, S, lambda s: s.connect(path))
attempt("other unix", U, S, lambda s: s.connect(stranger))
attempt("metadata", I, D, lambda s: s.connect(("169.254.169.254", 80)))
print(json.dumps(said))
"""


@pytest.fixture(scope="module", params=USERS, ids=lambda uid: "own" if uid is None else f"uid{uid}")
def bench(request: pytest.FixtureRequest) -> Iterator[Supervision]:
    """Each user with a folder of its own."""
    with supervision(request.param) as found:
        yield found


class Scene:
    """Listeners on loopback and in the folder: two that the profile names, and strangers."""

    def __init__(self, bench: Supervision, stack: contextlib.ExitStack) -> None:
        def bound(family: int, kind: int, address: Any) -> socket.socket:
            found = stack.enter_context(socket.socket(family, kind))
            found.bind(address)
            if kind == socket.SOCK_STREAM:
                found.listen()
            return found

        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        self.tcp, self.other = (bound(socket.AF_INET, stream, ("127.0.0.1", 0)) for _ in range(2))
        self.udp = bound(socket.AF_INET, datagram, ("127.0.0.1", 0))
        self.path, self.stranger = bench.new(".sock"), bench.new(".sock")
        for path in (self.path, self.stranger):
            bound(socket.AF_UNIX, stream, str(path))
            path.chmod(0o777)
        ports = [found.getsockname()[1] for found in (self.tcp, self.other, self.udp)]
        self.entries = (f"tcp://127.0.0.1:{ports[0]}", f"udp://127.0.0.1:{ports[2]}", f"unix:{self.path}")
        self.argument = json.dumps([*ports, str(self.path), str(self.stranger)])


@pytest.fixture
def scene(bench: Supervision) -> Iterator[Scene]:
    """New ones for each test."""
    with contextlib.ExitStack() as stack:
        yield Scene(bench, stack)


def run(
    bench: Supervision, scene: Scene, guest: str, network: tuple[str, ...],
    more: Mapping[str, str] = MappingProxyType({}),
) -> tuple[dict[str, str], dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """What the attempts gave, the status line, and the violations by a destination."""

    def below() -> None:
        seccomp.set_no_new_privs()
        seccomp.install(refusing(GUESTS[guest]))

    bundle = bench.bundle(*SOCKETS, network=network)
    process, events = bench.start(bundle, *PYTHON, TRY, scene.argument, more=more, preexec_fn=below)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    status = json.loads(stderr.splitlines()[0])
    violations = [line for line in read_events(events) if line["event"] == "violation"]
    return json.loads(stdout), status, [line for line in violations if line["syscall"] in BROKERED]


@pytest.mark.parametrize("guest", GUESTS)
def test_destinations_are_looked_at(bench: Supervision, scene: Scene, guest: str) -> None:
    """What the profile names is reached, what not is refused and reported, and the status line says the limit."""
    said, status, violations = run(bench, scene, guest, scene.entries)
    refused = {name for name, number in said.items() if number}
    assert refused == {"other tcp", "mapped", "other udp", "other message", "other unix", "metadata"}, said
    assert {said[name] for name in refused} == {"EPERM"}
    assert "supervision" in status["enforced"]
    assert [text for text in status["degraded"] if text.startswith("destinations: may change after the look")]
    assert len(violations) == len(refused)
    assert {line["syscall"] for line in violations} == {"connect", "sendto", "sendmsg"}
    scene.tcp.settimeout(5)
    scene.tcp.accept()[0].close()
    scene.other.settimeout(0.1)
    with pytest.raises(TimeoutError):
        scene.other.accept()


def test_names_are_not_followed(bench: Supervision, scene: Scene) -> None:
    """A profile with names lets through what cannot be told apart, as without a supervisor, but no credentials."""
    said, _, violations = run(bench, scene, "container", (*scene.entries, "example.org:443"))
    assert {name for name, number in said.items() if number == "EPERM"} >= {"metadata", "other unix"}
    assert (said["other tcp"], said["tcp"]) == ("", "")
    assert {line["target"] for line in violations} == {"tcp://169.254.169.254:80", f"unix:{scene.stranger}"}


def test_audit_lets_through_and_reports(bench: Supervision, scene: Scene) -> None:
    """In audit mode the same destinations are reported and reached."""
    said, _, violations = run(bench, scene, "container", scene.entries, {"SANDBOX_MODE": "audit"})
    assert {said[name] for name in ("tcp", "other tcp", "mapped", "udp", "other udp", "unix", "other unix")} == {""}
    assert {line["verdict"] for line in violations} == {"reported"}


def test_here_they_can_be_duplicated() -> None:
    """Without such a filter nothing refuses it."""
    assert refuses_duplicates() == ""
