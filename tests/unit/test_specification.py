"""SPECIFICATION.md: every promise is numbered and has a test; a whole run fails unless each of them passed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from promised_tests import Promise, promises
from users_and_folders import HOME

PAGE = HOME / "SPECIFICATION.md"
PROMISES = promises(PAGE)
TESTS = """
import os, pytest
def test_passes(): pass
@pytest.mark.skip(reason="not on this machine")
def test_skipped(): pass
@pytest.mark.parametrize("number", [1, 2])
def test_cases(number):
    if number == 1:
        pytest.skip("only the other one")
@pytest.mark.xfail(reason="known")
def test_expected(): assert False
"""


def test_promises_are_numbered_in_order() -> None:
    """Every line of a table is a promise, and none is left out or counted twice."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| P")]
    assert len(lines) == len(PROMISES) > 50
    assert [promise.number for promise in PROMISES] == [f"P{number}" for number in range(1, len(PROMISES) + 1)]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: str(promise.number))
def test_each_promise_has_its_test(promise: Promise) -> None:
    """The test that a promise names is defined in the file that it names."""
    tree = ast.parse((HOME / "tests" / promise.file).read_text())
    assert promise.test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def pytest_of(target: str, line: int = -1) -> list[str]:
    """The command by which this target of make runs pytest: its last line, or another."""
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", target], cwd=HOME, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )  # fmt: skip
    return shown.stdout.splitlines()[line].split()


def test_make_asks_for_the_promises() -> None:
    """The commands of `make pytest` and `make test-clients` name this page; what they run holds each promised test."""
    commands = [pytest_of("pytest"), pytest_of("test-clients", -2), pytest_of("test-clients")]
    assert [f"--promises={PAGE.name}" in command for command in commands] == [True, True, True]
    done = subprocess.run([*commands[0], "--help"], cwd=HOME, capture_output=True, text=True, check=False)
    assert (done.returncode, "--promises=PAGE" in done.stdout) == (0, True), done.stderr
    folders = tuple(f"{word}/" for command in commands for word in command if word.startswith("tests/"))
    assert [promise for promise in PROMISES if not promise.node.startswith(folders)] == []


def run_with_promises(folder: Path, names: list[str], *options: str) -> tuple[int, list[str]]:
    """A run over TESTS with a page that names these: its exit status, and the lines about promises."""
    (folder / "tests" / "unit").mkdir(parents=True)
    (folder / "tests" / "unit" / "test_it.py").write_text(TESTS)
    rows = [f"| P{number} | It holds. | `unit/test_it.py::{name}` |" for number, name in enumerate(names, 1)]
    (folder / "page.md").write_text("\n".join(["| | promise | test |", "|---|---|---|", *rows]))
    (folder / "pytest.ini").write_text("[pytest]\n")
    return run_over(folder, *options)


def run_over(folder: Path, *options: str) -> tuple[int, list[str]]:
    """A run in this folder with the promises of its page: its exit status, and the lines about promises."""
    # Without the plugins that the run does not need, it takes half the time.
    plugins = ["-p", "promised_tests", *(["-p", "xdist"] if "-n" in options else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "--promises", "page.md", *options],
        env={**os.environ, "PYTHONPATH": str(HOME / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, [line for line in done.stdout.splitlines() if "promise" in line or "not proved" in line]


def test_a_run_that_keeps_its_promises_passes(tmp_path: Path) -> None:
    """Tests that passed are enough, of one with parameters the case that ran; under xdist, too."""
    assert run_with_promises(tmp_path / "alone", ["test_passes", "test_cases"]) == (0, [])
    assert run_with_promises(tmp_path / "many", ["test_passes", "test_cases"], "-n", "2") == (0, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="what only root can run is listed for others, and fails nothing")
@pytest.mark.parametrize(("name", "reason", "workers"), [
    ("test_skipped", "Skipped: not on this machine", ("-n", "2")), ("test_expected", "expected to fail", ()),
])  # fmt: skip
def test_a_promised_test_that_is_skipped_fails_the_run(
    tmp_path: Path, name: str, reason: str, workers: tuple[str, ...]
) -> None:
    """Skipped in every case, or expected to fail: the run fails and says which, and why."""
    line = f"P2 is not proved: tests/unit/test_it.py::{name}: {reason}"
    assert run_with_promises(tmp_path, ["test_passes", name], *workers) == (1, [line])


def test_a_promised_test_that_did_not_run_fails_the_run(tmp_path: Path) -> None:
    """Deselected, or not there at all."""
    deselected = run_with_promises(tmp_path / "one", ["test_passes", "test_cases"], "-k", "passes")
    assert deselected == (1, ["P2 is not proved: tests/unit/test_it.py::test_cases: did not run"])
    missing = run_with_promises(tmp_path / "other", ["test_nowhere"])
    assert missing == (1, ["P1 is not proved: tests/unit/test_it.py::test_nowhere: did not run"])


def test_a_run_answers_for_its_own_folders(tmp_path: Path) -> None:
    """A promise of a folder that was not run is another run's; one of tests/clients may be skipped, and is named."""
    (tmp_path / "tests" / "clients").mkdir(parents=True)
    (tmp_path / "tests" / "clients" / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    row = "| P1 | It holds. | `clients/test_it.py::test_skipped` |"
    (tmp_path / "page.md").write_text(row)
    (tmp_path / "tests" / "unit").mkdir()
    (tmp_path / "tests" / "unit" / "test_other.py").write_text(TESTS)
    assert run_over(tmp_path, "tests/unit") == (0, [])
    line = "P1 is not proved: tests/clients/test_it.py::test_skipped: Skipped: not on this machine"
    assert run_over(tmp_path, "tests/unit", "tests/clients") == (0, [line])
    assert run_over(tmp_path, "tests/clients", "-k", "passes")[0] == 1


def test_a_page_without_promises_fails_the_run(tmp_path: Path) -> None:
    """A page that cannot be read as one promises nothing, and that is no success."""
    assert run_with_promises(tmp_path, []) == (1, ["the page of promises holds none"])
