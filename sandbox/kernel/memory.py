"""Another task's memory, read and a little written through /proc/PID/mem, else read by process_vm_readv(2)."""

from __future__ import annotations

import ctypes
import os
import struct

from sandbox.kernel import abi

PAGE = 4096


class Memory:
    """Reads one task's memory, with the descriptor kept open between reads. An exec makes it stale: open a new one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes, fewer at the end of a mapping, none where nothing is mapped or reading is refused."""
        if not address or address >> 63:
            return b""
        if self._fd >= 0:
            try:
                return os.pread(self._fd, length, address)
            except OSError:
                return b""
        return _vm_read(self.pid, address, length)

    def string(self, address: int, longest: int = PAGE) -> bytes:
        """A NUL-terminated string without its NUL, cut at `longest` bytes (PATH_MAX by default)."""
        first = self.read(address, min(256, longest))
        end = first.find(b"\0")
        if end >= 0:
            return first[:end]
        data = first + self.read(address + len(first), longest - len(first)) if len(first) == 256 else first
        end = data.find(b"\0")
        return data[:end] if end >= 0 else data

    def word(self, address: int) -> int:
        """A 64-bit word, 0 where it cannot be read."""
        data = self.read(address, 8)
        return int.from_bytes(data, "little") if len(data) == 8 else 0

    def write(self, address: int, data: bytes) -> bool:
        """Write a few bytes; False where that is refused or nothing is mapped."""
        try:
            fd = os.open(f"/proc/{self.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.pwrite(fd, data, address) == len(data)
        except OSError:
            return False
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the descriptor back; the object can be closed twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _vm_read(pid: int, address: int, length: int) -> bytes:
    buffer = ctypes.create_string_buffer(length)
    local = struct.pack("<QQ", ctypes.addressof(buffer), length)
    remote = struct.pack("<QQ", address, length)
    try:
        count = abi.syscall(abi.number("process_vm_readv"), pid, local, 1, remote, 1, 0)
    except OSError:
        return b""
    return buffer.raw[:count]
