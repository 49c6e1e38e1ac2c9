"""Landlock in the running kernel: TCP to one port only, signals and abstract sockets to the own domain only."""

from __future__ import annotations

import errno
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from child_processes import alive, bystander, in_child
from guests import policy

from sandbox.behaviour.call import Call
from sandbox.bundle import Policy
from sandbox.confine import landlock_rules
from sandbox.confine.install import InForce, install
from sandbox.confine.landlock_rules import FIRST_REFER
from sandbox.kernel import abi, landlock, seccomp
from sandbox.policy.build import build
from sandbox.profile.model import Profile, ProfiledFunction, Use

PORTS = pytest.mark.skipif(landlock.abi_version() < 4, reason="Landlock ABI 4 is needed for ports (Linux 6.7)")
SCOPES = pytest.mark.skipif(landlock.abi_version() < 6, reason="Landlock ABI 6 is needed for scopes (Linux 6.12)")
BARE = pytest.mark.skipif(landlock.abi_version() < FIRST_REFER, reason="Landlock ABI 2 is needed (Linux 5.19)")
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def outcome(family: int, port: int, *, bind: bool = False, kind: int = socket.SOCK_STREAM) -> int:
    """0, or the errno of connecting to (or binding to) a port on loopback."""
    with socket.socket(family, kind) as own:
        address = (LOOPBACK[socket.AddressFamily(family)], port)
        if not bind:
            return own.connect_ex(address)
        try:
            own.bind(address)
        except OSError as error:
            return error.errno or 0
        return 0


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Two ports on loopback on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        yield one.getsockname()[1], other.getsockname()[1]


Ports = tuple[int, int]
TCP = landlock.ACCESS_NET_CONNECT_TCP | landlock.ACCESS_NET_BIND_TCP


@PORTS
def test_one_port_is_open(uid: int | None, ports: Ports) -> None:
    """Connecting to the allowed port works; another port, any bind, and IPv6 to it are EACCES; UDP is left alone."""
    allowed, other = ports

    def attempt() -> list[int]:
        seccomp.set_no_new_privs()
        landlock.restrict(network=TCP, ports={allowed: landlock.ACCESS_NET_CONNECT_TCP}, scoped=0)
        return [
            outcome(socket.AF_INET, allowed),
            outcome(socket.AF_INET, other),
            outcome(socket.AF_INET, allowed, bind=True),
            outcome(socket.AF_INET, 0, bind=True),
            outcome(socket.AF_INET6, other),
            outcome(socket.AF_INET, other, kind=socket.SOCK_DGRAM),
        ]

    assert in_child(attempt, uid) == [0, *[errno.EACCES] * 4, 0]


@PORTS
def test_it_cannot_be_taken_off(uid: int | None, ports: Ports) -> None:
    """A second, wider ruleset opens nothing that the first closed, and a child is as closed as its parent."""
    allowed, other = ports

    def attempt() -> tuple[int, int]:
        seccomp.set_no_new_privs()
        landlock.restrict(network=TCP, ports={allowed: landlock.ACCESS_NET_CONNECT_TCP}, scoped=0)
        landlock.restrict(network=TCP, ports={other: TCP, allowed: TCP}, scoped=0)
        pid = os.fork()
        if pid == 0:
            os._exit(outcome(socket.AF_INET, other))
        return outcome(socket.AF_INET, other), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(attempt, uid) == (errno.EACCES, errno.EACCES)


@PORTS
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a process without NoNewPrivs and privileges for sure")
@BARE
def test_the_bare_domain_only_parts_from_the_outside(uid: int | None) -> None:
    """In it the memory of a process outside is closed, for root too, while files go on as before."""

    def attempt() -> list[int]:
        seccomp.set_no_new_privs()
        plan = landlock_rules.bare_domain(landlock.abi_version())
        landlock.restrict(network=0, ports={}, scoped=0, files=plan.handled, beneath=plan.beneath)
        plan.close()
        found = []
        with tempfile.TemporaryDirectory() as name:
            one, other = Path(name, "one"), Path(name, "other")
            one.mkdir()
            other.mkdir()
            (one / "file").write_text("text")
            (one / "file").rename(other / "file")
            found.append(len((other / "file").read_text()))
        for place in (f"/proc/{outside}/mem", "/proc/self/mem"):
            try:
                os.close(os.open(place, os.O_RDWR))
            except OSError as error:
                found.append(error.errno or 0)
            else:
                found.append(0)
        return found

    outside = os.getpid()
    assert in_child(attempt, uid) == [4, errno.EACCES, 0]


