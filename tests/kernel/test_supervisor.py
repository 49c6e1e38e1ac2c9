"""The supervisor as the handler's init, as the one who answers, and as the one who counts: on the real kernel."""

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

import pytest
from process_table import all_end, descendants, marked, memory_of, runs, until
from supervised_programs import PLAIN_HOSTS, PYTHON, SOCKETS, Supervision, bench_for, read_events

from sandbox.confine.install import LANDLOCK_SCOPES
from sandbox.errors import DeciderLost
from sandbox.kernel import abi, landlock, tables
from sandbox.profile.model import Aim, Tolerated

C_ITEMS = ("clone thread", "setitimer")
SPIN = "umask: denied"
SIGNALLED = ("pause", "rt_sigtimedwait", "kill SIGTERM", "kill SIGKILL", "kill SIGSEGV", "kill SIGUSR1")
PROCESSES = ("clone process", "wait4", "waitid", "setsid", "execve", "execveat", "pipe2", "dup2", "setpgid", "getpgrp")
BIG = 16 << 10
"""Kilobytes of memory that a supervisor may hold."""

bench = bench_for(PLAIN_HOSTS)


@contextlib.contextmanager
def running(
    bench: Supervision, bundle: Path, *command: str, **options: object
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run that is ended with all below it, whatever the test finds."""
    process, events = bench.start(bundle, *command, **options)  # type: ignore[arg-type]
    tree: list[int] = []
    try:
        yield process, events
        tree = descendants(process.pid)
    finally:
        tree = tree or descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def supervisor_of(process: subprocess.Popen[str]) -> int:
    """The supervisor, below the guardian that was started."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def first_line(process: subprocess.Popen[str]) -> str:
    """What the handler says first: it runs by then."""
    assert process.stdout
    return process.stdout.readline().strip()


# An init for the handler.


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_the_exit_code_is_the_handlers(bench: Supervision, code: int) -> None:
    """A handler that ends before its supervisor has even loaded, and one that ends later, end with their own code."""
    bundle = bench.bundle()
    for before in ("", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; "):
        assert bench.run(bundle, "/bin/sh", "-c", f"{before}exit {code}").code == code


def test_the_shortest_program_ends(bench: Supervision) -> None:
    """/bin/true, ten times: its end is not missed, however early it comes."""
    bundle = bench.bundle()
    assert [bench.run(bundle, "/bin/true", limit=10).code for _ in range(10)] == [0] * 10


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_the_signal_is_the_handlers(bench: Supervision, number: int) -> None:
    """A handler that a signal ends is a bootstrap that the same signal ends; to raise it needs no training."""
    tkill = tables.numbers(abi.MACHINE)["tkill"]
    for code in (
        f"import os; os.kill(os.getpid(), {int(number)})",
        f"import ctypes, threading; ctypes.CDLL(None).syscall({tkill}, threading.get_native_id(), {int(number)})",
    ):
        done = bench.run(bench.bundle(), *PYTHON, code)
        assert (done.code, done.violations) == (-number, [])


def test_bytecode_that_is_not_written_is_no_alarm(bench: Supervision) -> None:
    """Python's own attempt to make its bytecode folder is refused in silence, any other folder with a line."""
    folder = bench.new("")
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    (folder / "fresh.py").write_text("print('imported')\n")
    code = (
        "import os, sys\n"
        f"sys.dont_write_bytecode = False; sys.path.insert(0, {str(folder)!r})\n"
        "import fresh\n"
        f"try: os.mkdir({str(folder)!r} + '/__pycache__x')\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = bench.run(bench.bundle(), *PYTHON, code)
    assert done.stdout == "imported\n1\n", done.stderr
    assert [event["target"] for event in done.violations] == [f"{folder}/__pycache__x"]
    assert list(folder.iterdir()) == [folder / "fresh.py"]


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_an_owner_that_stays_is_no_alarm(bench: Supervision, mode: str) -> None:
    """What SQLite does for root alone is served where others trained; a change of the owner has a line."""
    path = bench.new("")
    code = (
        "import os\n"
        f"fd = os.open({str(path)!r}, os.O_RDWR | os.O_CREAT)\n"
        "os.fchown(fd, os.getuid(), os.getgid()); os.fchown(fd, -1, os.getgid())\n"
        "try: os.fchown(fd, os.getuid(), os.getgid() + 1)\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = bench.run(bench.bundle("openat create"), *PYTHON, code, more={"SANDBOX_MODE": mode})
    reached = mode == "audit" and bench.uid is None
    assert done.stdout == ("" if reached else "1\n"), done.stderr
    assert [event["syscall"] for event in done.violations] == ["fchown"]
    assert path.stat().st_gid == (os.getgid() if bench.uid is None else bench.uid) + reached


def test_signals_are_passed_on(bench: Supervision) -> None:
    """What is sent to the bootstrap arrives at the handler, which decides what to do with it."""
    numbers = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "TTIN", "TTOU")
    code = (
        "import _signal, os, time\n"
        f"for number in {[int(signal.Signals[f'SIG{name}']) for name in numbers]}:\n"
        "    _signal.signal(number, lambda n, f: os.write(1, b'%d\\n' % n))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    with running(bench, bench.bundle(), *PYTHON, code) as (process, _):
        assert first_line(process) == "ready"
        for name in numbers:
            process.send_signal(signal.Signals[f"SIG{name}"])
            assert first_line(process) == str(int(signal.Signals[f"SIG{name}"]))


def test_a_signal_in_the_first_moment(bench: Supervision) -> None:
    """SIGTERM at any moment of the start ends bootstrap and handler alike: nobody is left behind."""
    mark = f"mark-{os.getpid()}-{bench.uid}"
    for delay in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2):
        with running(bench, bench.bundle(), *PYTHON, "import time; time.sleep(60)", mark) as (process, _):
            time.sleep(delay)
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM
            until(lambda: not marked(mark), 5)


def test_same_process_group_and_session(bench: Supervision) -> None:
    """The handler is in its supervisor's process group: a platform that kills the group reaches both."""
    with running(bench, bench.bundle(), "/bin/sh", "-c", "echo ready; read x", stdin=subprocess.PIPE) as (process, _):
        assert first_line(process) == "ready"
        _, handler = descendants(process.pid)
        assert os.getpgid(handler) == os.getpgid(process.pid)
        assert os.getsid(handler) == os.getsid(process.pid)


def test_orphans_are_reaped_and_left_behind_ones_end(bench: Supervision) -> None:
    """Double-forked children are the supervisor's: reaped while the handler lives, killed when it has ended."""
    code = (
        "import os, sys, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        os._exit(0) if os.fork() else os._exit(0)\n"
        "    os.wait()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read(1)\n"
        "os._exit(9)\n"
    )
    mark = f"orphan-{os.getpid()}-{bench.uid}"
    bundle = bench.bundle(*PROCESSES)
    with running(bench, bundle, *PYTHON, code, mark, stdin=subprocess.PIPE) as (process, _):
        assert first_line(process) == "ready"
        until(lambda: len(descendants(process.pid)) == 3)
        assert len(marked(mark)) == 4
        assert process.stdin
        process.stdin.close()
        assert process.wait(20) == 9
        assert not marked(mark)


def test_a_pipe_ends_when_the_handler_ends_it(bench: Supervision) -> None:
    """Inherited descriptors are the handler's alone: a pipe ends as soon as the handler closes it."""
    ours, theirs = os.pipe()
    code = (
        f"import os, sys; os.write({theirs}, b'said'); os.close({theirs})\n"
        "print('closed', flush=True); sys.stdin.read(1)\n"
    )
    try:
        options = {"stdin": subprocess.PIPE, "pass_fds": (theirs,)}
        with running(bench, bench.bundle(), *PYTHON, code, **options) as (process, _):
            os.close(theirs)
            theirs = -1
            assert first_line(process) == "closed"
            with open(ours, "rb", closefd=False) as file:
                assert file.read() == b"said"
            assert process.poll() is None
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_it_sleeps_while_the_handler_serves(bench: Supervision) -> None:
    """Without a call that waits it is not woken, whatever the handler opened under the listener's number."""
    code = (
        "import os, sys\nfor _ in range(20): os.open('/dev/null', os.O_RDONLY)\n"
        "try: os.umask(0)\nexcept OSError: pass\nprint('open', flush=True); sys.stdin.read(1)\n"
    )
    with running(bench, bench.bundle(), *PYTHON, code, stdin=subprocess.PIPE) as (process, _):
        assert first_line(process) == "open"
        woken = []
        for _ in range(50):
            before = switches(supervisor_of(process))
            time.sleep(0.1)
            woken.append(switches(supervisor_of(process)) - before)
            if woken[-1] < 10:
                break
        assert woken[-1] < 10, woken


def switches(pid: int) -> int:
    """How often a process went to sleep."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_program_that_cannot_be_executed(bench: Supervision) -> None:
    """A handler without an interpreter is an error that says so, also where the Runtime API is told: never a wait."""
    script = bench.folder / "bad.sh"
    script.write_text("#!/nonexistent/x\n")
    script.chmod(0o755)
    api = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9"}
    for more in ({}, api):
        done = bench.run(bench.bundle(), str(script), more=more, limit=20)
        assert done.code not in (0, -signal.SIGKILL)
        assert "Runtime.SandboxHandlerNotFound" in done.stderr


def test_a_sink_that_cannot_be_opened_ends_the_handler(bench: Supervision) -> None:
    """Where the supervisor cannot start, nothing runs on without it."""
    mark = f"sink-{os.getpid()}-{bench.uid}"
    more = {"SANDBOX_EVENTS": "file:/nonexistent/folder/x"}
    done = bench.run(bench.bundle(), *PYTHON, "import time; time.sleep(60)", mark, more=more, limit=20)
    assert done.code != 0
    assert "SANDBOX_EVENTS" in done.stderr
    until(lambda: not marked(mark), 5)


# The one who answers.


def test_the_first_call_is_answered(bench: Supervision) -> None:
    """A C program whose first own call is refused gets its answer although its supervisor still loads."""
    done = bench.run(bench.bundle(*C_ITEMS), bench.hostile(), "flood", "1", "1")
    assert (done.code, done.stdout) == (0, "1\n")
    (line,) = done.of("umask")
    assert (line["verdict"], line["errno"], line["args"]) == ("denied", "EPERM", ["0o77"])


def test_the_handler_has_no_listener(bench: Supervision) -> None:
    """Neither the listener nor any other descriptor of the supervisor is among the handler's."""
    code = (
        "import os\nfor fd in map(int, os.listdir('/proc/self/fd')):\n"
        "    if os.path.exists(f'/proc/self/fd/{fd}'): print(os.readlink(f'/proc/self/fd/{fd}'))\n"
    )
    done = bench.run(bench.bundle(), *PYTHON, code)
    names = done.stdout.split()
    assert len(names) == 3, names
    assert not [name for name in names if "seccomp" in name]


def test_ten_thousand_calls_of_eight_threads(bench: Supervision) -> None:
    """Every one of them is refused and counted, once, in lines and summaries and in the totals."""
    done = bench.run(bench.bundle(*C_ITEMS), bench.hostile(), "flood", "8", "1250")
    assert done.stdout == "10000\n"
    assert done.counted(SPIN) == (10000, 10000)
    assert len(done.of("umask")) <= 20


@pytest.mark.parametrize("flags", [0x10000000, 0], ids=["SA_RESTART", "plain"])
def test_signals_hit_waiting_calls(bench: Supervision, flags: int) -> None:
    """Under a signal each 300 us every call is refused or, without SA_RESTART, interrupted as any call may be."""
    done = bench.run(bench.bundle(*C_ITEMS), bench.hostile(), "timer", "3000", str(flags))
    refused, interrupted, signals = map(int, done.stdout.split())
    assert refused + interrupted == 3000
    assert signals > 10
    if flags:
        assert interrupted == 0
    lines, totals = done.counted(SPIN)
    assert lines == totals
    assert refused <= totals <= 3000 + signals


def test_threads_that_are_in_a_call_at_the_end(bench: Supervision) -> None:
    """A process that exits while eight of its threads wait for answers ends with its code."""
    done = bench.run(bench.bundle(*C_ITEMS), bench.hostile(), "leave", limit=20)
    assert done.code == 7
    lines, totals = done.counted(SPIN)
    assert lines == totals > 0


def test_threads_that_are_in_a_call_at_an_exec(bench: Supervision) -> None:
    """The same where another thread execs: refused where exec is not granted."""
    done = bench.run(bench.bundle(*C_ITEMS), bench.hostile(), "exec", "/bin/true", limit=20)
    assert (done.code, done.stdout) == (0, f"{errno.EPERM}\n")
    (line,) = done.of("execve")
    assert line["target"] == "/bin/true"  # as it was asked for, and as training would learn it


def test_children_are_answered(bench: Supervision) -> None:
    """Forked children of a function that may have some are confined, answered and counted like their parent."""
    done = bench.run(bench.bundle(*C_ITEMS, *PROCESSES), bench.hostile(), "forks", "100")
    assert done.stdout == "100\n"
    assert done.counted(SPIN) == (100, 100)
    assert len({line["pid"] for line in done.of("umask")}) == len(done.of("umask"))


def test_memory(bench: Supervision) -> None:
    """After a thousand violations of many kinds the supervisor holds at most 16 MiB, and no more descriptors."""
    code = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None)\n"
        "for wave in range(2):\n"
        "    for i in range(500):\n"
        "        libc.ioctl(0, 0x5000 + i % 100, 0) if i % 2 else libc.umask(0o77)\n"
        "    print('done', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with running(bench, bench.bundle(), *PYTHON, code, stdin=subprocess.PIPE) as (process, _):
        assert first_line(process) == "done"
        supervisor = supervisor_of(process)
        before = descriptors(supervisor)
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        assert first_line(process) == "done"
        found = memory_of(supervisor)
        assert max(found["VmRSS"], found["VmHWM"]) <= BIG
        assert found["Threads"] == 1
        assert descriptors(supervisor) == before


def descriptors(pid: int) -> int:
    """How many a supervisor has open; 0 for who may not look."""
    return len(os.listdir(f"/proc/{pid}/fd")) if os.geteuid() == 0 else 0


def test_who_spins_does_not_starve_it(bench: Supervision) -> None:
    """Beside eight threads that only make refused calls another process's calls are answered in time."""
    bundle = bench.bundle(*C_ITEMS, *PROCESSES)
    code = f"import os; os.spawnv(os.P_NOWAIT, {bench.hostile()!r}, ['x', 'flood', '8', '20000'])" + (
        "\nimport time, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nslowest = 0\n"
        "for _ in range(50):\n"
        "    before = time.monotonic(); libc.umask(0o77); slowest = max(slowest, time.monotonic() - before)\n"
        "print(slowest)\n"
    )
    done = bench.run(bundle, *PYTHON, code)
    assert float(done.stdout.splitlines()[-1]) < 2.0


def test_unknown_calls_are_enosys(bench: Supervision) -> None:
    """A call newer than the tables says ENOSYS, so that libc falls back, and is no violation."""
    code = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); print(libc.syscall(1999), ctypes.get_errno())"
    done = bench.run(bench.bundle(), *PYTHON, code)
    assert done.stdout.split() == ["-1", str(errno.ENOSYS)]
    assert done.violations == []


# Phases and responses.


@pytest.fixture
def api() -> Iterator[tuple[socket.socket, str]]:
    """Somebody who accepts connections where the Runtime API should be."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found, f"127.0.0.1:{found.getsockname()[1]}"


def test_init_ends_with_the_first_connection(bench: Supervision, api: tuple[socket.socket, str]) -> None:
    """A C program may do what was learned for init until it connects to the Runtime API, and not after that."""
    bundle = bench.bundle(init=("umask",), network=("runtime-api",), runtime_api=True)
    more = {"AWS_LAMBDA_RUNTIME_API": api[1]}
    done = bench.run(bundle, bench.hostile(), "phases", api[1].rpartition(":")[2], more=more)
    assert done.stdout.split() == ["0", "0", str(errno.EPERM)]
    (line,) = done.of("umask")
    assert (line["phase"], line["reason"]) == ("invoke", "learned for the init phase only")


def test_another_connection_does_not_end_init(bench: Supervision, api: tuple[socket.socket, str]) -> None:
    """A connection to somebody else, allowed or not, leaves the phase as it is."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        network = ("runtime-api", f"tcp://127.0.0.1:{port}")
        bundle = bench.bundle(init=("umask",), network=network, runtime_api=True)
        more = {"AWS_LAMBDA_RUNTIME_API": api[1]}
        done = bench.run(bundle, bench.hostile(), "phases", str(port), more=more)
    assert done.stdout.split() == ["0", "0", "0"]


PTRACE = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); print(libc.ptrace(0, 0, 0, 0), flush=True)"
NUMBER = tables.numbers(abi.MACHINE)["umask"]  # the wrapper of libc knows no errors
LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
UMASK = f"{LIBC}print(libc.syscall({NUMBER}, 0o77), ctypes.get_errno())"


