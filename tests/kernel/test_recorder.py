"""The observer on real programs through `SANDBOX_MODE=learn ./bootstrap`, one test for each observable."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from users import TARGETS, USERS, as_user, home_for, identity, imports, place

from sandbox.learn import observations
from sandbox.learn.observations import Environment, Item
from sandbox.runtime_api import Environment as Served
from sandbox.runtime_api import Function, Invocation, Outcome

PYTHON = os.path.realpath(sys.executable)
LIMIT = 30.0
LIBC = "import ctypes, os, socket\nLIBC = ctypes.CDLL(None, use_errno=True)\n"


@dataclass(frozen=True)
class Seen:
    """What a run left: its observations as data and as lines, its exit status, its output and the answers."""

    environment: Environment
    lines: list[dict[str, Any]]
    status: int | None
    output: str = ""
    outcomes: tuple[Outcome, ...] = ()

    def items(self, phase: str = "run") -> set[str]:
        """`syscall class` of a phase."""
        return {f"{syscall} {name}".strip() for found, syscall, name in self.environment.items if found == phase}

    def count(self, item: Item) -> int:
        """How often an item was counted in all samples."""
        return sum(sample.items.get(item, 0) for sample in self.environment.samples)

    @property
    def network(self) -> set[str]:
        """Destinations but for the Runtime API."""
        return set(self.environment.network) - {"runtime-api"}


class Bench:
    """A user with a folder, and ways to observe programs as this user."""

    def __init__(self, uid: int | None, home: Path, folder: Path) -> None:
        self.uid, self.home, self.folder = uid, home, folder
        self._runs = 0

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """The command that starts the bootstrap."""
        return (sys.executable, "-I", "-S", str(self.home / "bootstrap"))

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for the bootstrap; observations go to a new file."""
        self._runs += 1
        file = self.folder / f"observations-{self._runs}.jsonl"
        return {"PATH": os.defpath, "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(file), **more}

    def start(self, *command: str, **more: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a command under observation."""
        environment = self.environment(**more)
        process = subprocess.Popen(
            [*self.bootstrap, *command], cwd=self.folder, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **identity(self.uid),
        )  # fmt: skip
        return process, Path(environment["SANDBOX_OBSERVATIONS"])

    def run(self, *command: str, **more: str) -> Seen:
        """Observe a command to its end."""
        process, file = self.start(*command, **more)
        output, log = process.communicate(timeout=LIMIT)
        assert file.exists(), log
        return seen(file, process.returncode, output=output)

    def python(self, code: str, *arguments: str, **more: str) -> Seen:
        """Observe a piece of Python that must end well."""
        found = self.run(PYTHON, "-I", "-S", "-c", LIBC + textwrap.dedent(code), *arguments, **more)
        assert found.status == 0, found
        return found

    def serve(self, handler: str, *events: Mapping[str, Any], **more: str) -> Seen:
        """Observe a handler of tests/targets under awslambdaric and the Runtime API."""
        variables = self.environment(SANDBOX_PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1", **more)
        command = as_user(self.uid, self.bootstrap)
        function = Function(
            command, str(self.home / "tests/targets"), variables, handler=handler, timeout=LIMIT, init_timeout=LIMIT
        )
        log = self.folder / "log"
        with log.open("w") as out, Served(function, stdout=out, stderr=out) as served:
            outcomes = tuple(served.invoke(Invocation(json.dumps(event).encode())) for event in events)
            status = served.stop()
        return seen(Path(variables["SANDBOX_OBSERVATIONS"]), status, outcomes=outcomes)


def seen(file: Path, status: int | None, output: str = "", outcomes: Sequence[Outcome] = ()) -> Seen:
    """Read what was observed."""
    (environment,) = observations.read([str(file)])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return Seen(environment, lines, status, output, tuple(outcomes))


def result(outcome: Outcome) -> dict[str, Any]:
    """What a handler answered."""
    assert outcome.status == "ok", outcome
    found: dict[str, Any] = json.loads(outcome.payload)
    return found


@pytest.fixture(scope="module", params=USERS, ids=lambda uid: "self" if uid is None else f"uid {uid}")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each user with a folder of its own."""
    with home_for(request.param) as home, place(request.param) as folder:
        if problem := imports(request.param, home):
            pytest.skip(f"uid {request.param} cannot use this interpreter: {problem}")
        yield Bench(request.param, home, folder)


class Listener:
    """A TCP server on loopback that answers each line with `pong`, and a UDP socket that takes what comes."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.settimeout(5)
        self.port: int = self.tcp.getsockname()[1]
        self.udp_port: int = self.udp.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self.tcp.accept()
            except OSError:
                return
            with line:
                if line.recv(64):
                    line.sendall(b"pong\n")

    def close(self) -> None:
        """End the server."""
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        self._thread.join()
        self.udp.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Somebody on loopback to talk to."""
    found = Listener()
    yield found
    found.close()


def test_threads_are_no_processes(bench: Bench) -> None:
    """clone3's flags are read from memory: a thread is told from a process, and its calls count."""
    found = bench.serve("threads.handler", {"threads": 3}, {"threads": 2})
    assert [result(outcome)["threads"] for outcome in found.outcomes] == [3, 2]
    started = {item for item in found.items("invoke") if item.startswith("clone")}
    assert started
    assert started <= {"clone thread", "clone3 thread"}
    number = sum(found.count(("invoke", name, "thread")) for name in ("clone", "clone3"))
    assert number >= 5
    assert not found.environment.processes


def test_a_child_process_and_the_program_that_it_becomes(bench: Bench) -> None:
    """A process is told from a thread, and the path of its exec is known."""
    found = bench.serve("subprocess_one.handler", {}, {"stdin": "text"})
    assert [result(outcome)["status"] for outcome in found.outcomes] == [0, 0]
    assert found.environment.processes == {"/bin/true", "/usr/bin/gzip"}
    assert "execve" in found.items("invoke")
    assert {"vfork process", "clone process", "clone3 process", "fork process"} & found.items("invoke")


@pytest.mark.parametrize(("how", "item"), [
    ("os.posix_spawn('/bin/true', ['true'], {})", "clone3 process"), ("os.fork() or os._exit(0)", "clone process"),
])  # fmt: skip
def test_each_way_to_make_a_process_has_its_class(bench: Bench, how: str, item: str) -> None:
    """posix_spawn goes through clone3, whose flags lie in memory, fork through clone."""
    found = bench.python(f"{how}\nos.wait()")
    assert item in found.items()
    assert not {"clone3 thread", "clone thread"} & found.items()


def test_grandchildren_are_observed(bench: Bench) -> None:
    """What a child's child opens and execs belongs to the function."""
    (bench.folder / "deep.txt").write_text("deep")
    found = bench.run("/bin/sh", "-c", "/bin/sh -c '/bin/cat deep.txt; :'; :")
    assert found.output == "deep"
    assert found.environment.processes >= {"/bin/sh", "/bin/cat"}
    assert str(bench.folder / "deep.txt") in found.environment.reads


def test_programs_that_a_search_only_tried_are_not_told(bench: Bench) -> None:
    """execvp tries each folder of PATH; only what exists is a program that was started."""
    found = bench.python("os.environ['PATH'] = '/nowhere:/usr/bin:/bin'\nos.execvp('true', ['true'])")
    assert found.environment.processes == {"/usr/bin/true"}


def test_files_by_class_and_path(bench: Bench) -> None:
    """Reading, writing and creating are told apart; relative paths and directory descriptors become absolute ones."""
    work = bench.folder / "files"
    found = bench.python(
        """
        import sys
        work = sys.argv[1]
        os.mkdir(work)
        os.chdir(work)
        os.close(os.open("made", os.O_WRONLY | os.O_CREAT, 0o600))
        os.close(os.open("made", os.O_RDONLY))
        os.mkdir("inner")
        folder = os.open("inner", os.O_RDONLY | os.O_DIRECTORY)
        os.close(os.open("far", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=folder))
        os.close(os.open("../made", os.O_WRONLY, dir_fd=folder))
        os.chdir(folder)
        try:
            os.open("missing", os.O_RDONLY)
        except FileNotFoundError:
            pass
        os.close(os.open("../inner/./far", os.O_RDONLY))
        """,
        str(work),
    )
    assert {"openat read", "openat write", "openat create"} <= found.items()
    ours = {path for path in found.environment.writes if path.startswith(str(work))}
    assert ours == {f"{work}/made", f"{work}/inner/far"}
    read = {path for path in found.environment.reads if path.startswith(str(work))}
    assert read == {f"{work}/made", f"{work}/inner", f"{work}/inner/far"}
    assert found.count(("run", "openat", "create")) == 2
    assert found.count(("run", "openat", "write")) == 1


def test_tcp_destinations(bench: Bench, listener: Listener) -> None:
    """Address and port of a TCP connection, beside the Runtime API, which has a name of its own."""
    found = bench.serve("tcp_client.handler", {"host": "127.0.0.1", "port": listener.port})
    assert result(found.outcomes[0]) == {"reply": "pong\n"}
    assert found.environment.network == {"runtime-api", f"tcp://127.0.0.1:{listener.port}"}
    assert "socket AF_INET SOCK_STREAM" in found.items("invoke")


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "::1"])
def test_ipv6_destinations(bench: Bench, listener: Listener, host: str) -> None:
    """IPv4-mapped IPv6 is the IPv4 address that it reaches; a refused connection is a destination all the same."""
    code = f"""
        with socket.socket(socket.AF_INET6) as line:
            line.connect_ex(({host!r}, {listener.port}))
        """
    expected = f"tcp://127.0.0.1:{listener.port}" if "." in host else f"tcp://[::1]:{listener.port}"
    found = bench.python(code)
    assert found.network == {expected}
    assert "socket AF_INET6 SOCK_STREAM" in found.items()


