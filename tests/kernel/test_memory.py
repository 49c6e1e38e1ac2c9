"""Another process's memory, read and written in the running kernel, by both ways."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import TypeVar

import pytest
from child_processes import in_child

from sandbox.kernel import memory
from sandbox.kernel.memory import PAGE, Memory
from sandbox.kernel.task import Task
from sandbox.probe import raw

T = TypeVar("T")

TEXT = b"/usr/bin/python3\0rest"
LONG = b"x" * 5000
WORD = bytes(range(1, 9))


class Other:
    """A child that holds known memory and answers what is in it."""

    def __init__(self) -> None:
        # Two pages of which the second is gone: what lies at the end of the first ends there.
        pair = mmap.mmap(-1, 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pair))
        self.text = start
        ctypes.memmove(start, TEXT, len(TEXT))
        self.word = start + 64
        ctypes.memmove(self.word, WORD, 8)
        self.edge = start + PAGE - 5
        ctypes.memmove(self.edge, b"edge!", 5)
        assert raw.call("munmap", start + PAGE, PAGE) == 0
        self._long = ctypes.create_string_buffer(LONG)
        self.long = ctypes.addressof(self._long)
        self._keep = pair
        self._answer, answered = os.pipe()
        asked, self._ask = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.read(asked, 1)
            os.write(answered, ctypes.string_at(self.text, 16))
            os._exit(0)

    def end(self) -> bytes:
        """Let it go; the first bytes of its memory as it sees them."""
        os.write(self._ask, b"?")
        said = os.read(self._answer, 100)
        os.waitpid(self.pid, 0)
        return said


def reading(uid: int | None, function: Callable[[Other, Memory], T], *, closed: bool = False) -> T:
    """A function of another process and its memory, run as a user; with `closed` by process_vm_readv(2)."""

    def run() -> T:
        other = Other()
        found = Memory(other.pid)
        assert found._fd >= 0
        if closed:
            found.close()
            found.close()
        try:
            return function(other, found)
        finally:
            found.close()
            other.end()

    return in_child(run, uid)


WAYS = pytest.mark.parametrize("closed", [False, True], ids=["proc", "process_vm_readv"])


@WAYS
def test_bytes_and_words(uid: int | None, closed: bool) -> None:
    """Bytes and words come as they are; both ways stop where the memory stops."""

    def look(other: Other, found: Memory) -> list[object]:
        return [
            found.read(other.text, 4), found.read(other.word, 8), found.read(other.edge, 5),
            found.read(other.edge, 100), found.read(other.edge, 8), found.read(other.edge + 5, 10),
        ]  # fmt: skip

    assert reading(uid, look, closed=closed) == [b"/usr", WORD, b"edge!", b"edge!", b"edge!", b""]


@WAYS
def test_strings(uid: int | None, closed: bool) -> None:
    """A string ends at its NUL, at the longest allowed, or where the memory ends."""

    def look(other: Other, found: Memory) -> list[bytes]:
        return [
            found.string(other.text), found.string(other.text + 4), found.string(other.long),
            found.string(other.long, 300), found.string(other.long, 10), found.string(other.edge),
            found.string(other.text, 3),
        ]  # fmt: skip

    wanted = [b"/usr/bin/python3", b"/bin/python3", LONG[:PAGE], LONG[:300], LONG[:10], b"edge!", b"/us"]
    assert reading(uid, look, closed=closed) == wanted


@WAYS
def test_addresses_where_nothing_is(uid: int | None, closed: bool) -> None:
    """Null, unmapped, non-canonical and kernel addresses read as nothing and never raise."""

    def look(_: Other, found: Memory) -> set[object]:
        addresses = (0, 1, PAGE - 1, 1 << 46, (1 << 47) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
        return {found.read(address, 16) for address in addresses} | {found.string(address) for address in addresses}

    assert reading(uid, look, closed=closed) == {b""}


@WAYS
def test_a_process_that_is_gone(uid: int | None, closed: bool) -> None:
    """The memory of a process that ended reads as nothing, also through a descriptor that was opened before."""

    def run() -> tuple[bytes, bytes, bytes]:
        other = Other()
        before = Memory(other.pid)
        first = before.read(other.text, 4)
        if closed:
            before.close()
        other.end()
        after = Memory(other.pid)
        return first, before.read(other.text, 4), after.read(other.text, 4)

    assert in_child(run, uid) == (b"/usr", b"", b"")


def test_writing(uid: int | None) -> None:
    """A few bytes are written where memory is, and the process sees them; elsewhere the answer is False."""

    def run() -> tuple[list[bool], bytes]:
        other = Other()
        task = Task(other.pid)
        answers = [task.write(other.text, b"/opt"), task.write(1 << 46, b"x")]
        return answers, other.end()

    answers, seen = in_child(run, uid)
    assert answers == [True, False]
    assert seen == b"/opt/bin/python3"


def test_memory_of_other_users_is_closed() -> None:
    """An unprivileged process reads nothing of root's, by either way, and gets no error."""
    if os.geteuid() != 0:
        pytest.skip("needs a process of another user")
    buffer = ctypes.create_string_buffer(b"secret")
    mine, at = os.getpid(), ctypes.addressof(buffer)

    def attempt() -> tuple[bytes, bytes, bool]:
        found = Memory(mine)
        return found.read(at, 6), memory._vm_read(mine, at, 6)[0], Task(mine).write(at, b"public")

    assert in_child(attempt, 65534) == (b"", b"", False)
    assert buffer.value == b"secret"
