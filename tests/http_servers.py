"""Servers that tests train and ask: ports, questions, and commands that run meanwhile and take signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from sandbox_command import LIMIT, Workshop

READY = 30.0
"""Seconds until a server answers, after a restart too."""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, path: str = "/") -> tuple[int, str]:
    """What a server says, as soon as it listens."""
    end = time.monotonic() + READY
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextmanager
def in_background(
    workshop: Workshop, *arguments: str | Path, folder: Path | None = None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """The command, which runs meanwhile in a folder and takes signals as one on a terminal does."""

    def ready() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    child = subprocess.Popen(
        [sys.executable, "-m", "sandbox", *map(str, arguments)], cwd=folder or workshop.folder, text=True,
        env={"PATH": os.defpath, "HOME": "/tmp", "PYTHONPATH": str(workshop.home), "LANG": "C.UTF-8", **more},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=ready, process_group=0,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """How the command ended, and what it said."""
    said, _ = child.communicate(timeout=LIMIT)
    return child.returncode, said
