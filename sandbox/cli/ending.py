"""How a command ends that starts functions: whatever ends it, no process, folder or half-written file of it stays.

    watch()
    ...  # from here on SIGTERM, SIGHUP and SIGINT raise Stopped

The rest of the command runs in a child. Its parent waits, hands signals on, and clears up after the child, which
SIGKILL or a lack of memory may end before it can do so itself. If the parent is killed, the kernel sends the child a
SIGTERM.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NoReturn

from sandbox.cli.output import warn
from sandbox.confine.parent import descendants
from sandbox.errors import CommandKilled
from sandbox.learn import own_process
from sandbox.learn.program import ENDING, ended_by_signals
from sandbox.learn.training import OUTSIDE
from sandbox.probe.scene import PREFERRED_FOLDERS

FROM_KERNEL = 0x80
"""SI_KERNEL of asm-generic/siginfo.h: a terminal's signal, which the whole process group has had already."""
PATIENCE = 5.0
"""Seconds in which what was killed must have ended."""

_LASTING = contextlib.ExitStack()
"""What holds to the end of the process."""


def watch() -> None:
    """Run what follows in a child whose end is waited for here, so that only the child comes back from this.

    Raises ExtraMissing where the library is not installed that this takes.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with contextlib.suppress(OSError):
        own_process.adopt_orphans()
    heard = {signal.SIGCHLD, signal.SIGQUIT, *ENDING}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    parent = os.getpid()
    child = os.fork()
    if child:
        # It only waits, and has all that the environment holds.
        own_process.close_memory()
        own_process.name("sandbox waiting")
        _end_like(child, _wait(child, heard))
    own_process.end_with_parent()
    own_process.name("sandbox")
    _LASTING.enter_context(ended_by_signals())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if os.getppid() != parent:
        signal.raise_signal(signal.SIGTERM)  # it ended before the kernel knew that we want to hear of that


def _wait(child: int, heard: set[signal.Signals]) -> int:
    """Hand signals on until the child ends; its wait status."""
    while True:
        info = signal.sigwaitinfo(heard)
        if info.si_signo != signal.SIGCHLD:
            if info.si_code != FROM_KERNEL:
                os.kill(child, info.si_signo)
            continue
        for pid, status in _reaped():
            if pid == child:
                return status


def _reaped() -> Iterator[tuple[int, int]]:
    """The children that have ended, among them what lost its own parent."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found


def _end_like(child: int, wait_status: int) -> NoReturn:
    """Remove what the child left, and end with its status."""
    left = _end_all()
    # The child gives its folders names with its number.
    for parent in {OUTSIDE, tempfile.gettempdir(), *PREFERRED_FOLDERS}:
        for folder in glob.glob(f"{glob.escape(parent)}/sandbox-*-{child}-*"):
            _remove(folder)
    status = os.waitstatus_to_exitcode(wait_status)
    if status < 0 and -status in ENDING:
        status = 128 - status
    elif status < 0:
        error = CommandKilled(
            f"ended by {signal.Signals(-status).name}", where="sandbox",
            todo="run it again; if nobody sent the signal, look for lack of memory in the kernel's log (dmesg)",
        )  # fmt: skip
        warn(f"sandbox: {error}")
        status = error.exit_code
    if left:
        warn(f"sandbox: still running, and not ours to end: {', '.join(map(str, left))}")
    sys.stderr.flush()
    os._exit(status)


def _end_all() -> list[int]:
    """Kill what is still below us: it has lost its parent. What does not end in time is returned."""
    end = time.monotonic() + PATIENCE
    while below := list(descendants(os.getpid())):
        if time.monotonic() > end:
            return below
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for _ in _reaped():
            pass
        time.sleep(0.002)
    return []


def _remove(folder: str) -> None:
    for path, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)  # a bundle is closed even for its owner
    shutil.rmtree(folder, ignore_errors=True)
