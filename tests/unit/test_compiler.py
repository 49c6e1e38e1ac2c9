"""From profile to program: what is compiled does what the rules say, the same profile always gives the same bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_strategies import profiles

from sandbox import bundle
from sandbox.behaviour import comparison
from sandbox.behaviour.arguments import FULL
from sandbox.errors import PolicyUnverified, ProfileError
from sandbox.kernel import bpf, tables
from sandbox.policy import compiler
from sandbox.policy.build import build
from sandbox.policy.compiler import compile_rules
from sandbox.policy.rules import rules_for
from sandbox.policy.simulator import check, simulate
from sandbox.policy.verify import BEYOND
from sandbox.profile import base
from sandbox.profile.model import Grant, Profile, ProfiledFunction, Use

EPERM, ENOSYS = bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS
PLAIN = Profile(ProfiledFunction("plain", runtime_api=False))


def profile_of(*items: str, runtime_api: bool = False, grants: frozenset[Grant] = frozenset()) -> Profile:
    """A profile that uses these `syscall class` items."""
    uses = frozenset(Use("run", name, kind) for name, _, kind in (item.partition(" ") for item in items))
    return Profile(ProfiledFunction("some", runtime_api=runtime_api), uses, grants=grants)


def answer(profile: Profile, syscall: str, *args: int, arch: str = "x86_64") -> int:
    """What the compiled program answers."""
    program = compile_rules(rules_for(profile, arch))
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    return simulate(program, tables.AUDIT_ARCH[arch], tables.numbers(arch)[syscall], padded).action


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(), st.sampled_from(tables.ARCHES), st.data())
def test_compiled_programs_agree_with_their_rules(profile: Profile, arch: str, data: st.DataObject) -> None:
    """For random profiles the program answers random and edge calls as the rules do, and the kernel would take it."""
    rules = rules_for(profile, arch)
    program = compile_rules(rules)
    check(program)
    architectures = st.sampled_from([*tables.AUDIT_ARCH.values(), tables.AUDIT_ARCH[arch], 0x40000003, 0])
    number = st.sampled_from(sorted(rules.allow)) | st.integers(0, 500) | st.integers(0, 0xFFFFFFFF)
    for _ in range(20):
        nr = data.draw(number)
        conditions = [c for rule in rules.allow.get(nr, ()) for c in rule.conditions]
        values = st.sampled_from([c.value for c in conditions] or [0])
        register = values | values.map(lambda v: v ^ FULL) | st.integers(0, FULL)
        dirty = st.builds(lambda value, high: value | high << 32, values, st.integers(0, 0xFFFFFFFF))
        args = data.draw(st.lists(register | dirty, min_size=6, max_size=6))
        own = tables.AUDIT_ARCH[arch] if data.draw(st.integers(0, 9)) else data.draw(architectures)
        assert simulate(program, own, nr, args).action == rules.verdict(own, nr, args)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(profiles(max_uses=8, compiled=True), st.sampled_from(tables.ARCHES))
def test_random_profiles_build(profile: Profile, arch: str) -> None:
    """Everything that a profile may hold compiles and passes the verifier, on both architectures."""
    built = build(profile, (arch,))
    assert built.evidence[arch].calls > (tables.highest(arch) + BEYOND) * 7  # at least seven calls for each number
    assert built.policy(arch).program in built.files[bundle.FILE]


@settings(max_examples=25, deadline=None)
@given(profiles(), st.sampled_from(tables.ARCHES))
def test_floor_and_hard_deny_stand_in_every_profile(profile: Profile, arch: str) -> None:
    """No profile takes the floor away, and none that lacks a grant gets what is hard-denied."""
    rules = rules_for(profile, arch)
    numbers, own = tables.numbers(arch), tables.AUDIT_ARCH[arch]
    for entry in base.floor():
        if entry.syscall not in numbers:
            continue
        for name in entry.classes or ("",):
            for conjunction in comparison.conditions(entry.syscall, name, arch) if name else ((),):
                args = [0] * 6
                for condition in conjunction:
                    args[condition.argument] |= condition.value
                assert rules.verdict(own, numbers[entry.syscall], args) == bpf.ALLOW
    granted = {(grant.syscall, name) for grant in profile.grants for name in grant.classes or {""}}
    for entry in base.hard_deny():
        for name in entry.classes or ("",):
            if entry.syscall not in numbers or (entry.grantable and (entry.syscall, name) in granted):
                continue
            args = [0] * 6
            if name == "namespace":
                args[0] = 0x10000000
            elif name:
                for condition in comparison.conditions(entry.syscall, name, arch)[0]:
                    args[condition.argument] |= condition.value
            assert rules.verdict(own, numbers[entry.syscall], args) != bpf.ALLOW, entry


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_the_empty_profile(arch: str) -> None:
    """A profile without uses allows the floor and the launcher's exec; unknown and foreign calls go by rule."""
    program = compile_rules(rules_for(PLAIN, arch))
    own, numbers = tables.AUDIT_ARCH[arch], tables.numbers(arch)
    zero = (0,) * 6

    def of(nr: int, foreign: int = own) -> int:
        return simulate(program, foreign, nr, zero).action

    assert of(numbers["read"]) == bpf.ALLOW
    assert of(numbers["execve"]) == bpf.ALLOW
    for name in ("execveat", "ptrace", "clone", "openat", "socket", "seccomp", "prctl", "unshare", "mount", "bpf"):
        assert of(numbers[name]) == EPERM, name
    for name in ("clone3", "openat2", "io_uring_setup"):
        assert of(numbers[name]) == ENOSYS, name
    assert of(tables.highest(arch) + 1) == of(0x3FFFFFFF) == of(0xFFFFFFFF) == of(0x80000000) == ENOSYS
    assert {of(nr, 0x40000003) for nr in range(500)} == {bpf.KILL_PROCESS}
    other = next(value for name, value in tables.AUDIT_ARCH.items() if name != arch)
    assert of(numbers["read"], other) == bpf.KILL_PROCESS
    x32 = of(numbers["read"] | bpf.X32_BIT)
    assert x32 == (bpf.KILL_PROCESS if arch == "x86_64" else ENOSYS)


