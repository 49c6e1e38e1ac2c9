"""A handler against its own supervisor: it may not end, stop, read, steer or starve it, nor answer in its place."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from process_table import all_end, descendants
from supervised_programs import (
    NATIVE,
    PLAIN_HOSTS,
    PYTHON,
    SOCKETS,
    Done,
    Supervision,
    bench_for,
    without_landlock,
)

from sandbox.kernel import abi, landlock, tables

SECRET = "the-key-of-the-events-0123456789"
PROCESSES = ("clone process", "wait4", "setsid", "setpgid", "getpgrp", "execve", "pipe2", "dup2")
TALKS = ("openat write", "openat create", "setpriority", "sched_setaffinity", "sched_setscheduler", "prlimit64 set")
"""Calls of everyday that could be turned against another process of the same user."""

bench = bench_for([*PLAIN_HOSTS, *NATIVE])


def attempts(
    bench: Supervision, bundle: Path, code: str, key: str = "", before: Callable[[], None] | None = None,
    mode: str = "enforce",
) -> Done:  # fmt: skip
    """Run a handler's attack; it prints one JSON value, and still has a supervisor when it ends."""
    more = {"SANDBOX_EVENT_KEY": key, "SANDBOX_MODE": mode}
    done = bench.run(bundle, *PYTHON, HEAD + code, more=more, before=before)
    assert done.code == 0, done.stderr
    totals = [event for event in done.events if event["event"] == "violations" and event["final"]]
    assert bool(totals) == bool(done.events), "no end of its own"
    return done


HEAD = "import ctypes, json, os, struct\nlibc = ctypes.CDLL(None, use_errno=True)\nNR = " + repr(
    {name: tables.numbers(abi.MACHINE)[name] for name in (
        "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd", "prlimit64",
        "process_vm_readv", "process_vm_writev", "pidfd_send_signal", "seccomp", "prctl", "kcmp", "ioprio_set",
    )}
) + """
boss = os.getppid()
def call(name, *args):
    ctypes.set_errno(0)
    result = libc.syscall(NR[name], *[ctypes.c_long(arg) for arg in args])
    return ctypes.get_errno() if result < 0 else 0
"""  # fmt: skip

SIGNALS = """
info = ctypes.create_string_buffer(struct.pack("<iiii", 9, 0, -1, 0), 128)
at = ctypes.addressof(info)
group = int(open("/proc/self/stat").read().rpartition(")")[2].split()[2])
print(json.dumps({
    "kill": call("kill", boss, 9), "stop": call("kill", boss, 19), "null": call("kill", boss, 0),
    "tgkill": call("tgkill", boss, boss, 9), "tkill": call("tkill", boss, 9),
    "queue": call("rt_sigqueueinfo", boss, 9, at),
    "thread queue": call("rt_tgsigqueueinfo", boss, boss, 9, at), "dirty": call("kill", boss | 5 << 32, 9),
    "everybody": call("kill", -1, 0), "group": call("kill", -group, 0), "pidfd": call("pidfd_open", boss, 0),
}))
"""


@pytest.mark.parametrize("items", [(), ("kill SIGUSR1", "tgkill SIGUSR1")], ids=["nothing", "own signals"])
def test_it_cannot_be_signalled(bench: Supervision, items: tuple[str, ...]) -> None:
    """Not by any call that signals, in any spelling; each attempt is reported."""
    done = attempts(bench, bench.bundle(*items), SIGNALS)
    assert set(json.loads(done.stdout).values()) == {errno.EPERM}
    assert {"kill", "tgkill", "tkill", "rt_sigqueueinfo", "pidfd_open"} <= {line["syscall"] for line in done.violations}


