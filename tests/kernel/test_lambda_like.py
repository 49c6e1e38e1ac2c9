"""The native launcher on a Lambda-like host: no Landlock, no prctl, and sockets that the attendant makes.

What becomes of each socket is in test_owned_sockets.py, which runs there, too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from process_table import descendants, runs
from supervised_programs import LAMBDA_LIKE, PYTHON, SOCKETS, Supervision, bench_for

bench = bench_for(LAMBDA_LIKE[-1:])

HEAD = """
import _socket, json, os, select, sys, threading
tcp, udp = json.loads(sys.argv[1])
def native(): return "decide" not in open(f"/proc/{os.getppid()}/cmdline").read().split(chr(0))
def attempt(call, *args):
    try: return call(*args) or 0
    except OSError as error: return -error.errno
"""
MOST_PRIVATE = 320 << 10
"""Bytes of their own that the attendant, with its table of sockets, and the sleeping decider may have."""


@contextlib.contextmanager
def servers() -> Iterator[tuple[socket.socket, list[int], tuple[str, str]]]:
    """Who listens by TCP; its port and that of one who takes datagrams; and both as destinations."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.settimeout(20)
        udp.bind(("127.0.0.1", 0))
        ports = [tcp.getsockname()[1], udp.getsockname()[1]]
        yield tcp, ports, (f"tcp://127.0.0.1:{ports[0]}", f"udp://127.0.0.1:{ports[1]}")


def test_a_function_that_needs_no_python_has_none(bench: Supervision) -> None:
    """It connects, sends and closes, blocking or not, in threads and by copies; its peers hear each end."""
    code = HEAD + """
found = []
def talk(blocking):
    client = _socket.socket(2, 1)
    client.setblocking(blocking)
    number = client.connect_ex(("127.0.0.1", tcp))
    select.select([], [client], [])
    copy = os.dup(client.fileno())
    client.close()
    found.append([number, os.write(copy, b"all")])
    os.close(copy)
for blocking in (True, False):
    talk(blocking)
    thread = threading.Thread(target=talk, args=(blocking,))
    thread.start()
    thread.join()
sender = _socket.socket(2, 2)
found += [sender.sendto(b"x", ("127.0.0.1", udp)), sender.connect_ex(("127.0.0.1", udp)), native()]
print(json.dumps(found), flush=True)
sys.stdin.readline()
"""
    with servers() as (tcp, ports, network):
        for kept in (True, False):  # connections, for a sendmsg that could name another destination
            items = [item for item in SOCKETS if kept or item != "sendmsg"]
            bundle = bench.bundle(*items, "clone thread", "dup", network=network)
            process, _ = bench.start(bundle, *PYTHON, code, json.dumps(ports), stdin=subprocess.PIPE)
            try:
                assert process.stdout
                found = json.loads(process.stdout.readline())
                assert found == [[0, 3]] * 2 + [[errno.EINPROGRESS, 3]] * 2 + [1, 0, True]
                for _ in range(4):
                    with tcp.accept()[0] as peer:
                        peer.settimeout(20)
                        while peer.recv(8):
                            pass
                attendant, decider, _ = process.pid, *descendants(process.pid)[:2]
                assert private(attendant) + private(decider) <= MOST_PRIVATE
                process.communicate("go\n", timeout=20)
            finally:
                process.kill()
            assert process.returncode == 0


def private(pid: int) -> int:
    """Bytes that a process shares with nobody and has written to."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty"))


def test_sockets_go_to_the_decider_with_their_calls(bench: Supervision) -> None:
    """One that the attendant made, and leaves a call on, is the decider's from then on; calls are answered alike."""
    code = HEAD + """
ours, stranger = ("127.0.0.1", tcp), ("127.0.0.1", 1)
first, second, third = (_socket.socket(2, 1) for _ in range(3))
found = [first.connect_ex(ours), native(), attempt(os.setpriority, 0, 0, 0), native()]
found += [first.connect_ex(stranger), first.send(b"x")]
found += [second.connect_ex(stranger), second.connect_ex(ours), second.send(b"x")]
found += [third.connect_ex(ours), third.send(b"x")]
sender = _socket.socket(2, 2)
for port in (udp, 1, udp): found.append(attempt(sender.sendto, b"x", ("127.0.0.1", port)))
for client in (first, second, third): client.close()
print(json.dumps(found), flush=True)
sys.stdin.readline()
"""
    with servers() as (tcp, ports, network):
        bundle = bench.bundle(*[item for item in SOCKETS if item != "sendmsg"], network=network)
        process, events = bench.start(bundle, *PYTHON, code, json.dumps(ports), stdin=subprocess.PIPE)
        try:
            assert process.stdout
            found = json.loads(process.stdout.readline())
            assert found[:6] == [0, True, -errno.EPERM, False, errno.EISCONN, 1]
            assert found[6:] == [errno.EPERM, 0, 1, 0, 1, 1, -errno.EPERM, 1]
            for _ in range(3):
                with tcp.accept()[0] as peer:
                    peer.settimeout(20)
                    assert peer.recv(8) == b"x"
                    assert peer.recv(8) == b""
            _, told = process.communicate("go\n", timeout=20)
        finally:
            process.kill()
    lines = [line for line in bench.said(events, told) if line["event"] == "violation"]
    assert [(line["syscall"], line["target"]) for line in lines] == [
        ("setpriority", ""), ("connect", "tcp://127.0.0.1:1"), ("sendto", "udp://127.0.0.1:1"),
    ]  # fmt: skip


def test_who_ends_either_process_ends_the_function(bench: Supervision) -> None:
    """With the decider, asleep or asked, or with the attendant: what is below the function ends with it."""
    code = HEAD + """
import signal
if sys.argv[2:]: attempt(os.setpriority, 0, 0, 0)
if not os.fork(): signal.pause()
print("up", flush=True)
signal.pause()
"""
    bundle = bench.bundle("clone process", "pause")
    for more in ((), ("asked",)):
        for which in (0, 1):
            process, _ = bench.start(bundle, *PYTHON, code, "[0, 0]", *more)
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            tree = [process.pid, *descendants(process.pid)]
            assert len(tree) == 4
            os.kill(tree[which], signal.SIGKILL)
            _, told = process.communicate(timeout=20)
            assert process.returncode == (85 if which else -signal.SIGKILL), told
            deadline = time.monotonic() + 5
            while any(map(runs, tree)) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not any(map(runs, tree))
