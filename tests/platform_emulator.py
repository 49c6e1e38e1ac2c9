"""The platform's own emulator with one function: started, invoked, and ended with everything below it.

    with Platform(folder, (BOOTSTRAP,), {"SANDBOX_POLICY": bundle, "_HANDLER": "app.handler"}) as platform:
        status, answer = platform.post({"n": 1})
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from process_table import descendants, runs
from users_and_folders import HOME

EMULATOR = HOME / ".cache" / "emulator" / "aws-lambda-rie"
BOOTSTRAP = str(HOME / "bootstrap")
WRAPPED = (BOOTSTRAP, sys.executable, "-m", "awslambdaric")
"""The bootstrap as exec wrapper: a command follows, its last word is the handler."""
PATIENCE = 20.0
"""Seconds."""
MODES = {"unsupervised": "0", "supervised": "1"}
"""To SANDBOX_SUPERVISE."""
MODE = pytest.mark.parametrize("mode", MODES)


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Platform:
    """The emulator with one function; ended with everything that it started."""

    def __init__(
        self, folder: Path, command: tuple[str, ...], variables: Mapping[str, str], timeout: int = 30,
        around: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """`around` is a command that execs the emulator, as unshare(1) does."""
        assert os.access(EMULATOR, os.X_OK), f"{EMULATOR} is missing; tools/setup puts it there"
        self.port = free_port()
        self._log = folder / f"platform-{self.port}.log"
        # First the interpreter that has the client: `bootstrap` is started by its first line.
        path = f"{Path(sys.executable).parent}:{os.defpath}"
        environment = {
            "PATH": path,
            "HOME": "/tmp",
            "AWS_LAMBDA_FUNCTION_NAME": "e2e",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "PYTHONDONTWRITEBYTECODE": "1",
            # The filter alone, if a test does not say otherwise; test_supervised.py has the other.
            "SANDBOX_SUPERVISE": "0",
            **variables,
        }
        addresses = (
            "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}",
            "--runtime-api-address", f"127.0.0.1:{free_port()}",
        )  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*around, EMULATOR, *addresses, *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
                break
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the emulator, and see that nothing that it started outlives it."""
        below = descendants(self.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + PATIENCE
        while (left := [pid for pid in below if runs(pid)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"{left} outlived the emulator"

    @property
    def log(self) -> str:
        """What emulator, bootstrap and function wrote so far."""
        return self._log.read_text(errors="replace")

    def status_lines(self) -> list[dict[str, Any]]:
        """The bootstrap's own lines."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith('{"event": "sandbox"')]

    def post(self, event: Mapping[str, Any]) -> tuple[int, Any]:
        """Invoke: HTTP status, and the body as JSON, or as text where it is none."""
        try:
            status, body = self._exchange(json.dumps(event))
        except ConnectionResetError:
            # Seen once, its cause not found. Only an emulator that goes on is asked again.
            assert self._process.poll() is None, self.log
            status, body = self._exchange(json.dumps(event))
        try:
            return status, json.loads(body)
        except ValueError:
            return status, body

    def _exchange(self, event: str) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/2015-03-31/functions/function/invocations", event, headers)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()


def outside(folder: Path, mounted: Path) -> tuple[str, ...]:
    """A command that execs another with `folder` mounted over a path that exists; a skip where that is not allowed."""
    unshare = shutil.which("unshare") or pytest.skip("unshare (util-linux) is not installed")
    flags = ("--mount",) if os.geteuid() == 0 else ("--mount", "--map-root-user")
    command = (unshare, *flags, "--", "/bin/sh", "-c", f'mount --bind {folder} {mounted} && exec "$@"', "sh")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mount namespace with {mounted}: {tried.stderr.strip()}")
    return command
