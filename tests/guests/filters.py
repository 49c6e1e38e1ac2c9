"""The filters that hosts put above a process, as programs: those of containers, and of hosts without listeners."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.kernel import abi, bpf, tables
from sandbox.policy.oci_file import load

FLAG_NEW_LISTENER = 1 << 3  # linux/seccomp.h
SET_MODE_FILTER = 1
MOBY = Path(__file__).with_name("moby-default.json")


def without_listeners(action: int) -> bytes:
    """A filter with an action for seccomp(2) with NEW_LISTENER, and with another operation than SET_MODE_FILTER."""
    return bpf.pack(
        [
            (bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), (bpf.JEQ_K, 0, 5, abi.number("seccomp")),
            (bpf.LD_ABS, 0, 0, bpf.arg_offset(0, False)), (bpf.JEQ_K, 0, 2, SET_MODE_FILTER),
            (bpf.LD_ABS, 0, 0, bpf.arg_offset(1, False)), (bpf.JSET_K, 0, 1, FLAG_NEW_LISTENER),
            (bpf.RET_K, 0, 0, action), (bpf.RET_K, 0, 0, bpf.ALLOW),
        ]
    )  # fmt: skip


def containers() -> bytes:
    """The filter of moby-default.json, built with libseccomp as container runtimes build it."""
    import pyseccomp

    seccomp: dict[str, Any] = load(MOBY.read_bytes(), str(MOBY))["linux"]["seccomp"]
    filter_ = pyseccomp.SyscallFilter(pyseccomp.ERRNO(seccomp["defaultErrnoRet"]))
    # By number, which libseccomp takes for the own architecture alone; the same list for 32-bit calls is left out.
    filter_.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.ALLOW)
    numbers = tables.numbers(abi.MACHINE)
    for entry in seccomp["syscalls"]:
        allowed = entry["action"] == "SCMP_ACT_ALLOW"
        action = pyseccomp.ALLOW if allowed else pyseccomp.ERRNO(entry["errnoRet"])
        arguments = [_compare(pyseccomp, argument) for argument in entry.get("args", ())]
        for name in entry["names"]:
            if name in numbers:
                filter_.add_rule(action, numbers[name], *arguments)
    with tempfile.TemporaryFile() as file:
        filter_.export_bpf(file)
        file.seek(0)
        return file.read()


def _compare(library, argument: Mapping[str, Any]):  # type: ignore[no-untyped-def]  # pyseccomp ships no types
    if argument["op"] == "SCMP_CMP_EQ":
        return library.Arg(argument["index"], library.EQ, argument["value"])
    return library.Arg(argument["index"], library.MASKED_EQ, argument["value"], argument["valueTwo"])
