"""A connect is read from the task's memory once and parsed few times, from its notification to what is written of it.

What is read twice can be two things: decided on as one, reported as another. Counted around the real functions, in the
real supervisor and the real recorder (targets/counted.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from supervised_programs import PYTHON, SOCKETS, Supervision, read_events, supervision
from users_and_folders import TARGETS

from sandbox.kernel import abi, tables
from sandbox.learn import observations

MOST_PARSES = 3
CONNECT = """
import socket
for host in {hosts!r}:
    with socket.socket() as line:
        try:
            line.connect((host, 9))
        except OSError as error:
            print(error.errno)
"""


def counts(file: Path, syscall: str) -> list[tuple[int, int]]:
    """(reads of memory, parses of addresses) for each answered call of a syscall."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    nr = tables.numbers(abi.MACHINE)[syscall]
    return [(line["reads"], line["parses"]) for line in lines if line["nr"] == nr]


def counted(bench: Supervision, environment: dict[str, str], *command: str) -> tuple[Path, str]:
    """Run a command under a bootstrap that counts: the file of its counts, and what the command said."""
    file = bench.new(".counts")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(TARGETS / "counted.py"), str(file), *command], env=environment,
        cwd=bench.folder, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return file, done.stdout


@pytest.mark.parametrize("network", [["tcp://127.0.0.2:9"], ["db.internal:5432", "tcp://10.0.0.0/8:*"]])
@pytest.mark.parametrize("host", ["127.0.0.3", "192.0.2.77", "0.0.0.0"])
def test_a_denied_connect(network: list[str], host: str) -> None:
    """Until its line is written: the broker reads the address, and the line shows that very one."""
    with supervision(None) as bench:
        events = bench.new(".jsonl")
        environment = bench.environment(
            bench.bundle(*SOCKETS, network=network), -1, {"SANDBOX_EVENTS": f"file:{events}"}
        )
        file, said = counted(bench, environment, *PYTHON, CONNECT.format(hosts=[host]))
        assert said == "1\n"  # EPERM
        (line,) = [line for line in read_events(events) if line.get("syscall") == "connect"]
        assert line["args"][1] == f"{host}:9"
        ((reads, parses),) = counts(file, "connect")
        assert reads == 1
        assert 0 < parses <= MOST_PARSES


def test_a_learned_connect() -> None:
    """Until it goes on to the kernel: the address that is observed is the one that is led to no resolver.

    The second one: with the first the recorder reads the files of the resolver, which hold addresses, too.
    """
    with supervision(None) as bench:
        seen = bench.new(".jsonl")
        environment = {"PATH": "/usr/bin:/bin", "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(seen)}
        file, _ = counted(bench, environment, *PYTHON, CONNECT.format(hosts=["127.0.0.2", "127.0.0.3"]))
        (environment_seen,) = observations.read([str(seen)])
        assert "tcp://127.0.0.3:9" in environment_seen.network
        (_, (reads, parses)) = counts(file, "connect")
        assert reads == 1
        assert 0 < parses <= MOST_PARSES
