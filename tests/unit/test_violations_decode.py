"""Decoding of arguments: the words of every kind of flag, real memory of a real process, and any garbage at all."""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.behaviour.spelling import quote
from sandbox.errors import printable
from sandbox.kernel import sockaddr, tables
from sandbox.kernel.memory import Memory
from sandbox.kernel.sockaddr import SocketAddress
from sandbox.violations.decode import decode_args

Read = Callable[[int, int], bytes]
FDCWD = 0xFFFFFF9C


def memory(**parts: bytes) -> tuple[Read, dict[str, int]]:
    """A memory with each part on a page of its own, followed by nothing, and the parts' addresses."""
    at = {name: 0x10000 * (i + 1) for i, name in enumerate(parts)}

    def read(address: int, length: int) -> bytes:
        for name, start in at.items():
            if start <= address < start + len(parts[name]):
                return parts[name][address - start :][:length]
        return b""

    return read, at


@pytest.mark.parametrize(
    ("syscall", "args", "expected"),
    [
        ("openat", (FDCWD, 0, 0x80241, 0o644), ["AT_FDCWD", "NULL", "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC", "0o644"]),
        ("open", (0, 0x410002, 0o600), ["NULL", "O_RDWR|O_TMPFILE", "0o600"]),
        ("mmap", (0, 4096, 7, 0x22, 0xFFFFFFFF, 0),
         ["NULL", "4096", "PROT_READ|PROT_WRITE|PROT_EXEC", "MAP_PRIVATE|MAP_ANONYMOUS", "-1", "0x0"]),
        ("mprotect", (0x7F0000, 4096, 0), ["0x7f0000", "4096", "PROT_NONE"]),
        ("clone", (0x4111, 0, 0, 0, 0), ["CLONE_VM|CLONE_VFORK|SIGCHLD", "NULL", "NULL", "NULL", "NULL"]),
        ("unshare", (0x10000080,), ["CLONE_NEWTIME|CLONE_NEWUSER"]),
        ("socket", (2, 0x80001, 6), ["AF_INET", "SOCK_STREAM|SOCK_CLOEXEC", "IPPROTO_TCP"]),
        ("socket", (16, 3, 0), ["AF_NETLINK", "SOCK_RAW", "NETLINK_ROUTE"]),
        ("setsockopt", (3, 1, 9, 0, 4), ["3", "SOL_SOCKET", "SO_KEEPALIVE", "NULL", "4"]),
        ("kill", (0xFFFFFFFF, 9), ["-1", "SIGKILL"]),
        ("kill", (7, 40), ["7", "40"]),
        ("prctl", (0x16, 2, 0, 0, 0), ["PR_SET_SECCOMP", "0x2", "0x0", "0x0", "0x0"]),
        ("ptrace", (0x10, 1, 0, 0), ["PTRACE_ATTACH", "1", "NULL", "NULL"]),
        ("ioctl", (0, 0x5412, 0x7FFE), ["0", "TIOCSTI", "0x7ffe"]),
        ("fcntl", (3, 4, 0x800), ["3", "F_SETFL", "O_RDONLY|O_NONBLOCK"]),
        ("setuid", (0,), ["0"]),
        ("getpid", (), []),
    ],
)  # fmt: skip
def test_flags_and_constants_read_as_their_names(syscall: str, args: tuple[int, ...], expected: list[str]) -> None:
    """Each kind of register argument reads as the header files call it."""
    assert decode_args(syscall, args, lambda address, length: b"", "x86_64") == expected


