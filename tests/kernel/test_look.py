"""The look at files: the one decision function says what Landlock says, and what is refused is seen."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from child_processes import in_child
from guests import LOADING, profile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.behaviour import access
from sandbox.behaviour.access import Access
from sandbox.behaviour.call import Call
from sandbox.behaviour.outcome import RENAME_EXCHANGE
from sandbox.behaviour.permissions import OF_FILES, Permissions, Verdict, allows
from sandbox.confine import Command
from sandbox.confine.install import install
from sandbox.confine.landlock_rules import READ, SINCE, WRITE
from sandbox.kernel import abi, bpf, landlock, path_walk, seccomp, tables
from sandbox.kernel.notification import CallTable
from sandbox.kernel.task import Task
from sandbox.launcher import HERE
from sandbox.policy import build
from sandbox.policy.simulator import simulate
from sandbox.supervise.look import Look, prepare

ABI = landlock.abi_version()
pytestmark = pytest.mark.skipif(ABI < 1, reason="Landlock is needed")

HANDLED = READ | WRITE | landlock.ACCESS_FS_EXECUTE
for _since, _right in SINCE:
    if _since > ABI:
        HANDLED &= ~_right
AT_FDCWD = path_walk.AT_FDCWD
AT_REMOVEDIR, AT_SYMLINK_FOLLOW = 0x200, 0x400
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000  # linux/sched.h, linux/mount.h

FOLDERS = ("", "a", "a/c", "b", "b/d")
FILES = ("a/f", "a/c/h", "b/g")
PATHS = (*FOLDERS[1:], *FILES, "a/new", "a/c/new", "b/new", "b/nowhere/x", "a/s/g", "a/s/new", "a/l", "a/dangling",
         "a/../b/g", "b/../a/new", "a/f/x")  # fmt: skip


def make(top: Path) -> None:
    """The same small tree each time: folders, files, and links to a folder, to a file and to nothing."""
    for name in FOLDERS[1:]:
        (top / name).mkdir()
    for name in FILES:
        (top / name).write_text(name)
    (top / "a/s").symlink_to("../b")
    (top / "a/l").symlink_to("../b/g")
    (top / "a/dangling").symlink_to("../b/made")


OPENS = st.sampled_from([
    os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDONLY | os.O_CREAT,
    os.O_WRONLY | os.O_CREAT | os.O_EXCL, os.O_RDONLY | os.O_NOFOLLOW, os.O_DIRECTORY, os.O_PATH,
    os.O_RDWR | os.O_TMPFILE,
])  # fmt: skip
PATH = st.sampled_from(PATHS)
TWO = st.tuples(PATH, PATH)
MODES = st.sampled_from([0o100644, 0o644, 0o010600, 0o140600])
Asked = tuple[str, tuple[str | int, ...]]
CALLS: st.SearchStrategy[Asked] = st.one_of(
    st.tuples(st.just("openat"), st.tuples(st.just(AT_FDCWD), PATH, OPENS, st.just(0o600))),
    st.tuples(st.just("mkdirat"), st.tuples(st.just(AT_FDCWD), PATH, st.just(0o700))),
    st.tuples(st.just("mknodat"), st.tuples(st.just(AT_FDCWD), PATH, MODES, st.just(0))),
    st.tuples(st.just("unlinkat"), st.tuples(st.just(AT_FDCWD), PATH, st.sampled_from([0, AT_REMOVEDIR]))),
    st.tuples(st.just("symlinkat"), st.tuples(st.just("to"), st.just(AT_FDCWD), PATH)),
    st.tuples(st.just("truncate"), st.tuples(PATH, st.just(1))),
    TWO.map(lambda two: ("linkat", (AT_FDCWD, two[0], AT_FDCWD, two[1], 0))),
    TWO.map(lambda two: ("linkat", (AT_FDCWD, two[0], AT_FDCWD, two[1], AT_SYMLINK_FOLLOW))),
    TWO.map(lambda two: ("renameat2", (AT_FDCWD, two[0], AT_FDCWD, two[1], 0))),
    TWO.map(lambda two: ("renameat2", (AT_FDCWD, two[0], AT_FDCWD, two[1], RENAME_EXCHANGE))),
)
RIGHTS = st.one_of(
    st.just(READ), st.just(READ | WRITE), st.just(READ | WRITE), st.integers(0, HANDLED).map(lambda n: n & HANDLED)
)
RULES = st.lists(st.tuples(st.sampled_from((*FOLDERS, *FILES)), RIGHTS), max_size=5)


def made(
    top: Path, call: Asked, rules: Sequence[tuple[str, int]] | None, before: Callable[[], object] | None = None
) -> int:
    """0, or the errno of the call in a child: under the rules, behind what `before` installs, or bare."""
    name, args = call
    number = tables.numbers(abi.MACHINE)[name]

    def inside() -> int:
        os.chdir(top)
        if rules is not None:
            seccomp.set_no_new_privs()
            beneath = [(os.open(path, os.O_PATH), rights) for path, rights in rules]
            landlock.restrict(network=0, ports={}, scoped=0, files=HANDLED, beneath=beneath)
        if before:
            before()
        given = [os.fsencode(arg) if isinstance(arg, str) else arg for arg in args]
        try:
            abi.syscall(number, *given)
        except OSError as error:
            return error.errno or -1
        return 0

    return in_child(inside, None)


def registers_of(top: Path, args: Sequence[str | int]) -> tuple[list[int], list[object]]:
    """The six registers of a call on paths below `top`, and what must live as long as they."""
    kept = [ctypes.create_string_buffer(os.fsencode(top / arg)) for arg in args if isinstance(arg, str)]
    texts = iter(kept)
    registers = [ctypes.addressof(next(texts)) if isinstance(arg, str) else arg for arg in args]
    return [*registers, *[0] * 6][:6], [*kept]


def decided(top: Path, call: Asked, rules: Sequence[tuple[str, int]]) -> Verdict:
    """What the decision function says of it, with the paths read as from a task that waits."""
    name, args = call
    registers, kept = registers_of(top, args)
    task = Task(os.getpid())
    try:
        accesses = access.of_call(access.call_of(task, name, registers, abi.MACHINE), registers, task, "run")
        return allows(Permissions(HANDLED, rules), accesses)
    finally:
        task.close()
        del kept


@settings(max_examples=120, deadline=None)
@given(call=CALLS, rules=RULES)
def test_the_decision_is_the_kernels(call: Asked, rules: list[tuple[str, int]]) -> None:
    """For random rules and calls that work bare: 0, EACCES and EXDEV are what Landlock answers."""
    rights = {name: given & (OF_FILES if name in FILES else HANDLED) for name, given in rules}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as one, tempfile.TemporaryDirectory(dir="/var/tmp") as other:
        bare, held = Path(one).resolve(), Path(other).resolve()
        make(bare)
        make(held)
        installed = [(str(held / name).rstrip("/"), given) for name, given in rights.items() if given]
        verdict = decided(held, call, installed)
        if made(bare, call, None) == 0:
            assert made(held, call, installed) == verdict.errno
            assert bool(verdict.errno) == bool(verdict.refused)


ITEMS = st.frozensets(st.sampled_from([
    "openat read", "openat write", "openat create", "mkdirat", "mknodat", "unlinkat", "symlinkat",
    "truncate", "linkat", "renameat2",
]), min_size=6)  # fmt: skip
PLACES = st.frozensets(st.sampled_from((*FOLDERS, *FILES)), max_size=4)


@settings(max_examples=25, deadline=None)
@given(call=CALLS, items=ITEMS, reads=PLACES, writes=PLACES)
def test_a_policys_decision_is_the_kernels(
    call: Asked, items: frozenset[str], reads: frozenset[str], writes: frozenset[str]
) -> None:
    """For random policies: what the filter in the simulator and the look say of a call is what it gets when installed.

    Where both let it through it gets what it gets bare.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp") as one, tempfile.TemporaryDirectory(dir="/var/tmp") as other:
        bare, held = Path(one).resolve(), Path(other).resolve()
        make(bare)
        make(held)

        def patterns(names: frozenset[str]) -> frozenset[str]:
            return frozenset(f"{held}/{name}" if name in FILES else f"{held}/{name}/**".replace("//", "/")
                             for name in names)  # fmt: skip

        found = dataclasses.replace(
            profile(*LOADING, "chdir", *items), reads=patterns(reads), writes=patterns(writes) | {"/nowhere/**"}
        )
        policy = build.build(found, (abi.MACHINE,)).policy(abi.MACHINE)
        command = Command("/bin/true", ["/bin/true"], {"PATH": "/usr/bin:/bin"})
        seen = prepare(policy, command, audit=False)
        assert seen
        name, args = call
        registers, kept = registers_of(held, args)
        task = Task(os.getpid())
        asked = access.call_of(task, name, registers, abi.MACHINE)
        verdict = seen.ask(asked, registers, task, "run")
        task.close()
        del kept
        native = tables.AUDIT_ARCH[abi.MACHINE]
        number = tables.numbers(abi.MACHINE)[name]
        passes = simulate(bpf.unpack(policy.program), native, number, registers).action == bpf.ALLOW
        wanted = made(bare, call, None)
        got = made(held, call, None, lambda: install(policy, (0x1111, 0x2222, 0x3333), None, command=command))
        if not passes:
            assert got == errno.EPERM
        elif not wanted:
            assert got == verdict.errno
        else:  # the wall may refuse first what the file system would refuse
            assert got in (wanted, errno.EACCES, errno.EXDEV)
            assert not verdict.errno


