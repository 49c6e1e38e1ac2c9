"""Filters that answer some syscalls and allow the rest, from the kernel's facts alone: no library is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.kernel import abi, bpf, seccomp, tables
from sandbox.kernel.bpf import Instruction


def refusing(errnos: Mapping[str, int]) -> bytes:
    """A filter that answers these syscalls with these errnos (0 is a success that did nothing) and allows the rest."""
    return deciding({name: bpf.ERRNO | number for name, number in errnos.items()})


def refuse(errnos: Mapping[str, int]) -> None:
    """Put this process below such a filter, as on a host that refuses these syscalls and sets NoNewPrivs."""
    seccomp.set_no_new_privs()
    seccomp.install(refusing(errnos))


def below(errnos: Mapping[str, int], *command: str) -> list[str]:
    """A command that puts itself below such a filter and then execs `command`, whose first part is a path."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    code = f"import os, sys; sys.path[:0] = {paths}; from refusing_filters import refuse; refuse({dict(errnos)}); "
    return [sys.executable, "-c", code + "os.execv(sys.argv[1], sys.argv[1:])", *command]


def notifying(*names: str) -> bytes:
    """A filter that sends these syscalls to its listener."""
    return deciding(dict.fromkeys(names, bpf.USER_NOTIF))


def deciding(actions: Mapping[str, int], *, foreign: int | None = None) -> bytes:
    """A filter with an action for each of these syscalls, and one for calls by another architecture's numbers."""
    numbers = tables.numbers(abi.MACHINE)
    program: list[Instruction] = []
    if foreign is not None:
        program += [
            (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH), (bpf.JEQ_K, 1, 0, abi.AUDIT_ARCH), (bpf.RET_K, 0, 0, foreign),
        ]  # fmt: skip
    program.append((bpf.LD_ABS, 0, 0, bpf.OFFSET_NR))
    if foreign is not None:
        program += [(bpf.JGE_K, 0, 1, bpf.X32_BIT), (bpf.RET_K, 0, 0, foreign)]
    for name, action in actions.items():
        if name in numbers:
            program += [(bpf.JEQ_K, 0, 1, numbers[name]), (bpf.RET_K, 0, 0, action)]
    return bpf.pack([*program, (bpf.RET_K, 0, 0, bpf.ALLOW)])
