"""What the C library asks by itself when it resolves names: served without a line, while what looks like it is not.

A network of the test's own, glibc's getaddrinfo, the real bootstrap with its supervisor.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from child_processes import in_child
from resolving_world import PORT, unshared
from supervised_programs import HOSTS, NATIVE, PYTHON, SOCKETS, Done, Supervision, bench_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
bench = bench_for([*HOSTS, NATIVE[-1]])

NETLINK = "socket AF_NETLINK SOCK_RAW NETLINK_ROUTE"
ITEMS = (*SOCKETS, NETLINK, "bind", "uname", "ioctl FIONREAD", "epoll_create1")
NETWORK = (*(f"{name}.demo.test:{PORT}" for name in ("one", "twin", "both")), "unix:/run/nscd/socket")
FAMILIES = pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "dual"])

RESOLVE = """
import json, socket
ways = [0, socket.AI_ADDRCONFIG, socket.AI_ADDRCONFIG | socket.AI_V4MAPPED, socket.AI_CANONNAME]
found = {}
for name in ("one.demo.test", "twin.demo.test", "both.demo.test"):
    for flags in ways:
        for family in (0, socket.AF_INET, socket.AF_INET6):
            for kind in (0, socket.SOCK_STREAM, socket.SOCK_DGRAM):
                try:
                    got = socket.getaddrinfo(name, 7777, family, kind, 0, flags)
                except OSError as error:
                    got = str(error)
                found[f"{name} {flags} {family} {kind}"] = got
for family in (0, socket.AF_INET, socket.AF_INET6):
    try:
        socket.getaddrinfo("localhost", 7777, family)
    except OSError:
        pass  # without an IPv6 line in /etc/hosts it is asked for, and never leaves the forwarder
with socket.create_connection(("twin.demo.test", 7777), 5) as sock:
    found["answer"] = sock.recv(10).decode()
found["interfaces"] = socket.if_nameindex()
print(json.dumps(found))
"""

ATTACK = """
import ctypes, errno, json, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
found = {}
def tried(name, function):
    try:
        found[name] = function()
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
def unconnect(sock):
    libc.connect(sock.fileno(), bytes(16), 16)
here, there = ("10.99.0.2", 7777), ("10.99.0.3", 7777)
socket.getaddrinfo("twin.demo.test", 7777, type=socket.SOCK_STREAM)
def connected():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(here)
    return sock
tried("source", lambda: connected().getsockname()[0])
tried("send", lambda: connected().send(b"x"))
tried("empty", lambda: connected().send(b""))
tried("write", lambda: (lambda sock: os.write(sock.fileno(), b"x"))(connected()))
tried("sendto", lambda: connected().sendto(b"x", there))
tried("sendto another", lambda: connected().sendto(b"x", ("10.99.0.1", 7777)))
tried("sendmsg", lambda: connected().sendmsg([b"x"]))
tried("sendmsg to", lambda: connected().sendmsg([b"x"], [], 0, there))
tried("more", lambda: connected().send(b"x", socket.MSG_MORE))
def again():
    sock = connected()
    sock.connect(there)
    return sock.send(b"x")
tried("second connect", again)
def dissolved():
    sock = connected()
    unconnect(sock)
    return sock.sendto(b"x", there)
tried("dissolved", dissolved)
def dissolved_then():
    sock = connected()
    unconnect(sock)
    sock.connect(there)
    return sock.send(b"x")
tried("dissolved, connected", dissolved_then)
def copied():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    copy = sock.dup()
    sock.connect(here)
    return copy.send(b"x")
tried("copy", copied)
tried("stranger", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("10.99.0.1", 7777)))
tried("unconnected", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", here))

def route():
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
def request(kind, body=b"\\0" * 20, flags=5):
    return struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body
add = request(20, struct.pack("<BBBBI", 2, 32, 0, 0, 1) + struct.pack("<HH4s", 8, 2, bytes((10, 99, 0, 66))), 0x605)
get = request(22, b"\\0" * 4, 0x301)
def told(sock):
    data = sock.recv(65536)
    if data[4:6] != b"\\2\\0":
        return "answer"
    return errno.errorcode.get(-struct.unpack_from("<i", data, 16)[0], "done")
def asked(data, how):
    sock = route()
    sock.settimeout(5)
    how(sock, data)
    return told(sock)
to_kernel = lambda sock, data: sock.sendto(data, (0, 0))
tried("question", lambda: asked(get, to_kernel))
tried("question by write", lambda: asked(get, lambda sock, data: os.write(sock.fileno(), data)))
tried("new address", lambda: asked(add, to_kernel))
tried("new address by sendmsg", lambda: asked(add, lambda sock, data: sock.sendmsg([data], [], 0, (0, 0))))
tried("behind a question", lambda: asked(get + add, to_kernel))
tried("cut question", lambda: asked(get + add[:17], to_kernel))
tried("to another process", lambda: asked(get, lambda sock, data: sock.sendto(data, (1, 0))))
tried("to a group", lambda: asked(get, lambda sock, data: sock.sendto(data, (0, 1))))
tried("new address by send", lambda: asked(add, lambda sock, data: sock.send(data)))
tried("new address by write", lambda: asked(add, lambda sock, data: os.write(sock.fileno(), data)))
print(json.dumps(found))
"""


def run(
    bench: Supervision, program: str, *, ipv6: bool, mode: str = "", without: tuple[str, ...] = (),
    network: tuple[str, ...] = NETWORK,
) -> tuple[Done, Any, int, list[str], str]:  # fmt: skip
    """The program's run, what it said bare, the datagrams that came, the names that were asked, and all addresses."""
    bundle = bench.bundle(*(item for item in ITEMS if item not in without), network=network)
    bench.new("")  # the child's name for its events, which the next child must not have again

    def inside() -> tuple[Done, Any, int, list[str], str]:
        with unshared(ipv6=ipv6) as world:
            bare = bench.bare(*PYTHON, program) if program == RESOLVE else "null"
            done = bench.run(bundle, *PYTHON, program, more={"SANDBOX_MODE": mode})
            addresses = Path("/proc/net/fib_trie").read_text()
            return done, json.loads(bare), world.received(), world.asked, addresses

    return in_child(inside, None)


@FAMILIES
def test_getaddrinfo_in_all_its_ways_writes_no_line(bench: Supervision, ipv6: bool) -> None:
    """The same answers in the same order as without the sandbox, interfaces too, and not a single violation."""
    done, bare, received, _, _ = run(bench, RESOLVE, ipv6=ipv6)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout) == bare
    assert bare["answer"] == "hello"
    assert [(line["syscall"], line["target"]) for line in done.violations] == []
    assert received == 0


