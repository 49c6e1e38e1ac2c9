"""A program that asks a resolver and receives its answers in every way, and says what each call wrote and returned."""

from __future__ import annotations

import ctypes
import errno
import json
import select
import signal
import socket
import struct
import time

LIBC = ctypes.CDLL(None, use_errno=True)
RESOLVER = ("10.99.0.1", 53)
QUESTION = bytes.fromhex("12340100000100000000000003") + b"one\x04demo\x04test\0\0\x01\0\x01"
OTHER = b"\x56\x78" + QUESTION[2:]
BLANK = b"\xee"
IP_RECVTOS, MSG_ERRQUEUE, MSG_WAITFORONE = 13, 0x2000, 0x10000
found: dict[str, object] = {}


class Message(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
    )  # fmt: skip


class Several(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("message", Message), ("length", ctypes.c_uint))


class Buffers:
    """A message with its buffers of these sizes, `room` bytes for the address and `control` for control messages."""

    def __init__(self, sizes: list[int], room: int = 128, control: int = 0) -> None:
        self.name, self.control = ctypes.create_string_buffer(130), ctypes.create_string_buffer(256)
        self.parts = [ctypes.create_string_buffer(max(size, 1)) for size in sizes]
        pairs = [pair for part, size in zip(self.parts, sizes, strict=True) for pair in (ctypes.addressof(part), size)]
        self.vector = (ctypes.c_uint64 * len(pairs))(*pairs)
        self.message = Message(
            ctypes.addressof(self.name), room, ctypes.addressof(self.vector), len(sizes),
            ctypes.addressof(self.control) if control else None, control, 77,
        )  # fmt: skip

    def said(self, message: Message) -> list[object]:
        """What a receive wrote."""
        data = b"".join(part.raw for part in self.parts).hex()
        lengths = [message.namelen, message.controllen, message.flags]
        return [data, self.name.raw.hex(), lengths, self.control.raw[:16].hex()]


def said(result: int) -> int | str:
    """What a call returned, or its errno."""
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def send(sock: socket.socket, question: bytes = QUESTION, *, connected: bool) -> None:
    """Ask."""
    if connected:
        sock.send(question)
    else:
        sock.sendto(question, RESOLVER if sock.family == socket.AF_INET else ("::ffff:10.99.0.1", 53))


def asked(
    connected: bool, family: int = socket.AF_INET, *, ask: bool = True, wait: bool = True
) -> socket.socket:
    """A socket that asked, when its answer is there."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if connected:
        sock.connect(RESOLVER if family == socket.AF_INET else ("::ffff:10.99.0.1", 53))
    if ask:
        send(sock, connected=connected)
        if wait:
            assert select.select([sock], [], [], 5)[0]
    return sock


def recvfrom(
    sock: socket.socket, size: int = 512, flags: int = 0, room: int = 128, *, name: bool = True, length: bool = True
) -> list[object]:
    """What recvfrom(2) wrote."""
    data, place = ctypes.create_string_buffer(BLANK * 600), ctypes.create_string_buffer(BLANK * 130)
    room_of = ctypes.c_int(room)
    result = LIBC.recvfrom(
        sock.fileno(), data, ctypes.c_size_t(size), flags, place if name else None,
        ctypes.byref(room_of) if length else None,
    )  # fmt: skip
    wrote = [buffer.raw.rstrip(b"\0").rstrip(BLANK).hex() for buffer in (data, place)]
    return [said(result), *wrote, room_of.value]


def peer(sock: socket.socket, room: int = 128) -> list[object]:
    """What getpeername(2) wrote."""
    place, length = ctypes.create_string_buffer(BLANK * 130), ctypes.c_int(room)
    result = said(LIBC.getpeername(sock.fileno(), place, ctypes.byref(length)))
    return [result, place.raw.rstrip(b"\0").rstrip(BLANK).hex(), length.value]


def receive_from(connected: bool) -> None:
    """Each way of recvfrom."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for room in (0, 8, 16, 28, 128, -1):
            found[f"recvfrom {connected} {family} {room}"] = recvfrom(asked(connected, family), room=room)
    for size in (0, 1, 12):
        found[f"short {connected} {size}"] = recvfrom(asked(connected), size)
        found[f"truncated {connected} {size}"] = recvfrom(asked(connected), size, socket.MSG_TRUNC)
    found[f"no name {connected}"] = recvfrom(asked(connected), name=False)
    found[f"no length {connected}"] = recvfrom(asked(connected), length=False)[0]
    sock = asked(connected)
    flags = (socket.MSG_PEEK, 0, socket.MSG_DONTWAIT)
    found[f"peek {connected}"] = [recvfrom(sock, flags=flag) for flag in flags]
    sock.setblocking(False)
    found[f"nothing {connected}"] = [recvfrom(sock), recvfrom(sock, flags=MSG_ERRQUEUE)]
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 200000))
    start = time.monotonic()
    found[f"timeout {connected}"] = [recvfrom(sock), 0.15 < time.monotonic() - start < 5]
    sock, place = asked(connected), ctypes.create_string_buffer(130)
    length = ctypes.byref(ctypes.c_int(128))
    found[f"bad memory {connected}"] = said(
        LIBC.recvfrom(sock.fileno(), ctypes.c_void_p(8), ctypes.c_size_t(99), 0, place, length)
    )
    found[f"blocking {connected}"] = recvfrom(asked(connected, wait=False))


