"""Sockets that the supervisor makes where it cannot duplicate them: as those that the function would have made itself.

What the broker does with them is in test_egress.py, which runs on them, too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from supervised_programs import (
    HOSTS_WITHOUT_DUPLICATES,
    LAMBDA_LIKE,
    PYTHON,
    SOCKETS,
    Done,
    Supervision,
    bench_for,
    supervision,
)

from sandbox.confine.parent import refuses_duplicates
from sandbox.kernel.tables import WITH_DESTINATION

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

bench = bench_for([HOSTS_WITHOUT_DUPLICATES[0], LAMBDA_LIKE[-1]])


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
        self.unix, _ = (bound(socket.AF_UNIX, stream, str(path)) for path in (self.path, self.stranger))
        for path in (self.path, self.stranger):
            path.chmod(0o777)
        ports = [found.getsockname()[1] for found in (self.tcp, self.other, self.udp)]
        self.entries = (f"tcp://127.0.0.1:{ports[0]}", f"udp://127.0.0.1:{ports[2]}", f"unix:{self.path}")
        self.argument = json.dumps([*ports, str(self.path), str(self.stranger)])


@pytest.fixture
def scene(bench: Supervision) -> Iterator[Scene]:
    """New ones for each test."""
    with contextlib.ExitStack() as stack:
        yield Scene(bench, stack)


def printed(done: Done) -> Any:
    """What a program said as JSON."""
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_destinations_are_held(bench: Supervision, scene: Scene) -> None:
    """What the profile names is reached, what not is refused and reported, and the status line says how."""
    done = bench.run(bench.bundle(*SOCKETS, network=scene.entries), *PYTHON, TRY, scene.argument)
    said = printed(done)
    refused = {name for name, number in said.items() if number}
    assert refused == {"other tcp", "mapped", "other udp", "other message", "other unix", "metadata"}, said
    assert {said[name] for name in refused} == {"EPERM"}
    status = json.loads(done.stderr.splitlines()[0])
    assert "supervision" in status["enforced"]
    assert [text for text in status["enforced"] if text.startswith("destinations: on sockets that the supervisor ma")]
    assert not [text for text in status["degraded"] if text.startswith("destinations")]
    lines = [line for line in done.violations if line["syscall"] in WITH_DESTINATION]
    assert len(lines) == len(refused)
    assert {line["syscall"] for line in lines} == {"connect", "sendto", "sendmsg"}
    scene.tcp.settimeout(5)
    scene.tcp.accept()[0].close()
    scene.other.settimeout(0.1)
    with pytest.raises(TimeoutError):
        scene.other.accept()


def test_audit_lets_through_and_reports(bench: Supervision, scene: Scene) -> None:
    """In audit mode the same destinations are reported and reached, and sockets that were not learned are made."""
    items = tuple(item for item in SOCKETS if item != "socket AF_INET SOCK_DGRAM")
    bundle = bench.bundle(*items, network=scene.entries)
    done = bench.run(bundle, *PYTHON, TRY, scene.argument, more={"SANDBOX_MODE": "audit"})
    said = printed(done)
    assert {said[name] for name in ("tcp", "other tcp", "mapped", "udp", "other udp", "unix", "other unix")} == {""}
    assert {line["verdict"] for line in done.violations} == {"reported"}
    assert "AF_INET SOCK_DGRAM" in {line["class"] for line in done.of("socket")}


SOCKET_CALLS = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
said = []
for domain in (0, 1, 2, 3, 10, 16, 17, 38, 40, 99, -1):
    for kind in (0, 1, 2, 3, 4, 5, 6, 10, 16, 0x801, 0x80001, 0x80801, 0x10001, 0x40000001):
        for protocol in (0, 1, 6, 17, 58, 132, 255, 262, -1):
            fd = libc.socket(domain, kind, protocol)
            if fd < 0:
                said.append(-ctypes.get_errno())
            else:
                said.append([fd, os.get_inheritable(fd), os.get_blocking(fd)])
                os.close(fd)
print(json.dumps(said))
"""