def test_messages_of_init_end_with_it(bench: Supervision) -> None:
    """Messages with an address that were learned for init only leave until it ends, and never after it."""
    with socket.create_server(("127.0.0.1", 0)) as api, socket.socket(type=socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        port = api.getsockname()[1]
        code = (
            "import _socket\n"
            "def send():\n"
            f"    try: return d.sendto(b'x', ('127.0.0.1', {sink.getsockname()[1]}))\n"
            "    except OSError as error: return -error.errno\n"
            "d = _socket.socket(2, 2); first = send()\n"
            f"_socket.socket(2, 1).connect(('127.0.0.1', {port})); print(first, send())\n"
        )
        places = ("runtime-api", f"udp://127.0.0.1:{sink.getsockname()[1]}")
        items = ("socket AF_INET SOCK_STREAM", "socket AF_INET SOCK_DGRAM", "connect")
        bundle = bench.bundle(*items, init=("sendto addressed",), runtime_api=True, network=places)
        done = bench.run(bundle, *PYTHON, code, more={"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"})
    assert done.stdout.split() == ["1", str(-errno.EPERM)]
    assert [line["reason"] for line in done.of("sendto")] == ["learned for the init phase only"]


def test_an_escape_primitive_ends_the_tree(bench: Supervision) -> None:
    """ptrace: one line, the whole tree is gone before the call returns, exit code 77."""
    mark = f"escape-{os.getpid()}-{bench.uid}"
    code = "import os, time\nif os.fork() == 0: time.sleep(60)\n" + PTRACE
    done = bench.run(bench.bundle(*PROCESSES), *PYTHON, code, mark, limit=20)
    assert (done.code, done.stdout) == (77, "")
    (line,) = done.of("ptrace")
    assert line["verdict"] == "terminated"
    assert "sandbox:" in done.stderr
    assert not marked(mark)


READING = """\
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def read(pid):
    return libc.process_vm_readv(pid, None, 0, None, 0, 0), ctypes.get_errno()
def forked(body):
    if os.fork() == 0:
        body()
        os._exit(0)
    os.wait()
first = os.getpid()
"""


def tolerated(at: Aim) -> Tolerated:
    """What training writes of process_vm_readv."""
    return Tolerated("run", "process_vm_readv", "", at, "EPERM", frozenset({"learned"}))


def test_a_tolerated_refusal_is_the_same_errno_again(bench: Supervision) -> None:
    """Own processes, as training saw it: EPERM each time, one line of low risk a process, the rest is counted.

    No detector suspects it: training survived it, whoever made it.
    """
    tries = """\
import pickle
class Tries:
    def __reduce__(self): return tries, ()
def tries():
    for _ in range(2): forked(lambda: print(*[read(first) for _ in range(30)], flush=True))
pickle.loads(pickle.dumps(Tries()))
"""
    code = READING + tries + "print('lives')"
    bundle = bench.bundle(*PROCESSES, tolerates=(tolerated("child"),), on_anomaly={"all": "terminate"})
    done = bench.run(bundle, *PYTHON, code)
    assert (done.code, done.stdout.splitlines()[-1]) == (0, "lives"), done.stderr
    assert done.stdout.count("(-1, 1)") == 60
    lines = done.of("process_vm_readv")
    assert [(line["verdict"], line["risk"], line["errno"]) for line in lines] == [("denied", "low", "EPERM")] * 2
    assert all(line["reason"].startswith("tolerated") for line in lines)
    assert len({line["pid"] for line in lines}) == 2
    assert not any("anomaly" in line for line in lines)
    assert done.counted("process_vm_readv: denied") == (60, 60)


@pytest.mark.parametrize("whom", ["1", "os.getppid()", "first", "0"])
def test_at_anything_else_it_ends_the_function(bench: Supervision, whom: str) -> None:
    """Learned at a child: at another process, the supervisor, itself or nobody the call is what it always was."""
    bundle = bench.bundle(*PROCESSES, tolerates=(tolerated("child"),))
    done = bench.run(bundle, *PYTHON, READING + f"read({whom}); print('lives')")
    assert (done.code, done.stdout) == (77, "")
    assert [line["verdict"] for line in done.of("process_vm_readv")] == ["terminated"]


def test_a_pidfd_says_whom_a_call_is_aimed_at(bench: Supervision) -> None:
    """pidfd_getfd at the first process of the function meets EPERM; at the supervisor it ends the function."""
    entry = Tolerated("run", "pidfd_getfd", "", "child", "EPERM", frozenset({"learned"}))
    bundle = bench.bundle(*PROCESSES, "pidfd_open", tolerates=(entry,))
    take = "lambda: print(libc.syscall(438, os.pidfd_open({}), 0, 0), ctypes.get_errno(), flush=True)"
    done = bench.run(bundle, *PYTHON, READING + f"forked({take.format('first')}); print('lives')")
    assert (done.code, done.stdout) == (0, "-1 1\nlives\n"), done.stderr
    done = bench.run(bundle, *PYTHON, READING + f"up = os.getppid()\nforked({take.format('up')}); print('lives')")
    assert (done.code, done.stdout) == (77, "")


def test_what_a_profile_answers_stands_before_what_is_tolerated(bench: Supervision) -> None:
    """`responses` are a person's; the other calls of the hard deny are as ever."""
    code = READING + "print(read(first), flush=True); "
    tolerates = (tolerated("self"),)
    assert bench.run(bench.bundle(tolerates=tolerates), *PYTHON, code).stdout == "(-1, 1)\n"
    ended = bench.run(bench.bundle(tolerates=tolerates, responses={"process_vm_readv": "terminate"}), *PYTHON, code)
    assert ended.code == 77
    assert bench.run(bench.bundle(tolerates=tolerates), *PYTHON, code + PTRACE).code == 77


def test_responses(bench: Supervision) -> None:
    """What the profile says of a call's answer holds: deny in place of the usual end, end or report for deny."""
    assert bench.run(bench.bundle(responses={"ptrace": "deny"}), *PYTHON, PTRACE).stdout == "-1\n"
    ended = bench.run(bench.bundle(responses={"umask": "terminate"}), *PYTHON, UMASK)
    assert (ended.code, ended.stdout) == (77, "")
    reported = bench.run(bench.bundle(responses={"umask": "report"}), *PYTHON, UMASK)
    assert (reported.code, reported.stdout.split()[0] != "-1") == (0, True)
    assert [line["verdict"] for line in reported.of("umask")] == ["reported"]


def test_audit_lets_through_and_says_what_it_would_refuse(bench: Supervision) -> None:
    """In audit mode, also until the profile's date: the call happens and is reported; a hard denial stays one."""
    code = UMASK + "; print(libc.unshare(0), ctypes.get_errno())"
    for bundle, more in ((bench.bundle(), {"SANDBOX_MODE": "audit"}), (bench.bundle(audit_until="2199-01-01"), {})):
        done = bench.run(bundle, *PYTHON, code, more=more)
        first, second = done.stdout.splitlines()
        assert first.split()[0] != "-1"
        assert second.split() == ["-1", str(errno.EPERM)]
        assert [line["verdict"] for line in done.of("umask")] == ["reported"]
        assert [line["verdict"] for line in done.of("unshare")] == ["denied"]
        status = json.loads(done.stderr.splitlines()[0])
        assert status["enforced"] == ["supervision", "syscalls: hard-denied ones"]
        assert status["reported"] == ["syscalls", "exec: single-use", "signals: self", "network: destinations"]
    past = bench.run(bench.bundle(audit_until="2001-01-01"), *PYTHON, UMASK)
    assert past.stdout.split() == ["-1", str(errno.EPERM)]
    assert "reported" not in json.loads(past.stderr.splitlines()[0])


def test_enforcement_and_audit_agree(bench: Supervision) -> None:
    """What audit reports is what enforcement denies, call for call."""
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "libc.kill(1, 0); libc.umask(0o22); libc.getpgid(0); libc.sysconf(84); libc.getpriority(0, 0)\n"
        "libc.socket(2, 1, 0); libc.socket(1, 2, 0); libc.alarm(0); libc.getsid(0)\n"
    )
    found = [
        {(line["syscall"], line["class"]) for line in bench.run(bundle, *PYTHON, code, more=more).violations}
        for bundle in [bench.bundle("kill 0")]
        for more in ({}, {"SANDBOX_MODE": "audit"})
    ]
    assert found[0] == found[1]
    assert ("umask", "") in found[0]


