"""A fake of a cloud's service for the tests with real clients: moto, over TLS, under production's name."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from users_and_folders import HOME

CLIENTS = HOME / ".cache" / "clients"
ENDPOINT = "dynamodb.eu-west-1.amazonaws.com"
SECRET = "correct-horse-battery-staple"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "eu-west-1"}
READY = 60.0
"""Seconds until moto listens; its imports take two on a quiet machine."""


@dataclass(frozen=True)
class Fake:
    """moto's server with a table: its port, and the authority that made its certificate out to production's name."""

    port: int
    authority: Path


@contextlib.contextmanager
def fake_dynamodb(folder: Path) -> Iterator[Fake]:
    """A fake of DynamoDB with the table `orders`; its certificate is in the folder."""
    certificate, key = folder / "fake.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=a fake", "-addext", f"subjectAltName=DNS:{ENDPOINT},IP:127.0.0.1",
         "-addext", "keyUsage=digitalSignature,keyCertSign", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, **CREDENTIALS, "TABLE": "orders", "AWS_DEFAULT_REGION": "eu-west-1"}
    environment["AWS_CA_BUNDLE"] = str(certificate)
    server = subprocess.Popen(
        [str(CLIENTS / "bin" / "moto_server"), "-s", "-H", "127.0.0.1", "-p", str(port), "-c", certificate, "-k", key],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_until_it_listens(server, port)
        create = [str(CLIENTS / "bin" / "python"), str(HOME / "examples/orders/create_table.py")]
        subprocess.run([*create, f"https://127.0.0.1:{port}"], env=environment, check=True, timeout=60)
        yield Fake(port, certificate)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        assert server.poll() is None
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"moto does not listen after {READY} s")
