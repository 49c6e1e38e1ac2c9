"""What it costs a waiting call to have its origin read, the first time and from then on, and to be judged."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sandbox
from sandbox.behaviour import anomaly
from sandbox.behaviour.access import NETWORK, Access
from sandbox.behaviour.call import Call
from sandbox.kernel.notification import Notification
from sandbox.kernel.task import Task
from sandbox.sensor.origins import Sensor
from sandbox.supervise.judging import Judge
from tools.benchmarks import subjects
from tools.benchmarks.measure import Bar, BenchmarkFailed, interleave, output
from tools.benchmarks.report import Report, Row, Table

ROUNDS = 41
ASKED = 50
"""Times that a warm sensor is asked in one round."""
DEPTHS = (10, 30, 100)
FIRST, WARM = 5.0, 150.0
LIBRARY = "def call1():\n    print('waits', flush=True)\n    input()\n" + "".join(
    f"\ndef call{depth}():\n    call{depth - 1}()\n" for depth in range(2, max(DEPTHS) + 1)
)
"""Each call is another function's, as on most stacks."""
FUNCTION = """\
import sys
sys.path.insert(0, {site!r})
import deep

def handler():
    deep.call{depth}()

handler()
"""
ONCE = """\
import sys, time
sys.path.insert(0, {home!r})
from sandbox.supervise import reports, supervisor
started = time.perf_counter()
from sandbox.sensor.origins import Sensor
assert Sensor().origin({pid}, {pid})
print(time.perf_counter() - started)
"""
"""As in a supervisor that writes its first line: what else it needs for that is loaded."""


def run(rounds: int, python: str) -> Report:
    """Read the origin of functions that wait with a library's calls below a handler on their stack."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        sensor = Sensor()
        waiting = {depth: stack.enter_context(_waiting(python, Path(folder), depth)) for depth in DEPTHS}
        for pid in waiting.values():
            if sensor.origin(pid, pid) is None:
                raise BenchmarkFailed(f"{python}: {sensor.unknown or 'its stack cannot be read'}")
        cases = {f"{depth} frames": functools.partial(_warm, sensor, pid) for depth, pid in waiting.items()}
        judge = Judge({anomaly.ALL: anomaly.DENY}, {}, (), audit=False, waits=lambda call: True, degraded=_unheard)
        judged = {f"{depth} frames, judged": functools.partial(_judged, judge, pid) for depth, pid in waiting.items()}
        cases |= judged
        cases["first"] = functools.partial(_first, python, waiting[30])
        taken = interleave(rounds, cases)
        sensor.close()
    rows = tuple(Row(name, taken[name]) for name in cases if name != "first" and name not in judged)
    judgements = tuple(Row(name.partition(",")[0], taken[name]) for name in judged)
    warm = Table("warm, up to the handler", "us", 1e6, (), rows)
    all_of_it = Table("judged by all detectors", "us", 1e6, (), judgements)
    first = Table("the first, with its modules", "ms", 1000, (), (Row("30 frames", taken["first"]),))
    usual = taken["30 frames"]
    bars = (
        Bar("microseconds of a warm one, 30 frames", usual.median * 1e6, WARM, _scaled(usual.quartiles, 1e6)),
        Bar("milliseconds of the first", taken["first"].median * 1e3, FIRST, _scaled(taken["first"].quartiles, 1e3)),
    )
    who = {"function and supervisor": subjects.version(python)}
    return Report("origin", rounds, (warm, all_of_it, first), bars, (), who)


def _unheard(why: str) -> None:
    """Nobody is told what cannot be read: the sensor is asked for that before."""


def _scaled(pair: tuple[float, float], scale: float) -> tuple[float, float]:
    return pair[0] * scale, pair[1] * scale


@contextlib.contextmanager
def _waiting(python: str, folder: Path, depth: int) -> Iterator[int]:
    """The process of a function that waits in a library, `depth` calls below its handler."""
    site = folder / "site-packages"
    info = site / "deep-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / "deep.py").write_text(LIBRARY)
    (info / "RECORD").write_text("deep.py,,\n")
    app = folder / f"app{depth}.py"
    app.write_text(FUNCTION.format(site=str(site), depth=depth))
    with subprocess.Popen([python, "-I", str(app)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        if not process.stdout.readline():
            raise BenchmarkFailed(f"{python}: does not run")
        yield process.pid
        process.kill()


def _warm(sensor: Sensor, pid: int) -> float:
    started = time.perf_counter()
    for _ in range(ASKED):
        sensor.origin(pid, pid)
    return (time.perf_counter() - started) / ASKED


def _judged(judge: Judge, pid: int) -> float:
    """As the connect of a function with `on-anomaly: deny`: what waits there is a read, which makes no difference."""
    pointer = int(Path(f"/proc/{pid}/syscall").read_text().split()[-1], 16)
    call = Notification((1, pid, 0, 0, 0, pointer, *[0] * 6))
    access = Access(Call("connect"), "invoke", NETWORK, "tcp://127.0.0.1:443")
    task = Task(pid)
    started = time.perf_counter()
    for _ in range(ASKED):
        judge.judge(call, task, access, "network", access.thing)
    taken = (time.perf_counter() - started) / ASKED
    task.close()
    return taken


def _first(python: str, pid: int) -> float:
    home = str(Path(sandbox.__file__).parent.parent)
    return float(output([python, "-I", "-S", "-c", ONCE.format(home=home, pid=pid)], {}))
