"""The tripwire's library: shipped with a release, built by the system's cc in a checkout.

The dynamic loader loads it in front of a function for which no filter can be installed (man 7 rtld-audit). tripwire.c
is its beginning and includes the rest; the readers of a policy and of DNS messages are the launcher's.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox import launcher
from sandbox.errors import SandboxError, UsageError

ARCHES = launcher.ARCHES
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


def name(arch: str) -> str:
    """What the library of an architecture is called."""
    return f"tripwire-{arch}.so"


def zig_flags(arch: str) -> tuple[str, ...]:
    """What zig's C compiler needs besides the rest. The oldest glibc is that of Amazon Linux 2."""
    return ("-fno-sanitize=all", "-Wno-unused-command-line-argument", "-target", f"{arch}-linux-gnu.2.26")


def binary(arch: str) -> bytes:
    """The library for `x86_64` or `aarch64`; errors as those of `path`."""
    return path(arch).read_bytes()


def path(arch: str) -> Path:
    """Where the library lies, which is built where it can and must.

    Raises UsageError for another architecture, SandboxError where there is neither a library nor a compiler for it.
    """
    if arch not in ARCHES:
        raise UsageError(f"{arch!r} is not one of {', '.join(ARCHES)}", where="tripwire", todo="name another one")
    found, mark = BUILT / name(arch), BUILT / f"{name(arch)}.sources"
    if found.is_file() and (not mark.is_file() or mark.read_text() == sources()):
        return found
    if arch != platform.machine():
        raise SandboxError(
            f"a tripwire for {arch} is missing", where=str(found), todo="run tools/release, which builds both"
        )
    build(("cc",), found)
    return found


def sources() -> str:
    """SHA-256 of all that a library is made of."""
    shared = sorted({*launcher.HERE.glob("*.[ch]")} - {*launcher.HERE.glob("fuzz*.c")})
    parts = [repr((FLAGS, LINKED)).encode(), *(file.read_bytes() for file in [*sorted(HERE.glob("*.[ch]")), *shared])]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def build(compiler: Sequence[str], found: Path) -> None:
    """Compile and link into `found`, in one step for whoever looks. Raises SandboxError with what the compiler said."""
    todo = "run tools/release, which needs no compiler, or install one"
    try:
        found.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=found.parent) as folder:
            made = Path(folder) / found.name
            command = [*compiler, *FLAGS, GENERAL_REGISTERS, *LINKED, "-o", str(made), str(HERE / "tripwire.c")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SandboxError(f"cannot be built:\n{done.stderr.strip()}", where="tripwire", todo=todo)
            made.chmod(0o755)
            os.replace(made, found)
        found.with_name(found.name + ".sources").write_text(sources())
    except OSError as error:
        raise SandboxError(f"cannot be built: {error.strerror}", where=str(error.filename), todo=todo) from error