@pytest.mark.parametrize("connect", [False, True])
def test_udp_destinations(bench: Bench, listener: Listener, connect: bool) -> None:
    """sendto by its address, send by the address that the socket was connected to."""
    event = {"host": "127.0.0.1", "port": listener.udp_port, "connect": connect}
    found = bench.serve("udp_client.handler", event)
    assert result(found.outcomes[0]) == {"sent": 4}
    assert listener.udp.recv(64) == b"ping"
    assert found.network == {f"udp://127.0.0.1:{listener.udp_port}"}
    assert ("sendto connected" if connect else "sendto addressed") in found.items("invoke")


def test_a_connected_udp_socket_is_no_destination_until_something_is_sent(bench: Bench, listener: Listener) -> None:
    """Neither the connection alone, nor a later use of its descriptor for something else."""
    found = bench.python(
        f"""
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect(("127.0.0.1", {listener.udp_port}))
        number = line.fileno()
        line.close()
        other = socket.create_connection(("127.0.0.1", {listener.port}))
        assert other.fileno() == number
        other.send(b"ping")
        other.recv(64)
        other.close()
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect(("127.0.0.1", {listener.udp_port}))
        line.close()
        file = os.open("reused", os.O_WRONLY | os.O_CREAT, 0o600)
        assert file == number
        os.write(file, b"text")
        """
    )
    assert found.network == {f"tcp://127.0.0.1:{listener.port}"}


