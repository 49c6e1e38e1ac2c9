"""From rules to BPF. libseccomp (through pyseccomp) builds the tree; a short prologue of ours stands before it.

The prologue holds what libseccomp cannot say: kill x32 numbers whatever the host, ENOSYS for every number that the
tables do not know (ranges), and the hottest syscalls before the tree. What it does not decide falls through.

libseccomp of a host knows foreign architectures only by the names that its release knows. So a filter for another
architecture is built under the host's own, where any number passes as it is, and the one constant that differs (the
AUDIT_ARCH_* value that the program compares first) is replaced. The verifier judges the result, not this reasoning.
"""

from __future__ import annotations

import errno
import tempfile
from functools import cache

from sandbox.errors import KernelUnsupported, PolicyUnverified
from sandbox.kernel import bpf, tables
from sandbox.kernel.bpf import Instruction, Program
from sandbox.policy.rules import Rules
from sandbox.profile.arguments import FULL
from sandbox.profile.comparison import Condition

API_LEVEL = 5  # seccomp_api_get(3): process kills and user notification; Linux 5.0
OPTIMIZE_TREE = 2  # seccomp.h: SCMP_FLTATR_CTL_OPTIMIZE, 2 sorts the syscalls into a binary tree


def compile_rules(rules: Rules) -> Program:
    """The program for a set of rules. Raises KernelUnsupported when libseccomp is missing."""
    return _prologue(rules) + _without_preamble(_tree(rules), rules.arch)


def _prologue(rules: Rules) -> Program:
    """Few steps for each number: an installing kernel runs the program for all of them (kernel/seccomp.c)."""
    # Each line is a comparison, its constant, and where it leads if it holds and if not; '' is the next line.
    lines: list[tuple[int, int, str, str]] = [(bpf.JGT_K, tables.highest(rules.arch), "beyond", "")]
    hot = sorted(rules.hot)
    halves = [half for half in (hot[: len(hot) // 2], hot[len(hot) // 2 :]) if half]
    if len(halves) == 2:
        lines.append((bpf.JGE_K, halves[1][0], "upper", ""))
    labels = {}
    for name, half in zip(("lower", "upper"), halves, strict=False):
        labels[name] = len(lines)
        lines += [(bpf.JEQ_K, nr, "allow", "holes" if nr == half[-1] else "") for nr in half]
    labels["holes"] = len(lines)
    for low, high in tables.holes(rules.arch):
        lines += [(bpf.JGE_K, low, "", "tree"), (bpf.JGT_K, high, "", "unknown")]
    lines.append((bpf.JA, 0, "tree", ""))
    labels["beyond"] = len(lines)
    if rules.arch == "x86_64":
        lines += [(bpf.JGE_K, bpf.NEGATIVE, "unknown", ""), (bpf.JGE_K, bpf.X32_BIT, "kill", "")]
    end = len(lines)
    labels |= {"unknown": end, "kill": end + 1, "allow": end + 2, "tree": end + 3}
    program: list[Instruction] = [
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH),
        (bpf.JEQ_K, 1, 0, tables.AUDIT_ARCH[rules.arch]),
        (bpf.RET_K, 0, 0, bpf.KILL_PROCESS),
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_NR),
    ]
    for at, (code, k, holds, fails) in enumerate(lines, 1):
        to, past = (labels[label] - at if label else 0 for label in (holds, fails))
        program.append((code, 0, 0, to) if code == bpf.JA else (code, to, past, k))
    program += [
        (bpf.RET_K, 0, 0, bpf.ERRNO | errno.ENOSYS),
        (bpf.RET_K, 0, 0, bpf.KILL_PROCESS),
        (bpf.RET_K, 0, 0, bpf.ALLOW),
    ]
    return tuple(program)


def _without_preamble(tree: Program, arch: str) -> Program:
    """libseccomp's program without what the prologue has looked at: the architecture and x32.

    All jumps lead forward, so that what nobody jumps over can go, and at the end the answer to another architecture, to
    which only the preamble led. Another release's preamble stays as it is.
    """
    number = (bpf.LD_ABS, bpf.OFFSET_NR)
    known = [(bpf.LD_ABS, bpf.OFFSET_ARCH), (bpf.JEQ_K, tables.AUDIT_ARCH[arch]), number]
    if arch == "x86_64":
        known += [(bpf.JGE_K, bpf.X32_BIT), (bpf.JEQ_K, 0xFFFFFFFF), number]
    if [(code, k) for code, _, _, k in tree[: len(known)]] != known:
        return tree
    rest = tree[len(known) :]
    led = {at + 1 + jump for at, (_, jt, jf, _) in enumerate(rest) for jump in (jt, jf) if jump}
    return rest[:-1] if len(rest) - 1 not in led and rest[-2][0] == bpf.RET_K else rest


@cache
def _libseccomp():  # type: ignore[no-untyped-def]  # pyseccomp ships no types
    try:
        import pyseccomp

        # libseccomp asks the running kernel what it may build; what we build is for other kernels too.
        pyseccomp.set_api(API_LEVEL)
    except (ImportError, RuntimeError, OSError) as error:  # NotImplementedError is a RuntimeError
        raise KernelUnsupported(
            f"libseccomp cannot be used: {error}",
            todo="install libseccomp2 (Debian, Ubuntu) or libseccomp, 2.5 or newer",
        ) from None
    return pyseccomp


def _tree(rules: Rules) -> Program:
    library = _libseccomp()
    filter_ = library.SyscallFilter(rules.default)
    filter_.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)
    filter_.set_attr(library.Attr.CTL_OPTIMIZE, OPTIMIZE_TREE)
    for nr, found in rules.allow.items():
        for rule in found:
            filter_.add_rule_exactly(library.ALLOW, nr, *[_compare(library, c) for c in rule.conditions])
    for nr, found in rules.static.items():
        for rule in found:
            filter_.add_rule_exactly(library.ERRNO(errno.EPERM), nr, *[_compare(library, c) for c in rule.conditions])
    for nr, number in rules.refuse.items():
        filter_.add_rule_exactly(library.ERRNO(number), nr)
    with tempfile.TemporaryFile() as file:
        filter_.export_bpf(file)
        file.seek(0)
        program = bpf.unpack(file.read())
    return _retarget(program, tables.AUDIT_ARCH[tables.machine()], tables.AUDIT_ARCH[rules.arch])


def _compare(library, condition: Condition):  # type: ignore[no-untyped-def]  # pyseccomp ships no types
    if condition.mask == FULL:
        return library.Arg(condition.argument, library.EQ, condition.value)
    return library.Arg(condition.argument, library.MASKED_EQ, condition.mask, condition.value)


def _retarget(program: Program, native: int, wanted: int) -> Program:
    if native == wanted:
        return program
    load, compare = program[0], program[1]
    if load != (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH) or compare[0] != bpf.JEQ_K or compare[3] != native:
        raise PolicyUnverified(
            "libseccomp's program does not begin with the architecture, so that it cannot be retargeted",
            todo="compile on a machine of that architecture, or report this with your libseccomp version",
        )
    return (load, (*compare[:3], wanted), *program[2:])
