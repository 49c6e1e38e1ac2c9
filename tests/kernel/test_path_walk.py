"""A walk from outside ends where the kernel's own ends: trees of links, roots, mounts and threads of all kinds."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.behaviour.access import of_change
from sandbox.behaviour.call import Call
from sandbox.kernel.memory import PAGE
from sandbox.kernel.path_walk import AT_FDCWD, MOST_LINKS, walk
from sandbox.kernel.task import Task as Caller

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="chroot(2) and mount(2) need root")
CLONE_FS, CLONE_FILES = 0x200, 0x400

_TASK = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
exec(sys.argv[1])
for line in sys.stdin:
    flags, dirfd, name = eval(line)
    try:
        fd = os.open(name, os.O_PATH | flags, dir_fd=dirfd) if name else os.dup(dirfd)
        print(fd, flush=True)
    except OSError as error:
        print(-error.errno, flush=True)
"""


class Task:
    """A process that opens what it is told to, so that /proc says where the kernel's walk ended."""

    def __init__(self, setup: str = "pass", **options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TASK, setup], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            **options,  # type: ignore[call-overload]  # cwd
        )  # fmt: skip
        self.pid: int = self._process.pid
        assert self.opened("/")[1] == 0  # its setup is done

    def opened(self, name: str, *, dirfd: int | None = None, follow: bool = True) -> tuple[str, int]:
        """Where the kernel's walk ends, and its errno."""
        assert self._process.stdin
        assert self._process.stdout
        print((0 if follow else os.O_NOFOLLOW, dirfd, name), file=self._process.stdin, flush=True)
        fd = int(self._process.stdout.readline())
        return ("", -fd) if fd < 0 else (os.readlink(f"/proc/{self.pid}/fd/{fd}"), 0)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def agrees(self, name: str, *, dirfd: int | None = None, follow: bool = True) -> str:
        """Assert that the walk ends where the kernel's does; the path."""
        path, error = self.opened(name, dirfd=dirfd, follow=follow)
        found = walk(self.pid, dirfd, name.encode(), follow=follow)
        assert found.error == error, (name, found.path)
        if not error:
            assert found.path == path, name
        return found.path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders, files and links of every kind: up, absolute, to themselves, to nothing, to one another."""
    base = tmp_path / "tree"
    (base / "releases" / "7" / "deep").mkdir(parents=True)
    (base / "here").mkdir()
    (base / "releases" / "data.txt").write_text("x")
    (base / "here" / "file").write_text("x")
    links = {
        "here/link": "../releases/7", "here/up": "..", "here/absolute": str(base / "releases"), "here/self": "self",
        "here/nowhere": "missing/x", "here/one": "two", "here/two": "../here/link", "here/slash": "/",
        "here/file-link": "file",
    }  # fmt: skip
    for name, target in links.items():
        (base / name).symlink_to(target)
    return base


@pytest.fixture
def task(tree: Path) -> Iterator[Task]:
    """A process whose working folder is in the tree."""
    found = Task(cwd=tree / "here")
    yield found
    found.close()


NAMES = ("..", ".", "", "link", "up", "absolute", "self", "nowhere", "one", "two", "slash", "file", "file-link", "7",
         "deep", "releases", "here", "data.txt", "missing", "proc", "fd")  # fmt: skip


def test_up_from_a_link(task: Task, tree: Path) -> None:
    """`..` behind a link is the folder above where the link leads, not the one in which it lies."""
    assert task.agrees("link/../data.txt") == str(tree / "releases" / "data.txt")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(NAMES), max_size=8), absolute=st.booleans(), follow=st.booleans())
def test_random_paths(task: Task, tree: Path, names: list[str], absolute: bool, follow: bool) -> None:
    """Whatever a path is put together from, both walks end at one place or with one error."""
    text = "/".join(names)
    task.agrees(f"{tree}/here/{text}" if absolute else text or ".", follow=follow)


def test_what_is_missing(task: Task, tree: Path) -> None:
    """Only the last name missing is what a create would make; a folder missing above it is not."""
    last = walk(task.pid, None, b"link/new")
    assert (last.path, last.error, last.parent) == (str(tree / "releases" / "7" / "new"), errno.ENOENT, True)
    above = walk(task.pid, None, b"link/new/file")
    assert (above.error, above.parent) == (errno.ENOENT, False)
    assert above.path == str(tree / "releases" / "7" / "new" / "file")


def test_a_link_that_leads_to_nothing(task: Task, tree: Path) -> None:
    """Followed, its target is what is missing; not followed, it is there itself."""
    followed = walk(task.pid, None, b"nowhere")
    assert (followed.path, followed.error) == (str(tree / "here" / "missing" / "x"), errno.ENOENT)
    itself = walk(task.pid, None, b"nowhere", follow=False)
    assert itself.path == str(tree / "here" / "nowhere")
    assert stat.S_ISLNK(itself.mode)


def test_too_many_links(task: Task, tree: Path) -> None:
    """Forty links are followed, as by the kernel, and the next is ELOOP."""
    for i in range(MOST_LINKS + 2):
        (tree / f"chain{i}").symlink_to(f"chain{i + 1}")
    (tree / f"chain{MOST_LINKS + 2}").write_text("x")
    assert task.agrees(f"{tree}/chain{3}")
    task.agrees(f"{tree}/chain{2}")


def test_the_task_is_meant_by_self(task: Task) -> None:
    """/proc/self and /proc/thread-self are the task's, not the process's that walks."""
    assert task.agrees("/proc/self/status") == f"/proc/{task.pid}/status"
    assert task.agrees("/proc/thread-self/comm") == f"/proc/{task.pid}/task/{task.pid}/comm"


def test_links_that_lead_by_no_path(task: Task, tree: Path) -> None:
    """/proc/self/cwd, root and fd/N are followed to what they stand for, and named as such links."""
    assert task.agrees("/proc/self/cwd/file") == str(tree / "here" / "file")
    assert walk(task.pid, None, b"/proc/self/exe").magic
    assert walk(task.pid, None, b"/proc/self/fd/0").path.startswith("pipe:")
    assert task.agrees("/proc/mounts") == f"/proc/{task.pid}/mounts"


def test_from_a_descriptor(task: Task, tree: Path) -> None:
    """A path starts at the descriptor that is given, and an empty one is the descriptor's file."""
    assert task.opened(str(tree / "releases"))[1] == 0
    fd = _number(task, str(tree / "releases"))
    assert task.agrees("7/../data.txt", dirfd=fd) == str(tree / "releases" / "data.txt")
    assert walk(task.pid, fd, b"").path == str(tree / "releases")
    assert walk(task.pid, 999, b"x").error == errno.EBADF
    assert walk(task.pid, AT_FDCWD, b"file").path == str(tree / "here" / "file")