def test_lines_come_while_the_handler_runs(bench: Supervision) -> None:
    """A violation is in the log before the refused call has returned."""
    code = "import ctypes, sys; ctypes.CDLL(None).umask(0o77); print('refused', flush=True); sys.stdin.read(1)"
    with running(bench, bench.bundle(), *PYTHON, code, stdin=subprocess.PIPE) as (process, events):
        assert first_line(process) == "refused"
        assert [json.loads(line)["syscall"] for line in events.read_text().splitlines()] == ["umask"]
        assert runs(process.pid)


def test_without_a_supervisor_what_is_denied_stays_denied(bench: Supervision) -> None:
    """Where the function is to go on without a supervisor, its denied calls fail with ENOSYS, and others are made."""
    code = (
        "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"number = libc.syscall({NUMBER}, 0o77), ctypes.get_errno()\n"
        "print(*number, os.path.exists('/etc/passwd'), len(os.listdir('/')) > 0, flush=True)\n"
    )
    more = {"SANDBOX_ON_DECIDER": "continue"}
    with running(bench, bench.bundle(), *PYTHON, code, stdin=subprocess.PIPE, more=more) as (process, _):
        assert first_line(process) == "ready"
        supervisor = supervisor_of(process)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: not runs(supervisor))
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        assert first_line(process).split() == ["-1", str(errno.ENOSYS), "True", "True"]
        assert process.wait(20) == 0


