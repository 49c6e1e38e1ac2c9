"""Netlink for reading routes and addresses: what the C library asks by itself (getaddrinfo, if_nameindex).

A netlink socket sends to the kernel by write(2) and send(2) as well, which name no address and which no filter can tell
from those to a file. So the supervisor makes the function's netlink sockets, without CAP_NET_ADMIN: for a message that
names no address rtnetlink asks the one who opened the socket for this right before it changes anything, root or not
(net/core/rtnetlink.c, rtnetlink_rcv_msg; net/netlink/af_netlink.c, __netlink_ns_capable). For one that names an address
it asks the sender alone (NETLINK_SKB_DST): those the broker reads, and sends if they are questions; what may change
something it sends in no mode.
"""

from __future__ import annotations

import errno
import os
import struct

from sandbox.egress import sockets
from sandbox.kernel.capabilities import NET_ADMIN, Rights
from sandbox.kernel.sockaddr import AF_NETLINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.kernel.notification import Listener, Notification

NETLINK_ROUTE = 0
SO_PROTOCOL = 38  # asm-generic/socket.h
NLM_F_REQUEST = 1
QUESTIONS = (18, 22, 26, 30)
"""RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE and RTM_GETNEIGH (linux/rtnetlink.h)."""
RTM_BASE, RTNL_KIND_GET = 16, 2
UNREADABLE = -1
_HEADER = struct.Struct("<IHHII")  # struct nlmsghdr
_ADDRESS = struct.Struct("<HxxII")  # struct sockaddr_nl: family, port id (0 is the kernel), groups

LOW = 0xFFFFFFFF


def is_question(fd: int, address: bytes, data: bytes) -> bool:
    """Whether a message on a netlink socket of our own asks the kernel for routes or addresses, and no more."""
    if len(address) < _ADDRESS.size or _ADDRESS.unpack_from(address) != (AF_NETLINK, 0, 0):
        return False
    if sockets.option(fd, SO_PROTOCOL) != NETLINK_ROUTE:
        return False
    parts = [*_parts(data)]
    return bool(parts) and all(kind in QUESTIONS and flags & NLM_F_REQUEST for kind, flags in parts)


def changes(fd: int, data: bytes) -> bool:
    """Whether a message on a netlink socket of our own may change routes, addresses or links (RTM_NEW*, RTM_DEL* ...).

    Of four kinds in a row the third asks (net/core/rtnetlink.c, rtnl_msgtype_kind). What cannot be read may change.
    """
    if sockets.option(fd, SO_PROTOCOL) != NETLINK_ROUTE:
        return False
    return any(kind == UNREADABLE or (kind >= RTM_BASE and kind & 3 != RTNL_KIND_GET) for kind, _ in _parts(data))


def _parts(data: bytes) -> Iterator[tuple[int, int]]:
    """(kind, flags) of each message in one send; UNREADABLE for the first whose length the kernel would not take."""
    at = 0
    while at < len(data):
        length, kind, flags = _HEADER.unpack_from(data, at)[:3] if at + _HEADER.size <= len(data) else (0, 0, 0)
        if not _HEADER.size <= length <= len(data) - at:
            yield UNREADABLE, 0
            return
        yield kind, flags
        at += length + 3 & -4


def make(kind: int, protocol: int) -> int:
    """A netlink socket that can change nothing, close-on-exec. Raises OSError."""
    rights = Rights()
    if not rights.effective & NET_ADMIN:
        return sockets.make(AF_NETLINK, kind, protocol)
    rights.put_on(without=NET_ADMIN)  # of this thread alone
    try:
        return sockets.make(AF_NETLINK, kind, protocol)
    finally:
        rights.put_on()


def answer(listener: Listener, call: Notification) -> None:
    """Answer a socket(2) of AF_NETLINK with such a socket."""
    kind, protocol = call.args[1] & LOW, call.args[2] & LOW
    try:
        fd = make(kind, protocol)
        try:
            listener.answer_with_descriptor(call.id, fd, cloexec=bool(kind & os.O_CLOEXEC))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno != errno.ENOENT:  # nobody waits any more
            listener.refuse(call.id, error.errno or errno.EPERM)
