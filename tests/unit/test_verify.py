"""The verifier against mutants: each change of a compiled program is refused, or proved to change nothing."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from filter_equivalence import COMPARES, constants_flipped, difference, replaced
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour.arguments import LOW
from sandbox.behaviour.comparison import Condition
from sandbox.errors import PolicyUnverified
from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Program
from sandbox.policy import supervision
from sandbox.policy.compiler import compile_rules
from sandbox.policy.rules import Rule, Rules, rules_for
from sandbox.policy.verify import verify
from sandbox.profile.model import Profile, ProfiledFunction, Use

ITEMS = (
    ("openat", "read"), ("socket", "AF_UNIX SOCK_STREAM"), ("fcntl", "F_SETFL"), ("clone", "thread"),
    ("ioctl", "FIONREAD"), ("prlimit64", "set"), ("sendto", "connected"), ("uname", ""),
)  # fmt: skip
PROFILE = Profile(ProfiledFunction("some", runtime_api=False), frozenset(Use("run", *item) for item in ITEMS))
RULES = {arch: rules_for(PROFILE, arch) for arch in tables.ARCHES}
PROGRAMS = {arch: compile_rules(rules) for arch, rules in RULES.items()}
X86 = "x86_64"
MUTANTS = 40
"""Of each kind on each architecture; the same ones in every run."""



def many(count: int) -> Profile:
    """A profile with hundreds of rules: numbers of ioctl, and socket classes that share families and types."""
    kinds = ("AF_INET SOCK_STREAM", "AF_INET6 SOCK_STREAM", "AF_INET6 SOCK_DGRAM", "AF_NETLINK SOCK_RAW")
    commands = {Use("run", "ioctl", f"{0x5401 + 3 * i:#x}") for i in range(count)}
    sockets = {Use("run", "socket", f"{kinds[i % 4]} {7 + 5 * i:#x}") for i in range(count)}
    return Profile(PROFILE.function, frozenset(commands | sockets))


MANY = {
    (arch, name): (rules, compile_rules(rules))
    for arch in tables.ARCHES
    for both in [supervision.filters(many(12), arch)]
    for name, rules in (("plain", both.plain), ("supervised", both.supervised))
}


def refused(program: Program, rules: Rules) -> bool:
    """Whether the verifier refuses the program."""
    try:
        verify(program, rules)
    except PolicyUnverified:
        return True
    return False


def constants(program: Program, chance: random.Random) -> Iterator[Program]:
    """One bit of each constant turned: a random one of the low ten or of all."""
    for at, (code, _, _, _) in enumerate(program):
        if code != bpf.JA:
            yield constants_flipped(program, at, chance.choice((chance.randrange(10), chance.randrange(32))))


def jumps(program: Program, chance: random.Random) -> Iterator[Program]:
    """Each jump changed in one way: a step shorter or longer, both the same, swapped, or falling through."""
    for at, (code, jt, jf, k) in enumerate(program):
        if code in COMPARES:
            steps = {(jt + 1, jf), (jt - 1, jf), (jt, jf + 1), (jt, jf - 1)}
            ways = steps | {(jf, jt), (jt, jt), (jf, jf), (0, jf), (jt, 0)}
            possible = [way for way in sorted(ways) if way != (jt, jf) and max(way) < 256 and min(way) >= 0]
            yield replaced(program, at, (code, *chance.choice(possible), k))
        elif code == bpf.JA:
            yield replaced(program, at, (code, jt, jf, k + 1))


def returns(program: Program, chance: random.Random) -> Iterator[Program]:
    """Each return with another action or errno."""
    actions = (bpf.ALLOW, bpf.KILL_PROCESS, bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS, bpf.USER_NOTIF, bpf.TRAP)
    for at, (code, _, _, k) in enumerate(program):
        if code == bpf.RET_K:
            for action in actions:
                if action != k:
                    yield replaced(program, at, (code, 0, 0, action))


@pytest.mark.parametrize("arch", tables.ARCHES)
@pytest.mark.parametrize("mutate", [constants, jumps, returns])
def test_every_mutant_is_refused_or_equivalent(arch: str, mutate: type[Iterator[Program]]) -> None:
    """Turn a constant, a jump or a return: the verifier refuses, unless no call can tell the two programs apart."""
    program, rules = PROGRAMS[arch], RULES[arch]
    chance = random.Random(f"{mutate.__name__} {arch}")
    mutants = list(mutate(program, chance))  # type: ignore[call-arg]
    mutants = chance.sample(mutants, min(len(mutants), MUTANTS))
    found = 0
    for mutant in mutants:
        if refused(mutant, rules):
            found += 1
        else:
            assert difference(program, mutant) is None, [
                (at, one, two) for at, (one, two) in enumerate(zip(program, mutant, strict=True)) if one != two
            ]
    assert found > len(mutants) // 2


@st.composite
def altered(draw: st.DrawFn, program: Program) -> Program:
    """A program with one instruction altered: a bit of its constant, one of its steps, or what it returns."""
    at = draw(st.integers(0, len(program) - 1))
    code, jt, jf, k = program[at]
    step = st.integers(0, min(255, len(program) - at - 2))
    constant = st.integers(0, 31).map(lambda bit: (code, jt, jf, k ^ 1 << bit))
    jump = st.one_of(step.map(lambda to: (code, to, jf, k)), step.map(lambda to: (code, jt, to, k)))
    leave = st.sampled_from((bpf.ALLOW, bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS, bpf.USER_NOTIF))
    if code == bpf.RET_K:
        return replaced(program, at, draw(leave.map(lambda action: (code, 0, 0, action))))
    if code == bpf.JA:
        return replaced(program, at, draw(step.map(lambda to: (code, 0, 0, to))))
    return replaced(program, at, draw(st.one_of(constant, jump) if code in COMPARES else constant))


@given(st.sampled_from(sorted(MANY)), st.data())
def test_a_wrong_program_of_many_classes_is_found(which: tuple[str, str], data: st.DataObject) -> None:
    """However few vectors each of many classes gets, no altered program passes that answers some call otherwise."""
    rules, program = MANY[which]
    mutant = data.draw(altered(program))
    if not refused(mutant, rules):
        assert difference(program, mutant) is None


def test_calls_grow_with_the_classes_and_not_with_their_product() -> None:
    """Fifty classes more cost as many calls whatever the profile holds already, for one argument and for three."""
    calls = {}
    for count in (50, 100, 150):
        rules = rules_for(many(count), X86)
        calls[count] = verify(compile_rules(rules), rules).calls
    assert calls[150] - calls[100] < 1.1 * (calls[100] - calls[50])
    assert calls[100] - calls[50] < 50 * 250


@given(st.sampled_from(sorted(MANY)), st.sampled_from(("ioctl", "socket", "openat", "read")), st.data())
def test_the_verdict_is_that_of_the_rules_one_by_one(which: tuple[str, str], syscall: str, data: st.DataObject) -> None:
    """The rules' index by compared values allows what some rule allows, and nothing else."""
    rules, _ = MANY[which]
    nr = tables.numbers(rules.arch)[syscall]
    found = [{c.argument: c.value for c in rule.conditions} for rule in rules.allow.get(nr, ())]
    near = data.draw(st.sampled_from(found or [{}]))
    change = data.draw(st.sampled_from((0, 1, 1 << 31, 1 << 32, 3)))
    at = data.draw(st.integers(0, 5))
    args = [near.get(argument, 0) for argument in range(6)]
    args[at] ^= change
    allowed = rules.verdict(tables.AUDIT_ARCH[rules.arch], nr, args) == bpf.ALLOW
    assert allowed == (rules.rule_for(nr, args) is not None)


