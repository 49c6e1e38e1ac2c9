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
from tools.benchmarks import hosts, share, subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, interleave, output, ratio
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 21
LIMIT = 1.1
EXAMPLE = "archive"
PATIENCE = 60.0

ALONE, BESIDE = "SANDBOX_SUPERVISE=0", "supervised"
PROGRAM = "bootstrap, a static program"
FUNCTION = f"bootstrap, examples/{EXAMPLE}"
HELLO, NAMED = "hello", "named"
SUBJECTS = {HELLO: f"examples/{HELLO}", NAMED: "boto3 with a destination by name"}
NATIVE_LIMIT = 1.05
MOST_PRIVATE = 0.3
"""MiB of its own that the launcher may have beside a function of which nothing was refused."""


DUPLICATED, OWNED = "", f", {hosts.LAMBDA_LIKE}"
"""How the supervisor comes by the function's sockets: it duplicates them, or makes them where the host refuses that."""


def _native(subject: str, share: str, host: str = DUPLICATED) -> str:
    return f"launcher, {SUBJECTS[subject]}, {share}{host}"


def run(rounds: int, python: str, client: str, named_client: str) -> Report:
    """Measure each start in both ways, in turn, the default first: the native launcher. Raises BenchmarkFailed.

    `named_client` is an interpreter that has boto3; without one ('') that function is left out.
    """
    notes = [] if named_client else ["no interpreter with boto3 (tools/clients makes one): that function was skipped"]
    shares = share.available()
    if share.QUOTA not in shares:
        notes.append("no control group could be made here, so nothing was measured under a quota")
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        scratch = Path(name)
        program = subjects.c_program("instant.c", scratch, "-static")
        _, for_program = subjects.learn_program((program,), scratch)
        _, for_function = subjects.learn_handler(EXAMPLE, client, scratch)
        started = {HELLO: (client, subjects.EXAMPLES / HELLO, subjects.learn_handler(HELLO, client, scratch)[1])}
        if named_client:
            started[NAMED] = named_client, *subjects.learn_named(named_client, scratch)
        native = [str(launcher.path(platform.machine()))]
        private: list[float] = []
        cases: dict[str, Callable[[], float]] = {}
        for subject, (interpreter, root, bundle) in started.items():
            for part in shares:
                for way, supervise in ((BESIDE, "1"), (ALONE, "0")):
                    variables = {"SANDBOX_SUPERVISE": supervise, "SANDBOX_POLICY": str(bundle)}
                    measure = functools.partial(_connected, native, root, interpreter, variables, private, part)
                    cases[f"{_native(subject, part)}, {way}"] = measure
                    cases[f"{_native(subject, part, OWNED)}, {way}"] = functools.partial(hosts.lambda_like, measure)
        for way, supervise in ((BESIDE, "1"), (ALONE, "0")):
            variables = {"SANDBOX_SUPERVISE": supervise}
            cases[f"{PROGRAM}, {way}"] = functools.partial(
                _instant, [*subjects.launcher(python), program], {**variables, "SANDBOX_POLICY": str(for_program)}
            )
            cases[f"{FUNCTION}, {way}"] = functools.partial(
                _connected, subjects.launcher(python), subjects.EXAMPLES / EXAMPLE, client,
                {**variables, "SANDBOX_POLICY": str(for_function)}, [], share.WHOLE,
            )  # fmt: skip
        series = interleave(rounds, cases)
    rows = {name: _row(name, found, series) for name, found in series.items()}
    to_instruction = tuple(row for name, row in rows.items() if name.startswith(PROGRAM))
    to_api = tuple(row for row in rows.values() if row not in to_instruction)
    tables = (
        Table("from the start to the first connection to the Runtime API", "ms", 1000, ("added", "ratio"), to_api),
        Table("from the start to the first instruction", "ms", 1000, ("added", "ratio"), to_instruction),
    )
    bars = [
        ratio(f"{what}, {BESIDE} / {ALONE}", *_pair(what, series), NATIVE_LIMIT)
        for what in (_native(subject, part, host) for subject in started for part in shares
                     for host in (DUPLICATED, OWNED))
    ]  # fmt: skip
    bars += [_private(private), ratio(f"{PROGRAM}, {BESIDE} / {ALONE}", *_pair(PROGRAM, series), LIMIT)]
    interpreters = {"bootstrap and supervisor": subjects.version(python), "the function": subjects.version(client)}
    return Report("supervise", rounds, tables, tuple(bars), tuple(notes), interpreters)


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
    start_by: list[str], root: Path, client: str, variables: dict[str, str], private: list[float], part: str
) -> float:  # fmt: skip
    """Seconds until the function connects; it is ended then, and its answer to nobody does not count.

    What a launcher that stays beside it has of its own is added to `private`, in MiB.
    """
    with socket.create_server(("127.0.0.1", 0)) as api, share.shared(part) as leave:
        api.settimeout(PATIENCE)
        own = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.getsockname()[1]}", "_HANDLER": "app.handler",
            "LAMBDA_TASK_ROOT": str(root), "AWS_LAMBDA_FUNCTION_NAME": root.name, "SANDBOX_PYTHON": client,
        }  # fmt: skip
        start = time.monotonic_ns()
        process = subprocess.Popen(
            start_by, env=subjects.environment({**own, **variables}), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        leave()
        try:
            connection = api.accept()[0]
            took = (time.monotonic_ns() - start) / 1e9
            if variables["SANDBOX_SUPERVISE"] == "1":
                private.append(_private_mib(process.pid))
            connection.close()
            return took
        except TimeoutError as error:
            raise BenchmarkFailed(f"{root.name} did not ask for an event in {PATIENCE} s") from error
        finally:
            process.terminate()
            process.wait()


def _private_mib(pid: int) -> float:
    """The memory that a process shares with nobody (man 5 proc, smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "Private_Clean"))) / 1024
