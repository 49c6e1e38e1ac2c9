"""The kernel's facts: against the running kernel, libseccomp, the C library's constants and the headers."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path
from types import ModuleType
from typing import Any

import pyseccomp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import KernelUnsupported
from sandbox.kernel import tables

ROOT = Path(tables.__file__).parents[2]
DATA = ROOT / "sandbox/kernel/data"
NEWER = json.loads((DATA / "newer.json").read_text())
HIGH = 1 << 32
LIBC = ctypes.PyDLL(None, use_errno=True)


def kernel_version() -> tuple[int, int]:
    """Major and minor of the running kernel."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    assert found
    return int(found[1]), int(found[2])


def version(text: str) -> tuple[int, int]:
    """Major and minor of a version as the data files write it."""
    major, minor = text.split(".")
    return int(major), int(minor)


def call(number: int, *arguments: int) -> int:
    """Make a system call with all 64 bits of each argument as given; the result, or minus the errno."""
    ctypes.set_errno(0)
    result = int(LIBC.syscall(ctypes.c_long(number), *(ctypes.c_ulong(a % (1 << 64)) for a in arguments)))
    return -ctypes.get_errno() if result == -1 else result


LIBC.syscall.restype = ctypes.c_long


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("read", 0, 63),
        ("write", 1, 64),
        ("mmap", 9, 222),
        ("clone", 56, 220),
        ("execve", 59, 221),
        ("ptrace", 101, 117),
        ("prctl", 157, 167),
        ("openat", 257, 56),
        ("newfstatat", 262, 79),
        ("seccomp", 317, 277),
        ("memfd_secret", 447, 447),
        ("clone3", 435, 435),
        ("io_uring_setup", 425, 425),
        ("map_shadow_stack", 453, 453),
        ("file_setattr", 469, 469),
    ],
)
def test_well_known_numbers(name: str, x86_64: int, aarch64: int) -> None:
    """Numbers that anyone can look up are the ones in the tables."""
    assert tables.numbers("x86_64")[name] == x86_64
    assert tables.numbers("aarch64")[name] == aarch64


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_names_is_the_inverse_of_numbers(arch: str) -> None:
    """Every number has one name and every name one number."""
    numbers, names = tables.numbers(arch), tables.names(arch)
    assert len(numbers) == len(names) > 300
    assert all(names[number] == name for name, number in numbers.items())


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_holes_and_names_fill_the_numbers_up_to_the_highest(arch: str) -> None:
    """Each number up to the highest is either named or in exactly one hole."""
    in_holes = [n for first, last in tables.holes(arch) for n in range(first, last + 1)]
    assert sorted([*in_holes, *tables.names(arch)]) == list(range(tables.highest(arch) + 1))


def test_holes_are_where_the_kernel_says_so() -> None:
    """x86_64 skips 337 to 423; arm64 keeps 244 to 259 for itself and skips 295 to 423."""
    assert tables.holes("x86_64") == ((337, 423),)
    assert tables.holes("aarch64") == ((244, 259), (295, 423))


def test_arm64_lacks_the_old_calls() -> None:
    """What newer calls replaced was never given to arm64."""
    gone = re.findall(
        r"\w+",
        """open creat stat lstat access readlink poll select fork vfork pipe dup2 epoll_create epoll_wait
        eventfd signalfd inotify_init getdents mkdir rmdir unlink rename link symlink chmod chown mknod utime
        utimes futimesat time alarm pause getpgrp arch_prctl ioperm iopl modify_ldt uselib ustat sysfs
        uretprobe uprobe""",
    )
    arm64 = tables.numbers("aarch64")
    assert [name for name in gone if name in arm64] == []
    assert [name for name in gone if name not in tables.numbers("x86_64")] == []


