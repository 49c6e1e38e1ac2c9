"""A function against its own reports on standard error, which it holds as well: what it hides or forges is found."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from supervised_programs import LIMIT, NATIVE, PLAIN_HOSTS, PYTHON, Supervision, bench_for, without_landlock

from sandbox.errors import DeciderLost
from sandbox.violations import reader
from sandbox.violations.chain import Verifier

KEY = "the-key-of-the-events-0123456789"
CALLS = ("shutdown", "getsockname", "getsockopt", "ftruncate", "openat write", "fcntl F_SETFL", "fcntl F_SETPIPE_SZ")

bench = bench_for([PLAIN_HOSTS[1], NATIVE[1]])

HEAD = """
import fcntl, os, time
def refused():
    try: os.fork()
    except OSError: return
refused()
"""

FILLS = """
fcntl.fcntl(2, 1031, 4096)
fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) | os.O_NONBLOCK)
for size in (4096, 1):
    try:
        while True: os.write(2, b"x" * size)
    except BlockingIOError: pass
fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) & ~os.O_NONBLOCK)
"""


def log_of(bench: Supervision, code: str, stderr: Any, more: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A run with a key and this standard error; it has begun to tell when its code starts."""
    ours = {"SANDBOX_EVENTS": "", "SANDBOX_EVENT_KEY": KEY, **(more or {})}
    process, _ = bench.start(bench.bundle(*CALLS), *PYTHON, HEAD + code, more=ours, stderr=stderr)
    return process


def verified(data: bytes) -> tuple[list[str], Verifier, list[reader.Line]]:
    """The problems of a log, who found them, and our lines."""
    verifier = Verifier(KEY.encode())
    lines = list(reader.lines(io.BytesIO(data)))
    return [problem for line in lines if (problem := verifier.step(line))], verifier, lines


def piped(bench: Supervision, code: str) -> tuple[bytes, str]:
    """What came out of a pipe as standard error, which nobody reads until the function has said a line, and its output.

    The pipe is the function's user's own, or another's where the code does not open it.
    """
    reading, writing = os.pipe()
    if bench.uid is not None and "/proc" in code:
        os.fchown(writing, bench.uid, -1)
    with os.fdopen(reading, "rb") as log:
        process = log_of(bench, code + "print('done', flush=True)\n", writing)
        os.close(writing)
        assert process.stdout
        said = process.stdout.readline()
        data = log.read()
        said += process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 0, data[-2000:]
    return data, said


def test_a_quiet_run_has_its_beginning_and_its_end(bench: Supervision) -> None:
    """With a key a run without a violation verifies, and its policy is that of the status line."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as log:
        process, _ = bench.start(
            bench.bundle(), "/bin/true", more={"SANDBOX_EVENTS": "", "SANDBOX_EVENT_KEY": KEY}, stderr=writing
        )
        os.close(writing)
        data = log.read()
        process.communicate(timeout=LIMIT)
    problems, verifier, lines = verified(data)
    (run,) = verifier.runs()
    assert (problems, [line.fields["event"] for line in lines], run.violations) == ([], ["begin", "violations"], 0)
    assert f'"policy": "{run.policy}"'.encode() in data.partition(b'"event": "sandbox"')[2]


def test_unended_and_forged_text_hides_nothing(bench: Supervision) -> None:
    """Each line begins on a line of its own, whatever stands before it; what looks like one of ours does not verify."""
    code = r"""
for text in (b"50 %", b'{"event": "' * 40, b'{"event": "violation", "time": 1, "syscall": "', b"x" * 30000):
    os.write(2, text)
    refused()