def test_the_proof_knows_a_difference() -> None:
    """The proof beside the verifier finds a call for programs that differ in one argument of one syscall."""
    changed = [at for at, (code, _, _, k) in enumerate(PROGRAMS[X86]) if code == bpf.JEQ_K and k == 0x541B]  # FIONREAD
    mutant = constants_flipped(PROGRAMS[X86], changed[0], 0)
    call = difference(PROGRAMS[X86], mutant)
    assert call
    assert call.nr == tables.numbers(X86)["ioctl"]
    assert call.args[1] & LOW in (0x541A, 0x541B)


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_rules_that_changed_are_noticed(arch: str) -> None:
    """The verifier refuses the program of a profile against the rules of one that has an item more or less."""
    for item in ITEMS:
        if item[0] not in tables.numbers(arch):
            continue
        less = Profile(PROFILE.function, frozenset(use for use in PROFILE.uses if use.call != item))
        assert refused(PROGRAMS[arch], rules_for(less, arch)), item
        assert refused(compile_rules(rules_for(less, arch)), RULES[arch]), item


def test_values_that_only_the_program_knows_are_found() -> None:
    """A back door on numbers and argument values that no rule names is found, because the program names them."""
    program = PROGRAMS[X86]
    nr = tables.numbers(X86)["socket"]
    argument = bpf.arg_offset(2, high=False)
    door: Program = (
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH), (bpf.JEQ_K, 0, 5, tables.AUDIT_ARCH[X86]), (bpf.LD_ABS, 0, 0, 0),
        (bpf.JEQ_K, 0, 3, nr), (bpf.LD_ABS, 0, 0, argument), (bpf.JEQ_K, 0, 1, 0x5EC2E7), (bpf.RET_K, 0, 0, bpf.ALLOW),
    )  # fmt: skip
    assert refused((*door, *program), RULES[X86])
    number: Program = (
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH), (bpf.JEQ_K, 0, 3, tables.AUDIT_ARCH[X86]), (bpf.LD_ABS, 0, 0, 0),
        (bpf.JEQ_K, 0, 1, 0x123456), (bpf.RET_K, 0, 0, bpf.ALLOW),
    )  # fmt: skip
    assert refused((*number, *program), RULES[X86])


