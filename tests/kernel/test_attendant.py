"""The launcher's attendant: what it answers itself, and how it leaves the rest to Python without losing a call."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised_programs import NATIVE, PYTHON, SOCKETS, Done, Supervision, bench_for, supervision

from sandbox.confine.parent import descendants

bench = bench_for(NATIVE)

API = ("runtime-api",)
MOST_PRIVATE = 300 << 10
"""Bytes of their own that the attendant and the sleeping decider may have before the first refusal."""

HEAD = """
import _socket, errno, json, os, sys, threading, time
def boss():
    return open(f"/proc/{os.getppid()}/cmdline", "rb").read().split(b"\\0")
def native():
    return len(boss()) > 1 and b"decide" not in boss()
def attempt(call, *args):
    try:
        return call(*args) and 0
    except OSError as error:
        return error.errno
host, port = os.environ.get("AWS_LAMBDA_RUNTIME_API", "x:0").split(":")
port = int(port)
"""

ORPHAN = """
import signal
read, write = os.pipe()
if not os.fork():
    os.setsid()
    if not os.fork():
        os.write(write, str(os.getpid()).encode())
        signal.pause()
    os._exit(0)
"""
"""Leaves a grandchild in a session of its own, whose number can be read from a pipe."""


@contextlib.contextmanager
def api(*, backlog: int = 128) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A listener as the Runtime API, and the variable that names it."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server, {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.getsockname()[1]}"}


def said(done: Done) -> object:
    """What a program printed last, as JSON."""
    assert done.code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_function_that_needs_no_python_has_none(bench: Supervision) -> None:
    """Calls of the init phase and connects of the Runtime API, blocking or not, from any thread, start no Python."""
    code = HEAD + """
found = [native(), attempt(os.umask, 0o22), attempt(os.umask, 0o22)]
def connect(blocking):
    client = _socket.socket(2, 1)
    client.setblocking(blocking)
    found.append(client.connect_ex((host, port)))
connect(True)
connect(False)
for blocking in (True, False):
    thread = threading.Thread(target=connect, args=(blocking,))
    thread.start()
    thread.join()
found.append(native())
print(json.dumps(found), flush=True)
time.sleep(1)
os._exit(7)
"""
    bundle = bench.bundle(*SOCKETS, "clone thread", init=("umask",), runtime_api=True, network=API)
    with api() as (_, more):
        process, _ = bench.start(bundle, *PYTHON, code, more=more)
        try:
            assert process.stdout
            found = json.loads(process.stdout.readline())
            assert found == [True, 0, 0, *[0, errno.EINPROGRESS] * 2, True]
            decider, _ = descendants(process.pid)
            private = [
                int(line.split()[1]) << 10
                for pid in (process.pid, decider)
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                if line.startswith("Private_Dirty")
            ]
            assert len(private) == 2
            assert sum(private) <= MOST_PRIVATE
            assert process.wait(20) == 7
        finally:
            process.kill()
            process.communicate()


def test_what_only_the_init_phase_binds_needs_no_python(bench: Supervision) -> None:
    """urllib3 binds while it is loaded, to learn of IPv6: the attendant makes that, and none afterwards."""
    code = HEAD + """
tried, client, late = (_socket.socket(2, 1) for _ in range(3))
found = [attempt(tried.bind, ("127.0.0.1", 0)), tried.getsockname()[1] > 0, native()]
found += [attempt(client.connect, (host, port)), attempt(late.bind, ("127.0.0.1", 0)), native()]
print(json.dumps(found), flush=True)
"""
    bundle = bench.bundle(*SOCKETS, "getsockname", init=("bind",), runtime_api=True, network=API)
    with api() as (_, more):
        done = bench.run(bundle, *PYTHON, code, more=more)
    assert said(done) == [None, True, True, None, errno.EPERM, False]
    assert [(line["syscall"], line["phase"]) for line in done.violations] == [("bind", "invoke")]


def test_bytecode_is_refused_without_python(bench: Supervision) -> None:
    """Python tries to make what is missing at each import: EPERM from the attendant; another folder has a line."""
    code = HEAD + """
