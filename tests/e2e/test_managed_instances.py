"""Managed Instances mode: the real client forks a worker a slot; learned and served on the platform's emulator.

The emulator does it as root only: it takes on uid 993 and starts /var/runtime/bootstrap, in a mount namespace of ours.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from platform_emulator import BOOTSTRAP, MODE, MODES, PATIENCE, Platform, outside
from process_table import descendants
from sandbox_command import Workshop
from users_and_folders import HOME, TARGETS, imports, place

from sandbox.profile import document

WORKER = 993
"""The uid that the emulator takes on."""
TRAINED, SERVED = 3, 12
"""Workers in training, and more of them in production: the last are forked while the first are served already."""


class Instances:
    """A folder that is laid out as the platform's /var, and the emulator with it."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.observations = workshop.folder / "observed" / "observed.jsonl"
        for name in ("var/runtime", "var/task", "observed"):
            (workshop.folder / name).mkdir(parents=True)
        self.observations.parent.chmod(0o777)
        workshop.folder.chmod(0o755)
        self._around = outside(workshop.folder / "var", Path("/var"))

    def start(self, workers: int, **variables: str) -> Platform:
        """The emulator with the cases' handler under ./bootstrap."""
        ours = "".join(f"export {name}={value}\n" for name, value in variables.items())
        start = self.workshop.folder / "var" / "runtime" / "bootstrap"
        client = f"{sys.executable} -m awslambdaric cases_of_python.handler"
        start.write_text(f"#!/bin/sh\n{ours}exec {BOOTSTRAP} {client}\n")
        start.chmod(0o755)
        platforms = {
            "AWS_LAMBDA_MAX_CONCURRENCY": str(workers), "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
            "PYTHONPATH": str(TARGETS),
        }  # fmt: skip
        return Platform(self.workshop.folder, (), platforms, around=self._around)


@pytest.fixture(scope="module")
def instances() -> Iterator[Instances]:
    """The layout, where this machine allows it."""
    if os.geteuid():
        pytest.skip("only root can take on the platform's uid")
    if problem := imports(WORKER, HOME):
        pytest.skip(problem)
    with place(None) as folder:
        yield Instances(Workshop(None, HOME, folder))


def at_once(platform: Platform, events: int) -> list[dict[str, Any]]:
    """The answers to so many events at once; the emulator refuses what finds no idle worker, hence the loop."""
    end = time.monotonic() + 2 * PATIENCE
    with ThreadPoolExecutor(events) as pool:
        while True:
            found = list(pool.map(platform.post, [{"sleep": 0.5}] * events))
            if all(status == 200 for status, _ in found):
                return [body for _, body in found]
            assert time.monotonic() < end, (found, platform.log)


@pytest.fixture(scope="module")
def policy(instances: Instances) -> str:
    """What was learned on the platform in this mode, forks included, compiled."""
    workshop = instances.workshop
    with instances.start(TRAINED, SANDBOX_MODE="learn", SANDBOX_OBSERVATIONS=str(instances.observations)) as platform:
        for _ in range(2):
            assert len(at_once(platform, TRAINED)) == TRAINED
    profile, bundle = workshop.folder / "instances.yaml", workshop.folder / "instances.bundle"
    workshop.sandbox("learn", "instances", "--output", profile, "--from", instances.observations)
    learned = document.read(str(profile)).profile
    assert {use.arg_class for use in learned.uses if use.syscall == "clone"} == {"process"}
    assert "exec" not in learned.promises
    workshop.sandbox("compile", profile, "--output", bundle)
    bundle.chmod(0o755)
    return str(bundle)


@MODE
def test_more_workers_than_in_training(instances: Instances, policy: str, mode: str) -> None:
    """Every slot serves at once, confined, and starts no program; the status line says what is not told apart."""
    with instances.start(SERVED, SANDBOX_POLICY=policy, SANDBOX_SUPERVISE=MODES[mode]) as platform:
        answers = at_once(platform, SERVED)
        assert len({answer["pid"] for answer in answers}) == SERVED, platform.log
        supervisors = 2 if mode == "supervised" else 0  # with the guardian above it
        assert len(descendants(platform.pid)) == SERVED + 1 + supervisors
        for answer in answers:
            assert "Seccomp:\t2" in Path(f"/proc/{answer['pid']}/status").read_text()
        marker = instances.workshop.folder / "observed" / "marker"
        assert "not permitted" in platform.post({"spawn": str(marker)})[1]["attack"]
        assert not marker.exists()
        (line,) = platform.status_lines()
        assert any("AWS_LAMBDA_MAX_CONCURRENCY" in text for text in line["degraded"]) == bool(supervisors)
