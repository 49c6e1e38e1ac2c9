"""The tripwire's library: shipped with a release, built by the system's cc in a checkout.

The dynamic loader loads it in front of a function for which no filter can be installed (man 7 rtld-audit). tripwire.c
is its beginning and includes the rest; the readers of a policy and of DNS messages are the launcher's.
"""

from __future__ import annotations

from pathlib import Path

from sandbox import launcher
from sandbox.launcher.native import Native

LARGEST = 128 << 10
"""Bytes that a library may have."""

HERE = Path(__file__).parent
BUILT = HERE / "built"
FLAGS = (
    "-std=c11", "-O2", *launcher.WARNINGS, "-Wno-unused-function", "-Wno-unused-variable", "-ffreestanding", "-fPIC",
    "-fno-builtin", "-fvisibility=hidden", "-fno-stack-protector", "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables", "-fno-strict-aliasing", "-fno-delete-null-pointer-checks",
)  # fmt: skip
"""Not all that the launcher's files hold is used here."""
LINKED = (
    "-shared", "-nostdlib", "-nostartfiles", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,now",
    "-Wl,-z,relro", "-Wl,--hash-style=gnu", "-Wl,--no-undefined", "-Wl,-Bsymbolic", "-s",
)  # fmt: skip
GENERAL_REGISTERS = "-mgeneral-regs-only"
"""Floating-point registers may hold arguments of the call that is looked at."""


def zig_flags(arch: str) -> tuple[str, ...]:
    """What zig's C compiler needs besides the rest. The oldest glibc is that of Amazon Linux 2."""
    return ("-fno-sanitize=all", "-Wno-unused-command-line-argument", "-target", f"{arch}-linux-gnu.2.26")


NATIVE = Native(
    "tripwire", "tripwire-{arch}.so", BUILT, (*FLAGS, GENERAL_REGISTERS, *LINKED), HERE / "tripwire.c",
    lambda: [*sorted(HERE.glob("*.[ch]")), *launcher.parts()],
)  # fmt: skip
path, build = NATIVE.path, NATIVE.build