@pytest.mark.parametrize("above", [False, True], ids=["supervisor", "guardian"])
def test_nothing_lives_on_without_a_supervisor(bench: Supervision, above: bool) -> None:
    """Whichever of the two is killed, the function ends and its orphans do; the guardian says what happened."""
    code = (
        "import os, signal\n"
        "if os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0:\n        print('ready', flush=True); signal.pause()\n    os._exit(0)\n"
        "os.wait(); signal.pause()\n"
    )
    with running(bench, bench.bundle(*PROCESSES, "pause"), *PYTHON, code) as (process, _):
        assert first_line(process) == "ready"
        until(lambda: len(descendants(process.pid)) == 3)
        tree = descendants(process.pid)
        os.kill(process.pid if above else supervisor_of(process), signal.SIGKILL)
        _, told = process.communicate(timeout=20)
        assert all_end(tree)
        assert process.returncode == (-signal.SIGKILL if above else DeciderLost.exit_code)
        assert told.count(DeciderLost.error_type) == (not above)


def test_a_long_run_grows_nothing(bench: Supervision) -> None:
    """Threads that come, are refused and go, and connections that are made: no descriptor, thread or zombie stays."""
    seconds, rounds = (600, 10**9) if os.environ.get("LONG_TESTS") == "1" else (2, 400)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        code = (
            "import _thread, ctypes, _socket, sys, time, os\nlibc = ctypes.CDLL(None)\n"
            f"place = ('127.0.0.1', {server.getsockname()[1]})\n"
            "def work(lock):\n"
            "    libc.umask(0o77)\n"
            "    s = _socket.socket(2, 1)\n"
            "    s.setsockopt(1, 13, b'\\1\\0\\0\\0\\0\\0\\0\\0')\n"
            "    s.connect(place); s.close(); lock.release()\n"
            "def some(until):\n"
            "    n = 0\n"
            f"    while time.monotonic() < until and n < {rounds} or n < 20:\n"
            "        n += 1\n"
            "        locks = [_thread.allocate_lock() for _ in range(4)]\n"
            "        for lock in locks:\n"
            "            lock.acquire(); _thread.start_new_thread(work, (lock,))\n"
            "        for lock in locks: lock.acquire()\n"
            "        if os.fork() == 0: libc.umask(0o77); os._exit(0)\n"
            "        os.wait()\n"
            "some(0); print('warm', flush=True); sys.stdin.readline()\n"
            f"some(time.monotonic() + {seconds}); print('done', flush=True); sys.stdin.readline()\n"
        )
        bundle = bench.bundle(
            "clone thread", *SOCKETS, *PROCESSES, network=(f"tcp://127.0.0.1:{server.getsockname()[1]}",)
        )
        server.setblocking(False)
        options = {"stdin": subprocess.PIPE}
        with running(bench, bundle, *PYTHON, code, **options) as (process, events), draining(server):
            assert first_line(process) == "warm"
            supervisor = supervisor_of(process)
            before = memory_of(supervisor), descriptors(supervisor)
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            assert first_line(process) == "done"
            after = memory_of(supervisor), descriptors(supervisor)
            print(f"before {before}, after {after}, zombies {zombies(supervisor)}")
            assert zombies(supervisor) == zombies(process.pid) == 0
            assert after[0]["VmRSS"] <= before[0]["VmRSS"] + 512
            assert after[0]["Threads"] == 1
            assert after[1] == before[1]
            until(lambda: len(descendants(process.pid)) == 2)
        assert {event["event"] for event in read_events(events)} <= {"violation", "violations"}


