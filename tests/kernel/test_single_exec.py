"""The one execve of the launcher: it passes, and with anything else than its three addresses, or later, none does."""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import random
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

import pytest
from child_processes import Ended, alive, bystander, ended, in_child
from guests import LOADING, policy
from users_and_folders import place

from sandbox.bundle import Policy
from sandbox.confine import restore_signals, single_exec
from sandbox.confine.install import install
from sandbox.confine.single_exec import Launch, block, exec_refused
from sandbox.errors import InstallRefused
from sandbox.kernel import abi, bpf, tables
from sandbox.kernel.bpf import Program
from sandbox.policy.simulator import check, simulate
from sandbox.probe import raw

EPERM = -errno.EPERM
PYTHON = os.path.realpath(sys.executable)
ADDRESSES = (0x7F1122334455, 0x123456789ABC, 0x5566778899A0)


def launched(
    found: Policy, uid: int | None, path: str, argv: Sequence[str], environment: Mapping[str, str] | None = None
) -> Ended:
    """The program under the policy, with its standard output and error read."""

    def launch(write: int) -> None:
        os.dup2(write, 1)
        os.dup2(write, 2)
        ready = Launch(path, argv, environment or {"PATH": os.defpath})
        install(found, ready.addresses, None)
        restore_signals()
        raise ready.exec()

    return ended(launch, uid)


def test_a_program_starts(uid: int | None) -> None:
    """/bin/true starts under the policy and ends well."""
    assert launched(policy(*LOADING), uid, "/bin/true", ["true"]).code == 0


def test_a_script_starts(uid: int | None) -> None:
    """A script with an interpreter line starts: the kernel's own exec of the interpreter is part of the one execve."""
    with place(uid) as folder:
        script = folder / "run.sh"
        script.write_text('#!/bin/sh\necho "$0 $1 $WORD"\nexit 3\n')
        script.chmod(0o755)
        found = launched(policy(*LOADING), uid, str(script), ["ignored", "one two"], {"WORD": "three"})
    assert (found.code, found.output.decode()) == (3, f"{script} one two three\n")


def test_arguments_and_environment_arrive(uid: int | None) -> None:
    """Any arguments and any environment arrive byte by byte: empty ones, newlines, bytes that are no text, many."""
    argv = ["python", "-I", "-S", "-c", DUMP, "", "a b", "line\nbreak", "\udcff\udcfe", "ü", *map(str, range(500))]
    environment = {"EMPTY": "", "BYTES": "\udcff", "EQUALS": "a=b=c", **{f"N{i}": "x" * i for i in range(300)}}
    found = launched(policy(*LOADING), uid, PYTHON, argv, environment)
    assert found.code == 0, found.output
    said = json.loads(found.output)
    assert said["argv"] == ["-c", *argv[5:]]
    assert said["environ"] == environment
    assert said["cmdline"] == argv


DUMP = """
import os, sys
from _json import encode_basestring_ascii as text
strings = lambda name: os.fsdecode(open(name, "rb").read()).split(chr(0))[:-1]
environ = dict(entry.partition("=")[::2] for entry in strings("/proc/self/environ"))
cmdline = strings("/proc/self/cmdline")
items = lambda found: "[" + ", ".join(map(text, found)) + "]"
pairs = "{" + ", ".join(text(k) + ": " + text(v) for k, v in environ.items()) + "}"
print('{"argv": ' + items(sys.argv) + ', "environ": ' + pairs + ', "cmdline": ' + items(cmdline) + "}")
"""

SECOND = """
import ctypes, os
out = []
def attempt(what):
    try:
        what()
        out.append("passed")
    except OSError as error:
        out.append(str(error.errno))
attempt(lambda: os.execv("/bin/true", ["true"]))
attempt(lambda: os.execve("/bin/true", ["true"], {}))
fd = os.open("/bin/true", os.O_RDONLY)
attempt(lambda: os.execve(fd, ["true"], {}))
libc = ctypes.CDLL(None, use_errno=True)
path, argv, envp = b"/bin/true", (ctypes.c_char_p * 2)(b"true", None), (ctypes.c_char_p * 1)(None)
def call(nr, *args):
    if libc.syscall(ctypes.c_long(nr), *args) == -1:
        raise OSError(ctypes.get_errno(), "")
attempt(lambda: call(EXECVE, path, argv, envp))
attempt(lambda: call(EXECVEAT, -100, path, argv, envp, 0))
attempt(lambda: call(EXECVEAT, fd, b"", argv, envp, 0x1000))
for wrong in (0, 1, (1 << 64) - 1):
    attempt(lambda: call(EXECVE, ctypes.c_ulong(wrong), argv, envp))
print(" ".join(out))
"""


