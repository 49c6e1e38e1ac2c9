"""Facts about Linux as data: syscall numbers, how wide the kernel reads each argument, named constants.

The files in data/ are made by tools/tables. They are read when first asked for, and this module imports next
to nothing, because `bootstrap` loads it on its way to the handler.

    >>> numbers("aarch64")["openat"], width("openat", 2), name_of("socket_family", 10)
    (56, 32, 'AF_INET6')
"""

from __future__ import annotations

import os
from types import MappingProxyType

from sandbox.errors import KernelUnsupported
from sandbox.memo import memo
from sandbox.plain_json import parse

# typing and collections are left out of the import: they would take longer than all the rest of it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

LINUX = "6.18"
"""The newest kernel that the tables know; a syscall of a later one is unknown, not denied."""

ARCHES = ("x86_64", "aarch64")

AUDIT_ARCH: dict[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What seccomp_data.arch holds (linux/audit.h: ELF machine, 64-bit and little-endian bits)."""

EXECS = ("execve", "execveat")
"""The calls that start a program."""
OPENS = ("open", "creat", "openat", "openat2")
"""The calls that open a file by its path."""
MKDIRS = ("mkdir", "mkdirat")
"""The calls that make a folder."""
HELD_BY_PATH = (
    "open", "openat", "creat", "truncate", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2",
    "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir",
)  # fmt: skip
"""The calls whose paths Landlock holds, without exec; stat, access, readlink and chdir it does not (man 7 landlock)."""
ATTRIBUTES = (
    "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes", "futimesat", "utimensat",
    "setxattr", "lsetxattr", "setxattrat", "removexattr", "lremovexattr", "removexattrat",
)  # fmt: skip
"""The calls that change mode, owner, times or extended attributes by a path. Landlock has no right for them."""
BY_PATH = (*HELD_BY_PATH, *ATTRIBUTES)
"""The calls that are looked at: what they change or open a profile lists by its path."""
MOVE_ROOT = (
    "mount", "umount2", "move_mount", "open_tree", "open_tree_attr", "mount_setattr", "fsmount", "pivot_root", "chroot",
    "unshare", "setns",
)  # fmt: skip
"""The calls after which a path may lead to another file, or which enter a place where it does (man 7 namespaces)."""
WITH_DESTINATION = ("connect", "sendto", "sendmsg", "sendmmsg")
"""The calls that may name a socket address to go to, in memory."""
LISTENS = ("bind", "listen")
"""The calls by which a socket comes to wait for others."""
NETLINK = "AF_NETLINK "
"""How the argument class of a netlink socket begins."""

_DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


@memo
def _load(name: str) -> Any:
    with open(os.path.join(_DATA, name), encoding="utf-8") as file:
        return parse(file.read())


def machine() -> str:
    """The architecture of this process, one of ARCHES.

    Raises KernelUnsupported for any other machine.
    """
    name = os.uname().machine
    if name not in ARCHES:
        raise KernelUnsupported(
            f"no syscall table for {name}",
            where="uname",
            todo=f"run on one of {', '.join(ARCHES)}",
        )
    return name


@memo
def numbers(arch: str) -> Mapping[str, int]:
    """Syscall name to number, in the order of the numbers; without the x32 numbers 512 to 547.

    Raises ValueError for an architecture that is not in ARCHES.
    """
    _known(arch)
    table: dict[str, int] = _load("syscalls.json")[arch]
    return MappingProxyType(table)


@memo
def names(arch: str) -> Mapping[int, str]:
    """Syscall number to name. Raises ValueError for an architecture that is not in ARCHES."""
    return MappingProxyType({number: name for name, number in numbers(arch).items()})


@memo
def highest(arch: str) -> int:
    """The highest syscall number of Linux 6.18; what lies above is newer than the tables."""
    return max(numbers(arch).values())


@memo
def holes(arch: str) -> tuple[tuple[int, int], ...]:
    """Ranges (first, last) of numbers below `highest` that no syscall has, ascending."""
    used = sorted(numbers(arch).values())
    pairs = zip([-1, *used], used, strict=False)
    return tuple((before + 1, after - 1) for before, after in pairs if after - before > 1)


@memo
def every_name() -> frozenset[str]:
    """The names of all syscalls of all architectures."""
    return frozenset(name for arch in ARCHES for name in numbers(arch))


def argument_count(syscall: str) -> int:
    """How many arguments the kernel reads: 0 to 6; 0 as well where a number has no entry point behind it.

    Raises ValueError for an unknown syscall.
    """
    return len(_arguments(syscall))


def width(syscall: str, argument: int) -> Literal[32, 64]:
    """Bits of the register that the kernel reads for argument 0 to 5; a filter compares as many.

    From the SYSCALL_DEFINE of Linux 6.18, narrowed where the kernel drops the upper half later whatever the
    other arguments say (clone flags: lower_32_bits in kernel/fork.c; all reasons: data/signatures.json). The
    last arguments of fcntl, ioctl, prctl, keyctl and kcmp are 64, although some commands use but 32 of them.
    mode_t is 16 bits in a register read as 32. Raises ValueError for an unknown syscall or an argument that
    it does not have.
    """
    return 32 if _argument(syscall, argument) == "32" else 64


def is_pointer(syscall: str, argument: int) -> bool:
    """Whether the argument is an address of the task, behind which a filter cannot look.

    True as well for clone's last two arguments, whose order differs between x86_64 and arm64: one is the
    thread pointer, the other child_tid. Addresses that the kernel declares unsigned long (mmap, mprotect,
    brk) are numbers here. Raises ValueError for an unknown syscall or an argument that it does not have.
    """
    return _argument(syscall, argument) == "ptr"


@memo
def argument_kinds() -> Mapping[str, Sequence[str]]:
    """What each argument of a syscall is, where its width alone does not say it: `path`, `dirfd`, `open_flags` ...

    By hand, from the man pages; `sockaddr:2` is an address whose length stands in argument 2. An argument that a row
    does not hold, or a syscall without one, is a plain number or pointer: data/arguments.json.
    """
    table: Mapping[str, Sequence[str]] = _load("arguments.json")
    return table


@memo
def paths(syscall: str) -> tuple[tuple[int | None, int], ...]:
    """Where a call names paths: (argument of the directory's descriptor or None, argument of the path), in order."""
    row = argument_kinds().get(syscall, ())
    return tuple((i - 1 if i and row[i - 1] == "dirfd" else None, i) for i, kind in enumerate(row) if kind == "path")


@memo
def address_arguments(syscall: str) -> tuple[int, int] | None:
    """Where a call names one socket address: (argument of the address, argument of its length); None for no such."""
    for i, kind in enumerate(argument_kinds().get(syscall, ())):
        name, _, length = kind.partition(":")
        if name == "sockaddr":
            return i, int(length)
    return None


@memo
def groups() -> tuple[str, ...]:
    """The names of the groups of constants."""
    return tuple(_load("constants.json")["groups"])


@memo
def constants(group: str, arch: str = "x86_64") -> Mapping[str, int]:
    """Name to value of one group of constants; 64-bit values are unsigned.

    Socket options are one group for each level: "socket_option.SOL_SOCKET", "socket_option.IPPROTO_TCP",
    "socket_option.IPPROTO_IP", "socket_option.IPPROTO_IPV6". Values are the kernel's: O_LARGEFILE is not 0
    as in a 64-bit C library. Raises ValueError for an unknown group or architecture.
    """
    _known(arch)
    if group not in groups():
        raise ValueError(f"no group of constants {group!r}; there are {', '.join(groups())}")
    entries: dict[str, int | dict[str, int]] = _load("constants.json")["groups"][group]
    spread = {name: value.get(arch) if isinstance(value, dict) else value for name, value in entries.items()}
    return MappingProxyType({name: value for name, value in spread.items() if value is not None})


def name_of(group: str, value: int, arch: str = "x86_64") -> str | None:
    """The name of a value in a group, of several the usual one (AF_UNIX, SIGABRT); None when it has none.

    Raises ValueError for an unknown group or architecture.
    """
    return _names_of(group, arch).get(value)


@memo
def _names_of(group: str, arch: str) -> Mapping[int, str]:
    aliases = _load("constants.json")["aliases"]
    return {value: name for name, value in constants(group, arch).items() if name not in aliases}


def _known(arch: str) -> None:
    if arch not in ARCHES:
        raise ValueError(f"no tables for architecture {arch!r}; there are {', '.join(ARCHES)}")


def _arguments(syscall: str) -> list[str]:
    table: dict[str, list[str]] = _load("widths.json")["syscalls"]
    if syscall not in table:
        raise ValueError(f"no syscall {syscall!r} in Linux {LINUX} on {' or '.join(ARCHES)}")
    return table[syscall]


def _argument(syscall: str, argument: int) -> str:
    row = _arguments(syscall)
    if not 0 <= argument < len(row):
        raise ValueError(f"{syscall} has {len(row)} arguments, none is number {argument} (counted from 0)")
    return row[argument]
