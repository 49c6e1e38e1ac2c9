"""What training notes of a call is what the supervisor asks about it, and where the kernel then goes, whoever calls.

A child makes random path calls in an environment that is hard to see through: a chroot, a mount namespace, threads with
folders or descriptors of their own, a grandchild, a task that shows itself to nobody. Each string ends where its memory
does. Recorder, look, broker and kernel are asked about the same waiting call.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from child_processes import in_child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting_calls import Supervised, supervised

from sandbox.behaviour import access, destination
from sandbox.behaviour.call import Call
from sandbox.behaviour.permissions import Permissions
from sandbox.confine.landlock_rules import READ, WRITE
from sandbox.egress.broker import Egress
from sandbox.egress.destinations import Denied, Destinations
from sandbox.kernel import abi, tables
from sandbox.kernel.notification import CallTable, Notification
from sandbox.kernel.task import Task
from sandbox.learn.denials import Denials
from sandbox.learn.recorder import TEMPORARY, Recorder
from sandbox.learn.records import Connect, Fact, FileAccess, NewFact, Program, Record
from sandbox.probe import raw
from sandbox.supervise.look import Look
from sandbox.supervise.programs import ExecRefused, Programs

PR_SET_DUMPABLE = 4
CLONE_FS, CLONE_FILES, CLONE_NEWNS = 0x200, 0x400, 0x20000
NOBODY = 65534
LIBC = ctypes.CDLL(None, use_errno=True)
NAMES = ("openat", "mkdirat", "unlinkat", "renameat2", "linkat", "symlinkat", "truncate", "connect", "getppid",
         "execve", "execveat", "fchmodat", "fchownat", "utimensat", "setxattr", "removexattr")  # fmt: skip
Op = tuple[str, tuple[object, ...]]

# Paths of the child, in parts; {pid} is its own number, {top} the tree, which lies deeper than any of them leads up.
HEADS = ("", "./", "{top}/here/", "{top}/", "/proc/self/cwd/", "/proc/thread-self/cwd/", "/proc/{pid}/cwd/",
         "/proc/self/root{top}/here/", "../here/")  # fmt: skip
PARTS = ("..", "link", "up", "file", "file-link", "nowhere", "deep", "new", "absolute", "sock", "mounted", "inside")
PATHS = st.builds(lambda head, parts: head + "/".join(parts), st.sampled_from(HEADS),
                  st.lists(st.sampled_from(PARTS), min_size=1, max_size=4))  # fmt: skip
FOLDER = st.sampled_from(("<cwd>", "<fd>"))
FLAGS = st.sampled_from((
    os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, os.O_RDONLY | os.O_NOFOLLOW,
    os.O_DIRECTORY, os.O_RDWR | os.O_TMPFILE, os.O_TRUNC,
))  # fmt: skip
OPS: st.SearchStrategy[Op] = st.one_of(
    st.tuples(st.just("openat"), st.tuples(FOLDER, PATHS, FLAGS, st.just(0o600))),
    st.tuples(st.just("openat"), st.tuples(FOLDER, PATHS, FLAGS, st.just(0o600))),
    st.tuples(st.just("mkdirat"), st.tuples(FOLDER, PATHS, st.just(0o700))),
    st.tuples(st.just("unlinkat"), st.tuples(FOLDER, PATHS, st.sampled_from((0, 0x200)))),
    st.tuples(st.just("renameat2"), st.tuples(FOLDER, PATHS, FOLDER, PATHS, st.just(0))),
    st.tuples(st.just("linkat"), st.tuples(FOLDER, PATHS, FOLDER, PATHS, st.sampled_from((0, 0x400)))),
    st.tuples(st.just("linkat"), st.tuples(st.just("<file>"), st.just(""), FOLDER, PATHS, st.just(0x1000))),
    st.tuples(st.just("symlinkat"), st.tuples(st.just("file"), FOLDER, PATHS)),
    st.tuples(st.just("truncate"), st.tuples(PATHS, st.just(1))),
    st.tuples(st.just("fchmodat"), st.tuples(FOLDER, PATHS, st.just(0o755))),
    st.tuples(st.just("fchownat"), st.tuples(FOLDER, PATHS, st.just(0), st.just(0xFFFFFFFF),
                                             st.sampled_from((0, 0x100, 0x77)))),
    st.tuples(st.just("fchownat"), st.tuples(st.just("<file>"), st.just(""), st.just(0), st.just(0), st.just(0x1000))),
    st.tuples(st.just("utimensat"), st.tuples(FOLDER, PATHS, st.just(0), st.sampled_from((0, 0x100)))),
    st.tuples(st.just("setxattr"), st.tuples(PATHS, st.sampled_from(("user.x", "trusted.x", "nothing")), st.just("v"),
                                             st.just(1), st.sampled_from((0, 1, 2, 4)))),
    st.tuples(st.just("removexattr"), st.tuples(PATHS, st.just("user.x"))),
    st.tuples(st.just("connect"), st.tuples(PATHS)),
    st.tuples(st.just("execveat"), st.tuples(FOLDER, PATHS, st.just(0), st.just(0), st.sampled_from((0, 0x100)))),
    st.tuples(st.just("execveat"), st.tuples(st.just("<file>"), st.just(""), st.just(0), st.just(0), st.just(0x1000))),
)
KINDS = ("plain", "chroot", "mounts", "folder", "descriptors", "grandchild", "undumpable")


def build(top: Path, inside: str) -> None:
    """Folders, files, links of each sort and a socket; `inside` is the absolute path to which one leads."""
    (top / "here" / "deep").mkdir(parents=True)
    (top / "releases" / "7").mkdir(parents=True)
    (top / "here" / "mounted").mkdir()
    for name in ("here/file", "releases/file", "releases/7/file", "here/deep/file"):
        (top / name).write_text("x")
        (top / name).chmod(0o755)
    links = {"link": "../releases/7", "up": "..", "nowhere": "missing/x", "file-link": "file", "absolute": inside}
    for name, target in links.items():
        (top / "here" / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "here" / "sock"))


@pytest.fixture
def top() -> Iterator[Path]:
    """A tree that everybody may write in, and in no place of temporary files, where left-overs count as made."""
    folder = Path(tempfile.mkdtemp(dir="/srv", prefix="question-")).resolve()
    found = folder.joinpath(*"abcdef")
    found.mkdir(parents=True)
    for place in (folder, *found.relative_to(folder).parents, found):
        (folder / place).chmod(0o777)
    yield found
    shutil.rmtree(folder)


def guarded(text: bytes) -> int:
    """A string whose NUL is the last byte before a page that is not there."""
    size = (len(text) // 4096 + 1) * 4096
    at: int = raw._mmap(None, size + 4096, 3, 0x22, -1, 0)
    assert LIBC.munmap(ctypes.c_void_p(at + size), ctypes.c_size_t(4096)) == 0
    start = at + size - len(text) - 1
    ctypes.memmove(start, text + b"\0", len(text) + 1)
    return start


ADDRESSES = st.builds(
    lambda family, port, host, length, more: (
        (family.to_bytes(2, "little") + port.to_bytes(2, "big") + host)[:length], more
    ),
    st.sampled_from((socket.AF_INET, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 0, 99)),
    st.sampled_from((1, 443, 65535)),
    st.sampled_from((bytes((192, 0, 2, 7)), bytes(4), bytes((127, 0, 0, 1)), bytes(4) + bytes((32, 1)) + bytes(18),
                     bytes(14) + b"\xff\xff\xc0\0\2\7" + bytes(4), bytes(40))),
    st.sampled_from((2, 8, 16, 28, 60)), st.sampled_from((0, 0, 0, 1, 200)),
)  # fmt: skip
"""Bytes of a struct sockaddr, and by how much more its length is said to be."""


class Child:
    """What runs under the filter: its environment, its calls, and what they came to."""

    def __init__(self, kind: str, top: Path, ops: list[Op]) -> None:
        self.kind = kind
        self.top = str(top)
        self.ops = ops

    def run(self, _: socket.socket) -> None:
        """Set up, then call."""
        os.chdir(f"{self.top}/here")
        if self.kind == "chroot":
            os.chroot(self.top)
            self.top = ""
        elif self.kind == "mounts":
            assert LIBC.unshare(CLONE_NEWNS) == 0
            assert LIBC.mount(b"none", b"/", None, 0x44000, None) == 0
            assert LIBC.mount(b"tmpfs", os.fsencode(f"{self.top}/here/mounted"), b"tmpfs", 0, None) == 0
            os.mkdir(f"{self.top}/here/mounted/deep")
            Path(f"{self.top}/here/mounted/inside").write_text("x")
        elif self.kind == "undumpable":
            assert LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
        if self.kind in ("folder", "descriptors"):
            thread = threading.Thread(target=self._calls)
            thread.start()
            thread.join()
        elif self.kind == "grandchild":
            pid = os.fork()
            if pid == 0:
                self._calls()
                os._exit(0)
            os.waitpid(pid, 0)
        else:
            self._calls()

    def _calls(self) -> None:
        if self.kind == "folder":
            assert LIBC.unshare(CLONE_FS) == 0
            os.chdir(f"{self.top}/here/deep")
        elif self.kind == "descriptors":
            assert LIBC.unshare(CLONE_FILES) == 0
        fd = os.open(f"{self.top}/here/deep", os.O_PATH)
        file = os.open(f"{self.top}/here/file", os.O_RDONLY)
        places = {"<cwd>": raw.AT_FDCWD, "<fd>": fd, "<file>": file}
        sockets = iter([socket.socket(socket.AF_UNIX) for _ in self.ops])
        raw.call("execve", 0, 0, 0)  # the recorder starts with the first
        raw.call("getppid", 1)
        for name, args in self.ops:
            values = []
            if name == "address":
                family, data, more = args
                assert isinstance(data, bytes)
                line = socket.socket(family, socket.SOCK_STREAM)  # type: ignore[arg-type]
                at = guarded(data[:-1]) if data[-1:] == b"\0" else guarded(data) if not more else guarded(data + b"x")
                raw.call("connect", line.fileno(), at, len(data) + int(str(more)))
                raw.call("getppid", 2, 0)
                line.close()
                continue
            for arg in args:
                text = arg.format(pid=os.getpid(), top=self.top) if isinstance(arg, str) else ""
                if name == "connect":
                    address = b"\1\0" + os.fsencode(text)[:106]
                    values = [next(sockets).fileno(), guarded(address), len(address) + 1]
                elif isinstance(arg, int):
                    values.append(arg)
                else:
                    values.append(places[str(arg)] if arg in places else guarded(os.fsencode(text)))
            if name == "symlinkat":
                values[0] = guarded(b"file")
            result = raw.call(name, *values)
            raw.call("getppid", 2, result)
            if name == "openat" and result >= 0:
                os.close(result)


@dataclass
class Judge:
    """Asks everybody about each call that waits."""

    top: Path
    exact: bool = False
    """Whether each connect that is noted is refused, and the other way round."""
    facts: list[Record] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    asked: tuple[access.Access, ...] = ()
    checked: int = 0

    def __post_init__(self) -> None:
        self.recorder = Recorder(abi.MACHINE, self.facts.append, api=frozenset(), denied=Denials({}))
        self.look = Look(Permissions(READ | WRITE, []), CallTable({}), (), audit=True)
        self.programs = Programs([], held=True)
        self.egress = Egress(Destinations([], frozenset()), lambda: None, self._report)

    def _report(self, call: Notification, task: Task, syscall: str, denied: Denied) -> bool:
        self.denied.append(denied.destination)
        return False

    def watch(self, other: Supervised) -> None:
        """Answer the child until its end."""
        names = tables.names(abi.MACHINE)
        begun = False
        for call in other.calls():
            name = names[call.nr]
            if name == "execve":
                self.recorder.take(call)
            if name == "getppid":
                if begun:
                    self._after(call)
                begun = True
            elif begun:
                if name in ("connect", "execveat"):
                    (self._connect if name == "connect" else self._start)(other, call)
                    continue
                self._look(call, name)
            other.listener.let_through(call.id)

    def _noted(self, call: Notification) -> list[Fact]:
        """What the recorder notes of a call by itself, though it was met before."""
        self.recorder._facts.clear()
        self.facts.clear()
        assert self.recorder.take(call) == 0
        return [record.fact for record in self.facts if isinstance(record, NewFact)]

    def _look(self, call: Notification, name: str) -> None:
        task = Task(call.pid)
        asked = access.call_of(task, name, call.args, abi.MACHINE)
        verdict = self.look.ask(asked, call.args, task, "run")
        self.asked = access.of_call(asked, call.args, task, "run")
        task.close()
        told = {os.path.normpath(fact.path) for fact in self._noted(call) if isinstance(fact, FileAccess)}
        for one in verdict.refused:
            names = {one.thing, one.name} if one.thing.startswith("/") else set()
            assert names & told or not names, (one, told)
        # What an earlier run left in a place of temporary files counts as made, and a chroot may lie in such a place.
        left = any(one.error == errno.EEXIST and one.thing.startswith(TEMPORARY) for one in self.asked)
        assert bool(verdict.refused) == bool(told) or (left and name in tables.MKDIRS), (self.asked, told)

    def _connect(self, other: Supervised, call: Notification) -> None:
        self.asked = ()
        self.denied.clear()
        noted = [fact.destination for fact in self._noted(call) if isinstance(fact, Connect)]
        task = Task(call.pid)
        self.egress.take(other.listener, call, "connect", task)
        task.close()
        # 0.0.0.0 is noted as it was written, and refused as what it reaches.
        meant = [_meant(text) for text in noted]
        refused = [_meant(text) for text in self.denied]
        assert refused in ((meant,) if self.exact else (meant, [])), (noted, self.denied)
        self.checked += bool(self.denied)

    def _start(self, other: Supervised, call: Notification) -> None:
        self.asked = ()
        noted = [fact.path for fact in self._noted(call) if isinstance(fact, Program)]
        task = Task(call.pid)
        (asked,) = access.of_call(Call("execveat"), call.args, task, "run")
        with pytest.raises(ExecRefused) as caught:
            self.programs.check(call, "execveat", task)
        path = caught.value.path
        # By a descriptor, and where the file system refuses, nobody names a program.
        assert bool(path) == bool(noted) or asked.magic, (asked, noted)
        assert path in ("", asked.thing)
        if noted and path:
            assert noted[0] in (asked.thing, asked.name)
            self.checked += 1
        task.close()
        other.listener.refuse(call.id, errno.EPERM)

    def _after(self, call: Notification) -> None:
        """What the kernel made of the last call."""
        result = ctypes.c_int64(call.args[1]).value
        if not self.asked or any(one.unsure for one in self.asked):
            return
        self.checked += 1
        first, last = self.asked[0], self.asked[-1]
        error = -result if result < 0 else 0
        assert bool(first.error) == bool(error), (self.asked, errno.errorcode.get(error))
        if len(self.asked) == 1:
            assert first.error == error, (first, errno.errorcode.get(error))
        if error:
            return
        if first.call.syscall.startswith("open"):
            where = os.readlink(f"/proc/{call.pid}/fd/{result}")
            assert where in (first.thing, f"{first.thing} (deleted)") or where.startswith(f"{first.thing}/#")
        elif last.entry and not last.magic:
            there = os.path.lexists(f"/proc/{call.pid}/root{last.thing.removeprefix(_root(call.pid))}")
            assert there == (last.call.syscall != "unlinkat")


def _meant(text: str) -> tuple[str, str | bytes, int] | str:
    if text.startswith("family:"):
        return text
    entry = destination.parse(text)
    return entry.protocol, entry.value, entry.port


def _root(tid: int) -> str:
    return os.readlink(f"/proc/{tid}/root").rstrip("/")


def asked_of_all(kind: str, top: Path, ops: list[Op]) -> tuple[int, bool]:
    """How many calls were compared with the kernel, and whether the look said that it could not read some."""
    for left in top.iterdir():
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    build(top, "/here" if kind == "chroot" else f"{top}/here")
    judge = Judge(top)
    with supervised(Child(kind, top, ops).run, *NAMES) as other:
        judge.watch(other)
        other.result()
    return judge.checked, judge.look.unread


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot(2) and mount(2) need root")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ops=st.lists(OPS, min_size=4, max_size=16))
def test_random_calls(top: Path, kind: str, ops: list[Op]) -> None:
    """Recorder, look, broker and kernel agree on the thing and on whether there is one."""
    _, unread = asked_of_all(kind, top, ops)
    assert not unread


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(st.sampled_from((socket.AF_INET, socket.AF_INET6)), ADDRESSES), min_size=4, max_size=9))
def test_random_addresses(tmp_path: Path, asked: list[tuple[int, tuple[bytes, int]]]) -> None:
    """What is noted of a connect is the destination that is refused; what no kernel takes is neither."""
    (tmp_path / "here" / "deep").mkdir(parents=True, exist_ok=True)
    (tmp_path / "here" / "file").touch()
    judge = Judge(tmp_path, exact=True)
    ops: list[Op] = [("address", (family, *address)) for family, address in asked]
    with supervised(Child("plain", tmp_path, ops).run, *NAMES) as other:
        judge.watch(other)
        other.result()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_behind_a_file_system_that_hangs(top: Path) -> None:
    """Calls behind a server that never answers stop neither recorder, look nor broker, and give what they need."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no FUSE here")
    point = top / "remote"
    point.mkdir()

    def inside() -> tuple[list[str], bool, list[str]]:
        assert LIBC.unshare(CLONE_NEWNS) == 0
        assert LIBC.mount(b"none", b"/", None, 0x44000, None) == 0
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
        if LIBC.mount(b"stuck", os.fsencode(point), b"fuse", 0, options):
            return [], True, ["skipped"]
        judge = Judge(top)
        judge.recorder.started = True
        told: list[str] = []

        def calls(_: socket.socket) -> None:
            line = socket.socket(socket.AF_UNIX)
            address = b"\1\0" + os.fsencode(point / "sock")
            raw.call("connect", line.fileno(), guarded(address), len(address) + 1)
            at = raw.AT_FDCWD
            raw.call("mkdirat", at, guarded(os.fsencode(point / "folder")), 0o700)
            old, new = (guarded(os.fsencode(point / name)) for name in ("a/one", "b"))
            raw.call("renameat2", at, old, at, new, 0)
            raw.call("unlinkat", at, guarded(os.fsencode(point / "c" / "two")), 0)
            raw.call("openat", at, guarded(os.fsencode(point / "d" / "new")), os.O_CREAT | os.O_WRONLY, 0o600)
            raw.call("openat", at, guarded(os.fsencode(point / "file")), 0, 0)

        with supervised(calls, *NAMES) as other:
            for call in other.calls():
                name = tables.names(abi.MACHINE)[call.nr]
                if name == "connect":
                    judge._connect(other, call)
                    continue
                task = Task(call.pid)
                judge.look.ask(access.call_of(task, name, call.args, abi.MACHINE), call.args, task, "run")
                noted = [fact for fact in judge._noted(call) if isinstance(fact, FileAccess)]
                told += [f"{fact.mode} {fact.path.removeprefix(str(point))}" for fact in noted]
                other.listener.refuse(call.id, errno.EIO)  # let through, it would never come back
        os.close(fuse)
        return told, judge.look.unread, judge.denied

    told, unread, denied = in_child(inside, None)
    if denied == ["skipped"]:
        pytest.skip("FUSE cannot be mounted here")
    assert (unread, denied) == (True, [f"unix:{point}/sock"])
    assert told == [
        "entry /folder", "entry /a/one", "entry /b", "entry /c/two", "entry /d/new", "write /d/new", "read /file",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("kind", ["plain", "folder", "descriptors", "grandchild"])
def test_by_a_user(top: Path, kind: str) -> None:
    """The same where nobody is root."""
    ops: list[Op] = [
        ("openat", ("<cwd>", "file", os.O_RDONLY, 0)), ("openat", ("<fd>", "../new", os.O_RDWR | os.O_CREAT, 0o600)),
        ("mkdirat", ("<cwd>", "/proc/self/cwd/newer", 0o700)), ("unlinkat", ("<fd>", "file", 0)),
        ("connect", ("sock",)), ("fchmodat", ("<cwd>", "deep", 0o700)), ("fchmodat", ("<cwd>", "/srv", 0o700)),
        ("fchownat", ("<cwd>", "deep", NOBODY, NOBODY, 0)), ("fchownat", ("<cwd>", "deep", 0, NOBODY, 0)),
        ("utimensat", ("<cwd>", "/srv", 0, 0)), ("utimensat", ("<cwd>", "deep", 0, 0)),
        ("setxattr", ("/srv", "user.x", "v", 1, 0)), ("setxattr", ("deep", "security.x", "v", 1, 0)),
        ("setxattr", ("deep", "trusted.x", "v", 1, 0)),
    ]  # fmt: skip
    checked, unread = in_child(lambda: asked_of_all(kind, top, ops), NOBODY)
    assert checked == len(ops)
    assert not unread


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_task_that_shows_itself_to_nobody(top: Path) -> None:
    """Its open is said to be unread and goes on to the wall, and gives no right; its connect reaches nobody."""
    ops: list[Op] = [("openat", ("<cwd>", "file", os.O_RDONLY, 0)), ("connect", ("sock",))]
    checked, unread = in_child(lambda: asked_of_all("undumpable", top, ops), NOBODY)
    assert checked == 0
    assert unread
