"""What a supervisor adds to a start: until the program's first instruction, and until a function asks for an event."""

from __future__ import annotations

import functools
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import launcher
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, interleave, output, ratio
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 41
LIMIT = 1.1
EXAMPLE = "archive"
PATIENCE = 30.0

ALONE, BESIDE = "SANDBOX_SUPERVISE=0", "supervised"
PROGRAM = "a static program: its first instruction"
FUNCTION = f"examples/{EXAMPLE}: its first connection to the Runtime API"
HELLO = "hello"
NATIVE = f"native launcher, examples/{HELLO}: its first connection to the Runtime API"
NATIVE_LIMIT = 1.05
MOST_PRIVATE = 0.3
"""MiB of its own that the launcher may have beside a function of which nothing was refused."""


def run(rounds: int, python: str, client: str) -> Report:
    """Measure both starts in both ways, in turn. Raises BenchmarkFailed."""
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        scratch = Path(name)
        program = subjects.c_program("instant.c", scratch, "-static")
        _, for_program = subjects.learn_program((program,), scratch)
        _, for_function = subjects.learn_handler(EXAMPLE, client, scratch)
        _, for_hello = subjects.learn_handler(HELLO, client, scratch)
        native = [str(launcher.path(platform.machine()))]
        private: list[float] = []
        cases: dict[str, Callable[[], float]] = {}
        for way, supervise in ((ALONE, "0"), (BESIDE, "1")):
            environment = {"SANDBOX_SUPERVISE": supervise}
            cases[f"{PROGRAM}, {way}"] = functools.partial(
                _instant, [*subjects.launcher(python), program], {**environment, "SANDBOX_POLICY": str(for_program)}
            )
            cases[f"{FUNCTION}, {way}"] = functools.partial(
                _connected, subjects.launcher(python), EXAMPLE, client,
                {**environment, "SANDBOX_POLICY": str(for_function)}, private,
            )  # fmt: skip
            cases[f"{NATIVE}, {way}"] = functools.partial(
                _connected, native, HELLO, client, {**environment, "SANDBOX_POLICY": str(for_hello)}, private
            )
        series = interleave(rounds, cases)
    rows = tuple(_row(name, found, series) for name, found in series.items())
    table = Table("from the bootstrap's start", "ms", 1000, ("added", "ratio"), rows)
    bars = (
        ratio(f"{PROGRAM}, {BESIDE} / {ALONE}", *_pair(PROGRAM, series), LIMIT),
        ratio(f"{NATIVE}, {BESIDE} / {ALONE}", *_pair(NATIVE, series), NATIVE_LIMIT),
        _private(private),
    )
    interpreters = {"bootstrap and supervisor": subjects.version(python), "the function": subjects.version(client)}
    return Report("supervise", rounds, (table,), bars, (), interpreters)


def _private(found: list[float]) -> Bar:
    """What the launcher has of its own once the function has connected, by the rounds in which it supervised."""
    text = "private memory of the launcher beside it, before the first refusal, in MiB"
    spread = Series(tuple(found)).quartiles
    return Bar(text, Series(tuple(found)).median, MOST_PRIVATE, spread)


def _pair(what: str, series: dict[str, Series]) -> tuple[Series, Series]:
    return series[f"{what}, {BESIDE}"], series[f"{what}, {ALONE}"]


def _row(name: str, found: Series, series: dict[str, Series]) -> Row:
    what, _, way = name.rpartition(", ")
    if way == ALONE:
        return Row(name, found, ("", ""))
    beside, alone = _pair(what, series)
    return Row(name, found, (f"{(beside.median - alone.median) * 1000:.1f}", f"{beside.median / alone.median:.2f}"))


def _instant(command: list[str], variables: dict[str, str]) -> float:
    start = time.monotonic_ns()
    return (int(output(command, subjects.environment(variables))) - start) / 1e9


def _connected(
    start_by: list[str], example: str, client: str, variables: dict[str, str], private: list[float]
) -> float:  # fmt: skip
    """Seconds until the function connects; it is ended then, and its answer to nobody does not count.

    What a launcher that stays beside it has of its own is added to `private`, in MiB.
    """
    root = subjects.EXAMPLES / example
    with socket.create_server(("127.0.0.1", 0)) as api:
        api.settimeout(PATIENCE)
        own = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.getsockname()[1]}", "_HANDLER": "app.handler",
            "LAMBDA_TASK_ROOT": str(root), "AWS_LAMBDA_FUNCTION_NAME": example, "SANDBOX_PYTHON": client,
        }  # fmt: skip
        start = time.monotonic_ns()
        process = subprocess.Popen(
            start_by, env=subjects.environment({**own, **variables}), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            connection = api.accept()[0]
            took = (time.monotonic_ns() - start) / 1e9
            if example == HELLO and variables["SANDBOX_SUPERVISE"] == "1":
                private.append(_private_mib(process.pid))
            connection.close()
            return took
        except TimeoutError as error:
            raise BenchmarkFailed(f"examples/{example} did not ask for an event in {PATIENCE} s") from error
        finally:
            process.terminate()
            process.wait()


def _private_mib(pid: int) -> float:
    """The memory that a process shares with nobody (man 5 proc, smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "Private_Clean"))) / 1024