@pytest.mark.parametrize(
    ("profile", "call", "wanted"),
    [
        (profile_of("openat read"), ("openat", 0, 0, 0o2000000), bpf.ALLOW),
        (profile_of("openat read"), ("openat", 0, 0, 0o2000000 | 0xABCD << 32), bpf.ALLOW),
        (profile_of("openat read"), ("openat", 0, 0, 0o100), EPERM),
        (profile_of("openat read"), ("openat", 0, 0, 0o1), EPERM),
        (profile_of("openat read"), ("openat", 0, 0, 0o20000000), EPERM),  # O_TMPFILE alone
        (profile_of("openat read"), ("open", 0, 0), bpf.ALLOW),
        (profile_of("openat read"), ("open", 0, 0o1), EPERM),
        (profile_of("openat read"), ("openat2", 0, 0), ENOSYS),
        (profile_of("clone thread"), ("clone", 0x3D0F00), bpf.ALLOW),
        (profile_of("clone thread"), ("clone", 0x1200011), EPERM),
        (profile_of("clone thread"), ("clone", 0x3D0F00 | 0x20000), EPERM),
        (profile_of("clone thread"), ("clone3",), ENOSYS),
        (profile_of("clone3 thread"), ("clone", 0x3D0F00), bpf.ALLOW),
        (profile_of("clone thread"), ("fork",), EPERM),
        (profile_of("vfork process"), ("fork",), bpf.ALLOW),
        (profile_of("vfork process"), ("clone", 0x1200011), bpf.ALLOW),
        (profile_of("vfork process"), ("clone", 0x3D0F00), EPERM),
        (profile_of("vfork process"), ("clone", 0x1200011 | 0x10000000), EPERM),
        (profile_of("socket AF_INET SOCK_STREAM"), ("socket", 2, 0x80801), bpf.ALLOW),
        (profile_of("socket AF_INET SOCK_STREAM"), ("socket", 2, 1, 6), bpf.ALLOW),
        (profile_of("socket AF_INET SOCK_STREAM"), ("socket", 2, 1, 262), EPERM),  # MPTCP
        (profile_of("socket AF_INET SOCK_STREAM"), ("socket", 10, 1), EPERM),
        (profile_of("socket AF_INET SOCK_STREAM"), ("socket", 2, 2), EPERM),
        (profile_of("socket AF_INET SOCK_STREAM"), ("socket", 2, 3), EPERM),
        (profile_of("sendto connected"), ("sendto", 3, 0, 0, 0, 0), bpf.ALLOW),
        (profile_of("sendto connected"), ("sendto", 3, 0, 0, 0, 1), EPERM),
        (profile_of("sendto connected"), ("sendto", 3, 0, 0, 0, 1 << 32), EPERM),
        (profile_of("sendto connected"), ("sendto", 3, 0, 0, 0x20000000, 0), EPERM),  # MSG_FASTOPEN connects
        (profile_of("sendto addressed"), ("sendto", 3, 0, 0, 0x20000000, 9), EPERM),
        (profile_of("sendmsg"), ("sendmsg", 3, 0, 0x4000), bpf.ALLOW),
        (profile_of("sendmsg"), ("sendmsg", 3, 0, 0x20004000), EPERM),
        (profile_of("mmap exec-file"), ("mmap", 0, 0, 5, 2), bpf.ALLOW),
        (profile_of("mmap exec-file"), ("mmap", 0, 0, 5, 0x22), EPERM),
        (profile_of("mmap exec-file"), ("mmap", 0, 0, 7, 2), EPERM),
        (PLAIN, ("mmap", 0, 0, 3, 0x22), bpf.ALLOW),
        (PLAIN, ("mmap", 0, 0, 4, 2), EPERM),
        (PLAIN, ("mprotect", 0, 0, 4), EPERM),
        (PLAIN, ("prlimit64", 0, 7, 0), bpf.ALLOW),
        (PLAIN, ("prlimit64", 0, 7, 1 << 40), EPERM),
        (PLAIN, ("prlimit64", 1, 7, 0), EPERM),
        (PLAIN, ("fcntl", 0, 1), bpf.ALLOW),
        (PLAIN, ("fcntl", 0, 4), EPERM),
        (profile_of("fcntl F_SETFL"), ("fcntl", 0, 4), bpf.ALLOW),
        (profile_of("fcntl F_SETFL"), ("fcntl", 0, 4 | 5 << 32), bpf.ALLOW),
        (profile_of("prctl PR_SET_NAME"), ("prctl", 15), bpf.ALLOW),
        (profile_of("prctl PR_SET_NAME"), ("prctl", 22), EPERM),
        (profile_of("kill SIGTERM to others"), ("kill", 1, 15), bpf.ALLOW),
        (profile_of("kill SIGTERM to others"), ("kill", 1, 9), EPERM),
    ],
)
def test_calls_and_their_neighbours(profile: Profile, call: tuple[str, int], wanted: int) -> None:
    """What was learned passes with dirty upper halves of 32-bit registers; the next value of each argument does not."""
    assert answer(profile, call[0], *call[1:]) == wanted


