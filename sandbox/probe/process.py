"""Every way to make a process: raw calls through the stub, and what Python and libc make of them."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import multiprocessing.popen_fork  # imported lazily by start(), which a filter would then break
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from functools import partial

from sandbox.probe import raw
from sandbox.probe.attempt import Attempt, Effect
from sandbox.probe.scene import MARK, Scene

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800  # linux/sched.h
CLONE_VFORK, CLONE_NEWUSER = 0x4000, 0x10000000
SPAWN_FLAGS = CLONE_VM | CLONE_VFORK
SIGCHLD = int(signal.SIGCHLD)
SHARED_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND

_system = raw.LIBC.system
_system.argtypes = [ctypes.c_char_p]
_system.restype = ctypes.c_int


def shell_line(scene: Scene) -> str:
    """What a shell runs to show that it ran."""
    return f"echo > {scene.marker}"


def _through_stub(name: str, args: tuple[int, ...], scene: Scene) -> Effect:
    value = scene.stubs.native(raw.NUMBERS[name], args, scene.page_address + MARK)
    if value > 0:
        return Effect(True, None, f"{name} made process {value}")
    return Effect(False, -value, name)


def _clone3(flags: int, scene: Scene) -> Effect:
    # struct clone_args (clone(2)): flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    arguments = struct.pack("=8Q", flags, 0, 0, 0, SIGCHLD, 0, 0, 0)
    return _through_stub("clone3", (scene.pointer(arguments), len(arguments)), scene)


def _fork(scene: Scene) -> Effect:
    child = os.fork()
    if child == 0:
        try:
            scene.mark()
        finally:
            os._exit(0)
    return Effect(True, None, f"os.fork made process {child}")


def _multiprocessing(scene: Scene) -> Effect:
    worker = multiprocessing.get_context("fork").Process(target=scene.mark)
    worker.start()
    return Effect(True, None, f"multiprocessing made process {worker.pid}")


def _posix_spawn(scene: Scene) -> Effect:
    child = os.posix_spawn("/bin/sh", ["sh", "-c", shell_line(scene)], {})
    return Effect(True, None, f"posix_spawn made process {child}")


def _os_system(scene: Scene) -> Effect:
    # os.system() hides why no shell ran; libc's system(), which it is, leaves it in errno.
    ctypes.set_errno(0)
    status = _system(shell_line(scene).encode())
    if status == 0:
        return Effect(True, None, "the shell ran")
    return Effect(False, ctypes.get_errno() or None, f"system() returned {status}")


def _subprocess_run(scene: Scene) -> Effect:
    subprocess.run(["/bin/sh", "-c", shell_line(scene)], check=True)
    return Effect(True, None, "the shell ran")


def _subprocess_shell(scene: Scene) -> Effect:
    subprocess.run(shell_line(scene), shell=True, check=True)
    return Effect(True, None, "the shell ran")


def _popen(scene: Scene) -> Effect:
    status = os.popen(shell_line(scene)).close()
    return Effect(status is None, None, f"the shell left with {status}")


def _raw(id: str, title: str, syscall: str, *args: int) -> Attempt:
    return Attempt(
        id=id,
        group="process",
        title=title,
        technique="T1106",
        syscall=syscall,
        args=args,
        run=partial(_through_stub, syscall, args),
        live="a new process sets a word in shared memory",
        evidence="child",
    )


def _third(id: str, title: str, flags: int) -> Attempt:
    return Attempt(
        id=id,
        group="process",
        title=title,
        technique="T1106",
        syscall="clone3",
        args=(1, 64),
        run=partial(_clone3, flags),
        live="a new process sets a word in shared memory",
        enosys=True,
        evidence="child",
    )


def _python(id: str, title: str, run: Callable[[Scene], Effect], evidence: str, flags: int) -> Attempt:
    what = "a new process sets a word in shared memory" if evidence == "child" else "the shell makes a file"
    technique = "T1106" if evidence == "child" else "T1059.004"
    return Attempt(
        id=id,
        group="process",
        title=title,
        technique=technique,
        syscall="clone",
        args=(flags,),
        run=run,
        live=what,
        evidence=evidence,
    )


PROCESS_ATTEMPTS: tuple[Attempt, ...] = (
    _raw("process-fork", "Make a process with the old fork call", "fork"),
    _raw("process-vfork", "Make a process with vfork", "vfork"),
    _raw("process-clone", "Make a process with clone", "clone", SIGCHLD),
    _raw(
        "process-clone-vfork", "Make a process with clone as posix_spawn does", "clone", SPAWN_FLAGS | SIGCHLD
    ),
    _raw(
        "process-clone-shared",
        "Make a process that shares memory, files and signal handlers",
        "clone",
        SHARED_FLAGS | SIGCHLD,
    ),
    _third("process-clone3", "Make a process with clone3", 0),
    _third("process-clone3-vfork", "Make a process with clone3 as posix_spawn does", SPAWN_FLAGS),
    _python("process-os-fork", "Fork in Python (os.fork)", _fork, "child", SIGCHLD),
    _python("process-multiprocessing", "Start a multiprocessing worker", _multiprocessing, "child", SIGCHLD),
    _python(
        "process-posix-spawn", "Spawn a shell (os.posix_spawn)", _posix_spawn, "marker", SPAWN_FLAGS | SIGCHLD
    ),
    _python(
        "process-os-system", "Run a shell command (os.system)", _os_system, "marker", SPAWN_FLAGS | SIGCHLD
    ),
    _python("process-os-popen", "Run a shell command (os.popen)", _popen, "marker", SPAWN_FLAGS | SIGCHLD),
    _python(
        "process-subprocess",
        "Run a program (subprocess.run)",
        _subprocess_run,
        "marker",
        SPAWN_FLAGS | SIGCHLD,
    ),
    _python(
        "process-subprocess-shell",
        "Run a shell command (subprocess.run, shell=True)",
        _subprocess_shell,
        "marker",
        SPAWN_FLAGS | SIGCHLD,
    ),
    Attempt(
        id="clone-new-user-namespace",
        group="kernel",
        title="Make a process in a new user namespace (clone)",
        technique="T1611",
        syscall="clone",
        args=(CLONE_NEWUSER | SIGCHLD,),
        run=partial(_through_stub, "clone", (CLONE_NEWUSER | SIGCHLD,)),
        live="a new process sets a word in shared memory",
        refused=(errno.EPERM, errno.ENOSPC),
        evidence="child",
    ),
)
