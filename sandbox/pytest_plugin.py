"""A pytest plugin: a project's own integration tests train a profile, or run under one.

    pytest --sandbox-learn NAME          observe what the tests start, and write profiles/NAME.yaml
    pytest --sandbox-enforce PROFILE     start it under the profile; a test in which something is refused fails

While a test runs (its fixtures included), what it starts by subprocess or asyncio gets the bootstrap in front of its
command. Nothing else is confined: not the process of pytest with its threads and sockets, and not the workers of xdist.
Standard error stays the program's own: what the bootstrap says of the start goes to a file of ours.
"""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import sandbox
from sandbox import bundle, pytest_coverage
from sandbox.errors import ProfileError

INSIDE = "PYTEST_SANDBOX"
"""Set for what we start: a pytest that a test starts reads the same configuration, and must not confine once more."""
LASTING = "/var/tmp"
"""Where functions are seldom allowed to write, as they are in /tmp: one could change its policy there."""
FOLDER, POLICY, MEASURED = "sandbox_folder", "sandbox_policy", "sandbox_measured"
"""What the controller of xdist tells its workers."""

_HOME = Path(sandbox.__file__).resolve().parent.parent
_START = (sys.executable, "-I", "-S", str(_HOME / "bootstrap"))
_POPEN = inspect.signature(subprocess.Popen.__init__)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Four options in a group of their own."""
    group = parser.getgroup("sandbox", "train or check a sandbox profile by what the tests start")
    group.addoption("--sandbox-learn", metavar="NAME", default="", help="write a profile of what the tests start")
    group.addoption("--sandbox-enforce", metavar="PROFILE", default="", help="start it under this profile or bundle")
    group.addoption(
        "--sandbox-output",
        metavar="FILE",
        default="",
        help="with --sandbox-learn: the profile, if not profiles/NAME.yaml",
    )
    group.addoption(
        "--sandbox-command", metavar="GLOB", action="append", default=[],
        help="confine only commands like this, such as '*app.py*'; may be given several times (default: all)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Prepare once, in the controller of xdist where there is one. Raises UsageError for options that cannot be."""
    name, profile = config.getoption("--sandbox-learn"), config.getoption("--sandbox-enforce")
    if os.environ.get(INSIDE) or not (name or profile):
        return
    if name and profile:
        raise pytest.UsageError("--sandbox-learn and --sandbox-enforce cannot go together: train first, then check")
    if not sys.platform.startswith("linux"):
        raise pytest.UsageError("--sandbox-learn and --sandbox-enforce need Linux")
    if config.getoption("--collect-only"):
        return
    told: Mapping[str, str] = getattr(config, "workerinput", {})
    if told:
        confinement = Confinement(config, told[FOLDER], told[POLICY], told[MEASURED])
        config.pluginmanager.register(confinement, "sandbox-confinement")
        return
    if name:
        _check_name(name)
    folder = _folder(config, "logs")
    policy, measured = profile if os.path.isfile(os.path.join(profile, bundle.FILE)) else "", ""
    if profile and not policy:
        if pytest_coverage.measures(os.environ):
            measured = _folder(config, "coverage")
            both = pytest_coverage.with_coverage(profile, measured, _START, lambda *words: _sandbox(config, *words))
            profile, measured = (both, measured) if both else (profile, "")
        policy = _compiled(config, profile)
    confinement = Confinement(config, folder, os.path.abspath(policy) if policy else "", measured)
    config.pluginmanager.register(confinement, "sandbox-confinement")
    config.pluginmanager.register(Conclusion(config, confinement), "sandbox-conclusion")


