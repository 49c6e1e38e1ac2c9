"""The users that tests run programs as, and places that those users can reach.

As root every such test runs twice, as root and as an unprivileged uid; as anybody else once, as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

HOME = Path(__file__).resolve().parent.parent
"""The checkout."""
TARGETS = HOME / "tests" / "targets"
THUMBNAIL = HOME / "examples" / "thumbnail"
NOBODY = 65534
USERS: tuple[int | None, ...] = (None, NOBODY) if os.geteuid() == 0 else (None,)
"""None is the user of the tests themselves."""


def user_id(uid: int | None) -> str:
    """How a user is called in the names of tests."""
    return "own" if uid is None else f"uid{uid}"


_TAKE_ON = "import os, sys; os.setgroups([]); os.setgid(U); os.setuid(U); os.execv(sys.argv[1], sys.argv[1:])"


class Identity(TypedDict, total=False):
    """Arguments of subprocess that make a child somebody else's."""

    user: int
    group: int
    extra_groups: list[int]


def identity(uid: int | None) -> Identity:
    """For `subprocess.run(..., **identity(uid))`."""
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}


def as_user(uid: int | None, command: Sequence[str]) -> tuple[str, ...]:
    """A command that takes on the uid and then execs `command`, whose first part must be a path."""
    if uid is None:
        return tuple(command)
    python = os.path.realpath(sys.executable)
    return (python, "-I", "-S", "-c", _TAKE_ON.replace("U", str(uid)), *command)


@contextlib.contextmanager
def place(uid: int | None, below: str = "/tmp") -> Iterator[Path]:
    """A new folder that belongs to the user and that only open folders lead to."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-test-", dir=below))
    try:
        if uid is not None:
            os.chown(folder, uid, uid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def imports(uid: int | None, home: Path, modules: str = "sandbox.cli, awslambdaric") -> str:
    """Why the user cannot use the interpreter of these tests with the package in `home`; "" when it can."""
    code = f"import sys; sys.path.insert(0, {str(home)!r}); import {modules}; open({str(home / 'bootstrap')!r}).close()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **identity(uid),
        )
    except OSError as error:
        return f"uid {uid} cannot start {sys.executable}: {error.strerror}"
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@contextlib.contextmanager
def home_for(uid: int | None) -> Iterator[Path]:
    """The checkout, or a copy of what a command needs where the user cannot read the checkout."""
    if not imports(uid, HOME):
        yield HOME
        return
    with place(None) as copy:
        for name in ("sandbox", "profiles", "examples", "tests/targets"):
            shutil.copytree(HOME / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HOME / "bootstrap", copy)
        subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
        yield copy
