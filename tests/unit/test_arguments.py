"""Argument classes: classify and conditions are inverse, partitions are exact, families widen nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import arguments, comparison
from sandbox.behaviour.arguments import FULL, LOW
from sandbox.behaviour.call import Call
from sandbox.behaviour.comparison import Condition, Conjunction
from sandbox.kernel import tables
from sandbox.policy.rules import families, relatives

CLASSED = tuple(name for name in sorted(tables.every_name()) if arguments.has_classes(name))
READABLE = tuple(name for name in CLASSED if not arguments.opaque(name))
PARTITIONED = tuple(name for name in READABLE if len(arguments.partition_classes(name)) > 1)

CATCH_ALL = {"clone": {"namespace"}, "limit": {"set", "other"}, "destination": {"addressed"}}
"""Classes that are wider than what classify calls by their name: the widest last, each holds those before it."""


def _interesting(syscall: str) -> list[int]:
    """Register values on which the classes of a syscall turn, and their neighbours."""
    found = {0, 1, LOW, FULL, 1 << 32, 1 << 63}
    for field in arguments.table()["syscalls"][syscall].get("fields", ()):
        if field[1] in tables.groups():
            found.update(tables.constants(field[1]).values())
    for name in arguments.partition_classes(syscall):
        for conjunction in comparison.conditions(syscall, name, "x86_64"):
            found.update(condition.value for condition in conjunction)
    near = {(value + step) & FULL for value in found for step in (-1, 0, 1)}
    return sorted(near | {value | 1 << 40 for value in near})


@st.composite
def calls(draw: st.DrawFn, names: tuple[str, ...] = CLASSED) -> tuple[str, str, list[int]]:
    """A syscall, an architecture, and six registers that are random, special, or a bit away from special."""
    syscall = draw(st.sampled_from(names))
    arch = draw(st.sampled_from(tables.ARCHES))
    special = st.sampled_from(_interesting(syscall))
    near = st.builds(lambda value, bit: value ^ 1 << bit, special, st.integers(0, 63))
    registers = st.lists(st.one_of(special, near, st.integers(0, FULL)), min_size=6, max_size=6)
    return syscall, arch, draw(registers)


def _required(syscall: str, args: list[int]) -> bool:
    (require,) = comparison.anything(syscall)
    return all(condition.holds(args) for condition in require)


def _allowed(alternatives: tuple[Conjunction, ...], args: list[int]) -> bool:
    return any(all(condition.holds(args) for condition in conjunction) for conjunction in alternatives)


@given(calls(READABLE))
def test_conditions_hold_for_what_was_classified(call: tuple[str, str, list[int]]) -> None:
    """A filter made from the class of observed registers lets these registers through."""
    syscall, arch, args = call
    name = arguments.classify(syscall, args, arch)
    assert _allowed(comparison.conditions(syscall, name, arch), args) == _required(syscall, args)


@given(calls(READABLE), st.integers(0, FULL), st.integers(0, 5))
def test_masks_decide_the_class(call: tuple[str, str, list[int]], other: int, argument: int) -> None:
    """Registers that agree under the masks have the same class, whatever their other bits hold."""
    syscall, arch, args = call
    masks = dict(arguments.masks(syscall))
    changed = list(args)
    for i in range(6):
        mask = masks.get(i, 0)
        changed[i] = args[i] & mask | (other if i == argument else args[i]) & ~mask & FULL
    assert arguments.classify(syscall, changed, arch) == arguments.classify(syscall, args, arch)


@given(calls(READABLE), st.data())
def test_no_class_lets_anothers_calls_through(call: tuple[str, str, list[int]], data: st.DataObject) -> None:
    """What the conditions of a class allow has that class, or one that a catch-all class is documented to hold."""
    syscall, arch, args = call
    name = arguments.classify(syscall, args, arch)
    conjunction = data.draw(st.sampled_from(comparison.conditions(syscall, name, arch)))
    allowed = [data.draw(st.integers(0, FULL)) for _ in args]
    for condition in conjunction:
        allowed[condition.argument] = allowed[condition.argument] & ~condition.mask & FULL | condition.value
    assert _allowed(comparison.conditions(syscall, name, arch), allowed)
    found = arguments.classify(syscall, allowed, arch)
    if name in CATCH_ALL.get(arguments.classification(syscall), ()):
        classes = arguments.partition_classes(syscall)
        assert classes.index(found) <= classes.index(name)
    else:
        assert found == name


@given(calls(PARTITIONED))
def test_every_value_has_one_class_of_a_partition(call: tuple[str, str, list[int]]) -> None:
    """Some class holds for any registers, and only a catch-all class holds beside the one that classify names."""
    syscall, arch, args = call
    if not _required(syscall, args):
        return
    name = arguments.classify(syscall, args, arch)
    wide = CATCH_ALL.get(arguments.classification(syscall), set())
    holding = {
        other
        for other in arguments.partition_classes(syscall)
        if _allowed(comparison.conditions(syscall, other, arch), args)
    }
    assert name in holding
    assert holding - wide <= {name}


@pytest.mark.parametrize("syscall", PARTITIONED)
def test_classes_are_disjoint(syscall: str) -> None:
    """No registers satisfy conjunctions of two classes, unless one of them is a documented catch-all."""
    wide = CATCH_ALL.get(arguments.classification(syscall), set())
    narrow = [name for name in arguments.partition_classes(syscall) if name not in wide]
    for one, other in itertools.combinations(narrow, 2):
        for a in comparison.conditions(syscall, one, "x86_64"):
            for b in comparison.conditions(syscall, other, "x86_64"):
                assert _contradict(a, b), (syscall, one, a, other, b)


def _contradict(one: Conjunction, other: Conjunction) -> bool:
    return any((a.value ^ b.value) & a.mask & b.mask for a in one for b in other if a.argument == b.argument)


@pytest.mark.parametrize("syscall", READABLE)
def test_masks_fit_what_the_kernel_reads(syscall: str) -> None:
    """A class looks only at bits that the kernel reads, and an address that must be null is compared whole."""
    for argument, mask in arguments.masks(syscall):
        width = tables.width(syscall, argument)
        assert mask & ~(FULL if width == 64 else LOW) == 0, (syscall, argument, hex(mask))
        if tables.is_pointer(syscall, argument):
            assert mask == FULL
        assert not (width == 64 and mask == LOW), (syscall, argument)
    (require,) = comparison.anything(syscall)
    for condition in require:
        assert condition.mask <= (FULL if tables.width(syscall, condition.argument) == 64 else LOW)


@pytest.mark.parametrize("syscall", [name for name in READABLE if not arguments.partition_classes(name)])
def test_fields_are_compared_whole(syscall: str) -> None:
    """Enumerated arguments are compared in all bits that the kernel reads; of a socket's type, that is the low four."""
    for argument, mask in arguments.masks(syscall):
        masked = syscall in ("socket", "socketpair") and argument == 1  # SOCK_TYPE_MASK, linux/net.h
        assert mask == (0xF if masked else LOW), (syscall, argument)


