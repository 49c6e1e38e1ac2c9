"""The Python stack of one thread that waits, read from its process's memory: bounded in reads, bytes and frames.

Nothing is trusted: whoever runs in the process writes what is read here. Whatever does not fit together ends the
reading with Unreadable; no content makes it slow, endless, or anything else.
"""

from __future__ import annotations

import struct
import time

from sandbox.sensor import values
from sandbox.sensor.line_table import line_of
from sandbox.sensor.offsets import NoThread, Offsets, Unreadable
from sandbox.violations.origin import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kernel.memory import Readable

MOST_FRAMES = 1024
MOST_THREADS = 4096
MOST_INTERPRETERS = 64
LONGEST_TEXT = 4096
"""Characters of a file's or function's name (PATH_MAX for what is a path)."""
MOST_TEXT = 1 << 18
"""Bytes of all names of one stack: a supervisor has little memory, and a process may have any names."""
LONGEST_TABLE = 1 << 15
"""Bytes of a line table: a function of more than some 5,000 lines has its name, and no line."""
PIECE = 256
"""Bytes that are read of a text or table at once: most are shorter, and one read costs more than what it brings."""
CHUNK = 1 << 14
"""Bytes of the innermost frames that are read at once: one chunk of the interpreter's own (pycore_pystate.h)."""
HIGHEST = 1 << 56
"""Addresses of a process lie below, on x86-64 (47 bits, or 56 where it asks) as on aarch64 (48, or 52)."""
MOST_KNOWN = 64
"""Threads whose states are looked for in one place first."""

_unpack = struct.Struct("<Q").unpack_from
_now = time.monotonic
_STATE = struct.Struct("<I")
_INT = struct.Struct("<i")


class Activation:
    """One call of a Python function. `file` was read; `frame` reads its name and line, too."""

    __slots__ = ("_at", "_code", "_head", "_instruction", "_leaves", "_stack", "file")

    def __init__(
        self, stack: Stack, at: int, code: int, head: bytes, instruction: int, file: str, *, leaves: bool
    ) -> None:  # fmt: skip
        """`leaves`: what it calls at the moment is no Python function, or one that code in C has called."""
        self._stack = stack
        self._at = at
        self._code = code
        self._head = head
        self._instruction = instruction
        self._leaves = leaves
        self.file = file

    def frame(self) -> Frame:
        """Its file, function and line. Raises Unreadable."""
        at = self._stack.layout.at
        name = self._stack.text(_word(self._head, at["code_name"]))
        lines = self._stack.table(_word(self._head, at["code_lines"]))
        (first,) = _INT.unpack_from(self._head, at["code_first"])
        unit = (self._instruction - self._code - at["code_start"]) >> 1
        return Frame(self.file, name, max(0, line_of(lines, first, unit)))

    def c_function(self) -> str:
        """The C function that it calls at the moment, `_pickle.loads`, from its value stack; '' where that tells none.

        It is the function that made the system call in the innermost frame, and in one further out that by which code
        in C called the frame inside of it.
        """
        if not self._leaves:
            return ""
        try:
            return values.c_function(self._stack, self._at, self._head, self._code, self._instruction)
        except Unreadable:
            return ""


