"""Mode, owner, times, extended attributes and length by a path: changed where the profile writes, and nowhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from supervised_programs import NATIVE, PLAIN_HOSTS, PYTHON, Done, Supervision, bench_for

from sandbox.kernel import abi, landlock, tables

pytestmark = pytest.mark.skipif(landlock.abi_version() < 1, reason="Landlock is needed")

bench = bench_for([*PLAIN_HOSTS, *NATIVE])

ITEMS = tuple(name for name in tables.ATTRIBUTES if name in tables.numbers(abi.MACHINE))

CALLS = f"""
import ctypes, errno, os, threading
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = { {name: tables.numbers(abi.MACHINE)[name] for name in ITEMS} }
def call(name, *args):
    if name not in NUMBERS: return "-"
    args = [ctypes.c_char_p(os.fsencode(arg)) if isinstance(arg, str) else arg if isinstance(arg, ctypes.Array)
            else ctypes.c_long(arg) for arg in args]
    ctypes.set_errno(0)
    done = LIBC.syscall(ctypes.c_long(NUMBERS[name]), *args)
    return "ok" if done == 0 else errno.errorcode.get(ctypes.get_errno(), done)
def tried(make, *args, **more):
    try: make(*args, **more)
    except OSError as error: return errno.errorcode[error.errno]
    return "ok"
HERE = -100
"""
EACH = """
uid, gid, times = os.getuid(), os.getgid(), (ctypes.c_int64 * 4)(7, 0, 9, 0)
value = ctypes.create_string_buffer(b"v")
at = (ctypes.c_uint32 * 4)(ctypes.addressof(value) & 0xFFFFFFFF, ctypes.addressof(value) >> 32, 1, 0)
def each(path):
    opened = os.open(path, os.O_PATH)
    link = f"/proc/self/fd/{opened}"
    return [
        call("chmod", path, 0o600), call("fchmodat", HERE, path, 0o600), call("fchmodat2", HERE, path, 0o640, 0),
        call("fchmodat2", opened, "", 0o644, 0x1000), call("chmod", link, 0o620),
        call("chown", path, uid, gid), call("lchown", path, uid, -1), call("fchownat", HERE, path, -1, gid, 0),
        call("fchownat", opened, "", uid, gid, 0x1000),
        call("utime", path, times), call("utimes", path, times), call("futimesat", HERE, path, times),
        call("utimensat", HERE, path, times, 0), call("utimensat", HERE, link, 0, 0),
        call("setxattr", path, "user.one", value, 1, 0), call("lsetxattr", path, "user.two", value, 1, 0),
        call("setxattrat", HERE, path, 0, "user.three", at, 16),
        call("removexattr", path, "user.one"), call("lremovexattr", path, "user.two"),
        call("removexattrat", HERE, path, 0, "user.three"),
    ]
"""


@pytest.fixture
def places(bench: Supervision) -> Iterator[tuple[Path, Path]]:
    """A folder that the profile writes and one that it does not; each holds a file of the function's user."""
    folder = bench.new("")
    made = []
    for name in ("work", "other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("x")
        (folder / name / "file").chmod(0o644)
        made.append(folder / name)
    owner = os.getuid() if bench.uid is None else bench.uid
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner)
    yield made[0], made[1]
    shutil.rmtree(folder)


def run(bench: Supervision, work: Path, code: str, *, items: Sequence[str] = (), **more: str) -> Done:
    """Code under a profile with all of these calls, that writes in `work`."""
    found = (*items, *ITEMS, "openat create", "openat write", "rename", "mkdir", "chdir", "clone thread")
    bundle = bench.bundle(*found, writes=[f"{work}/*"])
    done = bench.run(bundle, *PYTHON, f"{CALLS}{EACH}{code}", more=more)
    assert done.code == 0, done.stderr
    return done


