"""The functions of scripts on a stack of Node, read from outside: by what V8 says of itself to debuggers.

Node exports numbers for them (v8dbg_*, V8's tools/gen-postmortem-metadata.py): where a frame has its function, and
where objects have their fields. A frame counts where its slots, and all that they lead to, are of the right types. What
the optimising compilers have put into another function has no frame of its own.
"""

from __future__ import annotations

import struct
import time

from sandbox.sensor.elf import Elf
from sandbox.sensor.offsets import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Final

    from sandbox.kernel.memory import Readable

PREFIX = "v8dbg_"
NUMBERS = {
    "function": "off_fp_function", "context": "off_fp_context", "map": "class_HeapObject__map__Map",
    "type": "class_Map__instance_type__uint16_t", "function_type": "type_JSFunction__JS_FUNCTION_TYPE",
    "shared": "class_JSFunction__shared__SharedFunctionInfo",
    "shared_type": "type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE",
    "scope_type": "type_ScopeInfo__SCOPE_INFO_TYPE",
    "locals": "scopeinfo_idx_ncontextlocals", "first": "scopeinfo_idx_first_vars",
    "script_type": "type_Script__SCRIPT_TYPE", "script_name": "class_Script__name__Object",
    "length": "class_String__length__int32_t", "chars": "class_SeqOneByteString__chars__char",
    "wide_chars": "class_SeqTwoByteString__chars__char", "no_string": "FirstNonstringType",
    "encoding": "StringEncodingMask", "one_byte": "OneByteStringTag", "kind": "StringRepresentationMask",
    "sequence": "SeqStringTag", "cons": "ConsStringTag", "thin": "ThinStringTag",
    "cons_first": "class_ConsString__first__String", "cons_second": "class_ConsString__second__String",
    "thin_actual": "class_ThinString__actual__String",
}  # fmt: skip
RENAMED = {
    "name": ("name_or_scope_info__Object", "name_or_scope_info__Tagged_Object_",
             "name_or_scope_info__Tagged_NameOrScopeInfoT_"),
    "script": ("script_or_debug_info__HeapObject", "script__Tagged_HeapObject_"),
}  # fmt: skip
"""Fields of class_SharedFunctionInfo__, whose types have had other names since: Node 18 and 20, 22, 24."""
TYPES = 24
"""Types behind JS_FUNCTION_TYPE that are functions, too: constructors of classes and of Node's own objects."""
TAG, TAGS = 1, 3
"""Of a pointer to an object, in its lowest bits; a number (Smi) has the lowest clear, and stands in the upper half."""
LARGEST = 256
"""Bytes of a frame below its pointer in which its function can be."""
DEEPEST = 1 << 16
MOST_FRAMES = 256
MOST_LOCALS = 512
LONGEST = 1024
"""Characters of a name."""
MOST_PARTS = 8
"""Texts of which one is put together."""

_WORD = struct.Struct("<Q")


class ScriptFrame:
    """One function of a script: its name ('' for none), the script's, and where it begins in that (-1: unknown)."""

    __slots__ = ("at", "begin", "file", "function")

    def __init__(self, at: int, file: str, function: str, begin: int) -> None:
        self.at: Final = at
        """Where its frame lies on the stack."""
        self.file = file
        self.function: Final = function
        self.begin: Final = begin