def test_what_is_told_of_a_rename() -> None:
    """EACCES comes before EXDEV, each with the sides that lack a right; before ABI 2 all between folders is EXDEV."""
    of_file = landlock.ACCESS_FS_REMOVE_FILE | landlock.ACCESS_FS_REFER
    to_file = landlock.ACCESS_FS_MAKE_REG | landlock.ACCESS_FS_REFER
    call = Call("rename")
    moved = [
        Access(call, "run", "write", "/a/x", rights=of_file, entry=True, moves="file"),
        Access(call, "run", "write", "/b/x", rights=to_file, entry=True),
    ]
    handled = READ | WRITE

    def answer(rules: dict[str, int], handled: int = handled) -> tuple[int, list[str]]:
        verdict = allows(Permissions(handled, rules.items()), moved)
        return verdict.errno, [one.thing for one in verdict.refused]

    assert answer({"/a": handled, "/b": handled}) == (0, [])
    assert answer({"/": handled}) == (0, [])
    assert answer({"/a": handled}) == (errno.EACCES, ["/b/x"])
    assert answer({}) == (errno.EACCES, ["/a/x", "/b/x"])
    less = handled & ~landlock.ACCESS_FS_REFER
    assert answer({"/a": handled, "/b": less}) == (errno.EXDEV, ["/b/x"])
    assert answer({"/a": handled & ~landlock.ACCESS_FS_WRITE_FILE, "/b": handled}) == (errno.EXDEV, ["/a/x"])
    assert answer({"/a": handled, "/b": handled}, less) == (errno.EXDEV, ["/a/x", "/b/x"])