@pytest.mark.parametrize("items", [SOCKETS, ("socket AF_INET SOCK_STREAM", "connect"), ("connect",)])
def test_socket_calls_have_the_same_result(bench: Supervision, items: tuple[str, ...]) -> None:
    """Each of 1,386 combinations gets what it gets where sockets are not made for it: number, flags, errno, report."""
    bundle = bench.bundle(*items, "fcntl F_GETFD", "fcntl F_GETFL")
    made = bench.run(bundle, *PYTHON, SOCKET_CALLS)
    with supervision(bench.uid) as other:
        same = other.run(bundle, *PYTHON, SOCKET_CALLS)
    assert printed(made) == printed(same)
    assert any(isinstance(found, list) for found in printed(made)) == (len(items) > 1)
    assert [line["counts"] for line in made.events if line["event"] == "violations" and line["final"]] == [
        line["counts"] for line in same.events if line["event"] == "violations" and line["final"]
    ]
    assert made.of("socket")


def test_ten_thousand_sockets_are_let_go(bench: Supervision, scene: Scene) -> None:
    """However many are opened and closed, of whatever kind, all work, and the supervisor keeps few descriptors."""
    code = (
        "import errno, json, os, socket, sys\n"
        "port = json.loads(sys.argv[1])[0]\n"
        "for i in range(10_000):\n"
        "    s = socket.socket(2, 2 - i % 2)\n"
        "    if i % 10 == 1: s.connect(('127.0.0.1', port))\n"
        "    if i % 10 == 3:\n"
        "        try: s.connect(('127.0.0.1', 1))\n"
        "        except OSError as error: assert error.errno == errno.EPERM\n"
        "    s.close()\n"
        "print('done', flush=True); sys.stdin.readline()\n"
    )
    done = threading.Event()
    scene.tcp.settimeout(0.2)

    def accept() -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                scene.tcp.accept()[0].close()

    thread = threading.Thread(target=accept)
    thread.start()
    bundle = bench.bundle(*SOCKETS, network=scene.entries)
    process, _ = bench.start(bundle, *PYTHON, code, scene.argument, stdin=subprocess.PIPE, preexec_fn=few)
    try:
        assert process.stdout
        assert process.stdout.readline(), process.communicate()[1]
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < 40
    finally:
        process.communicate("\n")
        done.set()
        thread.join()
    assert process.returncode == 0


def few() -> None:
    """The limit of descriptors on Lambda."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def test_more_than_the_supervisor_can_keep(bench: Supervision) -> None:
    """Too many at once are EMFILE, somewhat before the function's own limit; what is closed makes room again."""
    code = (
        "import socket\nkept = []\nfound = []\n"
        "for _ in range(3):\n"
        "    try:\n"
        "        while True: kept.append(socket.socket(2, 2))\n"
        "    except OSError as error: found.append((error.errno, len(kept) > 800))\n"
        "    for s in kept: s.close()\n"
        "    kept.clear()\n"
        "print(found)\n"
    )
    done = bench.run(bench.bundle(*SOCKETS), *PYTHON, code, before=few)
    assert done.stdout == f"{[(errno.EMFILE, True)] * 3}\n", done.stderr


WITHOUT_MESSAGES = tuple(item for item in SOCKETS if item not in ("sendmsg", "sendmmsg"))


@pytest.mark.parametrize("items", [SOCKETS, WITHOUT_MESSAGES], ids=["messages", "none"])
@pytest.mark.parametrize("how", ["blocking", "non-blocking", "unix"])
def test_the_peer_hears_the_close(bench: Supervision, scene: Scene, items: tuple[str, ...], how: str) -> None:
    """A connection that the function closes ends for its peer while the function goes on; so does one it shuts down."""
    aim = str(scene.path) if how == "unix" else ("127.0.0.1", scene.tcp.getsockname()[1])
    code = (
        "import select, socket, sys\n"
        f"s = socket.socket({1 if how == 'unix' else 2}, 1)\n"
        f"s.setblocking({how != 'non-blocking'})\n"
        f"try: s.connect({aim!r})\n"
        "except BlockingIOError: select.select([], [s], [])\n"
        "s.send(b'all'); s.close(); print('closed', flush=True); sys.stdin.readline()\n"
    )
    server = scene.unix if how == "unix" else scene.tcp
    server.settimeout(20)
    bundle = bench.bundle(*items, network=scene.entries)
    process, _ = bench.start(bundle, *PYTHON, code, stdin=subprocess.PIPE)
    try:
        with server.accept()[0] as peer:
            peer.settimeout(20)
            heard = b""
            while piece := peer.recv(64):
                heard += piece
            assert heard == b"all"
            assert process.poll() is None
    finally:
        _, stderr = process.communicate("\n")
    assert process.returncode == 0, stderr


