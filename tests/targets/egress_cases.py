"""All that a program can do with sockets of its own, and what came of it: one JSON object {case: result} on stdout.

The first argument is JSON: ports and paths that the caller listens on. The tests run this bare and supervised, and
compare.
"""

import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

AIM = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)
INET, INET6, UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)
MSG_FASTOPEN = 0x20000000
FOUND: dict[str, Any] = {}
BUFFERS: list[Any] = []


def name(result: int) -> int | str:
    """A value, or the name of the errno."""
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def v4(port: int, host: str = "127.0.0.1", family: int = INET) -> bytes:
    return struct.pack("<H", family) + struct.pack(">H", port) + socket.inet_aton(host) + bytes(8)


def v6(port: int, host: str = "::1", family: int = INET6) -> bytes:
    return struct.pack("<H", family) + struct.pack(">HI", port, 0) + socket.inet_pton(INET6, host) + bytes(4)


def un(path: bytes) -> bytes:
    return struct.pack("<H", UNIX) + path


def pointer(data: bytes) -> int:
    BUFFERS.append(ctypes.create_string_buffer(data, max(len(data), 1)))
    return ctypes.addressof(BUFFERS[-1])


def connect(sock: socket.socket | None, address: bytes | int, length: int | None = None, fd: int = -2) -> int | str:
    fd = sock.fileno() if sock else fd
    at = address if isinstance(address, int) else pointer(address)
    size = length if length is not None else len(address) if isinstance(address, bytes) else 0
    return name(LIBC.connect(fd, ctypes.c_void_p(at), ctypes.c_uint32(size & 0xFFFFFFFF)))


def sendto(
    sock: socket.socket, data: bytes | int, address: bytes, flags: int = 0, length: int | None = None,
    at: int | None = None, count: int | None = None,
) -> int | str:  # fmt: skip
    to = ctypes.c_void_p(at if at is not None else pointer(address))
    size = ctypes.c_uint32((len(address) if length is None else length) & 0xFFFFFFFF)
    source = data if isinstance(data, int) else pointer(data)
    amount = count if count is not None else len(data) if isinstance(data, bytes) else 0
    return name(LIBC.sendto(sock.fileno(), ctypes.c_void_p(source), ctypes.c_size_t(amount), flags, to, size))


def header(
    address: bytes = b"", pieces: Sequence[bytes] = (b"x",), control: bytes = b"", namelen: int | None = None,
    iovlen: int | None = None, iov: int | None = None, controllen: int | None = None,
) -> bytes:  # fmt: skip
    vector = b"".join(struct.pack("<QQ", pointer(piece), len(piece)) for piece in pieces)
    return struct.pack(
        "<QI4xQQQQI4x",
        pointer(address) if address else 0,
        (len(address) if namelen is None else namelen) & 0xFFFFFFFF,
        pointer(vector) if iov is None else iov,
        len(pieces) if iovlen is None else iovlen,
        pointer(control) if control else 0,
        len(control) if controllen is None else controllen,
        0,
    )


def sendmsg(sock: socket.socket, head: bytes | int, flags: int = 0) -> int | str:
    at = head if isinstance(head, int) else pointer(head)
    return name(LIBC.sendmsg(sock.fileno(), ctypes.c_void_p(at), flags))


def sendmmsg(sock: socket.socket, heads: Sequence[bytes], flags: int = 0, count: int | None = None) -> list[Any]:
    block = pointer(b"".join(head + bytes(8) for head in heads))
    number = len(heads) if count is None else count
    result = name(LIBC.sendmmsg(sock.fileno(), ctypes.c_void_p(block), ctypes.c_uint(number), flags))
    lengths = [ctypes.c_uint32.from_address(block + 64 * i + 56).value for i in range(min(len(heads), 4))]
    return [result, lengths]


def stream(family: int = INET, protocol: int = 0) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM, protocol)


def datagram(family: int = INET) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


def case(text: str, *, pair: bool = False) -> Callable[[Callable[[], Any]], None]:
    """Keep what a function returns under a name; an exception is a result, too.

    `pair`: it sends messages on a socketpair, and the caller may not want that.
    """

    def keep(function: Callable[[], Any]) -> None:
        if pair and not AIM["pairs"]:
            return
        try:
            FOUND[text] = function()
        except OSError as error:
            FOUND[text] = "raised " + errno.errorcode.get(error.errno or 0, str(error))

    return keep


