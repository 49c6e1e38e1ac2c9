"""The task behind a notification: its memory and its descriptors, read here and nowhere else; its paths: path_walk.py.

Recorder, supervisor and the lines of violations all read through this. A thread's number may be another's the next
time, and an exec changes the memory. So what is opened for a call is closed with its answer, or kept only by the rules
of `Tasks`. It belongs to the task if the call still waits afterwards (SECCOMP_IOCTL_NOTIF_ID_VALID).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from sandbox.kernel import abi, sockaddr
from sandbox.kernel.memory import PAGE, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.kernel.sockaddr import SocketAddress

PIDFD_THREAD = 0o200  # O_EXCL; Linux 6.9 (man 2 pidfd_open)
SIGPIPE = 13
SOL_SOCKET, SO_TYPE, SO_ACCEPTCONN, SO_DOMAIN = 1, 3, 30, 39  # asm-generic/socket.h
MOST = 8
"""Tasks that a supervisor keeps, with two descriptors each."""

# Function objects of their own: declared argument types halve what the call costs.
_syscall = abi.LIBC["syscall"]
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long,) * 5
_GETFD, _SIGNAL = abi.number("pidfd_getfd"), abi.number("pidfd_send_signal")
_getsockopt = abi.LIBC["getsockopt"]
_getsockopt.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_VALUE, _SIZE = ctypes.c_int(), ctypes.c_uint32(4)  # the loop that answers notifications alone uses them
_VALUE_AT, _SIZE_AT = ctypes.addressof(_VALUE), ctypes.addressof(_SIZE)


class Task:
    """One thread, by its number. Raises OSError only where a method says so."""

    __slots__ = ("_copy", "_memory", "_pidfd", "_process", "exact", "tid")

    def __init__(self, tid: int, copy: Callable[[Task, int], int] | None = None) -> None:
        """`copy(task, fd)` gives a duplicate of a descriptor where the kernel would not; -1 where it has none."""
        self.tid = tid
        self._copy = copy
        self.exact = False
        """Whether the pidfd, once there is one, stands for this very thread."""
        self._pidfd = -1
        self._process = 0
        self._memory: Memory | None = None

    def read(self, address: int, length: int) -> bytes:
        """Up to `length` bytes of its memory, fewer where a mapping ends, none where nothing is mapped."""
        if self._memory is None:
            self._memory = Memory(self.tid)
            return self._memory.read(address, length)
        data = self._memory.read(address, length)
        if not data and length and address:
            data = self._reopened().read(address, length)
        return data

    def string(self, address: int, longest: int = PAGE) -> bytes:
        """A NUL-terminated string without its NUL, cut at `longest` bytes (PATH_MAX by default)."""
        if self._memory is None:
            self._memory = Memory(self.tid)
            return self._memory.string(address, longest)
        data = self._memory.string(address, longest)
        return data if data or not address else self._reopened().string(address, longest)

    @property
    def blind(self) -> bool:
        """Whether the last read found a task that shows its memory to nobody; what it names cannot be told then."""
        return self._memory is not None and self._memory.refused

    def _reopened(self) -> Memory:
        """The memory as it is now: of the one before an exec, or of a task before this one, nothing can be read."""
        if self._memory is not None:
            self._memory.close()
        self._process = 0
        self._memory = Memory(self.tid)
        return self._memory

    def duplicate(self, fd: int) -> int:
        """A duplicate of its descriptor. Raises OSError: EBADF, or what refuses pidfd_open(2) or pidfd_getfd(2)."""
        if self._copy is not None and (known := self._copy(self, fd)) >= 0:
            return known
        if self._pidfd < 0:
            self._open()
        copy: int = _syscall(_GETFD, self._pidfd, fd, 0, 0)
        if copy < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return copy

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

    @property
    def has_pidfd(self) -> bool:
        """Whether a pidfd was opened, so that `lives` can tell."""
        return self._pidfd >= 0

    def lives(self) -> bool:
        """Whether the thread of the pidfd is there; as long as it is, nobody else has its number."""
        return self.exact and _syscall(_SIGNAL, self._pidfd, 0, 0, 0) == 0

    def process(self) -> int:
        """The process that it belongs to; its own number when it is gone."""
        if not self._process:
            self._process = self._read_process()
        return self._process

    def _read_process(self) -> int:
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

        Not through /proc/PID/mem, which writes to read-only pages, too: the task could have its own code rewritten.
        """
        buffer = ctypes.create_string_buffer(data, len(data))
        local = struct.pack("<QQ", ctypes.addressof(buffer), len(data))
        remote = struct.pack("<QQ", address, len(data))
        try:
            count = abi.syscall(abi.number("process_vm_writev"), self.tid, local, 1, remote, 1, 0)
        except OSError:
            return False
        return count == len(data)

    def socket_kind(self, fd: int) -> tuple[int, int] | None:
        """(domain, type) of its socket; None for another descriptor, or where the kernel gives no duplicates."""
        try:
            copy = self.duplicate(fd)
        except OSError:
            return None
        try:
            return socket_kind(copy)
        except OSError:
            return None
        finally:
            os.close(copy)

    def socket_protocol(self, fd: int) -> str:
        """tcp, udp or typeN for its socket; '' where `socket_kind` says nothing."""
        kind = self.socket_kind(fd)
        return sockaddr.protocol(kind[1]) if kind else ""

    def datagram_peer(self, fd: int) -> SocketAddress | None:
        """What its IPv4 or IPv6 datagram socket is connected to; None where it is not such a socket, or to nothing."""
        try:
            copy = self.duplicate(fd)
        except OSError:
            return None
        try:
            domain, type_ = socket_kind(copy)
            if type_ != sockaddr.SOCK_DGRAM or domain not in (sockaddr.AF_INET, sockaddr.AF_INET6):
                return None
            return sockaddr.parse(socket_name(copy, peer=True))
        except OSError:
            return None
        finally:
            os.close(copy)

    def close(self) -> None:
        """Give back what was opened; a later use opens it again."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
            self.exact = False
        self._process = 0


class Tasks:
    """Tasks that are kept open from call to call; all others are opened for each.

    A supervisor does not see every exec of a child, which shares memory with its parent until then (vfork, CLONE_VM).
    So it keeps threads of the handler alone, and those only by a pidfd that still stands for the same thread. Who sees
    every exec, and says `forget` before each, keeps all tasks: memory that is gone reads as nothing, and is opened
    again.
    """

    def __init__(self, most: int = MOST, *, sees_every_exec: bool = False) -> None:
        """Of more than `most` tasks the one that was kept first is closed: descriptors are bounded."""
        self.handler = 0
        """The handler's process."""
        self._most = most
        self._all = sees_every_exec
        self._kept: dict[int, Task] = {}
        self.copy: Callable[[Task, int], int] | None = None
        """How tasks duplicate descriptors where the kernel refuses it (Task)."""

    def take(self, tid: int) -> Task:
        """The task with a thread's number; give it back with `done`."""
        task = self._kept.get(tid)
        if task is not None:
            if task.lives() or (self._all and not task.has_pidfd):
                return task
            del self._kept[tid]
            task.close()
        return Task(tid, self.copy)

    def done(self, task: Task) -> None:
        """Its call is answered."""
        tid = task.tid
        if self._kept.get(tid) is task:
            return
        if not (self._all or (task.exact and os.path.exists(f"/proc/{self.handler}/task/{tid}"))):
            task.close()
            return
        self._kept[tid] = task
        if len(self._kept) > self._most:
            self._kept.pop(next(iter(self._kept))).close()

    def forget(self, process: int = 0) -> None:
        """Before an exec of a process (0: of any): what was kept of its memory would be of the past."""
        for task in [task for task in self._kept.values() if not process or task.process() == process]:
            del self._kept[task.tid]
            task.close()


def socket_kind(fd: int) -> tuple[int, int]:
    """(domain, type) of a socket of our own, AF_* and SOCK_*. Raises OSError (ENOTSOCK)."""
    if _getsockopt(fd, SOL_SOCKET, SO_DOMAIN, _VALUE_AT, _SIZE_AT) == 0:
        domain = _VALUE.value
        if _getsockopt(fd, SOL_SOCKET, SO_TYPE, _VALUE_AT, _SIZE_AT) == 0:
            return domain, _VALUE.value
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def socket_listens(fd: int) -> bool:
    """Whether a socket of our own accepts connections (SO_ACCEPTCONN, man 7 socket)."""
    return _getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, _VALUE_AT, _SIZE_AT) == 0 and _VALUE.value != 0


def socket_name(fd: int, *, peer: bool = False) -> bytes:
    """The struct sockaddr that a socket of our own is bound to or, with `peer`, connected to. Raises OSError."""
    data, size = ctypes.create_string_buffer(sockaddr.LONGEST), ctypes.c_uint32(sockaddr.LONGEST)
    if (abi.LIBC.getpeername if peer else abi.LIBC.getsockname)(fd, data, ctypes.byref(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return data.raw[: size.value]