@pytest.mark.parametrize("item", ["prctl 22", "prctl 0x16", "ioctl 0x5412", "prctl PR_SET_SECCOMP", "clone namespace"])
def test_hard_deny_does_not_go_by_spelling(item: str) -> None:
    """A hard-denied call that a profile names in another way, or without a grant, is not in the filter."""
    syscall = item.split(" ")[0]
    args = {"prctl": (22,), "ioctl": (0, 0x5412), "clone": (0x10000000,)}[syscall]
    assert answer(profile_of(item), syscall, *args) == EPERM


@pytest.mark.parametrize(
    ("syscall", "args"), [("seccomp", (1, 0, 1)), ("prctl", (22, 2)), ("clone3", ()), ("clone", (0x10000000,))]
)
def test_what_nothing_grants(syscall: str, args: tuple[int, ...]) -> None:
    """`grant: never` holds for grants too, of single classes and of the whole call."""
    classes = frozenset({"PR_SET_SECCOMP"}) if syscall == "prctl" else frozenset[str]()
    for grant in (Grant(syscall, frozenset(), "because I say so"), Grant(syscall, classes, "because I say so")):
        assert answer(profile_of(grants=frozenset({grant})), syscall, *args) in (EPERM, ENOSYS)


def test_a_grant_lifts_only_what_it_names() -> None:
    """A granted call passes, its hard-denied neighbours do not."""
    profile = profile_of(grants=frozenset({Grant("ptrace", frozenset(), "a debugger"),
                                           Grant("prctl", frozenset({"PR_SET_PTRACER"}), "a debugger")}))  # fmt: skip
    assert answer(profile, "ptrace", 16) == bpf.ALLOW
    assert answer(profile, "prctl", 0x59616D61) == bpf.ALLOW
    assert answer(profile, "prctl", 22) == EPERM
    assert answer(profile, "process_vm_readv", 1) == EPERM