TCP, CLOSED, UDP = AIM["tcp"], AIM["closed"], AIM["udp"]


@case("tcp over IPv4")
def _() -> Any:
    with stream() as s:
        return [connect(s, v4(TCP)), s.getpeername() == ("127.0.0.1", TCP), connect(s, v4(TCP)), s.send(b"x")]


@case("tcp over IPv6, mapped, mixed")
def _() -> Any:
    with stream(INET6) as a, stream(INET6) as b, stream(INET6) as c, stream() as d:
        return [connect(a, v6(TCP)), connect(b, v6(TCP, "::ffff:127.0.0.1")), connect(c, v4(TCP)), connect(d, v6(TCP))]


@case("unspecified addresses are loopback")
def _() -> Any:
    with stream() as a, stream(INET6) as b:
        return [connect(a, v4(TCP, "0.0.0.0")), connect(b, v6(TCP, "::"))]


@case("mptcp")
def _() -> Any:
    with stream(INET, 262) as s:
        return [connect(s, v4(TCP)), s.send(b"x")]


@case("refused")
def _() -> Any:
    with stream() as s, stream(INET6) as t:
        return [connect(s, v4(CLOSED)), connect(t, v6(CLOSED)), connect(s, v4(TCP)), connect(s, v4(TCP))]


@case("non-blocking")
def _() -> Any:
    results: list[Any] = []
    for port in (TCP, CLOSED):
        with stream() as s:
            s.setblocking(False)
            first = connect(s, v4(port))
            select.select([], [s], [], 10)
            results += [first, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), os.get_blocking(s.fileno())]
            results.append(connect(s, v4(TCP)) if port == TCP else None)
    return results


@case("a blocking socket stays one")
def _() -> Any:
    with stream() as s:
        return [connect(s, v4(TCP)), os.get_blocking(s.fileno())]


@case("disconnect")
def _() -> Any:
    with stream() as s, datagram() as d, datagram(INET6) as e:
        none = bytes(16)
        results = [connect(s, v4(TCP)), connect(s, none), connect(s, v4(TCP))]
        results += [connect(d, v4(UDP)), connect(d, none), connect(d, none[:2]), connect(e, none[:2])]
        return results


@case("short, long and odd addresses")
def _() -> Any:
    results: dict[str, Any] = {}
    for family, whole in ((INET, v4(TCP)), (INET6, v6(TCP))):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for length in (*range(len(whole) + 1), 29, 64, 128, 129, 4096, 0x7FFFFFFF, -1):
                with socket.socket(family, kind) as s:
                    padded = whole.ljust(4096, b"\0")
                    results[f"{family} {int(kind)} {length}"] = connect(s, padded, length)
    return results


@case("other families in the address")
def _() -> Any:
    results: dict[str, Any] = {}
    for family in (0, 1, 3, 9, 16, 17, 30, 40, 45, 99, 0xFFFF):
        for own in (INET, INET6):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(own, kind) as s:
                    results[f"{family} {own} {int(kind)}"] = connect(s, v6(UDP, "::1", family))
    return results


@case("no memory there")
def _() -> Any:
    with stream() as s, datagram() as d:
        edge = (ctypes.addressof(ctypes.c_int()) + (1 << 60)) & ~7
        return [
            connect(s, 0, 16), connect(s, 8, 16), connect(s, edge, 16), connect(s, (1 << 64) - 8, 16),
            sendto(d, b"x", b"", at=8, length=16), sendto(d, 8, v4(UDP), count=4), sendmsg(d, 8),
            sendmsg(d, header(v4(UDP), iov=8)), sendmsg(d, header(v4(UDP), iovlen=1025)),
            sendmsg(d, header(v4(UDP), namelen=-1)), sendmsg(d, header(v4(UDP), namelen=4096)),
        ]  # fmt: skip


@case("not a socket")
def _() -> Any:
    with open("/proc/self/status", "rb") as file:
        path = os.open("/", os.O_PATH)
        return [connect(None, v4(TCP), fd=fd) for fd in (file.fileno(), 999, -1, path)]


