"""Logs that grow: each line once and in order over every rotation, and an end when it is asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest

from sandbox.errors import UsageError
from sandbox.logs import following
from sandbox.logs.following import LogFollower
from sandbox.logs.reading import LogReader


def line(number: int) -> bytes:
    """A violation with a target of its own."""
    fields = {"event": "violation", "time": 1_700_000_000 + number, "syscall": "connect", "target": f"t{number}"}
    return json.dumps(fields).encode() + b"\n"


@contextmanager
def followed(path: Path) -> Iterator[Queue[str]]:
    """The targets of what is read, in a thread of its own."""
    targets: Queue[str] = Queue()
    follower = LogFollower(str(path))

    def read() -> None:
        for found in follower.lines(LogReader()):
            assert found.violation
            targets.put(found.violation.target)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield targets
    finally:
        follower.stop()
        thread.join(10)
        follower.close()
        assert not thread.is_alive()


def grow(path: Path, data: bytes) -> None:
    """Append, as a supervisor does."""
    with path.open("ab") as file:
        file.write(data)


def test_each_line_is_read_once_over_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting, rename, late writes to the old file, truncation, copytruncate with a hole, growth past the old place."""
    monkeypatch.setattr(following, "INTERVAL", 0.02)
    monkeypatch.setattr(following, "GRACE", 0.3)
    path = tmp_path / "log"

    def expect(targets: Queue[str], *numbers: int) -> None:
        assert [targets.get(timeout=10) for _ in numbers] == [f"t{number}" for number in numbers]

    with followed(path) as targets:
        time.sleep(0.05)
        grow(path, line(1) + line(2)[:20])
        expect(targets, 1)
        grow(path, line(2)[20:])
        expect(targets, 2)
        old = path.open("ab")
        path.rename(tmp_path / "log.1")
        grow(path, line(4))
        time.sleep(0.1)
        old.write(line(3))
        old.flush()
        expect(targets, 3, 4)
        os.truncate(path, 0)
        grow(path, line(5))
        expect(targets, 5)
        with path.open("r+b") as writer:  # without O_APPEND it goes on where it was
            writer.seek(0, os.SEEK_END)
            os.truncate(path, 0)
            writer.seek(1 << 20)
            writer.write(line(6))
        expect(targets, 6)
        path.write_bytes(line(7) * 1 + line(8) * 10 + b"x" * (2 << 20) + b"\n" + line(9))
        expect(targets, 7, *[8] * 10, 9)
        path.unlink()
        time.sleep(0.1)
        grow(path, line(10))
        expect(targets, 10)
        assert targets.empty()


def test_what_cannot_be_followed_is_said(tmp_path: Path) -> None:
    """A folder is an error and not a wait."""
    with pytest.raises(UsageError, match="cannot be read"):
        list(LogFollower(str(tmp_path)).pieces())


def _end_by(number: signal.Signals) -> Callable[[subprocess.Popen[bytes]], None]:
    return lambda process: process.send_signal(number)


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout
    process.stdout.close()


@pytest.mark.parametrize(
    ("end", "status"), [(_end_by(signal.SIGINT), 0), (_end_by(signal.SIGTERM), 0), (_close, 1)],
    ids=["int", "term", "head"],
)
def test_the_command_follows_until_it_is_ended(
    tmp_path: Path, end: Callable[[subprocess.Popen[bytes]], None], status: int
) -> None:
    """Lines come at once; a signal or a closed output ends it, on a log in which nothing happens; it does not spin."""
    path = tmp_path / "log"
    path.write_bytes(line(1))
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox", "events", str(path), "--follow", "--json"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["target"] == "t1"
        used = _processor(process.pid)
        grow(path, line(2))
        assert json.loads(process.stdout.readline())["target"] == "t2"
        time.sleep(0.5)
        assert _processor(process.pid) - used < 0.15
        end(process)
        assert process.wait(10) == status
        said = process.stderr.read().decode()
        assert "Traceback" not in said
        assert status or said == f"{path}: 2 lines read: 0 starts and 2 lines of a supervisor\n"


def _processor(pid: int) -> float:
    """Seconds of processor time that a process has used (man 5 proc, stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_terminal_is_followed_until_its_end() -> None:
    """What somebody pastes into a terminal is answered line by line, and Ctrl-D ends it."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox", "events", "-", "--follow", "--json"], stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        os.write(ours, line(1))
        assert json.loads(process.stdout.readline())["target"] == "t1"
        os.write(ours, b"\x04")
        assert process.wait(10) == 0
    os.close(ours)
    os.close(theirs)