@pytest.mark.parametrize("how", ["line.send(b'x')", "os.write(line.fileno(), b'x')", "os.writev(line.fileno(), [b'x'])",
                                 "line.sendmsg([b'x'])"])  # fmt: skip
def test_every_way_to_send_on_a_connected_udp_socket(bench: Bench, listener: Listener, how: str) -> None:
    """send, write, writev and sendmsg make a connected UDP socket a destination."""
    found = bench.python(
        f"""
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect(("127.0.0.1", {listener.udp_port}))
        {how}
        """
    )
    assert listener.udp.recv(64) == b"x"
    assert found.network == {f"udp://127.0.0.1:{listener.udp_port}"}


def test_every_message_of_sendmmsg_has_its_destination(bench: Bench, listener: Listener) -> None:
    """Not only the first of them."""
    found = bench.python(
        f"""
        import struct
        line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        line.bind(("127.0.0.1", 0))
        ports = ({listener.udp_port}, line.getsockname()[1])
        text = ctypes.create_string_buffer(b"ping")
        keep = []
        def pointer(data):
            keep.append(ctypes.create_string_buffer(data, len(data)))
            return ctypes.addressof(keep[-1])
        vector = pointer(struct.pack("QQ", ctypes.addressof(text), 4))
        messages = b""
        for port in ports:
            name = pointer(struct.pack("=H", 2) + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8))
            messages += struct.pack("QIxxxxQQQQixxxxIxxxx", name, 16, vector, 1, 0, 0, 0, 0)
        assert LIBC.sendmmsg(line.fileno(), ctypes.c_void_p(pointer(messages)), 2, 0) == 2
        print(ports[1])
        """
    )
    assert listener.udp.recv(64) == b"ping"
    assert found.network == {f"udp://127.0.0.1:{port}" for port in (listener.udp_port, int(found.output))}


