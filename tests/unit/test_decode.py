"""Decoding of what pointers name: socket addresses, requests, messages in memory. Nothing that a program can pass may
raise, since the observer would die and the function with it."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import signal
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import access
from sandbox.behaviour.access import call_of
from sandbox.behaviour.call import Call
from sandbox.behaviour.destination import of_address
from sandbox.kernel import tables
from sandbox.kernel.sockaddr import SocketAddress, parse
from sandbox.kernel.task import Task, Tasks
from sandbox.learn.decode import (
    SENDS,
    ApiRequest,
    begin_of_sent,
    headers,
    parse_request,
    sent_to,
)
from sandbox.learn.recorder import MOST_TASKS

ME = Task(os.getpid())
GONE = Task(1 << 22)
NOWHERE = (0, 1, 4096, 1 << 46, (1 << 47) - 8, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""Addresses at which nothing is mapped, null and kernel space among them."""


def in4(host: str, port: int) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("<H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def in6(host: str, port: int) -> bytes:
    """struct sockaddr_in6."""
    head = struct.pack("<H", socket.AF_INET6) + struct.pack("!HI", port, 7)
    return head + socket.inet_pton(socket.AF_INET6, host) + bytes(4)


@pytest.mark.parametrize(
    ("data", "protocol", "text"),
    [
        (in4("127.0.0.1", 80), "tcp", "tcp://127.0.0.1:80"),
        (in4("192.0.2.255", 65535)[:8], "udp", "udp://192.0.2.255:65535"),
        (in6("2001:db8::1", 443), "tcp", "tcp://[2001:db8::1]:443"),
        (in6("::", 0)[:24], "udp", "udp://[::]:0"),
        (in6("::ffff:10.1.2.3", 53), "udp", "udp://10.1.2.3:53"),
        (b"\x01\0/run/some.sock\0rubbish", "", "unix:/run/some.sock"),
        (b"\x01\0/no/end", "", "unix:/no/end"),
        (b"\x01\0\0abstract", "", "unix:@abstract"),
        (b"\x10\0" + bytes(10), "", "family:AF_NETLINK"),
        (b"\x28\0" + bytes(14), "", "family:AF_VSOCK"),
        (b"\xe7\x03", "", "family:999"),
    ],
)
def test_addresses(data: bytes, protocol: str, text: str) -> None:
    """Each family is written as a profile writes it; a mapped address is the IPv4 address that it reaches."""
    found = parse(data)
    assert found
    assert of_address(found, protocol).text == text


@pytest.mark.parametrize(
    "data", [b"", b"\x02", b"\0\0" + bytes(14), in4("127.0.0.1", 1)[:7], in6("::1", 1)[:23], b"\x01\0", b"\x02\0"]
)
def test_no_addresses(data: bytes) -> None:
    """AF_UNSPEC, an unnamed local socket and what the kernel would refuse as too short are no destinations."""
    assert parse(data) is None


@given(st.ip_addresses(), st.integers(0, 65535))
def test_addresses_keep_host_and_port(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    """Any address comes out as the standard library writes it."""
    found = parse(in4(str(host), port) if host.version == 4 else in6(str(host), port))
    mapped = host.ipv4_mapped if isinstance(host, ipaddress.IPv6Address) else None
    assert found
    assert (found.host, found.port) == (str(mapped or host), port)


@given(st.binary(max_size=128))
def test_any_bytes_as_address(data: bytes) -> None:
    """Whatever bytes a program passes as an address, decoding gives a text or nothing, and never raises."""
    found = parse(data)
    assert found is None or of_address(found, "tcp").text.encode(errors="surrogateescape")


@given(st.sampled_from([1, 2, 10, 16]), st.binary(max_size=120))
def test_any_bytes_behind_a_known_family(family: int, data: bytes) -> None:
    """The same behind the families that are decoded."""
    found = parse(struct.pack("<H", family) + data)
    assert found is None or isinstance(found, SocketAddress)


ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (f"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {ID}\r\n", ApiRequest("next")),
        (f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\n", ApiRequest("response", ID)),
        (f"POST /2018-06-01/runtime/invocation/{ID}/error HTTP/1.1\r\n", ApiRequest("error", ID)),
        ("POST /2018-06-01/runtime/init/error HTTP/1.1\r\n", ApiRequest("init-error")),
        ("GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n", ApiRequest("restore")),
        ("POST /2018-06-01/runtime/restore/error HTTP/1.1\r\n", ApiRequest("restore")),
        ("GET http://127.0.0.1:9001/2018-06-01/runtime/invocation/next HTTP/1.1", ApiRequest("next")),
        ("GET /2018-06-01/runtime/invocation/next", ApiRequest("next")),
        ("PUT /2018-06-01/runtime/invocation/next HTTP/1.1", None),
        ("GET /2018-06-01/runtime/invocation", None),
        ("GET /2020-01-01/extension/event/next HTTP/1.1", None),
        ("xGET /2018-06-01/runtime/invocation/next HTTP/1.1", None),
        ("", None),
    ],
)
def test_requests(line: str, request_: ApiRequest | None) -> None:
    """The first line says which request of the Runtime API it is and for which invocation."""
    assert parse_request(line.encode()) == request_


INVOCATION = b"POST /2018-06-01/runtime/invocation/"


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: INVOCATION + tail))
def test_any_bytes_as_request(data: bytes) -> None:
    """Whatever a program sends, looking at it never raises."""
    found = parse_request(data)
    assert found is None or found.kind in ("next", "response", "error", "init-error", "restore")


