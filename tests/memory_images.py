"""The memory of a process that runs Python, made up: thread states, frames and code at the offsets of any version."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sandbox.sensor import bytecode, values
from sandbox.sensor.offsets import Offsets

BASE = 0x7F0000000000
RUNTIME, TID = BASE, 4711


class Call(NamedTuple):
    """One Python function on a stack to be made: `unit` is the instruction that it is at.

    `calls` is the function in C that it calls instead: `module.function`, or `module.Type.method` for a method.
    """

    file: str
    name: str
    first: int
    table: bytes
    unit: int
    calls: str = ""


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

    def c_text(self, text: str) -> int:
        address = self.room(len(text) + 1)
        self.data[address - BASE : address - BASE + len(text)] = text.encode()
        return address

    def type(self, name: str) -> int:
        address = self.room(self.at["type_name"] + 16)
        self.words(address, {"type_name": self.c_text(name)})
        return address

    def c_function(self, name: str) -> int:
        """A PyCFunctionObject of a module, or a PyMethodDescrObject of a type."""
        owner, _, last = name.rpartition(".")
        head, of_type = self.at["bytes_size"], "." in owner
        address, method = self.room(head + 40), self.room(8)
        self.put(method, "<Q", self.c_text(last))
        kind = self.type("method_descriptor" if of_type else "builtin_function_or_method")
        self.words(address, {"object_type": kind})
        self.put(address + head, "<Q", self.type(owner) if of_type else method)
        self.put(address + head + (24 if of_type else 16), "<Q", method if of_type else self.text(owner))
        return address

    def values(self, name: str) -> list[int]:
        """The value stack of a frame that calls a function in C with one argument, as another waits below it."""
        one, other, called = self.room(32), self.c_function("builtins.print"), self.c_function(name)
        method = name.count(".") > 1
        if self.offsets.version >= (3, 13):
            return [other, 0, one, called, one if method else 0, one]
        return [0, other, one, *([called, one] if method else [0, called]), one]

    def code(self, address: int, count: int) -> None:
        """Instructions that push so many values and then call with one argument, where the version is known."""
        opcodes = bytecode.table().get(self.offsets.version[:2])
        if opcodes:
            push = opcodes.operations.index((0, 1, 0, None))
            for place in range(count):
                self.put(address + 2 * place, "<H", push)
            self.put(address + 2 * count, "<H", max(opcodes.calls) | 1 << 8)

    def table(self, table: bytes) -> int:
        address = self.room(self.at["bytes_data"] + len(table))
        self.words(address, {"bytes_size": len(table)})
        start = address - BASE + self.at["bytes_data"]
        self.data[start : start + len(table)] = table
        return address


def image(offsets: Offsets, calls: Sequence[Call], *, in_c: bool = False) -> Image:
    """A process whose thread TID, the second of two, has these calls on its stack, the innermost first.

    With `in_c` code in C stands between them: as frames without Python code, from 3.12 on.
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
    entry = values.entry(offsets)
    for call in calls:
        code = made.room(offsets.code_size + 2 * call.unit + 32)
        made.words(code, {
            "object_type": code_type, "code_file": made.text(call.file), "code_name": made.text(call.name),
            "code_lines": made.table(call.table),
        })  # fmt: skip
        made.put(code + at["code_first"], "<i", call.first)
        stack = made.values(call.calls) if call.calls else []
        instruction = code + at["code_start"] + 2 * (len(stack) or call.unit)
        made.put(code + at["code_first"] + 4, "<i", 2)
        if stack:
            made.put(code + at["bytes_size"] + 24, "<Q", made.table(b""))
            made.code(code + at["code_start"], len(stack))
        codes.append((code, instruction, 0, stack))
        if in_c and entry < 0:
            codes.append((none, 0, at["frame_in_c"], []))
    chunk = made.room(24)
    before = 0
    for code, instruction, owner, stack in reversed(codes):
        frame = made.room((at["frame_owner"] | 7) + 1 + 8 * (2 + len(stack)))
        for place, value in enumerate(stack):
            made.put(frame + (at["frame_owner"] | 7) + 1 + 8 * (2 + place), "<Q", value)
        if in_c and entry >= 0:
            made.data[frame - BASE + entry] = 1
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
