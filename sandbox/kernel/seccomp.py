"""seccomp(2), raw and with flags, and what /proc/PID/status tells of it; prctl(2) only where it is needed.

See man 2 seccomp, linux/seccomp.h and man 5 proc.
"""

from __future__ import annotations

import ctypes
import errno
import os

from sandbox.kernel import abi

SET_MODE_FILTER = 1
GET_NOTIF_SIZES = 3

FLAG_TSYNC = 1 << 0
FLAG_NEW_LISTENER = 1 << 3
FLAG_TSYNC_ESRCH = 1 << 4
FLAG_WAIT_KILLABLE_RECV = 1 << 5  # Linux 5.19

PR_SET_NO_NEW_PRIVS = 38


class _Fprog(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(program: bytes, flags: int = 0) -> int:
    """Install a filter on the calling thread; with FLAG_NEW_LISTENER returns the listener's descriptor, else 0.

    `program` is an array of struct sock_filter. Raises OSError: EACCES without NoNewPrivs, EPERM from a filter above,
    EINVAL for a bad program or an unknown flag, EBUSY when a listener stands above.
    """
    prog = _Fprog(len(program) // 8, program)
    return abi.syscall(
        abi.number("seccomp"), SET_MODE_FILTER, flags, ctypes.cast(ctypes.byref(prog), ctypes.c_void_p).value
    )


def knows(flags: int) -> bool:
    """Whether this kernel knows the flags: it then misses the program (EFAULT), and else refuses them (EINVAL)."""
    try:
        abi.syscall(abi.number("seccomp"), SET_MODE_FILTER, flags, 0)
    except OSError as error:
        return error.errno == errno.EFAULT
    return False


def set_no_new_privs() -> None:
    """prctl(PR_SET_NO_NEW_PRIVS). Raises OSError where prctl is refused."""
    abi.syscall(abi.number("prctl"), PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def canary() -> int:
    """The errno of a seccomp(2) call that does nothing: EPERM under our filter, EINVAL from the bare kernel."""
    try:
        abi.syscall(abi.number("seccomp"), 0xFFFFFFFF, 0, 0)
    except OSError as error:
        return error.errno or 0
    return 0


def read_status(pid: int | str = "self") -> dict[str, str]:
    """All fields of /proc/PID/status as text. Raises OSError when the task is gone or /proc is not mounted."""
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return parse_status(os.read(fd, 1 << 16))
    finally:
        os.close(fd)


def parse_status(data: bytes) -> dict[str, str]:
    """Fields of the text of a status file."""
    fields = {}
    for line in data.decode("ascii", "replace").splitlines():
        key, _, value = line.partition(":")
        fields[key] = value.strip()
    return fields