class Confinement:
    """In each process that runs tests: puts the bootstrap in front of what a test starts."""

    def __init__(self, config: pytest.Config, folder: str, policy: str, measured: str) -> None:
        """`folder` takes observations and lines, `measured` coverage's data; `policy` is a bundle, '' to learn."""
        self.folder, self.policy, self.measured = folder, policy, measured
        self._patterns: Sequence[str] = config.getoption("--sandbox-command")
        self._lines = os.open(os.path.join(folder, f"{os.getpid()}.lines"), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._status = os.open(
            os.path.join(folder, f"{os.getpid()}.starts"), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600
        )
        self._read = 0
        self._count = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """From the set-up of a test's fixtures to their end."""
        started = subprocess.Popen.__init__

        def init(process: subprocess.Popen[Any], *args: Any, **named: Any) -> None:
            bound = _POPEN.bind(process, *args, **named)
            given = bound.arguments["args"]
            with self._confined(bound.arguments):
                started(*bound.args, **bound.kwargs)
            process.args = given  # as errors quote it

        subprocess.Popen.__init__ = init  # type: ignore[assignment]
        try:
            return (yield)
        finally:
            subprocess.Popen.__init__ = started  # type: ignore[method-assign]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A test in which something was refused has failed, whatever it made of that."""
        report = yield
        if refused := self._refused():
            text = f"refused under {item.config.getoption('--sandbox-enforce')}:\n" + "\n".join(refused)
            if report.outcome == "failed":
                report.sections.append(("sandbox", text))
            else:
                report.outcome, report.longrepr = "failed", text
        return report

    def _refused(self) -> list[str]:
        """The violations since the last question, as text."""
        from sandbox.violations import reader

        data = os.pread(self._lines, 1 << 26, self._read)
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [f"  {reader.describe(line.call)}" for line in reader.lines(io.BytesIO(whole)) if line.call]

    @contextlib.contextmanager
    def _confined(self, asked: dict[str, Any]) -> Iterator[None]:
        """Change the arguments of Popen so that the bootstrap starts the command; or leave them as they are."""
        command = _command(asked)
        environment = {key: os.fsdecode(value) for key, value in _environment(asked).items()}
        if environment.get(INSIDE) or not _exists(command[0], environment, asked.get("cwd")):
            yield
            return
        asked["env"] = {**environment, INSIDE: "1"}
        if not self._chosen(command):
            yield
            return
        self._count += 1
        left = {key: value for key, value in environment.items() if not key.startswith("SANDBOX_")}
        if self.measured and pytest_coverage.measures(left):
            left |= pytest_coverage.variables(self.measured, left)
        else:
            left = {key: value for key, value in left.items() if key not in pytest_coverage.MEASURES}
        given = (self._status, self._lines) if self.policy else (self._status,)
        if self.policy:
            ours = {"SANDBOX_POLICY": self.policy, "SANDBOX_EVENTS": f"fd:{self._lines}"}
        else:
            observations = os.path.join(self.folder, f"{os.getpid()}-{self._count}.observations")
            ours = {"SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": observations}
        asked["args"] = [*_START, *command]
        asked["env"] = {**left, **ours, "SANDBOX_STATUS": f"fd:{self._status}", INSIDE: "1"}
        asked.pop("executable", None)
        asked.pop("shell", None)
        with contextlib.ExitStack() as after:
            if asked.get("close_fds", True):
                asked["pass_fds"] = (*asked.get("pass_fds", ()), *given)
            else:
                for fd in given:
                    os.set_inheritable(fd, True)
                    after.callback(os.set_inheritable, fd, False)
            yield

    def _chosen(self, command: Sequence[str]) -> bool:
        text = shlex.join(command)
        return not self._patterns or any(fnmatch.fnmatchcase(text, pattern) for pattern in self._patterns)


class Conclusion:
    """In the process that ends the run: writes the profile, or counts what was refused."""

    def __init__(self, config: pytest.Config, confinement: Confinement) -> None:
        self._config, self._folder, self._policy = config, confinement.folder, confinement.policy
        self._measured = confinement.measured
        self._said: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A hook of xdist's, before a worker starts: what it is to use."""
        node.workerinput |= {FOLDER: self._folder, POLICY: self._policy, MEASURED: self._measured}

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Between the last test and whoever combines the data of coverage."""
        try:
            return (yield)
        finally:
            if self._measured:
                pytest_coverage.bring_home(self._measured, os.environ)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """After the last test: a run that trained or checked nothing must not look like one that did."""
        if not session.testscollected and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            return
        name = self._config.getoption("--sandbox-learn")
        good = self._learned(name, exitstatus) if name else self._checked()
        if not good and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """What came of it."""
        if self._said:
            terminalreporter.section("sandbox")
            for line in self._said:
                terminalreporter.write_line(line)

    def _learned(self, name: str, exitstatus: int) -> bool:
        files = sorted(str(path) for path in Path(self._folder).glob("*.observations"))
        if not self._started(len(files)):
            return False
        if exitstatus != pytest.ExitCode.OK:
            self._said.append("no profile was written, because tests failed: it would lack what they did not come to")
            return False
        output = self._config.getoption("--sandbox-output") or os.path.join("profiles", f"{name}.yaml")
        merge = ("--merge",) if os.path.exists(output) else ()
        words = ("learn", name, "--from", *files, "--output", output, "--generalise", "never", "--allow-failed", *merge)
        done = _sandbox(self._config, *words)
        # That a program ended with an error a test has asked for: it passed.
        told = done.stderr.splitlines() if done.returncode else ()
        self._said += [*done.stdout.splitlines(), *told]
        return done.returncode == 0

    def _checked(self) -> bool:
        from sandbox.violations import reader

        profile = self._config.getoption("--sandbox-enforce")
        refused = 0
        for path in Path(self._folder).glob("*.lines"):
            with path.open("rb") as file:
                refused += sum(bool(line.call) for line in reader.lines(file))
        starts = sum(path.read_bytes().count(b"\n") for path in Path(self._folder).glob("*.starts"))
        if not self._started(starts):
            return False
        self._said.append(f"{starts} started under {profile}: {refused or 'nothing'} refused")
        return not refused

    def _started(self, count: int) -> bool:
        if pytest_coverage.measures(os.environ) and not self._measured:
            self._said.append("coverage.py did not measure what the tests started: a run without these options does")
        if not count:
            self._said.append("the tests started nothing by subprocess or asyncio that could be confined")
        return bool(count)


def _check_name(name: str) -> None:
    """Raises UsageError for what no profile's name can be, before the tests and not behind them."""
    from sandbox.profile import document
    from sandbox.profile.model import Profile, ProfiledFunction

    try:
        document.parse(document.write(Profile(ProfiledFunction(name))), "NAME")
    except ProfileError as error:
        raise pytest.UsageError(f"--sandbox-learn: {name!r} is not a name for a function") from error


def _command(asked: Mapping[str, Any]) -> list[str]:
    """What Popen would start, as it makes it of `args`, `shell` and `executable`."""
    args = asked["args"]
    words = [args] if isinstance(args, str | bytes | os.PathLike) else list(args)
    command = [os.fsdecode(word) for word in words]
    if asked.get("shell"):
        command = ["/bin/sh", "-c", *command]
    if asked.get("executable"):
        command[:1] = [os.fsdecode(asked["executable"])]
    return command


def _environment(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    given = asked.get("env")
    return os.environ if given is None else {os.fsdecode(key): value for key, value in given.items()}


def _exists(program: str, environment: Mapping[str, str], cwd: Any) -> bool:
    """Whether there is such a program; if not, Popen is to say so as ever."""
    if "/" in program:
        return shutil.which(os.path.join(os.fsdecode(cwd or "."), program)) is not None
    return shutil.which(program, path=environment.get("PATH", os.defpath)) is not None


def _compiled(config: pytest.Config, profile: str) -> str:
    """A bundle of a profile, where the tests' programs cannot change it. Raises UsageError with what is wrong."""
    folder = _folder(config, "policy")
    made = os.path.join(folder, "bundle")
    done = _sandbox(config, "compile", profile, "--output", made, "--arch", os.uname().machine)
    if done.returncode:
        raise pytest.UsageError(f"--sandbox-enforce: {done.stderr.strip()}")
    for path in (*Path(made).iterdir(), Path(made), Path(folder)):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return made


def _sandbox(config: pytest.Config, *words: str) -> subprocess.CompletedProcess[str]:
    """The `sandbox` command in a process of its own, not measured: it forks, and this process may have threads."""
    command = [sys.executable, "-P", "-m", "sandbox", *words]
    environment = {key: value for key, value in os.environ.items() if key not in pytest_coverage.MEASURES}
    return subprocess.run(
        command, cwd=config.invocation_params.dir, env=environment, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def _folder(config: pytest.Config, what: str) -> str:
    """A folder for this run, outside of /tmp where that is possible."""
    lasting = LASTING if os.access(LASTING, os.W_OK | os.X_OK) else None
    made = tempfile.mkdtemp(prefix=f"sandbox-pytest-{what}-", dir=lasting)
    config.add_cleanup(lambda: _remove(made))
    return made


def _remove(folder: str) -> None:
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
