"""Sinks on real files, pipes, terminals and sockets: one write a line, never a wait, and every loss told."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import sandbox.violations
from sandbox.errors import UsageError
from sandbox.violations import reader
from sandbox.violations.chain import Verifier
from sandbox.violations.record import LONGEST, Violation
from sandbox.violations.sink import Sink

SCHEMA = Path(str(sandbox.violations.__file__)).with_name("schema.json")
ROOT = Path(str(sandbox.violations.__file__)).parents[2]


def event(reason: str = "not in the profile") -> Violation:
    """A violation."""
    return Violation(
        function="thumbnail", phase="invoke", request=None, pid=1, tid=2, comm="python3", syscall="execve",
        arg_class="", args=['"/bin/sh"'], verdict="denied", errno="EPERM", reason=reason, allow="", target="/bin/sh",
    )  # fmt: skip


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def lines(data: bytes) -> list[dict[str, Any]]:
    """The events of some output, all of which must be whole lines; an empty one may stand before each."""
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines() if line]


def test_lines_of_a_file_fit_the_schema(tmp_path: Path) -> None:
    """What is written, with a key and without, is what schema.json describes; a file is continued and private."""
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    path = tmp_path / "events"
    for key in (None, b"secret"):
        sink = Sink(f"file:{path}", key)
        assert sink.write(event())
        assert sink.write(event("x" * 5000))
        sink.close()
        sink.close()
        assert not sink.write(event())
    found = lines(path.read_bytes())
    for line in found:
        validator.validate(line)
    assert [line["seq"] for line in found] == [1, 2, 1, 2]
    assert len({line["supervisor"] for line in found}) == 2
    assert max(len(line) + 1 for line in path.read_bytes().splitlines()) <= LONGEST
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "target",
    ["tcp:127.0.0.1:1", "file:", "unix:", "x", "unix:/" + "x" * 120, "file:/nowhere/x", "fd:2", "fd:x", "fd:987654"],
)
def test_targets_that_cannot_be_are_refused(target: str) -> None:
    """A wrong SANDBOX_EVENTS is told at the start, with its name."""
    with pytest.raises(UsageError, match="SANDBOX_EVENTS"):
        Sink(target)


def test_a_full_pipe_loses_lines_and_says_how_many(pipe: tuple[int, int]) -> None:
    """Nobody reads: writing returns at once, and the first line that gets through tells what was lost.

    The function's own descriptor stays as it was: blocking.
    """
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    sink = Sink(stderr=writing)
    written = sum(sink.write(event("x" * 1000)) for _ in range(50))
    assert 0 < written < 50
    assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK
    first = lines(os.read(reading, 1 << 16))
    assert sink.write(event())
    (last,) = lines(os.read(reading, 1 << 16))
    sink.close()
    assert len(first) == written
    assert last["lost"] == 50 - written
    assert last["seq"] == 51
    assert "lost" not in first[-1]


def test_a_pipe_of_another_user_is_asked_before_each_write(pipe: tuple[int, int]) -> None:
    """Where the pipe may not be opened anew, a full one still costs lines and not time."""
    if os.geteuid() != 0:
        pytest.skip("needs two users")
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.fchmod(writing, 0o600)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from sandbox.violations.record import Degraded\n"
        "from sandbox.violations.sink import Sink\n"
        "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sink = Sink()\n"
        "print(sink._polled, sum(sink.write(Degraded('x', 'y' * 1000)) for _ in range(50)))\n"
    )
    run = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", code, str(ROOT)], stdout=subprocess.PIPE, stderr=writing, text=True,
        timeout=20, check=False,
    )  # fmt: skip
    assert run.returncode == 0
    data = os.read(reading, 1 << 16)
    polled, count = run.stdout.split()
    assert polled == "True"
    assert 0 < int(count) < 50
    assert len(lines(data)) == int(count)


def test_a_pipe_without_a_reader_loses_everything_quietly(pipe: tuple[int, int]) -> None:
    """When the log's reader is gone, writing goes on to return False and nothing dies."""
    reading, writing = pipe
    sink = Sink(stderr=writing)
    assert sink.write(event())
    os.close(reading)
    assert [sink.write(event()) for _ in range(3)] == [False] * 3
    assert sink.lost == 3
    sink.close()


def test_a_closed_stderr_is_a_lost_sink() -> None:
    """A program without stderr is supervised all the same."""
    sink = Sink(stderr=987)
    assert not sink.write(event())
    assert sink.lost == 1
    sink.close()


