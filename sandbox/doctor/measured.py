"""What the doctor measured, as data: facts, and what became of each probe; and the reading of the facts.

Facts are what can be read without asking the kernel for anything that a sandbox would refuse.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from sandbox.kernel import seccomp

Value = bool | int | str | None

Outcome = Literal["works", "refused", "fails", "killed", "no answer", "not tried"]
"""`refused` by an errno, `killed` by a signal; `fails` says in words what is wrong, `no answer` came in time."""


@dataclass(frozen=True)
class Probed:
    """One probe. `errno` is a name (EPERM ...) where the outcome is `refused`; `detail` is for people."""

    outcome: Outcome
    errno: str = ""
    detail: str = ""

    @property
    def works(self) -> bool:
        """Whether it did what it should."""
        return self.outcome == "works"


@dataclass(frozen=True)
class Facts:
    """What could be read of this process and its platform; None where a fact cannot be had here.

    `seccomp` is 0 (none), 1 (strict) or 2 (filter) (man 5 proc); capabilities are masks in hexadecimal; `descriptors`
    and `processes` are the soft limits, -1 for none.
    """

    kernel: str = ""
    machine: str = ""
    libc: str | None = None
    python: str = ""
    interpreter: str = ""
    uid: int = 0
    gid: int = 0
    proc: bool = False
    no_new_privs: int | None = None
    seccomp: int | None = None
    filters: int | None = None
    threads: int | None = None
    capabilities: str | None = None
    bounding: str | None = None
    descriptors: int | None = None
    processes: int | None = None

    def named(self) -> Iterator[tuple[str, Value]]:
        """Each fact with its name for people and machines: `no-new-privs`."""
        for field in fields(self):
            yield field.name.replace("_", "-"), getattr(self, field.name)


@dataclass(frozen=True)
class Measured:
    """Facts, and probes by name in the order in which they ran."""

    facts: Facts
    probes: Mapping[str, Probed]

    def works(self, name: str) -> bool:
        """Whether a probe worked; one that was not made did not."""
        return self.outcome(name) == "works"

    def outcome(self, name: str) -> Outcome:
        """What became of a probe; `not tried` for one that was not made."""
        return self.probes[name].outcome if name in self.probes else "not tried"


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
