"""The stack of a made-up process: read exactly at any version's offsets, and in bounds whatever memory holds."""

from __future__ import annotations

import argparse
import dis
import importlib
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_images import BASE, RUNTIME, TID, Call, Image, image

import sandbox
from sandbox.sensor import bytecode, offsets
from sandbox.sensor.elf import Elf
from sandbox.sensor.line_table import line_of
from sandbox.sensor.offsets import COOKIE, HEAD, NoThread, Offsets, Unreadable
from sandbox.sensor.stack import MOST_FRAMES, Stack
from sandbox.violations.origin import Frame

TOOL = Path(sandbox.__file__).parent.parent / "tools" / "layouts"


def tells(version: int) -> Offsets:
    """What an interpreter tells of itself, at the offsets that 3.13.0 and 3.14.0 have, or near them."""
    sizes = {
        0x030D00F0: ((283320, 600, 632), (7000, 7272, 7264, 7344), (300, 0, 8, 16, 72, 152, 160, 232),
                     (80, 8, 0, 56, 72, 70), (208, 112, 120, 128, 136, 68, 52, 96, 104, 200)),
        0x030E00F0: ((300000, 600, 632), (7000, 7272, 7264, 7344), (320, 0, 8, 16, 72, 152, 160, 240),
                     (88, 8, 0, 56, 80, 74), (208, 112, 120, 128, 136, 68, 52, 96, 104, 200)),
    }[version]  # fmt: skip
    counts = (3, 13, 9, 6, 10) if version < 0x030E0000 else (3, 16, 9, 8, 11)
    words = [version, 0]
    for told, count in zip(sizes, counts, strict=True):
        words += [*told, *[0] * (count - len(told))]
    words += [16, 8, 416, 24, 88, 168, 32, 24, 16, 40, 24, 16]  # object, type, tuple, list
    words += [200, 24, 40, 32] if version >= 0x030E0000 else []  # set
    words += [48, 32, 40, 24, 16, 32, 16, 24, 40, 16, 32, 64, 32, 16, 40]  # dict, float, long, bytes, text
    return offsets.told((COOKIE + struct.pack(f"<{len(words)}Q", *words)).ljust(HEAD, b"\0"))


ALL = [offsets.listed(0x030B02F0), offsets.listed(0x030C01F0), tells(0x030D00F0), tells(0x030E00F0)]
NAMES = [offsets.text(one.version) for one in ALL]

CALLS = [
    Call("/site/library/tags.py", "Loader.apply", 10, bytes([0x80 | 11 << 3 | 7, 0x55]), 3),
    Call("/site/lïbrary/\u6587.py", "f\u00fcr", 70, bytes([0x80 | 15 << 3 | 1]), 0),
    Call("/app.py", "handler", 5, bytes([0x80 | 13 << 3 | 0, 2, 0x80 | 13 << 3 | 7, 64 | 1, 2]), 4),
]
FRAMES = [
    Frame("/site/library/tags.py", "Loader.apply", 11),
    Frame("/site/lïbrary/\u6587.py", "f\u00fcr", 0),
    Frame("/app.py", "handler", 0),  # the table leads before the first line
]


def frames(memory: Image, one: Offsets, tid: int = TID, patience: float = 10.0) -> list[Frame]:
    """The whole stack of a thread."""
    found = Stack(memory, RUNTIME, one).activations(tid, time.monotonic() + patience)
    return [activation.frame() for activation in found if activation.c_function() is not None]


