"""What a notified call means: its item (syscall and class), and what its pointers say about paths and destinations.

Pure but for `Reader`, the one way into the caller's memory and descriptors.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import struct
from collections.abc import Sequence
from typing import Literal, NamedTuple

from sandbox.behaviour import arguments
from sandbox.behaviour.call import Call
from sandbox.kernel import abi, sockaddr
from sandbox.kernel.memory import Memory

AT_FDCWD = 0xFFFFFF9C
MMSGHDR_SIZE = 64  # struct mmsghdr of a 64-bit kernel (linux/socket.h)
MOST_MESSAGES = 1024  # UIO_MAXIOV: sendmmsg(2) takes no more at once

# Where the parts of calls lie: (dirfd argument or None, path argument).
OPENS = {"open": (None, 0), "creat": (None, 0), "openat": (0, 1), "openat2": (0, 1)}
# Calls that make, remove or rename entries of folders, and whether an entry that is not there counts: made, it is not.
_MADE, _GONE = True, False
ENTRIES: dict[str, tuple[tuple[int | None, int, bool], ...]] = {
    "mkdir": ((None, 0, _MADE),), "mkdirat": ((0, 1, _MADE),), "mknod": ((None, 0, _MADE),),
    "mknodat": ((0, 1, _MADE),), "symlink": ((None, 1, _MADE),), "symlinkat": ((1, 2, _MADE),),
    "unlink": ((None, 0, _GONE),), "unlinkat": ((0, 1, _GONE),), "rmdir": ((None, 0, _GONE),),
    "rename": ((None, 0, _GONE), (None, 1, _MADE)),
    "renameat": ((0, 1, _GONE), (2, 3, _MADE)), "renameat2": ((0, 1, _GONE), (2, 3, _MADE)),
    "link": ((None, 0, _GONE), (None, 1, _MADE)), "linkat": ((0, 1, _GONE), (2, 3, _MADE)),
}  # fmt: skip
EXECS = {"execve": (None, 0), "execveat": (0, 1)}
# (descriptor argument, address argument, length argument)
ADDRESSES = {"connect": (0, 1, 2), "sendto": (0, 4, 5)}
# (descriptor argument, data argument, how the data lie)
SENDS: dict[str, Literal["buffer", "vector", "message", "messages"]] = {
    "write": "buffer", "sendto": "buffer", "writev": "vector", "sendmsg": "message", "sendmmsg": "messages",
}  # fmt: skip

_REQUEST = re.compile(
    rb"^(?:GET|POST) (?:https?://[^/ ]+)?/2018-06-01/runtime/"
    rb"(?:(?P<next>invocation/next)|invocation/(?P<id>[^/ ]+)/(?P<answer>response|error)|(?P<init>init/error)|"
    rb"(?P<restore>restore/(?:next|error)))"
)


class Destination(NamedTuple):
    """A decoded socket address: `tcp://127.0.0.1:80`, `udp://[::1]:53`, `unix:/path`, `unix:@abstract`, or a family."""

    family: str
    host: str = ""
    port: int = 0

    def text(self, protocol: str) -> str:
        """As the profile writes it; `protocol` is tcp, udp or what else the socket is."""
        return sockaddr.destination(self.family, self.host, self.port, protocol)


class ApiRequest(NamedTuple):
    """The first line of a request to the Runtime API."""

    kind: Literal["next", "response", "error", "init-error", "restore"]
    request_id: str = ""


def parse_sockaddr(data: bytes) -> Destination | None:
    """A struct sockaddr as the kernel reads it; None for AF_UNSPEC and for what is too short to mean anything.

    IPv4-mapped IPv6 addresses are the IPv4 addresses that they reach.
    """
    found = sockaddr.parse(data)
    return Destination(*found) if found else None


def parse_request(data: bytes) -> ApiRequest | None:
    """The Runtime API request that a client begins to send, or None for anything else."""
    found = _REQUEST.match(data)
    if not found:
        return None
    if found["next"]:
        return ApiRequest("next")
    if found["id"]:
        request_id = found["id"].decode(errors="replace")
        return ApiRequest("response" if found["answer"] == b"response" else "error", request_id)
    return ApiRequest("init-error" if found["init"] else "restore")


MOST_MEMORIES = 16
"""Processes whose memory stays open; more take turns, so that no number of children or threads exhausts descriptors."""
MOST_THREADS = 4096
"""Threads whose process is remembered."""


class Reader:
    """Memory and descriptors of the processes under observation, by thread id."""

    def __init__(self) -> None:
        self._memories: dict[int, Memory] = {}
        self._processes: dict[int, int] = {}

    def process(self, tid: int) -> int:
        """The process that a thread belongs to (its own number when it is gone already)."""
        found = self._processes.get(tid)
        if found is None:
            found = tid
            try:
                with open(f"/proc/{tid}/status", "rb") as file:
                    for line in file:
                        if line.startswith(b"Tgid:"):
                            found = int(line.split()[1])
                            break
            except OSError:
                pass
            if len(self._processes) >= MOST_THREADS:
                self._processes.clear()
            self._processes[tid] = found
        return found

    def memory(self, tid: int) -> Memory:
        """The memory of a thread's process."""
        process = self.process(tid)
        found = self._memories.get(process)
        if found is None:
            if len(self._memories) >= MOST_MEMORIES:
                self._memories.pop(next(iter(self._memories))).close()
            # By the thread that waits: the first thread of its process may have ended.
            found = self._memories[process] = Memory(tid)
        return found

    def forget(self, tid: int) -> None:
        """Before an exec or after an end: what was opened of this process is of the past."""
        process = self.process(tid)
        for known in [other for other, owner in self._processes.items() if owner == process]:
            del self._processes[known]
        memory = self._memories.pop(process, None)
        if memory:
            memory.close()

    def string(self, tid: int, address: int) -> str:
        """A path or other text."""
        return os.fsdecode(self._fresh(tid, address, 0))

    def data(self, tid: int, address: int, length: int) -> bytes:
        """Some bytes, fewer where memory ends."""
        return self._fresh(tid, address, length)

    def _fresh(self, tid: int, address: int, length: int) -> bytes:
        for last in (False, True):
            memory = self.memory(tid)
            data = memory.read(address, length) if length else memory.string(address)
            if data or last or not address:
                return data
            # The thread's number may have been used again since: look once more with a new descriptor.
            memory.close()
            del self._memories[self.process(tid)]
            self._processes.pop(tid, None)
        return b""

    def path(self, tid: int, dirfd: int | None, text: str) -> str:
        """An absolute path; relative ones are resolved against the descriptor or the working directory."""
        if text.startswith("/"):
            return os.path.normpath(text)
        place = f"/proc/{tid}/cwd" if dirfd is None or dirfd == AT_FDCWD else f"/proc/{tid}/fd/{dirfd}"
        try:
            return os.path.normpath(os.path.join(os.readlink(place), text))
        except OSError:
            return text

    def _socket(self, tid: int, fd: int) -> socket.socket | None:
        """A duplicate of a socket of the process; None for what is none, or where the kernel gives no duplicates."""
        try:
            pidfd = abi.syscall(abi.number("pidfd_open"), self.process(tid), 0)
        except OSError:
            return None
        try:
            copy = abi.syscall(abi.number("pidfd_getfd"), pidfd, fd, 0)
        except OSError:
            return None
        finally:
            os.close(pidfd)
        try:
            return socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            return None

    def socket_type(self, tid: int, fd: int) -> str:
        """tcp, udp or another word for a socket of the process; '' where it cannot be looked at."""
        found = self._socket(tid, fd)
        if found is None:
            return ""
        with found:
            kind = int(found.type)
        return "tcp" if kind == socket.SOCK_STREAM else "udp" if kind == socket.SOCK_DGRAM else f"type{kind}"

    def peer(self, tid: int, fd: int) -> Destination | None:
        """What a datagram socket of the process is connected to; None where it is no such socket."""
        found = self._socket(tid, fd)
        if found is None:
            return None
        with found:
            if found.type != socket.SOCK_DGRAM or found.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            try:
                host, port = found.getpeername()[:2]
            except OSError:
                return None
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        family = "AF_INET6" if address.version == 6 and not mapped else "AF_INET"
        return Destination(family, str(mapped or address), port)

    def begin_of_sent(self, tid: int, how: str, args: Sequence[int]) -> bytes:
        """The first bytes that a send, write, writev or sendmsg is about to send."""
        address, length = args[1], args[2]
        if how in ("message", "messages"):
            # struct msghdr: name, namelen (+ padding), iov, iovlen; mmsghdr begins with one.
            header = self.data(tid, args[1], 32)
            if len(header) < 32:
                return b""
            address, length = struct.unpack_from("<QQ", header, 16)
        if how != "buffer":
            vector = self.data(tid, address, 16)
            if len(vector) < 16:
                return b""
            address, length = struct.unpack("<QQ", vector)
        return self.data(tid, address, min(length, 192)) if length else b""

    def message_addresses(self, tid: int, address: int, count: int) -> list[bytes]:
        """The sockaddrs that a struct msghdr, or an array of so many struct mmsghdr, names."""
        found = []
        for number in range(min(count & arguments.LOW, MOST_MESSAGES)):
            header = self.data(tid, address + number * MMSGHDR_SIZE, 16)
            if len(header) < 16:
                break
            name, length = struct.unpack_from("<QI", header)
            if name and length:
                found.append(self.data(tid, name, min(length, 128)))
        return found


BEHIND = {"clone3": ("clone", 0, "thread"), "openat2": ("access", 2, "read")}
"""Where the flags of these calls lie: struct clone_args and struct open_how both begin with them."""


def item_class(reader: Reader, tid: int, syscall: str, args: Sequence[int], arch: str) -> str:
    """The argument class of a call, with memory read where the registers do not say it (clone3, openat2)."""
    behind = BEHIND.get(syscall)
    if behind:
        partition, at, narrowest = behind
        data = reader.data(tid, args[at], 8)
        # What cannot be read the kernel cannot read either, in all likelihood: it must not widen the profile.
        if len(data) != 8:
            return narrowest
        return arguments.classify_partition(partition, {"flags": int.from_bytes(data, "little")})
    call = Call(syscall, arguments.classify(syscall, args, arch))
    target = arguments.target_argument(syscall)
    if target is not None and args[target] & arguments.LOW != reader.process(tid):
        call = call.to_others()
    return call.arg_class
