"""The look at files: the one decision function says what Landlock says, and what is refused is seen."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from child_processes import in_child
from guests import LOADING, profile
from hypothesis import given, settings
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
from sandbox.kernel.task import Task
from sandbox.policy import build
from sandbox.policy.simulator import simulate
from sandbox.supervise.look import prepare

ABI = landlock.abi_version()
pytestmark = pytest.mark.skipif(ABI < 1, reason="Landlock is needed")

HANDLED = READ | WRITE | landlock.ACCESS_FS_EXECUTE
for _since, _right in SINCE:
    if _since > ABI:
        HANDLED &= ~_right
AT_FDCWD = path_walk.AT_FDCWD
AT_REMOVEDIR, AT_SYMLINK_FOLLOW = 0x200, 0x400

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
