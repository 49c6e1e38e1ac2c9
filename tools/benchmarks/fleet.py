"""What a fleet's store costs: taking in, asking, learning; and how that grows, beside `events --summary` and Spark.

Each number is of a process of its own with those that it starts (Spark's is Java): seconds of processor time, which a
busy machine does not change as it changes those of the clock, and the most memory that they held together.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox.fleet.store import Store
from sandbox.learn.records import Connect, Fact, FileAccess, NewFact, NewItem, Span, Start, encode
from sandbox.violations.record import Violation, render
from tools.benchmarks import subjects
from tools.benchmarks.measure import BenchmarkFailed, Series
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 1
HOME = Path(__file__).resolve().parent.parent.parent
FUNCTIONS = 100
SIZES = (100_000, 1_000_000)
ENVIRONMENTS = (1_000, 10_000)
INVOCATIONS = 10
DAYS = 3
NOON = 1_796_040_000.0
QUESTION = "violations"
COLUMNS = ("a second", "on the clock, s", "MB held", "MB of lines", "MB of store", "files")
EVERY = 0.1
"""Seconds between two looks at a process."""
PAGE = os.sysconf("SC_PAGE_SIZE")
CALLS = ("getpid", "uname", "brk", "sysinfo", "times", "gettid", "getuid", "getgid")


def run(rounds: int, sizes: Sequence[int] = SIZES, environments: Sequence[int] = ENVIRONMENTS) -> Report:
    """Take in and ask `sizes` violations of 100 functions, and learn from `environments` of one.

    One round: what is measured takes minutes. Raises BenchmarkFailed where a command fails, as without the extra.
    """
    load = os.getloadavg()[0]
    growth, answers, learning = [], [], []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            written = _violations(folder / "logs", size)
            store = folder / "store"
            ingest: list[str | Path] = ["fleet", "ingest", store, folder / "logs"]
            growth.append(_row(f"{size:,} violations", ingest, size, written, store))
            with (folder / "all.log").open("wb") as file:
                for path in sorted((folder / "logs").iterdir()):
                    file.write(path.read_bytes())
            query: list[str | Path] = ["fleet", "query", store, QUESTION, "--json", "--now", "2027-01-01"]
            ways: dict[str, list[str | Path]] = {
                "DuckDB": query, "Spark": [*query, "--engine", "spark"],
                "events --summary": ["events", folder / "all.log", "--summary", "--json"],
            }  # fmt: skip
            for title, arguments in ways.items():
                answers.append(_row(f"{size:,} violations: {title}", arguments, size))
    for count in environments:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            written = _observations(folder / "logs", count)
            store = folder / "store"
            units = count * INVOCATIONS
            title = f"{count:,} environments"
            ingest = ["fleet", "ingest", store, folder / "logs"]
            learning.append(_row(f"{title}: ingest", ingest, units, written, store))
            learn: list[str | Path] = ["fleet", "learn", store, "orders", "-o", folder, "--generalise", "never"]
            learning.append(_row(f"{title}: fleet learn", learn, units, in_full=True))
            logs = sorted((folder / "logs").iterdir())
            plain: list[str | Path] = ["learn", "orders", "--output", folder / "of-logs.yaml", "--generalise", "never"]
            plain += ["--from", *logs]
            learning.append(_row(f"{title}: learn --from", plain, units, in_full=True))
            if (folder / "orders.yaml").read_bytes() != (folder / "of-logs.yaml").read_bytes():
                raise BenchmarkFailed("the store's profile is another than that of the logs")
    return Report(
        "fleet", rounds,
        (
            Table("taking in violations of 100 functions in 3 days", "s", 1, COLUMNS, tuple(growth)),
            Table(f"one question, `{QUESTION}`", "s", 1, COLUMNS[:3], tuple(answers)),
            Table(f"observations, {INVOCATIONS} invocations in each environment", "s", 1, COLUMNS, tuple(learning)),
        ),
        notes=(f"processor time; the machine had a load of {load:.0f}",),
        interpreters={"sandbox": subjects.version(sys.executable)},
    )  # fmt: skip


def _row(
    title: str, arguments: Sequence[str | Path], units: int, written: int = 0, store: Path | None = None, *,
    in_full: bool = False,
) -> Row:  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    command = [sys.executable, "-m", "sandbox", *map(str, arguments)]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        seconds: dict[int, float] = {}
        most = 0.0
        while process.poll() is None:
            now = {pid: _usage(pid) for pid in _tree(process.pid)}
            seconds.update({pid: used for pid, (used, _) in now.items() if used})
            most = max(most, sum(held for _, held in now.values()))
            time.sleep(EVERY)
        taken = time.perf_counter() - started
        said.seek(0)
        if process.returncode:
            raise BenchmarkFailed(f"{' '.join(command[:8])}: {said.read()[-500:].decode(errors='replace')}")
    total = sum(seconds.values())
    cells = [f"{units / max(total, EVERY):,.0f}", f"{taken:.0f}", f"{most:.0f}"]
    if store:
        files = [path for table in ("violations", "observations", "things") for path in Store(str(store)).files(table)]
        size = sum(os.path.getsize(path) for path in files)
        cells += [f"{written / 1e6:.0f}", f"{size / 1e6:.1f}", str(len(files))]
    return Row(title, Series((total,)), (*cells, *[""] * (len(COLUMNS) - len(cells) if in_full else 0)))


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it, as far as they are still there (man 5 proc, children)."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                yield from _tree(int(child))


def _usage(pid: int) -> tuple[float, float]:
    """Seconds of processor time so far, and megabytes in memory."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * PAGE / 1e6


