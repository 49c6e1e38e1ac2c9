"""Measuring on a host that refuses calls: this very machine, below a filter that answers them as that host does."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping

from sandbox.kernel import abi, bpf, seccomp, tables
from sandbox.learn.platforms import LAMBDA
from tools.benchmarks.measure import BenchmarkFailed

LAMBDA_LIKE = "Lambda-like host"
"""No Landlock, no prctl, and sockets cannot be duplicated: the supervisor makes them (docs/platforms.md)."""


def lambda_like(measure: Callable[[], float]) -> float:
    """What `measure` returns in a process of such a host. Raises BenchmarkFailed where it raised, or found no host."""
    return below(LAMBDA.refuses, measure)


def below(refused: Mapping[str, int], measure: Callable[[], float]) -> float:
    """What `measure` returns in a child below a filter that answers these calls with an errno."""
    numbers = tables.numbers(abi.MACHINE)
    refuses = [(numbers[name], number) for name, number in refused.items() if name in numbers]
    program = bpf.refusing(refuses, abi.AUDIT_ARCH) + bpf.pack(((bpf.RET_K, 0, 0, bpf.ALLOW),))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            seccomp.set_no_new_privs()
            seccomp.install(program)
            os.write(write, struct.pack("d", measure()))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    said = os.read(read, 8)
    os.close(read)
    os.waitpid(pid, 0)
    if len(said) != 8:
        raise BenchmarkFailed(f"nothing could be measured below a filter that refuses {', '.join(refused)}")
    return float(struct.unpack("d", said)[0])