class V8:
    """What one file of Node says of V8."""

    __slots__ = ("_at",)

    def __init__(self, numbers: Mapping[str, int]) -> None:
        """Those of NUMBERS and RENAMED. Raises Unreadable where they cannot be true."""
        slots = (numbers["function"], numbers["context"])  # which lie below the pointer to a frame
        if min(slots) <= -LARGEST or max(slots) >= 0 or any(abs(number) >= 1 << 16 for number in numbers.values()):
            raise Unreadable("does not say where V8 has its objects")
        self._at: Final = numbers

    @classmethod
    def of(cls, fd: int) -> V8:
        """What the file of a descriptor says. Raises Unreadable where it says too little."""
        elf = Elf(fd)
        found = {name: elf.number(PREFIX + symbol) for name, symbol in NUMBERS.items()}
        for name, symbols in RENAMED.items():
            numbers = (elf.number(f"{PREFIX}class_SharedFunctionInfo__{symbol}") for symbol in symbols)
            found[name] = next((number for number in numbers if number is not None), None)
        at = {name: number for name, number in found.items() if number is not None}
        if len(at) < len(found):
            raise Unreadable("does not say where V8 has its objects")
        return cls(at)

    def frames(
        self, stack: Readable, memory: Readable, pointer: int, is_code: Callable[[int], bool], deadline: float
    ) -> Iterator[ScriptFrame]:  # fmt: skip
        """Those above a stack pointer, the innermost first. Raises Unreadable after `deadline` (time.monotonic()).

        `stack` has the stack, `memory` the objects.
        """
        at = self._at
        data = stack.read(pointer, DEEPEST)
        words = struct.unpack_from(f"<{len(data) >> 3}Q", data)
        function, context = at["function"] >> 3, at["context"] >> 3
        count = 0
        for place in range(max(-function, -context, 0), len(words) - 1):
            here = pointer + 8 * place
            if words[place + function] & TAGS != TAG or words[place + context] & TAGS != TAG:
                continue
            if not here < words[place] < here + DEEPEST or not is_code(words[place + 1]):
                continue
            if time.monotonic() > deadline:
                raise Unreadable("it takes too long")
            frame = self._frame(memory, here, words[place + function])
            if frame:
                yield frame
            count += 1
            if count >= MOST_FRAMES:
                return

    def _frame(self, memory: Readable, here: int, function: int) -> ScriptFrame | None:
        at = self._at
        if not at["function_type"] <= self._type(memory, function) < at["function_type"] + TYPES:
            return None
        shared = _word(memory, function - TAG + at["shared"])
        if self._type(memory, shared) != at["shared_type"]:
            return None
        script = _word(memory, shared - TAG + at["script"])
        if self._type(memory, script) != at["script_type"]:
            return None
        file = self._text(memory, _word(memory, script - TAG + at["script_name"]), [MOST_PARTS])
        if not file:
            return None
        about = _word(memory, shared - TAG + at["name"])
        if self._type(memory, about) != at["scope_type"]:
            return ScriptFrame(here, file, self._text(memory, about, [MOST_PARTS]), -1)
        return ScriptFrame(here, file, *self._scope(memory, about))

    def _scope(self, memory: Readable, scope: int) -> tuple[str, int]:
        """(name, begin) of a function by its ScopeInfo: locals, each with a number, then name, place, another name,
        and where it begins and ends."""
        at = self._at
        count = _number(_word(memory, scope - TAG + 8 + 8 * at["locals"]))
        if not 0 <= count <= MOST_LOCALS:
            return "", -1
        data = memory.read(scope - TAG + 8 + 8 * (at["first"] + 2 * count), 48)
        parts = [word for (word,) in _WORD.iter_unpack(data[: len(data) & ~7])]
        if parts and not parts[0] & TAG:  # of a class, where its variable is
            del parts[0]
        if len(parts) < 4:
            return "", -1
        name = self._text(memory, parts[0], [MOST_PARTS]) or self._text(memory, parts[2], [MOST_PARTS])
        return name, _number(parts[3])

    def _text(self, memory: Readable, address: int, room: list[int]) -> str:
        at = self._at
        kind = self._type(memory, address)
        room[0] -= 1
        if not 0 <= kind < at["no_string"] or room[0] < 0:
            return ""
        shape = kind & at["kind"]
        if shape == at["thin"]:
            return self._text(memory, _word(memory, address - TAG + at["thin_actual"]), room)
        if shape == at["cons"]:
            parts = (_word(memory, address - TAG + at[part]) for part in ("cons_first", "cons_second"))
            return "".join([self._text(memory, part, room) for part in parts])[:LONGEST]
        length = int.from_bytes(memory.read(address - TAG + at["length"], 4), "little")
        if shape != at["sequence"] or length > LONGEST:
            return ""
        if kind & at["encoding"] == at["one_byte"]:
            return memory.read(address - TAG + at["chars"], length).decode("latin-1")
        return memory.read(address - TAG + at["wide_chars"], 2 * length).decode("utf-16-le", "replace")

    def _type(self, memory: Readable, address: int) -> int:
        """The type of an object; -1 for what is none."""
        if address & TAGS != TAG:
            return -1
        map_ = _word(memory, address - TAG + self._at["map"])
        data = memory.read(map_ - TAG + self._at["type"], 2) if map_ & TAGS == TAG else b""
        return int.from_bytes(data, "little") if len(data) == 2 else -1


def _word(memory: Readable, address: int) -> int:
    data = memory.read(address, 8)
    return int(_WORD.unpack(data)[0]) if len(data) == 8 else 0


def _number(word: int) -> int:
    """The value of a Smi; -1 for what is none."""
    return word >> 32 if not word & TAG and not word >> 63 else -1