NAMES = ("a", "b", "c", "d", "s", "l", "f", "g", "new", "loop", "round", "out", "up", "fds", "..", "..", ".", "", "own",
         "proc", "self", "fd", "0", "cwd", "root", "thread-self", "n" * 255, "n" * 256)  # fmt: skip
SPELLED = st.lists(st.sampled_from(NAMES), max_size=9).map("/".join)
HOSTILE = st.one_of(
    PATH, PATH, SPELLED, SPELLED.map(lambda path: f"/proc/self/{path}"), st.sampled_from((
        "/dev/null", "/dev/stdout", "/proc/self/comm", "/proc/thread-self/comm", "/proc/self/mem", "/proc/self/fd/0",
        "/proc/self/exe", "/proc/self/cwd/a/f", "/proc/1/cmdline", "/proc/self/net/dev", "/proc/thread-self/net/tcp",
        "/proc/self/root/etc/passwd", "/etc/passwd", "/usr/bin/../lib", "/",
        "//", "/..", "a/" * 2047, "a/../" * 819, "./" * 2048, "x" * 4096,
    )),
)  # fmt: skip
TEXTS = st.tuples(HOSTILE, st.booleans())
"""Paths, and whether they are to begin at the root."""
LOOKED = st.one_of(
    st.tuples(st.just("openat"), st.tuples(st.just(AT_FDCWD), TEXTS, OPENS, st.just(0o600))),
    st.tuples(st.just("openat"), st.tuples(st.just(AT_FDCWD), TEXTS, OPENS, st.just(0o600))),
    st.tuples(st.just("openat"), st.tuples(st.sampled_from((0, 3, 77)), TEXTS, OPENS, st.just(0o600))),
    st.tuples(st.just("mkdirat"), st.tuples(st.just(AT_FDCWD), TEXTS, st.just(0o700))),
    st.tuples(st.just("mknodat"), st.tuples(st.just(AT_FDCWD), TEXTS, MODES, st.just(0))),
    st.tuples(st.just("unlinkat"), st.tuples(st.just(AT_FDCWD), TEXTS, st.sampled_from([0, AT_REMOVEDIR]))),
    st.tuples(st.just("symlinkat"), st.tuples(st.just(("to", False)), st.just(AT_FDCWD), TEXTS)),
    st.tuples(st.just("truncate"), st.tuples(TEXTS, st.just(1))),
    st.tuples(st.just("fchmodat"), st.tuples(st.just(AT_FDCWD), TEXTS, st.just(0o600))),
    st.tuples(st.just("linkat"), st.tuples(
        st.just(AT_FDCWD), TEXTS, st.just(AT_FDCWD), TEXTS, st.sampled_from((0, AT_SYMLINK_FOLLOW, 0x1000)),
    )),
    st.tuples(st.just("renameat2"), st.tuples(
        st.just(AT_FDCWD), TEXTS, st.just(AT_FDCWD), TEXTS, st.sampled_from((0, 1, RENAME_EXCHANGE)),
    )),
)  # fmt: skip


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The launcher's look as a program of its own under ASan and UBSan, and a tree that it looks at."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("native") / "look"
    command = ["cc", "-O1", "-g", "-DHOSTED", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([*command, "-w", "-o", str(program), str(HERE / "fuzz_look.c")], check=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        top = Path(folder).resolve()
        make(top)
        for name, to in (("loop", "loop"), ("a/round", "../b/round"), ("b/round", "../a/round"), ("out", "/etc/passwd"),
                         ("a/up", ".."), ("b/fds", "/proc/self/fd"), ("a/own", str(top / "b"))):  # fmt: skip
            (top / name).symlink_to(to)
        yield program, top


@settings(max_examples=60, deadline=None)
@example(
    calls=[("openat", (AT_FDCWD, (name, True), os.O_RDONLY, 0)) for name in ("a/f", "a/l", "a/s/g", "a/f", "a/none")],
    rules=[("a", READ)], whole=False,
)  # fmt: skip
@given(calls=st.lists(LOOKED, min_size=1, max_size=25), rules=RULES, whole=st.booleans())
def test_what_the_launcher_calls_quiet_is_quiet(
    native: tuple[Path, Path], calls: list[tuple[str, tuple[object, ...]]], rules: list[tuple[str, int]], whole: bool
) -> None:
    """For random rules and calls, hostile ones too: of what the native look lets go on Python's has nothing to tell."""
    program, top = native
    given = [(str(top / name).rstrip("/"), rights & (OF_FILES if name in FILES else HANDLED)) for name, rights in rules]
    given += [(place, READ) for place in ("/usr", "/proc") if whole]
    given = [(path, rights) for path, rights in given if rights]
    identities = {path: (os.stat(path).st_dev, os.stat(path).st_ino) for path, _ in given if os.path.isfile(path)}
    seen = Look(Permissions(HANDLED, given, identities), CallTable({}), (), audit=False, proc=())
    lines = [f"{HANDLED} {top}", *(f"{rights} {path}" for path, rights in given)]
    for name, args in calls:
        words = [f"x{os.fsencode(spelled(top, arg)).hex()}" if isinstance(arg, tuple) else str(arg) for arg in args]
        lines.append(f"{tables.numbers(abi.MACHINE)[name]} {' '.join(words)}")
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        process.stdin.flush()
        task = Task(process.pid)
        for name, args in calls:
            quiet, *registers = map(int, process.stdout.readline().split())
            asked = access.call_of(task, name, registers, abi.MACHINE)
            verdict = seen.ask(asked, registers, task, "run")
            assert not (quiet and verdict.errno), (name, args, verdict.refused)
        task.close()
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounts a FUSE file system")
def test_the_launchers_look_waits_for_no_server(native: tuple[Path, Path]) -> None:
    """What lies behind a server that never answers is let go on at once, by a link, too; what is beside it is not."""
    program, top = native
    mount, link = top / "hangs", top / "to-it"
    mount.mkdir()
    link.symlink_to("hangs/x")
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()

    def mounted() -> None:
        assert abi.LIBC.unshare(CLONE_NEWNS) == 0
        assert abi.LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
        assert abi.LIBC.mount(b"nobody", os.fsencode(mount), b"fuse", 0, options) == 0

    number = tables.numbers(abi.MACHINE)["openat"]
    paths = ("hangs/x", f"{top}/hangs/x/y", "to-it", "hangs/../a/f", "a/f", "a/none")
    lines = [f"{HANDLED} {top}", *(f"{number} {AT_FDCWD} x{path.encode().hex()} 0" for path in paths)]
    try:
        done = subprocess.run(
            [program], input="\n".join(lines) + "\n", capture_output=True, text=True, pass_fds=[server],
            preexec_fn=mounted, timeout=60, check=True, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        )  # fmt: skip
    finally:
        os.close(server)
        link.unlink()
        mount.rmdir()
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "1", "1", "1", "0", "1"]


def spelled(top: Path, text: tuple[str, bool]) -> str:
    """A path of the tree, by its whole path if so; what is no path of the tree as it is."""
    path, whole = text
    return f"{top}/{path}" if whole and not path.startswith("/") else path
