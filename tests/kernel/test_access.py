"""What a call asks for, foretold at its entry, is what the kernel then does: the same path and the same errno."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from child_processes import in_child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.behaviour import access
from sandbox.behaviour.access import Access, of_call
from sandbox.kernel import abi, tables
from sandbox.kernel.path_walk import AT_FDCWD
from sandbox.kernel.task import Task

NUMBERS = tables.numbers(abi.MACHINE)
UNFORESEEN = {errno.ENXIO}
"""Of a FIFO that nobody reads."""
NAMES = ("..", ".", "", "link", "up", "file", "file-link", "nowhere", "deep", "7", "empty", "new", "missing", "fifo")
OPENS = (
    os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    os.O_RDONLY | os.O_NOFOLLOW, os.O_DIRECTORY, os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    os.O_RDWR | os.O_TMPFILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
)  # fmt: skip


def foretold(name: str, *args: int | bytes) -> tuple[tuple[Access, ...], int]:
    """What a call of this very process asks for, and the errno that it then gets (0: it works)."""
    held = [ctypes.create_string_buffer(arg) for arg in args if isinstance(arg, bytes)]
    texts = iter(held)
    values = [arg if isinstance(arg, int) else ctypes.addressof(next(texts)) for arg in args]
    registers = tuple(value & (2**64 - 1) for value in (*values, *[0] * (6 - len(values))))
    task = Task(os.getpid())
    asked = of_call(access.call_of(task, name, registers, abi.MACHINE), registers, task, "invoke")
    task.close()
    try:
        result = abi.syscall(NUMBERS[name], *values)
    except OSError as error:
        return asked, error.errno or 0
    if name.startswith("open") or name == "creat":
        os.close(result)
    return asked, 0


def build(base: Path) -> None:
    """Folders, files and links, of which some lead up, and some nowhere."""
    shutil.rmtree(base, ignore_errors=True)
    (base / "here" / "deep").mkdir(parents=True)
    (base / "releases" / "7" / "deep").mkdir(parents=True)
    (base / "here" / "empty").mkdir()
    for folder in ("here", "releases", "here/deep"):
        (base / folder / "file").write_text("x")
    for name, target in {"link": "../releases/7", "up": "..", "nowhere": "missing/x", "file-link": "file"}.items():
        (base / "here" / name).symlink_to(target)
    os.mkfifo(base / "here" / "fifo")


path = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, tuple[object, ...]]:
    """A call on paths, whose texts are still relative to the tree's first folder."""
    kind = draw(
        st.sampled_from(("openat", "mkdirat", "unlinkat", "renameat2", "linkat", "symlinkat", "mknodat", "truncate"))
    )
    first, second = draw(path), draw(path)
    if kind == "openat":
        return kind, (AT_FDCWD, first, draw(st.sampled_from(OPENS)) | os.O_NONBLOCK, 0o644)
    if kind == "renameat2":
        return kind, (AT_FDCWD, first, AT_FDCWD, second, draw(st.sampled_from((0, 1, 2))))
    if kind == "linkat":
        return kind, (AT_FDCWD, first, AT_FDCWD, second, draw(st.sampled_from((0, 0x400))))
    if kind == "unlinkat":
        return kind, (AT_FDCWD, first, draw(st.sampled_from((0, 0x200))))
    if kind == "symlinkat":
        return kind, ("file", AT_FDCWD, first)
    if kind == "mknodat":
        return kind, (AT_FDCWD, first, stat.S_IFIFO | 0o600, 0)
    return (kind, (AT_FDCWD, first, 0o755)) if kind == "mkdirat" else (kind, (first, 0))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=calls(), absolute=st.booleans())
