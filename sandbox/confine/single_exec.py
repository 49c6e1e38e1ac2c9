"""The one exec: what lets it pass and later ones not, put into the profile's program.

Path, argv and envp are put at random addresses, and execve passes only when all three pointer arguments are these
addresses. The old address space is gone after the exec, so nothing in the new program knows them. The comparison takes
the same time whatever is wrong: a compare that stopped at the first wrong word would give the addresses away half by
half.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from sandbox.bundle import LAUNCHED
from sandbox.errors import InstallRefused
from sandbox.kernel import abi, bpf
from sandbox.kernel.bpf import Instruction, Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ADDRESS_BITS = (47, 39)
"""User space of x86_64 and most aarch64 kernels, then of aarch64 with three levels (arch/arm64/memory.rst)."""
MAP_FIXED_NOREPLACE = 0x100000
TRIES = 64

EXEC, *SIGNALS = LAUNCHED

_NUMBER: Instruction = (bpf.LD_ABS, 0, 0, bpf.OFFSET_NR)

_libc = abi.LIBC
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip
_libc.execve.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class Launch:
    """A program to start, with its path, arguments and variables at three random addresses."""

    def __init__(self, path: str, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        """Raises InstallRefused when no free random address is found."""
        self.path = path
        self.addresses = (
            _place_block(os.fsencode(path) + b"\0"),
            _place_strings([os.fsencode(arg) for arg in argv]),
            _place_strings([os.fsencode(key) + b"=" + os.fsencode(value) for key, value in environ.items()]),
        )

    def exec(self) -> OSError:
        """execve(2) with the three addresses. Returns only on failure, with the error."""
        _libc.execve(*self.addresses)
        code = ctypes.get_errno()
        return OSError(code, os.strerror(code), self.path)


def _random_address(bits: int, size: int, alignment: int) -> int:
    # Half of the space is enough and keeps clear of stack and libraries at its top; 12 bits of page offset included.
    value = int.from_bytes(os.urandom(8), "little") % ((1 << bits) - (1 << 32) - size)
    return (value + (1 << 31)) & -alignment


def _map(size: int) -> tuple[int, int]:
    """Map fresh memory that holds a random address with `size` bytes behind it; returns (address, map start)."""
    problem = 0
    for attempt in range(TRIES):
        address = _random_address(ADDRESS_BITS[0 if attempt < TRIES // 2 else 1], size, 16)
        start = address & -mmap.PAGESIZE
        length = (address + size - start + mmap.PAGESIZE - 1) & -mmap.PAGESIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        found = _libc.mmap(start, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        if found == start:
            return address, start
        problem = ctypes.get_errno()
        if found not in (None, ctypes.c_void_p(-1).value):
            _libc.munmap(ctypes.c_void_p(found), ctypes.c_size_t(length))  # a kernel without the flag (before 4.17)
    raise InstallRefused(
        f"no random address was free in {TRIES} tries: {os.strerror(problem)}",
        where="mmap", todo="raise the memory limit (RLIMIT_AS)",
    )  # fmt: skip


def _place_block(data: bytes) -> int:
    address, _ = _map(len(data))
    ctypes.memmove(address, data, len(data))
    return address


def _place_strings(strings: Sequence[bytes]) -> int:
    """A NULL-terminated array of pointers with its strings behind it."""
    table = 8 * (len(strings) + 1)
    address, _ = _map(table + sum(len(text) + 1 for text in strings))
    pointers = b""
    blob = b""
    for text in strings:
        pointers += struct.pack("<Q", address + table + len(blob))
        blob += text + b"\0"
    data = pointers + bytes(8) + blob
    ctypes.memmove(address, data, len(data))
    return address


def block(
    addresses: Sequence[int] | None, own_pid: int | None, otherwise: int, guarded: Sequence[int] = ()
) -> Program:
    """What goes between head and rest of a program: the one execve passes, signals stay in the process `own_pid`.

    `otherwise` is the action for signals to others, and for a later execve if it is an errno; a notification the
    program gives by itself. Without `addresses` exec is granted. Without `own_pid` signals to others are the program's,
    but for those to the targets in `guarded`: the supervisor and what includes it. The number is loaded before it and
    behind it.

    Inside the program and not a filter of its own: of two filters the stricter answer counts, an errno is stricter than
    a notification, and the kernel takes each filter apart for every syscall number (kernel/seccomp.c).
    """
    # A jump says how many instructions it skips, counted from the one behind it. So a comparison in front of a body
    # skips `len(body)` to get past it, and in a row of comparisons with one target each skips the ones still left.
    # What gets past a body has the number in the accumulator: it was never overwritten, or the last instruction of the
    # body loads it again. A skip one too long misses that load, and the rest compares half an argument as if it were a
    # number; one too short ends in a RET: the handler's exec gets EPERM, or a signal to itself is refused.
    found: list[Instruction] = []
    if addresses is not None:
        after = _NUMBER if otherwise == bpf.USER_NOTIF else (bpf.RET_K, 0, 0, otherwise)
        body = [*_compare(addresses), (bpf.RET_K, 0, 0, bpf.ALLOW), after]
        found += [(bpf.JEQ_K, 0, len(body), abi.number(EXEC)), *body]
    if own_pid is not None:
        compared = [(bpf.JEQ_K, 1, 0, own_pid)]
    else:
        left = range(len(guarded))
        compared = [(bpf.JEQ_K, len(guarded) - 1 - i, i == left[-1], guarded[i] & 0xFFFFFFFF) for i in left]
    if compared:
        target: Instruction = (bpf.LD_ABS, 0, 0, bpf.arg_offset(0, False))
        body = [target, *compared, (bpf.RET_K, 0, 0, otherwise), _NUMBER]
        for left_over, name in zip((3, 2, 1, 0), SIGNALS, strict=True):
            found.append((bpf.JEQ_K, left_over, 0 if left_over else len(body), abi.number(name)))
        found += body
    return tuple(found)


def put(found: Program, program: bytes, head: int) -> bytes:
    """A compiled program with a block behind the first `head` bytes."""
    return program[:head] + bpf.pack(found) + program[head:]


def _compare(addresses: Sequence[int]) -> list[Instruction]:
    """Falls into the next instruction when all three pointers are right, else jumps over it."""
    found: list[Instruction] = []
    for argument, address in enumerate(addresses):
        for high in (False, True):
            found += [
                (bpf.LD_ABS, 0, 0, bpf.arg_offset(argument, high)),
                (bpf.XOR_K, 0, 0, address >> 32 if high else address & 0xFFFFFFFF),
                *([(bpf.OR_X, 0, 0, 0)] if found else []),
                (bpf.TAX, 0, 0, 0),
            ]
    return [*found, (bpf.JEQ_K, 0, 1, 0)]


def exec_refused() -> bool:
    """Whether an execve with other addresses is refused: EPERM; the bare kernel would say EFAULT."""
    _libc.execve(None, None, None)
    return ctypes.get_errno() == errno.EPERM
