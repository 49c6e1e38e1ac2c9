"""Compiled policies in the running kernel: a denied call gives its errno and has no effect, its neighbour works."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from child_processes import ended, in_child
from guests import policy, profile, refusing
from users_and_folders import place

from sandbox.bundle import Policy
from sandbox.confine.install import install
from sandbox.kernel import abi, seccomp, tables
from sandbox.policy.rules import rules_for
from sandbox.probe import raw
from sandbox.probe.stub import Stubs

T = TypeVar("T")
ADDRESSES = (0x1111, 0x2222, 0x3333)
PROT_RWX = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
DIRTY = 0x5A5A5A5A << 32
EPERM, ENOSYS = -errno.EPERM, -errno.ENOSYS
ALLOWED = {
    rule.syscall for found in rules_for(profile(), abi.MACHINE).allow.values() for rule in found if not rule.conditions
}
"""What the floor allows whatever the arguments."""


def under(found: Policy, function: Callable[[], T]) -> Callable[[], T]:
    """The function behind the installation of a policy."""

    def confined() -> T:
        install(found, ADDRESSES, None)
        return function()

    return confined


@pytest.fixture
def folder(uid: int | None) -> Iterator[Path]:
    """A folder of the user."""
    with place(uid) as found:
        yield found


def test_files_open_to_read_only(uid: int | None, folder: Path) -> None:
    """With `openat read` a file opens to read; creating, writing, truncating and unnamed files are EPERM."""
    (folder / "old").write_text("before")
    path, new = os.fsencode(folder / "old"), os.fsencode(folder / "new")

    def attempt() -> dict[str, int | bytes]:
        buffers = [ctypes.create_string_buffer(text) for text in (path, new, os.fsencode(folder), bytes(24))]
        old_at, new_at, folder_at, how_at = map(raw.address, buffers)
        fd = raw.call("openat", raw.AT_FDCWD, old_at, os.O_RDONLY | os.O_CLOEXEC)
        return {
            "read": os.read(fd, 100),
            "dirty": min(raw.call("openat", raw.AT_FDCWD, old_at, os.O_RDONLY | DIRTY), 0),
            "create": raw.call("openat", raw.AT_FDCWD, new_at, os.O_WRONLY | os.O_CREAT, 0o600),
            "create to read": raw.call("openat", raw.AT_FDCWD, new_at, os.O_CREAT, 0o600),
            "write": raw.call("openat", raw.AT_FDCWD, old_at, os.O_WRONLY),
            "dirty write": raw.call("openat", raw.AT_FDCWD, old_at, os.O_RDWR | DIRTY),
            "truncate": raw.call("openat", raw.AT_FDCWD, old_at, os.O_TRUNC),
            "unnamed": raw.call("openat", raw.AT_FDCWD, folder_at, os.O_TMPFILE | os.O_RDWR, 0o600),
            "openat2": raw.call("openat2", raw.AT_FDCWD, old_at, how_at, 24),
            "unlink": raw.call("unlinkat", raw.AT_FDCWD, old_at, 0),
            "link": raw.call("linkat", raw.AT_FDCWD, old_at, raw.AT_FDCWD, new_at, 0),
        }

    found = in_child(under(policy("openat read"), attempt), uid)
    assert found.pop("read") == b"before"
    assert found.pop("dirty") == 0
    assert found.pop("openat2") == ENOSYS
    assert set(found.values()) == {EPERM}, found
    assert {entry.name: entry.read_text() for entry in folder.iterdir()} == {"old": "before"}


def test_sockets_by_family_type_and_protocol(uid: int | None) -> None:
    """With `AF_INET SOCK_STREAM` such a socket opens, with flags and dirty registers; any other is EPERM."""

    def attempt() -> tuple[list[int], list[int]]:
        works = [(2, 1, 0), (2, 1, 6), (2, 1 | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)]
        dirty = [tuple(value | DIRTY for value in call) for call in works]
        denied = [
            (10, 2, 0), (10, 1, 0), (2, 2, 0), (2, 3, 6), (1, 1, 0), (16, 3, 0), (17, 3, 0), (2, 1, 262), (2, 1, 5),
            (3, 1, 0), (1 << 32 | 10, 1, 0), (40, 1, 0),
        ]  # fmt: skip
        return [raw.call("socket", *call) for call in works + dirty], [raw.call("socket", *call) for call in denied]

    works, denied = in_child(under(policy("socket AF_INET SOCK_STREAM"), attempt), uid)
    assert all(fd >= 3 for fd in works)
    assert set(denied) == {EPERM}


def test_sendto_without_an_address(uid: int | None) -> None:
    """With `sendto connected` a connected socket sends, and no address, at whatever half of a register, is accepted."""

    def attempt() -> tuple[list[int], bytes]:
        left, right = socket.socketpair()
        buffer = ctypes.create_string_buffer(b"data")
        install(policy("sendto connected", "socketpair AF_UNIX SOCK_STREAM"), ADDRESSES, None)
        at, fd = raw.address(buffer), left.fileno()
        results = [
            raw.call("sendto", fd, at, 4, socket.MSG_NOSIGNAL, 0, 0),
            raw.call("sendto", fd, at, 4, 0, at, 16),
            raw.call("sendto", fd, at, 4, 0, 1, 0),
            raw.call("sendto", fd, at, 4, 0, 1 << 32, 0),
            raw.call("sendto", fd, at, 4, 0x20000000, 0, 0),  # MSG_FASTOPEN
        ]
        return results, os.read(right.fileno(), 100)

    assert in_child(attempt, uid) == ([4, EPERM, EPERM, EPERM, EPERM], b"data")


def test_fcntl_by_command(uid: int | None) -> None:
    """The floor's commands work and others are EPERM; a learned one works too, with a dirty upper half."""

    def attempt() -> list[int]:
        read, _ = os.pipe()
        return [
            raw.call("fcntl", read, fcntl.F_GETFD),
            raw.call("fcntl", read, fcntl.F_SETFD | DIRTY, fcntl.FD_CLOEXEC),
            raw.call("fcntl", read, fcntl.F_GETFL),
            raw.call("fcntl", read, fcntl.F_SETFL, os.O_NONBLOCK),
            raw.call("fcntl", read, fcntl.F_SETFL | DIRTY, os.O_NONBLOCK),
            raw.call("fcntl", read, fcntl.F_GETFL) & os.O_NONBLOCK,
            raw.call("fcntl", read, fcntl.F_SETOWN, 1),
            min(raw.call("fcntl", read, fcntl.F_DUPFD, 0), 0),
        ]

    assert in_child(under(policy("pipe2"), attempt), uid) == [1, 0, 0, EPERM, EPERM, 0, EPERM, EPERM]
    learned = in_child(under(policy("pipe2", "fcntl F_SETFL"), attempt), uid)
    assert learned == [1, 0, 0, 0, 0, os.O_NONBLOCK, EPERM, EPERM]