def test_getaddrinfo_connects_to_nobody(bench: Bench) -> None:
    """Libc connects UDP sockets only to sort the addresses; the runtime client then reuses their descriptors."""
    found = bench.serve("getaddrinfo_local.handler", {}, {}, {})
    assert result(found.outcomes[0])["loopback"]
    assert {"socket AF_INET SOCK_DGRAM", "socket AF_INET6 SOCK_DGRAM"} & found.items("invoke")
    assert not {place for place in found.network if not place.startswith("unix:")}


def test_unix_destinations(bench: Bench) -> None:
    """A path as it was written, an abstract name with @, and a socketpair none."""
    found = bench.python(
        """
        for address in ("sock", b"\\0hidden"):
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as line:
                server.bind(address)
                server.listen()
                line.connect(address)
        datagrams = (socket.AF_UNIX, socket.SOCK_DGRAM)
        with socket.socket(*datagrams) as server, socket.socket(*datagrams) as line:
            server.bind("datagrams")
            line.sendto(b"x", "datagrams")
        one, other = socket.socketpair()
        one.send(b"x")
        for name in ("sock", "datagrams"):
            os.unlink(name)
        """
    )
    assert found.network == {"unix:sock", "unix:@hidden", "unix:datagrams"}


@pytest.mark.parametrize("call", ["ptrace", "unshare", "process_vm_readv"])
def test_hard_denied_calls_are_refused_reported_and_not_learned(bench: Bench, call: str) -> None:
    """The function gets EPERM and goes on; the observation says which call it was."""
    found = bench.serve("hard_denied.handler", {"call": call})
    assert result(found.outcomes[0]) == {"call": call, "result": -1, "errno": errno.EPERM}
    assert found.environment.denied == {call}
    assert call not in found.items("init") | found.items("invoke")


def test_a_granted_call_is_let_through(bench: Bench) -> None:
    """What a person granted goes to the kernel, and is neither learned nor reported."""
    found = bench.serve("hard_denied.handler", {"call": "ptrace"}, {"call": "unshare"}, SANDBOX_GRANTS="ptrace")
    assert [result(outcome)["errno"] for outcome in found.outcomes] == [errno.ESRCH, errno.EPERM]
    assert found.environment.denied == {"unshare"}
    assert not {"ptrace", "unshare"} & found.items("invoke")


def test_a_grant_of_one_class_lifts_no_other(bench: Bench) -> None:
    """prctl(PR_SET_PTRACER) granted leaves prctl(PR_SET_SECCOMP) refused."""
    found = bench.python(
        """
        def prctl(option, value):
            ctypes.set_errno(0)
            return LIBC.prctl(option, value, 0, 0, 0) and ctypes.get_errno()
        print(prctl(0x59616D61, -1), prctl(22, 2))
        """,
        SANDBOX_GRANTS="prctl PR_SET_PTRACER",
    )
    first, second = map(int, found.output.split())
    assert first in (0, errno.EINVAL)  # EINVAL: a kernel without Yama
    assert second == errno.EPERM
    assert found.environment.denied == {"prctl PR_SET_SECCOMP"}


def test_io_uring_is_not_there(bench: Bench) -> None:
    """io_uring_setup and numbers that no kernel has answer ENOSYS, so that libraries fall back."""
    number = {"x86_64": 425, "aarch64": 425}[platform.machine()]
    found = bench.python(
        f"""
        for number in ({number}, 999):
            LIBC.syscall(number, 1, 0)
            print(ctypes.get_errno())
        """
    )
    assert found.output.split() == [str(errno.ENOSYS)] * 2
    assert not {item for item in found.items() if "io_uring" in item}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is x86")
