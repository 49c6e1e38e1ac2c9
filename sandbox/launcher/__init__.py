"""The native launcher's program: shipped with a release, built by the system's cc in a checkout.

The sources lie beside this file (docs/launcher.md says what each is for): launcher.c starts at `launch` and includes
the rest, fuzz.c and fuzz_dns.c try one reader alone, tools/header makes numbers.h and fields.h.
"""

from __future__ import annotations

import struct
from pathlib import Path

from sandbox.launcher.native import Native

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


def zig_flags(arch: str) -> tuple[str, ...]:
    """What zig's C compiler needs besides the rest, for `x86_64` or `aarch64`."""
    return (*ZIG_FLAGS, "-target", f"{arch}-linux-musl")


def parts() -> list[Path]:
    """The C files of the launcher, of which the tripwire shares some; those that only try a reader are none."""
    return sorted({*HERE.glob("*.[ch]")} - {*HERE.glob("fuzz*.c")})


def loaded(program: bytes) -> bytes:
    """A 64-bit little-endian ELF program without its sections: the kernel reads segments alone (man 5 elf)."""
    headers, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    segments = (struct.unpack_from("<8xQ16xQ", program, headers + size * i) for i in range(count))
    end = max(offset + length for offset, length in segments if length)
    head = bytearray(program[:64])
    struct.pack_into("<Q", head, 40, 0)
    struct.pack_into("<HHH", head, 58, 0, 0, 0)
    return bytes(head) + program[64:end]


NATIVE = Native(
    "launcher", "launcher-{arch}", BUILT, (*FLAGS, *LINKED, f"-Wl,-T,{SCRIPT.name}"), HERE / "launcher.c",
    lambda: [*parts(), SCRIPT], loaded,
)  # fmt: skip
"""Static, and executable as it is."""
path, build = NATIVE.path, NATIVE.build


def binary(arch: str) -> bytes:
    """The launcher for `x86_64` or `aarch64`; errors as those of `Native.path`."""
    return path(arch).read_bytes()
