"""The observer as a process: where its lines go, how it ends, and what becomes of signals and orphans."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from observed_programs import LIMIT, Bench, seen
from process_table import marked, until

from sandbox.learn import observations


def test_observations_go_to_standard_error_by_default(bench: Bench) -> None:
    """Between the function's own lines, each of ours whole on a line of its own; a file keeps standard error clean."""
    process, file = bench.start("/bin/sh", "-c", "echo own >&2; exec 2>&-; cat /dev/null", SANDBOX_OBSERVATIONS="")
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    lines = log.splitlines()
    assert "own" in lines
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert events[:2] == ["sandbox", "start"]
    assert events[-1] == "end"
    assert "item" in events
    assert "sandbox: LEARNING: NOTHING IS ENFORCED but the hard deny" in log
    process, file = bench.start("/bin/sh", "-c", "echo own >&2")
    _, log = process.communicate(timeout=LIMIT)
    status_line, *rest = log.splitlines()
    assert json.loads(status_line)["degraded"][0].startswith("everything but the hard deny")
    assert rest == ["own"]
    assert '"event": "end"' in file.read_text()


def test_a_log_that_nobody_reads_at_once_loses_nothing(bench: Bench) -> None:
    """A program that makes its standard error non-blocking, as libuv does, makes ours so: we wait for room."""
    code = "import os\nos.set_blocking(2, False)\nfor n in range(1500): open(f'{os.environ[\"AT\"]}/{n}', 'wb').close()"
    folder = bench.folder / "many"
    folder.mkdir(mode=0o777, exist_ok=True)
    folder.chmod(0o777)
    process, _ = bench.start(sys.executable, "-I", "-S", "-c", code, SANDBOX_OBSERVATIONS="", AT=str(folder))
    time.sleep(1)
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, log[-300:]
    (file := bench.folder / "many.log").write_text(log)
    (cold_start,) = observations.read([str(file)])
    assert len([path for path in cold_start.writes if path.startswith(f"{folder}/")]) == 1500


def test_a_signal_in_the_first_moment(bench: Bench) -> None:
    """SIGTERM at any moment of the start ends observer and program alike: nobody is left behind, and nothing hangs."""
    mark = f"mark-{os.getpid()}-{bench.uid}"
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        process, _ = bench.start(sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", mark)
        time.sleep(delay)
        process.terminate()
        _, log = process.communicate(timeout=LIMIT)
        assert process.returncode == -signal.SIGTERM, log
        until(lambda: not marked(mark), 5)


def test_the_variables_of_the_sandbox_do_not_reach_the_program(bench: Bench) -> None:
    """A function cannot see how it is observed."""
    found = bench.run("/usr/bin/env", SANDBOX_GRANTS="ptrace", OTHER="kept")
    assert "SANDBOX" not in found.output
    assert "OTHER=kept" in found.output


def test_a_file_that_cannot_be_written_is_an_error_before_the_start(bench: Bench) -> None:
    """Exit status 64 with the path, and the program does not run."""
    process, _ = bench.start("/bin/echo", "ran", SANDBOX_OBSERVATIONS="/nowhere/observations")
    output, log = process.communicate(timeout=LIMIT)
    assert (process.returncode, output) == (64, "")
    assert "/nowhere/observations" in log


@pytest.mark.parametrize(("script", "status"), [
    ("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -signal.SIGKILL), ("kill -TERM $$", -signal.SIGTERM),
    ("kill -SEGV $$", -signal.SIGSEGV),
])  # fmt: skip
def test_the_observer_ends_as_the_program_ended(bench: Bench, script: str, status: int) -> None:
    """Exit status and death by signal are passed on and written down."""
    found = bench.run("/bin/sh", "-c", script)
    assert found.status == status
    assert found.cold_start.status == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_forwarded(bench: Bench, number: signal.Signals) -> None:
    """The platform signals the observer; the program decides what becomes of it."""
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo caught; exit 43' {name}; echo ready; while :; do sleep 0.02; done"
    process, file = bench.start("/bin/sh", "-c", script)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        output, _ = process.communicate(timeout=LIMIT)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert (output, process.returncode) == ("caught\n", 43)
    assert seen(file, 43).cold_start.status == 43


def test_an_orphan_does_not_hold_the_observer(bench: Bench) -> None:
    """The observer ends with the program, although something that it started lives on."""
    script = "sleep 600 >/dev/null 2>&1 & echo $!; exit 5"
    found = bench.run("/bin/sh", "-c", script)
    orphan = int(found.output)
    try:
        assert found.status == 5
        assert found.cold_start.status == 5
        assert Path(f"/proc/{orphan}/comm").read_text() == "sleep\n"
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_full_disk_ends_the_observation_and_not_the_program(bench: Bench) -> None:
    """The program runs to its end, and standard error says that the observations do not."""
    process, _ = bench.start("/bin/sh", "-c", "echo ran; exit 3", SANDBOX_OBSERVATIONS="/dev/full")
    output, log = process.communicate(timeout=LIMIT)
    assert (process.returncode, output) == (3, "ran\n")
    assert "the observations end here: No space left on device" in log


def test_a_program_that_the_kernel_does_not_take_is_named(bench: Bench) -> None:
    """A script whose interpreter is missing has exit status 73 and a message, not a silent 127."""
    script = bench.folder / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    process, _ = bench.start(str(script))
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 73
    assert "script: cannot be executed" in log