def test_a_foreign_architecture_is_killed(bench: Bench) -> None:
    """i386's getpid by int 0x80 would be another call by its number: the process dies of SIGSYS."""
    found = bench.run(
        PYTHON, "-I", "-S", "-c",
        "import ctypes, mmap; page = mmap.mmap(-1, 4096, prot=7); page.write(bytes.fromhex('b814000000cd80c3'));"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))(); print('lives')",
    )  # fmt: skip
    assert found.status == -signal.SIGSYS
    assert found.output == ""
    assert found.environment.status == -signal.SIGSYS


@pytest.mark.parametrize("restart", [True, False])
def test_signals_do_not_count_a_call_twice(bench: Bench, restart: bool) -> None:
    """A timer cuts into 400 mkdir calls: each is made once, and counted once.

    A signal before the observer has taken the call cancels it (kernel/seccomp.c): with SA_RESTART the kernel makes
    it again, without it the program sees EINTR.
    """
    found = bench.python(
        f"""
        import signal
        alarms = 0
        def count(number, frame):
            global alarms
            alarms += 1
        signal.signal(signal.SIGALRM, count)
        signal.siginterrupt(signal.SIGALRM, {not restart})
        os.mkdir("made")
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for n in range(400):
            while True:
                try:
                    os.mkdir(f"made/{{n}}")
                    break
                except InterruptedError:
                    assert {not restart}
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(alarms, len(os.listdir("made")))
        """
    )
    alarms, made = map(int, found.output.split())
    shutil.rmtree(bench.folder / "made")
    assert alarms > 0
    assert made == 400
    assert found.count(("run", "mkdir", "")) + found.count(("run", "mkdirat", "")) == 401


def test_interrupted_waits_go_on(bench: Bench) -> None:
    """A handler whose sleep, select and read are cut into by a timer gets its answer."""
    found = bench.serve("signals.handler", {"seconds": 0.05})
    answer = result(found.outcomes[0])
    assert answer["read"] == "x"
    assert answer["alarms"] > 0