def test_random_calls(tmp_path: Path, call: tuple[str, tuple[object, ...]], absolute: bool) -> None:
    """The errno is the kernel's, and what an entry's call makes or removes is made or removed at the path told."""
    base = tmp_path / "tree"
    build(base)
    before = os.getcwd()
    os.chdir(base / "here")
    try:
        name, args = call
        spelled = [
            arg if isinstance(arg, int) else os.fsencode(f"{base}/here/{arg}" if absolute else str(arg)) for arg in args
        ]
        asked, error = foretold(name, *spelled)
    finally:
        os.chdir(before)
    assert all(one.error == asked[0].error for one in asked)
    if not asked:
        assert error in (errno.ENOENT, errno.EINVAL)
    elif error in UNFORESEEN:
        assert asked[0].error in (0, error)
    elif len(asked) == 2:  # which of two paths fails first says nothing of rights
        assert bool(asked[0].error) == bool(error), (asked, errno.errorcode.get(error))
    else:
        assert asked[0].error == error, (asked, errno.errorcode.get(error))
    for one in asked if not error else ():
        assert one.thing == os.path.join(os.path.realpath(os.path.dirname(one.thing)), os.path.basename(one.thing))
        if name != "renameat2" and one.entry:
            assert os.path.lexists(one.thing) == (name != "unlinkat"), one


def test_an_open_that_only_names_a_file_asks_for_nothing(tmp_path: Path) -> None:
    """O_PATH needs no right to what it names."""
    assert foretold("openat", AT_FDCWD, os.fsencode(tmp_path), os.O_PATH) == ((), 0)


def test_a_path_that_cannot_be_read_asks_for_nothing() -> None:
    """The kernel meets EFAULT, and no right is learned from it."""
    assert foretold("openat", AT_FDCWD, 8, os.O_RDONLY) == ((), errno.EFAULT)
    assert foretold("mkdirat", AT_FDCWD, 8, 0o755) == ((), errno.EFAULT)


def test_a_path_before_a_page_that_is_not_there(tmp_path: Path) -> None:
    """A string may end at the very end of what is mapped."""
    libc = abi.LIBC
    libc.mmap.restype = ctypes.c_void_p
    page = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
    assert libc.munmap(ctypes.c_void_p(page + 4096), ctypes.c_size_t(4096)) == 0
    text = os.fsencode(tmp_path / "new") + b"\0"
    ctypes.memmove(page + 4096 - len(text), text, len(text))
    (asked,), error = foretold("openat", AT_FDCWD, page + 4096 - len(text), os.O_CREAT | os.O_WRONLY, 0o600)
    assert (asked.thing, asked.reach, asked.entry, asked.error, error) == (str(tmp_path / "new"), "write", True, 0, 0)


def test_names_as_they_were_written(tmp_path: Path) -> None:
    """A name that a link makes another is told beside the file's own; one through `..` is not: it may mean another."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "link").symlink_to("real")
    (asked,), _ = foretold("openat", AT_FDCWD, os.fsencode(f"{tmp_path}/link//./file"), 0)
    assert (asked.thing, asked.name) == (f"{tmp_path}/real/file", f"{tmp_path}/link/file")
    (asked,), _ = foretold("openat", AT_FDCWD, os.fsencode(f"{tmp_path}/link/../real/file"), 0)
    assert (asked.thing, asked.name) == (f"{tmp_path}/real/file", "")


def test_names_are_absolute(tmp_path: Path) -> None:
    """A relative name counts from its descriptor or the working folder; dots and double slashes are taken out."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        (asked,), _ = foretold("openat", fd, b"./file", os.O_RDONLY)
    finally:
        os.close(fd)
    assert (asked.name, asked.thing) == (str(tmp_path / "file"),) * 2
    (asked,), _ = foretold("openat", AT_FDCWD, b"file", os.O_RDONLY)
    assert asked.name == str(Path.cwd() / "file")
    (asked,), error = foretold("openat", AT_FDCWD, b"/etc//hosts/.", os.O_RDONLY)
    assert (asked.name, asked.error, error) == ("/etc/hosts", errno.ENOTDIR, errno.ENOTDIR)
    (asked,), error = foretold("openat", 0x7FFFFFF0, b"lost", os.O_RDONLY)
    assert (asked.name, asked.error, error) == ("lost", errno.EBADF, errno.EBADF)


