"""A pytest plugin: with --promises=PAGE a run of folders fails unless every test of theirs that the page names passed.

The page holds tables of promises, one a row: | P1 | the promise | `unit/test_x.py::test_y` |. Of a test with parameters
one case that ran is enough: which of them a machine can run is its own affair. Tests that were skipped are only listed
where anybody but root ran them, since namespaces and other users need root, and in tests/clients, whose language
runtimes no set-up of ours brings everywhere.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROW = re.compile(r"^\| (P\d+) \| (.+) \| `([^`]+)::(\w+)` \|$", re.MULTILINE)
FOLDER = "tests"
"""The paths of a page are below it."""
CLIENTS = "clients/"
"""Its tests need runtimes that a machine may not have."""


@dataclass(frozen=True)
class Promise:
    """A row of the page: `file` is below tests/."""

    number: str
    text: str
    file: str
    test: str

    @property
    def node(self) -> str:
        """The id that pytest gives the test, without parameters."""
        return f"{FOLDER}/{self.file}::{self.test}"


def promises(page: Path) -> list[Promise]:
    """The rows of a page. Raises OSError."""
    return [Promise(*row) for row in ROW.findall(page.read_text())]


class PromisedTests:
    """What became of each test, by its id without parameters; under xdist the reports of all workers come here."""

    def __init__(self, page: Path, run: list[Path]) -> None:
        """`run` are the folders and files that the run was given, absolute: what lies elsewhere another run proves."""
        root = page.parent / FOLDER
        self.written = promises(page)
        self.promises = [each for each in self.written if any((root / each.file).is_relative_to(path) for path in run)]
        self.passed: set[str] = set()
        self.skipped: set[str] = set()
        self.unproved_because: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what passed, and of what did not whether it failed or why it was skipped."""
        node = report.nodeid.partition("[")[0]
        if report.when == "call" and report.passed:
            self.passed.add(node)
        elif report.failed:
            self.unproved_because[node] = "failed"
        elif report.skipped and node not in self.unproved_because:
            self.skipped.add(node)
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
            self.unproved_because[node] = reason

    def unproved(self) -> list[tuple[Promise, str]]:
        """The promises of which no test passed, each with what became of it."""
        return [
            (promise, self.unproved_because.get(promise.node, "did not run")) for promise in self.promises
            if promise.node not in self.passed
        ]  # fmt: skip

    def may_skip(self, promise: Promise) -> bool:
        """Whether its test was skipped, and this machine or this user may not be able to run it."""
        return promise.node in self.skipped and (os.geteuid() != 0 or promise.file.startswith(CLIENTS))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that passed without them."""
        fatal = [promise for promise, _ in self.unproved() if not self.may_skip(promise)]
        if session.exitstatus == pytest.ExitCode.OK and (fatal or not self.written):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which they are."""
        if not self.written:
            terminalreporter.write_line("the page of promises holds none", red=True)
        for promise, reason in self.unproved():
            terminalreporter.write_line(f"{promise.number} is not proved: {promise.node}: {reason}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--promises."""
    says = "fail unless each test that this page names in the run's folders passed"
    parser.addoption("--promises", metavar="PAGE", help=says)


def pytest_configure(config: pytest.Config) -> None:
    """Watch the run where all reports arrive: under xdist that is the controller."""
    page = config.getoption("--promises")
    if page and not hasattr(config, "workerinput"):
        run = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
        config.pluginmanager.register(PromisedTests(config.rootpath / page, run))