@pytest.mark.parametrize("before", [None, without_landlock], ids=["Landlock", "no Landlock"])
def test_it_cannot_be_signalled_where_others_may(bench: Supervision, before: Callable[[], None] | None) -> None:
    """A function that learned to end its children may end those, but not the supervisor, everybody or its group.

    Not by the number of a thread, not by 0, and not by a pidfd, for which there is nobody to look without Landlock.
    """
    calls = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
    numbers = ("SIGKILL", "SIGSTOP", "0")
    learned = [f"{call} {name}{'' if call == 'tkill' else ' to others'}" for call in calls for name in numbers]
    code = (
        "def child():\n"
        "    pid = os.fork()\n"
        "    while pid == 0: libc.nanosleep(ctypes.create_string_buffer(struct.pack('<QQ', 60, 0)), None)\n"
        "    return pid\n"
        "own = []\n"
        "for name in ('kill', 'tkill', 'pidfd_send_signal'):\n"
        "    pid = child()\n"
        "    target = call('pidfd_open', pid, 0) if name == 'pidfd_send_signal' else pid\n"
        "    if target != pid: target = libc.syscall(NR['pidfd_open'], pid, 0)\n"
        "    own.append(call(name, target, 9, 0, 0))\n"
        "    if own[-1]: call('kill', pid, 9)\n"
        "    own.append(os.wait()[1])\n"
        "boss_fd = libc.syscall(NR['pidfd_open'], boss, 0)\n"
    )
    code += SIGNALS.replace('"pidfd": call("pidfd_open", boss, 0),', (
        "'own': own, 'by pidfd': call('pidfd_send_signal', boss_fd, 9, 0, 0), 'by folder': "
        "call('pidfd_send_signal', os.open(f'/proc/{boss}', os.O_DIRECTORY), 9, 0, 0), "
    )).replace('"kill": call', '"mine": call("kill", 0, 0) if LIMITED else errno, "kill": call')  # fmt: skip
    code = code.replace("LIMITED", str(before is not None)).replace("else errno", f"else {errno.EPERM}")
    done = attempts(bench, bench.bundle(*PROCESSES, "pidfd_open", "pidfd_send_signal", *learned), code, before=before)
    found = json.loads(done.stdout)
    ended = int(signal.SIGKILL)
    assert found.pop("own") == [0, ended, 0, ended, errno.EPERM if before else 0, ended]
    assert set(found.values()) == {errno.EPERM}
    assert "supervisor" in done.of("kill")[0]["reason"]
    assert bool(before) == any("Landlock" in line["reason"] for line in done.of("pidfd_send_signal"))


def test_the_threads_of_the_supervisor_cannot_be_signalled(bench: Supervision) -> None:
    """While one of its threads sleeps in a connect, that thread's number is as guarded as its own."""
    with contextlib.ExitStack() as rest:
        server = rest.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = server.getsockname()[1]
        for _ in range(3):
            full = rest.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(("127.0.0.1", port))
        code = (
            "import _socket, _thread, time\n"
            f"_thread.start_new_thread(lambda: _socket.socket(2, 1).connect(('127.0.0.1', {port})), ())\n"
            "for _ in range(500):\n"
            "    time.sleep(0.01)\n"
            "    threads = [int(name) for name in os.listdir(f'/proc/{boss}/task') if int(name) != boss]\n"
            "    if threads: break\n"
            "print(json.dumps([call(name, tid, 9, 0) for tid in threads for name in ('kill', 'tkill')]), flush=True)\n"
            "os._exit(0)\n"
        )
        learned = [f"{call} SIGKILL{rest}" for call, rest in (("kill", " to others"), ("tkill", ""))]
        network = (f"tcp://127.0.0.1:{port}", "own")  # with it, what sleeps does so in a thread of Python's
        bundle = bench.bundle(*PROCESSES, *SOCKETS, "clone thread", *learned, network=network)
        for before in (None, without_landlock):
            done = attempts(bench, bundle, code, before=before)
            assert json.loads(done.stdout) == [errno.EPERM] * 2