AS_NOBODY = """
import ctypes, errno, os, sys
base = sys.argv[1]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.path[:0] = sys.argv[2:]
from test_access import foretold
from sandbox.kernel.path_walk import AT_FDCWD
def check(name, *args):
    asked, error = foretold(name, *args)
    assert asked and all(one.error == error for one in asked), (asked, error)
    print(errno.errorcode.get(error, error), end=" ")
closed, shut = os.fsencode(base + "/closed"), os.fsencode(base + "/shut/file")
check("openat", AT_FDCWD, closed + b"/file", os.O_RDONLY)
check("openat", AT_FDCWD, closed + b"/file", os.O_WRONLY)
check("openat", AT_FDCWD, closed + b"/new", os.O_WRONLY | os.O_CREAT, 0o600)
check("mkdirat", AT_FDCWD, closed + b"/new", 0o700)
check("mkdirat", AT_FDCWD, closed + b"/file", 0o700)
check("unlinkat", AT_FDCWD, closed + b"/file", 0)
check("renameat2", AT_FDCWD, closed + b"/file", AT_FDCWD, os.fsencode(base + "/own/new"), 0)
check("openat", AT_FDCWD, shut, os.O_RDONLY)
check("openat", AT_FDCWD, os.fsencode(base + "/own/new"), os.O_WRONLY | os.O_CREAT, 0o600)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_another_user_may_not_do(tmp_path: Path) -> None:
    """EACCES is foretold where the ids of the task and of who looks are the same."""
    base = Path("/tmp") / f"access-{os.getpid()}"
    try:
        for name, mode in (("closed", 0o755), ("shut", 0o700), ("own", 0o777)):
            (base / name).mkdir(parents=True)
            (base / name).chmod(mode)
            (base / name / "file").write_text("x")
        base.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(base), *sys.path[:1], str(Path(__file__).parent), *sys.path],
            text=True, capture_output=True, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(base)
    assert done.stdout.split() == [
        "0", "EACCES", "EACCES", "EACCES", "EEXIST", "EACCES", "EACCES", "EACCES", "0",
    ], done.stderr  # fmt: skip


OTHER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
os.setgroups([]); os.setgid(65534); os.setuid(65534)
held = []
for line in sys.stdin:
    number, args = eval(line)
    values = []
    for arg in args:
        held.append(ctypes.create_string_buffer(arg) if isinstance(arg, bytes) else None)
        values.append(arg if held[-1] is None else ctypes.addressof(held[-1]))
    print(values, flush=True)
    sys.stdin.readline()
    print(ctypes.get_errno() if libc.syscall(number, *map(ctypes.c_long, values)) < 0 else 0, flush=True)
"""