def test_paths_programs_and_addresses_are_read_from_memory() -> None:
    """Pointers to text, argument lists and socket addresses are followed; flags of clone3 and openat2 too."""
    inet = struct.pack("<H", 2) + (443).to_bytes(2, "big") + bytes([10, 0, 0, 1]) + bytes(8)
    read, at = memory(
        path=b"/bin/sh\0", dash=b"-c\0", argv=b"", inet=inet, local=struct.pack("<H", 1) + b"/run/\x1b[31mx\0",
        clone=struct.pack("<QQ", 0x10F00, 0), how=struct.pack("<QQQ", 0o101, 0o600, 8),
    )  # fmt: skip
    words = struct.pack("<QQQ", at["path"], at["dash"], 0)
    header = struct.pack("<QI44x", at["inet"], 16)
    more, there = memory(a=b"", b=b"", c=b"", d=b"", e=b"", f=b"", g=b"", words=words, header=header)

    def both(address: int, length: int) -> bytes:
        return read(address, length) or more(address, length)

    def decoded(syscall: str, *args: int) -> list[str]:
        return decode_args(syscall, args, both, "x86_64", {bytes([10, 0, 0, 1]): "example.com"}.get)  # type: ignore[arg-type]

    assert decoded("execve", at["path"], there["words"], 0) == ['"/bin/sh"', '["/bin/sh", "-c"]', "NULL"]
    assert decoded("connect", 3, at["inet"], 16) == ["3", "10.0.0.1:443 (example.com)", "16"]
    assert decoded("sendto", 3, 0, 0, 0, at["inet"], 16)[4] == "10.0.0.1:443 (example.com)"
    assert decoded("sendmsg", 3, there["header"], 0)[1] == "{name=10.0.0.1:443 (example.com)}"
    assert decoded("bind", 3, at["local"], 30)[1] == "unix:/run/\\x1b[31mx"
    assert decoded("clone3", at["clone"], 88)[0] == "{flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD}"
    how = decoded("openat2", FDCWD, at["path"], at["how"], 24)[2]
    assert how == "{flags=O_WRONLY|O_CREAT, mode=0o600, resolve=0x8}"
    assert decoded("prctl", 15, at["path"]) == ["PR_SET_NAME", '"/bin/sh"', "0x0", "0x0", "0x0"]
    assert decoded("openat", 5, 0xDEAD0000, 0)[1] == "0xdead0000"


def test_an_address_that_was_read_is_not_read_again() -> None:
    """What was decided on is shown, whatever memory holds by now, and memory is not asked for it."""
    def read(address: int, length: int) -> bytes:
        raise AssertionError("memory is read")

    for syscall, args, at in (("connect", (3, 1, 16), 1), ("sendto", (3, 0, 0, 0, 1, 16), 4)):
        shown = decode_args(syscall, args, read, "x86_64", None, SocketAddress("AF_INET", bytes([10, 0, 0, 1]), 443))
        assert shown[at] == "10.0.0.1:443"
    shown = decode_args("sendmsg", (3, 1, 0), read, "x86_64", None, SocketAddress("AF_UNIX", "/run/x"))
    assert shown[1] == "{name=unix:/run/x}"


def test_argument_lists_stop_at_eight_and_long_texts_are_cut() -> None:
    """A ninth argument and the rest of an endless text are dots."""
    read, at = memory(word=b"x" * 300, list=struct.pack("<Q", 0x10000) * 12)
    shown = decode_args("execve", (0, at["list"], 0), read, "x86_64")[1]
    assert shown.count('"...') == 8
    assert shown.endswith(", ...]")
    assert "x" * 257 not in shown


def test_a_path_is_read_out_of_a_real_process() -> None:
    """Through /proc/PID/mem, the path at the end of a mapping comes out whole, and an unmapped address as a number."""
    text = ctypes.create_string_buffer("/etc/šifra".encode())
    with_memory = Memory(os.getpid())
    try:
        args = decode_args("openat", (FDCWD, ctypes.addressof(text), 0, 0), with_memory.read, tables.machine())
        gone = decode_args("unlink", (16,), with_memory.read, tables.machine())
    finally:
        with_memory.close()
    assert args == ["AT_FDCWD", '"/etc/šifra"', "O_RDONLY", "0o0"]
    assert gone == ["0x10"]


