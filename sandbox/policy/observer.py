"""The filter under which functions are observed: the floor passes, everything else waits for the recorder.

Built ahead by tools/observer into sandbox/learn/data, so that observing needs neither YAML nor libseccomp.
"""

from __future__ import annotations

import json
from dataclasses import replace

from sandbox.kernel import bpf, tables
from sandbox.policy.compiler import compile_rules
from sandbox.policy.rules import Rules, rules_for
from sandbox.policy.verify import verify
from sandbox.profile import base
from sandbox.profile.model import Profile, ProfiledFunction

NOTIFIED = ("write", "writev")
"""Part of the floor, and yet notified: some clients send their Runtime API requests with them."""


def observer_rules(arch: str) -> Rules:
    """The floor's rules, and notification for the rest."""
    rules = rules_for(Profile(ProfiledFunction("observer", runtime_api=False)), arch)
    numbers = tables.numbers(arch)
    dropped = {numbers[name] for name in (*NOTIFIED, "execve")}
    return replace(
        rules,
        allow={nr: found for nr, found in rules.allow.items() if nr not in dropped},
        refuse={},
        default=bpf.USER_NOTIF,
    )


def observer_files() -> dict[str, bytes]:
    """The files of sandbox/learn/data by name: a program for each architecture, the hard deny, and dangerous calls."""
    files = {}
    for arch in tables.ARCHES:
        rules = observer_rules(arch)
        program = compile_rules(rules)
        verify(program, rules)
        files[f"{arch}.bpf"] = bpf.pack(program)
    denied: dict[str, dict[str, str]] = {}
    for entry in base.hard_deny():
        if not entry.unreadable:
            denied.setdefault(entry.syscall, {}).update(dict.fromkeys(entry.classes or ("",), entry.errno))
    dangerous = {entry.syscall: sorted(entry.classes) for entry in base.dangerous()}
    for name, data in (("denied", denied), ("dangerous", dangerous)):
        files[f"{name}.json"] = (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
    return files