def test_a_connection_that_was_let_go_is_a_connection(bench: Supervision, scene: Scene) -> None:
    """Without sendmsg in the profile the supervisor lets a connection go: it works, and cannot be connected anew."""
    port = scene.tcp.getsockname()[1]
    code = (
        "import select, socket\nfound = []\n"
        "for blocking in (True, False):\n"
        "    s = socket.socket(2, 1)\n"
        "    s.setblocking(blocking)\n"
        f"    try: s.connect(('127.0.0.1', {port}))\n"
        "    except BlockingIOError: select.select([], [s], [])\n"
        "    found += [s.getsockopt(1, 4), s.getpeername()[1] > 0, s.send(b'x')]\n"
        f"    found += [s.connect_ex(('127.0.0.1', {port})), s.connect_ex(('127.0.0.1', 1))]\n"
        "    import ctypes\n"
        "    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    found += [libc.connect(s.fileno(), bytes(16), 16), ctypes.get_errno(), s.send(b'x')]\n"
        "print(found)\n"
    )
    done = bench.run(bench.bundle(*WITHOUT_MESSAGES, network=scene.entries), *PYTHON, code)
    assert done.stdout == f"{[0, True, 1, errno.EISCONN, errno.EISCONN, -1, errno.EISCONN, 1] * 2}\n", done.stderr


def test_a_refused_socket_can_be_connected_again(bench: Supervision, scene: Scene) -> None:
    """A connect that failed, blocking or not, leaves the socket as able as the kernel does."""
    port, unused = scene.tcp.getsockname()[1], closed_port()
    code = (
        "import select, socket\nfound = []\n"
        "for blocking in (True, False):\n"
        "    s = socket.socket(2, 1)\n"
        "    s.setblocking(blocking)\n"
        f"    for port in ({unused}, {port}, {port}):\n"
        "        number = s.connect_ex(('127.0.0.1', port))\n"
        "        select.select([], [s], [])\n"
        "        found += [number, s.getsockopt(1, 4)]\n"
        "    found.append(s.send(b'x'))\n"
        "print(found)\n"
    )
    bare = bench.bare(*PYTHON, code)
    assert bare.startswith(f"[{errno.ECONNREFUSED}, 0, 0, 0, {errno.EISCONN}, 0, 1, {errno.EINPROGRESS}, ")
    network = (*scene.entries, f"tcp://127.0.0.1:{unused}")
    for items in (SOCKETS, WITHOUT_MESSAGES):
        done = bench.run(bench.bundle(*items, network=network), *PYTHON, code)
        assert done.stdout == bare, done.stderr


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_what_is_closed_can_be_bound_again(bench: Supervision) -> None:
    """A port or name is free as soon as its socket is closed, for datagrams and for listeners."""
    code = (
        "import os, socket\n"
        "host, path = ('127.0.0.1', 0), '\\0again'\n"
        "for family, kind, name in ((2, 2, host), (2, 1, host), (1, 2, path), (1, 1, path)):\n"
        "    for i in range(50):\n"
        "        s = socket.socket(family, kind); s.bind(name)\n"
        "        if kind == 1: s.listen()\n"
        "        name = s.getsockname(); t = socket.socket(2, 2)\n"
        "        s.close()\n"
        "print('free')\n"
    )
    listen = ("tcp://127.0.0.1:*", "udp://127.0.0.1:*", "unix:@again")
    done = bench.run(bench.bundle(*SOCKETS, "bind", "listen", listen=listen), *PYTHON, code)
    assert done.stdout == "free\n", done.stderr