@pytest.mark.parametrize("in_c", [False, True], ids=["python", "shims"])
@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_frames_are_read_at_any_offsets(one: Offsets, in_c: bool) -> None:
    """File, qualified name and line of each frame, the innermost first; frames of C are none of Python's."""
    memory = image(one, CALLS, in_c=in_c)
    assert frames(memory, one) == FRAMES
    assert memory.reads < 30
    with pytest.raises(NoThread):
        frames(memory, one, TID + 1)
    with pytest.raises(Unreadable):
        frames(memory, one, patience=-1)


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_functions_in_c_are_read_from_value_stacks(one: Offsets) -> None:
    """The innermost call of each frame that waits for code in C; not of one that calls Python, or of unknown code."""
    names = ["_pickle.loads", "_pickle.Unpickler.load", ""]
    calls = [call._replace(calls=name) for call, name in zip(CALLS, names, strict=True)]
    known = one.version[:2] in bytecode.table()
    for in_c in (True, False):
        memory = image(one, calls, in_c=in_c)
        found = Stack(memory, RUNTIME, one).activations(TID, time.monotonic() + 10)
        expected = names if in_c else [*names[:1], "", ""]
        assert [activation.c_function() for activation in found] == (expected if known else [""] * 3)
        assert memory.reads < 60


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_what_is_read_is_never_out_of_date(one: Offsets) -> None:
    """Another function at the same addresses is another function: nothing that was read before stands for it."""
    first, second = (
        image(one, [call._replace(file=call.file.replace("lib", new), name=call.name[::step]) for call in CALLS])
        for new, step in (("lib", 1), ("LIB", -1))
    )
    assert len(first.data) == len(second.data)
    stack = Stack(memory := Image(first.data), RUNTIME, one)
    for content in (first.data, second.data) * 2:
        memory.data = content
        (innermost, *_) = stack.activations(TID, time.monotonic() + 10)
        expected = "LIB" if content is second.data else "lib"
        assert (innermost.file, innermost.frame().function) == (
            f"/site/{expected}rary/tags.py", "Loader.apply"[:: -1 if content is second.data else 1],
        )  # fmt: skip
    data = bytearray(first.data)
    (interpreter,) = struct.unpack_from("<Q", data, one.at["interpreters_head"])
    (other,) = struct.unpack_from("<Q", data, interpreter - BASE + one.at["threads_head"])
    struct.pack_into("<Q", data, other - BASE + one.at["thread_next"], 0)  # its state is freed, and its bytes stay
    memory.data = bytes(data)
    with pytest.raises(NoThread):
        next(stack.activations(TID, time.monotonic() + 10))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ALL), st.booleans(),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.sampled_from(["own", "wild", "small", "zero"]),
                       st.integers(0, (1 << 64) - 1)), max_size=12),
    st.integers(0, 4096),
)  # fmt: skip
def test_hostile_memory_ends(one: Offsets, in_c: bool, changes: list[tuple[int, str, int]], cut: int) -> None:
    """Words turned into pointers anywhere, into sizes and garbage, memory that ends: it stays within its bounds."""
    calls = [call._replace(calls=name) for call, name in zip(CALLS, ("m.f", "m.T.f", "m.f"), strict=True)]
    memory = image(one, calls * 4, in_c=in_c)
    data = bytearray(memory.data)
    for place, to, value in changes:
        at = place * 8 % (len(data) - 8)
        word = {"own": BASE + value % len(data), "wild": value, "small": value & 0xFFFF, "zero": 0}[to]
        data[at : at + 8] = struct.pack("<Q", word)
    memory = Image(bytes(data[: len(data) - cut]))
    try:
        found = frames(memory, one)
    except Unreadable:
        found = []
    assert len(found) <= MOST_FRAMES
    assert memory.reads < 10_000
    assert memory.bytes < 1 << 22
    assert sum(len(frame.file) + len(frame.function) for frame in found) < 1 << 20


