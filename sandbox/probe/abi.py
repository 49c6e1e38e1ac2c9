"""The same kernel through its other doors on x86_64: i386's int 0x80 and the x32 numbers.

Both have tables of their own, so a filter that checks only the number refuses the wrong calls.
"""

from __future__ import annotations

import errno

from sandbox.probe import raw
from sandbox.probe.attempt import Attempt, Effect
from sandbox.probe.process import shell_line
from sandbox.probe.scene import MARK, Scene

I386_FORK, I386_GETPID = 2, 20  # arch/x86/entry/syscalls/syscall_32.tbl
X32_BIT = 0x40000000  # __X32_SYSCALL_BIT, asm/unistd.h
X32_EXECVE = X32_BIT | 520  # arch/x86/entry/syscalls/syscall_64.tbl


def _int80_getpid(scene: Scene) -> Effect:
    value = scene.stubs.int80(I386_GETPID, 0, scene.page_address + MARK)
    if value == scene.pid:
        return Effect(True, None, "i386 getpid answered")
    return (
        Effect(False, -value, "i386 getpid")
        if value < 0
        else Effect(False, None, f"i386 getpid said {value}")
    )


def _int80_fork(scene: Scene) -> Effect:
    value = scene.stubs.int80(I386_FORK, 0, scene.page_address + MARK)
    return (
        Effect(True, None, f"i386 fork made process {value}")
        if value > 0
        else Effect(False, -value, "i386 fork")
    )


def _x32(value: int, name: str) -> Effect:
    if value == -errno.ENOSYS:
        # No errno: it says nothing about a filter, which would kill or refuse.
        return Effect(False, None, "kernel has no x32")
    return Effect(False, -value, name)


def _x32_getpid(scene: Scene) -> Effect:
    value = raw.call_number(X32_BIT | raw.NUMBERS["getpid"])
    return Effect(True, None, "x32 getpid answered") if value == scene.pid else _x32(value, "x32 getpid")


def _x32_execve(scene: Scene) -> Effect:
    # x32's argv holds 32-bit pointers; a wrong vector shows as EFAULT, which says that the call got through.
    arguments = scene.vector((b"sh", b"-c", shell_line(scene).encode()))
    return _x32(raw.call_number(X32_EXECVE, scene.pointer(b"/bin/sh"), arguments, 0), "x32 execve")


ABI_ATTEMPTS: tuple[Attempt, ...] = (
    Attempt(
        id="abi-int80",
        group="abi",
        title="Call the kernel by i386's int 0x80 (getpid)",
        technique="T1562.001",
        syscall="getpid",
        args=(),
        run=_int80_getpid,
        live="i386's getpid answers with the pid",
    ),
    Attempt(
        id="abi-int80-fork",
        group="abi",
        title="Make a process by i386's int 0x80",
        technique="T1562.001",
        syscall="fork",
        args=(),
        run=_int80_fork,
        live="a new process sets a word in shared memory",
        evidence="child",
    ),
    Attempt(
        id="abi-x32",
        group="abi",
        title="Call the kernel by an x32 number (getpid)",
        technique="T1562.001",
        syscall="getpid",
        args=(),
        run=_x32_getpid,
        live="x32's getpid answers with the pid, on kernels that have x32",
    ),
    Attempt(
        id="abi-x32-execve",
        group="abi",
        title="Execute a shell by x32's execve",
        technique="T1562.001",
        syscall="execve",
        args=(1, 1, 0),
        run=_x32_execve,
        live="EFAULT or a file that the shell makes, on kernels that have x32",
        reached=(errno.EFAULT,),
        evidence="marker",
    ),
)
