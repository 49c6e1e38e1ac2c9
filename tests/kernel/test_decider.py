"""A decider that is killed or stopped, at any moment: what waits is refused, one line says so, and nothing lives on."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised_programs import NATIVE, PYTHON, SOCKETS, Supervision, bench_for, supervision

from sandbox.confine.parent import descendants
from sandbox.egress import sockets

bench = bench_for(NATIVE)

KILLS = int(os.environ.get("DECIDER_KILLS", "12"))
"""How many deciders are killed; a thousand take seven minutes."""
LOST = "Runtime.SandboxDeciderLost"
CALLS = ("clone process", "clone thread", "pause", "setsid", "pipe2", *SOCKETS)

BUSY = """
import _socket, errno, os, signal, sys, threading, time
sys.stdin.readline()
def ask(call, *args):
    while True:
        try:
            call(*args)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ECONNREFUSED):
                os.write(1, f"{error.errno}\\n".encode())
def orphan():
    if not os.fork():
        os.setsid()
        if not os.fork():
            ask(os.setpriority, 0, 0, 0)
        os._exit(0)
orphan()
for _ in range(4): threading.Thread(target=ask, args=(os.setpriority, 0, 0, 0)).start()
def connect():
    client = _socket.socket(2, 1)
    try: client.connect(("127.0.0.1", 1))
    finally: client.close()
ask(connect)
"""


def decider_of(attendant: int) -> int:
    """The one child of an attendant, once it is there; 0 for one that has ended before."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = Path(f"/proc/{attendant}/task/{attendant}/children")
        found = children.read_text().split() if children.exists() else []
        if found:
            return int(found[0])
    return 0


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether processes have ended, within a time."""
    deadline = time.monotonic() + seconds
    while any(os.path.exists(f"/proc/{pid}/exe") for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture(scope="module")
def stopped() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A function whose decider was stopped in the middle of its work, while others are tried; and its tree."""
    with supervision(None, native=True) as bench:
        bundle = bench.bundle(*CALLS, network=("tcp://127.0.0.1:1",))
        process, _ = bench.start(bundle, *PYTHON, BUSY, stdin=subprocess.PIPE)
        try:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            decider = decider_of(process.pid)
            while b"decide" not in Path(f"/proc/{decider}/cmdline").read_bytes():
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.3)
            tree = list(descendants(process.pid))
            os.kill(decider, signal.SIGSTOP)
            yield process, tree
        finally:
            process.kill()
            process.communicate()


@pytest.mark.usefixtures("stopped")
def test_killed_at_any_moment(bench: Supervision) -> None:
    """No process is left, no call was answered otherwise than it had been, and one line says what happened."""
    bundle = bench.bundle(*CALLS, network=("tcp://127.0.0.1:1",))
    chance = random.Random(KILLS)
    for number in range(KILLS):
        process, _ = bench.start(bundle, *PYTHON, BUSY, stdin=subprocess.PIPE)
        try:
            assert process.stdin
            decider = decider_of(process.pid)
            if number % 4:
                process.stdin.write("go\n")
                process.stdin.flush()
                time.sleep(chance.random() * (0.4 if number % 2 else 0.08))
            tree = list(descendants(process.pid))
            os.kill(decider, signal.SIGKILL)
            wrong, told = process.communicate(timeout=20)
        finally:
            process.kill()
        assert gone(tree)
        assert process.returncode == 85, told
        assert told.count(LOST) == 1
        assert "was ended by signal 9" in told
        assert wrong == ""