@pytest.mark.skipif(not landlock.abi_version(), reason="Landlock is needed (Linux 5.13)")
def test_without_no_new_privs_it_is_refused() -> None:
    """An unprivileged process without NoNewPrivs gets EPERM, as an OSError."""

    def attempt() -> int:
        try:
            landlock.restrict(network=0, ports={}, scoped=0, files=landlock.ACCESS_FS_MAKE_BLOCK)
        except OSError as error:
            return error.errno or 0
        return 0

    assert in_child(attempt, 65534) == errno.EPERM


@SCOPES
def test_signals_stay_in_the_domain(uid: int | None) -> None:
    """With the signal scope another process of the same user cannot be signalled, by any call; a child of ours can."""

    def attempt(other: int) -> tuple[int, int]:
        seccomp.set_no_new_privs()
        landlock.restrict(network=0, ports={}, scoped=landlock.SCOPE_SIGNAL)
        answers = []
        pid = os.fork()
        if pid == 0:
            signal.pause()
        for target in (other, pid):
            try:
                os.kill(target, signal.SIGKILL)
                answers.append(0)
            except PermissionError as error:
                answers.append(error.errno or 0)
        os.waitpid(pid, 0)
        return answers[0], answers[1]

    with bystander(uid) as other:
        assert in_child(lambda: attempt(other), uid) == (errno.EPERM, 0)
        assert alive(other)


@SCOPES
def test_abstract_sockets_stay_in_the_domain(uid: int | None) -> None:
    """With the scope of abstract sockets one from before is not reached, and one that was made in the domain is."""
    name = f"\0sandbox-test-{os.getpid()}"

    def attempt() -> tuple[int, int]:
        seccomp.set_no_new_privs()
        landlock.restrict(network=0, ports={}, scoped=landlock.SCOPE_ABSTRACT_UNIX_SOCKET)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as one:
            server.bind(f"{name}-inside")
            server.listen()
            with socket.socket(socket.AF_UNIX) as other:
                return one.connect_ex(name), other.connect_ex(f"{name}-inside")

    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(name)
        outside.listen()
        assert in_child(attempt, uid) == (errno.EPERM, 0)


CLIENT = ("socket AF_INET SOCK_STREAM", "socket AF_INET6 SOCK_STREAM", "connect", "bind")


def installed(found: Policy, port: int | None, tries: list[int]) -> tuple[list[int], list[str], list[str], list[str]]:
    """What connecting to ports gives under a policy, and what the report says."""
    report = InForce()
    install(found, (1, 2, 3), port, report)
    return [outcome(socket.AF_INET, p) for p in tries], report.requested, report.enforced, report.degraded


@PORTS
def test_a_function_of_the_runtime_api_reaches_its_port_only(uid: int | None, ports: Ports) -> None:
    """Where the Runtime API is the only destination, its port is the only one that connects, and the report says so."""
    allowed, other = ports
    found = policy(*CLIENT[:3], runtime_api=True, network=("runtime-api",))
    assert (found.network, found.bind) == ("runtime-api", "none")
    answers, requested, enforced, degraded = in_child(lambda: installed(found, allowed, [allowed, other]), uid)
    assert answers == [0, errno.EACCES]
    assert f"network: TCP to port {allowed} only" in requested
    assert f"network: TCP to port {allowed} only, by Landlock ABI {landlock.abi_version()}" in enforced
    assert degraded == []


@PORTS
def test_a_program_without_network_reaches_none(uid: int | None, ports: Ports) -> None:
    """A plain program that never connected has no TCP at all, even if sockets and connect were let through."""
    found = policy("socket AF_INET SOCK_STREAM")
    assert found.network == "ports"
    _, requested, enforced, _ = in_child(lambda: installed(found, None, []), uid)
    assert "network: no TCP" in requested
    assert any(line.startswith("network: no TCP, by Landlock") for line in enforced)


