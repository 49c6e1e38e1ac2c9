"""The guardian: a process above the supervisor that the function cannot bring down, and that ends what is left.

    above = guard(goes_on)    # returns in a child, which becomes the supervisor
    above.started(pid)
    above.ended(status)

It is a copy of the bootstrap from before the supervisor was loaded, asleep until a signal comes: it passes those of the
platform on, ends as the supervisor says that the function ended, and where that one dies without a word it kills all
that the function left. Under the launcher the attendant is this (sandbox/launcher/attend.c).
"""

from __future__ import annotations

import _signal as signal  # the core of signal, loaded anyway; signal itself loads enum
import gc
import os
import struct

from sandbox.confine import parent
from sandbox.errors import DeciderLost, log_entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_STARTED, _ENDED = 1, 2
_WORD = struct.Struct("<qq")


class Above:
    """The way from a supervisor to its guardian."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def started(self, function: int) -> None:
        """This is the function's first process, to which signals go."""
        os.write(self._fd, _WORD.pack(_STARTED, function))

    def ended(self, status: int) -> NoReturn:
        """End this process; the guardian ends as a wait status says."""
        os.write(self._fd, _WORD.pack(_ENDED, status))
        os._exit(0)


def guard(*, goes_on: bool) -> Above:
    """Let a child be the supervisor and watch over it, a subreaper with the held signals blocked. Returns in the child.

    `goes_on`: the function does when the supervisor has died. Raises OSError where no process can be made.
    """
    here, there = os.pipe2(os.O_CLOEXEC)
    own = os.getpid()
    gc.disable()
    gc.freeze()  # a collection would write to, and so copy, every page that the two share
    child = os.fork()
    if child:
        _close_others(here)
        _Guardian(child, here, goes_on=goes_on).watch()
    os.close(here)
    parent.set_above(own)
    return Above(there)


def _close_others(own: int) -> None:
    """Close what the platform handed over, as the supervisor does behind the function's exec, and what that one has."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for fd in map(int, names):
        if fd > 2 and fd != own:
            try:
                os.close(fd)
            except OSError:
                continue  # that of this very listing


class _Guardian:
    def __init__(self, supervisor: int, pipe: int, *, goes_on: bool) -> None:
        self._supervisor = supervisor
        self._pipe = pipe
        self._goes_on = goes_on
        self._function = 0
        self._ended: int | None = None
        self._lost = False

    def watch(self) -> NoReturn:
        """Until all has ended."""
        while True:
            heard = signal.sigwait(parent.HELD)
            if heard != signal.SIGCHLD:
                self._pass_on(heard)
                continue
            # One wait for all: a second one could take the supervisor's end for an orphan's.
            status = parent.all_reaped(self._function if self._lost else self._supervisor)
            if status is not None and self._lost:
                self._end(status)
            elif status is not None:
                self._supervisor_ended(status)

    def _hear(self) -> bool:
        """Take the next word of the supervisor; False where it is gone."""
        try:
            data = os.read(self._pipe, _WORD.size)
        except BlockingIOError:
            return False
        if len(data) < _WORD.size:
            return False
        kind, value = _WORD.unpack(data)
        if kind == _STARTED:
            self._function = value
        else:
            self._ended = value
        return True

    def _pass_on(self, number: int) -> None:
        if self._function or self._hear():
            parent.send(self._function, number)

    def _supervisor_ended(self, status: int) -> None:
        os.set_blocking(self._pipe, False)  # a child of it from before an exec may hold the other end
        while self._hear():
            continue
        if self._ended is None and os.WIFEXITED(status):
            self._ended = status  # with its reason in the log
        if self._ended is not None:
            self._end(self._ended)
        how = f"the process that decides about the function's calls was ended by signal {os.WTERMSIG(status)}"
        if self._goes_on and self._function and parent.send(self._function, 0):
            self._lost = True
            os.write(2, f"sandbox: {how}: each call that needs a decision fails from here on\n".encode())
            return
        parent.end_rest()
        lost = DeciderLost(
            f"{how}, so the function was ended",
            todo="look for what ended it: memory, a limit, a signal; SANDBOX_ON_DECIDER=continue goes on without",
        )  # fmt: skip
        os.write(2, log_entry(lost))
        os._exit(lost.exit_code)

    @staticmethod
    def _end(status: int) -> NoReturn:
        parent.end_rest()
        code = parent.end_like(status)
        if os.WIFSIGNALED(status):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [os.WTERMSIG(status)])
        os._exit(code)
