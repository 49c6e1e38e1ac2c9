"""Where CPython keeps what a stack is made of: by exact version from a table, by its own word from 3.13 on.

layouts.json has 3.11 and 3.12, made by tools/layouts from headers. A version between two whose headers say the same is
as they are: a released branch of CPython keeps its structures, which its CI compares (Doc/data/python3.12.abi). What
is older or newer than all that were read is not. From 3.13 on `_PyRuntime` begins with struct
_Py_DebugOffsets (Include/internal/pycore_debug_offsets.h), whose own layout goes with the minor version. Whatever else
there is stays unknown: a guess would put the name of somebody else on a line.
"""

from __future__ import annotations

import os
import struct

from sandbox.memo import memo
from sandbox.plain_json import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

COOKIE = b"xdebugpy"
FURTHEST = 1 << 20
"""Bytes into a structure beyond which nothing that is read here can stand; PyInterpreterState is the largest."""
LARGEST = 1 << 11
"""The same for thread states, frames and code objects, which are read whole."""

FIELDS = (
    "interpreters_head", "interpreter_next", "threads_head", "thread_previous", "thread_next", "thread_native",
    "thread_frame", "thread_chunk", "frame_code", "frame_instruction", "frame_previous", "frame_owner", "object_type",
    "type_name", "code_file", "code_name", "code_lines", "code_first", "code_start", "bytes_size", "bytes_data",
    "text_length", "text_state", "text_ascii", "text_wide", "frame_in_c",
)  # fmt: skip
"""Offsets, but for `frame_in_c`: the first owner (`frame_owner`) of a frame that has no Python code. `thread_frame` is
where a thread state has its innermost frame. `text_ascii` and `text_wide` are where the characters of compact strings
begin."""
THROUGH = "thread_c_frame"
"""Before 3.13: where a thread state has the frame of C in which, at `thread_frame`, the innermost frame stands."""

_WORDS = 96
HEAD = 8 * _WORDS
"""Bytes at the start of _PyRuntime that tell of all else, from 3.13 on."""
# How many words each structure has in _Py_DebugOffsets, in its order, up to the last that is read.
_STRUCTURES = {
    (3, 13): {
        "runtime": 3, "interpreter": 13, "thread": 9, "frame": 6, "code": 10, "object": 2, "type": 4, "tuple": 3,
        "list": 3, "dict": 3, "float": 2, "long": 3, "bytes": 3, "text": 4,
    },
    (3, 14): {
        "runtime": 3, "interpreter": 16, "thread": 9, "frame": 8, "code": 11, "object": 2, "type": 4, "tuple": 3,
        "list": 3, "set": 4, "dict": 3, "float": 2, "long": 3, "bytes": 3, "text": 4,
    },
}  # fmt: skip
_NAMED = {
    "interpreters_head": ("runtime", 2), "interpreter_next": ("interpreter", 2), "threads_head": ("interpreter", 3),
    "thread_previous": ("thread", 1), "thread_next": ("thread", 2), "thread_frame": ("thread", 4),
    "thread_native": ("thread", 6), "thread_chunk": ("thread", 7), "frame_previous": ("frame", 1),
    "frame_code": ("frame", 2), "frame_instruction": ("frame", 3), "frame_owner": ("frame", 5),
    "code_file": ("code", 1), "code_name": ("code", 3), "code_lines": ("code", 4), "code_first": ("code", 5),
    "code_start": ("code", 9), "object_type": ("object", 1), "type_name": ("type", 1), "bytes_size": ("bytes", 1),
    "bytes_data": ("bytes", 2), "text_state": ("text", 1), "text_length": ("text", 2), "text_ascii": ("text", 3),
}  # fmt: skip
_OWNER_IN_C = 3  # FRAME_OWNED_BY_CSTACK of 3.12 and 3.13, FRAME_OWNED_BY_INTERPRETER of 3.14 (pycore_frame.h)
_POINTERS = 16  # of PyCompactUnicodeObject behind its PyASCIIObject: a length and a pointer, since 3.12


class Unreadable(Exception):
    """What was read is not the interpreter that it should be; the text says why."""


class NoThread(Unreadable):
    """The interpreter of a version could be read, and knows no such thread."""

    def __init__(self, text: str, version: tuple[int, int, int]) -> None:
        super().__init__(text)
        self.version = version