def receive_messages(connected: bool) -> None:
    """Each way of recvmsg and recvmmsg."""
    for room in (0, 8, 16, 28, 128):
        for control in (0, 8, 200):
            buffers, sock = Buffers([3, 0, 20, 400], room, control), asked(connected, ask=False)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
            send(sock, connected=connected)
            result = said(LIBC.recvmsg(sock.fileno(), ctypes.byref(buffers.message), 0))
            found[f"recvmsg {connected} {room} {control}"] = [result, buffers.said(buffers.message)]
    several, all_buffers = (Several * 3)(), [Buffers([100]) for _ in range(3)]
    for one, buffers in zip(several, all_buffers, strict=True):
        one.message = buffers.message
    sock = asked(connected)
    result = said(LIBC.recvmmsg(sock.fileno(), several, 3, MSG_WAITFORONE, None))
    found[f"recvmmsg {connected}"] = [result, several[0].length, all_buffers[0].said(several[0].message)]
    found[f"recvmmsg nothing {connected}"] = said(LIBC.recvmmsg(sock.fileno(), several, 3, socket.MSG_DONTWAIT, None))
    for question in (QUESTION, OTHER):
        send(sock, question, connected=connected)
    result = said(LIBC.recvmmsg(sock.fileno(), several, 2, 0, None))
    lengths = [one.length for one in several]
    ids = sorted(buffers.parts[0].raw[:2].hex() for buffers in all_buffers[:2])
    found[f"recvmmsg two {connected}"] = [result, lengths, ids, all_buffers[1].said(several[1].message)[1:]]


for way in (True, False):
    receive_from(way)
    receive_messages(way)
for size in (0, 8, 16, 28, 128):
    families = (socket.AF_INET, socket.AF_INET6)
    found[f"peer {size}"] = [peer(asked(True, family, ask=False), size) for family in families]
found["no peer"] = peer(asked(False))
dissolved = asked(True, ask=False)
LIBC.connect(dissolved.fileno(), bytes(16), 16)
found["dissolved"] = peer(dissolved)
with socket.create_connection(RESOLVER) as stream:
    found["stream"] = peer(stream)
signal.signal(signal.SIGALRM, lambda *args: None)
signal.siginterrupt(signal.SIGALRM, True)
waiting = asked(True, ask=False)
signal.setitimer(signal.ITIMER_REAL, 0.2)
found["interrupted"] = recvfrom(waiting)
found["copy"] = recvfrom(asked(True).dup())
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
pair[0].send(b"x")
found["another socket"] = recvfrom(pair[1])
print(json.dumps(found))