def test_no_second_exec_from_the_new_program(uid: int | None) -> None:
    """Every exec of the program that was started is EPERM: by path, by descriptor, by execveat, with any pointers."""
    numbers = {"EXECVEAT": raw.NUMBERS["execveat"], "EXECVE": raw.NUMBERS["execve"]}
    code = SECOND
    for name, number in numbers.items():
        code = code.replace(name, str(number))
    found = launched(policy(*LOADING), uid, PYTHON, ["python", "-I", "-S", "-c", code])
    assert found.code == 0, found.output
    assert found.output.split() == [str(errno.EPERM).encode()] * 9


def test_execs_work_where_they_were_granted(uid: int | None) -> None:
    """A profile that learned execve starts programs from the program: nothing of the single use is left."""
    granted = policy(*LOADING, "execve", "clone process", "wait4", "pipe2", "dup2", "setpgid", "getpgrp")
    found = launched(granted, uid, "/bin/sh", ["sh", "-c", "/bin/true && exec /bin/echo done"])
    assert (found.code, found.output) == (0, b"done\n")


def test_one_wrong_pointer_of_three(uid: int | None) -> None:
    """With one pointer wrong by one, or in one half, execve is EPERM, however often; with all three right it passes."""

    def attempt(write: int) -> None:
        ready = Launch("/bin/true", ["true"], {})
        install(policy(*LOADING), ready.addresses, None)
        wrong = 0
        for which, change in itertools.product(range(3), (1, -1, 8, 1 << 31, 1 << 32, 1 << 46, 1 << 63)):
            tried = [value ^ change if i == which and change > 0 else value for i, value in enumerate(ready.addresses)]
            if change == -1:
                tried[which] = 0
            ctypes.set_errno(0)
            single_exec._libc.execve(*[ctypes.c_void_p(value) for value in tried])
            wrong += ctypes.get_errno() == errno.EPERM
        os.write(write, str(wrong).encode())
        assert exec_refused()
        raise ready.exec()

    found = ended(attempt, uid)
    assert (found.code, found.output) == (0, b"21")


def unsupervised(addresses: tuple[int, int, int] | None, own_pid: int | None) -> Program:
    """The block of a start without a supervisor, in a program that allows everything."""
    found = block(addresses, own_pid, bpf.ERRNO | errno.EPERM)
    return ((bpf.LD_ABS, 0, 0, bpf.OFFSET_NR), *found, (bpf.RET_K, 0, 0, bpf.ALLOW))


def test_the_filter_passes_three_right_pointers_only() -> None:
    """In simulation: every combination of right and wrong halves is refused but the one without a wrong half."""
    program = unsupervised(ADDRESSES, 77)
    check(program)
    nr = abi.number("execve")
    for wrong in itertools.product((0, 1 << 5, 1 << 40, (1 << 40) | 1), repeat=3):
        args = [address ^ change for address, change in zip(ADDRESSES, wrong, strict=True)] + [0, 0, 0]
        wanted = bpf.ERRNO | errno.EPERM if any(wrong) else bpf.ALLOW
        assert simulate(program, abi.AUDIT_ARCH, nr, args).action == wanted
    for bit, which in itertools.product(range(64), range(3)):
        args = [address ^ (1 << bit if i == which else 0) for i, address in enumerate(ADDRESSES)] + [0, 0, 0]
        assert simulate(program, abi.AUDIT_ARCH, nr, args).action == bpf.ERRNO | errno.EPERM


def test_refusals_take_the_same_number_of_instructions() -> None:
    """Whatever is wrong, and if nothing is, the filter runs the same instructions: its time gives no half away."""
    program = unsupervised(ADDRESSES, 77)
    chance = random.Random(1)
    counts = set()
    for _ in range(500):
        keep = chance.randrange(64)
        args = [0] * 6
        for i, address in enumerate(ADDRESSES):
            low = address & 0xFFFFFFFF if keep >> (2 * i) & 1 else chance.getrandbits(32)
            high = address >> 32 if keep >> (2 * i + 1) & 1 else chance.getrandbits(32)
            args[i] = high << 32 | low
        counts.add(simulate(program, abi.AUDIT_ARCH, abi.number("execve"), args).instructions)
    assert len(counts) == 1


def test_other_calls_are_left_to_the_profile() -> None:
    """The block leaves to the program everything that is neither execve nor a signal."""
    program = unsupervised(ADDRESSES, 77)
    watched = {abi.number(name) for name in ("execve", *single_exec.SIGNALS)}
    for nr in range(600):
        if nr not in watched:
            assert simulate(program, abi.AUDIT_ARCH, nr, (0,) * 6).action == bpf.ALLOW
    granted = unsupervised(None, None)
    assert simulate(granted, abi.AUDIT_ARCH, abi.number("execve"), (0,) * 6).action == bpf.ALLOW
    assert simulate(granted, abi.AUDIT_ARCH, abi.number("kill"), (1,) * 6).action == bpf.ALLOW