class Offsets:
    """Offsets of one CPython. `version` is (major, minor, micro); a debug build or another ABI is not told apart."""

    __slots__ = ("at", "code_size", "frame_size", "tagged", "thread_size", "through", "version")

    def __init__(self, version: tuple[int, int, int], fields: Mapping[str, int]) -> None:
        """`fields` are FIELDS, and THROUGH before 3.13. Raises Unreadable where they cannot be those of a CPython."""
        self.version: Final = version
        for name in FIELDS:
            value = fields.get(name, -1)
            room = FURTHEST if name.startswith(("interp", "threads")) else LARGEST
            if not 0 <= value < room:
                raise Unreadable(f"{name} of Python {text(version)} is at {value}")
        # A number stands before the characters or bytes that it is about, which are read as far as to these.
        sizes = (("text_length", "text_wide"), ("text_state", "text_wide"), ("bytes_size", "bytes_data"))
        if any(fields[name] + 8 > fields[behind] for name, behind in sizes):
            raise Unreadable(f"the objects of Python {text(version)} overlap")
        self.at: Final = {name: fields[name] for name in FIELDS}
        self.through: Final = fields.get(THROUGH, -1)
        self.tagged: Final = 3 if version >= (3, 14) else 0
        """The low bits of a frame's reference to its code that are not part of the address (pycore_stackref.h)."""
        in_thread = [value for name, value in fields.items() if name.startswith("thread_")]
        self.thread_size: Final = max(in_thread) + 16  # the top of the chunk's use stands behind the chunk
        in_frame = [value for name, value in fields.items() if name.startswith("frame_") and name != "frame_in_c"]
        self.frame_size: Final = max(in_frame) + 8
        in_code = [value for name, value in fields.items() if name.startswith("code_")]
        self.code_size: Final = max(*in_code, fields["object_type"], fields["bytes_size"] + 24) + 8  # see values.py


def text(version: tuple[int, int, int]) -> str:
    """3.11.2"""
    return ".".join(map(str, version))


def version_of(number: int) -> tuple[int, int, int]:
    """(major, minor, micro) of PY_VERSION_HEX."""
    return number >> 24 & 0xFF, number >> 16 & 0xFF, number >> 8 & 0xFF


@memo
def table() -> Mapping[tuple[int, ...], Mapping[str, int]]:
    """{version: fields} of layouts.json."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "layouts.json"), encoding="utf-8") as file:
        rows = parse(file.read())
    return {tuple(map(int, version.split("."))): row["fields"] for row in rows for version in row["versions"]}


def covered(version: tuple[int, int, int]) -> Mapping[str, int] | None:
    """The fields of a version in the table, or between two of its minor version in it that have the same."""
    found = table()
    alike = sorted(known for known in found if known[:2] == version[:2])
    before = [found[known] for known in alike if known <= version][-1:]
    behind = [found[known] for known in alike if known >= version][:1]
    return before[0] if before and before == behind else None


def listed(number: int) -> Offsets:
    """Those of the version PY_VERSION_HEX. Raises Unreadable for one that the table does not cover."""
    version = version_of(number)
    fields = covered(version)
    if fields is None or number & 0xFF != 0xF0:  # a pre-release
        raise Unreadable(f"the layout of Python {text(version)} is not known")
    return Offsets(version, fields)


def told(head: bytes) -> Offsets:
    """Those that the first bytes of _PyRuntime tell. Raises Unreadable for a version without, or unknown."""
    if len(head) < HEAD or head[:8] != COOKIE:
        raise Unreadable("_PyRuntime does not begin with debug offsets")
    words = struct.unpack_from(f"<{_WORDS}Q", head)
    version = version_of(words[1])
    structures = _STRUCTURES.get(version[:2])
    if structures is None:
        raise Unreadable(f"the debug offsets of Python {text(version)} are not known")
    if words[2]:
        raise Unreadable(f"Python {text(version)} runs without a GIL")
    starts, at = {}, 3
    for name, count in structures.items():
        starts[name] = at
        at += count
    fields = {name: words[starts[structure] + index] for name, (structure, index) in _NAMED.items()}
    return Offsets(version, fields | {"text_wide": fields["text_ascii"] + _POINTERS, "frame_in_c": _OWNER_IN_C})