def test_init_items_are_no_way_to_it(bench: Supervision) -> None:
    """A signal to itself that was learned for init does not let one out to the supervisor in init."""
    bundle = bench.bundle(init=("kill SIGKILL", "kill SIGSTOP"), runtime_api=True, network=("runtime-api",))
    done = bench.run(bundle, *PYTHON, HEAD + SIGNALS, more={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"})
    assert set(json.loads(done.stdout).values()) == {errno.EPERM}


READS = """
found = {}
names = "mem environ maps fd cmdline stack syscall auxv task cwd root ns/mnt map_files"
for name in names.split():
    for way in ("read", "write"):
        try:
            if name in ("fd", "map_files", "task"):
                data = repr(os.listdir(f"/proc/{boss}/{name}"))
            elif name in ("cwd", "root", "ns/mnt"):
                data = os.readlink(f"/proc/{boss}/{name}")
            else:
                with open(f"/proc/{boss}/{name}", "rb" if way == "read" else "r+b", buffering=0) as file:
                    data = file.read(1 << 20).hex()
            found[f"{name} {way}"] = data
        except OSError as error:
            found[f"{name} {way}"] = error.errno
print(json.dumps(found))
"""


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_its_memory_and_environment_are_closed(bench: Supervision, mode: str) -> None:
    """Memory, maps and descriptors of the supervisor are not to be opened, and no way shows the key of the events."""
    # The launcher's loads at once with a key; until then its descriptors can be counted, and root sees PATH.
    until_it_is_there = "call('kill', boss, 0)\n"
    done = attempts(bench, bench.bundle(*TALKS), until_it_is_there + READS, SECRET, mode=mode)
    found = json.loads(done.stdout)
    key = SECRET.encode().hex()
    assert not [name for name, value in found.items() if isinstance(value, str) and (key in value or SECRET in value)]
    if bench.uid is not None:
        closed = ("mem read", "mem write", "maps read", "fd read", "environ read", "map_files read", "auxv read")
        assert not [name for name in closed if not isinstance(found[name], int)]
    elif landlock.abi_version():
        # For root only a Landlock domain parts the two (man 7 landlock, ptrace restrictions).
        assert (found["mem read"], found["mem write"]) == (errno.EACCES, errno.EACCES)
        assert not found["environ read"].replace("0", "")


def test_the_process_above_is_as_closed_as_its_supervisor(bench: Supervision) -> None:
    """The attendant or the guardian, which has the key as well, is not to be signalled, opened or read either."""
    above = 'boss = int(open(f"/proc/{boss}/stat").read().rpartition(")")[2].split()[1])\n'
    calls = ("kill", "tgkill", "rt_sigqueueinfo")
    learned = [f"{call} {name} to others" for call in calls for name in ("SIGKILL", "0")]
    for items in ((), learned):
        done = attempts(bench, bench.bundle(*TALKS, *items), above + SIGNALS, SECRET)
        assert set(json.loads(done.stdout).values()) == {errno.EPERM}
    found = json.loads(attempts(bench, bench.bundle(*TALKS), above + READS, SECRET).stdout)
    key = SECRET.encode().hex()
    assert not [name for name, value in found.items() if isinstance(value, str) and (key in value or SECRET in value)]
    assert (found["mem read"], found["mem write"]) == (errno.EACCES, errno.EACCES)


def test_the_key_is_gone_before_the_handler_is_there(bench: Supervision) -> None:
    """However fast a handler looks after its start: the supervisor's environment and memory are closed by then."""
    program = bench.folder / "peek"
    source = bench.folder / "peek.c"
    source.write_text(PEEK)
    if not program.exists():
        subprocess.run(["cc", "-O1", "-o", str(program), str(source)], check=True)
        program.chmod(0o755)
    for _ in range(15):
        done = bench.run(bench.bundle("openat write"), str(program), more={"SANDBOX_EVENT_KEY": SECRET})
        assert done.code == 0, done.stdout
        assert SECRET not in done.stdout


PEEK = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    static char data[1 << 16];
    char path[64];
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "/proc/%d/environ", getppid());
        int fd = open(path, O_RDONLY);
        if (fd >= 0) {
            ssize_t count = read(fd, data, sizeof data);
            for (ssize_t at = 0; at < count; at++)
                if (data[at] == 'S' && !strncmp(data + at, "SANDBOX_", 8)) return puts(data + at), 1;
            close(fd);
        }
        snprintf(path, sizeof path, "/proc/%d/mem", getppid());
        fd = open(path, O_RDWR);
        if (fd >= 0 && geteuid()) { puts("memory"); return 2; }
        if (fd >= 0) close(fd);
    }
    return 0;
}
"""


ESCAPES = {
    "ptrace": "libc.ptrace(16, boss, 0, 0)",
    "process_vm_readv": "call('process_vm_readv', boss, 0, 0, 0, 0, 0)",
    "process_vm_writev": "call('process_vm_writev', boss, 0, 0, 0, 0, 0)",
    "pidfd_getfd": "call('pidfd_getfd', 3, 4, 0)",
}


@pytest.mark.parametrize("name", sorted(ESCAPES))
def test_who_tries_to_get_inside_is_ended(bench: Supervision, name: str) -> None:
    """ptrace and its like end the handler before they return, with a line and exit code 77."""
    done = bench.run(bench.bundle(), *PYTHON, HEAD + ESCAPES[name] + "\nprint('alive')\n")
    assert (done.code, done.stdout) == (77, "")
    assert [line["verdict"] for line in done.of(name)] == ["terminated"]


STEERS = """
import resource
limit = ctypes.create_string_buffer(struct.pack("<QQ", 1, 1))
before = open(f"/proc/{boss}/stat").read().rpartition(")")[2].split()[15:17]
found = {
    "limit": call("prlimit64", boss, 7, ctypes.addressof(limit), 0), "kcmp": call("kcmp", boss, os.getpid(), 0, 0, 0),
    "io": call("ioprio_set", 1, boss, 3 << 13), "filter": call("seccomp", 1, 8, 0),
    "old filter": call("prctl", 22, 2, 0),
}
print(json.dumps(found))
"""


def test_it_cannot_be_steered(bench: Supervision) -> None:
    """Its limits and priorities are its own, and no filter of the handler's comes between it and the kernel."""
    found = json.loads(attempts(bench, bench.bundle(), STEERS).stdout)
    assert set(found.values()) == {errno.EPERM}