def test_prctl_by_option(uid: int | None) -> None:
    """A learned option works; its neighbours, and the ways to filters and to tracers, are EPERM."""

    def attempt() -> tuple[list[int], str]:
        name = ctypes.create_string_buffer(b"renamed")
        comm = os.open("/proc/self/comm", os.O_RDONLY)
        install(policy("prctl PR_SET_NAME"), ADDRESSES, None)
        denied = [
            raw.call("prctl", 14), raw.call("prctl", 17, raw.address(name)), raw.call("prctl", 22, 2, 0),
            raw.call("prctl", 22 | DIRTY, 1), raw.call("prctl", 0x59616D61, -1), raw.call("prctl", 4, 1),
            raw.call("prctl", 38, 1), raw.call("prctl", 35, 1),
        ]  # fmt: skip
        assert raw.call("prctl", 15 | DIRTY, raw.address(name)) == 0
        return denied, os.read(comm, 100).decode().strip()

    denied, name = in_child(attempt, uid)
    assert set(denied) == {EPERM}
    assert name == "renamed"


def test_memory_does_not_become_executable(uid: int | None) -> None:
    """Data maps and its protection changes; nothing that may run is mapped or made, by any of the calls."""

    def attempt() -> dict[str, int]:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        library = os.open("/proc/self/exe", os.O_RDONLY)
        install(policy(), ADDRESSES, None)
        page = raw.call("mmap", 0, raw.PAGE, raw.PROT_RW, private, -1, 0)
        return {
            "data": min(page, 0),
            "guard": raw.call("mprotect", page, raw.PAGE, 0),
            "again": raw.call("mprotect", page, raw.PAGE, raw.PROT_RW),
            "mprotect x": raw.call("mprotect", page, raw.PAGE, raw.PROT_RX),
            "mprotect wx": raw.call("mprotect", page, raw.PAGE, PROT_RWX),
            "mprotect x only": raw.call("mprotect", page, raw.PAGE, 4 | DIRTY),
            "pkey_mprotect": raw.call("pkey_mprotect", page, raw.PAGE, raw.PROT_RX, -1),
            "mmap x": raw.call("mmap", 0, raw.PAGE, raw.PROT_RX, private, -1, 0),
            "mmap wx": raw.call("mmap", 0, raw.PAGE, PROT_RWX, private, -1, 0),
            "mmap file": raw.call("mmap", 0, raw.PAGE, raw.PROT_RX, mmap.MAP_PRIVATE, library, 0),
            "shmat": raw.call("shmat", 0, 0, 0o100000),
            "remap_file_pages": raw.call("remap_file_pages", page, raw.PAGE, 0, 0, 0),
            "personality": raw.call("personality", 0x0400000),
            "memfd": raw.call("memfd_create", page, 0),
        }

    found = in_child(attempt, uid)
    assert (found.pop("data"), found.pop("guard"), found.pop("again")) == (0, 0, 0)
    assert set(found.values()) == {EPERM}, found