def _violations(folder: Path, size: int) -> int:
    """Logs of as many violations; how many bytes."""
    folder.mkdir()
    written = 0
    for number in range(FUNCTIONS):
        function = f"function-{number}"
        with (folder / f"{function}.log").open("wb") as file:
            for line in _of_function(function, number, size // FUNCTIONS):
                written += file.write(line)
    return written


def _of_function(function: str, number: int, count: int) -> Iterator[bytes]:
    for at in range(count):
        syscall, arg_class, target = (
            ("connect", "", f"tcp://192.0.2.{at % 50}:443"), ("execve", "exec", f"/usr/bin/tool{at % 20}"),
            ("openat", "create write", f"/tmp/file{at % 30}"),
        )[at % 3]  # fmt: skip
        found = Violation(
            function=function, phase="invoke", request=f"{at:032x}", pid=10, tid=11, comm="python3", syscall=syscall,
            arg_class=arg_class, args=["6", target, "16"], target=target, allow=f"network: {target}", verdict="denied",
            errno="EPERM", reason="the profile does not list it", time=NOON + at * DAYS * 86400 / count,
        )  # fmt: skip
        stamp = {"event": found.event, "time": found.time, "seq": at + 1, "supervisor": f"{number:08x}"}
        yield (render({**stamp, **found.fields()}) + "\n").encode()


def _observations(folder: Path, count: int) -> int:
    """A log for each environment; how many bytes."""
    folder.mkdir()
    written = 0
    facts: list[Fact] = [Connect(f"tcp://db{n}.internal:5432") for n in range(4)]
    files: list[Fact] = [FileAccess(f"/var/task/data/{n}.json", "read") for n in range(12)]
    for number in range(count):
        name, time_ = f"{number:08x}", NOON + number
        start = Start(function="orders", handler="app.handler", api=True, host="lambda", kernel="6.1", python="3.12")
        lines = [encode(start, name, time_)]
        lines += [encode(NewItem(n + 1, "invoke", call, ""), name, time_) for n, call in enumerate(CALLS)]
        lines += [encode(NewFact(n + 1, fact), name, time_) for n, fact in enumerate([*facts, *files])]
        lines.append(encode(Span("init", {1: 4, 2: 1}), name, time_))
        for at in range(INVOCATIONS):
            counts = {n + 1: 1 + (number * at + n) % 7 for n in range(len(CALLS) - at % 3)}
            reached = frozenset(range(1, 1 + len(facts) + len(files) - (number + at) % 5))
            request = f"{number:08x}-{at:04x}"
            lines.append(encode(Span("invocation", counts, request, "ok", reached), name, time_ + at / 100))
        data = b"".join(lines)
        (folder / f"{number:06}.log").write_bytes(data)
        written += len(data)
    return written
