"""Native stacks, and the files that are mapped there: read in bounds, whatever memory and files hold."""

from __future__ import annotations

import mmap
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
from sandbox.sensor import elf, golang, maps, native
from sandbox.sensor.elf import Elf
from sandbox.sensor.native import DEEPEST, Executable
from sandbox.sensor.offsets import Unreadable
from sandbox.sensor.v8 import V8

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
            assert Elf(fd).number("v8dbg_off_fp_function") is None
        with suppress(Unreadable):
            Elf(fd).number("optind")
        with suppress(Unreadable):
            golang.GoProgram(os.dup(fd))


def test_a_library_of_many_tables_costs_as_one() -> None:
    """Hundreds of segments and sections of a type, as no linker makes them: one of each type is read, in the file."""
    count, symbols = 900, elf.MOST_SYMBOLS
    row = struct.Struct("<IBBHQQ")
    texts, table = b"\0Py_Version\0", row.pack(1, 2, 0, 0, 1, 8) * (symbols - 1) + row.pack(1, 2, 0, 1, 4096, 8)
    at = 64 + 56 * (count + 1)
    far = struct.pack("<IIQQQQQQ", 1, 4, (1 << 64) - 16, 4096, 0, 4096, 4096, 0)
    segments = far + struct.pack("<IIQQQQQQ", 1, 4, 0, 1 << 20, 0, 1 << 20, 1 << 20, 0) * count
    sections = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at, len(texts), 0, 0, 0, 0)
    for kind in (elf.SHT_DYNSYM, elf.SHT_DYNAMIC, elf.SHT_GNU_HASH):
        place = at + len(texts)
        sections += struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, place, len(table), 0, 0, 0, 0) * (count // 3)
    head = elf.MAGIC.ljust(32, b"\0")
    head += struct.pack("<QQ6xHHHHH", 64, at + len(texts + table), 56, count + 1, 64, count + 1, 0)
    with memory_file(head + segments + texts + table + sections) as fd:
        file, start = Elf(fd), time.process_time()
        assert (file.symbol("Py_Version"), file.soname(), file.number("Py_Version")) == (None, "", None)
        assert file.function(range(16)) == ""
        assert time.process_time() - start < 1


@given(st.binary(max_size=200))
def test_any_build_information_ends(data: bytes) -> None:
    """Whatever stands behind the mark of Go: a version and modules, or that it cannot be read."""
    with memory_file(golang.MAGIC + b"\x08\x02" + bytes(16) + data) as fd, suppress(Unreadable):
        assert len(golang.built(fd, 0)[0]) <= 64


def test_names_of_modules_are_cut() -> None:
    """A program may hold names of any length, and what its calls are of is remembered."""
    modules = bytes(16) + b"mod\t" + b"m" * 5000 + b"\ndep\t" + b"p" * 5000 + b"\tv1\n" + bytes(16)
    size = bytes([len(modules) & 127 | 128, len(modules) >> 7])
    with memory_file(golang.MAGIC + b"\x08\x02" + bytes(16) + b"\x02go" + size + modules) as fd:
        assert golang.built(fd, 0) == ("go", "m" * golang.LONGEST, {"p" * golang.LONGEST: "v1"})


def test_both_ways_to_ask_what_is_mapped_agree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The question for one address and the list of all say the same: files, also odd and deleted ones, and no file."""
    odd = tmp_path / "a\nb c"
    odd.write_bytes(bytes(4096))
    with open(odd, "r+b") as file, mmap.mmap(file.fileno(), 4096) as mapped, memory_file(bytes(4096)) as fd:
        mapped[0] = 1
        odd.unlink()
        with mmap.mmap(fd, 4096):
            lines = Path("/proc/self/maps").read_text().splitlines()
            places = [int(line.partition("-")[0], 16) for line in lines if "[vsyscall]" not in line]
            found = []
            for query in (maps.PROCMAP_QUERY, 0xC0006600):  # which asks for nothing
                monkeypatch.setattr(maps, "PROCMAP_QUERY", query)
                asked = [maps.mapped(os.getpid(), place, time.monotonic() + 10) for place in [*places, -1, 4096]]
                found.append([one and (one.path, one.writable) for one in asked])
    assert found[0] == found[1]
    assert found[0][-1] is None
    assert {one[0] for one in found[0] if one} >= {"", "[stack]", "/memfd:file (deleted)"}


V8_NUMBERS = {
    "function": -16, "context": -8, "map": 0, "type": 12, "function_type": 2066, "shared": 24, "shared_type": 262,
    "name": 16, "script": 32, "scope_type": 261, "locals": 2, "first": 3, "script_type": 167, "script_name": 16,
    "length": 12, "chars": 16, "wide_chars": 16, "no_string": 128, "encoding": 8, "one_byte": 8, "kind": 7,
    "sequence": 0, "cons": 1, "thin": 5, "cons_first": 16, "cons_second": 24, "thin_actual": 16,
}  # fmt: skip
"""As Node 20 says."""


class Heap:
    """Objects of V8 behind a stack of 512 bytes at BASE, and a frame of each function on it."""

    def __init__(self) -> None:
        self.data = bytearray(512)
        self.frames = 0

    def made(self, kind: int, fields: dict[int, int], size: int = 96) -> int:
        """An object of a type, with words at offsets: the pointer to it."""
        map_ = len(self.data)
        self.data += bytes(16 + (size + 7 & ~7))
        struct.pack_into("<H", self.data, map_ + V8_NUMBERS["type"], kind)
        for offset, word in {0: BASE + map_ + 1, **fields}.items():
            struct.pack_into("<Q", self.data, map_ + 16 + offset, word)
        return BASE + map_ + 16 + 1

    def text(self, text: str) -> int:
        """A string in sequence, of one byte a character where it can be."""
        narrow = text.isascii()
        payload = text.encode("latin-1" if narrow else "utf-16-le")
        pointer = self.made(8 if narrow else 0, {}, 16 + len(payload))
        struct.pack_into("<I", self.data, pointer - 1 - BASE + 12, len(text))
        self.data[pointer - 1 - BASE + 16 : pointer - 1 - BASE + 16 + len(payload)] = payload
        return pointer

    def frame(self, name: int, file: str, begin: int) -> None:
        """A function of a file, the next one further out."""
        nothing = self.made(1, {})
        scope = self.made(261, {8 + 8 * 2: 1 << 32, 8 + 8 * 5: name, 8 + 8 * 6: 0, 8 + 8 * 7: nothing,
                                8 + 8 * 8: begin << 32})  # fmt: skip
        shared = self.made(262, {16: scope, 32: self.made(167, {16: self.text(file)})})
        place = 64 + 64 * self.frames
        self.frames += 1
        words = self.made(2066, {24: shared}), nothing, BASE + place + 64, CODE_AT
        struct.pack_into("<4Q", self.data, place - 16, *words)


CODE_AT = BASE + 0x100000


def scripts(
    memory: Image, patience: float = 10.0, numbers: dict[str, int] = V8_NUMBERS
) -> list[tuple[str, str, int]]:  # fmt: skip
    """(file, function, begin) of the frames on such a stack."""
    found = V8(numbers).frames(memory, memory, BASE, lambda address: address == CODE_AT, time.monotonic() + patience)
    return [(frame.file, frame.function, frame.begin) for frame in found]


def heap() -> Heap:
    """Three frames: of a name in two parts, of one that is thin and wide, and without."""
    made = Heap()
    made.frame(made.made(1, {16: made.text("exports."), 24: made.text("pads")}), "/srv/node_modules/left/index.js", 10)
    made.frame(made.made(5, {16: made.text("h\u00e4ndler\u6587")}), "file:///srv/app.mjs", 16)
    made.frame(made.text(""), "node:fs", 0)
    return made


def test_functions_of_scripts_are_read() -> None:
    """Their names however V8 keeps them, the script, and where they begin in it."""
    memory = Image(bytes(heap().data))
    assert scripts(memory) == [
        ("/srv/node_modules/left/index.js", "exports.pads", 10), ("file:///srv/app.mjs", "h\u00e4ndler\u6587", 16),
        ("node:fs", "", 0),
    ]  # fmt: skip
    assert memory.reads < 100
    with pytest.raises(Unreadable):
        scripts(memory, patience=-1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.sampled_from(["own", "wild", "small"]),
                       st.integers(0, (1 << 64) - 1)), max_size=12),
    st.integers(0, 2048),
    st.dictionaries(st.sampled_from(sorted(V8_NUMBERS)), st.integers(-(1 << 17), 1 << 17) | st.integers(-32, 32),
                    max_size=3),
)  # fmt: skip
def test_any_heap_ends(changes: list[tuple[int, str, int]], cut: int, other: dict[str, int]) -> None:
    """Pointers anywhere, in circles, lengths of all sizes, memory that ends, numbers of no V8: within its bounds."""
    data = bytearray(heap().data)
    for place, to, value in changes:
        word = {"own": (BASE + value % len(data)) & ~7 | 1, "wild": value, "small": value & 0xFFFF}[to]
        struct.pack_into("<Q", data, place * 8 % (len(data) - 8), word)
    memory = Image(bytes(data[: len(data) - cut]))
    try:
        found = scripts(memory, numbers={**V8_NUMBERS, **other})
    except Unreadable:
        found = []
    assert len(found) <= 64
    assert memory.reads < 5000
    assert memory.bytes < 1 << 20