def test_a_learned_loader_maps_files_only(uid: int | None) -> None:
    """With `mmap exec-file` a library maps to run, but not to be written, and nothing without a file."""

    def attempt() -> list[int]:
        library = os.open("/proc/self/exe", os.O_RDONLY)
        install(policy("mmap exec-file"), ADDRESSES, None)
        return [
            min(raw.call("mmap", 0, raw.PAGE, raw.PROT_RX, mmap.MAP_PRIVATE, library, 0), 0),
            raw.call("mmap", 0, raw.PAGE, PROT_RWX, mmap.MAP_PRIVATE, library, 0),
            raw.call("mmap", 0, raw.PAGE, raw.PROT_RX, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0),
        ]

    assert in_child(attempt, uid) == [0, EPERM, EPERM]


def test_unknown_numbers_and_probed_calls(uid: int | None) -> None:
    """What no table knows, and what callers probe, is ENOSYS; known calls that nobody learned are EPERM."""
    arch = tables.machine()
    hole = tables.holes(arch)[0]

    def attempt() -> tuple[list[int], list[int]]:
        unknown = [raw.call_number(nr, 1, 2, 3) for nr in (tables.highest(arch) + 1, 999, 0x3FFFFFFF, *hole, -1)]
        probed = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register", "openat2")
        known = ("ptrace", "bpf", "unshare", "setns", "mount", "kexec_load", "execveat", "process_vm_readv", "uname")
        return unknown + [raw.call(name) for name in probed], [raw.call(name) for name in known]

    unknown, known = in_child(under(policy(), attempt), uid)
    assert set(unknown) == {ENOSYS}
    assert set(known) == {EPERM}


