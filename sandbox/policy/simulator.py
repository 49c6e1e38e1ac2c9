"""An interpreter for classic BPF as the kernel runs it for seccomp, so that a filter can be judged without a kernel.

    >>> simulate(program, AUDIT_ARCH["x86_64"], 59, (0,) * 6)
    FilterRun(action=327681, instructions=14, words=3)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.kernel import bpf
from sandbox.kernel.bpf import Program

WORD = 0xFFFFFFFF


class InvalidProgram(ValueError):
    """The kernel would not take this program (net/core/filter.c, seccomp_check_filter)."""


@dataclass(frozen=True)
class FilterRun:
    """What a filter answers, how many instructions it took, and what it looked at on its way.

    `words` has bit i set when the 32-bit word i of struct seccomp_data was loaded: a call that differs only in the
    other words takes the same way to the same answer.
    """

    action: int
    instructions: int
    words: int


def check(program: Program) -> None:
    """Refuse what the kernel would refuse: unknown opcodes, jumps out of the program, unaligned loads, a missing end.

    Stricter than the kernel in one thing: multiplication, division, negation and the length of seccomp_data, which no
    filter of ours needs, are unknown here. Raises InvalidProgram.
    """
    if not 0 < len(program) <= bpf.MAX_INSTRUCTIONS:
        raise InvalidProgram(f"{len(program)} instructions; the kernel takes 1 to {bpf.MAX_INSTRUCTIONS}")
    for at, (code, jt, jf, k) in enumerate(program):
        if code not in _KNOWN:
            raise InvalidProgram(f"instruction {at}: opcode {code:#x} is not allowed in seccomp")
        if code == bpf.LD_ABS and (k % 4 or k >= 64):
            raise InvalidProgram(f"instruction {at}: load at offset {k} of a 64-byte struct seccomp_data")
        if code in (bpf.ST, bpf.STX, bpf.LD_MEM, bpf.LDX_MEM) and k >= 16:
            raise InvalidProgram(f"instruction {at}: scratch word {k} of 16")
        if code in (bpf.LSH_K, bpf.RSH_K) and k >= 32:
            raise InvalidProgram(f"instruction {at}: shifts a 32-bit word by {k}")
        if code == bpf.JA and at + 1 + k >= len(program):
            raise InvalidProgram(f"instruction {at}: jumps out of the program")
        if code & 7 == 5 and code != bpf.JA and at + 1 + max(jt, jf) >= len(program):
            raise InvalidProgram(f"instruction {at}: jumps out of the program")
    if program[-1][0] not in (bpf.RET_K, bpf.RET_A):
        raise InvalidProgram("the last instruction does not return")
    _check_scratch(program)


def _check_scratch(program: Program) -> None:
    """No scratch word is read that was not written on every way there (net/core/filter.c, check_load_and_stores)."""
    written = [0xFFFF] * len(program)  # for each instruction, what all jumps to it have written
    valid = 0
    for at, (code, jt, jf, k) in enumerate(program):
        valid &= written[at]
        if code in (bpf.ST, bpf.STX):
            valid |= 1 << k
        elif code in (bpf.LD_MEM, bpf.LDX_MEM):
            if not valid >> k & 1:
                raise InvalidProgram(f"instruction {at}: scratch word {k} is read before it is written")
        elif code & 7 == 5:
            for step in (k,) if code == bpf.JA else (jt, jf):
                written[at + 1 + step] &= valid
            valid = 0xFFFF


def simulate(
    program: Program, arch: int, nr: int, args: Sequence[int], ip: int = 0, way: list[int] | None = None
) -> FilterRun:
    """Run a checked program on one call: an AUDIT_ARCH_* value, the number, six 64-bit arguments.

    `way` receives the position of each instruction that ran.
    """
    words = struct.unpack("<16I", struct.pack("<IIQ6Q", nr & WORD, arch, ip, *args))
    a = x = at = count = seen = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        if way is not None:
            way.append(at)
        at += 1
        count += 1
        if code == bpf.LD_ABS:
            a = words[k >> 2]
            seen |= 1 << (k >> 2)
        elif code == bpf.JEQ_K:
            at += jt if a == k else jf
        elif code == bpf.JGE_K:
            at += jt if a >= k else jf
        elif code == bpf.JGT_K:
            at += jt if a > k else jf
        elif code == bpf.RET_K:
            return FilterRun(k, count, seen)
        elif code == bpf.AND_K:
            a &= k
        elif code == bpf.JSET_K:
            at += jt if a & k else jf
        elif code == bpf.JA:
            at += k
        elif code == bpf.RET_A:
            return FilterRun(a, count, seen)
        elif code == bpf.ST:
            memory[k] = a
        elif code == bpf.STX:
            memory[k] = x
        elif code == bpf.LD_MEM:
            a = memory[k]
        elif code == bpf.LDX_MEM:
            x = memory[k]
        elif code == bpf.LD_IMM:
            a = k
        elif code == bpf.LDX_IMM:
            x = k
        elif code == bpf.TAX:
            x = a
        elif code == bpf.TXA:
            a = x
        elif code in _JUMP_X:
            at += jt if _JUMP_X[code](a, x) else jf
        else:
            operation, from_x = _ALU[code]
            a = operation(a, x if from_x else k) & WORD


_JUMP_X: dict[int, Callable[[int, int], bool]] = {
    bpf.JEQ_X: lambda a, x: a == x,
    bpf.JGT_X: lambda a, x: a > x,
    bpf.JGE_X: lambda a, x: a >= x,
    bpf.JSET_X: lambda a, x: bool(a & x),
}
_ALU: dict[int, tuple[Callable[[int, int], int], bool]] = {
    bpf.ADD_K: (lambda a, v: a + v, False), bpf.ADD_X: (lambda a, v: a + v, True),
    bpf.SUB_K: (lambda a, v: a - v, False), bpf.SUB_X: (lambda a, v: a - v, True),
    bpf.OR_K: (lambda a, v: a | v, False), bpf.OR_X: (lambda a, v: a | v, True),
    bpf.AND_K: (lambda a, v: a & v, False), bpf.AND_X: (lambda a, v: a & v, True),
    bpf.XOR_K: (lambda a, v: a ^ v, False), bpf.XOR_X: (lambda a, v: a ^ v, True),
    bpf.LSH_K: (lambda a, v: a << (v & 31), False), bpf.LSH_X: (lambda a, v: a << (v & 31), True),
    bpf.RSH_K: (lambda a, v: a >> (v & 31), False), bpf.RSH_X: (lambda a, v: a >> (v & 31), True),
}  # fmt: skip
_KNOWN = frozenset(
    {bpf.LD_ABS, bpf.LD_IMM, bpf.LD_MEM, bpf.LDX_IMM, bpf.LDX_MEM, bpf.ST, bpf.STX, bpf.JA, bpf.JEQ_K, bpf.JGT_K}
    | {bpf.JGE_K, bpf.JSET_K, bpf.RET_K, bpf.RET_A, bpf.TAX, bpf.TXA}
    | set(_JUMP_X)
    | set(_ALU)
)