@pytest.fixture(scope="module")
def plain_c(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plain C program, where every user can execute it."""
    with place(None) as folder:
        folder.chmod(0o755)
        program = folder / "plain_c"
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(program), str(TARGETS / "plain_c.c")], check=True)
        yield program


def test_the_launchers_own_calls_are_not_learned(bench: Bench, plain_c: Path) -> None:
    """A small C program's observation holds what it does and nothing of the Python that started it."""
    file = bench.folder / "written"
    found = bench.run(str(plain_c), str(file))
    assert found.status == 0
    assert not {path for path in found.environment.reads if "python" in path or "sandbox/" in path}
    assert found.environment.writes == {str(file)}
    assert "openat create" in found.items()
    assert "mmap exec-file" in found.items()
    strange = {"execve", "seccomp", "getcwd", "clone process", "clone3 process", "vfork process", "getdents64"}
    assert not strange & found.items()
    assert not {item for item in found.items() if item.startswith(("prctl", "clone", "socket", "connect"))}
    assert found.count(("run", "openat", "create")) == 1
    assert not found.environment.processes
    assert not found.environment.network


def test_a_thread_of_a_c_program(bench: Bench, plain_c: Path) -> None:
    """pthread_create is a thread, and what the thread opens is seen."""
    file = bench.folder / "written-by-thread"
    found = bench.run(str(plain_c), str(file), "thread")
    assert found.status == 0
    assert {"clone3 thread", "clone thread"} & found.items()
    assert str(file) in found.environment.writes


def test_phases_split_at_the_first_connection_to_the_runtime_api(bench: Bench) -> None:
    """Imports are init; the connection and what comes after it are invoke; each invocation is a sample."""
    found = bench.serve("hello.handler", {"n": 1}, {"n": 2}, {"n": 3})
    assert "connect" not in found.items("init")
    assert "sendto connected" not in found.items("init")
    assert "connect" in found.items("invoke")
    assert "sendto connected" in found.items("invoke")
    assert "mmap exec-file" in found.items("init")
    assert not found.items("run")
    kinds = [sample.kind for sample in found.environment.samples]
    assert kinds[:1] == ["init"]
    assert kinds.count("invocation") == 3
    requests = [line["request"] for line in found.lines if line["event"] == "invocation"]
    assert requests == [outcome.request_id for outcome in found.outcomes]
    assert all(sample.outcome == "ok" for sample in found.environment.samples)


def test_something_that_only_the_second_event_needs(bench: Bench) -> None:
    """The sample of the second invocation holds the thread, those of the others do not."""
    found = bench.serve("late_thread.handler", {}, {}, {})
    threads = [
        any(syscall in ("clone", "clone3") for _, syscall, _ in sample.items)
        for sample in found.environment.samples
        if sample.kind == "invocation"
    ]
    assert threads == [False, True, False]


def test_a_failed_invocation_is_told_with_the_last_calls(bench: Bench) -> None:
    """The request id, and what the function did just before."""
    found = bench.serve("fails.handler", {}, {"fail": True})
    (failure,) = found.environment.failures
    assert failure.label == found.outcomes[1].request_id
    assert len(failure.last) > 3
    outcomes = [sample.outcome for sample in found.environment.samples if sample.kind == "invocation"]
    assert outcomes == ["ok", "error"]


def test_observations_go_to_standard_error_by_default(bench: Bench) -> None:
    """Between the function's own lines, each of ours whole on a line of its own; a file keeps standard error clean."""
    process, file = bench.start("/bin/sh", "-c", "echo own >&2; exec 2>&-; cat /dev/null", SANDBOX_OBSERVATIONS="")
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    lines = log.splitlines()
    assert "own" in lines
    events = [json.loads(line)["event"] for line in lines if line != "own"]
    assert events[0] == "start"
    assert events[-1] == "end"
    assert "item" in events
    process, file = bench.start("/bin/sh", "-c", "echo own >&2")
    _, log = process.communicate(timeout=LIMIT)
    assert log == "own\n"
    assert '"event": "end"' in file.read_text()


def test_the_variables_of_the_sandbox_do_not_reach_the_program(bench: Bench) -> None:
    """A function cannot see how it is observed."""
    found = bench.run("/usr/bin/env", SANDBOX_GRANTS="ptrace", OTHER="kept")
    assert "SANDBOX" not in found.output
    assert "OTHER=kept" in found.output


def test_a_file_that_cannot_be_written_is_an_error_before_the_start(bench: Bench) -> None:
    """Exit status 64 with the path, and the program does not run."""
    process, _ = bench.start("/bin/echo", "ran", SANDBOX_OBSERVATIONS="/nowhere/observations")
    output, log = process.communicate(timeout=LIMIT)
    assert (process.returncode, output) == (64, "")
    assert "/nowhere/observations" in log


@pytest.mark.parametrize(("script", "status"), [
    ("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -signal.SIGKILL), ("kill -TERM $$", -signal.SIGTERM),
    ("kill -SEGV $$", -signal.SIGSEGV),
])  # fmt: skip
def test_the_observer_ends_as_the_program_ended(bench: Bench, script: str, status: int) -> None:
    """Exit status and death by signal are passed on and written down."""
    found = bench.run("/bin/sh", "-c", script)
    assert found.status == status
    assert found.environment.status == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_forwarded(bench: Bench, number: signal.Signals) -> None:
    """The platform signals the observer; the program decides what becomes of it."""
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo caught; exit 43' {name}; echo ready; while :; do sleep 0.02; done"
    process, file = bench.start("/bin/sh", "-c", script)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert (output, process.returncode) == ("caught\n", 43)
    assert seen(file, 43).environment.status == 43


def test_an_orphan_does_not_hold_the_observer(bench: Bench) -> None:
    """The observer ends with the program, although something that it started lives on."""
    script = "sleep 600 >/dev/null 2>&1 & echo $!; exit 5"
    found = bench.run("/bin/sh", "-c", script)
    orphan = int(found.output)
    try:
        assert found.status == 5
        assert found.environment.status == 5
        assert Path(f"/proc/{orphan}/comm").read_text() == "sleep\n"
    finally:
        os.kill(orphan, signal.SIGKILL)
