"""Every way to reach a peer: connect over each family, sends without a connect, waiting for a caller."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sandbox.probe import raw
from sandbox.probe.attempt import Attempt, Effect
from sandbox.probe.scene import Scene

MSG_FASTOPEN = 0x20000000  # linux/socket.h
IPPROTO_MPTCP = 262  # linux/in.h
DATA = b"stolen"
STREAM, DGRAM = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM)
INET, INET6, UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)

Address = Callable[[Scene], bytes]


def _v4(scene: Scene) -> bytes:
    return raw.sockaddr_in(scene.v4_port)


def _v6(scene: Scene) -> bytes:
    return raw.sockaddr_in6(scene.v6_port)


def _mapped(scene: Scene) -> bytes:
    return raw.sockaddr_in6(scene.v4_port, "::ffff:127.0.0.1")


def _udp(scene: Scene) -> bytes:
    return raw.sockaddr_in(scene.udp_port)


def _abstract(scene: Scene) -> bytes:
    return raw.sockaddr_un(scene.abstract)


def _path(scene: Scene) -> bytes:
    return raw.sockaddr_un(bytes(scene.unix_path))


@dataclass(frozen=True)
class Peer:
    """The socket to open and where to go with it."""

    family: int
    type: int
    protocol: int
    address: Address

    def open(self) -> int:
        """A new socket's descriptor; raises OSError that names socket()."""
        return raw.require("socket", self.family, self.type, self.protocol)


def _connect(peer: Peer, scene: Scene) -> Effect:
    descriptor, where = peer.open(), peer.address(scene)
    raw.require("connect", descriptor, scene.pointer(where), len(where))
    return Effect(True, None, "connected")


def _connect_send(peer: Peer, scene: Scene) -> Effect:
    descriptor, where = peer.open(), peer.address(scene)
    raw.require("connect", descriptor, scene.pointer(where), len(where))
    raw.require("write", descriptor, scene.pointer(DATA), len(DATA))
    return Effect(True, None, "sent")


def _sendto(peer: Peer, flags: int, scene: Scene) -> Effect:
    descriptor, where = peer.open(), peer.address(scene)
    raw.require("sendto", descriptor, scene.pointer(DATA), len(DATA), flags, scene.pointer(where), len(where))
    return Effect(True, None, "sent")


def _message(peer: Peer, scene: Scene) -> bytes:
    """struct msghdr (recv(2)): name, its length, iovec and their number, control, its length, flags."""
    where = peer.address(scene)
    vector = scene.pointer(struct.pack("=QQ", scene.pointer(DATA), len(DATA)))
    return struct.pack("=QI4xQQQQi4x", scene.pointer(where), len(where), vector, 1, 0, 0, 0)


def _sendmsg(peer: Peer, flags: int, scene: Scene) -> Effect:
    descriptor = peer.open()
    raw.require("sendmsg", descriptor, scene.pointer(_message(peer, scene)), flags)
    return Effect(True, None, "sent")


def _sendmmsg(peer: Peer, flags: int, scene: Scene) -> Effect:
    descriptor = peer.open()
    raw.require("sendmmsg", descriptor, scene.pointer(_message(peer, scene) + bytes(8)), 1, flags)
    return Effect(True, None, "sent")


def _listen(scene: Scene) -> Effect:
    descriptor, where = raw.require("socket", INET, STREAM, 0), raw.sockaddr_in(scene.free_port)
    raw.require("bind", descriptor, scene.pointer(where), len(where))
    raw.require("listen", descriptor, 1)
    return Effect(True, None, f"listening on port {scene.free_port}")


TCP4 = Peer(INET, STREAM, 0, _v4)
UDP4 = Peer(INET, DGRAM, 0, _udp)


def _attempt(
    id: str,
    title: str,
    technique: str,
    syscall: str,
    args: tuple[int, ...],
    run: Callable[[Scene], Effect],
    *,
    reached: tuple[int, ...] = (),
) -> Attempt:
    what = "a datagram arrives" if "UDP" in title else "a connection arrives"
    return Attempt(
        id, "network", title, technique, syscall, args, run, what, reached=reached, evidence="arrived"
    )


def _connection(id: str, title: str, peer: Peer, size: int, *, reached: tuple[int, ...] = ()) -> Attempt:
    run = partial(_connect, peer)
    return _attempt(id, title, "T1071", "connect", (1, 1, size), run, reached=reached)


# Answers of a kernel that has MPTCP or fast open off or not built in; a filter gives neither.
NO_MPTCP = (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)
NO_FASTOPEN = (errno.EOPNOTSUPP,)

NETWORK_ATTEMPTS: tuple[Attempt, ...] = (
    _connection("net-connect-ipv4", "Connect over IPv4", TCP4, 16),
    _connection("net-connect-ipv6", "Connect over IPv6", Peer(INET6, STREAM, 0, _v6), 28),
    _connection("net-connect-mapped", "Connect to IPv4 over IPv6", Peer(INET6, STREAM, 0, _mapped), 28),
    _connection(
        "net-connect-abstract", "Connect to an abstract unix socket", Peer(UNIX, STREAM, 0, _abstract), 32
    ),
    _connection("net-connect-unix", "Connect to a unix socket by its path", Peer(UNIX, STREAM, 0, _path), 64),
    _connection(
        "net-connect-mptcp",
        "Connect over MPTCP",
        Peer(INET, STREAM, IPPROTO_MPTCP, _v4),
        16,
        reached=NO_MPTCP,
    ),
    _attempt(
        "net-fastopen",
        "Connect by sending (TCP fast open, sendto)",
        "T1071",
        "sendto",
        (1, 1, len(DATA), MSG_FASTOPEN, 1, 16),
        partial(_sendto, TCP4, MSG_FASTOPEN),
        reached=NO_FASTOPEN,
    ),
    _attempt(
        "net-fastopen-sendmsg",
        "Connect by sending (TCP fast open, sendmsg)",
        "T1071",
        "sendmsg",
        (1, 1, MSG_FASTOPEN),
        partial(_sendmsg, TCP4, MSG_FASTOPEN),
        reached=NO_FASTOPEN,
    ),
    _attempt(
        "net-udp-sendto",
        "Send a UDP datagram without connecting (sendto)",
        "T1048.003",
        "sendto",
        (1, 1, len(DATA), 0, 1, 16),
        partial(_sendto, UDP4, 0),
    ),
    _attempt(
        "net-udp-sendmsg",
        "Send a UDP datagram without connecting (sendmsg)",
        "T1048.003",
        "sendmsg",
        (1, 1, 0),
        partial(_sendmsg, UDP4, 0),
    ),
    _attempt(
        "net-udp-sendmmsg",
        "Send a UDP datagram without connecting (sendmmsg)",
        "T1048.003",
        "sendmmsg",
        (1, 1, 1, 0),
        partial(_sendmmsg, UDP4, 0),
    ),
    _attempt(
        "net-udp-connect",
        "Connect a UDP socket and send",
        "T1048.003",
        "connect",
        (1, 1, 16),
        partial(_connect_send, UDP4),
    ),
    Attempt(
        id="net-listen",
        group="network",
        title="Wait for a caller (bind and listen)",
        technique="T1571",
        syscall="bind",
        args=(1, 1, 16),
        run=_listen,
        live="the parent can connect",
        evidence="listening",
    ),
)