def _ways_to_make_a_process(stubs: Stubs, marker: Path) -> dict[str, Callable[[], Any]]:
    word = ctypes.c_uint64(0)
    mark = ctypes.addressof(word)
    sigchld = int(signal.SIGCHLD)
    touch = ["/bin/sh", "-c", f": > {marker}"]

    def child(make: Callable[[], int]) -> int:
        pid = make()
        if pid == 0:
            os._exit(0)
        return pid

    found: dict[str, Callable[[], Any]] = {
        "os.fork": lambda: child(os.fork),
        "os.forkpty": lambda: child(lambda: os.forkpty()[0]),
        "posix_spawn": lambda: os.posix_spawn("/bin/sh", touch, {}),
        "subprocess": lambda: subprocess.run(touch, check=True),
        "clone": lambda: stubs.native(raw.NUMBERS["clone"], (sigchld,), mark),
        "clone vm": lambda: stubs.native(raw.NUMBERS["clone"], (0x4100 | sigchld,), mark),
        "clone of 64 bits": lambda: stubs.native(raw.NUMBERS["clone"], (0x10000 << 32 | sigchld,), mark),
        "clone parent": lambda: stubs.native(raw.NUMBERS["clone"], (0x8000 | sigchld,), mark),
    }
    for name in {"fork", "vfork"} & set(raw.NUMBERS):
        found[name] = partial(stubs.native, raw.NUMBERS[name], (), mark)
    return found


def test_threads_start_and_processes_do_not(uid: int | None, folder: Path) -> None:
    """A learned thread starts, also one from another; every way to make a process fails with EPERM and makes none."""
    marker = folder / "made"

    def attempt() -> tuple[list[str], dict[str, int], int, bool]:
        ways = _ways_to_make_a_process(Stubs(), marker)
        install(policy("clone thread", "pipe2", "openat read", "dup"), ADDRESSES, None)
        order: list[str] = []

        def inner() -> None:
            second = threading.Thread(target=lambda: order.append("second"))
            second.start()
            second.join(10)
            order.append("first")

        first = threading.Thread(target=inner)
        first.start()
        first.join(10)
        results = {}
        for name, way in ways.items():
            try:
                value = way()
                results[name] = value if isinstance(value, int) and value < 0 else 0
            except OSError as error:
                results[name] = -(error.errno or 0)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            shell = os.system(f": > {marker}")  # says how it failed by its status only
        return order, results, shell, marker.exists()

    order, results, shell, made = in_child(attempt, uid)
    assert order == ["second", "first"]
    assert results.pop("os.forkpty") in (EPERM, -errno.ENOENT)  # it opens a terminal first
    assert set(results.values()) == {EPERM}, results
    assert shell != 0
    assert not made
    assert not marker.exists()


def test_namespaces_are_refused_whatever_was_learned(uid: int | None) -> None:
    """Where processes are learned they start, but none in a namespace of its own, and nobody leaves the tree."""

    def attempt() -> tuple[int, list[int]]:
        stubs, word = Stubs(), ctypes.c_uint64(0)
        install(policy("clone process", "wait4"), ADDRESSES, None)
        mark = ctypes.addressof(word)
        flags = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x8000, 0x2000]
        denied = [stubs.native(raw.NUMBERS["clone"], (flag | signal.SIGCHLD,), mark) for flag in flags]
        denied.append(raw.call("unshare", 0x10000000))
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), denied

    code, denied = in_child(attempt, uid)
    assert code == 7
    assert set(denied) == {EPERM}


def test_threads_and_children_inherit(uid: int | None) -> None:
    """What is denied is denied in a later thread and in a child, and both say that they are filtered."""

    def attempt() -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        install(policy("clone thread", "clone process", "wait4", "openat read"), ADDRESSES, None)

        def look() -> tuple[int, str]:
            return raw.call("socket", 2, 1, 0), seccomp.read_status("thread-self").get("Seccomp", "")

        thread = threading.Thread(target=lambda: found.append(look()))
        thread.start()
        thread.join(10)
        page = mmap.mmap(-1, 4096)
        pid = os.fork()
        if pid == 0:
            number, state = look()
            page[:12] = struct.pack("<i8s", number, state.encode())
            os._exit(0)
        os.waitpid(pid, 0)
        number, state = struct.unpack("<i8s", page[:12])
        return [*found, (number, state.rstrip(b"\0").decode())]

    assert in_child(attempt, uid) == [(EPERM, "2"), (EPERM, "2")]


