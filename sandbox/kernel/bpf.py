"""Classic BPF as seccomp(2) takes it: opcodes, return actions, packing. Standard library only, cheap to import.

An instruction is a tuple (code, jt, jf, k) of struct sock_filter (linux/filter.h); a program is a sequence of them.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Instruction = tuple[int, int, int, int]
Program = tuple[Instruction, ...]

# linux/bpf_common.h: class | size or operation | mode or source.
LD_ABS = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = word at offset k of struct seccomp_data
LD_IMM = 0x00
LD_MEM = 0x60
LDX_IMM = 0x01
LDX_MEM = 0x61
ST = 0x02
STX = 0x03
ADD_K, ADD_X = 0x04, 0x0C
SUB_K, SUB_X = 0x14, 0x1C
OR_K, OR_X = 0x44, 0x4C
AND_K, AND_X = 0x54, 0x5C
LSH_K, LSH_X = 0x64, 0x6C
RSH_K, RSH_X = 0x74, 0x7C
XOR_K, XOR_X = 0xA4, 0xAC
JA = 0x05
JEQ_K, JEQ_X = 0x15, 0x1D
JGT_K, JGT_X = 0x25, 0x2D
JGE_K, JGE_X = 0x35, 0x3D
JSET_K, JSET_X = 0x45, 0x4D
RET_K, RET_A = 0x06, 0x16
TAX, TXA = 0x07, 0x87

# struct seccomp_data (linux/seccomp.h): nr, arch, instruction_pointer, args[6]; little endian on both architectures.
OFFSET_NR = 0
OFFSET_ARCH = 4
OFFSET_ARGS = 16

# linux/seccomp.h
KILL_PROCESS = 0x80000000
TRAP = 0x00030000
ERRNO = 0x00050000
USER_NOTIF = 0x7FC00000
ALLOW = 0x7FFF0000

X32_BIT = 0x40000000  # asm/unistd.h: __X32_SYSCALL_BIT
NEGATIVE = 0x80000000  # the number is an int; from here on it is negative and stands for no syscall of any kind

FAR = 255
"""Instructions that a conditional jump can skip (linux/filter.h: __u8 jt, jf)."""
MAX_INSTRUCTIONS = 4096  # linux/bpf_common.h: BPF_MAXINSNS


def returning(nr: int, alternatives: Iterable[Sequence[Sequence[int]]], action: int) -> Program:
    """What returns an action for a syscall with arguments of one of the alternatives, and else goes on behind itself.

    An alternative is a sequence of (argument, mask, value), all of which hold.
    """
    body: list[Instruction] = []
    for conditions in alternatives:
        compared: list[Instruction] = []
        for argument, mask, value in conditions:
            for high in (True, False):
                part = mask >> 32 if high else mask & 0xFFFFFFFF
                if part:
                    compared += [
                        (LD_ABS, 0, 0, arg_offset(argument, high)), (AND_K, 0, 0, part),
                        (JEQ_K, 0, 0, value >> 32 if high else value & 0xFFFFFFFF),
                    ]  # fmt: skip
        # What differs jumps behind this alternative, which ends with its RET.
        after = len(compared) + 1
        body += [
            (code, 0, after - i - 1, k) if code == JEQ_K else (code, 0, 0, k)
            for i, (code, _, _, k) in enumerate(compared)
        ]
        body.append((RET_K, 0, 0, action))
    return ((LD_ABS, 0, 0, OFFSET_NR), (JEQ_K, 1, 0, nr), (JA, 0, 0, len(body)), *body)


def before(body: Program, audit_arch: int) -> Program:
    """What goes before a program, for calls of this architecture; the program decides about all others."""
    return ((LD_ABS, 0, 0, OFFSET_ARCH), (JEQ_K, 1, 0, audit_arch), (JA, 0, 0, len(body)), *body)


def refusing(refuses: Iterable[tuple[int, int]], audit_arch: int) -> bytes:
    """What goes before a program, as bytes: fails the syscalls of these numbers with these errnos."""
    body: list[Instruction] = []
    for nr, number in refuses:
        body += returning(nr, ((),), ERRNO | number)
    return pack(before(tuple(body), audit_arch)) if body else b""


def pack(program: Iterable[Instruction]) -> bytes:
    """The program as an array of struct sock_filter, 8 bytes an instruction."""
    return b"".join([struct.pack("<HBBI", code, jt, jf, k) for code, jt, jf, k in program])


def unpack(data: bytes) -> Program:
    """The instructions of an array of struct sock_filter. Raises ValueError for a broken length."""
    if len(data) % 8 or not data:
        raise ValueError(f"{len(data)} bytes are not an array of 8-byte instructions")
    return tuple(struct.iter_unpack("<HBBI", data))


def arg_offset(argument: int, high: bool) -> int:
    """Offset of one 32-bit half of an argument in struct seccomp_data."""
    return OFFSET_ARGS + 8 * argument + (4 if high else 0)
