"""What can be read without asking the kernel for anything that a sandbox would refuse: who, where, under what."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Mapping

from sandbox.doctor.measured import Facts
from sandbox.kernel import seccomp


def facts() -> Facts:
    """All of them, from uname, /proc/self/status (man 5 proc) and the limits."""
    name = os.uname()
    try:
        status = seccomp.read_status()
    except OSError:
        status = {}
    return Facts(
        kernel=f"{name.sysname} {name.release}",
        machine=name.machine,
        libc=libc(),
        python=platform.python_version(),
        interpreter=sys.executable,
        uid=os.geteuid(),
        gid=os.getegid(),
        proc=bool(status),
        no_new_privs=_number(status, "NoNewPrivs"),
        seccomp=_number(status, "Seccomp"),
        filters=_number(status, "Seccomp_filters"),
        threads=_number(status, "Threads"),
        capabilities=_mask(status, "CapEff"),
        bounding=_mask(status, "CapBnd"),
        descriptors=_limit(resource.RLIMIT_NOFILE),
        processes=_limit(resource.RLIMIT_NPROC),
    )


def _number(status: Mapping[str, str], field: str) -> int | None:
    text = status.get(field, "")
    return int(text) if text.isdecimal() else None


def _mask(status: Mapping[str, str], field: str) -> str | None:
    text = status.get(field)
    return f"0x{int(text, 16):x}" if text else None


def _limit(resource_: int) -> int | None:
    try:
        return resource.getrlimit(resource_)[0]
    except OSError:
        return None


def libc() -> str | None:
    """The C library and its version; for musl its name alone."""
    try:
        found = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        found = None
    if found:
        return found
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return "musl" if "ld-musl" in file.read() else None
    except OSError:
        return None