def _i386_works() -> bool:
    def attempt(_: int) -> None:
        word = ctypes.c_uint64(0)
        Stubs().int80(20, 0, ctypes.addressof(word))  # getpid

    return abi.MACHINE == "x86_64" and ended(attempt, None).status == 0


@pytest.mark.skipif(not _i386_works(), reason="this kernel runs no i386 calls")
@pytest.mark.parametrize("number", [20, 2, 11, 102, 1], ids=["getpid", "fork", "execve", "socketcall", "exit"])
def test_i386_calls_kill(uid: int | None, number: int) -> None:
    """Any call by int 0x80 ends the process, harmless or not: its numbers mean other things."""

    def attempt(write: int) -> None:
        stubs, word = Stubs(), ctypes.c_uint64(0)
        install(policy("clone process", "clone thread"), ADDRESSES, None)
        os.write(write, b"installed")
        stubs.int80(number, 0, ctypes.addressof(word))
        os.write(write, b" and went on")

    found = ended(attempt, uid)
    assert (found.signal, found.output) == (signal.SIGSYS, b"installed")


@pytest.mark.skipif(abi.MACHINE != "x86_64", reason="x32 is an ABI of x86_64")
@pytest.mark.parametrize("number", [0x40000000, 0x40000000 + 39, 0x40000000 + 520, 0x7FFFFFFF])
def test_x32_calls_kill(uid: int | None, number: int) -> None:
    """Any number with the x32 bit ends the process, whether or not the kernel knows x32."""

    def attempt(write: int) -> None:
        install(policy(), ADDRESSES, None)
        os.write(write, b"installed")
        raw.call_number(number)
        os.write(write, b" and went on")

    found = ended(attempt, uid)
    assert (found.signal, found.output) == (signal.SIGSYS, b"installed")


