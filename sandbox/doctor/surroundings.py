"""What else decides how a function runs here: Landlock, processes, namespaces, memory files, folders, sockets.

Every function here runs in a child.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable
from functools import partial

from sandbox.confine.child import spawn
from sandbox.doctor.isolate import Failed
from sandbox.kernel import abi, landlock
from sandbox.kernel.tables import numbers

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000  # linux/sched.h


def _landlock() -> str:
    found = abi.syscall(abi.number("landlock_create_ruleset"), None, 0, landlock.CREATE_RULESET_VERSION)
    return f"ABI {found}"


def _reaches(name: str, *arguments: int, otherwise: tuple[int, ...]) -> str:
    """A call with arguments that the kernel refuses by one of `otherwise`: any other errno is a refusal of the call."""
    try:
        abi.syscall(numbers(abi.MACHINE)[name], *arguments)
    except OSError as error:
        if error.errno not in otherwise:
            raise
    return "the kernel has it"


def _unshare(flags: int) -> str:
    abi.syscall(numbers(abi.MACHINE)["unshare"], flags)
    return ""


def _process() -> str:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    status = os.waitpid(pid, 0)[1]
    if os.waitstatus_to_exitcode(status) != 7:
        raise Failed(f"the child ended with {os.waitstatus_to_exitcode(status)}")
    return ""


def _shared_descriptors() -> str:
    _, write = os.pipe()
    os.waitpid(spawn(lambda: os.close(write)), 0)
    try:
        os.close(write)
    except OSError:
        return ""
    raise Failed("the tables are apart")


def _memfd() -> str:
    os.write(os.memfd_create("doctor"), b"x")
    return ""


def _folder(path: str) -> str:
    place = f"{path}/doctor-{os.getpid()}"
    os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(place)
    return "can be written"


def _loopback(kind: socket.SocketKind) -> str:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
    return ""


def _thread() -> str:
    import threading

    heard: list[bool] = []
    thread = threading.Thread(target=heard.append, args=(True,))
    try:
        thread.start()
    except RuntimeError as error:
        raise Failed(str(error)) from error
    thread.join(3)
    if not heard:
        raise Failed("it did not run")
    return ""


def _audit_hook() -> str:
    heard: list[str] = []
    sys.addaudithook(lambda name, _arguments: heard.append(name))
    ctypes.CDLL(None)
    if "ctypes.dlopen" not in heard:
        raise Failed("it heard nothing")
    return ""


SENSOR = "Python audit hook"
SHARED = "clone CLONE_FILES"
FORK = "fork"

PROBES: dict[str, Callable[[], str]] = {
    "Landlock": _landlock,
    FORK: _process,
    SHARED: _shared_descriptors,
    "clone3": partial(_reaches, "clone3", 0, 0, otherwise=(22,)),  # EINVAL: no size
    "thread": _thread,
    "user namespace": partial(_unshare, CLONE_NEWUSER),
    "mount namespace": partial(_unshare, CLONE_NEWNS),
    "io_uring": partial(_reaches, "io_uring_setup", 0, 0, otherwise=(14, 22)),  # EFAULT, EINVAL: no parameters
    "memfd_create": _memfd,
    "/dev/shm": partial(_folder, "/dev/shm"),
    "/tmp": partial(_folder, "/tmp"),
    "loopback UDP": partial(_loopback, socket.SOCK_DGRAM),
    "loopback TCP": partial(_loopback, socket.SOCK_STREAM),
    SENSOR: _audit_hook,
}