def test_strings_and_bytes_of_memory() -> None:
    """Text ends at its NUL, at the end of the memory, or at the longest path; bytes are what is there."""
    text = ctypes.create_string_buffer(b"/tmp/x\0y")
    assert ME.string(ctypes.addressof(text)) == b"/tmp/x"
    assert ME.read(ctypes.addressof(text), 8) == b"/tmp/x\0y"
    long = ctypes.create_string_buffer(b"a" * 9000)
    assert ME.string(ctypes.addressof(long)) == b"a" * 4096
    odd = ctypes.create_string_buffer(b"/tmp/\xff\xfe")
    assert ME.string(ctypes.addressof(odd)) == b"/tmp/\xff\xfe"
    for address in NOWHERE:
        assert ME.string(address) == b""
        assert ME.read(address, 16) == b""


def test_what_is_sent() -> None:
    """The beginning of a message is found from a buffer, a vector and a message header, whatever else they hold."""
    data = ctypes.create_string_buffer(b"GET /x" + b"." * 300)
    vector = ctypes.create_string_buffer(struct.pack("<QQ", ctypes.addressof(data), 300))
    name = ctypes.create_string_buffer(in4("192.0.2.1", 53))
    message = ctypes.create_string_buffer(
        struct.pack("<QIIQQQQI4x", ctypes.addressof(name), 16, 0, ctypes.addressof(vector), 1, 0, 0, 0) + bytes(8), 64
    )
    for syscall, address in (("write", data), ("writev", vector), ("sendmsg", message), ("sendmmsg", message)):
        args = (3, ctypes.addressof(address), 6 if syscall == "write" else 1, 0, 0, 0)
        found = begin_of_sent(ME, syscall, args, list(headers(ME, syscall, args)))
        assert found.startswith(b"GET /x"), syscall
        assert len(found) <= 192
    for syscall in ("sendmsg", "sendmmsg"):
        args = (3, ctypes.addressof(message), 1, 0, 0, 0)
        (address_of_message,) = sent_to(ME, syscall, args, list(headers(ME, syscall, args)))
        assert parse(address_of_message[:16]) == SocketAddress("AF_INET", bytes([192, 0, 2, 1]), 53)
    (address_of_datagram,) = sent_to(ME, "sendto", (3, 0, 0, 0, ctypes.addressof(name), 16), [])
    assert parse(address_of_datagram) == SocketAddress("AF_INET", bytes([192, 0, 2, 1]), 53)


def test_what_a_table_says_of_paths() -> None:
    """Each call that makes or removes entries of folders names as many paths as are told of it."""
    assert all(len(tables.paths(syscall)) == len(effects) for syscall, effects in access._ENTRIES.items())
    assert tables.paths("renameat2") == ((0, 1), (2, 3))
    assert tables.paths("symlinkat") == ((None, 0), (1, 2))
    assert all(len(tables.paths(syscall)) == 1 for syscall in (*tables.OPENS, *tables.EXECS, "truncate"))
    assert {syscall: tables.address_arguments(syscall) for syscall in ("connect", "bind", "sendto", "sendmsg")} == {
        "connect": (1, 2), "bind": (1, 2), "sendto": (4, 5), "sendmsg": None,
    }  # fmt: skip


@given(
    st.sampled_from(sorted(SENDS)),
    st.sampled_from(NOWHERE) | st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
)
def test_any_registers_of_a_send(syscall: str, address: int, length: int) -> None:
    """Registers of any value give some bytes or none, and never raise."""
    args = (3, address, length, 0, address, length)
    named = list(headers(ME, syscall, args))
    assert isinstance(begin_of_sent(ME, syscall, args, named), bytes)
    assert isinstance(sent_to(ME, syscall, args, named), list)