def _number(task: Task, path: str) -> int:
    """The descriptor under which a task has a file open."""
    folder = Path(f"/proc/{task.pid}/fd")
    return next(int(entry.name) for entry in sorted(folder.iterdir()) if os.readlink(entry) == path)


@ROOT
def test_inside_a_chroot(tree: Path) -> None:
    """Absolute links and `..` stay below the task's root, which is not the walker's."""
    (tree / "here" / "data.txt").write_text("x")
    (tree / "here" / "rooted").symlink_to("/data.txt")
    task = Task(f"os.chroot({str(tree / 'here')!r}); os.chdir('/')")
    try:
        assert task.agrees("/../../data.txt") == str(tree / "here" / "data.txt")
        assert task.agrees("rooted") == str(tree / "here" / "data.txt")
        assert task.agrees("..") == str(tree / "here")
    finally:
        task.close()


@ROOT
def test_in_another_mount_namespace(tree: Path) -> None:
    """What was mounted for the task alone is what its paths lead into."""
    mounted = tree / "here" / "mounted"
    mounted.mkdir()
    task = Task(
        f"assert libc.unshare(0x20000) == 0; assert libc.mount(b'none', b'/', None, 0x44000, None) == 0; "
        f"assert libc.mount(b'tmpfs', {str(mounted).encode()!r}, b'tmpfs', 0, None) == 0; "
        f"open({str(mounted / 'inside')!r}, 'w').close(); os.symlink('inside', {str(mounted / 'link')!r})"
    )
    try:
        assert task.agrees(str(mounted / "link")).endswith("/mounted/inside")
        assert not (mounted / "inside").exists()
    finally:
        task.close()