def test_every_name_is_the_union() -> None:
    """every_name holds both architectures' names and nothing else, and no 32-bit or x32 name."""
    names = tables.every_name()
    assert names == {*tables.numbers("x86_64"), *tables.numbers("aarch64")}
    assert not names & {"socketcall", "mmap2", "fcntl64", "_llseek", "clock_gettime64", "futex_time64"}


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_libseccomp_agrees(arch: str) -> None:
    """Every number that libseccomp knows for a name is ours, and it knows most of them."""
    other = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[arch]
    known: dict[str, int] = {}
    for name in tables.numbers(arch):
        try:
            number = pyseccomp.resolve_syscall(other, name)
        except ValueError:
            continue
        # Negative: libseccomp's own numbers for names that another architecture has.
        if number >= 0:
            known[name] = number
    assert len(known) > 280
    assert known == {name: tables.numbers(arch)[name] for name in known}


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("socket", [32, 32, 32]),
        ("connect", [32, 64, 32]),
        ("mmap", [64, 64, 64, 64, 32, 64]),
        ("clone", [32, 64, 64, 64, 64]),
        ("openat", [32, 64, 32, 32]),
        ("prctl", [32, 64, 64, 64, 64]),
        ("fcntl", [32, 32, 64]),
        ("ioctl", [32, 32, 64]),
        ("kill", [32, 32]),
        ("sendto", [32, 64, 64, 32, 64, 32]),
        ("setsockopt", [32, 32, 32, 64, 32]),
        ("unshare", [64]),
        ("seccomp", [32, 32, 64]),
        ("prlimit64", [32, 32, 64, 64]),
        ("map_shadow_stack", [64, 64, 32]),
        ("newfstatat", [32, 64, 64, 32]),
        ("stat", [64, 64]),
        ("getpid", []),
        ("tuxcall", []),
    ],
)
def test_widths_of_well_known_calls(name: str, widths: list[int]) -> None:
    """Widths are the prototypes', also where the kernel's entry has another name (stat is newstat)."""
    assert tables.argument_count(name) == len(widths)
    assert [tables.width(name, n) for n in range(len(widths))] == widths


def test_pointers_are_told_from_numbers() -> None:
    """What points into the caller's memory is a pointer, what only means an address is a number."""
    assert [tables.is_pointer("connect", n) for n in range(3)] == [False, True, False]
    assert [tables.is_pointer("execve", n) for n in range(3)] == [True, True, True]
    assert [tables.is_pointer("clone3", n) for n in range(2)] == [True, False]
    assert [tables.is_pointer("capset", n) for n in range(2)] == [True, True]
    assert not tables.is_pointer("mmap", 0)
    assert not tables.is_pointer("ioctl", 2)


def test_every_syscall_has_widths() -> None:
    """Each name answers argument_count, width and is_pointer; a pointer is always 64 bits."""
    for name in tables.every_name():
        count = tables.argument_count(name)
        assert 0 <= count <= 6
        for argument in range(count):
            assert tables.width(name, argument) in (32, 64)
            assert tables.width(name, argument) == 64 or not tables.is_pointer(name, argument)


def test_unknown_questions_are_value_errors() -> None:
    """An unknown syscall, argument, architecture or group is a ValueError that names it."""
    with pytest.raises(ValueError, match="no syscall 'opneat'"):
        tables.width("opneat", 0)
    with pytest.raises(ValueError, match="openat has 4 arguments"):
        tables.width("openat", 4)
    with pytest.raises(ValueError, match="openat has 4 arguments"):
        tables.is_pointer("openat", -1)
    with pytest.raises(ValueError, match="'riscv64'"):
        tables.numbers("riscv64")
    with pytest.raises(ValueError, match="'sockets'"):
        tables.constants("sockets")
    with pytest.raises(ValueError, match="'mips'"):
        tables.name_of("signal", 9, "mips")


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Descriptors: a directory, a file "eight" of 8 bytes in it, a pipe's writing end, this process."""
    (tmp_path / "eight").write_bytes(b"12345678")
    reading, writing = os.pipe()
    opened = {
        "directory": os.open(tmp_path, os.O_RDONLY),
        "file": os.open(tmp_path / "eight", os.O_RDWR),
        "pipe": writing,
        "reading": reading,
        "pidfd": os.pidfd_open(os.getpid()),
    }
    yield opened
    for descriptor in opened.values():
        os.close(descriptor)


