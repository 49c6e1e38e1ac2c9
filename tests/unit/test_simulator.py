"""The simulator: each opcode, every refusal of the kernel's checker, and random programs in both worlds."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.kernel import abi, bpf, seccomp, tables
from sandbox.kernel.bpf import Instruction, Program
from sandbox.policy.simulator import InvalidProgram, check, simulate

ARGS = (0x1111111122222222, 0x3333333344444444, 5, 6, 7, 0x8000000000000001)
NR, ARCH, IP = 0x123, 0xC000003E, 0x7F0011223344


def ret(value: int) -> Instruction:
    """Return a constant."""
    return (bpf.RET_K, 0, 0, value)


RET_A: Instruction = (bpf.RET_A, 0, 0, 0)


def answer(*program: Instruction) -> int:
    """What a program returns for the call above, after the checker took it."""
    check(program)
    return simulate(program, ARCH, NR, ARGS, IP).action


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, NR), (4, ARCH), (8, IP & 0xFFFFFFFF), (12, IP >> 32), (16, 0x22222222), (20, 0x11111111),
        (24, 0x44444444), (28, 0x33333333), (32, 5), (36, 0), (56, 1), (60, 0x80000000),
    ],
)  # fmt: skip
def test_loads_words_of_seccomp_data(offset: int, value: int) -> None:
    """A load sees struct seccomp_data little endian: number, architecture, instruction pointer, arguments."""
    assert answer((bpf.LD_ABS, 0, 0, offset), RET_A) == value


@pytest.mark.parametrize(
    ("with_k", "with_x", "a", "operand", "result"),
    [
        (bpf.ADD_K, bpf.ADD_X, 0xFFFFFFFF, 2, 1),
        (bpf.SUB_K, bpf.SUB_X, 1, 2, 0xFFFFFFFF),
        (bpf.OR_K, bpf.OR_X, 0b1100, 0b1010, 0b1110),
        (bpf.AND_K, bpf.AND_X, 0b1100, 0b1010, 0b1000),
        (bpf.XOR_K, bpf.XOR_X, 0b1100, 0b1010, 0b0110),
        (bpf.LSH_K, bpf.LSH_X, 0x80000001, 1, 2),
        (bpf.RSH_K, bpf.RSH_X, 0x80000001, 1, 0x40000000),
    ],
)
def test_arithmetic(with_k: int, with_x: int, a: int, operand: int, result: int) -> None:
    """Arithmetic is on 32 bits without sign and wraps, with a constant and with X."""
    assert answer((bpf.LD_IMM, 0, 0, a), (with_k, 0, 0, operand), RET_A) == result
    assert answer((bpf.LD_IMM, 0, 0, a), (bpf.LDX_IMM, 0, 0, operand), (with_x, 0, 0, 0), RET_A) == result


@pytest.mark.parametrize(
    ("with_k", "with_x", "a", "operand", "taken"),
    [
        (bpf.JEQ_K, bpf.JEQ_X, 5, 5, True), (bpf.JEQ_K, bpf.JEQ_X, 5, 6, False),
        (bpf.JGT_K, bpf.JGT_X, 6, 5, True), (bpf.JGT_K, bpf.JGT_X, 5, 5, False),
        (bpf.JGT_K, bpf.JGT_X, 0xFFFFFFFF, 1, True),
        (bpf.JGE_K, bpf.JGE_X, 5, 5, True), (bpf.JGE_K, bpf.JGE_X, 4, 5, False),
        (bpf.JSET_K, bpf.JSET_X, 0b110, 0b010, True), (bpf.JSET_K, bpf.JSET_X, 0b101, 0b010, False),
    ],
)  # fmt: skip
def test_jumps(with_k: int, with_x: int, a: int, operand: int, taken: bool) -> None:
    """A conditional jump goes jt or jf further; comparisons are unsigned."""
    wanted = 1 if taken else 2
    assert answer((bpf.LD_IMM, 0, 0, a), (with_k, 0, 1, operand), ret(1), ret(2)) == wanted
    assert answer(
        (bpf.LD_IMM, 0, 0, a), (bpf.LDX_IMM, 0, 0, operand), (with_x, 1, 0, 0), ret(2), ret(1)
    ) == wanted  # fmt: skip


def test_registers_and_scratch_memory() -> None:
    """A and X move into each other and through scratch words, which keep what was written."""
    assert answer((bpf.LD_IMM, 0, 0, 7), (bpf.TAX, 0, 0, 0), (bpf.LD_IMM, 0, 0, 1), (bpf.TXA, 0, 0, 0), RET_A) == 7
    assert answer((bpf.LD_IMM, 0, 0, 7), (bpf.ST, 0, 0, 15), (bpf.LD_IMM, 0, 0, 1), (bpf.LD_MEM, 0, 0, 15), RET_A) == 7
    assert answer(
        (bpf.LDX_IMM, 0, 0, 9), (bpf.STX, 0, 0, 0), (bpf.LDX_IMM, 0, 0, 0), (bpf.LDX_MEM, 0, 0, 0),
        (bpf.TXA, 0, 0, 0), RET_A,
    ) == 9  # fmt: skip


def test_unconditional_jump_and_counts() -> None:
    """A jump skips k instructions, and only what ran is counted and noted as looked at."""
    program = (
        (bpf.LD_ABS, 0, 0, 4), (bpf.JA, 0, 0, 2), ret(1), ret(2), (bpf.LD_ABS, 0, 0, 60), ret(3), (bpf.LD_ABS, 0, 0, 8),
        ret(4),
    )  # fmt: skip
    check(program)
    found = simulate(program, ARCH, NR, ARGS)
    assert (found.action, found.instructions, found.words) == (3, 4, 1 << 1 | 1 << 15)


VALID: Program = ((bpf.LD_ABS, 0, 0, 0), ret(bpf.ALLOW))
INVALID: dict[str, Program] = {
    "empty": (),
    "too long": (ret(bpf.ALLOW),) * (bpf.MAX_INSTRUCTIONS + 1),
    "no return at the end": ((bpf.LD_ABS, 0, 0, 0),),
    "a jump at the end": (ret(0), (bpf.JA, 0, 0, 0)),
    "unaligned load": ((bpf.LD_ABS, 0, 0, 2), ret(0)),
    "load behind the data": ((bpf.LD_ABS, 0, 0, 64), ret(0)),
    "load of an ancillary word": ((bpf.LD_ABS, 0, 0, 0xFFFFF000), ret(0)),
    "jump out of the program": ((bpf.JA, 0, 0, 1), ret(0)),
    "jump around the word": ((bpf.JA, 0, 0, 0xFFFFFFFF), ret(0)),
    "true branch out of the program": ((bpf.JEQ_K, 1, 0, 0), ret(0)),
    "false branch out of the program": ((bpf.JEQ_K, 0, 1, 0), ret(0)),
    "byte load": ((0x30, 0, 0, 0), ret(0)),
    "half-word load": ((0x28, 0, 0, 0), ret(0)),
    "indirect load": ((0x40, 0, 0, 0), ret(0)),
    "header length load": ((0xB1, 0, 0, 0), ret(0)),
    "remainder": ((0x94, 0, 0, 3), ret(0)),
    "division by zero": ((0x34, 0, 0, 0), ret(0)),
    "return of X": ((bpf.LDX_IMM, 0, 0, 0), (0x0E, 0, 0, 0)),
    "no opcode": ((0xFF, 0, 0, 0), ret(0)),
    "extended BPF": ((0x95, 0, 0, 0), ret(0)),
    "opcode beyond a byte": ((0x106, 0, 0, 0), ret(0)),
    "shift left by the width": ((bpf.LSH_K, 0, 0, 32), ret(0)),
    "shift right by the width": ((bpf.RSH_K, 0, 0, 32), ret(0)),
    "scratch word 16": ((bpf.ST, 0, 0, 16), ret(0)),
    "scratch word 16 of X": ((bpf.STX, 0, 0, 16), ret(0)),
    "scratch word 16 read": ((bpf.LD_MEM, 0, 0, 16), ret(0)),
    "scratch word read before it is written": ((bpf.LD_MEM, 0, 0, 3), ret(0)),
    "the same into X": ((bpf.ST, 0, 0, 2), (bpf.LDX_MEM, 0, 0, 3), ret(0)),
    "written on one way only": ((bpf.JEQ_K, 0, 1, 0), (bpf.ST, 0, 0, 0), (bpf.LD_MEM, 0, 0, 0), ret(0)),
    "read where nothing comes": (ret(bpf.ALLOW), (bpf.LD_MEM, 0, 0, 1), ret(0)),
    "written behind a jump over it": ((bpf.JA, 0, 0, 1), (bpf.ST, 0, 0, 0), (bpf.LD_MEM, 0, 0, 0), ret(0)),
}
TAKEN: dict[str, Program] = {
    "the shortest": (ret(bpf.ALLOW),),
    "the longest": (ret(bpf.ALLOW),) * bpf.MAX_INSTRUCTIONS,
    "unreachable instructions": (ret(bpf.ALLOW), (bpf.LD_ABS, 0, 0, 0), ret(0)),
    "written on both ways": (
        (bpf.JEQ_K, 0, 2, 0), (bpf.ST, 0, 0, 0), (bpf.JA, 0, 0, 1), (bpf.STX, 0, 0, 0), (bpf.LD_MEM, 0, 0, 0),
        ret(bpf.ALLOW),
    ),
    "return of A": ((bpf.LD_IMM, 0, 0, bpf.ALLOW), RET_A),
    "every opcode that compiled filters use": (
        (bpf.LD_ABS, 0, 0, 60), (bpf.AND_K, 0, 0, 1), (bpf.JGT_K, 0, 0, 1), (bpf.JGE_K, 0, 0, 1), (bpf.JSET_K, 0, 0, 1),
        (bpf.XOR_K, 0, 0, 9), (bpf.ST, 0, 0, 15), (bpf.LDX_MEM, 0, 0, 15), (bpf.OR_X, 0, 0, 0), ret(bpf.ALLOW),
    ),
}  # fmt: skip


DATA = 0xFFFF  # linux/seccomp.h: SECCOMP_RET_DATA
CALL = ("getppid", (0x1234567800000001, 0xFFFFFFFF00000000, 3, 0, 0x80000000, 0xCAFEBABE12345678))
"""What random programs decide about; it takes no arguments, so that the kernel accepts any."""


def in_kernel(program: Program) -> int | None:
    """What a child gets for CALL under the program (errno or result 0); None when the kernel refuses the program."""
    data = bpf.pack(program)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            seccomp.set_no_new_privs()
            os.write(write, b"s")
            seccomp.install(data)
            abi.syscall(tables.numbers(abi.MACHINE)[CALL[0]], *[value - (value >> 63 << 64) for value in CALL[1]])
            os.write(write, b"0")
        except OSError as error:
            os.write(write, str(error.errno).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert said[:1] == b"s"
    number = int(said[1:])
    return None if number == errno.EINVAL else number


def beside_everything(body: Program) -> Program:
    """A program that lets every call but CALL pass, and runs the body for CALL; the body's value becomes the errno."""
    nr = tables.numbers(abi.MACHINE)[CALL[0]]
    return (
        (bpf.LD_ABS, 0, 0, 0), (bpf.JEQ_K, 1, 0, nr), ret(bpf.ALLOW), *body,
        (bpf.AND_K, 0, 0, 0xFFF), (bpf.JEQ_K, 0, 1, errno.EINVAL), (bpf.LD_IMM, 0, 0, errno.ERANGE),
        (bpf.OR_K, 0, 0, bpf.ERRNO), RET_A,
    )  # fmt: skip


