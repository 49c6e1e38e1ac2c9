"""What a connect or a send names in its task's memory: addresses, message headers, data, control messages.

Each is copied once. Errors are those of the bare kernel (net/socket.c), as OSError.
"""

from __future__ import annotations

import errno
import os
import struct

from sandbox.kernel import sockaddr
from sandbox.kernel.memory import MOST_PIECES, copy, message_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sandbox.kernel.memory import Readable

LARGEST_DATA = 1 << 20
"""Bytes of one send: more than any datagram has. A stream takes the rest with the next call."""
LARGEST_CONTROL = 1 << 17  # net.core.optmem_max
_ROUTE = "names a route of its own, which leads elsewhere than the address"
RIGHTS = (1, 1)
"""SOL_SOCKET, SCM_RIGHTS: descriptors, by their numbers in the sender's table."""
MOST_DESCRIPTORS = 253  # linux/net/scm.h, SCM_MAX_FD
OBJECTIONS = {
    # With a source route or routing header the packet goes to the first hop (net/ipv4/udp.c, net/ipv6/exthdrs.c).
    (0, 7): _ROUTE,  # IPPROTO_IP, IP_RETOPTS
    (41, 57): _ROUTE,  # IPPROTO_IPV6, IPV6_RTHDR
    (41, 5): _ROUTE,  # IPPROTO_IPV6, IPV6_2292RTHDR
}
"""(level, type) of control messages that are never sent on a task's behalf."""
_CONTROL = struct.Struct("<Qii")
_NUMBER = struct.Struct("<i")
_HIGHEST_INT = 0x7FFFFFFF


class Message:
    """`address` is None for a message that goes where the socket is connected to."""

    __slots__ = ("address", "control", "data")

    def __init__(self, address: bytes | None, data: bytes, control: bytes = b"") -> None:
        self.address = address
        self.data = data
        self.control = control


def _wrong(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def read_data(memory: Readable, address: int, length: int, *, stream: bool) -> bytes:
    """The data of a sendto. Raises OSError (EFAULT, EMSGSIZE)."""
    if length > LARGEST_DATA:
        if not stream:
            raise _wrong(errno.EMSGSIZE)
        length = LARGEST_DATA
    return copy(memory, address, length)


def read_message(memory: Readable, at: int, *, stream: bool) -> Message:
    """A struct msghdr with all that it names. Raises OSError (EFAULT, EINVAL, EMSGSIZE, ENOBUFS)."""
    header = message_header(memory, at)
    if header is None:
        raise _wrong(errno.EFAULT)
    if header.name_length > _HIGHEST_INT:
        raise _wrong(errno.EINVAL)
    if header.vector_length > MOST_PIECES:
        raise _wrong(errno.EMSGSIZE)
    if header.control_length > LARGEST_CONTROL:
        raise _wrong(errno.ENOBUFS)
    named = header.name and header.name_length
    address = copy(memory, header.name, min(header.name_length, sockaddr.LONGEST)) if named else None
    pieces = []
    room = LARGEST_DATA
    for base, length in struct.iter_unpack("<QQ", copy(memory, header.vector, 16 * header.vector_length)):
        pieces.append(read_data(memory, base, min(length, room) if stream else length, stream=stream))
        room -= len(pieces[-1])
        if room < 0:
            raise _wrong(errno.EMSGSIZE)
    control = copy(memory, header.control, header.control_length) if header.control else b""
    return Message(address, b"".join(pieces), control)


def _walk(control: bytes) -> Iterator[tuple[tuple[int, int], int, int]]:
    """((level, type), start and end of the data) of each control message. Raises OSError (EINVAL) as the kernel.

    In the kernel's own steps (linux/socket.h, for_each_cmsghdr and CMSG_OK).
    """
    at = 0
    while at + _CONTROL.size <= len(control):
        length, level, kind = _CONTROL.unpack_from(control, at)
        if not _CONTROL.size <= length <= len(control) - at:
            raise _wrong(errno.EINVAL)
        yield (level, kind), at + _CONTROL.size, at + length
        at += length + 7 & -8


def objection(control: bytes) -> str:
    """Why control messages cannot be sent for their task; '' when they can. Raises OSError (EINVAL) as the kernel."""
    for kind, _, _ in _walk(control):
        if kind in OBJECTIONS:
            return OBJECTIONS[kind]
    return ""


def descriptors(control: bytes) -> Mapping[int, int]:
    """{where its number stands: number in the sender's table} of each descriptor that control messages hand over.

    Raises OSError (EINVAL) for more than the kernel takes with one message (net/core/scm.c, scm_fp_copy).
    """
    found: dict[int, int] = {}
    for kind, start, end in _walk(control):
        if kind == RIGHTS:
            found.update((at, _NUMBER.unpack_from(control, at)[0]) for at in range(start, end - 3, _NUMBER.size))
    if len(found) > MOST_DESCRIPTORS:
        raise _wrong(errno.EINVAL)
    return found


def with_numbers(control: bytes, numbers: Mapping[int, int]) -> bytes:
    """The control messages with other numbers where `descriptors` found some."""
    changed = bytearray(control)
    for at, number in numbers.items():
        _NUMBER.pack_into(changed, at, number)
    return bytes(changed)