def zombies(pid: int) -> int:
    """How many children of a process have ended and were not reaped."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(not runs(int(child)) for child in children)


@contextlib.contextmanager
def draining(server: socket.socket) -> Iterator[None]:
    """Accept and close whatever comes."""
    import threading

    done = threading.Event()

    def drain() -> None:
        while not done.is_set():
            try:
                server.accept()[0].close()
            except BlockingIOError:
                done.wait(0.002)
            except OSError:
                continue

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


ENDING = """
import os, signal, sys, time
def tried(pid, number):
    try:
        os.kill(pid, number)
        return 0
    except OSError as error:
        return error.errno
def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid
def rest():
    while True:
        time.sleep(60)
found = []
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
    pid = child(rest)
    found.append(tried(pid, number))
    if found[-1] == 0:
        found.append(os.WTERMSIG(os.waitpid(pid, 0)[1]))
reading, writing = os.pipe()
sibling = child(rest)
me = os.getpid()
os.waitpid(child(lambda: os.write(writing, bytes([tried(sibling, 15), tried(me, 15), tried(int(sys.argv[1]), 15)]))), 0)
print(*found, *os.read(reading, 10))
"""


BY_PIDFD = """
import os, signal, sys
child = os.fork()
if child == 0:
    signal.pause()
for pid, numbers in ((child, (0, signal.SIGKILL)), (int(sys.argv[1]), (0, signal.SIGCONT))):
    for number in numbers:
        try:
            signal.pidfd_send_signal(os.pidfd_open(pid), number)
        except OSError:
            pass
