"""What can be read without asking the kernel for anything that a sandbox would refuse: who, where, under what."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Mapping

from sandbox.doctor.measured import Value
from sandbox.kernel import seccomp

STATUS = {
    "no-new-privs": "NoNewPrivs", "seccomp": "Seccomp", "filters": "Seccomp_filters", "threads": "Threads",
}  # fmt: skip
"""Names of ours, fields of /proc/self/status; Seccomp is 0 (none), 1 (strict) or 2 (filter), man 5 proc."""
LIMITS = {"descriptors": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC}


def facts() -> Mapping[str, Value]:
    """All of them; None where a fact cannot be had here."""
    name = os.uname()
    found: dict[str, Value] = {
        "kernel": f"{name.sysname} {name.release}", "machine": name.machine, "libc": libc(),
        "python": platform.python_version(), "interpreter": sys.executable, "uid": os.geteuid(), "gid": os.getegid(),
    }  # fmt: skip
    try:
        fields = seccomp.read_status()
    except OSError:
        fields = {}
    found["proc"] = bool(fields)
    for key, field in STATUS.items():
        text = fields.get(field, "")
        found[key] = int(text) if text.isdecimal() else None
    for key, field in (("capabilities", "CapEff"), ("bounding", "CapBnd")):
        found[key] = fields.get(field) and f"0x{int(fields[field], 16):x}"
    for key, limit in LIMITS.items():
        try:
            found[key] = resource.getrlimit(limit)[0]
        except OSError:
            found[key] = None
    return found


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