def test_copies_threads_and_children(bench: Supervision, scene: Scene) -> None:
    """A socket is ours under each of its numbers, in each thread, and in a child that was forked with it."""
    port, udp = scene.tcp.getsockname()[1], scene.udp.getsockname()[1]
    code = (
        "import os, socket, threading\nfound = []\n"
        "def use(s, d):\n"
        f"    found.append((s.connect_ex(('127.0.0.1', {port})), d.sendto(b'x', ('127.0.0.1', {udp}))))\n"
        "def pair(): return socket.socket(2, 1), socket.socket(2, 2)\n"
        "use(*(s.dup() for s in pair()))\n"
        "s, d = pair(); os.dup2(s.fileno(), 100); os.dup2(d.fileno(), 101); s.close(); d.close()\n"
        "for _ in range(30): socket.socket(2, 2).close()\n"
        "use(socket.socket(fileno=100), socket.socket(fileno=101))\n"
        "t = threading.Thread(target=use, args=pair()); t.start(); t.join()\n"
        "s, d = pair()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    socket.socket(2, 1), use(s, d), use(*pair()); os._exit(found != [(0, 1)] * 5)\n"
        "s.close(); d.close()\n"
        "for _ in range(30): socket.socket(2, 2).close()\n"
        "print(found, os.waitpid(pid, 0)[1])\n"
    )
    items = (*SOCKETS, "clone thread", "clone process", "wait4", "dup")
    done = bench.run(bench.bundle(*items, network=scene.entries), *PYTHON, code)
    assert done.stdout == "[(0, 1), (0, 1), (0, 1)] 0\n", done.stderr


def test_sockets_of_others_reach_nobody(bench: Supervision, scene: Scene) -> None:
    """One that was open before, and a socketpair, do what needs no decision; a destination is refused and reported."""
    port, udp = scene.tcp.getsockname()[1], scene.udp.getsockname()[1]
    code = (
        "import socket\nfound = []\n"
        "def attempt(call):\n"
        "    try: found.append(call())\n"
        "    except OSError as error: found.append(-error.errno)\n"
        "s, d = socket.socket(fileno=0), socket.socket(fileno=1)\n"
        f"attempt(lambda: s.connect(('127.0.0.1', {port})))\n"
        f"attempt(lambda: d.sendto(b'x', ('127.0.0.1', {udp})))\n"
        f"attempt(lambda: d.sendmsg([b'x'], [], 0, ('127.0.0.1', {udp})))\n"
        "a, b = socket.socketpair()\n"
        "attempt(lambda: a.send(b'x')); attempt(lambda: a.sendmsg([b'x'])); attempt(lambda: a.connect('/x'))\n"
        "import sys; print(found, file=sys.stderr)\n"
    )
    bundle = bench.bundle(*SOCKETS, network=scene.entries)
    with socket.socket() as s, socket.socket(type=socket.SOCK_DGRAM) as d:
        process, events = bench.start(bundle, *PYTHON, code, stdin=s, stdout=d)
        _, stderr = process.communicate()
    assert "[-1, -1, -1, 1, -1, -1]" in stderr.splitlines(), stderr
    seen = [line for line in bench.said(events, stderr) if line["event"] == "violation"]
    lines = [line for line in seen if line["syscall"] in WITH_DESTINATION]
    assert [line["syscall"] for line in lines] == ["connect", "sendto", "sendmsg", "sendmsg", "connect"]
    assert all("did not make" in line["reason"] for line in lines)


def test_a_number_that_changes_never_brings_in_a_strange_socket(bench: Supervision, scene: Scene) -> None:
    """A thread swaps one of ours with one from before, which the profile would let reach the aim: only ours does."""
    udp = scene.udp.getsockname()[1]
    code = (
        "import _thread, os, socket, sys\n"
        "ours = socket.socket(2, 2); spot = os.dup(ours.fileno())\n"
        "def swap():\n"
        "    while True: os.dup2(0, spot); os.dup2(ours.fileno(), spot)\n"
        "_thread.start_new_thread(swap, ())\n"
        "d = socket.socket(2, 2, fileno=spot); sent = refused = 0\n"
        "for _ in range(2000):\n"
        f"    try: sent += d.sendto(b'x', ('127.0.0.1', {udp}))\n"
        "    except OSError as error: refused += error.errno == 1\n"
        "print(sent, refused, ours.getsockname()[1], flush=True); os._exit(0)\n"
    )
    bundle = bench.bundle(*SOCKETS, "clone thread", "dup", network=scene.entries)
    senders = set()
    with socket.socket(type=socket.SOCK_DGRAM) as strange:
        strange.bind(("127.0.0.1", 0))
        process, _ = bench.start(bundle, *PYTHON, code, stdin=strange)
        stdout, stderr = process.communicate()
        sent, refused, port = map(int, stdout.split())
        assert sent + refused == 2000, stderr
        assert min(sent, refused) > 0
    scene.udp.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            senders.add(scene.udp.recvfrom(16)[1][1])
    assert senders == {port}


def test_here_they_can_be_duplicated() -> None:
    """Without such a filter nothing refuses it."""
    assert refuses_duplicates() == ""