@pytest.mark.parametrize("word", [bpf.arg_offset(5, high=True), 8])
def test_programs_must_not_look_at_what_no_rule_compares(word: int) -> None:
    """A program that loads an argument, or the instruction pointer, without a rule for it is refused."""
    allow = replaced(PROGRAMS[X86], 0, PROGRAMS[X86][0])
    looking: Program = ((bpf.LD_ABS, 0, 0, word), *allow)
    with pytest.raises(PolicyUnverified, match="looks at more"):
        verify(looking, RULES[X86])


@pytest.mark.parametrize(
    ("syscall", "condition"),
    [
        ("socket", Condition(0, 0x1FFFFFFFF, 2)),  # an int of which the kernel drops the upper half
        ("sendto", Condition(4, LOW, 0)),  # half an address
        ("socket", Condition(0, 0xF, 0x10)),  # a value that no masked register has
    ],
)
def test_comparisons_of_the_wrong_width_are_refused(syscall: str, condition: Condition) -> None:
    """Rules that compare other bits than the kernel reads are refused, even if the program does what they say."""
    nr = tables.numbers(X86)[syscall]
    allow = dict(RULES[X86].allow) | {nr: (Rule(syscall, "wrong", (condition,), "profile", ""),)}
    with pytest.raises(PolicyUnverified, match="than the kernel reads"):
        verify(PROGRAMS[X86], replace(RULES[X86], allow=allow))


def test_a_program_that_the_kernel_would_refuse() -> None:
    """The verifier does not run what the kernel would not take."""
    with pytest.raises(PolicyUnverified, match="the kernel would refuse"):
        verify(PROGRAMS[X86][:-1], RULES[X86])


def test_the_evidence_counts() -> None:
    """What the verifier says it did is about every number on every architecture."""
    evidence = verify(PROGRAMS[X86], RULES[X86])
    assert evidence.calls > (tables.highest(X86) + 64) * 7
    assert 5 < evidence.longest < len(PROGRAMS[X86])