@pytest.mark.parametrize("mode", ["", "audit"])
def test_what_looks_like_it_sends_and_changes_nothing(bench: Supervision, mode: str) -> None:
    """A socket that was connected to sort addresses sends nothing by any call; netlink changes nothing, for root."""
    done, _, received, _, addresses = run(bench, ATTACK, ipv6=False, mode=mode)
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("source") == "10.99.0.2"
    assert found.pop("question") == found.pop("question by write") == "answer"
    for case in ("new address by send", "new address by write"):
        assert found.pop(case) == "EPERM"
    assert "10.99.0.66\n" not in addresses
    if mode == "audit":
        changes = [line for line in done.violations if "which no mode lets through" in line["reason"]]
        assert {(line["verdict"], line["target"]) for line in changes} == {("denied", "family:AF_NETLINK")}
        mute = {case for case, result in found.items() if result == "EPIPE"}
        assert {"send", "empty", "write", "sendmsg", "more", "second connect", "dissolved", "copy"} <= mute
        return
    assert received == 0
    assert "10.99.0.2\n" in addresses
    assert set(found.values()) <= {"EPERM", "EPIPE"}, found
    targets = {line["target"] for line in done.of("connect")}
    assert targets == {"udp://10.99.0.1:7777"}
    assert all(line["target"] == "family:AF_NETLINK" for line in done.violations if "NETLINK" in line["target"])
    assert sum(line["target"] == "family:AF_NETLINK" for line in done.violations) == 6


CONNECT = """
import socket
for name in {names}:
    try:
        with socket.create_connection((name, 7777), 5) as sock:
            print(name, sock.recv(10).decode())
    except OSError as error:
        print(name, type(error).__name__)
"""


@pytest.mark.parametrize("mode", ["", "audit"])
def test_another_name_of_an_allowed_address_is_a_line_in_audit_too(bench: Supervision, mode: str) -> None:
    """Enforced the question ends with NXDOMAIN; in audit it is answered, and the connect is told by name and port."""
    asked = ("one.demo.test", "other.demo.test", "one.demo.test", "other.demo.test", "stranger.demo.test")
    done, _, _, _, _ = run(bench, CONNECT.format(names=asked), ipv6=False, mode=mode)
    verdict, other = ("reported", "hello") if mode else ("denied", "gaierror")
    answers = dict(line.split() for line in done.stdout.splitlines())
    assert answers == {"one.demo.test": "hello", "other.demo.test": other, "stranger.demo.test": "gaierror"}
    lines = {(line["target"], line["class"], line["verdict"]) for line in done.of("connect")}
    wanted = {("other.demo.test:*", "", verdict), ("stranger.demo.test:*", "", verdict)}
    assert lines == wanted | ({("other.demo.test:7777", "", verdict)} if mode else set())


@pytest.mark.parametrize("mode", ["", "audit"])
def test_a_name_that_means_this_host_or_its_link_allows_nothing(bench: Supervision, mode: str) -> None:
    """Whoever answers for a name cannot open this host's services with it; an entry with the address does."""
    asked = ("local.demo.test", "link.demo.test", "one.demo.test")
    names = tuple(f"{name}:{PORT}" for name in asked)
    script, nscd = CONNECT.format(names=asked), "unix:/run/nscd/socket"
    done, _, _, _, _ = run(bench, script, ipv6=False, mode=mode, network=(*names, nscd))
    answers = dict(line.split() for line in done.stdout.splitlines())
    refused = "hello" if mode else "PermissionError"
    assert answers == {"local.demo.test": refused, "link.demo.test": refused, "one.demo.test": "hello"}
    targets = [line["target"] for line in done.violations]
    assert targets == [f"tcp://127.0.0.9:{PORT}", f"tcp://169.254.7.7:{PORT}"]
    allowed = tuple(targets)
    done, _, _, _, _ = run(bench, script, ipv6=False, mode=mode, network=(*names, *allowed, nscd))
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["hello"] * 3
    assert done.violations == []


LATER = """
import socket
for flags in (0, socket.AI_ADDRCONFIG):
    for name in ("one.demo.test", "twin.demo.test", "both.demo.test"):
        print(len(socket.getaddrinfo(name, 7777, type=socket.SOCK_STREAM, flags=flags)) > 0)
"""


@FAMILIES
def test_several_addresses_that_training_did_not_show_write_no_line(bench: Supervision, ipv6: bool) -> None:
    """Where the netlink question was not learned it is refused, and the C library does without."""
    done, _, received, _, _ = run(bench, LATER, ipv6=ipv6, without=(NETLINK, "bind"))
    assert done.stdout.split() == ["True"] * 6, done.stderr
    assert [(line["syscall"], line["target"]) for line in done.violations] == []
    assert received == 0