class Other:
    """Another user's process that makes calls, and waits before each until it was looked at."""

    def __init__(self, code: str = OTHER) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.tid = self._process.pid

    def _said(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        print(line, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()

    def foretold(self, name: str, *args: int | bytes) -> tuple[int, int]:
        """The errno that this process foretells of a call, and the one that it gets."""
        values = json.loads(self._said(repr((NUMBERS[name], args))))
        registers = tuple(value & (2**64 - 1) for value in (*values, *[0] * (6 - len(values))))
        task = Task(self.tid)
        asked = of_call(access.call_of(task, name, registers, abi.MACHINE), registers, task, "invoke")
        task.close()
        return asked[0].error, int(self._said("go"))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="looks at another user's process")
def test_what_another_user_may_not_do_is_foretold_by_root() -> None:
    """Root asks with the ids of the task: rights, sticky folders and folders that are closed on the way."""
    base = Path("/tmp") / f"access-{os.getpid()}-other"
    other = Other()
    try:
        for name, mode in (("closed", 0o755), ("shut", 0o700), ("own", 0o777), ("sticky", 0o1777), ("full", 0o777)):
            (base / name / "folder").mkdir(parents=True)
            (base / name).chmod(mode)
            (base / name / "file").write_text("x")
        for name in ("own", "full"):
            os.chown(base / name / "folder", 65534, 65534)
        (base / "full" / "folder" / "file").write_text("x")
        (base / "sticky" / "mine").write_text("x")
        os.chown(base / "sticky" / "mine", 65534, 65534)

        def at(path: str) -> bytes:
            return os.fsencode(base / path)

        write = os.O_WRONLY | os.O_CREAT
        here = AT_FDCWD
        found = [
            other.foretold(*call)
            for call in (
                ("openat", here, at("closed/file"), os.O_RDONLY), ("openat", here, at("closed/file"), os.O_RDWR),
                ("openat", here, at("closed/new"), write, 0o600), ("openat", here, at("shut/file"), os.O_RDONLY),
                ("mkdirat", here, at("closed/new"), 0o700), ("mkdirat", here, at("own/new"), 0o700),
                ("unlinkat", here, at("sticky/file"), 0), ("unlinkat", here, at("sticky/mine"), 0),
                ("unlinkat", here, at("closed/file"), 0), ("unlinkat", here, at("full/folder"), 0x200),
                ("renameat2", here, at("sticky/file"), here, at("own/other"), 0),
                ("renameat2", here, at("own/file"), here, at("closed/other"), 0),
                ("renameat2", here, at("own/folder"), here, at("full/folder"), 0),
                ("renameat2", here, at("own/folder"), here, at("own/folder/below"), 0),
                ("renameat2", here, at("own/file"), here, b"/proc/x", 0),
                ("truncate", at("closed/file"), 1), ("truncate", at("own/folder"), 1),
            )
        ]
    finally:
        other.close()
        shutil.rmtree(base, ignore_errors=True)
    kernels = [errno.errorcode.get(number, number) for _, number in found]
    assert [errno.errorcode.get(number, number) for number, _ in found] == kernels
    assert kernels == [
        0, "EACCES", "EACCES", "EACCES", "EACCES", 0, "EPERM", 0, "EACCES", "ENOTEMPTY", "EPERM", "EACCES", "ENOTEMPTY",
        "EINVAL", "EXDEV", "EACCES", "EISDIR",
    ]  # fmt: skip
    assert os.geteuid() == 0
    assert Path("/etc/shadow").read_bytes()  # the ids of root are on again


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_mounts(tmp_path: Path) -> None:
    """Between two mounts of one file system nothing moves; their roots cannot be removed; nothing is made read-only."""
    for name in ("one", "two", "bound", "sealed"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "file").write_text("x")

    def inside() -> list[tuple[int, int]]:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.unshare(0x20000)
        libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
        one, bound, sealed = (os.fsencode(tmp_path / name) for name in ("one", "bound", "sealed"))
        assert libc.mount(one, bound, None, 0x1000, None) == 0  # MS_BIND
        assert libc.mount(b"none", sealed, b"tmpfs", 1, None) == 0  # MS_RDONLY
        found = []
        for call in (
            ("renameat2", AT_FDCWD, one + b"/file", AT_FDCWD, bound + b"/new", 0),
            ("linkat", AT_FDCWD, bound + b"/file", AT_FDCWD, one + b"/new", 0),
            ("unlinkat", AT_FDCWD, bound, 0x200), ("renameat2", AT_FDCWD, bound, AT_FDCWD, bound + b"2", 0),
            ("mkdirat", AT_FDCWD, sealed + b"/new", 0o700),
            ("openat", AT_FDCWD, sealed + b"/new", os.O_CREAT | os.O_WRONLY, 0o600),
        ):  # fmt: skip
            asked, error = foretold(*call)
            found.append((asked[0].error, error))
        return found

    found = in_child(inside, None)
    assert [number for number, _ in found] == [number for _, number in found]
    exdev, busy, sealed = errno.EXDEV, errno.EBUSY, errno.EROFS
    assert [number for _, number in found] == [exdev, exdev, busy, busy, sealed, sealed]
