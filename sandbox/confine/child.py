"""Start a program under a filter whose listener this process holds, without pidfd: a shared descriptor table.

clone(CLONE_FILES) gives parent and child one descriptor table until the child's exec, which unshares it (man 2
execve). So the number that seccomp(2) returns in the child is a descriptor of the parent too; the child only has to
say which, through a shared page. The child's own copy is close-on-exec by the kernel.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the core of signal, loaded anyway; signal itself loads enum
import errno
import mmap
import os
import struct
import time

from sandbox.confine.single_exec import not_executed, restore_signals
from sandbox.errors import HandlerNotFound, InstallRefused, ListenerBusy
from sandbox.kernel import abi, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CLONE_FILES = 0x400  # linux/sched.h
READY_TIMEOUT = 10.0  # seconds until the child must have installed its filter

_WAITING, _READY, _FAILED = 0, 1, 2
_STEPS = ("prctl(PR_SET_NO_NEW_PRIVS)", "seccomp(2)", "execve")


def start(
    path: str, argv: Sequence[str], environment: Mapping[str, str], program: bytes, ready: Callable[[int, int], None]
) -> int:
    """Exec `path` in a child under `program` with a listener. Returns the child's pid.

    `ready(pid, listener)` is called before the child goes on, so that its exec is the first call that waits there.
    Raises InstallRefused, ListenerBusy or HandlerNotFound.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE)
    needs_bit = seccomp.read_status().get("NoNewPrivs") != "1"
    flags = seccomp.FLAG_NEW_LISTENER | seccomp.FLAG_WAIT_KILLABLE_RECV
    pid = abi.syscall(abi.number("clone"), CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        _child(path, argv, environment, program, flags, needs_bit, page)
    try:
        state, value = _wait(page, pid)
        if state == _READY:
            ready(pid, value)
            struct.pack_into("<i", page, 8, 1)
            return pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    os.waitpid(pid, 0)
    number = value & 0xFFFF
    raise _refusal(value >> 16, number, path) from OSError(number, os.strerror(number))


def _child(
    path: str, argv: Sequence[str], environment: Mapping[str, str], program: bytes, flags: int, needs_bit: bool,
    page: mmap.mmap,
) -> None:  # fmt: skip
    """In the child: install, tell the number, wait for the go-ahead, exec. Never returns."""
    step = 0
    try:
        if needs_bit:
            seccomp.set_no_new_privs()
        step = 1
        try:
            listener = seccomp.install(program, flags)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            listener = seccomp.install(program, seccomp.FLAG_NEW_LISTENER)  # before Linux 5.19
        step = 2
        _say(page, _READY, listener)
        while struct.unpack_from("<i", page, 8)[0] == 0:
            time.sleep(0.0002)
        restore_signals()
        os.execve(path, list(argv), dict(environment))
    except OSError as error:
        if step == 2:
            failed = not_executed(path, error)
            os.write(2, f"sandbox: {failed.error_type}: {failed}\n".encode(errors="backslashreplace"))
            os._exit(failed.exit_code)
        _say(page, _FAILED, step << 16 | (error.errno or 0))
    os._exit(127)


def _say(page: mmap.mmap, state: int, value: int) -> None:
    # Native, so that it is one store: the parent must not see half of it.
    struct.pack_into("q", page, 0, value << 2 | state)


def _wait(page: mmap.mmap, pid: int) -> tuple[int, int]:
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        (word,) = struct.unpack_from("q", page, 0)
        state, value = word & 3, word >> 2
        if state != _WAITING:
            return int(state), int(value)
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.0002)
    raise InstallRefused(
        "the child did not install its filter", where="clone", todo="report this with the kernel's version"
    )


def _refusal(step: int, number: int, path: str) -> Exception:
    what = f"{_STEPS[step]} failed: {os.strerror(number)}"
    if step == 2:
        return HandlerNotFound(what, where=path, todo="check that it can be executed")
    if number == errno.EBUSY:
        return ListenerBusy("a notification listener stands above this process", where="seccomp(2)",
                            todo="observe outside of the other supervisor")  # fmt: skip
    if number == errno.EINVAL:
        return InstallRefused("this kernel has no user notification (gVisor, or Linux before 5.0)", where="seccomp(2)",
                              todo="learn on another host; a profile works on all of them")  # fmt: skip
    return InstallRefused(what, where="the observed child", todo="learn where a process may install a seccomp filter")


def collect(pid: int) -> int | None:
    """The child's wait status when it has ended, without waiting for it."""
    found, wait_status = os.waitpid(pid, os.WNOHANG)
    return wait_status if found else None