@settings(max_examples=400)
@given(
    syscall=st.sampled_from(sorted(tables.every_name())) | st.text(max_size=8),
    args=st.lists(st.integers(-(1 << 64), 1 << 65) | st.sampled_from([1, 2, 16, 0x1000]), max_size=8),
    arch=st.sampled_from([*tables.ARCHES, "riscv64"]),
    data=st.binary(max_size=64),
    fails=st.booleans(),
)
def test_nothing_in_registers_or_memory_makes_it_raise(
    syscall: str, args: list[int], arch: str, data: bytes, fails: bool
) -> None:
    """Any registers and any memory give printable texts; no read is longer than 4 KiB, and they are few."""
    reads = []

    def read(address: int, length: int) -> bytes:
        reads.append(length)
        if fails:
            raise OSError(5, "Input/output error")
        return (data * (length // max(1, len(data)) + 1))[:length]

    words = decode_args(syscall, args, read, arch)
    assert all(word.isprintable() for word in words)
    assert all(0 < length <= 4096 for length in reads)
    assert sum(reads) <= 4 * 4096 + 4096
    if syscall in tables.every_name() and arch in tables.ARCHES and syscall not in ("prctl", "fcntl"):
        assert len(words) == tables.argument_count(syscall)


def test_the_table_fits_the_kernels_signatures() -> None:
    """Rows are as long as the syscall has arguments, and every path or name argument of the kernel reads as text."""
    pointers = ("path", "text", "argv", "sockaddr", "message", "clone_args", "open_how")
    for syscall, row in tables.argument_kinds().items():
        assert syscall in tables.every_name()
        assert len(row) == tables.argument_count(syscall) or syscall in ("prctl", "fcntl"), syscall
        for i, kind in enumerate(row):
            if kind.partition(":")[0] in pointers:
                assert tables.is_pointer(syscall, i), (syscall, i)
    path = os.path.join(os.path.dirname(tables.__file__), "data", "signatures.json")
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    entries = {entry: name for name, entry in data["entry"].items()}
    binary = {"write", "pwrite64", "mq_timedsend"}  # const char * as well, but data
    for entry, types in data["signatures"].items():
        syscall = entries.get(entry, entry)
        for i, kind in enumerate(types):
            if kind == "const char *" and syscall not in binary:
                assert tables.argument_kinds()[syscall][i] in ("path", "text"), (syscall, i)


@given(st.binary(max_size=40))
def test_quoted_bytes_come_back(data: bytes) -> None:
    """What is quoted is printable, and tells different bytes apart."""
    shown = quote(data)
    assert shown.isprintable()
    assert shown.startswith('"') and shown.endswith('"')  # noqa: PT018
    if data.decode(errors="replace").isprintable() and "\ufffd" not in data.decode(errors="replace"):
        assert shown[1:-1].replace('\\"', '"').replace("\\\\", "\\").encode() == data


@given(st.text(max_size=30))
def test_printable_text_shows_nothing_but_itself(text: str) -> None:
    """Escape sequences and marks that turn the direction of reading become visible."""
    assert printable(text).isprintable()
    assert printable("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\x0a"


@given(st.binary(min_size=16, max_size=16) | st.lists(st.sampled_from([0, 0, 1]), min_size=16, max_size=16).map(bytes))
def test_ipv6_addresses_are_written_as_the_library_writes_them(address: bytes) -> None:
    """The short form agrees with the standard library's for any address."""
    assert sockaddr.ipv6(address) == str(ipaddress.IPv6Address(address))


@given(st.binary(max_size=130))
def test_any_sockaddr_parses_or_does_not(data: bytes) -> None:
    """No bytes make the parser raise, and what comes out is a value that can be compared and printed."""
    found = sockaddr.parse(data)
    assert found == sockaddr.parse(bytes(data))
    assert found is None or found.endpoint()


def test_real_socket_addresses_parse() -> None:
    """What the kernel says of bound sockets comes out as the socket module says it."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            bound = socket.create_server((host, 0), family=family)
        except OSError:
            continue  # no IPv6 here
        with bound:
            port = bound.getsockname()[1]
            head = struct.pack("<H", family) + port.to_bytes(2, "big")
            packed = socket.inet_pton(family, host)
            data = head + (bytes(4) + packed + bytes(4) if family == socket.AF_INET6 else packed + bytes(8))
            found = sockaddr.parse(data)
            assert found == SocketAddress(family.name, packed, port)
            assert found.host == host
    mapped = struct.pack("<H", 10) + b"\0\x35" + bytes(4) + bytes(10) + b"\xff\xff\x7f\0\0\1" + bytes(4)
    assert sockaddr.parse(mapped) == SocketAddress("AF_INET", bytes([127, 0, 0, 1]), 53)