os.waitpid(child, 0)
"""


def test_signals_by_pidfd(bench: Supervision) -> None:
    """Audit reports what the kernel would hold: no line for the own processes, nor for no signal at all."""
    if landlock.abi_version() < LANDLOCK_SCOPES or "landlock_create_ruleset" in bench.refused:
        pytest.skip("no Landlock that holds signals")
    bundle = bench.bundle(*PROCESSES, "pidfd_open", "pidfd_send_signal", "pause")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        enforced = bench.run(bundle, *PYTHON, BY_PIDFD, str(stranger.pid))
        audited = bench.run(bundle, *PYTHON, BY_PIDFD, str(stranger.pid), more={"SANDBOX_MODE": "audit"})
        stranger.kill()
    assert (enforced.code, enforced.violations) == (0, [])
    assert [line["args"][1] for line in audited.of("pidfd_send_signal")] == ["SIGCONT"]
    assert len(audited.violations) == 1


def test_a_process_may_end_its_own_children(bench: Supervision) -> None:
    """Where a function makes processes, SIGTERM and SIGKILL to a child need no training; all others are refused."""
    bundle = bench.bundle(*PROCESSES)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        done = bench.run(bundle, *PYTHON, ENDING, str(stranger.pid))
        assert stranger.poll() is None
        stranger.kill()
    assert done.stdout.split() == [str(number) for number in (errno.EPERM, 0, 15, 0, 9, *(errno.EPERM,) * 3)]
    lines = [(line["class"], line["verdict"]) for line in done.of("kill")]
    assert lines == [("SIGUSR1", "denied"), *[("SIGTERM", "denied")] * 3]
