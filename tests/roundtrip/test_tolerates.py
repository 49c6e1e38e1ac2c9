"""A refusal that training survived: the same answer under enforcement, and only at what it was aimed at."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from sandbox_command import Workshop

from sandbox.profile import document
from sandbox.profile.model import Profile, Tolerated


@pytest.fixture(scope="module")
def learned(workshop: Workshop) -> tuple[Path, Profile, str]:
    """The profile of a handler that tries to read its parent's memory, and what `learn` said."""
    path = workshop.new()
    start = ("--handler", "single_copy.handler", "--root", workshop.targets, "--cold-starts", "1")
    told = workshop.sandbox("learn", "copy", *start, "--events", workshop.events({}), "--output", path).stdout
    return path, document.read(str(path)).profile, told


def test_learn_writes_what_was_survived(learned: tuple[Path, Profile, str]) -> None:
    """Call, phase, aim and errno stand in the profile, and learn says so."""
    _, profile, told = learned
    because = frozenset({"learned from every event"})
    assert profile.tolerates == {Tolerated("invoke", "process_vm_readv", "", "child", "EPERM", because)}
    assert "tolerated from now on: process_vm_readv at child in invoke, EPERM" in told


def test_the_same_event_is_served_and_another_target_ends_the_function(
    workshop: Workshop, learned: tuple[Path, Profile, str]
) -> None:
    """Enforced: EPERM and the other way for what was learned; the end for the same call at another process."""
    path = learned[0]
    start = ("--handler", "single_copy.handler", "--root", workshop.targets, "--json")
    done = workshop.sandbox("invoke", path, *start, "--events", workshop.events({}, {}))
    results = [json.loads(line["result"]) for line in map(json.loads, done.stdout.splitlines()) if "result" in line]
    assert results == [{"how": "pipe", "errno": errno.EPERM}] * 2
    lines = [json.loads(line) for line in done.stderr.splitlines() if '"violation"' in line]
    assert [line["risk"] for line in lines if line["syscall"] == "process_vm_readv"] == ["low"] * 2
    ended = workshop.sandbox("invoke", path, *start, "--events", workshop.events({"at": 1}), expect=1)
    assert '"terminated"' in ended.stderr + ended.stdout


def test_observations_from_elsewhere_tolerate_nothing(workshop: Workshop) -> None:
    """`learn --from` writes no such entry; it says how a person would."""
    seen, path = workshop.new(".jsonl"), workshop.new()
    code = "import ctypes; ctypes.CDLL(None).process_vm_readv(__import__('os').getpid(), None, 0, None, 0, 0)"
    environment = {**os.environ, "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(seen)}
    command = [str(workshop.home / "bootstrap"), "/usr/bin/python3", "-I", "-S", "-c", code]
    subprocess.run(command, env=environment, cwd=workshop.folder, check=True)
    told = workshop.sandbox("learn", "elsewhere", "--from", seen, "--output", path).stdout
    assert not document.read(str(path)).profile.tolerates
    assert "to tolerate it: tolerates: [{call: process_vm_readv, phase: run, at: self, errno: EPERM," in told
