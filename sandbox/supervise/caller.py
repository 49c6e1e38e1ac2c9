"""The task behind one waiting call: its memory and its descriptors, opened for this call and closed with its answer.

Nothing is kept from call to call: a thread's number may be another's the next time, and an exec changes the memory.
What was opened belongs to the caller if the call still waits afterwards (SECCOMP_IOCTL_NOTIF_ID_VALID).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from sandbox.kernel import abi
from sandbox.kernel.memory import Memory

AT_FDCWD = 0xFFFFFF9C
PIDFD_THREAD = 0o200  # O_EXCL; Linux 6.9 (man 2 pidfd_open)


class Caller:
    """Raises OSError only where a method says so."""

    __slots__ = ("_memory", "tid")

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._memory: Memory | None = None

    @property
    def memory(self) -> Memory:
        """Its memory, to read."""
        if self._memory is None:
            self._memory = Memory(self.tid)
        return self._memory

    def duplicate(self, fd: int) -> int:
        """A duplicate of its descriptor. Raises OSError: EBADF, or what refuses pidfd_getfd(2)."""
        pidfd = self._pidfd()
        try:
            return abi.syscall(abi.number("pidfd_getfd"), pidfd, fd, 0)
        finally:
            os.close(pidfd)

    def _pidfd(self) -> int:
        for number, flags in ((self.tid, 0), (self.tid, PIDFD_THREAD)):
            try:
                return abi.syscall(abi.number("pidfd_open"), number, flags)
            except OSError as error:  # a thread that is not its process's first: EINVAL, from 6.9 on ENOENT
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
        return abi.syscall(abi.number("pidfd_open"), self.process(), 0)

    def process(self) -> int:
        """The process that it belongs to; its own number when it is gone."""
        try:
            with open(f"/proc/{self.tid}/status", "rb") as file:
                for line in file:
                    if line.startswith(b"Tgid:"):
                        return int(line.split()[1])
        except OSError:
            pass
        return self.tid

    def write(self, address: int, data: bytes) -> bool:
        """Write a few bytes as the kernel would for it; False where it could not write there itself.

        Not through /proc/PID/mem, which writes to read-only pages, too: the caller could have its own code rewritten.
        """
        buffer = ctypes.create_string_buffer(data, len(data))
        local = struct.pack("<QQ", ctypes.addressof(buffer), len(data))
        remote = struct.pack("<QQ", address, len(data))
        try:
            count = abi.syscall(abi.number("process_vm_writev"), self.tid, local, 1, remote, 1, 0)
        except OSError:
            return False
        return count == len(data)

    def path(self, dirfd: int | None, address: int) -> str:
        """The absolute path that a pointer names, from a descriptor or (None) the working directory on; '' for none.

        For people: it can change the next moment.
        """
        text = os.fsdecode(self.memory.string(address))
        if not text or text.startswith("/"):
            return os.path.normpath(text) if text else ""
        place = "cwd" if dirfd is None or dirfd == AT_FDCWD else f"fd/{dirfd}"
        try:
            return os.path.normpath(os.path.join(os.readlink(f"/proc/{self.tid}/{place}"), text))
        except OSError:
            return text

    def close(self) -> None:
        """Give back what was opened."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
