"""An exported profile under a real container engine: runc starts the program with it, and the filter holds inside."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandbox_command import Workshop, workshop_of

PROGRAM = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
int main(int argc, char **argv) {
    if (argc > 1 && mkdir("/made", 0700)) printf("mkdir: %s\n", strerror(errno));
    puts("hello from inside");
    return 0;
}
"""

numbers = itertools.count(1)


class Engine:
    """A bundle with the program in it, and runc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, seccomp: Any, no_new_privileges: bool, uid: int, *arguments: str) -> str:
        """What the program, or the engine where it does not start it, says."""
        capabilities = ["CAP_KILL"]
        configuration: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": uid}, "args": ["/program", *arguments], "cwd": "/",
                "noNewPrivileges": no_new_privileges,
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            },
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts")]},
        }  # fmt: skip
        if seccomp:
            configuration["linux"]["seccomp"] = seccomp
        (self.folder / "config.json").write_text(json.dumps(configuration))
        runc = ("runc", "--root", str(self.folder / "state"), "run", "-b", str(self.folder))
        done = subprocess.run(
            [*runc, f"sandbox-test-{os.getpid()}-{next(numbers)}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout.decode(errors="replace")


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """Root's workshop, with the program in it."""
    if os.geteuid() or not shutil.which("runc"):
        pytest.skip("needs root and runc")
    with workshop_of(None) as made:
        source, program = made.folder / "program.c", made.folder / "rootfs" / "program"
        program.parent.mkdir()
        source.write_text(PROGRAM)
        subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
        if "hello from inside" not in (said := Engine(made.folder).run(None, True, 0)):
            pytest.skip(f"runc starts nothing here, even without a filter: {said[-200:]}")
        yield made


@pytest.fixture(scope="module")
def exported(workshop: Workshop) -> Path:
    """The program's profile as learned."""
    profile = workshop.new()
    workshop.sandbox("learn", "program", "--root", workshop.folder / "rootfs", "--output", profile, "--", "./program")
    return profile


def export(workshop: Workshop, profile: Path, *options: str) -> Any:
    """The object of `profile export`."""
    return json.loads(workshop.sandbox("profile", "export", profile, *options).stdout)


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_an_exported_profile_starts_a_container(
    workshop: Workshop, exported: Path, no_new_privileges: bool, uid: int
) -> None:
    """runc starts the program with the exported file, ten times, and what was not learned is refused inside."""
    engine, seccomp = Engine(workshop.folder), export(workshop, exported)
    for _ in range(10):
        assert engine.run(seccomp, no_new_privileges, uid).strip() == "hello from inside"
    said = engine.run(seccomp, no_new_privileges, uid, "mkdir")
    assert said.splitlines() == ["mkdir: Operation not permitted", "hello from inside"]


def test_less_is_needed_with_no_new_privileges(workshop: Workshop, exported: Path) -> None:
    """--engine no-new-privileges leaves the calls out that lower rights, and suffices where NoNewPrivs is set."""
    engine, seccomp = Engine(workshop.folder), export(workshop, exported, "--engine", "no-new-privileges")
    assert "setgroups" not in {name for entry in seccomp["syscalls"] for name in entry["names"]}
    assert engine.run(seccomp, True, 0).strip() == "hello from inside"
    assert "hello from inside" not in engine.run(seccomp, False, 0)
    assert "hello from inside" not in engine.run(export(workshop, exported, "--engine", "none"), True, 0)
