"""The pytest plugin: a project's tests train a profile and run under it, beside xdist, pytest-cov and asyncio."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
import socket, sys

def price(number):
    return number * 2

if __name__ == "__main__":
    print(price(int(sys.argv[1])))
    if sys.argv[2:] == ["attack"]:
        try:
            socket.create_connection(("192.0.2.7", 443))
        except OSError:
            pass
    sys.exit(len(sys.argv[2:]))
"""

TESTS = """
import asyncio, os, socket, subprocess, sys, threading
import pytest
import app

APP = [sys.executable, "app.py"]

def confined(pid="self"):
    with open(f"/proc/{pid}/status") as status:
        return "Seccomp:\\t0" not in status.read()

def test_a_program_is_the_same_as_ever():
    done = subprocess.run([*APP, "3"], capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("6\\n", "", 0)
    assert subprocess.run(f"{sys.executable} app.py 1 3", shell=True).returncode == 1
    with pytest.raises(subprocess.CalledProcessError) as failed:
        subprocess.run([*APP, "3", "more"], check=True, stdout=subprocess.DEVNULL)
    assert failed.value.cmd == [*APP, "3", "more"]
    with pytest.raises(FileNotFoundError):
        subprocess.run(["no-such-program"])

@pytest.mark.asyncio
async def test_asyncio():
    started = [await asyncio.create_subprocess_exec(*APP, "1", stdout=asyncio.subprocess.PIPE) for _ in range(2)]
    assert [(await one.communicate())[0] for one in started] == [b"2\\n"] * 2

def test_the_tests_are_free(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    ended = []
    thread = threading.Thread(target=lambda: ended.append(subprocess.call([*APP, "2"])))
    thread.start()
    thread.join()
    assert ended == [0]
    assert app.price(2) == 4
    assert not confined()

@pytest.mark.skipif("ATTACK" not in os.environ, reason="no attack")
def test_attack():
    assert subprocess.call([*APP, "4", "attack"]) == 1

@pytest.mark.skipif("ATTACK" not in os.environ, reason="no attack")
def test_a_pytest_below_is_left_alone():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "free"], capture_output=True, text=True, cwd=os.getcwd()
    )
    assert done.returncode == 0, done.stdout
    assert "= sandbox =" not in done.stdout
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with integration tests of its own."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "test_app.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    return tmp_path


def _pytest(project: Path, *options: str, **more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        command, cwd=project, env={**environment, **more}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_tests_train_and_check(project: Path) -> None:
    """Tests of all sorts train a profile; under it the same pass, and a test that attacks fails.

    The process of pytest is never confined, and a pytest that a test starts does not take the options for its own.
    Coverage is as ever, under the profile also that of what the tests start.
    """
    status, said = _pytest(project, "--sandbox-learn", "price", "-n", "1", "--cov=app", "--sandbox-command", "*app.py*")
    assert status == 0, said
    assert 20 < _covered(said) < 60, said
    profile = project / "profiles" / "price.yaml"
    assert "{root}/**" in profile.read_text() or f"{project}/app.py" in profile.read_text()
    assert "socket:" not in profile.read_text()

    with (project / "pytest.ini").open("a") as file:
        file.write("addopts = --sandbox-enforce profiles/price.yaml --sandbox-command *app.py*\n")
    (project / ".coveragerc").write_text("[run]\npatch = subprocess\n")
    status, said = _pytest(project, "--cov=app", ATTACK="1")
    assert status == 1, said
    assert re.search(r"1 failed, 4 passed", said), said
    assert "FAILED test_app.py::test_attack" in said
    assert "socket(AF_INET, SOCK_STREAM" in said
    assert re.search(r"^\d started under profiles/price.yaml: 1 refused$", said, re.MULTILINE), said
    assert _covered(said) > 80, said


def _covered(said: str) -> int:
    """Percent of app.py."""
    return int(re.findall(r"^app.py +\d+ +\d+ +(\d+)%", said, re.MULTILINE)[0])


def test_a_run_that_checked_nothing_fails(project: Path) -> None:
    """Options that cannot be are errors of usage; a run in which nothing was started is not a good one."""
    assert _pytest(project, "--sandbox-learn", "a", "--sandbox-enforce", "b")[0] == pytest.ExitCode.USAGE_ERROR
    assert _pytest(project, "--sandbox-learn", "not a name")[0] == pytest.ExitCode.USAGE_ERROR
    status, said = _pytest(project, "--sandbox-learn", "price", "--sandbox-command", "*other*")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "started nothing" in said
    assert not (project / "profiles").exists()
