"""Where the tripwire's library lies, and for which programs the dynamic loader takes it (man 7 rtld-audit)."""

from __future__ import annotations

import os

from sandbox.confine import landlock_rules
from sandbox.kernel import abi

VARIABLE = "SANDBOX_TRIPWIRE"
EAGER = b"GLIBC_2.35"
"""The first glibc whose loader asks about each symbol, whether it is bound early or late, has this word in it."""

LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
"""glibc's loader for programs of each machine, as the psABI names it: i386, x32 and ILP32 have others,
for which the library is of the wrong class, and which go on without it."""

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def library(machine: str = abi.MACHINE) -> str:
    """Where the library lies; `sandbox package` and tools/release put it there."""
    return os.path.join(HOME, "tripwire", "built", f"tripwire-{machine}.so")


def loader_of(path: str, search: str) -> str:
    """The dynamic loader of a program, or of the interpreter of a script; '' where it has none."""
    return next((one for one, is_loader in landlock_rules.chain(path, search) if is_loader), "")


def missing(loader: str) -> str:
    """What stands in the way of the tripwire for programs with this loader; '' for nothing."""
    if not os.path.isfile(library()):
        return f"{library()} is not there (tools/release builds it)"
    if not loader:
        return "the program is static or not of 64 bits: no loader could load it"
    if os.path.basename(loader) != LOADERS[abi.MACHINE]:
        return f"{loader} is not glibc's: only that loads it"
    return ""


def asks_for_each(loader: str) -> bool:
    """Whether this loader asks about each symbol."""
    try:
        with open(loader, "rb") as file:
            return EAGER in file.read()
    except OSError:
        return False
