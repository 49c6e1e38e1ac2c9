"""Running a plain program for training: to its end, or a server until it has been asked what it is for.

A server ends the way its platform ends it, by SIGTERM (or what the image's STOPSIGNAL names) and ten seconds later by
SIGKILL, and that is a good end. What the program started in its process group ends with it, whatever happens to us
meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from sandbox.confine.parent import descendants
from sandbox.runtime_api.model import exit_text

GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL, as container engines give."""
LISTENS = 60.0
"""Seconds in which a server must listen before its driver starts; observation slows a start down."""
POLL, SLOWEST = 0.05, 1.0
ECHO = 0.25
"""Seconds in which a signal to our process group may come twice: from its sender, and by a parent that hands it on."""
OUTPUT = 1.0
"""Seconds for the last output of a program that has ended."""
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ENDED_WELL = (0, *(status for number in (*ENDING, signal.SIGQUIT) for status in (-number, 128 + number)))
"""Exit statuses of a process that a platform, or its user, was free to end."""
IN_FRONT = " (a server must stay in the foreground: `daemon off;` for nginx)"
TABLES = {"tcp": (3, b"0A", 9), "tcp6": (3, b"0A", 9), "unix": (3, b"00010000", 6)}
"""Of each table of /proc/PID/net: the column that tells, what it says of a socket that listens, that of the inode.

TCP_LISTEN of include/net/tcp_states.h; __SO_ACCEPTCON of include/uapi/linux/net.h, among the flags of a unix socket.
"""


@dataclass(frozen=True)
class Serving:
    """When a program has served enough that does not end by itself: after its driver, some seconds, or a signal to us.

    `drive` is a command for sh(1), which finds the server's number in SERVER_PID; none of the three: the
    program is waited for. `stop` is the signal that asks it to end.
    """

    drive: str = ""
    seconds: float = 0.0
    until_signal: bool = False
    stop: int = signal.SIGTERM

    @property
    def ended_well(self) -> tuple[int, ...]:
        """Exit statuses of a server that was asked to end."""
        return (*ENDED_WELL, -self.stop, 128 + self.stop)


TO_THE_END = Serving()

LISTENING, ENDING_IT = "listens", "ends"
"""What a run tells meanwhile: the program listens, and nobody but its user can ask it; a signal to us ends it now."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A run that ended: its exit status, negative for a signal, and what was wrong, '' for nothing.

    `stopped`: it ended because a signal asked us to end.
    """

    status: int
    problem: str = ""
    stopped: bool = False


@contextlib.contextmanager
def piped(path: str) -> Iterator[int]:
    """A descriptor for output, of a pipe that is copied into the file `path`.

    A platform gives a program pipes, and some do more with these than with a file: libuv makes them non-blocking. Who
    outlives its start and holds the pipe is not waited for. On a full disk the program goes on, and the block ends with
    OSError: its observations lie on the same disk.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    reading, writing = os.pipe()

    lost: list[OSError] = []

    def copy() -> None:
        while data := os.read(reading, 1 << 16):
            try:
                while data:
                    data = data[os.write(file, data) :]
            except OSError as error:
                lost.append(error)
        os.close(reading)
        os.close(file)

    copying = threading.Thread(target=copy, daemon=True)
    copying.start()
    try:
        yield writing
    finally:
        os.close(writing)
        copying.join(OUTPUT)
    if lost:
        lost[0].filename = path
        raise lost[0]


class Stopped(SystemExit):
    """A signal asked us to end."""


@contextlib.contextmanager
def ended_by_signals(deaf: float = 0.0) -> Iterator[None]:
    """Here SIGTERM, SIGHUP and SIGINT end us as an exception does, so that no process, folder or mount stays.

    The second one is not heard: cleaning up takes at most some seconds. Nor are those of the first `deaf` seconds.
    """
    hears = time.monotonic() + deaf

    def end(number: int, _frame: FrameType | None) -> None:
        if time.monotonic() < hears:
            return
        for other in before:
            signal.signal(other, _unheard)
        raise Stopped(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unheard(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN this is not handed down to what we start."""