there = os.path.join(sys.argv[1], "__pycache__")
found = [attempt(os.mkdir, there), os.path.exists(there)]
found.append(attempt(os.open, there + "/module.cpython-311.pyc.140234", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
found.append(native())
found.append(attempt(os.mkdir, there + "-not"))
print(json.dumps([*found, native()]), flush=True)
"""
    done = bench.run(bench.bundle("openat read", "stat"), *PYTHON, code, str(bench.folder))
    assert said(done) == [errno.EPERM, False, errno.EPERM, True, errno.EPERM, False]
    assert [line["syscall"] for line in done.violations] == ["mkdir"]


def test_the_first_refused_call_brings_python(bench: Supervision) -> None:
    """It has its errno and its line once, in the phase that the attendant left; what follows is decided alike."""
    code = HEAD + """
before = [attempt(os.umask, 0o22), native()]
client = _socket.socket(2, 1)
before += [client.connect_ex((host, port)), native()]
print(json.dumps([*before, attempt(os.setpriority, 0, 0, 0), native(), attempt(os.setpriority, 0, 0, 0)]))
"""
    with api() as (_, more):
        for init, phase in ((("umask",), "invoke"), (("umask", "setpriority"), "invoke")):
            done = bench.run(bench.bundle(*SOCKETS, init=init, runtime_api=True, network=API), *PYTHON, code, more=more)
            assert said(done) == [0, True, 0, True, errno.EPERM, False, errno.EPERM]
            lines = done.of("setpriority")
            assert [line["phase"] for line in lines] == [phase] * 2
            assert "init phase only" in lines[0]["reason"] or "setpriority" not in init
            assert done.counted("setpriority: denied") == (2, 2)
    early = bench.run(bench.bundle(init=("umask",), runtime_api=True, network=API), *PYTHON, HEAD + (
        "print(json.dumps([attempt(os.setpriority, 0, 0, 0), attempt(os.umask, 0o22), native()]))"
    ), more={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"})  # fmt: skip
    assert said(early) == [errno.EPERM, 0, False]
    assert [line["phase"] for line in early.violations] == ["init"]


def test_no_call_of_many_threads_is_lost(bench: Supervision) -> None:
    """Threads that wait in calls while the attendant becomes the supervisor get their answers, each its own."""
    code = HEAD + """
found, gate = [], threading.Barrier(60)
def ask(number):
    gate.wait()
    for _ in range(5):
        found.append((number % 2, attempt(os.umask, 0o22) if number % 2 else attempt(os.setpriority, 0, 0, 0)))
threads = [threading.Thread(target=ask, args=(number,)) for number in range(60)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([len(found), sorted(set(found))]))
"""
    bundle = bench.bundle("clone thread", init=("umask",), runtime_api=True, network=API)
    done = bench.run(bundle, *PYTHON, code, more={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"})
    assert said(done) == [300, [[0, errno.EPERM], [1, 0]]]
    assert done.counted("setpriority: denied") == (150, 150)


def test_the_attendant_answers_beside_its_decider(bench: Supervision) -> None:
    """With the decider stopped, init calls and the Runtime API's connects have their answers; what it decides waits."""
    code = HEAD + """
print(attempt(os.setpriority, 0, 0, 0), native(), os.getppid(), flush=True)
sys.stdin.readline()
client = _socket.socket(2, 1)
print(attempt(os.umask, 0o22), client.connect_ex((host, port)), flush=True)
print(attempt(os.setpriority, 0, 0, 0), attempt(os.umask, 0o22), flush=True)
"""
    bundle = bench.bundle(*SOCKETS, init=("umask",), runtime_api=True, network=API)
    with api() as (_, more):
        process, _ = bench.start(bundle, *PYTHON, code, more=more, stdin=subprocess.PIPE)
        try:
            assert process.stdin
            assert process.stdout
            *found, decider = process.stdout.readline().split()
            assert found == [str(errno.EPERM), "False"]
            os.kill(int(decider), signal.SIGSTOP)
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "0 0\n"
            assert not select.select([process.stdout], [], [], 0.2)[0]
            os.kill(int(decider), signal.SIGCONT)
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
    lines = [json.loads(line) for line in told.splitlines() if line.startswith('{"event": "violation"')]
    assert [(line["syscall"], line["phase"]) for line in lines] == [
        ("setpriority", "init"), ("setpriority", "invoke"), ("umask", "invoke"),
    ]  # fmt: skip


def test_a_decider_that_dies_ends_the_function(bench: Supervision) -> None:
    """Killed, asleep or asked, it leaves no process, orphans included, and one line; the exit status is its own."""
    code = HEAD + ORPHAN + """
if sys.argv[1:]: attempt(os.setpriority, 0, 0, 0)
print(os.getpid(), os.read(read, 20).decode(), os.getppid(), flush=True)
signal.pause()
"""
    bundle = bench.bundle("clone process", "pause", "setsid", "pipe2")
    for more in ((), ("asked",)):
        process, _ = bench.start(bundle, *PYTHON, code, *more)
        assert process.stdout
        *left, decider = map(int, process.stdout.readline().split())
        os.kill(decider, signal.SIGKILL)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 85
        assert told.count("Runtime.SandboxDeciderLost") == 1
        assert not [pid for pid in left if os.path.exists(f"/proc/{pid}/exe")]


ADDRESSES = HEAD + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def sockaddr(family, host, port):
    return family.to_bytes(2, "little") + port.to_bytes(2, "big") + bytes(map(int, host.split("."))) + bytes(140)
api = sockaddr(2, host, port)
mapped = sockaddr(10, "0.0.0.0", port)[:18] + bytes([255] * 2) + api[4:]
cases = [
    (2, 1, api, 16), (2, 1, api, 28), (2, 1, api, 128), (10, 1, mapped, 28),
    *((2, 1, api, length) for length in (0, 4, 8, 15, 129)),
    *((*kind, api, 16) for kind in ((2, 2), (10, 1), (1, 1))), (10, 1, api, 28),
    *((2, 1, data, 16) for data in (
        sockaddr(2, "0.0.0.0", port), sockaddr(2, "127.0.0.2", port), sockaddr(2, host, port + 1),
        sockaddr(0, host, port), sockaddr(1, host, port), sockaddr(10, host, port),
        None, ctypes.c_char_p(1 << 20), ctypes.c_char_p(1 << 63))),
    (0, 0, api, 16), (0, 999, api, 16),
]
def connect(family, kind, data, length):
    fd = _socket.socket(family, kind).detach() if family else kind
    ctypes.set_errno(0)
    first = libc.connect(fd, data, length) and ctypes.get_errno()
    return [first, libc.connect(fd, data, length) and ctypes.get_errno()]
found = []
for case in cases[int(sys.argv[1]):int(sys.argv[2])]:
    found.append([*connect(*case), native()])
print(json.dumps([len(cases), found]))
"""
MADE, DISSOLVES = 4, 16
"""The first of the addresses, whose connects the attendant makes itself, and the one that takes a connection back."""


def test_addresses_are_decided_as_by_python(bench: Supervision) -> None:
    """Whatever the first connect names, both starters give the same result and the same line.

    One start for each: whether the attendant answers one itself shows only where nothing came before.
    """
    bundle = bench.bundle(*SOCKETS, "socket AF_UNIX SOCK_STREAM", runtime_api=True, network=API)
    command, ours, targets, natively = (*PYTHON, ADDRESSES), [], [], []
    with api(backlog=1024) as (_, more), supervision(bench.uid) as other:
        os.chmod(bench.folder, 0o755)
        theirs = other.run(bundle, *command, "0", "1000", more=more)
        count, expected = json.loads(theirs.stdout)
        for number in range(count):
            done = bench.run(bundle, *command, str(number), str(number + 1), more=more)
            (first, second, native), *_ = json.loads(done.stdout)[1]
            ours.append([first, second])
            natively.append(native)
            targets += [line["target"] for line in done.violations]
    assert ours == [found[:2] for found in expected]
    assert ours[:MADE] == [[0, errno.EISCONN]] * MADE
    assert [number for number in range(count) if natively[number]] == [*range(MADE), DISSOLVES]
    assert targets == [line["target"] for line in theirs.violations]


def test_a_connect_that_sleeps_waits_in_the_attendant(bench: Supervision) -> None:
    """A connect whose answer does not come at once needs no Python, and ends as it would without us."""
    code = HEAD + """
client = _socket.socket(2, 1)
client.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, (1).to_bytes(8, "little") + bytes(8))
print(json.dumps([client.connect_ex((host, port)), native()]))
"""
    bundle = bench.bundle(*SOCKETS, runtime_api=True, network=API)
    with api(backlog=0) as (server, more):
        crowd = [socket.socket() for _ in range(4)]
        for client in crowd:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        time.sleep(0.1)
        found = said(bench.run(bundle, *PYTHON, code, more=more))
        for client in crowd:
            client.close()
    assert found == [errno.EINPROGRESS, True]


def test_nothing_lives_on(bench: Supervision) -> None:
    """What the function leaves behind ends with it; whoever kills the attendant ends the function, orphans included."""
    bundle = bench.bundle("clone process", "vfork process", "pause", "setsid", "wait4")
    left = "import os, signal\npid = os.fork()\nif not pid: signal.pause()\nprint(pid, flush=True)\n"
    done = bench.run(bundle, *PYTHON, left)
    assert done.code == 0, done.stderr
    assert not os.path.exists(f"/proc/{done.stdout.strip()}")
    orphaned = (
        "import os, signal, sys\n"
        "if sys.argv[1:]:\n    try: os.setpriority(0, 0, 0)\n    except OSError: pass\n"
        "if not os.fork():\n    os.setsid()\n"
        "    if not os.fork():\n        print('up', flush=True); signal.pause()\n    os._exit(0)\n"
        "os.wait(); signal.pause()"
    )
    for decides in ((), ("decides",)):
        process, _ = bench.start(bundle, *PYTHON, orphaned, *decides)
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        tree = list(descendants(process.pid))
        assert len(tree) >= 3
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)
        deadline = time.monotonic() + 5
        while any(os.path.exists(f"/proc/{pid}/exe") for pid in tree) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not [pid for pid in tree if os.path.exists(f"/proc/{pid}/exe")]


def test_python_comes_early_where_it_surely_will_be_needed(bench: Supervision) -> None:
    """With another destination it loads once the Runtime API was connected to, and a program's at once."""
    code = HEAD + """
client = _socket.socket(2, 1)
found = [native(), client.connect_ex((host, port))]
deadline = time.monotonic() + 20
while b"decide" not in boss() and time.monotonic() < deadline: time.sleep(0.01)
print(json.dumps([*found, b"decide" in boss()]))
"""
    network = (*API, "unix:/run/nobody")
    with api() as (_, more):
        done = bench.run(bench.bundle(*SOCKETS, runtime_api=True, network=network), *PYTHON, code, more=more)
    assert said(done) == [True, 0, True]
    plain = bench.run(bench.bundle(*SOCKETS, network=("unix:/run/nobody",)), *PYTHON, HEAD + (
        "time.sleep(0.2)\nprint(json.dumps(native()))"
    ))  # fmt: skip
    assert said(plain) is False


def test_descriptors_of_the_platform_are_the_functions_alone(bench: Supervision) -> None:
    """A pipe that the platform hands over ends when the function closes it, although the attendant lives on."""
    read, write = os.pipe()
    process, _ = bench.start(
        bench.bundle("pause"), *PYTHON, f"import os, signal\nos.close({write})\nsignal.pause()", pass_fds=(write,)
    )
    os.close(write)
    try:
        with open(read, "rb") as file:
            assert file.read() == b""
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGINT])
def test_signals_are_passed_on(bench: Supervision, number: signal.Signals) -> None:
    """A signal to what was started reaches the function, before and after Python has come."""
    code = (
        "import os, signal, time\n"
        "heard = []\n"
        f"signal.signal({int(number)}, lambda *_: heard.append(1))\n"
        "def wait(count):\n"
        "    while len(heard) < count: time.sleep(0.01)\n"
        "    print('heard', flush=True)\n"
        "print('up', flush=True); wait(1)\n"
        "try: os.setpriority(0, 0, 0)\nexcept OSError as error: print(error.errno, flush=True)\nwait(2)\n"
    )
    process, _ = bench.start(bench.bundle("pause"), *PYTHON, code, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert [process.stdout.readline() for _ in range(2)] == ["heard\n", "1\n"]
        process.send_signal(number)
        assert process.stdout.readline() == "heard\n"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


LIBRARY = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) { write(open(MARK, O_CREAT | O_WRONLY, 0644), "x", 1); }
"""


CODE = (
    "LD_PRELOAD={}/libz.so.1", "LD_LIBRARY_PATH={}", "LD_LIBRARY_PATH=/usr/lib/../..{}", "LD_LIBRARY_PATH=/usr/lib;{}",
)  # fmt: skip


@pytest.mark.parametrize("variable", CODE)
def test_the_function_chooses_no_code_of_its_supervisor(bench: Supervision, variable: str) -> None:
    """A library that the function puts where a variable of its own leads is not loaded outside of its walls."""
    folder, mark = Path(tempfile.mkdtemp(dir=bench.folder)), bench.folder / "mark"
    source = folder / "library.c"
    source.write_text(LIBRARY)
    library = folder / "library.so"
    subprocess.run(["cc", "-shared", "-fPIC", f'-DMARK="{mark}"', "-o", library, source], check=True)
    for place in (bench.folder, folder):
        os.chmod(place, 0o777)
    code = HEAD + (
        f"open('{folder}/libz.so.1', 'wb').write(open('{library}', 'rb').read())\n"
        "print(json.dumps([attempt(os.setpriority, 0, 0, 0), native()]))"
    )
    calls = ("openat read", "openat write", "openat create")
    bundle = bench.bundle(*calls, writes=(f"{folder}/**",), runtime_api=True, network=API)
    name, _, value = variable.partition("=")
    more = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9", name: value.format(folder)}
    assert said(bench.run(bundle, *PYTHON, code, more=more)) == [errno.EPERM, False]
    assert not mark.exists()


SHOWS_VARIABLES = """
#include <stdio.h>
extern char **environ;
int main(void) { for (char **at = environ; *at; at++) fprintf(stderr, "given: %s\\n", *at); return 1; }
"""


def test_what_names_code_is_not_handed_on(bench: Supervision) -> None:
    """The supervisor's interpreter is started with the function's variables, but for those that say what it loads."""
    shown = bench.new("")
    subprocess.run(["cc", "-o", shown, "-x", "c", "-"], input=SHOWS_VARIABLES, text=True, check=True)
    shown.chmod(0o755)
    names = ("LD_AUDIT", "LD_PROFILE", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "OPENSSL_CONF", "OPENSSL_MODULES",
             "PYTHONPATH", "PYTHONHOME")  # fmt: skip
    more = {**dict.fromkeys(names, "nowhere"), "LD_LIBRARY_PATH": "/opt/lib:nowhere", "SANDBOX_PYTHON": str(shown)}
    done = bench.run(bench.bundle(), *PYTHON, "import os; os.setpriority(0, 0, 0)", more={**more, "KEPT": "yes"})
    given = dict(line[7:].split("=", 1) for line in done.stderr.splitlines() if line.startswith("given: "))
    assert given["KEPT"] == "yes"
    assert given["LD_LIBRARY_PATH"] == "/opt/lib"
    assert not given.keys() & set(names)


def test_init_ends_with_a_connect_that_is_on_its_way(bench: Supervision) -> None:
    """Whatever its caller writes in the place of the address while it waits, the way to the events is open."""
    code = HEAD + """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