def test_who_spins_and_floods_is_still_answered(bench: Supervision) -> None:
    """A handler that spins with sixteen threads at the best priority that it gets is refused as promptly as before."""
    code = (
        "import _thread, time\n"
        "stop = []\n"
        "def spin():\n"
        "    while not stop: call('kill', boss, 0)\n"
        "try: os.nice(-20)\n"
        "except OSError: pass\n"
        "for _ in range(16): _thread.start_new_thread(spin, ())\n"
        "slowest = 0\n"
        "for _ in range(30):\n"
        "    before = time.monotonic(); assert call('kill', boss, 9) == 1\n"
        "    slowest = max(slowest, time.monotonic() - before)\n"
        "stop.append(1); time.sleep(0.2)\n"
        "print(json.dumps(slowest))\n"
    )
    done = attempts(bench, bench.bundle("clone thread", "setpriority"), code)
    assert json.loads(done.stdout) < 5.0
    lines, totals = done.counted("kill SIGKILL to others: denied")
    assert (lines, totals) == (30, 30)


@pytest.mark.parametrize("on", [False, True], ids=["ends", "goes on"])
def test_its_death_opens_nothing(bench: Supervision, on: bool) -> None:
    """With what was started killed, the function ends; with the supervisor killed, it may go on undecided."""
    code = (
        "import _socket, sys\nprint('ready', flush=True); sys.stdin.readline()\n"
        "print(*[_socket.socket(2, 1).connect_ex(('127.0.0.1', port)) for port in (1, 2)], flush=True)\n"
    )
    bundle = bench.bundle(*SOCKETS, network=("tcp://127.0.0.1:1",))
    more = {"SANDBOX_ON_DECIDER": "continue"} if on else {}
    goes_on = on and not bench.native
    process, _ = bench.start(bundle, *PYTHON, code, stdin=subprocess.PIPE, more=more)
    tree: list[int] = []
    try:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        tree = list(descendants(process.pid))
        if goes_on:
            os.kill(tree[0], signal.SIGKILL)
            assert all_end(tree[:1])
        else:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 5
        while not goes_on and any(os.path.exists(f"/proc/{pid}/exe") for pid in tree):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert process.stdout.readline().split() == ([str(errno.ENOSYS)] * 2 if goes_on else [])
    finally:
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()


CHAIN = """
import os, sys, time
limit = time.time() + 20
for _ in range(10):
    if not os.fork():
        os.setsid()
        while time.time() < limit:
            if os.fork(): os._exit(0)
        os._exit(0)
time.sleep(0.1)
if sys.argv[1] == "terminated": os.setpriority(0, 0, 0)
os._exit(9)
"""


@pytest.mark.parametrize(("how", "status"), [("ends", 9), ("terminated", 77)])
def test_no_chain_of_forks_outlives_its_function(bench: Supervision, how: str, status: int) -> None:
    """Processes that fork and end at once, in sessions of their own, are ended when the function is or ends."""
    bundle = bench.bundle("clone process", "setsid", "clock_nanosleep", responses={"setpriority": "terminate"})
    start = time.monotonic()
    process, _ = bench.start(bundle, *PYTHON, CHAIN, how, stdout=subprocess.DEVNULL)
    _, told = process.communicate(timeout=30)  # standard error ends with the last of them
    assert process.returncode == status, told
    assert time.monotonic() - start < 10