"""
    data, _ = piped(bench, code)
    problems, verifier, lines = verified(data)
    (run,) = verifier.runs()
    assert (problems, run.violations, sum(line.violation is not None for line in lines)) == ([], 5, 5)
    assert all(row.startswith(b'{"event": ') for row in data.splitlines() if b'"hmac"' in row)
    forged = 'os.write(2, b\'{"event": "violation", "time": 1, "syscall": "x"}\\n\')\nrefused()\n'
    problems, verifier, _ = verified(piped(bench, forged)[0])
    assert (problems, verifier.unfinished()) == (["carries no signature"], [])


def test_a_pipe_that_the_function_fills_or_reads(bench: Supervision) -> None:
    """Filled, it loses lines and no count; read by the function, its lines are missed."""
    problems, verifier, lines = verified(piped(bench, FILLS + "for _ in range(10): refused()\n")[0])
    (run,) = verifier.runs()
    assert (problems, run.violations, run.lost > 0) == ([], 11, True)
    assert sum(line.violation is not None for line in lines) < 11
    reads = """
own = os.open("/proc/self/fd/2", os.O_RDONLY | os.O_NONBLOCK)
refused()
print(os.read(own, 1 << 16))
"""
    data, stolen = piped(bench, reads)
    assert '"event": "violation"' in stolen
    problems, _, _ = verified(data)
    assert problems


def test_a_reader_that_stops_stops_no_end(bench: Supervision) -> None:
    """A function that is ended beside a full pipe that nobody reads leaves nobody who waits for room.

    Nor does the end of the process that decides.
    """
    assert left_unread(bench, "import ctypes\nctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)\n") == 77
    if bench.native:
        dies = "print(os.getppid(), flush=True)\ntime.sleep(60)\n"
        assert left_unread(bench, dies, lambda said: os.kill(int(said), signal.SIGKILL)) == DeciderLost.exit_code


def left_unread(bench: Supervision, code: str, then: Callable[[str], None] | None = None) -> int:
    """The exit status of a run with a full pipe as standard error; `then` is called with a line that it says."""
    reading, writing = os.pipe()
    try:
        process = log_of(bench, FILLS + code, writing)
        assert process.stdout
        if then:
            then(process.stdout.readline())
        process.communicate(timeout=LIMIT)
    finally:
        os.close(reading)
        os.close(writing)
    return process.returncode


def test_a_terminal(bench: Supervision) -> None:
    """Behind what the function left unended there, each line is whole, and the run verifies."""
    ours, theirs = os.openpty()
    process = log_of(bench, "os.write(2, b'50 %')\nrefused()\n", theirs)
    os.close(theirs)
    data = b""
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more (man 4 pts)
        while piece := os.read(ours, 1 << 16):
            data += piece
    os.close(ours)
    process.communicate(timeout=LIMIT)
    problems, verifier, _ = verified(data)
    assert (problems, [run.violations for run in verifier.runs()]) == ([], [2])
    assert b"50 %\r\n{" in data


def test_a_socket_that_the_function_shuts_down(bench: Supervision) -> None:
    """Its run has no end, and is named."""
    here, there = socket.socketpair()
    with here:
        code = "import _socket\n_socket.socket(fileno=2).shutdown(2)\nrefused()\nos._exit(0)\n"
        process = log_of(bench, code, there.fileno())
        there.close()
        data = b""
        while piece := here.recv(1 << 16):
            data += piece
        process.communicate(timeout=LIMIT)
    problems, verifier, lines = verified(data)
    assert (process.returncode, problems, len(verifier.unfinished())) == (0, [], 1)
    assert lines[0].fields["event"] == "begin"


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "not owned"])
def test_a_file_that_the_function_cuts_and_overwrites(bench: Supervision, owned: bool, tmp_path: Path) -> None:
    """Honest text and ours stand beside each other; what the function takes away is missed, the rest stays whole.

    Where the file is another user's, its last byte is unknown: an empty line may stand before ours.
    """
    path = tmp_path / "log"
    honest = 'os.write(2, b"one\\n")\nrefused()\nos.write(2, b"two")\nrefused()\nos.write(2, b"three\\n")\n'
    for code, damaged in (
        (honest, False),
        ("refused()\nos.ftruncate(2, 0)\nrefused()\n", True),
        ('fcntl.fcntl(2, fcntl.F_SETFL, 0)\nos.lseek(2, 0, 0)\nos.write(2, b"x" * 3000)\nrefused()\n', True),
    ):
        path.unlink(missing_ok=True)
        with open(path, "wb") as log:
            if owned and bench.uid is not None:
                os.fchown(log.fileno(), bench.uid, -1)
            log_of(bench, code, log).communicate(timeout=LIMIT)
        data = path.read_bytes()
        problems, verifier, lines = verified(data)
        assert bool(problems or verifier.unfinished()) == damaged, data
        assert lines[-1].fields["event"] == "violations"
        assert lines[-1].fields["final"] is True
        if not damaged:
            assert verifier.runs()[0].violations == 3
            rows = [row for row in data.splitlines() if not row.startswith(b"{")]
            assert list(filter(None, rows)) == [b"one", b"two", b"three"]
            assert (b"" in rows) != owned


def test_a_collectors_descriptor_is_not_the_functions(bench: Supervision) -> None:
    """SANDBOX_EVENTS=fd:N: the lines go there, and the function has no descriptor of it, supervised or not."""
    code = "print([fd for fd in range(3, 30) if os.path.exists(f'/proc/self/fd/{fd}')])"
    for supervise in "10":
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as collector:
            more = {"SANDBOX_EVENTS": f"fd:{writing}", "SANDBOX_SUPERVISE": supervise}
            more |= {"SANDBOX_EVENT_KEY": KEY} if supervise == "1" else {}
            process, _ = bench.start(bench.bundle(*CALLS), *PYTHON, HEAD + code, more=more, pass_fds=(writing,))
            os.close(writing)
            data = collector.read()
            stdout, stderr = process.communicate(timeout=LIMIT)
        assert (process.returncode, stdout) == (0, "[]\n"), stderr
        problems, verifier, _ = verified(data)
        assert (problems, [run.violations for run in verifier.runs()]) == ([], [1] if supervise == "1" else [])
    done = bench.run(bench.bundle(*CALLS), "/bin/echo", more={"SANDBOX_SUPERVISE": "0", "SANDBOX_EVENT_KEY": KEY})
    assert (done.code, done.stdout, "nobody signs" in done.stderr) == (64, "", True)


def test_a_file_that_the_function_writes_holds_no_reports(bench: Supervision) -> None:
    """In a folder of the function's, or where nothing keeps it from its user's files, the start ends before it runs.

    A warning lets it start and is in the status line; a folder that Landlock closes takes the lines.
    """
    own = bench.folder / "written"
    own.mkdir(exist_ok=True)
    (own / "link").unlink(missing_ok=True)
    closed = bench.folder / "closed"
    closed.mkdir(exist_ok=True)
    os.symlink(own / "events", closed / "link")
    for folder in (own, closed):
        os.chown(folder, bench.uid or -1, -1)
    free = bench.bundle("openat write")
    limited = bench.bundle("openat write", "openat create", writes=(f"{own}/**",))
    for bundle, path, before, refused in (
        (limited, own / "events", None, True), (limited, closed / "link", None, True),
        (limited, closed / "events", None, False), (limited, closed / "events", without_landlock, True),
        (free, closed / "events", None, True), (free, "/dev/null", None, False),
    ):  # fmt: skip
        more = {"SANDBOX_EVENTS": f"file:{path}", "SANDBOX_EVENT_KEY": KEY}
        done = bench.run(bundle, "/bin/echo", "ran", more=more, before=before)
        assert (done.code, done.stdout) == ((64, "") if refused else (0, "ran\n")), done.stderr
        assert ("its own reports" in done.stderr) == refused
        if refused:
            assert not os.path.exists(path)
            more["SANDBOX_ON_UNAVAILABLE"] = "warn"
            warned = bench.run(bundle, "/bin/echo", "ran", more=more, before=before)
            assert f"events: the function could change {path}" in warned.stderr
        if path != "/dev/null":
            problems, verifier, _ = verified(Path(path).read_bytes())
            assert (problems, verifier.unfinished(), len(verifier.runs())) == ([], [], 1)
            os.unlink(os.path.realpath(path))