name = (2).to_bytes(2, "little") + port.to_bytes(2, "big") + bytes(map(int, host.split("."))) + bytes(8)
client, address = _socket.socket(2, 1), ctypes.create_string_buffer(name, 16)
def change():
    time.sleep(0.3)
    ctypes.memmove(address, (0xfff).to_bytes(2, "little"), 2)
thread = threading.Thread(target=change)
thread.start()
connected = libc.connect(client.fileno(), address, 16)
thread.join()
print(json.dumps([connected, attempt(os.umask, 0o22)]))
"""
    bundle = bench.bundle(*SOCKETS, "clone thread", init=("umask",), runtime_api=True, network=API)
    with api(backlog=0) as (server, more):
        crowd = [socket.socket() for _ in range(4)]
        for client in crowd:
            client.setblocking(False)
            client.connect_ex(server.getsockname())

        def accept() -> None:
            server.settimeout(3)
            with contextlib.suppress(TimeoutError):
                while True:
                    crowd.append(server.accept()[0])

        room = threading.Timer(1.0, accept)
        room.start()
        done = bench.run(bundle, *PYTHON, code, more=more)
        room.join()
        for client in crowd:
            client.close()
    assert done.code == 0, done.stderr  # umask(2) of the C library sets no errno
    assert [line["phase"] for line in done.of("umask")] == ["invoke"]


@pytest.mark.parametrize("gone", ["bundle", "interpreter"])
def test_nothing_lives_on_where_python_cannot_come(bench: Supervision, gone: str) -> None:
    """If one of the two is gone when it is needed, the start fails with its reason, and orphans end with it."""
    bundle = shutil.copytree(bench.bundle("clone process", "pause", "setsid", "pipe2"), bench.new(""))
    code = HEAD + ORPHAN + """
import shutil
print(os.read(read, 20).decode(), flush=True)
sys.stdin.readline()
attempt(os.setpriority, 0, 0, 0)
"""
    interpreter = shutil.copy(PYTHON[0], bench.new(""))
    process, _ = bench.start(
        bundle, *PYTHON, code, stdin=subprocess.PIPE, more={"SANDBOX_PYTHON": str(interpreter)}
    )
    assert process.stdout
    assert process.stdin
    orphan = process.stdout.readline().strip()
    assert os.path.exists(f"/proc/{orphan}/exe")
    if gone == "bundle":
        shutil.rmtree(bundle)
    else:
        os.unlink(interpreter)
    process.stdin.write("go\n")
    process.stdin.flush()
    _, told = process.communicate(timeout=30)
    reason = "policy.bin: cannot be read" if gone == "bundle" else f"{interpreter}: cannot be executed"
    assert reason in told
    assert not os.path.exists(f"/proc/{orphan}/exe")