def run(
    command: Sequence[str], folder: str, variables: Mapping[str, str], log: int, serving: Serving, tell: Tell,
    pass_fds: Sequence[int] = (),
) -> Run:  # fmt: skip
    """Run a command to its end in `folder`; its output and that of its driver go to the descriptor `log`.

    `pass_fds` are descriptors that it inherits.

    The first signal to us (ended_by_signals) ends the program, and its run counts; the second gives up: raises Stopped.
    """
    child = subprocess.Popen(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
        pass_fds=pass_fds,
    )  # fmt: skip
    try:
        try:
            problem = _until_served(child, log, serving, tell)
        except Stopped:
            with ended_by_signals(ECHO):
                tell(ENDING_IT)
                return _ended(child, "", serving, stopped=True)
        return _ended(child, problem, serving)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _ended(child: subprocess.Popen[bytes], problem: str, serving: Serving, *, stopped: bool = False) -> Run:
    """End the child, unless it has ended. What was wrong with its end goes before, for it is often the reason."""
    asked = child.poll() is None
    if asked:
        child.send_signal(serving.stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    status = child.poll()
    if status is None:
        sent = signal.Signals(serving.stop).name
        return Run(-signal.SIGKILL, problem or f"did not end within {GRACE:.0f} s of {sent}", stopped)
    if status not in (serving.ended_well if asked or stopped else (0,)):
        problem = f"exit status {status}" if status > 0 else exit_text(status)
    return Run(status, problem, stopped)


def _until_served(child: subprocess.Popen[bytes], log: int, serving: Serving, tell: Tell) -> str:
    """Wait for what `serving` says, or for the child's end. What went wrong, '' for nothing."""
    if serving.drive:
        return _driven(child, log, serving.drive)
    end = time.monotonic() + (serving.seconds or threading.TIMEOUT_MAX)
    if _awaited(child, min(end, time.monotonic() + LISTENS)):
        tell(LISTENING)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(max(0.0, end - time.monotonic()))
        if serving.seconds:
            return f"ended before its {serving.seconds:g} s were over"
    return "ended before a signal came" if serving.until_signal else ""


def _awaited(child: subprocess.Popen[bytes], end: float) -> bool:
    """Whether the child listens before `end`; looks ever less often, for what has not begun may never."""
    pause = POLL
    while child.poll() is None and time.monotonic() < end:
        if _listens(child.pid):
            return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(min(pause, max(0.0, end - time.monotonic())))
        pause = min(pause * 1.5, SLOWEST)
    return False


def _driven(child: subprocess.Popen[bytes], log: int, drive: str) -> str:
    end = time.monotonic() + LISTENS
    while not _listens(child.pid):
        if child.poll() is not None:
            return f"ended before it listened{IN_FRONT}"
        if time.monotonic() > end:
            return f"did not listen within {LISTENS:.0f} s"
        time.sleep(POLL)
    variables = {**os.environ, "SERVER_PID": str(child.pid)}
    driver = subprocess.Popen(
        ("/bin/sh", "-c", drive), env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    )
    try:
        status = driver.wait()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    if child.poll() is not None:
        return "ended while it was driven"
    return f"the driver ended with status {status}" if status else ""


def _listens(pid: int) -> bool:
    """Whether something below a process has a socket that listens, TCP or unix.

    What it is itself is ours, and so is what runs by the same words: a supervisor below its guardian, whose forwarder
    listens as well.
    """
    sockets, ours = set(_listening(pid)), _words(pid)
    return bool(sockets) and any(
        sockets & set(_sockets(below)) for below in descendants(pid) if _words(below) != ours
    )  # fmt: skip


def _words(pid: int) -> bytes:
    """A process's command line; nothing for one that is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()
    return b""


def _listening(pid: int) -> Iterator[bytes]:
    for table, (column, listens, inode) in TABLES.items():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/net/{table}", "rb") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if len(fields) > inode and fields[column] == listens:
                    yield fields[inode]


def _sockets(pid: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        for name in os.listdir(folder := f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.fsencode(os.readlink(f"{folder}/{name}"))
                if target.startswith(b"socket:["):
                    yield target[8:-1]
