"""The attendant's own connects and its DNS forwarder: who reaches trained destinations needs no Python."""

from __future__ import annotations

import json
import os

import pytest
from child_processes import in_child
from resolving_world import PORT, RESOLVER, unshared
from supervised_programs import NATIVE, PYTHON, SOCKETS, Done, Supervision, bench_for
from users_and_folders import TARGETS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
bench = bench_for(NATIVE)

ITEMS = (
    *SOCKETS, "socket AF_NETLINK SOCK_RAW NETLINK_ROUTE", "bind", "uname", "ioctl FIONREAD", "epoll_create1",
    "clone thread",
)  # fmt: skip
NETWORK = (f"one.demo.test:{PORT}", f"*.demo.test:{PORT}", f"tcp://10.99.0.3:{PORT}", "unix:/run/nscd/socket")
HEAD = """
import errno, json, os, socket, threading
def native():
    return b"decide" not in open(f"/proc/{os.getppid()}/cmdline", "rb").read().split(b"\\0")
def attempt(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
def greeted(host, **options):
    with socket.create_connection((host, 7777), 5, **options) as sock:
        return sock.recv(10).decode()
def blocking(host):
    with socket.create_connection((host, 7777), None) as sock:
        return sock.recv(10).decode()
"""


def run(bench: Supervision, code: str, *, ipv6: bool = False, options: str = "") -> tuple[Done, int, list[str]]:
    """What a program said and asked in a world of its own, and how many datagrams reached anybody."""

    def inside() -> tuple[Done, int, list[str]]:
        with unshared(ipv6=ipv6, options=options) as world:
            done = bench.run(bench.bundle(*ITEMS, network=NETWORK), *PYTHON, HEAD + code)
            return done, world.received(), world.asked

    return in_child(inside, None)


TRAINED = """
found = {name: greeted(name) for name in ("one.demo.test", "twin.demo.test", "both.demo.test", "10.99.0.3")}
found["blocking"] = [blocking("twin.demo.test"), blocking("10.99.0.3")]
found["sorted"] = sorted({entry[4][0] for entry in socket.getaddrinfo("both.demo.test", 7777)})
found["several"] = [entry[4][0] for entry in socket.getaddrinfo("twin.demo.test", 7777, type=socket.SOCK_STREAM)]
threads, said = [], []
for number in range(20):
    threads.append(threading.Thread(target=lambda: said.append(greeted("twin.demo.test"))))
    threads[-1].start()
for thread in threads: thread.join()
found["threads"] = said == ["hello"] * 20
found["native"] = native()
print(json.dumps(found))
"""


@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "dual"])
def test_trained_destinations_need_no_python(bench: Supervision, ipv6: bool) -> None:
    """Names that are asked for, their addresses sorted, and connects to them and to literals: no Python, no line."""
    done, datagrams, _ = run(bench, TRAINED, ipv6=ipv6)
    print(done.stderr)
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [found[name] for name in ("one.demo.test", "twin.demo.test", "both.demo.test", "10.99.0.3")] == ["hello"] * 4
    assert found["blocking"] == ["hello"] * 2
    assert sorted(found["several"]) == ["10.99.0.2", "10.99.0.3"]
    assert found["threads"]
    assert found["native"]
    assert (done.violations, datagrams) == ([], 0)


REFUSED = """
found = [greeted("one.demo.test"), native(), attempt(greeted, "secret.other.test"), greeted("10.99.0.2")]
# Python knows what the attendant has given out.
found += [attempt(socket.create_connection, ("10.99.0.2", 7778), 5)]
found += [attempt(greeted, "local.demo.test"), attempt(greeted, "link.demo.test"), greeted("twin.demo.test"), native()]
print(json.dumps(found))
"""


def test_what_is_refused_has_its_line(bench: Supervision) -> None:
    """A question for a name of no entry never leaves, and brings Python, which decides by the names given before."""
    done, _, asked = run(bench, REFUSED)
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert not any("secret" in name for name in asked)
    assert [found[0], *found[1:2], *found[3:]] == ["hello", True, "hello", "EPERM", "EPERM", "EPERM", "hello", False]
    addresses = ["tcp://127.0.0.9:7777", "tcp://169.254.7.7:7777"]
    assert {line["target"] for line in done.violations} == {"secret.other.test:*", "one.demo.test:7778", *addresses}


RECEIVING = ("/usr/bin/python3", "-I", "-S", str(TARGETS / "receiving.py"))
OTHERS = ("recvmsg", "recvmmsg", "peer", "stream")
"""What that program does by other calls than recvfrom."""


def test_recvfrom_reports_the_resolver(bench: Supervision) -> None:
    """As bare, for sockets that are connected and that are not: lengths, flags, errors, timeouts, signals, buffers."""
    network = (f"one.demo.test:{PORT}", f"tcp://{RESOLVER}:9")
    bundle = bench.bundle(*ITEMS, "recvmmsg", "setitimer", network=network, receives=("recvfrom",))

    def inside() -> tuple[str, Done]:
        with unshared(ipv6=True):
            return bench.bare(*RECEIVING), bench.run(bundle, *RECEIVING)

    bare, done = in_child(inside, None)
    assert done.code == 0, done.stderr
    said, found = json.loads(bare), json.loads(done.stdout)
    cases = [case for case in said if not case.startswith(OTHERS)]
    assert len(cases) > 30
    assert {case: found[case] for case in cases} == {case: said[case] for case in cases}
    assert done.violations == []
