"""Another task's memory, read through /proc/PID/mem, else by process_vm_readv(2).

And the struct msghdr that sendmsg(2) and its kin name there: one layout for all who read it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from sandbox.kernel import abi, sockaddr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Readable(Protocol):
        """A task's memory, or a task: up to `length` bytes from an address, fewer where nothing more is mapped."""

        def read(self, address: int, length: int) -> bytes: ...


PAGE = 4096

_MSGHDR = struct.Struct("<QI4xQQQQ8x")
MSGHDR = _MSGHDR.size
"""Bytes of struct user_msghdr on a 64-bit kernel (linux/socket.h)."""
NAME_LENGTH, CONTROL_LENGTH, FLAGS = 8, 40, 48
"""Where these fields stand in it."""
MMSGHDR = 64
"""Bytes of struct mmsghdr: a msghdr, msg_len behind it, and padding."""
MOST_PIECES = 1024
"""UIO_MAXIOV (linux/uio.h): sendmsg takes no more buffers, and sendmmsg no more messages, at once."""


class MessageHeader:
    """The fields of a struct user_msghdr that name other memory: addresses and lengths, as the task wrote them."""

    __slots__ = ("control", "control_length", "name", "name_length", "vector", "vector_length")

    def __init__(self, data: bytes) -> None:
        """`data` are MSGHDR bytes."""
        (
            self.name, self.name_length, self.vector, self.vector_length, self.control, self.control_length,
        ) = _MSGHDR.unpack(data)  # fmt: skip


def packed_header(
    name: int, name_length: int, vector: int, vector_length: int, control: int, control_length: int
) -> bytes:  # fmt: skip
    """A struct user_msghdr for a sendmsg of our own, from addresses and lengths."""
    return _MSGHDR.pack(name, name_length, vector, vector_length, control, control_length)


def message_header(memory: Readable, address: int) -> MessageHeader | None:
    """The struct user_msghdr at an address, which a struct mmsghdr begins with; None where it cannot be read whole."""
    data = memory.read(address, MSGHDR)
    return MessageHeader(data) if len(data) == MSGHDR else None


def copy(memory: Readable, address: int, length: int) -> bytes:
    """So many bytes. Raises OSError (EFAULT)."""
    data = memory.read(address, length) if length else b""
    if len(data) != length:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
    return data


def socket_address(memory: Readable, address: int, length: int) -> bytes:
    """A struct sockaddr of connect, bind or sendto, as the kernel copies it. Raises OSError (EINVAL, EFAULT)."""
    if length > sockaddr.LONGEST:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return copy(memory, address, length)


def string(memory: Readable, address: int, longest: int = PAGE) -> tuple[bytes, bool]:
    """A NUL-terminated string without its NUL, and whether it ended before memory or `longest` bytes (PATH_MAX) did."""
    data = memory.read(address, min(256, longest))
    end = data.find(b"\0")
    if end < 0 and len(data) == 256 < longest:
        data += memory.read(address + 256, longest - 256)
        end = data.find(b"\0")
    return (data[:end], True) if end >= 0 else (data, False)


class Memory:
    """Reads one task's memory, with the descriptor kept open between reads. An exec makes it stale: open a new one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.refused = False
        """Whether nothing can be read, whatever is mapped: the task shows its memory to nobody (PR_SET_DUMPABLE)."""
        try:
            self._fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def duplicate(self) -> Memory:
        """The same memory, by a descriptor of its own."""
        other = Memory.__new__(Memory)
        other.pid, other.refused = self.pid, self.refused
        other._fd = os.dup(self._fd) if self._fd >= 0 else -1
        return other

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes, fewer at the end of a mapping, none where nothing is mapped or reading is refused."""
        if not address or address >> 63:
            return b""
        if self._fd >= 0:
            try:
                return os.pread(self._fd, length, address)
            except OSError:
                return b""
        data, number = _vm_read(self.pid, address, length)
        self.refused = number == errno.EPERM
        return data

    def string(self, address: int, longest: int = PAGE) -> bytes:
        """A NUL-terminated string without its NUL, cut at `longest` bytes (PATH_MAX by default)."""
        return string(self, address, longest)[0]

    def close(self) -> None:
        """Give the descriptor back; the object can be closed twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _vm_read(pid: int, address: int, length: int) -> tuple[bytes, int]:
    buffer = ctypes.create_string_buffer(length)
    local = struct.pack("<QQ", ctypes.addressof(buffer), length)
    remote = struct.pack("<QQ", address, length)
    try:
        count = abi.syscall(abi.number("process_vm_readv"), pid, local, 1, remote, 1, 0)
    except OSError as error:
        return b"", error.errno or 0
    return buffer.raw[:count], 0
