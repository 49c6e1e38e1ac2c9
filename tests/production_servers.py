"""Servers that stand for production's, on loopback: PostgreSQL and Redis of the distribution, HTTPS, gRPC, a daemon."""

from __future__ import annotations

import contextlib
import glob
import http.server
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from cloud_fakes import CLIENTS
from users_and_folders import NOBODY, identity, place

READY = 30.0
"""Seconds until a server listens."""
PASSWORD = "a-password"
DATABASE = "orders.cluster-1.eu-west-1.rds.amazonaws.com"
CACHE = "sessions.abc123.0001.euw1.cache.amazonaws.com"
API = "api.shop.example"
GREETER = "greeter.shop.example"
_GREETER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
class Greeter(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"hello " + request)
server = grpc.server(ThreadPoolExecutor(2), handlers=[Greeter()])
server.add_insecure_port("127.0.0.1:" + sys.argv[1])
server.start()
sys.stdin.read()
"""


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """PostgreSQL with an empty table `orders`; it does not run as root."""
    tools = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not tools:
        pytest.skip("no PostgreSQL server: install postgresql")
    uid = NOBODY if os.geteuid() == 0 else None
    with place(uid) as home:
        secret = home / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        initdb = ["initdb", "-D", str(home / "data"), "-U", "app", "-A", "scram-sha-256", f"--pwfile={secret}", "-N"]
        subprocess.run(
            [f"{tools[-1]}/{initdb[0]}", *initdb[1:]], check=True, capture_output=True, cwd=home, **identity(uid)
        )
        port = _free_port()
        options = ["-D", str(home / "data"), "-h", "127.0.0.1", "-p", str(port), "-k", str(home), "-F"]
        # SIGINT: a fast shutdown, which ends the server's children too.
        with _serving([f"{tools[-1]}/postgres", *options], port, signal.SIGINT, uid):
            create = "import psycopg, sys; c = psycopg.connect(sys.argv[1], autocommit=True); c.execute(sys.argv[2])"
            table = "CREATE TABLE orders (id text PRIMARY KEY, amount numeric, at timestamptz DEFAULT now())"
            url = f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/postgres"
            for _ in range(50):  # it listens before it is ready
                command = [str(CLIENTS / "bin/python"), "-c", create, url, table]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if not done.returncode:
                    break
                time.sleep(0.2)
            assert not done.returncode, done.stderr
            yield port


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Redis; Debian's redis-tools hold the server under another name, which starts no service when installed."""
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if not program:
        pytest.skip("no Redis server: install redis-tools")
    port = _free_port()
    options = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with _serving(options, port, signal.SIGTERM, None, program):
        yield port


@contextlib.contextmanager
def greeter(folder: Path) -> Iterator[int]:
    """A gRPC server that greets whoever sends a name."""
    port = _free_port()
    with _serving([str(CLIENTS / "bin/python"), "-c", _GREETER, str(port)], port, signal.SIGTERM, None):
        yield port


class _Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"price": %d}' % len(self.path.rpartition("/")[2])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def shop(folder: Path) -> contextlib.AbstractContextManager[int]:
    """The shop's prices."""
    return https(folder, _Shop)


@contextlib.contextmanager
def https(folder: Path, handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """HTTPS under production's name; its certificate, its own authority, is `shop.pem` of the folder."""
    certificate, key = folder / "shop.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=a shop", "-addext", f"subjectAltName=DNS:{API},IP:127.0.0.1",
         "-addext", "keyUsage=digitalSignature,keyCertSign", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


SERVERS: dict[str, tuple[Callable[[Path], contextlib.AbstractContextManager[int]], str]] = {
    "postgres": (postgres, f"{DATABASE}:5432"),
    "redis": (redis, f"{CACHE}:6379"),
    "shop": (shop, f"{API}:443"),
    "greeter": (greeter, f"{GREETER}:50051"),
}
"""Each server by name, and the destination of production for which it stands."""


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _serving(
    command: Sequence[str], port: int, end: signal.Signals, uid: int | None, executable: str | None = None
) -> Iterator[None]:
    name = command[0]
    server = subprocess.Popen(
        list(command), executable=executable, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", **identity(uid),
    )  # fmt: skip
    try:
        _wait_until_it_listens(server, name, port)
        yield
    finally:
        server.send_signal(end)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_until_it_listens(server: subprocess.Popen[bytes], name: str, port: int) -> None:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        assert server.poll() is None, f"{name} ended with {server.returncode}"
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{name} does not listen after {READY} s")
