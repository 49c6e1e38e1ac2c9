"""Every test here runs as the tests' own user and, when that is root, as an unprivileged one too: `uid` and `bench`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from init_errors import InitErrors
from observed_programs import Bench, Listener
from users_and_folders import TARGETS, USERS, home_for, imports, place, user_id


@pytest.fixture(params=USERS, ids=user_id)
def uid(request: pytest.FixtureRequest) -> int | None:
    """The user that children take on; None is the tests' own."""
    found: int | None = request.param
    return found


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Each user with a folder of its own, to observe programs in."""
    with home_for(request.param) as home, place(request.param) as folder:
        if problem := imports(request.param, home):
            pytest.skip(f"uid {request.param} cannot use this interpreter: {problem}")
        yield Bench(request.param, home, folder)


@pytest.fixture
def api() -> Iterator[InitErrors]:
    """A Runtime API that notes the errors of starts."""
    with InitErrors() as found:
        yield found


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Somebody on loopback to talk to."""
    found = Listener()
    yield found
    found.close()


@pytest.fixture(scope="module")
def plain_c() -> Iterator[Path]:
    """The plain C program, where every user can execute it."""
    with place(None) as folder:
        folder.chmod(0o755)
        program = folder / "plain_c"
        subprocess.run(["cc", "-O2", "-pthread", "-o", str(program), str(TARGETS / "plain_c.c")], check=True)
        yield program
