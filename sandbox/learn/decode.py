"""What a notification says beyond its registers: what it sends, and Runtime API requests.

Memory is read through the task (sandbox/kernel/task.py); the rest is pure.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from sandbox.behaviour import arguments
from sandbox.kernel import memory, sockaddr, tables
from sandbox.kernel.memory import MessageHeader
from sandbox.kernel.task import Task

# How the data of a send lie: behind argument 1 in all of them.
SENDS: dict[str, Literal["buffer", "vector", "message", "messages"]] = {
    "write": "buffer", "sendto": "buffer", "writev": "vector", "sendmsg": "message", "sendmmsg": "messages",
}  # fmt: skip
BEGIN = 192
"""Bytes of a send that are looked at: a request line of the Runtime API is shorter."""

_REQUEST = re.compile(
    rb"^(?:GET|POST) (?:https?://[^/ ]+)?/2018-06-01/runtime/"
    rb"(?:(?P<next>invocation/next)|invocation/(?P<id>[^/ ]+)/(?P<answer>response|error)|(?P<init>init/error)|"
    rb"(?P<restore>restore/(?:next|error)))"
)


class ApiRequest(NamedTuple):
    """The first line of a request to the Runtime API."""

    kind: Literal["next", "response", "error", "init-error", "restore"]
    request_id: str = ""


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


def headers(task: Task, syscall: str, args: Sequence[int]) -> Iterator[MessageHeader]:
    """The message headers of a sendmsg or sendmmsg; none for other calls, fewer where memory ends."""
    how = SENDS.get(syscall)
    count = args[2] & arguments.LOW if how == "messages" else 1 if how == "message" else 0
    for i in range(min(count, memory.MOST_PIECES)):
        header = memory.message_header(task, args[1] + i * memory.MMSGHDR)
        if header is None:
            return
        yield header


def sent_to(task: Task, syscall: str, args: Sequence[int], named: Sequence[MessageHeader]) -> list[bytes]:
    """The socket addresses that a send names, of its `headers` too."""
    places = [(header.name, min(header.name_length, sockaddr.LONGEST)) for header in named]
    if at := tables.address_arguments(syscall):
        places.append((args[at[0]], args[at[1]] & arguments.LOW))
    found = []
    for name, length in places:
        try:
            found.append(memory.socket_address(task, name, length) if name and length else b"")
        except OSError:
            continue  # the kernel refuses it the same
    return [data for data in found if data]


def begin_of_sent(task: Task, syscall: str, args: Sequence[int], named: Sequence[MessageHeader]) -> bytes:
    """The first bytes that a write, writev, sendto or sendmsg is about to send; `named` are its `headers`."""
    how = SENDS[syscall]
    address, length = args[1], args[2]
    if how in ("message", "messages"):
        if not named:
            return b""
        address, length = named[0].vector, named[0].vector_length
    if how != "buffer":
        vector = task.read(address, 16)  # struct iovec
        if len(vector) < 16:
            return b""
        address, length = struct.unpack("<QQ", vector)
    return task.read(address, min(length, BEGIN)) if length else b""