def test_a_second_filter_or_listener_is_refused(uid: int | None) -> None:
    """Nothing can be stacked on the policy: no filter, no listener, by either call, and what is denied stays denied."""

    def attempt() -> list[int]:
        everything = refusing({})
        buffer = ctypes.create_string_buffer(everything, len(everything))
        header = ctypes.create_string_buffer(struct.pack("=H6xQ", len(everything) // 8, raw.address(buffer)), 16)
        at = raw.address(header)
        install(policy(), ADDRESSES, None)
        return [
            raw.call("seccomp", seccomp.SET_MODE_FILTER, 0, at),
            raw.call("seccomp", seccomp.SET_MODE_FILTER, seccomp.FLAG_TSYNC, at),
            raw.call("seccomp", seccomp.SET_MODE_FILTER, seccomp.FLAG_NEW_LISTENER, at),
            raw.call("seccomp", 0, 0, 0),
            raw.call("seccomp", seccomp.GET_NOTIF_SIZES, 0, at),
            raw.call("prctl", 22, 2, at),
            raw.call("prctl", 22, 1),
            raw.call("socket", 2, 1, 0),
        ]

    assert in_child(attempt, uid) == [EPERM] * 8


def test_a_policy_does_not_loosen_what_stands_above(uid: int | None) -> None:
    """A call that the profile allows stays as the filter of the host answers it."""

    def attempt() -> tuple[int, int]:
        buffer = ctypes.create_string_buffer(4096)
        seccomp.set_no_new_privs()
        seccomp.install(refusing({"times": errno.ENODEV}))
        install(policy("times", "getcwd"), ADDRESSES, None)
        return raw.call("times", 0), min(raw.call("getcwd", raw.address(buffer), 4096), 0)

    assert in_child(attempt, uid) == (-errno.ENODEV, 0)


def test_the_kernel_says_what_is_in_force(uid: int | None) -> None:
    """The process says Seccomp: 2, NoNewPrivs: 1 and one filter more, and the report says the same."""

    def attempt() -> tuple[dict[str, str], dict[str, str], int | None, list[str]]:
        before = seccomp.read_status()
        report = install(policy("openat read"), ADDRESSES, None)
        return before, seccomp.read_status(), report.filters, report.enforced

    before, after, filters, enforced = in_child(attempt, uid)
    assert (after["Seccomp"], after["NoNewPrivs"]) == ("2", "1")
    assert int(after["Seccomp_filters"]) == int(before["Seccomp_filters"]) + 1 == filters
    assert {"syscalls", "exec: single-use", "signals: self"} <= set(enforced)


def test_every_call_that_nobody_learned(uid: int | None) -> None:
    """Under an empty profile no syscall of the kernel's table has another answer than the simulated one."""
    found = policy()
    arch = tables.machine()
    # execve is the launcher's; the last two pass every filter, and the kernel itself ends a caller that is no probe.
    skipped = ALLOWED | {"execve", "uretprobe", "uprobe"}

    def attempt() -> dict[str, int]:
        install(found, ADDRESSES, None)
        answers = {}
        for name, nr in tables.numbers(arch).items():
            if name not in skipped:
                answers[name] = raw.call_number(nr, -1, -1, -1, -1, -1, -1)
        return answers

    answers = in_child(attempt, uid)
    assert len(answers) > 250
    probed = {"clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register"}
    assert {name for name, value in answers.items() if value == ENOSYS} == probed
    assert {name: value for name, value in answers.items() if value not in (EPERM, ENOSYS)} == {}


def test_the_floor_tells_what_stat_tells_and_places_own_pages_only(uid: int | None, folder: Path) -> None:
    """access(2) and reading an open folder work, as a memory policy for oneself; MPOL_MF_MOVE_ALL is EPERM."""
    (folder / "file").write_text("")
    path = os.fsencode(folder)
    names = [name for name in ("access", "getdents") if name in tables.numbers(abi.MACHINE)]

    def attempt() -> tuple[dict[str, int], list[int]]:
        at, size = ctypes.create_string_buffer(path), 4096
        entries = ctypes.create_string_buffer(size)
        fd = raw.call("openat", raw.AT_FDCWD, raw.address(at), os.O_RDONLY | os.O_DIRECTORY)
        memory = ctypes.create_string_buffer(2 * size)
        page = raw.address(memory) + size - 1 & -size
        works = {
            "faccessat": raw.call("faccessat", raw.AT_FDCWD, raw.address(at), os.R_OK),
            "faccessat2": raw.call("faccessat2", raw.AT_FDCWD, raw.address(at), os.R_OK, 0),
            "getdents64": raw.call("getdents64", fd, raw.address(entries), size),
            "mbind": raw.call("mbind", page, size, 0, 0, 0, 0),
            "mbind move": raw.call("mbind", page, size, 0, 0, 0, 2),
            "set_mempolicy": raw.call("set_mempolicy", 0, 0, 0),
            "get_mempolicy": raw.call("get_mempolicy", 0, 0, 0, 0, 0),
        }
        if "access" in names:
            works["access"] = raw.call("access", raw.address(at), os.R_OK)
            works["getdents"] = min(raw.call("getdents", fd, raw.address(entries), size), 0)
        denied = [
            raw.call("mbind", page, size, 0, 0, 0, 4),
            raw.call("mbind", page, size, 0, 0, 0, 6 | DIRTY),
            raw.call("migrate_pages", 0, 0, 0, 0),
            raw.call("move_pages", 0, 0, 0, 0, 0, 0),
        ]
        return works, denied

    works, denied = in_child(under(policy("openat read"), attempt), uid)
    assert works.pop("getdents64") > 0
    assert set(works.values()) == {0}, works
    assert set(denied) == {EPERM}
