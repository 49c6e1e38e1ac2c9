"""The base policy: every entry is known, reasoned, and in one place only."""

from __future__ import annotations

import errno
import os
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import yaml

from sandbox.behaviour import arguments, comparison
from sandbox.behaviour.call import Call
from sandbox.errors import ProfileError
from sandbox.kernel import bpf, tables
from sandbox.policy.rules import rules_for
from sandbox.profile import base
from sandbox.profile.base import BaseEntry
from sandbox.profile.model import Profile, ProfiledFunction
from sandbox.profile.risk import Risk
from sandbox.violations.record import techniques

LISTS = {
    "floor": base.floor(),
    "hard deny": base.hard_deny(),
    "runtime client": base.runtime_client(),
    "refusals": base.refusals(),
    "resolver": base.resolver(),
    "dangerous": base.dangerous(),
}
KEYS = {
    "floor.yaml": {"syscall", "classes", "because"},
    "dangerous.yaml": {"syscall", "classes", "because"},
    "runtime-client.yaml": {"syscall", "classes", "because"},
    "hard-deny.yaml": {"syscall", "classes", "because", "errno", "grant", "response", "unreadable"},
    "promises.yaml": {"about", "attack", "needs", "risk", "syscalls"},
    "files.yaml": {"path", "because"},
}
ENTRIES = [(name, entry) for name, entries in LISTS.items() for entry in entries]


@pytest.mark.parametrize(("where", "entry"), ENTRIES, ids=[f"{name}: {entry.syscall}" for name, entry in ENTRIES])
def test_every_entry_is_known_and_reasoned(where: str, entry: BaseEntry) -> None:
    """The syscall exists, its classes exist as they are spelled, the reason says something, the errno is one."""
    assert entry.syscall in tables.every_name()
    for name in entry.classes:
        base.arguments_exist(Call(entry.syscall, name), where)
        assert arguments.has_classes(entry.syscall)
    assert len(entry.because.split()) >= 1
    assert len(entry.because) > 5
    assert hasattr(errno, entry.errno)
    assert entry.response in ("deny", "terminate")
    assert len(set(entry.classes)) == len(entry.classes)


@pytest.mark.parametrize("file", sorted(KEYS))
def test_no_line_says_what_nobody_reads(file: str) -> None:
    """Each key of a base file has a reader, and those of the hard deny stand on no other list."""
    with open(os.path.join(base.directory(), file), encoding="utf-8") as text:
        lists = yaml.safe_load(text)
    for lines in lists.values():
        for line in lines.values() if isinstance(lines, dict) else lines:
            assert set(line) <= KEYS[file], line


def test_risk_is_one_scale() -> None:
    """Promises, violations and amendments say risk in the same words; a denial leads to a violation, which has one."""
    words = get_args(Risk)
    assert {promise.risk for promise in base.promises()} <= {*words, ""}
    assert {technique["risk"] for technique in techniques().values()} <= set(words)


def test_who_may_list_a_hard_denied_call() -> None:
    """Only calls whose flags no filter can read stand in a profile and are refused; all others are kept out of it."""
    listed = {entry.syscall for entry in base.hard_deny() if entry.unreadable}
    assert listed == {"clone3", "openat2"}
    for entry in base.hard_deny():
        for name in entry.classes or ("",):
            assert base.denial(Call(entry.syscall, name)) == entry
            assert base.kept_out(Call(entry.syscall, name)) == (None if entry.syscall in listed else entry)
    assert base.denial(Call("openat", "read")) is base.kept_out(Call("openat", "read")) is None


def test_spellings_are_the_recorders() -> None:
    """Classes of enumerated arguments are spelled as classify spells them, so that what is learned matches them."""
    for where, entry in ENTRIES:
        if arguments.partition_classes(entry.syscall):
            continue
        for name in entry.classes:
            found = set()
            for conjunction in comparison.conditions(entry.syscall, name, "x86_64"):
                args = [0] * 6
                for condition in conjunction:
                    args[condition.argument] |= condition.value
                found.add(arguments.classify(entry.syscall, args, "x86_64"))
            assert found == {name}, where


def _touch(one: BaseEntry, other: BaseEntry) -> bool:
    return one.syscall == other.syscall and (
        not one.classes or not other.classes or bool(set(one.classes) & set(other.classes))
    )


def test_floor_and_hard_deny_are_disjoint() -> None:
    """Nothing is allowed always and denied always; the same for what a runtime client needs."""
    for allowed, denied in product((*base.floor(), *base.runtime_client()), base.hard_deny()):
        assert not _touch(allowed, denied), (allowed, denied)