class Shifting(Image):
    """Memory that others write to, map and unmap while it is read: a change before each of some reads."""

    def __init__(self, data: bytes, changes: list[tuple[int, int, bytes]], gone: int) -> None:
        """(before which read, where, what) of each change; from the read `gone` on a page is not there."""
        super().__init__(data)
        self.changes = changes
        self.gone = gone

    def read(self, address: int, length: int) -> bytes:
        """See Image."""
        data = bytearray(self.data)
        for number, place, what in self.changes:
            if number == self.reads:
                at = place % len(data)
                data[at : at + len(what)] = what[: len(data) - at]
        self.data = bytes(data)
        page = 4096 * (self.gone % 4)
        start = address - BASE
        if self.reads >= self.gone and start < page + 4096 and start + length > page:
            length = max(0, page - start)
        return super().read(address, length)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(ALL),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 1 << 14), st.binary(min_size=1, max_size=16)), max_size=20),
    st.integers(0, 80),
)
def test_memory_that_changes_while_it_is_read_ends(
    one: Offsets, changes: list[tuple[int, int, bytes]], gone: int
) -> None:  # fmt: skip
    """Code, frames and names that another thread writes to, and pages that it unmaps: a stack, or none."""
    calls = [call._replace(calls=name) for call, name in zip(CALLS, ("m.f", "m.T.f", "m.f"), strict=True)]
    memory = Shifting(image(one, calls, in_c=True).data, changes, gone)
    try:
        found = frames(memory, one)
    except Unreadable:
        found = []
    assert len(found) <= MOST_FRAMES
    assert memory.reads < 10_000
    assert memory.bytes < 1 << 22


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_frames_in_a_circle_end(one: Offsets) -> None:
    """A frame whose caller is itself, and a list of threads that ends nowhere."""
    memory = image(one, CALLS[:1])
    data = bytearray(memory.data)
    at = one.at
    (interpreter,) = struct.unpack_from("<Q", data, at["interpreters_head"])
    (other,) = struct.unpack_from("<Q", data, interpreter - BASE + at["threads_head"])
    (state,) = struct.unpack_from("<Q", data, other - BASE + at["thread_next"])
    base = state
    if one.through >= 0:
        (base,) = struct.unpack_from("<Q", data, state - BASE + one.through)
    (frame,) = struct.unpack_from("<Q", data, base - BASE + at["thread_frame"])
    struct.pack_into("<Q", data, frame - BASE + at["frame_previous"], frame)
    with pytest.raises(Unreadable, match="do not end"):
        frames(Image(bytes(data)), one)
    struct.pack_into("<Q", data, state - BASE + at["thread_next"], other)
    endless = Image(bytes(data))
    with pytest.raises(NoThread):
        frames(endless, one, tid=1)
    assert endless.reads < 10_000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, (1 << 64) - 1) | st.integers(0, 4096), min_size=96, max_size=96))
def test_what_an_interpreter_tells_is_checked(words: list[int]) -> None:
    """Offsets that no structure can have are refused before anything is read with them."""
    words[1] = 0x030D00F0 if words[1] % 2 else 0x030E00F0
    words[2] %= 2
    try:
        found = offsets.told(COOKIE + struct.pack("<95Q", *words[1:]))
    except Unreadable:
        return
    assert min(found.at.values()) >= 0
    assert max(found.at.values()) < offsets.FURTHEST
    assert max(found.thread_size, found.frame_size, found.code_size) < 2 * offsets.LARGEST


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ALL[2:]), st.booleans(),
    st.dictionaries(st.sampled_from(offsets.FIELDS), st.integers(0, offsets.LARGEST), min_size=1, max_size=2),
)  # fmt: skip
def test_forged_offsets_end(one: Offsets, in_c: bool, forged: dict[str, int]) -> None:
    """Offsets that a process has put in the place of its interpreter's are refused, or read in bounds as any others."""
    calls = [call._replace(calls=name) for call, name in zip(CALLS, ("m.f", "m.T.f", "m.f"), strict=True)]
    memory = image(one, calls, in_c=in_c)
    with suppress(Unreadable):
        frames(memory, Offsets(one.version, one.at | forged))
    assert memory.bytes < 1 << 22