def test_addresses_are_random_and_hold_what_they_should(uid: int | None) -> None:
    """No two launches share an address, addresses differ in high and low bits, and path and strings lie there."""

    def attempt() -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for _ in range(20):
            ready = Launch("/bin/true", ["true", "x"], {"A": "b"})
            path, argv, _envp = ready.addresses
            assert ctypes.string_at(path) == b"/bin/true"
            pointers = (ctypes.c_char_p * 3).from_address(argv)
            assert list(pointers) == [b"true", b"x", None]
            found.append(ready.addresses)
        return found

    addresses = [address for launch in in_child(attempt, uid) for address in launch]
    assert len({address >> 12 for address in addresses}) == len(addresses)
    assert len({address >> 32 for address in addresses}) > 40
    assert len({address & 0xFFF for address in addresses}) > 30
    assert all(0 < address < 1 << 47 for address in addresses)


def test_no_room_is_an_error(uid: int | None) -> None:
    """Where no memory can be mapped the launch is refused with what to do, and nothing was installed."""

    def attempt() -> str:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
        try:
            Launch("/bin/true", ["true"] * 10, {})
        except InstallRefused as error:
            return str(error)
        return ""

    assert "RLIMIT_AS" in in_child(attempt, uid)


NULL_SIGNAL = "0"
"""The signal that only asks whether one may. Nothing else is ever sent to anybody but the child itself and its
bystander: should the filter fail, a test must not end other programs."""
SIGNALLING = tuple(f"{name} {kind}" for name in single_exec.SIGNALS for kind in ("SIGUSR1", NULL_SIGNAL))


def test_signals_go_to_the_own_process_only(uid: int | None) -> None:
    """Signals to the own process arrive; to another process of the user, the group or everybody they are EPERM."""
    assert policy(*SIGNALLING).signals == "self"

    number = int(signal.SIGUSR1)

    def attempt(other: int) -> tuple[int, dict[str, int], dict[str, int]]:
        caught: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _frame: caught.append(number))
        info, me = raw.address(INFO), os.getpid()
        install(policy(*SIGNALLING), (1, 2, 3), None)
        ours = {
            "kill": raw.call("kill", me, number),
            "tgkill": raw.call("tgkill", me, me, number),
            "dirty": raw.call("tgkill", me | 5 << 32, me, number),
            "queue": raw.call("rt_sigqueueinfo", me, number, info),
            "thread queue": raw.call("rt_tgsigqueueinfo", me, me, number, info),
        }
        theirs = {
            "kill": raw.call("kill", other, number),
            "tgkill": raw.call("tgkill", other, other, number),
            "queue": raw.call("rt_sigqueueinfo", other, number, info),
            "thread queue": raw.call("rt_tgsigqueueinfo", other, other, number, info),
            "other signal": raw.call("kill", other, int(signal.SIGUSR2)),
            "tkill": raw.call("tkill", other, number),
            "pidfd": raw.call("pidfd_open", other, 0),
            "parent": raw.call("kill", os.getppid(), 0),
            "group": raw.call("kill", 0, 0),
            "everybody": raw.call("kill", -1, 0),
            "the group's number": raw.call("kill", -me, 0),
        }
        return len(caught), ours, theirs

    with bystander(uid) as other:
        caught, ours, theirs = in_child(lambda: attempt(other), uid)
        assert alive(other)
    assert set(ours.values()) == {0}, ours
    assert caught >= 1
    assert set(theirs.values()) == {EPERM}, theirs


INFO = ctypes.create_string_buffer(
    int(signal.SIGUSR1).to_bytes(4, "little") + bytes(4) + (-1).to_bytes(4, "little", signed=True), 128
)
"""siginfo_t that a process may send: SI_QUEUE."""


def test_signals_to_others_where_they_were_learned(uid: int | None) -> None:
    """A profile that learned to signal others may, with the learned signals only."""

    def attempt(other: int) -> tuple[int, int]:
        install(policy("kill SIGCONT to others"), (1, 2, 3), None)
        return raw.call("kill", other, int(signal.SIGCONT)), raw.call("kill", other, int(signal.SIGUSR1))

    with bystander(uid) as other:
        assert in_child(lambda: attempt(other), uid) == (0, EPERM)
        assert alive(other)


@pytest.mark.parametrize("item", ["getpgrp", "setsid", "wait4", "pidfd_open", "clone thread", "tgkill SIGABRT"])
def test_harmless_calls_do_not_free_signals(item: str) -> None:
    """Asking for a group, waiting or starting threads is no reason to let signals out; making processes is."""
    assert policy(item).signals == "self"
    assert policy("clone process").signals == policy("execve").signals == "any"


def test_the_filter_is_small() -> None:
    """All of it is well under a hundred instructions, and what the number decides does not come to it."""
    assert len(unsupervised(ADDRESSES, 77)) < 50
    found = policy(*LOADING)
    bare = bpf.unpack(found.program)
    built = bpf.unpack(single_exec.put(block(ADDRESSES, 77, bpf.ERRNO), found.program, found.head))
    for name in ("read", "write", "close", "mount"):
        nr = tables.numbers(abi.MACHINE)[name]
        assert len({simulate(each, abi.AUDIT_ARCH, nr, (0,) * 6).instructions for each in (bare, built)}) == 1