DIRTY: list[tuple[str, list[Any], int]] = [
    ("socket", [socket.AF_UNIX, socket.SOCK_STREAM, 0], 0),
    ("socket", [socket.AF_UNIX, socket.SOCK_STREAM, 0], 1),
    ("socket", [socket.AF_UNIX, socket.SOCK_STREAM, 0], 2),
    ("openat", ["directory", "path", os.O_RDONLY, 0], 0),
    ("openat", ["directory", "path", os.O_RDONLY, 0], 2),
    ("openat", ["directory", "path", os.O_RDONLY, 0], 1),
    ("prctl", [3, 0, 0, 0, 0], 0),
    ("prctl", [39, 0, 0, 0, 0], 1),
    ("fcntl", ["file", fcntl.F_GETFD, 0], 0),
    ("fcntl", ["file", fcntl.F_GETFD, 0], 1),
    ("ioctl", ["file", termios.FIONREAD, "buffer"], 0),
    ("ioctl", ["file", termios.FIONREAD, "buffer"], 1),
    ("ioctl", ["file", termios.FIONREAD, "buffer"], 2),
    ("kill", ["pid", 0], 0),
    ("kill", ["pid", 0], 1),
    ("readv", ["file", "iovec", 1], 0),
    ("readv", ["file", "iovec", 1], 2),
    ("preadv", ["file", "iovec", 1, 0, 0], 0),
    ("pread64", ["file", "buffer", 8, 0], 0),
    ("writev", ["file", "iovec", 1], 0),
    ("writev", ["file", "iovec", 1], 2),
    ("vmsplice", ["pipe", "iovec", 1, 0], 2),
    ("process_vm_readv", ["pid", "iovec", 1, "iovec", 1, 0], 0),
    ("process_vm_readv", ["pid", "iovec", 1, "iovec", 1, 0], 2),
    ("process_vm_readv", ["pid", "iovec", 1, "iovec", 1, 0], 4),
    ("process_vm_readv", ["pid", "iovec", 1, "iovec", 1, 0], 5),
    ("process_madvise", ["pidfd", "iovec", 1, "MADV_COLD", 0], 2),
    ("process_madvise", ["pidfd", "iovec", 1, "MADV_COLD", 0], 3),
    ("mprotect", ["buffer", 4096, 3], 2),
    ("madvise", ["buffer", 4096, 0], 2),
    ("mremap", ["buffer", 4096, 4096, 0, 0], 3),
    ("rt_sigprocmask", [0, 0, "buffer", 8], 3),
    ("mmap", [0, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, "file", 0], 4),
    ("unshare", [0], 0),
    ("clone", [signal.SIGCHLD, 0, 0, 0, 0], 0),
]


