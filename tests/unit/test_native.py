"""Native stacks, and the files that are mapped there: read in bounds, whatever memory and files hold."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_images import BASE, Image

from sandbox.kernel.abi import MACHINE
from sandbox.sensor import golang, native, perf_map
from sandbox.sensor.elf import Elf
from sandbox.sensor.native import DEEPEST, Executable
from sandbox.sensor.offsets import Unreadable
from sandbox.sensor.perf_map import PerfMap

CODE = 0x5000
CALL = b"\xe8\0\0\0\0" if MACHINE == "x86_64" else b"\0\0\0\x94"


@contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """A descriptor of a file in memory."""
    fd = os.memfd_create("file")
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def memory(stack: list[int]) -> Image:
    """A stack at BASE, and behind it, at CODE from there, a page of calls."""
    words = struct.pack(f"<{len(stack)}Q", *stack)
    return Image(words.ljust(CODE, b"\0") + (CALL * 1000)[:4096])


MAPPINGS = [
    Executable(BASE + CODE, BASE + CODE + 2048, 512, "/lib/one.so"),
    Executable(BASE + CODE + 2048, BASE + CODE + 4096, 0, ""),
]


def test_return_addresses_are_those_behind_calls() -> None:
    """Words of the stack that point behind a call in executable memory, in their order, after where it stands."""
    behind = BASE + CODE + 8 * len(CALL)
    stack = [1, behind, behind + 1, BASE, behind + 2048 // len(CALL) * len(CALL) + len(CALL), (1 << 64) - 1]
    found = list(native.walk(BASE, BASE + CODE, memory(stack), MAPPINGS, time.monotonic() + 10))
    assert [(spot.address, spot.mapping.path) for spot in found] == [
        (BASE + CODE, "/lib/one.so"), (behind, "/lib/one.so"), (stack[4], ""),
    ]  # fmt: skip
    assert found[1].offset == 512 + 8 * len(CALL)
    with pytest.raises(Unreadable):
        list(native.walk(BASE, 0, memory(stack), MAPPINGS, time.monotonic() - 1))
    assert list(native.walk(1 << 63, 0, memory(stack), MAPPINGS, time.monotonic() + 10)) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, (1 << 64) - 1) | st.integers(BASE, BASE + CODE + 8192), max_size=600),
    st.integers(0, (1 << 64) - 1) | st.integers(BASE, BASE + CODE), st.integers(0, (1 << 64) - 1),
)  # fmt: skip
def test_any_stack_ends(stack: list[int], pointer: int, at: int) -> None:
    """Whatever words are on it, and wherever its pointer leads: few reads, each of little."""
    image = memory(stack)
    found = list(native.walk(pointer, at, image, MAPPINGS, time.monotonic() + 10))
    assert len(found) <= native.MOST_SPOTS + 1
    assert image.bytes <= DEEPEST * 8
    assert image.reads <= DEEPEST // 8 + DEEPEST // native.PIECE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=8), st.integers(0, 64))
def test_any_library_is_no_reason_to_fail(changes: list[tuple[int, bytes]], cut: int) -> None:
    """An ELF file with anything overwritten has a soname and functions, or none; and it is no program of Go."""
    data = bytearray(Path("/bin/true").read_bytes())
    for place, text in changes:
        at = place % (64 + 16 * 56) if place % 2 else len(data) - place % (40 * 64)
        data[max(0, at) : max(0, at) + len(text)] = text
    with memory_file(bytes(data[: len(data) - cut * 64])) as fd:
        with suppress(Unreadable):
            Elf(fd).soname()
        with suppress(Unreadable):
            Elf(fd).function([64, 1 << 13, 1 << 40])
        with suppress(Unreadable):
            golang.GoProgram(fd)


@given(st.binary(max_size=200))
def test_any_build_information_ends(data: bytes) -> None:
    """Whatever stands behind the mark of Go: a version and modules, or that it cannot be read."""
    with memory_file(golang.MAGIC + b"\x08\x02" + bytes(16) + data) as fd, suppress(Unreadable):
        assert len(golang.built(fd, 0)[0]) <= 64


@given(st.lists(st.tuples(st.integers(0, 1 << 48), st.integers(0, 1 << 20), st.text(max_size=40))))
def test_any_list_of_functions_is_read(lines: list[tuple[int, int, str]]) -> None:
    """Whatever Node or somebody else writes into the list of its functions, an address is in one of them or in none."""
    text = "".join(f"{start:x} {size:x} JS:~{name}\n" for start, size, name in lines)
    made = PerfMap(0)
    made._fd = os.memfd_create("map")
    try:
        os.write(made._fd, b"\0 x JS:\n1 2\n" + text.encode("utf-8", "replace"))
        for start, _, _ in [*lines, (0, 0, "")]:
            frame = made.frame(start)
            assert frame is None or (frame.file and frame.line >= 0)
    finally:
        made.close()


def test_functions_of_scripts_are_named() -> None:
    """A function, a module, one of Node's own, and a path as a URL."""
    found = [perf_map._frame(text) for text in (
        "JS:*pads /srv/a:b/index.js:3:7", "Script:~ file:///srv/app.mjs:1:1", "JS:~read node:fs:7:2", "JS:~odd",
    )]  # fmt: skip
    assert [frame and (frame.file, frame.function, frame.line) for frame in found] == [
        ("/srv/a:b/index.js", "pads", 3), ("/srv/app.mjs", "<module>", 1), ("node:fs", "read", 7), None,
    ]  # fmt: skip