@given(st.binary(min_size=64, max_size=64))
def test_any_message_header(header: bytes) -> None:
    """A header that points anywhere is followed only where memory is."""
    message = ctypes.create_string_buffer(header, 64)
    at = ctypes.addressof(message)
    for syscall in ("writev", "sendmsg", "sendmmsg"):
        args = (3, at, 1, 0, 0, 0)
        named = list(headers(ME, syscall, args))
        assert isinstance(begin_of_sent(ME, syscall, args, named), bytes)
        assert isinstance(sent_to(ME, syscall, args, named), list)


@given(
    st.sampled_from(sorted(tables.every_name())),
    st.lists(st.sampled_from(NOWHERE) | st.integers(0, (1 << 64) - 1), min_size=6, max_size=6),
)
def test_any_registers_have_a_class(syscall: str, args: list[int]) -> None:
    """Every call of every syscall has a class, whatever its registers hold, clone3 and openat2 included."""
    assert isinstance(call_of(ME, syscall, args, "x86_64"), Call)


@pytest.mark.parametrize(
    ("syscall", "flags", "name"),
    [
        ("clone3", 0x3D0F00, "thread"), ("clone3", 0x4100, "process"), ("clone3", 0x10000000, "namespace"),
        ("openat2", 0, "read"), ("openat2", 0o101, "create"), ("openat2", 0o1, "write"),
    ],
)  # fmt: skip
def test_flags_behind_a_pointer(syscall: str, flags: int, name: str) -> None:
    """The flags of clone3 and openat2 are read from memory."""
    buffer = ctypes.create_string_buffer(struct.pack("<Q", flags) + bytes(80))
    argument = 0 if syscall == "clone3" else 2
    args = [ctypes.addressof(buffer) if i == argument else 0 for i in range(6)]
    assert call_of(ME, syscall, args, "x86_64").arg_class == name


@pytest.mark.parametrize(("syscall", "argument"), [("kill", 0), ("tgkill", 0), ("rt_sigqueueinfo", 0)])
def test_signals_to_others_are_told_apart(syscall: str, argument: int) -> None:
    """A signal to the own process has the signal's class; one to init, to the group or to all has a suffix."""
    signal_at = 2 if syscall == "tgkill" else 1
    for target, suffix in ((ME.tid, ""), (1, " to others"), (0, " to others"), (0xFFFFFFFF, " to others")):
        args = [target if i == argument else 15 if i == signal_at else 0 for i in range(6)]
        assert call_of(ME, syscall, args, "x86_64").arg_class == "SIGTERM" + suffix


def test_sockets_of_a_process() -> None:
    """The kind of a socket is found from its number; other descriptors and processes that are gone have none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        assert (ME.socket_protocol(udp.fileno()), ME.socket_protocol(tcp.fileno())) == ("udp", "tcp")
    assert ME.socket_protocol(0xFFFFFF) == ""
    assert GONE.socket_protocol(0) == ""
    with open(os.devnull, "rb") as file:
        assert ME.socket_protocol(file.fileno()) == ""


def test_few_descriptors_are_held() -> None:
    """A thread for each invocation, or many children, cost no descriptor each: they are read and given back."""
    tasks = Tasks(MOST_TASKS, sees_every_exec=True)
    children = [os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ) for _ in range(MOST_TASKS + 8)]
    before = len(os.listdir("/proc/self/fd"))
    try:
        for child in children:
            task = tasks.take(child)
            task.read(0x1000, 8)
            tasks.done(task)
        assert len(os.listdir("/proc/self/fd")) - before <= MOST_TASKS
    finally:
        tasks.forget()
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_kept_is_forgotten_before_an_exec() -> None:
    """Of one process alone: the memory of the others is still the same."""
    tasks = Tasks(MOST_TASKS, sees_every_exec=True)
    child = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
    try:
        own, other = tasks.take(os.getpid()), tasks.take(child)
        for task in (own, other):
            tasks.done(task)
        tasks.forget(child)
        assert tasks.take(os.getpid()) is own
        assert tasks.take(child) is not other
    finally:
        tasks.forget()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_peer_of_a_datagram_socket() -> None:
    """What an IPv4 or IPv6 datagram socket is connected to; other sockets, and unconnected ones, have none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        assert ME.datagram_peer(udp.fileno()) is None
        udp.connect(("127.0.0.1", 9))
        assert ME.datagram_peer(udp.fileno()) == SocketAddress("AF_INET", b"\x7f\0\0\1", 9)
        assert ME.datagram_peer(tcp.fileno()) is None
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mapped:
        mapped.connect(("::ffff:127.0.0.1", 9))
        assert ME.datagram_peer(mapped.fileno()) == SocketAddress("AF_INET", b"\x7f\0\0\1", 9)
