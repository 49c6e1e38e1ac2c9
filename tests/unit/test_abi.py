"""The few numbers that the guard knows by heart are those of the tables."""

from __future__ import annotations

import errno
import os

import pytest

from sandbox.kernel import abi, bpf, seccomp, tables


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_numbers_are_those_of_the_tables(arch: str) -> None:
    """Each number of the guard's own list is the table's, on both architectures, and both lists have the same names."""
    assert set(abi._NUMBERS) == set(tables.ARCHES)
    for name, number in abi._NUMBERS[arch].items():
        assert tables.numbers(arch)[name] == number, name
    assert len({frozenset(names) for names in abi._NUMBERS.values()}) == 1


def test_the_architecture_is_the_machines() -> None:
    """The AUDIT_ARCH_* value and the machine's name are those of the tables."""
    assert tables.AUDIT_ARCH[tables.machine()] == abi.AUDIT_ARCH
    assert os.uname().machine == abi.MACHINE


def test_constants_are_those_of_the_tables() -> None:
    """PR_SET_NO_NEW_PRIVS is what the tables say."""
    assert tables.constants("prctl_option")["PR_SET_NO_NEW_PRIVS"] == seccomp.PR_SET_NO_NEW_PRIVS


def test_syscalls_give_results_and_errnos() -> None:
    """A call returns the kernel's value; a refusal is an OSError with the kernel's errno."""
    numbers = tables.numbers(tables.machine())
    assert abi.syscall(numbers["getpid"]) == os.getpid()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)) as caught:
        abi.syscall(numbers["close"], -1)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        abi.syscall(numbers["openat"], -100, b"/nonexistent/at/all", 0, 0)


def test_a_bare_process_fails_the_canary() -> None:
    """Without a filter the canary is EINVAL, so that a missing filter cannot be taken for one in force."""
    assert seccomp.canary() == errno.EINVAL


def test_programs_survive_packing() -> None:
    """Packing and unpacking are inverse; a broken length is a ValueError."""
    program = ((bpf.LD_ABS, 0, 0, 4), (bpf.JEQ_K, 255, 1, 0xFFFFFFFF), (bpf.RET_K, 0, 0, bpf.ALLOW))
    assert bpf.unpack(bpf.pack(program)) == program
    for data in (b"", b"1234567", bpf.pack(program)[:-1]):
        with pytest.raises(ValueError, match="not an array"):
            bpf.unpack(data)