def test_unknown_versions_stay_unknown() -> None:
    """A version before or behind those of the table, one to come, a pre-release and one without a GIL: each says so."""
    assert offsets.listed(0x030B05F0).at == offsets.listed(0x030B02F0).at  # between two that are equal
    for number, why in (
        (0x030B01F0, r"3\.11\.1 is not known"), (0x030B0CF0, r"3\.11\.12 is not known"),
        (0x030B02C1, r"3\.11\.2 is not known"),
    ):  # fmt: skip
        with pytest.raises(Unreadable, match=why):
            offsets.listed(number)
    for words, why in (((0x030F00F0, 0), r"3\.15\.0 are not known"), ((0x030D00F0, 1), "without a GIL")):
        with pytest.raises(Unreadable, match=why):
            offsets.told((COOKIE + struct.pack("<2Q", *words)).ljust(HEAD, b"\0"))


def test_the_table_is_that_of_the_headers() -> None:
    """tools/layouts finds nothing to change for /usr/bin/python3; it compiles its headers."""
    if not list(Path("/usr/include").glob("python3.1[12]/internal/pycore_frame.h")):
        pytest.skip("no headers of Python 3.11 or 3.12 in /usr/include (python3-dev)")
    done = subprocess.run([sys.executable, str(TOOL), "/usr/bin/python3"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_opcodes_are_those_of_the_interpreters() -> None:
    """tools/bytecode asks those that are there what their instructions do, and finds nothing to change."""
    command = [sys.executable, str(TOOL.with_name("bytecode"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_depth_of_a_value_stack_is_known() -> None:
    """For each instruction of a module that returns, one value is left; no call is deeper than the compiler counted."""
    minor = sys.version_info[:2]
    if minor not in bytecode.table():
        pytest.skip("the opcodes of this version are in no table")
    path = Path(argparse.__file__)
    for code in _codes(compile(path.read_text(), str(path), "exec")):
        for one in dis.get_instructions(code):
            if one.opname in ("RETURN_VALUE", "CALL"):
                depth = bytecode.depth(minor, code.co_code[: one.offset], code.co_exceptiontable)
                if one.opname == "CALL":
                    assert (one.arg or 0) + 2 <= depth <= code.co_stacksize
                else:
                    assert depth == 1


@given(st.binary(max_size=400), st.binary(max_size=40), st.sampled_from(sorted(bytecode.table())))
def test_any_bytes_are_code(code: bytes, handlers: bytes, minor: tuple[int, int]) -> None:
    """Whatever stands for code and table of exceptions, a depth comes out, or that there is none."""
    assert -1 <= bytecode.depth(minor, code, handlers) < 1 << 40


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@pytest.mark.parametrize("name", ["argparse", "asyncio.base_events"])
def test_lines_are_those_of_the_interpreter(name: str) -> None:
    """For every instruction of a module: what co_positions says."""
    path = importlib.import_module(name).__file__
    assert path
    for code in _codes(compile(Path(path).read_text(), path, "exec")):
        lines = [position[0] or 0 for position in code.co_positions()]
        assert [line_of(code.co_linetable, code.co_firstlineno, unit) for unit in range(len(lines))] == lines


@given(st.binary(max_size=64), st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-5, 200))
def test_any_bytes_are_a_line_table(table: bytes, first: int, unit: int) -> None:
    """Whatever stands for a table, a line is a line, or 0."""
    assert unit < 0 or 0 <= line_of(table, first, unit) < 1 << 31


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=8), st.integers(0, 64))
def test_any_file_is_no_reason_to_fail(changes: list[tuple[int, bytes]], cut: int) -> None:
    """An ELF file with anything overwritten has the section, or it does not."""
    data = bytearray(Path("/bin/true").read_bytes())
    for place, text in changes:
        at = place % (64 + 16 * 56) if place % 2 else len(data) - place % (40 * 64)  # either end has the headers
        data[max(0, at) : max(0, at) + len(text)] = text
    fd = os.memfd_create("file")
    try:
        os.write(fd, data[: len(data) - cut * 64])
        file = Elf(fd)
        assert file.section(".PyRuntime") is None or changes
        file.symbol("Py_Version")
    except Unreadable:
        pass
    finally:
        os.close(fd)
