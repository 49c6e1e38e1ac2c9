"""What a policy, and a supervisor beside it, add to a warm invocation on the platform's emulator."""

from __future__ import annotations

import contextlib
import http.client
import operator
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, Series, output
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 31
LIMIT = 1.03
WARMING, TURNS, EVENTS = 60, 20, 15
"""Invocations that do not count; then in each round so many turns of so many invocations for every way."""
PATIENCE = 20.0
EMULATOR = subjects.ROOT / ".cache" / "emulator" / "aws-lambda-rie"
BARE, AGAIN, UNSUPERVISED, SUPERVISED = "bare", "bare, a second one", "under the policy", "under policy and supervisor"
RELAYED, ACTIVITY = "supervised, with the relay", "supervised, a line an invocation"


@dataclass(frozen=True)
class Subject:
    """A function: its bare command, what stands behind the bootstrap, and its bundle."""

    name: str
    bare: Sequence[str]
    variables: Mapping[str, str]
    policy: Path
    event: bytes

    def ways(self, python: str) -> dict[str, tuple[Sequence[str], dict[str, str]]]:
        """Command and environment of each way to start it."""
        plain = subjects.environment(self.variables)
        wrapped = [*subjects.launcher(python), *self.bare]
        policy = {"SANDBOX_POLICY": str(self.policy)}
        return {
            BARE: (self.bare, plain),
            UNSUPERVISED: (wrapped, {**plain, **policy, "SANDBOX_SUPERVISE": "0"}),
            SUPERVISED: (wrapped, {**plain, **policy, "SANDBOX_SUPERVISE": "1"}),
            RELAYED: (wrapped, {**plain, **policy, "SANDBOX_REQUEST_ID": "relay"}),
            ACTIVITY: (wrapped, {**plain, **policy, "SANDBOX_ACTIVITY": "summary"}),
            AGAIN: (self.bare, plain),
        }


def run(rounds: int, python: str, client: str) -> Report:
    """Time warm invocations in all ways, in turn. Raises BenchmarkFailed."""
    if not os.access(EMULATOR, os.X_OK):
        raise BenchmarkFailed(f"{EMULATOR.relative_to(subjects.ROOT)} is missing; tools/setup puts it there")
    tables, bars = [], []
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-") as name:
        scratch = Path(name)
        for subject in (_python(client, scratch), _c(scratch)):
            series = _measure(subject, rounds, python, scratch)
            tables.append(_table(subject, series))
            bars += [_bar(subject, series, way) for way in (UNSUPERVISED, SUPERVISED)]
    notes = (
        f"a round starts all of them anew and counts the median of {TURNS * EVENTS} invocations of each, in turns of "
        f"{EVENTS}; what is added, and the ratios, are medians of the single rounds' own",
        "the second bare one shows how much two starts of the same thing differ",
    )
    versions = {"launcher and supervisor": subjects.version(python), "handler": subjects.version(client)}
    return Report("warm", rounds, tuple(tables), tuple(bars), notes, versions)


def _python(client: str, scratch: Path) -> Subject:
    _, bundle = subjects.learn_handler("hello", client, scratch)
    root = subjects.EXAMPLES / "hello"
    variables = {"PYTHONPATH": str(root), "LAMBDA_TASK_ROOT": str(root)}
    command = [client, "-m", "awslambdaric", "app.handler"]
    return Subject("hello, awslambdaric", command, variables, bundle, (root / "events" / "2-name.json").read_bytes())


def _c(scratch: Path) -> Subject:
    compiler = shutil.which("cc")
    if not compiler:
        raise BenchmarkFailed("there is no C compiler (cc); install gcc")
    root, program = subjects.EXAMPLES / "c-runtime", scratch / "runtime"
    output([compiler, "-O2", "-std=c11", "-o", str(program), str(root / "runtime.c")], subjects.environment())
    _, bundle = subjects.learn_runtime("c-runtime", (str(program),), scratch)
    variables = {"LAMBDA_TASK_ROOT": str(root)}
    return Subject("c-runtime", [str(program)], variables, bundle, (root / "events" / "1-text.json").read_bytes())


def _measure(subject: Subject, rounds: int, python: str, scratch: Path) -> dict[str, Series]:
    taken: dict[str, list[float]] = {}
    for number in range(-1, rounds):
        for way, value in _round(subject, python, scratch).items():
            if number >= 0:
                taken.setdefault(way, []).append(value)
    return {way: Series(tuple(values)) for way, values in taken.items()}


def _round(subject: Subject, python: str, scratch: Path) -> dict[str, float]:
    taken: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        served = {
            way: stack.enter_context(_platform(command, environment, scratch))
            for way, (command, environment) in subject.ways(python).items()
        }
        for connection in served.values():
            for _ in range(WARMING):
                _invoke(connection, subject.event)
        order = list(served)
        for _ in range(TURNS):
            order.append(order.pop(0))  # nobody always comes first
            for way in order:
                taken.setdefault(way, []).extend(_invoke(served[way], subject.event) for _ in range(EVENTS))
    return {way: statistics.median(values) for way, values in taken.items()}


@contextlib.contextmanager
def _platform(
    command: Sequence[str], environment: Mapping[str, str], scratch: Path
) -> Iterator[http.client.HTTPConnection]:
    """The emulator with a function, and a connection to it; ended with all that it started."""
    port, api = _free_port(), _free_port()
    addresses = (
        "--runtime-interface-emulator-address", f"127.0.0.1:{port}", "--runtime-api-address", f"127.0.0.1:{api}",
    )  # fmt: skip
    process = subprocess.Popen(
        [EMULATOR, *addresses, *command], cwd=scratch, env=dict(environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                connection.connect()
                break
            if process.poll() is not None or time.monotonic() > end:
                raise BenchmarkFailed(f"the emulator did not start with {' '.join(command)}")
            time.sleep(0.01)
        yield connection
    finally:
        connection.close()
        process.send_signal(signal.SIGTERM)
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _invoke(connection: http.client.HTTPConnection, event: bytes) -> float:
    started = time.perf_counter()
    connection.request("POST", "/2015-03-31/functions/function/invocations", event)
    reply = connection.getresponse()
    body = reply.read()
    took = time.perf_counter() - started
    if reply.status != 200 or b"errorType" in body:
        raise BenchmarkFailed(f"an invocation failed: {reply.status} {body.decode(errors='replace')[:300]}")
    return took


def _table(subject: Subject, series: Mapping[str, Series]) -> Table:
    rows = []
    for way in (BARE, AGAIN, UNSUPERVISED, SUPERVISED, RELAYED, ACTIVITY):
        added, ratio = series[way].combine(operator.sub, series[BARE]), _ratio(series, way)
        low, high = ratio.quartiles
        cells = (f"{added.median * 1e6:.0f}", f"{ratio.median:.3f}", f"{low:.3f} to {high:.3f}")
        rows.append(Row(way, series[way], ("", "", "") if way == BARE else cells))
    columns = ("added", "x bare", "its quartiles")
    return Table(f"a warm invocation of {subject.name}", "us", 1e6, columns, tuple(rows), 0)


def _ratio(series: Mapping[str, Series], way: str) -> Series:
    return series[way].combine(operator.truediv, series[BARE])


def _bar(subject: Subject, series: Mapping[str, Series], way: str) -> Bar:
    found = _ratio(series, way)
    return Bar(f"{subject.name}: {way} / bare", found.median, LIMIT, found.quartiles)