def test_families_agree_on_their_members() -> None:
    """Every member of a family is a syscall, in one family only, and knows all the others."""
    for member, others in families().items():
        assert member in tables.every_name()
        assert len(set(others)) == len(others)
        for other in others:
            assert set(families()[other]) | {other} == set(others) | {member}


@given(st.sampled_from(sorted(families())), st.data())
def test_a_family_never_widens(syscall: str, data: st.DataObject) -> None:
    """The members that learning one class brings in get that same class, of a partition with the same meaning."""
    classes = arguments.partition_classes(syscall) or ("",)
    arg_class = data.draw(st.sampled_from(classes))
    for other, same in relatives(Call(syscall, arg_class)):
        assert same == arg_class
        assert arguments.classification(other) == arguments.classification(syscall)
        assert arguments.has_classes(other) == arguments.has_classes(syscall)
        if arg_class:
            assert arg_class in arguments.partition_classes(other)


@pytest.mark.parametrize(
    ("learned", "brings"),
    [
        (("openat", "read"), {("open", "read"), ("openat2", "read")}),
        (("openat", "create"), {("open", "create"), ("creat", "create"), ("openat2", "create")}),
        (("clone", "thread"), {("clone3", "thread")}),
        (("vfork", "process"), {("fork", "process"), ("clone", "process"), ("clone3", "process")}),
        (("clone", "namespace"), {("clone3", "namespace")}),
        (("prlimit64", "get"), {("getrlimit", "get")}),
        (("prlimit64", "other"), set[Any]()),
        (("poll", ""), {("ppoll", ""), ("pause", "")}),
    ],
)
def test_relatives_of_known_calls(learned: tuple[str, str], brings: set[tuple[str, str]]) -> None:
    """Reading brings no creating, a thread no process, and the caller's own limits nobody else's."""
    assert set(relatives(Call(*learned))) == brings


