"""The memory of a process that runs Python, made up: thread states, frames and code at the offsets of any version."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sandbox.sensor.offsets import Offsets

BASE = 0x7F0000000000
RUNTIME, TID = BASE, 4711


class Call(NamedTuple):
    """One Python function on a stack to be made: `unit` is the instruction that it is at."""

    file: str
    name: str
    first: int
    table: bytes
    unit: int


class Image:
    """Memory from BASE on; reads count."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads = self.bytes = 0

    def read(self, address: int, length: int) -> bytes:
        """As /proc/PID/mem answers: fewer bytes at the end, none where nothing is."""
        self.reads += 1
        start = address - BASE
        found = self.data[start : start + length] if 0 <= start < len(self.data) else b""
        self.bytes += len(found)
        return found


class _Maker:
    def __init__(self, offsets: Offsets) -> None:
        self.at = offsets.at
        self.offsets = offsets
        self.data = bytearray()

    def room(self, size: int) -> int:
        address = BASE + len(self.data)
        self.data += bytes(size + 15 & ~15)
        return address

    def put(self, address: int, form: str, value: int) -> None:
        struct.pack_into(form, self.data, address - BASE, value)

    def words(self, address: int, fields: Mapping[str, int]) -> None:
        for name, value in fields.items():
            self.put(address + self.at[name], "<Q", value)

    def text(self, text: str) -> int:
        wide = not text.isascii()
        payload = text.encode("utf-32-le" if wide else "latin-1")
        start = self.at["text_wide" if wide else "text_ascii"]
        address = self.room(max(start + len(payload), self.at["text_wide"]))
        self.words(address, {"text_length": len(text)})
        self.put(address + self.at["text_state"], "<I", (4 if wide else 1) << 2 | 1 << 5 | (not wide) << 6)
        self.data[address - BASE + start : address - BASE + start + len(payload)] = payload
        return address

    def table(self, table: bytes) -> int:
        address = self.room(self.at["bytes_data"] + len(table))
        self.words(address, {"bytes_size": len(table)})
        start = address - BASE + self.at["bytes_data"]
        self.data[start : start + len(table)] = table
        return address


def image(offsets: Offsets, calls: Sequence[Call], *, in_c: bool = False) -> Image:
    """A process whose thread TID, the second of two, has these calls on its stack, the innermost first.

    With `in_c` frames without Python code stand between them, as from 3.12 on.
    """
    made = _Maker(offsets)
    at = offsets.at
    made.room(max(at["interpreters_head"] + 16, 1024))  # _PyRuntime itself, at BASE
    interpreter = made.room(max(at["interpreter_next"], at["threads_head"]) + 16)
    other, state = made.room(offsets.thread_size), made.room(offsets.thread_size)
    made.words(RUNTIME, {"interpreters_head": interpreter})
    made.words(interpreter, {"threads_head": other})
    made.words(other, {"thread_native": TID - 1, "thread_next": state})
    made.words(state, {"thread_native": TID, "thread_previous": other})
    code_type, none_type, type_text = made.room(at["type_name"] + 16), made.room(at["type_name"] + 16), made.room(16)
    made.data[type_text - BASE : type_text - BASE + 5] = b"code\0"
    made.words(code_type, {"type_name": type_text})
    made.words(none_type, {"type_name": made.room(16)})
    none = made.room(offsets.code_size)
    made.words(none, {"object_type": none_type})
    codes = []
    for call in calls:
        code = made.room(offsets.code_size + 2 * call.unit + 2)
        made.words(code, {
            "object_type": code_type, "code_file": made.text(call.file), "code_name": made.text(call.name),
            "code_lines": made.table(call.table),
        })  # fmt: skip
        made.put(code + at["code_first"], "<i", call.first)
        codes.append((code, code + at["code_start"] + 2 * call.unit, 0))
        if in_c:
            codes.append((none, 0, at["frame_in_c"]))
    chunk = made.room(24)
    before = 0
    for code, instruction, owner in reversed(codes):
        frame = made.room(offsets.frame_size)
        made.words(frame, {
            "frame_code": code | (offsets.tagged and 1), "frame_instruction": instruction, "frame_previous": before,
        })  # fmt: skip
        made.data[frame - BASE + at["frame_owner"]] = owner
        before = frame
    made.words(state, {"thread_chunk": chunk})
    made.put(state + at["thread_chunk"] + 8, "<Q", BASE + len(made.data))  # the top
    if offsets.through >= 0:
        c_frame = made.room(at["thread_frame"] + 16)
        made.put(state + offsets.through, "<Q", c_frame)
        made.words(c_frame, {"thread_frame": before})
    else:
        made.words(state, {"thread_frame": before})
    return Image(bytes(made.data))