@pytest.mark.parametrize("name", ["floor", "hard deny"])
def test_no_entry_stands_twice(name: str) -> None:
    """Two entries of one list never speak of the same call."""
    entries = LISTS[name]
    for i, entry in enumerate(entries):
        assert not any(_touch(entry, other) for other in entries[i + 1 :]), entry


def test_escapes_are_hard_denied() -> None:
    """The usual ways out of a sandbox are on the list, and the calls that install filters cannot be granted."""
    whole = {entry.syscall for entry in base.hard_deny() if not entry.classes}
    named = [
        "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "bpf", "perf_event_open",
        "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "keyctl",
        "request_key", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
        "fspick", "mount_setattr", "unshare", "setns", "pivot_root", "chroot", "init_module", "finit_module",
        "delete_module", "kexec_load", "kexec_file_load", "reboot", "seccomp", "personality",
        "open_by_handle_at", "process_madvise", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct",
        "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
    ]  # fmt: skip
    assert set(named) <= whole
    never = {(entry.syscall, entry.classes) for entry in base.hard_deny() if not entry.grantable}
    assert {("seccomp", ()), ("prctl", ("PR_SET_SECCOMP",)), ("clone", ("namespace",))} <= never
    assert base.find(base.hard_deny(), Call("clone", "namespace"))
    assert base.find(base.hard_deny(), Call("clone", "thread")) is None


def test_what_every_program_makes_is_on_the_floor() -> None:
    """The calls of every start, end, abort and allocation are allowed without being learned."""
    named = [
        "exit", "exit_group", "rt_sigreturn", "restart_syscall", "futex", "tgkill", "gettid",
        "rt_sigprocmask", "brk", "munmap", "mmap", "mprotect", "madvise", "sched_yield", "clock_gettime",
        "clock_getres", "gettimeofday", "time", "getcpu", "getrandom", "rseq", "set_robust_list", "membarrier",
    ]  # fmt: skip
    floor = {entry.syscall: entry for entry in base.floor()}
    assert set(named) <= set(floor)
    assert floor["mmap"].classes == floor["mprotect"].classes == ("data",)


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_the_floor_makes_nothing_executable_and_opens_nothing(arch: str) -> None:
    """Under the floor alone no memory becomes executable and no path or socket is opened, whatever the arguments."""
    rules = rules_for(Profile(ProfiledFunction("floor", runtime_api=False)), arch)
    numbers, own = tables.numbers(arch), tables.AUDIT_ARCH[arch]
    for name in ("open", "openat", "openat2", "creat", "socket", "connect", "clone", "fork", "vfork", "execveat"):
        if name in numbers:
            for args in ((0,) * 6, (0xFFFFFFFFFFFFFFFF,) * 6, (2, 1, 0, 0, 0, 0), (0x10F00, 0, 0, 0, 0, 0)):
                assert rules.verdict(own, numbers[name], args) != bpf.ALLOW, name
    for prot in range(4, 8):
        for flags in (0x2, 0x22, 0x1):
            assert rules.verdict(own, numbers["mmap"], (0, 4096, prot, flags, 3, 0)) != bpf.ALLOW
            assert rules.verdict(own, numbers["mprotect"], (0, 4096, prot, 0, 0, 0)) != bpf.ALLOW


def test_promises_name_existing_calls() -> None:
    """Each promise has a description, and each syscall and class that it names exists, `send` of other ABIs apart."""
    for promise in base.promises():
        assert all((promise.about, promise.attack, promise.needs)), promise.name
        for syscall, prefix in promise.items:
            if syscall == "send":  # a call of 32-bit architectures only
                continue
            assert syscall in tables.every_name(), (promise.name, syscall)
            if prefix and arguments.partition_classes(syscall):
                assert prefix in arguments.partition_classes(syscall)


def test_unknown_classes_are_located() -> None:
    """A class that does not exist is an error with the file that holds it."""
    with pytest.raises(ProfileError, match=r"^profiles/base/some\.yaml"):
        base.arguments_exist(Call("openat", "sideways"), "profiles/base/some.yaml")
    with pytest.raises(ProfileError, match=r"^profiles/base/some\.yaml"):
        base.arguments_exist(Call("socket", "AF_INET"), "profiles/base/some.yaml")


def test_both_loaders_read_the_same() -> None:
    """libyaml's loader, where there is one, gives what Python's gives for each of our own files."""
    for path in sorted(Path(base.directory()).glob("*.yaml")):
        assert yaml.load(path.read_text(), base.FAST) == yaml.safe_load(path.read_text()), path.name
