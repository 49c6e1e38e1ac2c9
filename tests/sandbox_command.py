"""The `sandbox` command as people use it: a user, a folder of its own, and commands in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from output_schemas import check, validator
from users_and_folders import home_for, identity, imports, place

LIMIT = 120
"""Seconds for one command."""

Event = Mapping[str, Any]


class Workshop:
    """A user, a folder of its own, and the `sandbox` command."""

    def __init__(self, uid: int | None, home: Path, folder: Path) -> None:
        self.uid, self.home, self.folder = uid, home, folder
        self.targets = home / "tests" / "targets"
        self._numbers = itertools.count(1)

    def sandbox(
        self, *arguments: str | Path, expect: int | None = 0, more: Mapping[str, str] = MappingProxyType({}),
        given: str = "", pass_fds: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run the command; `expect` is its exit status, None for any, `more` are variables, `given` its input.

        It inherits the descriptors `pass_fds`.
        """
        environment = {"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": str(self.home), "LANG": "C.UTF-8", **more}
        source: dict[str, Any] = {"input": given} if given else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *map(str, arguments)], cwd=self.folder, env=environment, text=True,
            capture_output=True, **source, timeout=LIMIT, check=False, pass_fds=pass_fds, **identity(self.uid),
        )  # fmt: skip
        assert "/sandbox/cli/" not in done.stderr, done.stderr  # a traceback of the command itself
        if expect is not None:
            assert done.returncode == expect, done.stdout + done.stderr
            check([str(word) for word in arguments], done.stdout)
        return done

    def events(self, *events: Event) -> Path:
        """A .jsonl file of these events."""
        path = self.folder / f"events-{next(self._numbers)}.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        path.chmod(0o644)
        return path

    def new(self, suffix: str = ".yaml") -> Path:
        """A name that nothing has yet."""
        return self.folder / f"new-{next(self._numbers)}{suffix}"

    def invoke(
        self, profile: Path, start: Sequence[str], events: Path, expect: int | None = 0,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Serve events under enforcement; the results."""
        options = start[: start.index("--")] if "--" in start else start
        command = start[start.index("--") :] if "--" in start else ()
        arguments: tuple[str | Path, ...] = ("invoke", profile, *options, "--events", events, "--json", *command)
        done = self.sandbox(*arguments, expect=expect, more=more)
        (status, *_) = (line for line in done.stderr.splitlines() if line.startswith('{"event": "sandbox"'))
        validator("start/status").validate(json.loads(status))
        assert '"mode": "enforce"' in status
        return [json.loads(line) for line in done.stdout.splitlines()]


def compiled(workshop: Workshop, name: str, *options: str) -> str:
    """Learn and compile; the bundle's folder."""
    profile, bundle = workshop.folder / f"{name}.yaml", workshop.folder / f"{name}.bundle"
    workshop.sandbox("learn", name, "--no-verify", *options, "--output", profile, "--cold-starts", "1")
    workshop.sandbox("compile", profile, "--output", bundle)
    return str(bundle)


@contextlib.contextmanager
def workshop_of(uid: int | None, below: str = "/tmp") -> Iterator[Workshop]:
    """A user's workshop. Skips the test where the user cannot use this interpreter.

    Training starts functions with an empty /tmp: data beside a function's own folder lie `below` another.
    """
    with home_for(uid) as home, place(uid, below) as folder:
        if problem := imports(uid, home):
            pytest.skip(problem)
        yield Workshop(uid, home, folder)