@pytest.mark.parametrize(("name", "arguments", "dirty"), DIRTY)
def test_the_kernel_ignores_the_upper_half_where_we_say_32(
    name: str, arguments: list[Any], dirty: int, files: dict[str, int]
) -> None:
    """A changed bit in the upper half of an argument is ignored just where the tables say 32 bits."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    buffer = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
    iovec = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), mmap.PAGESIZE)
    path = ctypes.create_string_buffer(b"eight")
    values = {
        **files,
        "pid": os.getpid(),
        "buffer": ctypes.addressof(buffer),
        "iovec": ctypes.addressof(iovec),
        "path": ctypes.addressof(path),
        "MADV_COLD": tables.constants("madvise")["MADV_COLD"],
    }
    clean = [values[a] if isinstance(a, str) else a for a in arguments]
    number = tables.numbers(tables.machine())[name]

    def works(call_arguments: list[int]) -> bool:
        result = call(number, *call_arguments)
        if name == "clone":
            if result == 0:
                os._exit(0)
            if result > 0:
                os.waitpid(result, 0)
        elif name in ("socket", "openat") and result >= 0:
            os.close(result)
        elif name == "mmap" and result > 0:
            call(tables.numbers(tables.machine())["munmap"], result, call_arguments[1])
        return result >= 0

    assert works(clean)
    changed = [*clean]
    # Bit 33 may be part of a good address; bit 54 is in none. In clone's flags 33 means CLONE_INTO_CGROUP.
    changed[dirty] ^= 1 << 54 if arguments[dirty] in ("buffer", "path", "iovec") else 1 << 33
    assert works(changed) == (tables.width(name, dirty) == 32)


def test_lseek_reads_64_bits(files: dict[str, int]) -> None:
    """An offset of 2^32 is not cut to 0."""
    number = tables.numbers(tables.machine())["lseek"]
    assert call(number, files["file"], HIGH, os.SEEK_SET) == HIGH
    assert (tables.width("lseek", 0), tables.width("lseek", 1), tables.width("lseek", 2)) == (32, 64, 32)


NEW_HERE = {n: e for n, e in NEWER["syscalls"].items() if e.get(tables.machine(), 0) > 450}


@pytest.mark.parametrize("name", NEW_HERE)
def test_the_kernel_has_the_newer_calls(name: str) -> None:
    """Called with -1 everywhere (a bad descriptor, address and flags) each answers, and not with ENOSYS."""
    since = NEW_HERE[name]["linux"]
    if kernel_version() < version(since):
        pytest.skip(f"came with Linux {since}, this is {platform.release()}")
    answer = call(tables.numbers(tables.machine())[name], -1, -1, -1, -1, -1, -1)
    assert answer < 0
    # Shadow stacks depend on the processor and on how the kernel was built.
    assert answer != -errno.ENOSYS or name == "map_shadow_stack"


def test_the_kernel_has_nothing_in_the_holes_or_above() -> None:
    """On the tables' own kernel each number that they leave out, up to 16 above the highest, is ENOSYS."""
    if kernel_version() != version(tables.LINUX):
        pytest.skip(f"needs Linux {tables.LINUX}, this is {platform.release()}")
    arch = tables.machine()
    highest = tables.highest(arch)
    free = [
        n
        for first, last in (*tables.holes(arch), (highest + 1, highest + 16))
        for n in range(first, last + 1)
    ]
    assert len(free) > 16
    assert [n for n in free if call(n, -1, -1, -1, -1, -1, -1) != -errno.ENOSYS] == []


@pytest.mark.parametrize(
    ("module", "prefix", "group"),
    [
        (socket, "AF_", "socket_family"),
        (socket, "IPPROTO_", "socket_protocol"),
        (socket, "SO_", "socket_option.SOL_SOCKET"),
        (socket, "TCP_", "socket_option.IPPROTO_TCP"),
        (socket, "IP_", "socket_option.IPPROTO_IP"),
        (socket, "IPV6_", "socket_option.IPPROTO_IPV6"),
        (socket, "SOL_", "socket_level"),
        (fcntl, "F_", "fcntl_command"),
        (mmap, "MAP_", "mmap_flags"),
        (mmap, "PROT_", "mmap_prot"),
        (mmap, "MADV_", "madvise"),
        (resource, "RLIMIT_", "resource"),
        (signal, "SIG", "signal"),
        (termios, "T", "ioctl_request"),
        (termios, "FIO", "ioctl_request"),
        (os, "O_", "open_flags"),
    ],
)
def test_the_c_library_agrees(module: ModuleType, prefix: str, group: str) -> None:
    """What Python takes from this machine's C library has the same value here, name by name."""
    ours = tables.constants(group, tables.machine())
    theirs = {n: int(v) for n, v in vars(module).items() if n.startswith(prefix) and n in ours}
    # The C library hides what the kernel does by itself on 64 bits.
    theirs.pop("O_LARGEFILE", None)
    assert len(theirs) >= 3
    assert theirs == {name: ours[name] for name in theirs}