@case("udp")
def _() -> Any:
    with datagram() as d, datagram(INET6) as e:
        return [
            sendto(d, b"sent", v4(UDP)), sendto(d, b"", v4(UDP)), sendto(e, b"mapped", v6(UDP, "::ffff:127.0.0.1")),
            sendto(e, b"six", v6(UDP)), sendto(e, b"four", v4(UDP)), sendto(d, b"wrong", v6(UDP)),
            sendto(d, b"unspec", v4(UDP, family=0)), sendto(d, b"x" * 70000, v4(UDP)),
            sendto(d, b"none", b"", at=0, length=0), sendto(d, b"none", v4(UDP), length=0),
            *[sendto(d, b"short", v4(UDP), length=n) for n in (1, 2, 8, 15, 17, 128, 129, -1)],
            connect(d, v4(UDP)), sendto(d, b"elsewhere", v4(UDP)), sendto(d, b"connected", b"", at=0, length=0),
        ]  # fmt: skip


@case("messages")
def _() -> Any:
    with datagram() as d:
        whole = header(v4(UDP), (b"one", b"", b"two"))
        results: list[Any] = [sendmsg(d, whole), sendmsg(d, header(v4(UDP), ())), sendmsg(d, header(b"", (b"x",)))]
        many = [header(v4(UDP), (bytes([65 + i]) * (i + 1),)) for i in range(4)]
        results += [sendmmsg(d, many), sendmmsg(d, many, count=0), sendmmsg(d, [header(v4(UDP), iov=8)])]
        results += [sendmmsg(d, [many[0], header(v4(UDP), iov=8), many[1]])]
        # IP_TTL with the message, then control messages that the kernel does not take.
        ttl = struct.pack("<QiiI4x", 20, 0, 2, 7)
        results += [sendmsg(d, header(v4(UDP), control=ttl))]
        results += [sendmsg(d, header(v4(UDP), control=struct.pack("<Qii", n, 0, 2))) for n in (0, 15, 17, 1 << 40)]
        results += [sendmsg(d, header(v4(UDP), control=b"abc"))]
        results += [sendmsg(d, header(v4(UDP), control=ttl, controllen=1 << 30))]
        connect(d, v4(UDP))
        return [*results, sendmsg(d, header(b"", (b"connected",))), sendmmsg(d, [header(b"", (b"last",))])]


@case("a stream's messages", pair=True)
def _() -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        results = [sendmsg(ours, header(b"", (b"hello",))), theirs.recv(16).decode()]
        ours.setblocking(False)
        while isinstance(found := sendmsg(ours, header(b"", (b"x" * 50000,))), int):
            pass
        return [*results, found]


@case("a blocking send waits for room", pair=True)
def _() -> Any:
    import threading

    ours, theirs = socket.socketpair()
    with ours, theirs:
        total = 3 << 20
        got: list[int] = []

        def read() -> None:
            count = 0
            while count < total:
                count += len(theirs.recv(1 << 16))
            got.append(count)

        reader = threading.Thread(target=read)
        reader.start()
        sent = 0
        while sent < total:
            found = sendmsg(ours, header(b"", (b"x" * min(300000, total - sent),)))
            if not isinstance(found, int):
                ours.close()
                return found
            sent += found
        reader.join()
        return got


@case("fast open")
def _() -> Any:
    results: list[Any] = []
    for port in (TCP, CLOSED):
        with stream() as s:
            results.append(sendto(s, b"fast", v4(port), MSG_FASTOPEN))
            results.append(s.send(b"more") if port == TCP else None)
    with stream() as s:
        results.append(sendto(s, b"slow", v4(TCP)))
    return results


@case("unix")
def _() -> Any:
    results: list[Any] = []
    for address in (AIM["path"].encode() + b"\0", AIM["path"].encode(), b"\0" + AIM["abstract"].encode()):
        with stream(UNIX) as s:
            results.append(connect(s, un(address)))
    os.chdir(os.path.dirname(AIM["path"]))
    for address in (b"gone", b"/etc/passwd/x", os.path.basename(AIM["path"]).encode()):
        with stream(UNIX) as s:
            results.append(connect(s, un(address)))
    with datagram(UNIX) as d, stream(UNIX) as s:
        results += [sendto(d, b"unix", un(AIM["datagram"].encode())), connect(d, un(AIM["datagram"].encode()))]
        results += [connect(s, un(AIM["datagram"].encode())), connect(s, un(AIM["path"].encode().ljust(126, b"\0")))]
        results += [connect(s, un(b"")), connect(d, bytes(2)), connect(d, b"\1"), sendto(d, b"x", un(b""))]
    return results


print(json.dumps(FOUND))
