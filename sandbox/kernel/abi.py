"""Raw system calls by number, and the few numbers that the guard itself makes. Standard library, ctypes only."""

from __future__ import annotations

import ctypes
import os

from sandbox.errors import KernelUnsupported

LIBC = ctypes.CDLL(None, use_errno=True)
_syscall = LIBC.syscall
_syscall.restype = ctypes.c_long

# asm/unistd_64.h and asm-generic/unistd.h; tests compare them with the tables.
_NUMBERS = {
    "x86_64": {
        "socket": 41, "clone": 56, "execve": 59, "kill": 62, "ptrace": 101, "prctl": 157, "tgkill": 234,
        "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "process_vm_readv": 310, "seccomp": 317, "execveat": 322,
        "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "openat2": 437, "faccessat2": 439,
        "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
        "process_vm_writev": 311, "kcmp": 312, "capget": 125, "capset": 126,
        "setgroups": 116, "setfsuid": 122, "setfsgid": 123, "mount": 165, "unshare": 272,
    },
    "aarch64": {
        "socket": 198, "clone": 220, "execve": 221, "kill": 129, "ptrace": 117, "prctl": 167, "tgkill": 131,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "process_vm_readv": 270, "seccomp": 277, "execveat": 281,
        "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438, "openat2": 437, "faccessat2": 439,
        "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
        "process_vm_writev": 271, "kcmp": 272, "capget": 90, "capset": 91,
        "setgroups": 159, "setfsuid": 151, "setfsgid": 152, "mount": 40, "unshare": 97,
    },
}  # fmt: skip

MACHINE = os.uname().machine
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(MACHINE, 0)


def number(name: str) -> int:
    """The number of a syscall of ours on this machine. Raises KernelUnsupported on another architecture."""
    try:
        return _NUMBERS[MACHINE][name]
    except KeyError:
        raise KernelUnsupported(
            f"runs on {' and '.join(_NUMBERS)}, this machine is {MACHINE}", todo="use a machine of that kind"
        ) from None


def syscall(nr: int, *args: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """One system call. Integers go as 64-bit registers, bytes and buffers as pointers. Raises OSError."""
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = int(_syscall(ctypes.c_long(nr), *converted))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
