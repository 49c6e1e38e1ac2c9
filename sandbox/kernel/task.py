"""The task behind one waiting call: its memory and its descriptors.

A thread's number may be another's the next time, and an exec changes the memory. So what is opened for a call is closed
with its answer, or kept only with a pidfd that tells whether the same thread is still there. It belongs to the caller
if the call still waits afterwards (SECCOMP_IOCTL_NOTIF_ID_VALID).
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
SIGPIPE = 13
MOST = 8
"""Callers that are kept, with two descriptors each."""

# A function object of its own: declared argument types halve what the call costs.
_syscall = abi.LIBC["syscall"]
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long,) * 5
_GETFD, _SIGNAL = abi.number("pidfd_getfd"), abi.number("pidfd_send_signal")


class Caller:
    """Raises OSError only where a method says so."""

    __slots__ = ("_memory", "_pidfd", "exact", "tid")

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self.exact = False
        """Whether the pidfd, once there is one, stands for this very thread."""
        self._pidfd = -1
        self._memory: Memory | None = None

    @property
    def memory(self) -> Memory:
        """Its memory, to read; of a caller that was kept perhaps the one before an exec."""
        if self._memory is None:
            self._memory = Memory(self.tid)
        return self._memory

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes of its memory, fewer where a mapping ends, none where nothing is mapped."""
        if self._memory is None:
            return self.memory.read(address, length)
        data = self._memory.read(address, length)
        if not data and length:  # of the memory before an exec nothing can be read
            self._memory.close()
            self._memory = Memory(self.tid)
            data = self._memory.read(address, length)
        return data

    def duplicate(self, fd: int) -> int:
        """A duplicate of its descriptor. Raises OSError: EBADF, or what refuses pidfd_open(2) or pidfd_getfd(2)."""
        if self._pidfd < 0:
            self._open()
        found: int = _syscall(_GETFD, self._pidfd, fd, 0, 0)
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return found

    def _open(self) -> None:
        for flags in (0, PIDFD_THREAD):
            try:
                self._pidfd = abi.syscall(abi.number("pidfd_open"), self.tid, flags)
            except OSError as error:  # a thread that is not its process's first: EINVAL, from 6.9 on ENOENT
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
            else:
                self.exact = True
                return
        self._pidfd = abi.syscall(abi.number("pidfd_open"), self.process(), 0)

    def lives(self) -> bool:
        """Whether the thread of the pidfd is there; as long as it is, nobody else has its number."""
        return self.exact and _syscall(_SIGNAL, self._pidfd, 0, 0, 0) == 0

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

    def raise_pipe(self) -> None:
        """SIGPIPE for the thread, as the kernel raises it (net/core/stream.c); delivered when its call is answered."""
        try:
            abi.syscall(abi.number("tgkill"), self.process(), self.tid, SIGPIPE)
        except OSError:
            return  # it is gone, or another user's by now

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
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            self.exact = False


class Callers:
    """Those of the handler's threads that used sockets last, kept open; all others are opened for each call."""

    def __init__(self) -> None:
        self.handler = 0
        """Its process; children may share memory with their parent until they exec, and are not kept."""
        self._kept: dict[int, Caller] = {}

    def take(self, tid: int) -> Caller:
        """The caller with a thread's number; give it back with `done`."""
        found = self._kept.get(tid)
        if found is not None:
            if found.lives():
                return found
            del self._kept[tid]
            found.close()
        return Caller(tid)

    def done(self, caller: Caller) -> None:
        """Its call is answered."""
        tid = caller.tid
        if self._kept.get(tid) is caller:
            return
        if not caller.exact or not os.path.exists(f"/proc/{self.handler}/task/{tid}"):
            caller.close()
            return
        self._kept[tid] = caller
        if len(self._kept) > MOST:
            self._kept.pop(next(iter(self._kept))).close()

    def forget(self) -> None:
        """Before an exec: what was kept of memory would be of the past."""
        while self._kept:
            self._kept.popitem()[1].close()
