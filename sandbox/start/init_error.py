"""POST /runtime/init/error, so that the platform shows a reason and not a bare Runtime.ExitError.

By the C library's own calls: what may go wrong last goes wrong behind Landlock and the filters, where no module can be
loaded any more. Waits a little and no longer, since the way out must not hang.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from sandbox.kernel.abi import LIBC
from sandbox.plain_json import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.start.settings import RuntimeApi

TIMEOUT = 2.0  # seconds; the platform kills an initialisation after 10

_AF_INET, _AF_INET6, _SOCK_STREAM = 2, 10, 1
_NONBLOCK, _CLOEXEC = 0o4000, 0o2000000  # SOCK_NONBLOCK, SOCK_CLOEXEC
_NOSIGNAL = 0x4000
_POLLIN, _POLLOUT = 1, 4


def post(api: RuntimeApi, error_type: str, message: str) -> bool:
    """Report an initialisation error to the Runtime API. False when it could not be delivered."""
    body = encode({"errorMessage": message, "errorType": error_type, "stackTrace": []})
    request = (
        f"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: {api.text}\r\nContent-Type: application/json\r\n"
        f"Lambda-Runtime-Function-Error-Type: {error_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        f"{body}"
    ).encode()
    address = _address(api.host, api.port) or _looked_up(api.host, api.port)
    if address is None:
        return False
    fd = LIBC.socket(address[0], _SOCK_STREAM | _NONBLOCK | _CLOEXEC, 0)
    if fd < 0:
        return False
    try:
        return _exchange(fd, address, request)
    finally:
        LIBC.close(fd)


def _exchange(fd: int, address: bytes, request: bytes) -> bool:
    if LIBC.connect(fd, address, len(address)) < 0 and (
        ctypes.get_errno() != errno.EINPROGRESS or not _ready(fd, _POLLOUT)
    ):
        return False
    while request:
        sent = LIBC.send(fd, request, ctypes.c_size_t(len(request)), _NOSIGNAL)
        if sent < 0 and (ctypes.get_errno() != errno.EAGAIN or not _ready(fd, _POLLOUT)):
            return False
        request = request[max(sent, 0) :]
    answer = ctypes.create_string_buffer(64)
    if not _ready(fd, _POLLIN):
        return False
    received = LIBC.recv(fd, answer, ctypes.c_size_t(len(answer)), 0)
    return received > 0 and answer.raw[:7] == b"HTTP/1." and answer.raw[8:10] == b" 2"


def _ready(fd: int, events: int) -> bool:
    """Wait for a socket, at most TIMEOUT."""
    entry = ctypes.create_string_buffer(struct.pack("<ihh", fd, events, 0), 8)
    return bool(LIBC.poll(entry, ctypes.c_ulong(1), int(TIMEOUT * 1000)) > 0)


def _address(host: str, port: int) -> bytes | None:
    """The struct sockaddr of a written address; None for a name."""
    place = ctypes.create_string_buffer(16)
    if LIBC.inet_pton(_AF_INET, host.encode(), place) == 1:
        return struct.pack("<H", _AF_INET) + struct.pack(">H", port) + place.raw[:4] + bytes(8)
    if LIBC.inet_pton(_AF_INET6, host.encode(), place) == 1:
        return struct.pack("<H", _AF_INET6) + struct.pack(">HI", port, 0) + place.raw + bytes(4)
    return None


def _looked_up(host: str, port: int) -> bytes | None:
    """The same for a name, where the module that resolves names can still be loaded."""
    try:
        import socket

        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ImportError, OSError, ValueError):
        return None
    return _address(str(found[0][4][0]), port)
