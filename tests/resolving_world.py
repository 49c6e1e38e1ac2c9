"""A network of a test's own, with a resolver for a few names: nothing outside of it is asked or changed.

    with unshared(ipv6=False) as world:   # in a child process, as root
        ...
        assert world.received() == 0
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000  # linux/sched.h
RESOLVER = "10.99.0.1"
ADDRESSES = ("10.99.0.2", "10.99.0.3", "fd00:99::2")
FAR = "10.99.0.4"
"""An address that one name has alone."""
NAMES = {
    "one.demo.test": ADDRESSES[:1],
    "twin.demo.test": ADDRESSES[:2],
    "both.demo.test": ADDRESSES,
    "other.demo.test": ADDRESSES[:1],
    "big.demo.test": ADDRESSES[:1],
    "far.demo.test": (FAR,),
    "local.demo.test": ("127.0.0.9",),
    "link.demo.test": ("169.254.7.7",),
}
OWN = ("127.0.0.9", "169.254.7.7")
"""This host's own addresses, which somebody lets names mean."""
TRUNCATED = "big.demo.test"
"""Whose answer has no room in a datagram."""
PORT = 7777


class World:
    """What runs in it: the resolver, and on each address a listener for datagrams and one for streams."""

    def __init__(self) -> None:
        self._sinks: list[socket.socket] = []
        self.asked: list[str] = []
        self.packets: list[bytes] = []

    def open(self, addresses: tuple[str, ...]) -> None:
        """Start what runs in it."""
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        resolver.bind((RESOLVER, 53))
        threading.Thread(target=self._resolve, args=(resolver,), daemon=True).start()
        streams = socket.create_server((RESOLVER, 53))
        threading.Thread(target=_serve, args=(streams, self._resolve_stream), daemon=True).start()
        for address in (*addresses, FAR, *OWN):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sink = socket.socket(family, socket.SOCK_DGRAM)
            sink.bind((address, PORT))
            sink.setblocking(False)
            self._sinks.append(sink)
            listener = socket.create_server((address, PORT), family=family)
            threading.Thread(target=_serve, args=(listener, _greet), daemon=True).start()

    def received(self) -> int:
        """How many datagrams came to any address."""
        count = 0
        for sink in self._sinks:
            with contextlib.suppress(BlockingIOError):
                while True:
                    sink.recv(100)
                    count += 1
        return count

    def _resolve(self, sock: socket.socket) -> None:
        while True:
            packet, who = sock.recvfrom(4096)
            sock.sendto(self._answer(packet, stream=False), who)

    def _resolve_stream(self, connection: socket.socket) -> None:
        while length := int.from_bytes(connection.recv(2, socket.MSG_WAITALL), "big"):
            answer = self._answer(connection.recv(length, socket.MSG_WAITALL), stream=True)
            connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, packet: bytes, *, stream: bool) -> bytes:
        record = DNSRecord.parse(packet)
        name = str(record.q.qname).rstrip(".").lower()
        self.asked.append(name)
        self.packets.append(packet)
        reply = record.reply()
        if name not in NAMES:
            reply.header.rcode = RCODE.NXDOMAIN
        if name == TRUNCATED and not stream:
            reply.header.tc = 1
            return bytes(reply.pack())
        for address in NAMES.get(name, ()):
            if record.q.qtype == QTYPE.AAAA and ":" in address:
                reply.add_answer(RR(name, QTYPE.AAAA, rdata=AAAA(address), ttl=60))
            elif record.q.qtype == QTYPE.A and ":" not in address:
                reply.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=60))
        return bytes(reply.pack())


def _greet(connection: socket.socket) -> None:
    connection.sendall(b"hello")


def _serve(listener: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            talk(connection)


@contextlib.contextmanager
def unshared(*, ipv6: bool, options: str = "") -> Iterator[World]:
    """Move this process into a new network and new mounts. Only for a child: there is no way back.

    `options` are further lines of resolv.conf.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS | CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if not ipv6:
        for which in ("all", "default", "lo"):
            switch = f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6"
            with contextlib.suppress(FileNotFoundError), open(switch, "w", encoding="ascii") as file:
                file.write("1")
    addresses = tuple(address for address in ADDRESSES if ipv6 or ":" not in address)
    for address in (RESOLVER, *addresses, FAR, OWN[1]):
        size, more = ("/128", ["nodad"]) if ":" in address else ("/32", [])
        subprocess.run(["ip", "addr", "add", address + size, "dev", "lo", *more], check=True)
    with tempfile.TemporaryDirectory() as folder:
        texts = {"resolv.conf": f"nameserver {RESOLVER}\n{options}", "nsswitch.conf": "hosts: files dns\n"}
        for name, text in texts.items():
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o644)
            subprocess.run(["mount", "--bind", path, f"/etc/{name}"], check=True)
        world = World()
        world.open(addresses)
        try:
            yield world
        finally:
            for name in ("resolv.conf", "nsswitch.conf"):
                subprocess.run(["umount", f"/etc/{name}"], check=True)
