"""The observing filters that the package ships are those that the base policy gives today."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from sandbox.kernel import bpf, tables
from sandbox.learn import denials
from sandbox.policy.observer import NOTIFIED, observer_files, observer_rules
from sandbox.policy.simulator import check, simulate
from sandbox.policy.verify import verify
from sandbox.profile import base

DATA = Path(denials.DATA)
STALE = "run tools/observer"


def shipped(arch: str) -> bpf.Program:
    """The program in the package."""
    return bpf.unpack((DATA / f"{arch}.bpf").read_bytes())


def test_the_files_are_there_and_no_others() -> None:
    """The folder holds what tools/observer writes."""
    assert {path.name for path in DATA.iterdir()} == set(observer_files()), STALE


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_the_shipped_program_does_what_the_rules_say_today(arch: str) -> None:
    """By simulation: the verifier accepts the shipped bytes against rules made now, whatever libseccomp built them."""
    check(shipped(arch))
    verify(shipped(arch), observer_rules(arch))


@pytest.mark.parametrize("arch", tables.ARCHES)
def test_the_floor_passes_and_the_rest_waits(arch: str) -> None:
    """The floor is let through but for writes, every other known call is notified, unknown ones get ENOSYS."""
    program, own, numbers = shipped(arch), tables.AUDIT_ARCH[arch], tables.numbers(arch)
    floor = {entry.syscall for entry in base.floor()}
    family = {rule.syscall for found in observer_rules(arch).allow.values() for rule in found}
    for name, nr in numbers.items():
        action = simulate(program, own, nr, (0xFFFFFFFFFFFFFFFF,) * 6).action
        whole = not any(entry.syscall == name and entry.classes for entry in base.floor())
        if name in NOTIFIED or name not in floor | family:
            assert action == bpf.USER_NOTIF, name
        elif whole and name in floor:
            assert action == bpf.ALLOW, name
    assert simulate(program, own, tables.highest(arch) + 1, (0,) * 6).action == bpf.ERRNO | errno.ENOSYS
    for name in (
        "execve",
        "clone3",
        "openat2",
        "seccomp",
        "ptrace",
        "connect",
        "fork" if arch == "x86_64" else "clone",
    ):
        assert simulate(program, own, numbers[name], (0,) * 6).action == bpf.USER_NOTIF, name


def test_the_denials_are_those_of_today() -> None:
    """denied.json says for each hard-denied call what the base policy says, and nothing of what is only unreadable."""
    denied = json.loads((DATA / "denied.json").read_text())
    assert denied == json.loads(observer_files()["denied.json"]), STALE
    for entry in base.hard_deny():
        for name in entry.classes or ("",):
            assert (denied.get(entry.syscall, {}).get(name) == entry.errno) == (not entry.unreadable)
