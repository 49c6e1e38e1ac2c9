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
    return _prologue(rules) + _tree(rules)


def _prologue(rules: Rules) -> Program:
    body: list[tuple[int, str, int]] = [(bpf.JEQ_K, "allow", nr) for nr in rules.hot]
    if rules.arch == "x86_64":
        body.append((bpf.JGE_K, "unknown", bpf.NEGATIVE))
        body.append((bpf.JGE_K, "kill", bpf.X32_BIT))
    body.append((bpf.JGT_K, "unknown", tables.highest(rules.arch)))
    program: list[Instruction] = [
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_ARCH),
        (bpf.JEQ_K, 1, 0, tables.AUDIT_ARCH[rules.arch]),
        (bpf.RET_K, 0, 0, bpf.KILL_PROCESS),
        (bpf.LD_ABS, 0, 0, bpf.OFFSET_NR),
    ]
    holes = tables.holes(rules.arch)
    # After the compares: two instructions a hole, a jump over the returns, and the three returns.
    end = len(body) + 2 * len(holes) + 1
    targets = {"allow": end, "unknown": end + 1, "kill": end + 2}
    for at, (code, target, k) in enumerate(body):
        program.append((code, targets[target] - at - 1, 0, k))
    at = len(body)
    for low, high in holes:
        program.append((bpf.JGE_K, 0, 1, low))
        program.append((bpf.JGT_K, 0, targets["unknown"] - at - 2, high))
        at += 2
    program += [
        (bpf.JA, 0, 0, 3),
        (bpf.RET_K, 0, 0, bpf.ALLOW),
        (bpf.RET_K, 0, 0, bpf.ERRNO | errno.ENOSYS),
        (bpf.RET_K, 0, 0, bpf.KILL_PROCESS),
    ]
    return tuple(program)


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
