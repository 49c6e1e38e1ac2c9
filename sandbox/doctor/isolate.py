"""One probe in a process of its own: whatever it installs, and whatever ends it, the doctor goes on.

Every wait has an end. The child reports by one write to a pipe that is open before it begins.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable

from sandbox.doctor.measured import Probed

LONGEST = 4096  # PIPE_BUF: one write of at most this size is atomic (man 7 pipe)
END = 3.0
"""Seconds that a killed child gets to be gone."""


class Failed(Exception):
    """The probe's own finding: in words, what is not as it should be."""


def run(probe: Callable[[], str], limit: float) -> Probed:
    """What became of the probe in a child within `limit` seconds; does not raise.

    The probe returns a detail for people, or raises OSError (refused) or Failed.
    """
    try:
        read, write = os.pipe()
    except OSError as error:
        return Probed("not tried", _name(error.errno), "no pipe can be made")
    try:
        pid = os.fork()
    except OSError as error:
        os.close(read)
        os.close(write)
        return Probed("not tried", _name(error.errno), "no process can be made for it (fork)")
    if pid == 0:
        try:
            os.close(read)
            _child(probe, write, limit)
        finally:
            os._exit(1)
    os.close(write)
    try:
        return _outcome(pid, read, limit)
    except OSError as error:
        return Probed("not tried", _name(error.errno), "its process could not be waited for")
    finally:
        os.close(read)


def _outcome(pid: int, read: int, limit: float) -> Probed:
    """The child's report, or its end. The child has ended afterwards. Raises OSError."""
    message, in_time = b"", False
    try:
        in_time = bool(select.select([read], [], [], limit)[0])
        message = os.read(read, LONGEST) if in_time else b""
    finally:
        # Nobody has collected it yet: the number is still its own, also when it has ended.
        status = _end(pid, kill=bool(message) or not in_time)
    if message:
        outcome, name, detail = json.loads(message)
        return Probed(outcome, name, detail)
    if not in_time:
        return Probed("no answer", detail=f"in {limit:g} s")
    if status is not None and os.WIFSIGNALED(status):
        return Probed("killed", detail=f"by {signal_name(os.WTERMSIG(status))}")
    return Probed("fails", detail="its process ended without a report")


def _child(probe: Callable[[], str], write: int, limit: float) -> None:
    # A collection would run finalizers of the parent's objects here.
    gc.disable()
    quiet(limit)
    with contextlib.suppress(OSError):  # then what it starts ends by its own alarm
        os.setpgid(0, 0)  # what it starts is in its group, and ends with it
    found: tuple[str, str, str]
    try:
        found = "works", "", probe()
    except Failed as failed:
        found = "fails", "", str(failed)
    except OSError as error:
        found = "refused", _name(error.errno), ""
    except Exception as error:  # a fault of the probe's own must be a finding, and no end of the doctor
        found = "fails", "", f"{type(error).__name__}: {error}"[:500]
    os.write(write, json.dumps(found).encode()[:LONGEST])
    os._exit(0)


def quiet(limit: float) -> None:
    """In a child: no core files, the usual end by signals, and an end by alarm when everybody else is gone."""
    with contextlib.suppress(OSError):  # a core file at worst
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for number in (signal.SIGALRM, signal.SIGSYS, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGSYS))
    signal.alarm(int(limit) + 2)


def _end(pid: int, *, kill: bool) -> int | None:
    """Its wait status; None when somebody else has collected it, or when even SIGKILL does not end it in time."""
    if kill:
        for send in (os.killpg, os.kill):
            try:
                send(pid, signal.SIGKILL)
            except OSError:
                continue  # it is gone, or has no group of its own
    deadline = time.monotonic() + END
    while time.monotonic() < deadline:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if found:
            return status
        time.sleep(0.0005)
    return None


def status_of(function: Callable[[], int], limit: float) -> int:
    """In a probe: the wait status of a child that exits with what `function` returns. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet(limit)
            os._exit(function())
        finally:
            os._exit(255)
    return os.waitpid(pid, 0)[1]


def signal_name(number: int) -> str:
    """SIGSYS for 31."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))