def test_the_function_goes_on_where_a_setting_says_so(bench: Supervision) -> None:
    """What needs a decision is refused from then on, what does not is answered, and the function ends as it ends."""
    code = """
import os, sys
def attempt(call, *args):
    try: return call(*args) and 0
    except OSError as error: return error.errno
print(attempt(os.setpriority, 0, 0, 0), os.getppid(), flush=True)
sys.stdin.readline()
print(attempt(os.umask, 0o22), *[attempt(os.setpriority, 0, 0, 0) for _ in range(3)], flush=True)
if sys.argv[1:]: sys.stdin.readline()
os._exit(7)
"""
    bundle = bench.bundle(init=("umask",), runtime_api=True, network=("runtime-api",))
    more = {"SANDBOX_ON_DECIDER": "continue", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"}
    for waits in ((), ("waits",)):
        process, _ = bench.start(bundle, *PYTHON, code, *waits, more=more, stdin=subprocess.PIPE)
        try:
            assert process.stdin
            assert process.stdout
            number, decider = map(int, process.stdout.readline().split())
            tree = list(descendants(process.pid))
            assert number == errno.EPERM
            os.kill(decider, signal.SIGKILL)
            assert gone([decider])
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline().split() == ["0", *[str(errno.EPERM)] * 3]
            if waits:
                process.kill()
            _, told = process.communicate(timeout=20)
            assert process.returncode == (-signal.SIGKILL if waits else 7)
            said = [json.loads(line) for line in told.splitlines() if line.startswith('{"event": "degraded"')]
            assert len(said) == 1
            assert "was ended by signal 9: each call that needs a decision is refused" in said[0]["reason"]
            if not waits:
                assert gone(tree)
        finally:
            process.kill()
            process.communicate()
            for pid in tree:
                if os.path.exists(f"/proc/{pid}/exe"):
                    os.kill(pid, signal.SIGKILL)


def test_one_that_takes_no_call_is_ended(stopped: tuple[subprocess.Popen[str], list[int]]) -> None:
    """Stopped, it holds the function up for some seconds and no longer; then it is as if it had died."""
    process, tree = stopped
    _, told = process.communicate(timeout=40)
    assert process.returncode == 85
    assert gone(tree)
    assert "took no call for 10 seconds" in told


CROWD = """
import _socket, collections, os, sys, threading, time
found = collections.Counter()
threading.stack_size(64 << 10)
def connect():
    try: found[_socket.socket(2, 1).connect_ex(("127.0.0.1", int(sys.argv[1])))] += 1
    except OSError: pass
for _ in range(400): threading.Thread(target=connect, daemon=True).start()
time.sleep(1)
try: os.setpriority(0, 0, 0)
except OSError as error: found["after"] = error.errno
print(found[1], found["after"], os.getppid(), flush=True)
sys.stdin.readline()
os._exit(0)
"""
MEBI = 1 << 20


def private(pid: int) -> int:
    """Bytes that a process shares with nobody and has written to."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty"))


def test_what_a_crowd_of_calls_costs_is_bounded(bench: Supervision) -> None:
    """Of hundreds of threads that sleep in connects a part is waited for, and the others are refused with a line."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for client in crowd:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        port = server.getsockname()[1]
        bundle = bench.bundle(*CALLS, network=(f"tcp://127.0.0.1:{port}",))
        process, _ = bench.start(
            bundle, *PYTHON, CROWD, str(port), stdin=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)),
        )  # fmt: skip
        try:
            assert process.stdout
            refused, after, decider = map(int, process.stdout.readline().split())
            threads = len(os.listdir(f"/proc/{decider}/task"))
            assert refused > 50
            assert after == errno.EPERM
            assert 20 < threads <= 300 // sockets.SHARE + 1
            assert private(decider) <= 16 * MEBI
            assert private(process.pid) <= MEBI
            _, told = process.communicate("go\n", timeout=20)
        finally:
            process.kill()
            for client in crowd:
                client.close()
    lines = [json.loads(line) for line in told.splitlines() if line.startswith('{"event": "violation')]
    assert process.returncode == 0
    assert "more calls sleep at a time" in lines[0]["reason"]
    assert lines[-1]["counts"] == {"connect: denied": refused, "setpriority: denied": 1}