@pytest.mark.parametrize(
    ("syscall", "args", "name"),
    [
        ("openat", (0xFFFFFF9C, 1, 0o2000000, 0, 0, 0), "read"),
        ("openat", (0xFFFFFF9C, 1, 0o1, 0, 0, 0), "write"),
        ("openat", (0xFFFFFF9C, 1, 0o1000, 0, 0, 0), "write"),  # O_RDONLY | O_TRUNC truncates
        ("openat", (0xFFFFFF9C, 1, 0o100, 0, 0, 0), "create"),
        ("openat", (0xFFFFFF9C, 1, 0o20200002, 0, 0, 0), "create"),  # O_TMPFILE | O_RDWR
        ("clone", (0x3D0F00, 0, 0, 0, 0, 0), "thread"),
        ("clone", (0x1200011, 0, 0, 0, 0, 0), "process"),
        ("clone", (0x3D0F00 | 0x10000000, 0, 0, 0, 0, 0), "namespace"),
        ("clone", (0x8011, 0, 0, 0, 0, 0), "namespace"),  # CLONE_PARENT leaves the tree
        ("clone", (0xFFFFFFFF00000000 | 0x3D0F00, 0, 0, 0, 0, 0), "thread"),
        ("mmap", (0, 4096, 5, 2, 3, 0), "exec-file"),
        ("mmap", (0, 4096, 5, 0x22, 3, 0), "exec-anon"),
        ("mmap", (0, 4096, 7, 2, 3, 0), "exec-write"),
        ("mprotect", (0, 4096, 7, 0, 0, 0), "exec-write"),
        ("socket", (2, 1 | 0x80800, 0, 0, 0, 0), "AF_INET SOCK_STREAM"),
        ("socket", (2, 1, 6, 0, 0, 0), "AF_INET SOCK_STREAM"),
        ("socket", (2, 1, 262, 0, 0, 0), "AF_INET SOCK_STREAM IPPROTO_MPTCP"),
        ("socket", (10, 3, 58, 0, 0, 0), "AF_INET6 SOCK_RAW IPPROTO_ICMPV6"),
        ("socket", (16, 3, 0, 0, 0, 0), "AF_NETLINK SOCK_RAW NETLINK_ROUTE"),
        ("socket", (1, 2, 0, 0, 0, 0), "AF_UNIX SOCK_DGRAM"),
        ("sendto", (3, 1, 1, 0, 0, 16), "connected"),
        ("sendto", (3, 1, 1, 0, 1 << 32, 16), "addressed"),
        ("prlimit64", (0, 7, 0, 1, 0, 0), "get"),
        ("prlimit64", (0, 7, 1 << 32, 0, 0, 0), "set"),
        ("prlimit64", (1, 7, 0, 1, 0, 0), "other"),
        ("fcntl", (0, 4, 0x800, 0, 0, 0), "F_SETFL"),
        ("ioctl", (0, 0x5401, 0, 0, 0, 0), "TCGETS"),
        ("ioctl", (0, 0xABCDEF01, 0, 0, 0, 0), "0xabcdef01"),
        ("kill", (1, 9, 0, 0, 0, 0), "SIGKILL"),
        ("clone3", (0, 88, 0, 0, 0, 0), ""),
        ("read", (0, 0, 0, 0, 0, 0), ""),
    ],
)
def test_known_calls(syscall: str, args: tuple[int, ...], name: str) -> None:
    """Calls as programs make them have the classes that a reviewer expects."""
    assert arguments.classify(syscall, args, "x86_64") == name


@pytest.mark.parametrize(
    ("syscall", "name"),
    [
        ("openat", "anything"),
        ("clone3", "thread"),
        ("creat", "read"),
        ("read", "some"),
        ("socket", "AF_INET"),
        ("socket", "AF_INET SOCK_STREAM IPPROTO_TCP more"),
        ("socket", "AF_INET SOCK_BANANA"),
        ("socket", "AF_INET 16"),  # 16 does not fit in the four bits of the type
        ("fcntl", ""),
        ("fcntl", str(1 << 32)),
        ("fcntl", "-1"),
    ],
)
def test_unknown_classes_are_refused(syscall: str, name: str) -> None:
    """A class that the syscall cannot have is a ValueError, never a filter that means something else."""
    with pytest.raises(ValueError, match=r"\w"):
        comparison.conditions(syscall, name, "x86_64")


@given(st.sampled_from(CLASSED), st.text(max_size=30))
def test_any_text_as_class_is_conditions_or_valueerror(syscall: str, name: str) -> None:
    """Free text as a class is refused with ValueError or gives conditions that fit the kernel's widths."""
    try:
        alternatives = comparison.conditions(syscall, name, "x86_64")
    except ValueError:
        return
    for conjunction in alternatives:
        for condition in conjunction:
            assert isinstance(condition, Condition)
            assert condition.value & ~condition.mask == 0
