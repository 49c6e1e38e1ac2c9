"""The listing that people read beside a compiled filter: every rule with its origin, and the instructions."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping

from sandbox.behaviour.arguments import FULL
from sandbox.behaviour.comparison import Condition
from sandbox.behaviour.destination import written
from sandbox.kernel import bpf, tables
from sandbox.policy.rules import Rule, Rules
from sandbox.policy.verify import Evidence
from sandbox.profile import document
from sandbox.profile.model import Profile

ORIGINS = ("profile", "family", "grant", "launch", "runtime client", "floor")


def listing(
    profile: Profile, values: Mapping[str, object], told: Mapping[str, object], rules: Mapping[str, Rules],
    programs: Mapping[str, bpf.Program], evidence: Mapping[str, Evidence],
) -> str:  # fmt: skip
    """What policy.bin says, then the rules of all architectures and their instructions, as one text."""
    lines = [f"filter of {profile.function.name}"]
    lines += [f"profile: sha256:{hashlib.sha256(document.write(profile).encode()).hexdigest()}", "", "policy:"]
    lines += [f"  {name}: {json.dumps(value, default=written)}" for name, value in values.items()]
    lines += ["", "for the supervisor:", *(f"  {name}: {json.dumps(value)}" for name, value in told.items())]
    for arch, found in rules.items():
        seen = evidence[arch]
        lines += ["", f"{arch}: {len(found.allow)} syscalls allowed; verified on {seen.calls} calls, "
                      f"the longest way is {seen.longest} instructions"]  # fmt: skip
        lines += _section(found)
    for arch, program in programs.items():
        lines += ["", f"{arch}: {len(program)} instructions", disassemble(program)]
    return "\n".join(lines) + "\n"


def _section(rules: Rules) -> Iterator[str]:
    names = tables.names(rules.arch)
    everything = [rule for found in rules.allow.values() for rule in found]
    for origin in ORIGINS:
        members = sorted((rule for rule in everything if rule.origin == origin), key=lambda rule: rule.call)
        if members:
            yield f"  allowed by {origin}:"
            yield from (f"    {describe(rule):60} {rule.detail}".rstrip() for rule in members)
    if rules.refuse:
        yield "  refused with another errno than EPERM:"
        yield from (f"    {names[nr]:60} {errno.errorcode[number]}" for nr, number in rules.refuse.items())
    yield f"  unknown numbers (above {tables.highest(rules.arch)} and in holes): ENOSYS"
    yield "  foreign architectures" + (", x32 numbers" if rules.arch == "x86_64" else "") + ": the process is killed"


def describe(rule: Rule) -> str:
    """`openat read  [flags ...]` of a rule."""
    compared = " and ".join(map(_condition, rule.conditions))
    return f"{rule.call}  if {compared}" if compared else str(rule.call)


def _condition(condition: Condition) -> str:
    if condition.mask == FULL:
        return f"arg{condition.argument} == {condition.value:#x}"
    return f"arg{condition.argument} & {condition.mask:#x} == {condition.value:#x}"


def disassemble(program: bpf.Program) -> str:
    """The instructions, one a line, with absolute jump targets."""
    lines = []
    for at, (code, jt, jf, k) in enumerate(program):
        if code & 7 == 5:
            target = f"-> {at + 1 + k}" if code == bpf.JA else f"{k:#x} ? {at + 1 + jt} : {at + 1 + jf}"
            lines.append(f"{at:4} {_NAMES.get(code, hex(code)):5} {target}")
        else:
            lines.append(f"{at:4} {_NAMES.get(code, hex(code)):5} {k:#x}")
    return "\n".join(lines)


_NAMES = {
    bpf.LD_ABS: "ld", bpf.JEQ_K: "jeq", bpf.JGT_K: "jgt", bpf.JGE_K: "jge", bpf.JSET_K: "jset", bpf.JA: "ja",
    bpf.RET_K: "ret", bpf.AND_K: "and", bpf.OR_X: "or x", bpf.XOR_K: "xor", bpf.ST: "st", bpf.LDX_MEM: "ldx m",
    bpf.LD_MEM: "ld m", bpf.TAX: "tax",
}  # fmt: skip