def test_only_where_the_profile_writes(bench: Supervision, places: tuple[Path, Path]) -> None:
    """Each call does what it does bare in a folder that is written in; beside that it is EACCES, with a line.

    By a link, through a descriptor that only names the file, and by a link of /proc to that, too.
    """
    work, other = places
    (work / "link").symlink_to(other / "file")
    os.chown(work / "link", work.stat().st_uid, work.stat().st_gid, follow_symlinks=False)
    code = f"print(*each({str(work / 'file')!r})); print(*each({str(other / 'file')!r})); print(*each('{work}/link'))"
    bare = bench.bare(*PYTHON, f"{CALLS}{EACH}print(*each({str(work / 'file')!r}))").split()
    (work / "file").chmod(0o644)
    before = (other / "file").stat()
    done = run(bench, work, code)
    inside, outside, linked = (line.split() for line in done.stdout.splitlines())
    assert inside == bare
    assert {answer for answer in outside if answer != "-"} <= {"EACCES", "ENODATA", "ENOSYS", "ENOTSUP"}
    assert outside.count("EACCES") >= 10
    # lchown, lsetxattr and lremovexattr mean the link, which lies where the profile writes, and has no such attributes.
    itself = [at for at, (one, other) in enumerate(zip(outside, linked, strict=True)) if one != other]
    assert (itself, [linked[at] for at in itself]) == ([6, 15, 18], ["ok", "EPERM", "EPERM"])
    after = (other / "file").stat()
    assert (before.st_mode, before.st_ctime_ns) == (after.st_mode, after.st_ctime_ns)
    assert (work / "file").stat().st_mode & 0o777 == 0o620
    allowed = f"{{root}}/{(other / 'file').relative_to(bench.folder)}"
    lines = {(line["syscall"], line["target"], line["errno"], line["allow"]) for line in done.violations}
    assert ("chmod", str(other / "file"), "EACCES", f'files.write: ["{allowed}"]') in lines
    assert {target for _, target, _, _ in lines} == {str(other / "file")}
    assert "files: mode, owner, times and attributes by a path, not by a descriptor" in done.stderr


RACES = """
import sys
sys.setswitchinterval(1e-5)
good, bad = (os.fsencode(path) for path in (WORK + "///file", OTHER + "//file"))
text, ends = ctypes.create_string_buffer(good), []
def flips():
    while not ends:
        ctypes.memmove(text, bad, len(bad))
        ctypes.memmove(text, good, len(good))
def moves():
    while not ends:
        os.rename("a/b", "b")
        os.rename("b", "a/b")
os.chdir(WORK)
os.makedirs("a/b")
found = set()
for other in (flips, moves):
    thread = threading.Thread(target=other)
    thread.start()
    for n in range(200):
        found.add(call("chmod", text if other is flips else "a/b/../../file2", 0o600 + n % 8))
    ends.append(1)
    thread.join()
    ends.clear()
print(*sorted(map(str, found)))
"""


def test_a_path_that_changes_during_the_call(bench: Supervision, places: tuple[Path, Path]) -> None:
    """Neither another text in the memory nor a folder that moves while `..` is walked leads beside what is written."""
    work, other = places
    for path in (work / "file2", work.parent / "file2"):
        path.write_text("x")
        os.chown(path, work.stat().st_uid, work.stat().st_gid)
    beside = [(path, path.stat().st_ctime_ns) for path in (other / "file", work.parent / "file2")]
    code = RACES.replace("WORK", repr(str(work))).replace("OTHER", repr(str(other)))
    done = run(bench, work, code)
    assert {"ok", "EACCES"} <= {*done.stdout.split()} <= {"ok", "EACCES", "ENOENT"}
    assert [path.stat().st_ctime_ns for path, _ in beside] == [changed for _, changed in beside]


def test_a_file_is_cut_only_there(bench: Supervision, places: tuple[Path, Path]) -> None:
    """truncate(2), which Landlock holds from ABI 3 on and the supervisor before that."""
    work, other = places
    paths = [str(path) for path in (work / "file", other / "file", work)]
    code = f"print(*[tried(os.truncate, path, 0) for path in {paths}])"
    done = run(bench, work, code, items=("truncate",), SANDBOX_FILES="look")
    assert done.stdout.split() == ["ok", "EACCES", "EISDIR"]
    assert [path.stat().st_size for path in (work / "file", other / "file")] == [0, 1]
    assert [line["target"] for line in done.violations] == [str(other / "file")]
    assert "truncate" not in done.stderr.partition("degraded")[2].partition("]")[0]