def test_a_class_of_another_architecture_is_a_located_error() -> None:
    """A class that no architecture has is refused when rules are made, not silently dropped."""
    with pytest.raises(ProfileError, match="some on x86_64"):
        rules_for(profile_of("socket AF_NOTHING SOCK_STREAM"), "x86_64")


def test_a_program_without_the_architecture_in_front_is_not_retargeted() -> None:
    """Retargeting replaces the one constant that it knows; any other beginning is refused."""
    program: bpf.Program = ((bpf.LD_ABS, 0, 0, 0), (bpf.JEQ_K, 0, 1, 0xC000003E), (bpf.RET_K, 0, 0, 0), (6, 0, 0, 0))
    with pytest.raises(PolicyUnverified, match="retargeted"):
        compiler._retarget(program, 0xC000003E, 0xC00000B7)


def test_retargeting_changes_one_constant() -> None:
    """The tree for the other architecture differs from the host's only in the architecture that it asks for."""
    host = tables.machine()
    other = next(arch for arch in tables.ARCHES if arch != host)
    rules = rules_for(profile_of("openat read", "clone thread"), other)
    foreign, native = (compiler._tree(each, set(rules.allow)) for each in (rules, replace(rules, arch=host)))
    assert [i for i, (a, b) in enumerate(zip(foreign, native, strict=True)) if a != b] == [1]
    assert foreign[1][3] == tables.AUDIT_ARCH[other]


_DIGEST = """
import hashlib, sys
from sandbox.policy.build import build
from sandbox.behaviour import comparison
from sandbox.profile import document
found = build(document.parse(sys.stdin.buffer.read()).profile)
print(hashlib.sha256(b"".join(k.encode() + v for k, v in sorted(found.files.items()))).hexdigest())
"""

_PROFILE = b"""\
schema: 1
function: {name: steady, handler: app.handler, runtime-api: true}
promises: [thread, rpath, cpath, inet, unix, selfctl, stdio]
processes: []
network: [runtime-api, "tcp://192.0.2.1:443"]
files: {read: [/etc/hosts], write: [/tmp/**]}
grants:
- {syscall: prctl, classes: [PR_SET_PTRACER, PR_SET_MM], because: "debugged in the field"}
- {syscall: prctl, classes: [PR_SET_MM], because: "restores checkpoints"}
- {syscall: ptrace, because: "debugged in the field"}
syscalls:
  init:
    openat: {classes: {read: 7, create: 2}, because: [learned at cold start, "reads its settings"]}
    clone: {classes: {thread: 1}, because: learned}
    socket: {classes: {AF_INET SOCK_STREAM: 1, AF_UNIX SOCK_STREAM: 3}, because: learned}
    epoll_wait: {count: 90, because: learned}
  invoke:
    openat: {classes: {read: 7}, because: learned}
    prctl: {classes: {PR_SET_NAME: 2}, because: learned}
    uname: {count: 90, because: learned}
    getcwd: {count: 90, because: learned}
"""


def test_the_same_profile_gives_the_same_bytes() -> None:
    """Two processes with different hash seeds compile a profile to the same bundle, listing included."""
    digests = set()
    for seed in ("1", "77"):
        done = subprocess.run(
            [sys.executable, "-c", _DIGEST], input=_PROFILE, capture_output=True, check=True, timeout=60,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(digests.pop()) == hashlib.sha256().digest_size * 2 + 1
