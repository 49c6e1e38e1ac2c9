"""A handler that tells what its platform has and lacks; it also wants a lock of multiprocessing if asked to."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import resource
from collections.abc import Callable
from typing import Any

PR_SET_NAME = 15  # linux/prctl.h
SYS_EPOLL_PWAIT2, SYS_LANDLOCK_CREATE_RULESET = 441, 444  # on every machine
SYS_GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236}[os.uname().machine]
_LIBC = ctypes.CDLL(None, use_errno=True)


def tried(call: Callable[[], object]) -> str:
    """The name of the errno that a call fails with, 'ok' for none."""
    try:
        result = call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    if isinstance(result, int) and result < 0:
        return errno.errorcode[ctypes.get_errno()]
    return "ok"


def made(folder: str) -> str:
    """What becomes of a new file in a folder."""

    def make() -> None:
        path = os.path.join(folder, f"platform-facts-{os.getpid()}")
        open(path, "w").close()
        os.unlink(path)

    return tried(make)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """With `lock`: fails where shared memory is missing."""
    if event.get("lock"):
        multiprocessing.Lock()
    return {
        "user": [os.getuid(), os.getgid(), os.path.expanduser("~")],
        "groups": os.getgroups(),
        "limits": [resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_NPROC)[0]],
        "home": os.environ.get("HOME"),
        "devices": sorted(os.listdir("/dev")),
        "null": tried(lambda: open("/dev/null", "w").close()),
        "made": {folder: made(folder) for folder in ("/tmp", "/var/tmp", os.path.dirname(os.path.abspath(__file__)))},
        "prctl": tried(lambda: _LIBC.prctl(PR_SET_NAME, b"facts", 0, 0, 0)),
        "pidfd_open": tried(lambda: os.pidfd_open(os.getpid())),
        "epoll_pwait2": tried(lambda: _LIBC.syscall(SYS_EPOLL_PWAIT2, -1, None, 0, None, None, 0)),
        "landlock": tried(lambda: _LIBC.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)),
        "get_mempolicy": tried(lambda: _LIBC.syscall(SYS_GET_MEMPOLICY, None, None, 0, None, 0)),
    }