def test_where_nobody_looks(bench: Supervision, places: tuple[Path, Path]) -> None:
    """Without a look, and without a supervisor, any file of the user's can be changed, and the status line says so."""
    work, other = places
    for more in ({"SANDBOX_FILES": "off"}, {"SANDBOX_SUPERVISE": "0"}):
        done = run(bench, work, f"print(call('chmod', {str(other / 'file')!r}, 0o600))", **more)
        assert done.stdout == "ok\n"
        assert "files: mode, owner, times and attributes can be changed by any path" in done.stderr


def test_audit_says_what_to_learn(bench: Supervision, places: tuple[Path, Path]) -> None:
    """What would be refused is let through and reported, as what training learns of it: the file, the very folder."""
    work, other = places
    code = f"print(call('chmod', {str(other / 'file')!r}, 0o600), tried(os.utime, {str(other)!r}))"
    done = run(bench, work, code, SANDBOX_MODE="audit")
    assert done.stdout == "ok ok\n"
    assert [(line["verdict"], line["target"]) for line in done.violations] == [
        ("reported", str(other / "file")), ("reported", str(other)),
    ]  # fmt: skip
    assert [line["allow"].rpartition("/")[2] for line in done.violations] == ['file"]', 'other"]']


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user(bench: Supervision, places: tuple[Path, Path]) -> None:
    """Who gave root up changes his own files, not root's, and is held to the profile like before."""
    if bench.uid is not None:
        pytest.skip("root's alone")
    work, other = places
    for path in (work / "his", other / "his"):
        path.touch()
        os.chown(path, 65534, 65534)
    for path in (work, other, work.parent, bench.folder):
        path.chmod(0o755)
    paths = [str(path) for path in (work / "his", work / "file", other / "his")]
    code = f"os.setgroups([]); os.setgid(65534); os.setuid(65534); print(*[call('chmod', p, 0o604) for p in {paths}])"
    assert run(bench, work, code, items=("setuid", "setgid", "setgroups")).stdout.split() == ["ok", "EPERM", "EACCES"]
    assert [path.stat().st_mode & 0o777 for path in (work / "his", other / "his")] == [0o604, 0o644]


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounts a FUSE file system")
def test_behind_a_server_that_never_answers(bench: Supervision, places: tuple[Path, Path]) -> None:
    """Nobody walks there: the text decides, at once, and what it does not allow has its line."""
    if bench.uid is not None:
        pytest.skip("root's alone")
    work, other = places
    server = os.open("/dev/fuse", os.O_RDWR)
    (other / "remote").mkdir()

    def mounted() -> None:
        os.set_inheritable(server, True)
        assert abi.LIBC.unshare(0x20000) == 0  # CLONE_NEWNS
        assert abi.LIBC.mount(b"none", b"/", None, 0x44000, None) == 0
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        assert abi.LIBC.mount(b"stuck", os.fsencode(other / "remote"), b"fuse", 0, options) == 0

    bundle = bench.bundle(*ITEMS, writes=[f"{work}/*"])
    paths = [str(other / "remote" / "x"), str(work / "file")]
    code = f"{CALLS}print(*[call('chmod', path, 0o600) for path in {paths}])"
    try:
        done = bench.run(bundle, *PYTHON, code, before=mounted)
    finally:
        os.close(server)
    assert done.stdout.split() == ["EACCES", "ok"], done.stderr
    assert [line["target"] for line in done.violations] == paths[:1]


def test_a_path_that_nobody_can_read(bench: Supervision, places: tuple[Path, Path]) -> None:
    """A process that shows its memory to nobody is refused, with a line; root's supervisor reads it all the same."""
    work, _ = places
    code = f"""
import os
child = os.fork()
if child == 0:
    LIBC.prctl(4, 0, 0, 0, 0)
    os.write(1, call("chmod", {str(work / "file")!r}, 0o600).encode())
    os._exit(0)
os.waitpid(child, 0)
"""
    done = run(bench, work, code, items=("prctl PR_SET_DUMPABLE", "clone process", "wait4"))
    assert done.stdout == ("ok" if bench.uid is None else "EPERM"), done.stderr
    told = [line["reason"] for line in done.violations]
    assert told == ["a path in memory that is shown to nobody"] * bool(bench.uid)