@PORTS
def test_learned_destinations_keep_their_ports(uid: int | None, ports: Ports) -> None:
    """With several destinations their ports connect and no other does, and no port can be bound."""
    api, other = ports
    found = policy(
        *CLIENT[:3], runtime_api=True, network=("runtime-api", f"tcp://127.0.0.1:{other}", "tcp://192.0.2.1:443")
    )
    with socket.create_server(("127.0.0.1", 0)) as third:
        tries = [api, other, third.getsockname()[1]]
        answers, _, enforced, degraded = in_child(lambda: installed(found, api, tries), uid)
    assert answers == [0, 0, errno.EACCES]
    shown = ", ".join(map(str, [api, *sorted([other, 443])]))
    assert f"network: TCP to port {shown} only, by Landlock ABI {landlock.abi_version()}" in enforced
    assert degraded == []


@PORTS
def test_listening_keeps_to_the_ports_of_the_listeners(uid: int | None, ports: Ports) -> None:
    """A port under `listen` is bound and served, with 0 one that the kernel chooses, and any other is EACCES."""
    with socket.socket() as free, socket.socket() as other:
        for one in (free, other):
            one.bind(("127.0.0.1", 0))
        own, strange = free.getsockname()[1], other.getsockname()[1]
    uses = frozenset(Use("invoke", *Call.parse(call)) for call in (*CLIENT, "listen"))
    listen = frozenset({f"tcp://127.0.0.1:{own}", "tcp://127.0.0.1:0"})
    made = Profile(ProfiledFunction("some"), uses, network=frozenset({"runtime-api"}), listen=listen)
    found = build(made, [abi.MACHINE]).policy(abi.MACHINE)

    def attempt() -> tuple[list[int], list[str]]:
        report = InForce()
        install(found, (1, 2, 3), ports[0], report)
        return [outcome(socket.AF_INET, port, bind=True) for port in (own, 0, strange)], report.enforced

    answers, enforced = in_child(attempt, uid)
    assert answers == [0, 0, errno.EACCES]
    assert f"listening: TCP on port 0, {own} only, by Landlock ABI {landlock.abi_version()}" in enforced


@PORTS
def test_every_port_is_closed_by_family_only(uid: int | None, ports: Ports) -> None:
    """Where a destination means every port, all stay open, and the report says so."""
    tried = list(ports)
    found = policy(*CLIENT, runtime_api=True, network=("runtime-api", "tcp://192.0.2.1:*"))
    assert found.network == "family"
    answers, _, enforced, degraded = in_child(lambda: installed(found, tried[0], tried), uid)
    assert answers == [0, 0]
    assert "network: by family only" in enforced
    assert degraded == ["network: TCP to any address"]


@SCOPES
def test_abstract_sockets_of_others_are_closed(uid: int | None) -> None:
    """EPERM for streams and datagrams, where the profile names none; its own are open, and if it does, all are."""
    calls = ("socket AF_UNIX SOCK_STREAM", "socket AF_UNIX SOCK_DGRAM", "connect", "bind", "listen")
    name = f"\0landlock-{os.getpid()}-{uid}"

    def attempt(found: Policy) -> list[int]:
        install(found, (1, 2, 3), 9)
        own = socket.socket(socket.AF_UNIX)
        own.bind(name + "-own")
        own.listen(1)
        answers = [socket.socket(socket.AF_UNIX).connect_ex(name + end) for end in ("", "-own")]
        try:
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", name + "-datagram")
        except OSError as error:
            return [*answers, error.errno or 0]
        return [*answers, 0]

    with socket.socket(socket.AF_UNIX) as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        stream.bind(name)
        stream.listen(1)
        datagram.bind(name + "-datagram")
        closed = policy(*calls, "sendto addressed", runtime_api=True, network=("runtime-api",))
        assert in_child(lambda: attempt(closed), uid) == [errno.EPERM, 0, errno.EPERM]
        entry = f"unix:@{name[1:]}"
        open_ = policy(*calls, "sendto addressed", runtime_api=True, network=("runtime-api", entry))
        assert in_child(lambda: attempt(open_), uid) == [0, 0, 0]