def test_stderr_as_file_terminal_and_socket(tmp_path: Path) -> None:
    """A file keeps one offset for both writers, a terminal and a socket get whole lines."""
    with open(tmp_path / "log", "wb", buffering=0) as log:
        log.write(b"before\n")
        sink = Sink(stderr=log.fileno())
        assert sink.write(event())
        log.write(b"after\n")
        sink.close()
    before, line, after = (tmp_path / "log").read_bytes().splitlines()
    assert (before, after) == (b"before", b"after")
    assert json.loads(line)["event"] == "violation"

    ours, theirs = os.openpty()
    try:
        sink = Sink(stderr=theirs)
        assert sink.write(event())
        assert json.loads(os.read(ours, 1 << 16))["seq"] == 1
        sink.close()
    finally:
        os.close(ours)
        os.close(theirs)

    here, there = socket.socketpair()
    with here, there:
        sink = Sink(stderr=there.fileno())
        assert sink.write(event())
        assert json.loads(here.recv(1 << 16))["seq"] == 1
        sink.close()
        assert there.getblocking()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("abstract", [False, True])
def test_a_socket_that_comes_goes_and_comes_again(tmp_path: Path, kind: socket.SocketKind, abstract: bool) -> None:
    """Lines before the collector listens and while it is away are counted as lost; a new one gets the next."""
    name = f"@sandbox-{os.getpid()}-{kind.name}" if abstract else str(tmp_path / "socket")
    address = "\0" + name[1:] if abstract else name
    now = [100.0]

    def listen() -> socket.socket:
        found = socket.socket(socket.AF_UNIX, kind)
        found.settimeout(5)
        found.bind(address)
        if kind == socket.SOCK_STREAM:
            found.listen()
        return found

    def receive(found: socket.socket) -> list[dict[str, Any]]:
        if kind == socket.SOCK_DGRAM:
            return lines(found.recv(1 << 16))
        connection, _ = found.accept()
        with connection:
            connection.settimeout(5)
            return lines(connection.recv(1 << 16))

    sink = Sink(f"unix:{name}", b"key", clock=lambda: now[0])
    assert not sink.write(event())
    with listen() as collector:
        assert not sink.write(event())  # it was tried just now
        now[0] += 1
        assert sink.write(event())
        (first,) = receive(collector)
    now[0] += 1
    assert not sink.write(event())
    if not abstract:
        os.unlink(address)
    with listen() as collector:
        now[0] += 1
        assert sink.write(event())
        (second,) = receive(collector)
    sink.close()
    assert (first["seq"], first["lost"]) == (3, 2)
    assert (second["seq"], second["lost"]) == (5, 1)


def test_a_slow_stream_gets_every_line_whole_and_in_chain(tmp_path: Path) -> None:
    """A line that a socket takes in two pieces is finished before the next; the chain holds over what was lost."""
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as collector:
        collector.bind(address)
        collector.listen()
        sink = Sink(f"unix:{address}", b"key")
        assert sink._socket is not None
        sink._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        connection, _ = collector.accept()
        with connection:
            connection.settimeout(5)
            data = b""
            for i in range(60):
                sink.write(event("x" * (i * 50)))
                if i % 7 == 0:
                    data += connection.recv(3000)
            sink.close()
            while piece := connection.recv(1 << 16):
                data += piece
    whole = data[: data.rfind(b"\n") + 1]
    verifier = Verifier(b"key")
    problems = [verifier.step(line) for text in whole.splitlines() for line in reader.parse(text)]
    assert problems == [""] * len(problems)
    assert len(problems) > 5
    assert any("lost" in line for line in lines(whole))


def test_a_named_pipe_is_written_once_somebody_reads(tmp_path: Path) -> None:
    """SANDBOX_EVENTS=file: of a pipe without a reader waits for one without blocking."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    now = [1.0]
    sink = Sink(f"file:{path}", clock=lambda: now[0])
    assert not sink.write(event())
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        now[0] += 2
        assert sink.write(event())
        (line,) = lines(os.read(reading, 1 << 16))
    finally:
        os.close(reading)
        sink.close()
    assert line["lost"] == 1


def test_a_descriptor_is_taken_over(pipe: tuple[int, int]) -> None:
    """fd:N of a collector: the lines alone, whole, and the descriptor is nobody's else any more."""
    reading, writing = pipe
    sink = Sink(f"fd:{writing}", b"key")
    assert sink.write(event())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writing)
    assert os.read(reading, 1 << 16).startswith(b'{"event": "violation"')
    sink.close()
    assert os.read(reading, 1) == b""


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    """ENOSPC is not a reason to wait or die: the sink counts."""
    sink = Sink("file:/dev/full")
    assert [sink.write(event()) for _ in range(3)] == [False] * 3
    assert sink.lost == 3
    sink.close()


def test_descriptors_do_not_grow(tmp_path: Path) -> None:
    """A hundred sinks, and a hundred attempts to reach a socket that is not there, leave no descriptor behind."""
    before = len(os.listdir("/proc/self/fd"))
    for i in range(100):
        sink = Sink(f"file:{tmp_path}/{i % 3}")
        sink.write(event())
        sink.close()
    gone = Sink(f"unix:{tmp_path}/nobody", retry=0.0)
    assert not any(gone.write(event()) for _ in range(100))
    gone.close()
    assert len(os.listdir("/proc/self/fd")) == before