class Stack:
    """Reads the stacks of one process. Not for several threads."""

    __slots__ = (
        "_chunk", "_chunk_at", "_code_type", "_deadline", "_memory", "_room", "_runtime", "_texts", "_threads",
        "layout",
    )  # fmt: skip

    def __init__(self, memory: Readable, runtime: int, layout: Offsets) -> None:
        """`runtime` is the address of _PyRuntime."""
        self.layout = layout
        self._memory = memory
        self._runtime = runtime
        self._threads: dict[int, tuple[int, int]] = {}
        self._code_type = 0
        self._chunk = b""
        self._chunk_at = 0
        self._texts: dict[int, str] = {}
        self._room = MOST_TEXT
        self._deadline = 0.0

    def activations(self, tid: int, deadline: float) -> Iterator[Activation]:
        """The calls on the stack of the thread that the kernel calls `tid`, the innermost first.

        `deadline` is a time.monotonic(). Raises NoThread for a thread without Python, Unreadable where memory does not
        fit together.
        """
        self._deadline = deadline
        self._texts.clear()  # a cache that outlived this stop could tell of what lay there before
        self._room = MOST_TEXT
        state = self._state(tid)
        at = self.layout.at
        self._read_chunk(*struct.unpack_from("<QQ", state, at["thread_chunk"]))
        if self.layout.through >= 0:
            frame = self.word(_word(state, self.layout.through) + at["thread_frame"])
        else:
            frame = _word(state, at["thread_frame"])
        owner, in_c, mask = at["frame_owner"], at["frame_in_c"], ~self.layout.tagged
        in_frame, instruction, previous = at["frame_code"], at["frame_instruction"], at["frame_previous"]
        size, file_at, texts = self.layout.frame_size, at["code_file"], self._texts
        chunk, start, last = self._chunk, self._chunk_at, len(self._chunk) - size
        entry = values.entry(self.layout)
        leaves = True
        seen = set[int]()
        heads: dict[int, bytes] = {}
        while frame:
            if frame in seen or len(seen) >= MOST_FRAMES:
                raise Unreadable("its frames do not end")
            seen.add(frame)
            if 0 <= frame - start <= last:
                data, here = chunk, frame - start
            else:
                data, here = self.exactly(frame, size), 0
            if data[here + owner] < in_c:
                code = _unpack(data, here + in_frame)[0] & mask
                head = heads.get(code)
                if head is None:  # not of a function that calls itself
                    head = heads[code] = self._code(code)
                if head:
                    address = _unpack(head, file_at)[0]
                    file = texts.get(address) or self.text(address)
                    at_ = _unpack(data, here + instruction)[0]
                    yield Activation(self, frame, code, head, at_, file, leaves=leaves)
                leaves = entry >= 0 and data[here + entry] != 0
            else:
                leaves = True
            (frame,) = _unpack(data, here + previous)

    # Threads.

    def _state(self, tid: int) -> bytes:
        """The thread state of a thread, as it stands in memory."""
        at = self.layout.at
        known = self._threads.get(tid)
        if known:
            state, head = known
            data = self._memory.read(state, self.layout.thread_size)
            if len(data) == self.layout.thread_size and _word(data, at["thread_native"]) == tid:
                before = _word(data, at["thread_previous"])
                # What has been freed is in no list any more, whatever its bytes still say.
                if self.word(before + at["thread_next"] if before else head) == state:
                    return data
            del self._threads[tid]
        interpreter = self.word(self._runtime + at["interpreters_head"])
        threads = 0
        for _ in range(MOST_INTERPRETERS):
            if not interpreter:
                break
            head = interpreter + at["threads_head"]
            state = self.word(head)
            while state and threads < MOST_THREADS:
                threads += 1
                data = self.exactly(state, self.layout.thread_size)
                if _word(data, at["thread_native"]) == tid:
                    if len(self._threads) >= MOST_KNOWN:
                        self._threads.clear()
                    self._threads[tid] = (state, head)
                    return data
                state = _word(data, at["thread_next"])
            interpreter = self.word(interpreter + at["interpreter_next"])
        raise NoThread("the thread has no Python", self.layout.version)

    # Frames and code.

    def _read_chunk(self, start: int, top: int) -> None:
        """Read the end of the chunk that holds the innermost frames; those elsewhere are read one by one."""
        self._chunk, self._chunk_at = b"", 0
        if 0 < start < top < HIGHEST:
            self._chunk_at = max(start, top - CHUNK)
            self._chunk = self._memory.read(self._chunk_at, top - self._chunk_at)

    def _code(self, address: int) -> bytes:
        """The fields of a code object; b'' where something else stands for it, as in a frame without Python code."""
        head = self.exactly(address, self.layout.code_size)
        (type_,) = _unpack(head, self.layout.at["object_type"])
        if type_ != self._code_type:
            name = self.word(type_ + self.layout.at["type_name"])
            if self.exactly(name, 5) != b"code\0":
                return b""
            self._code_type = type_
        return head

    # Objects.

    def text(self, address: int) -> str:
        """The characters of a str. Raises Unreadable, also for one that is too long for a name."""
        known = self._texts.get(address)
        if known is not None:
            return known
        at = self.layout.at
        data = self._read(address)
        if len(data) < at["text_wide"]:
            raise Unreadable("a text is cut off")
        length = _word(data, at["text_length"])
        (state,) = _STATE.unpack_from(data, at["text_state"])
        width, compact, ascii_ = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
        if not compact or width not in (1, 2, 4) or length > LONGEST_TEXT:
            raise Unreadable("a name is not a text")
        start = at["text_ascii"] if ascii_ else at["text_wide"]
        end = start + length * width
        self._room -= end
        if self._room < 0:
            raise Unreadable("its names are too long")
        if end > len(data):
            data = self.exactly(address, end)
        found = data[start:end].decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[width], "replace")
        self._texts[address] = found
        return found

    def table(self, address: int) -> bytes:
        """The content of a bytes object; b'' for one that is too long. Raises Unreadable."""
        at = self.layout.at
        data = self._read(address)
        if len(data) < at["bytes_data"]:
            raise Unreadable("a table is cut off")
        size = _word(data, at["bytes_size"])
        if size > LONGEST_TABLE:
            return b""
        end = at["bytes_data"] + size
        if end > len(data):
            data = self.exactly(address, end)
        return data[at["bytes_data"] : end]

    # Memory.

    def word(self, address: int) -> int:
        """The 64-bit number at an address. Raises Unreadable."""
        return _word(self.exactly(address, 8), 0)

    def exactly(self, address: int, size: int) -> bytes:
        """So many bytes, until the deadline. Raises Unreadable."""
        if not 0 < address < HIGHEST:
            raise Unreadable("an address is none")
        if _now() > self._deadline:
            raise Unreadable("it takes too long")
        data = self._memory.read(address, size)
        if len(data) < size:
            raise Unreadable("its memory ends")
        return data

    def some(self, address: int, size: int) -> bytes:
        """Up to so many bytes, until the deadline. Raises Unreadable."""
        if _now() > self._deadline:
            raise Unreadable("it takes too long")
        return self._memory.read(address, size) if 0 < address < HIGHEST else b""

    def _read(self, address: int) -> bytes:
        """The first bytes of an object, PIECE at most."""
        return self.some(address, PIECE)


def _word(data: bytes, offset: int) -> int:
    found: int = _unpack(data, offset)[0]
    return found