def simulated(program: Program) -> int | None:
    """What the checker and the simulator say of the same."""
    try:
        check(program)
    except InvalidProgram:
        return None
    found = simulate(program, abi.AUDIT_ARCH, tables.numbers(abi.MACHINE)[CALL[0]], CALL[1])
    assert found.action & ~DATA == bpf.ERRNO
    return found.action & DATA


@pytest.mark.parametrize("name", INVALID)
def test_refuses_what_the_kernel_refuses(name: str) -> None:
    """Each kind of invalid program is refused by the checker and by the running kernel."""
    with pytest.raises(InvalidProgram):
        check(INVALID[name])
    if len(INVALID[name]) < 0x10000:
        assert in_kernel(INVALID[name]) is None


@pytest.mark.parametrize("name", TAKEN)
def test_takes_what_the_kernel_takes(name: str) -> None:
    """Valid programs up to the limits pass the checker and install in the running kernel."""
    check(TAKEN[name])
    assert in_kernel(TAKEN[name]) == 0


WORDS = (0, 4, *range(16, 64, 4))  # without the instruction pointer, which no simulation knows
EDGES = [0, 1, 2, 31, 0xFF, 0x12345678, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
VALUES = st.sampled_from(EDGES) | st.integers(0, 0xFFFFFFFF)
PLAIN = st.one_of(
    st.builds(lambda k: (bpf.LD_ABS, 0, 0, k), st.sampled_from(WORDS)),
    st.builds(lambda code, k: (code, 0, 0, k), st.sampled_from([bpf.LD_IMM, bpf.LDX_IMM]), VALUES),
    st.builds(
        lambda code, k: (code, 0, 0, k), st.sampled_from([bpf.ST, bpf.STX, bpf.LD_MEM, bpf.LDX_MEM]), st.integers(0, 1)
    ),
    st.builds(
        lambda code, k: (code, 0, 0, k),
        st.sampled_from(
            [bpf.ADD_K, bpf.SUB_K, bpf.OR_K, bpf.AND_K, bpf.XOR_K, bpf.ADD_X, bpf.SUB_X, bpf.OR_X, bpf.AND_X, bpf.XOR_X]
        ),
        VALUES,
    ),
    st.builds(
        lambda code, k: (code, 0, 0, k),
        st.sampled_from([bpf.LSH_K, bpf.RSH_K]), st.integers(0, 33),
    ),
    st.builds(lambda code: (code, 0, 0, 0), st.sampled_from([bpf.TAX, bpf.TXA])),
    st.builds(
        lambda code, jt, jf, k: (code, jt, jf, k),
        st.sampled_from(
            [bpf.JEQ_K, bpf.JGT_K, bpf.JGE_K, bpf.JSET_K, bpf.JEQ_X, bpf.JGT_X, bpf.JGE_X, bpf.JSET_X]
        ),
        st.integers(0, 3), st.integers(0, 3), VALUES,
    ),
    st.builds(lambda k: (bpf.JA, 0, 0, k), st.integers(0, 3)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PLAIN, max_size=24), st.sampled_from([0, 12, 24]))
def test_random_programs_mean_the_same_in_the_kernel(body: list[Instruction], shift: int) -> None:
    """The kernel and the simulator take the same programs and compute the same, every bit of the result looked at."""
    shifted: list[Instruction] = [(bpf.RSH_K, 0, 0, shift)] if shift else []
    landing: list[Instruction] = [(bpf.OR_K, 0, 0, 0)] * 3  # the furthest that a jump of the body may go
    program = beside_everything((*body, *landing, *shifted))
    assert in_kernel(program) == simulated(program)