def test_constants_that_differ_by_architecture() -> None:
    """arm64 swaps four open flags and has protection bits of its own; O_TMPFILE follows O_DIRECTORY."""
    x86, arm = tables.constants("open_flags"), tables.constants("open_flags", "aarch64")
    swapped = {"O_DIRECTORY": 0o40000, "O_NOFOLLOW": 0o100000, "O_DIRECT": 0o200000, "O_LARGEFILE": 0o400000}
    assert {name: arm[name] for name in swapped} == swapped
    assert {n for n in x86 if x86[n] != arm[n]} == {*swapped, "O_TMPFILE"}
    assert arm["O_TMPFILE"] & arm["O_DIRECTORY"]
    assert "MAP_32BIT" not in tables.constants("mmap_flags", "aarch64")
    assert tables.constants("mmap_prot", "aarch64")["PROT_BTI"] == 0x10
    assert "PROT_BTI" not in tables.constants("mmap_prot")


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("socket_family", "AF_MCTP", 45),
        ("socket_protocol", "IPPROTO_MPTCP", 262),
        ("socket_flags", "SOCK_CLOEXEC", 0o2000000),
        ("netlink_protocol", "NETLINK_ROUTE", 0),
        ("clone_flags", "CLONE_INTO_CGROUP", 0x200000000),
        ("fcntl_command", "F_ADD_SEALS", 1033),
        ("fcntl_command", "F_OFD_SETLKW", 38),
        ("prctl_option", "PR_SET_SECCOMP", 22),
        ("prctl_option", "PR_SET_VMA", 0x53564D41),
        ("prctl_option", "PR_FUTEX_HASH", 78),
        ("ioctl_request", "TIOCSTI", 0x5412),
        ("ioctl_request", "TIOCLINUX", 0x541C),
        ("ioctl_request", "TCGETS", 0x5401),
        ("ioctl_request", "SIOCGIFADDR", 0x8915),
        ("ioctl_request", "BLKGETSIZE64", 0x80081272),
        ("ptrace_request", "PTRACE_SEIZE", 0x4206),
        ("seccomp_ioctl", "SECCOMP_IOCTL_NOTIF_RECV", 0xC0502100),
        ("seccomp_ioctl", "SECCOMP_IOCTL_NOTIF_SET_FLAGS", 0x40082104),
        ("seccomp_return", "SECCOMP_RET_KILL_PROCESS", 0x80000000),
        ("clock", "CLOCK_TAI", 11),
    ],
)
@pytest.mark.parametrize("arch", tables.ARCHES)
def test_well_known_constants(arch: str, group: str, name: str, value: int) -> None:
    """Constants that a filter cares about, on both architectures."""
    assert tables.constants(group, arch)[name] == value
    assert tables.name_of(group, value, arch) == name


def test_prctl_options_are_only_options() -> None:
    """Values of prctl's further arguments stay out, so that 1 is PR_SET_PDEATHSIG and nothing else."""
    options = tables.constants("prctl_option")
    assert not [
        n for n in options if n.startswith(("PR_SPEC_", "PR_CAP_AMBIENT_", "PR_SET_MM_", "PR_FPEMU_"))
    ]
    assert [n for n, v in options.items() if v == 1] == ["PR_SET_PDEATHSIG"]


@pytest.mark.parametrize("arch", tables.ARCHES)
@pytest.mark.parametrize("group", tables.groups())
def test_a_value_has_one_name(arch: str, group: str) -> None:
    """name_of inverts constants, and two names of one value are told apart by the list of aliases."""
    aliases = json.loads((DATA / "constants.json").read_text())["aliases"]
    entries = tables.constants(group, arch)
    usual = [name for name in entries if name not in aliases]
    assert len({entries[name] for name in usual}) == len(usual)
    for name, value in entries.items():
        assert tables.name_of(group, value, arch) == aliases.get(name, name)


@given(st.sampled_from(tables.groups()), st.integers(), st.sampled_from(tables.ARCHES))
def test_name_of_any_number(group: str, value: int, arch: str) -> None:
    """For any number at all name_of gives None or a name that has this value."""
    name = tables.name_of(group, value, arch)
    assert name is None or tables.constants(group, arch)[name] == value


def test_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """machine is what uname says, and another machine is refused with an error of ours."""
    real = os.uname()
    assert tables.machine() == real.machine
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:4], "riscv64")))
    with pytest.raises(KernelUnsupported, match="riscv64"):
        tables.machine()


def test_audit_arch() -> None:
    """The values are ELF machine 62 and 183 with the bits for 64-bit and little-endian."""
    assert tables.AUDIT_ARCH == {"x86_64": 62 | 3 << 30, "aarch64": 183 | 3 << 30}


def test_the_import_is_small() -> None:
    """Importing the tables loads neither json nor typing nor re, and reads no data."""
    code = (
        "import sandbox.kernel.tables, sys; print([m for m in ('json', 'typing', 're') if m in sys.modules])"
    )
    run = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_files_say_the_version_of_the_loader() -> None:
    """Every data file is of the Linux that tables.LINUX names."""
    for name in ("syscalls.json", "widths.json", "constants.json", "signatures.json"):
        assert json.loads((DATA / name).read_text())["linux"] == tables.LINUX


needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="the generator reads headers with gcc")


def generate(root: Path, *arguments: str) -> tuple[int, str]:
    """Run the generator of a tree: exit status, and what it printed."""
    done = subprocess.run(
        [sys.executable, str(root / "tools/tables"), *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the generator and its data, to be changed."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/tables", tmp_path / "tools/tables")
    shutil.copytree(DATA, tmp_path / "sandbox/kernel/data")
    return tmp_path


@needs_gcc
def test_the_committed_data_is_what_the_sources_give() -> None:
    """tools/tables --check finds no difference, and says what it compared with what."""
    status, text = generate(ROOT, "--check")
    assert (status, text.splitlines()[-1]) == (0, "no difference"), text
    assert "syscalls.json: " in text
    assert "constants.json: " in text


@needs_gcc
@pytest.mark.parametrize(
    ("name", "before", "after", "line"),
    [
        ("syscalls.json", '"openat": 257', '"openat": 258', "x86_64 openat is 258, the headers say 257"),
        ("constants.json", '"AF_INET6": 10', '"AF_INET6": 11', "AF_INET6 x86_64 is 11, the headers say 10"),
        ("constants.json", '"O_DIRECTORY": {"x86_64": 65536, "aarch64": 16384}', '"O_DIRECTORY": 65536',
         "O_DIRECTORY aarch64 is 65536, the headers say 16384"),
        ("widths.json", '"ioctl": ["32", "32", "64"]', '"ioctl": ["32", "64", "64"]', ""),
    ],
)  # fmt: skip
def test_the_check_finds_a_wrong_fact(tree: Path, name: str, before: str, after: str, line: str) -> None:
    """One wrong fact in a committed file ends the check with 1 and is shown; --write puts it right.

    Under headers of another version than the data's, the check names the value instead of the file's line.
    """
    path = tree / "sandbox/kernel/data" / name
    good = path.read_text()
    assert good.count(before) == 1
    path.write_text(good.replace(before, after))
    status, text = generate(tree, "--check")
    assert status == 1, text
    other_version = line and f"{name}: made from headers of Linux" in text
    assert (line if other_version else before) in text
    if "compared in full with the headers" in text:
        assert generate(tree, "--write")[0] == 0
        assert path.read_text() == good


@needs_gcc
def test_headers_of_another_version_are_compared_as_far_as_they_go(tree: Path) -> None:
    """Under headers that call themselves 6.2 the check says so and still works; nothing is written."""
    prefix = tree / "usr"
    (prefix / "include/linux").mkdir(parents=True)
    for source in [*Path("/usr/include").iterdir(), *Path("/usr/include/linux").iterdir()]:
        target = prefix / source.relative_to("/usr")
        if source != Path("/usr/include/linux"):
            target.symlink_to(source)
    stamp = prefix / "include/linux/version.h"
    stamp.unlink()
    stamp.write_text("#define LINUX_VERSION_CODE 393728\n")
    status, text = generate(tree, "--check", "--prefix", str(prefix))
    assert status == 0, text
    assert re.search(
        r"syscalls\.json: made from headers of Linux 6\.1; compared the \d+ values .* 6\.2", text
    )

    path = tree / "sandbox/kernel/data/syscalls.json"
    path.write_text(path.read_text().replace('"openat": 257', '"openat": 258'))
    status, text = generate(tree, "--check", "--prefix", str(prefix))
    assert (status, "openat is 258, the headers say 257" in text) == (1, True), text
    status, text = generate(tree, "--write", "--prefix", str(prefix))
    assert (status, "6.2" in text) == (2, True), text
    assert '"openat": 258' in path.read_text()


@needs_gcc
def test_missing_headers_are_an_error(tree: Path) -> None:
    """Without headers the check does not pass: it ends with 2 and says what is missing."""
    status, text = generate(tree, "--check", "--prefix", str(tree / "nothing"))
    assert status == 2
    assert "install" in text