@pytest.mark.parametrize("flag", [CLONE_FS, CLONE_FILES])
def test_a_thread_of_its_own_mind(tree: Path, flag: int) -> None:
    """A thread that unshared its working folder or its descriptors is asked for, not its process."""
    ready, done = threading.Event(), threading.Event()
    seen: dict[str, int] = {}

    def run() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(flag) == 0
        seen["tid"] = threading.get_native_id()
        if flag == CLONE_FS:
            os.chdir(tree / "releases")
        else:
            seen["fd"] = os.open(tree / "releases", os.O_PATH)
        ready.set()
        done.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(30)
        found = walk(seen["tid"], seen.get("fd"), b"data.txt")
        assert (found.path, found.error) == (str(tree / "releases" / "data.txt"), 0)
        if flag == CLONE_FILES:
            assert not os.path.exists(f"/proc/{os.getpid()}/fd/{seen['fd']}")
    finally:
        done.set()
        thread.join()


def test_a_task_that_is_gone() -> None:
    """Nothing is raised and nothing is claimed."""
    done = subprocess.Popen(["true"])
    done.wait()
    found = walk(done.pid, None, b"/etc/passwd")
    assert found.unsure
    assert found.error


def test_a_path_that_is_too_long(task: Task) -> None:
    """PATH_MAX holds for the text that the call names."""
    assert walk(task.pid, None, b"x/" * 2100).error == errno.ENAMETOOLONG


@ROOT
def test_a_file_system_that_hangs(tree: Path) -> None:
    """Before a mount of a kind whose server may not answer the walk stops, and the rest is text."""
    point = tree / "here" / "remote"
    point.mkdir()
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE here")
    fuse = os.open("/dev/fuse", os.O_RDWR)  # nobody ever answers on it
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    if ctypes.CDLL(None, use_errno=True).mount(b"stuck", str(point).encode(), b"fuse", 0, options):
        os.close(fuse)
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    try:
        found = walk(os.getpid(), None, str(point / "a" / ".." / "b").encode())
        assert (found.path, found.unsure) == (str(point / "b"), True)
    finally:
        ctypes.CDLL(None).umount2(str(point).encode(), 2)
        os.close(fuse)


def test_up_from_what_is_not_a_folder(tmp_path: Path) -> None:
    """`..` of a descriptor of a file is ENOTDIR, as the kernel says: nothing raises."""
    (tmp_path / "file").write_text("x")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        for name in (b"..", b"../file"):
            assert walk(os.getpid(), fd, name).error == errno.ENOTDIR
            with pytest.raises(NotADirectoryError):
                os.stat(name, dir_fd=fd)
    finally:
        os.close(fd)


def test_a_folder_whose_name_is_too_long(tmp_path: Path) -> None:
    """From below more folders than a path has room for a walk ends with ENAMETOOLONG, and leaves no descriptor open."""
    deep, size = os.open(tmp_path, os.O_PATH), len(str(tmp_path))
    name = "d" * 250
    while size < PAGE:
        os.mkdir(name, dir_fd=deep)
        above, deep, size = deep, os.open(name, os.O_PATH, dir_fd=deep), size + 251
        if size < PAGE:
            os.close(above)
    try:
        os.mkdir("end", dir_fd=deep)
        link = f"/proc/self/fd/{deep}/end".encode()
        walk(os.getpid(), None, link)  # which opens what is kept: the mounts
        before = os.listdir("/proc/self/fd")
        for dirfd, path in ((deep, b"end"), (None, link)):
            found = walk(os.getpid(), dirfd, path, keep=True)
            assert (found.error, found.fd, found.unsure) == (errno.ENAMETOOLONG, -1, True)
        memory = ctypes.create_string_buffer(name.encode())  # below a folder with a name, into one without
        change = Call("fchmodat"), (above, ctypes.addressof(memory), 0o700, 0, 0, 0), Caller(os.getpid())
        with pytest.raises(OSError, match="too long"):
            of_change(*change, "invoke")
        change[-1].close()
        assert os.listdir("/proc/self/fd") == before
        assert os.stat("end", dir_fd=deep)
    finally:
        os.close(above)
        os.close(deep)
