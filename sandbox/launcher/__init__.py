"""The native launcher's program: shipped with a release, built by the system's cc in a checkout.

The sources lie beside this file (docs/launcher.md says what each is for): launcher.c starts at `launch` and includes
the rest, fuzz.c and fuzz_dns.c try one reader alone, tools/header makes numbers.h and fields.h.
"""

from __future__ import annotations

import hashlib
import os
import platform
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sandbox.errors import SandboxError, UsageError

ARCHES = ("x86_64", "aarch64")
LARGEST = 72 << 10
"""Bytes that a launcher may have: 24 KiB to start a function and be gone, 40 more to attend it, and 8 to own its
sockets where they cannot be duplicated."""

HERE = Path(__file__).parent
BUILT = HERE / "built"
SCRIPT = HERE / "launcher.ld"
WARNINGS = (
    "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes",
    "-Wcast-align", "-Wundef", "-Wvla", "-Wformat=2", "-Wwrite-strings",
)  # fmt: skip
FLAGS = (
    "-std=c11", "-Os", *WARNINGS, "-ffreestanding", "-fno-builtin", "-fno-jump-tables", "-fno-stack-protector",
    "-fno-pie", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-ffunction-sections", "-fdata-sections",
    "-fno-strict-aliasing", "-fno-delete-null-pointer-checks",
)  # fmt: skip
LINKED = (
    "-static", "-no-pie", "-nostdlib", "-nostartfiles", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,norelro",
    "-Wl,--gc-sections", "-s",
)  # fmt: skip
ZIG_FLAGS = (
    "-fno-sanitize=all", "-Xclang", "-Oz", "-fomit-frame-pointer", "-fno-slp-vectorize", "-fno-vectorize",
    "-Wno-unused-command-line-argument", "-mllvm", "-inline-threshold=-20", "-mllvm", "-disable-lsr",
)  # fmt: skip
"""zig checks for undefined behaviour unless told not to, takes -Oz for -Os unless its compiler hears it, and makes a
fifth more of -Os than gcc."""


def binary(arch: str) -> bytes:
    """The launcher for `x86_64` or `aarch64`, static and executable as it is. Builds it where it can and must.

    Raises UsageError for another architecture, SandboxError where there is neither a launcher nor a compiler for it.
    """
    return path(arch).read_bytes()


def zig_flags(arch: str) -> tuple[str, ...]:
    """What zig's C compiler needs besides the rest, for `x86_64` or `aarch64`."""
    return (*ZIG_FLAGS, "-target", f"{arch}-linux-musl")


def path(arch: str) -> Path:
    """Where the launcher lies; errors as those of `binary`."""
    if arch not in ARCHES:
        raise UsageError(f"{arch!r} is not one of {', '.join(ARCHES)}", where="launcher", todo="name another one")
    found = BUILT / f"launcher-{arch}"
    mark = BUILT / f"launcher-{arch}.sources"
    if found.is_file() and (not mark.is_file() or mark.read_text() == sources()):
        return found
    if arch != platform.machine():
        raise SandboxError(
            f"a launcher for {arch} is missing", where=str(found), todo="run tools/release, which builds both"
        )
    build(("cc",), found)
    return found


def sources() -> str:
    """SHA-256 of all that a launcher is made of."""
    names = sorted({*HERE.glob("*.[ch]"), SCRIPT} - {*HERE.glob("fuzz*.c")})
    parts = [repr((FLAGS, LINKED)).encode(), *(name.read_bytes() for name in names)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def loaded(program: bytes) -> bytes:
    """A 64-bit little-endian ELF program without its sections: the kernel reads segments alone (man 5 elf)."""
    headers, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    segments = (struct.unpack_from("<8xQ16xQ", program, headers + size * i) for i in range(count))
    end = max(offset + length for offset, length in segments if length)
    head = bytearray(program[:64])
    struct.pack_into("<Q", head, 40, 0)
    struct.pack_into("<HHH", head, 58, 0, 0, 0)
    return bytes(head) + program[64:end]


def build(compiler: Sequence[str], found: Path) -> None:
    """Compile and link into `found`, in one step for whoever looks. Raises SandboxError with what the compiler said."""
    todo = "run tools/release, which needs no compiler, or install one"
    try:
        found.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=found.parent) as folder:
            made = Path(folder) / found.name
            command = [*compiler, *FLAGS, *LINKED, f"-Wl,-T,{SCRIPT}", "-o", str(made), str(HERE / "launcher.c")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SandboxError(f"cannot be built:\n{done.stderr.strip()}", where="launcher", todo=todo)
            made.write_bytes(loaded(made.read_bytes()))
            made.chmod(0o755)
            os.replace(made, found)
        found.with_name(found.name + ".sources").write_text(sources())
    except OSError as error:
        raise SandboxError(f"cannot be built: {error.strerror}", where=str(error.filename), todo=todo) from error
