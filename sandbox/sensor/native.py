"""The mapped objects on a thread's native stack: where it stands, and the return addresses above its stack pointer.

No unwinder: every word of the stack that lies in executable memory behind a call instruction counts, the innermost
first. So what a returned call has left may be among them; what is there is there, in this order.
"""

from __future__ import annotations

import struct
import sys
import time

from sandbox.kernel import abi
from sandbox.sensor import runtime
from sandbox.sensor.offsets import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from sandbox.kernel.memory import Readable

DEEPEST = 1 << 16
"""Bytes of a stack that are looked through."""
PIECE = 1 << 10
MOST_MAPPINGS = 4096
MOST_SPOTS = 512
SIGNED = 0 if abi.MACHINE == "x86_64" else (1 << 48) - 1
"""The address in a return address, whose upper bits may be its signature (Arm's pointer authentication)."""
NEAR, MOST_RANGES = 1 << 28, 8
DELETED = b" (deleted)"


class Executable:
    """One executable mapping: of a file from `offset` on, or of no file (`path` is '')."""

    __slots__ = ("end", "offset", "path", "start")

    def __init__(self, start: int, end: int, offset: int, path: str) -> None:
        self.start: Final = start
        self.end: Final = end
        self.offset: Final = offset
        self.path: Final = path


def executables(pid: int, deadline: float) -> list[Executable]:
    """The executable mappings of a process, by address. Raises Unreadable where it does not show them in time."""
    found = []
    for line in runtime.lines(pid, deadline):
        fields = line.split(None, 5)
        if len(fields) < 5 or fields[1][2:3] != b"x":
            continue
        path = fields[5].removesuffix(DELETED) if len(fields) > 5 else b""
        start, _, end = fields[0].partition(b"-")
        name = path.decode("utf-8", "surrogateescape").replace("\\012", "\n") if path.startswith(b"/") else ""
        if path not in (b"[vdso]", b"[vsyscall]"):
            found.append(Executable(int(start, 16), int(end, 16), int(fields[2], 16), name))
        if len(found) > MOST_MAPPINGS:
            break
    if time.monotonic() > deadline:
        raise Unreadable("it takes too long")
    return found


class Spot:
    """One address on a stack, in an executable mapping."""

    __slots__ = ("address", "at", "mapping")

    def __init__(self, at: int, address: int, mapping: Executable) -> None:
        self.at: Final = at
        """Where on the stack; 0 for where the thread stands."""
        self.address: Final = address
        self.mapping: Final = mapping

    @property
    def offset(self) -> int:
        """Where in the mapping's file it lies."""
        return self.address - self.mapping.start + self.mapping.offset


def spots(
    pid: int, tid: int, memory: Readable, mappings: Sequence[Executable], deadline: float, code: Readable | None = None
) -> Iterator[Spot]:  # fmt: skip
    """Those of a thread that waits in a call, the innermost first. Raises Unreadable where nobody shows where it is.

    `code` is the memory that has the code, where that is another's.
    """
    pointer, at = registers(pid, tid)
    return walk(pointer, at, memory, mappings, deadline, code)


def walk(
    pointer: int, at: int, memory: Readable, mappings: Sequence[Executable], deadline: float,
    code: Readable | None = None,
) -> Iterator[Spot]:  # fmt: skip
    """The same by stack pointer and program counter. Raises Unreadable after `deadline` (time.monotonic())."""
    code = code or memory
    ranges = _ranges(mappings)
    here = executable_at(mappings, at)
    if here:
        yield Spot(0, at, here)
    count = 0
    for begin in range(pointer, pointer + DEEPEST, PIECE):
        if time.monotonic() > deadline:
            raise Unreadable("it takes too long")
        data = memory.read(begin, PIECE)
        words: Sequence[int] = struct.unpack_from(f"<{len(data) >> 3}Q", data)
        if SIGNED:
            words = [word & SIGNED for word in words]
        for place, word in [(n, word) for n, word in enumerate(words) for start, end in ranges if start <= word < end]:
            mapping = executable_at(mappings, word)
            if mapping is None or not _follows_call(code.read(word - LONGEST_CALL, LONGEST_CALL)):
                continue
            yield Spot(begin + 8 * place, word, mapping)
            count += 1
            if count >= MOST_SPOTS:
                return
        if len(data) < PIECE:
            return


def _ranges(mappings: Sequence[Executable]) -> list[tuple[int, int]]:
    """Few spans of addresses with all that is executable: most words of a stack are in none."""
    found: list[tuple[int, int]] = []
    for mapping in mappings:
        if found and (mapping.start - found[-1][1] < NEAR or len(found) >= MOST_RANGES):
            found[-1] = (found[-1][0], mapping.end)
        else:
            found.append((mapping.start, mapping.end))
    return found


def executable_at(mappings: Sequence[Executable], address: int) -> Executable | None:
    """The mapping that has an address; None for none."""
    low, high = 0, len(mappings)
    while low < high:
        middle = (low + high) >> 1
        if mappings[middle].start <= address:
            low = middle + 1
        else:
            high = middle
    found = mappings[low - 1] if low else None
    return found if found and address < found.end else None


def registers(pid: int, tid: int) -> tuple[int, int]:
    """(stack pointer, program counter) of a thread that sleeps in a call (man 5 proc_pid_syscall).

    Raises Unreadable.
    """
    try:
        with open(f"/proc/{pid}/task/{tid}/syscall", "rb") as file:
            words = file.read(512).split()
        return int(words[-2], 16), int(words[-1], 16)
    except (OSError, ValueError, IndexError) as error:
        raise Unreadable("it does not show where it is") from error


LONGEST_CALL = 7 if abi.MACHINE == "x86_64" else 4
"""Bytes before a return address in which the call must lie."""


def _x86_call(before: bytes) -> bool:
    """Whether a call ends here: E8 with a displacement, or FF /2 with a register or memory (Intel's manual, CALL)."""
    if len(before) < LONGEST_CALL:
        return False
    if before[2] == 0xE8:
        return True
    for size in (2, 3, 4, 6, 7):
        if before[-size] != 0xFF or before[1 - size] >> 3 & 7 != 2:
            continue
        mode, register = before[1 - size] >> 6, before[1 - size] & 7
        needed = 2 + (register == 4 and mode != 3)
        needed += 1 if mode == 1 else 4 if mode == 2 or (mode == 0 and register == 5) else 0
        if needed == size:
            return True
    return False


def _arm_call(before: bytes) -> bool:
    """Whether this is BL or BLR (Arm's manual, C6.2)."""
    if len(before) < LONGEST_CALL:
        return False
    word = int.from_bytes(before, sys.byteorder)
    return word >> 26 == 0b100101 or word & 0xFFFFFC1F == 0xD63F0000


_follows_call = _x86_call if abi.MACHINE == "x86_64" else _arm_call
