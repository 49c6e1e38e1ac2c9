"""What functions do every day, one kind an event: {"do": KIND, ...}; {} does nothing."""

import contextlib
import http.client
import http.server
import importlib
import json
import logging.handlers
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from typing import Any

Event = dict[str, Any]


def spill(event: Event) -> Any:
    """SQLite with a journal, and more to sort than its cache takes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(sqlite3.connect(f"{folder}/data.db")) as base:
        base.executescript("pragma temp_store=1; pragma cache_size=20; create table t(a, b)")
        with base:
            base.executemany("insert into t values (?, ?)", ((n % 97, "y" * 90) for n in range(event["n"])))
        return base.execute("select count(*) from (select * from t order by b, a desc)").fetchone()[0]


def folders(event: Event) -> Any:
    """Temporary folders and files, as numpy's loaders and test runners make them."""
    for _ in range(event["n"]):
        with tempfile.TemporaryDirectory(prefix="work-") as folder:
            os.makedirs(f"{folder}/deep/er")
            with open(f"{folder}/deep/er/file", "w") as file:
                file.write("x")
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    return event["n"]


def lazy(event: Event) -> Any:
    """A module that is imported when an event needs it, with one in C behind it."""
    for name in event["modules"]:
        importlib.import_module(name)
    return event["modules"]


CHILD = """
import socket, sys
path, port = sys.argv[1:]
text = open(path).read()
if int(port):
    with socket.create_connection(("127.0.0.1", int(port)), 5) as sock:
        text += sock.recv(10).decode()
print(text)
"""


def child(event: Event) -> Any:
    """Another interpreter, which reads a file and makes a connection."""
    command = ["/usr/bin/python3", "-I", "-S", "-c", CHILD, event["path"], str(event["port"])]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def pool(event: Event) -> Any:
    """Processes that are forked, with the semaphores and pipes between them."""
    with multiprocessing.get_context("fork").Pool(event["n"]) as workers:
        return sum(workers.map(abs, range(-5, 0)))


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


def server(event: Event) -> Any:
    """An HTTP server of its own on loopback, and a client of it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", event["port"]), _Hello) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        try:
            for _ in range(event["n"]):
                client = http.client.HTTPConnection("127.0.0.1", listener.server_port, timeout=5)
                client.request("GET", "/")
                answer = client.getresponse().read().decode()
                client.close()
        finally:
            listener.shutdown()
    return answer


def names(event: Event) -> Any:
    """Names, addresses and services in all the ways of getaddrinfo."""
    found = 0
    for host in event["hosts"]:
        for flags in (0, socket.AI_ADDRCONFIG, socket.AI_PASSIVE):
            for service in (None, 80, "https"):
                for kind in (0, socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with contextlib.suppress(socket.gaierror):  # services of datagrams, families that the host lacks
                        found += len(socket.getaddrinfo(host, service, 0, kind, 0, flags)) > 0
    return found > 0 and len(socket.if_nameindex()) > 0


def connects(event: Event) -> Any:
    """A connection to each name."""
    found = []
    for host in event["hosts"]:
        with socket.create_connection((host, event["port"]), 5) as sock:
            found.append(sock.recv(10).decode())
    return found


def state(event: Event) -> Any:
    """A file that is written anew beside the old one, and put in its place."""
    path = f"{event['folder']}/state.json"
    for number in range(event["n"]):
        with open(f"{path}.{os.getpid()}.tmp", "w") as file:
            json.dump({"n": number}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)
    with open(path) as file:
        return json.load(file)


def logs(event: Event) -> Any:
    """A log that is rotated."""
    with tempfile.TemporaryDirectory(dir=event["folder"]) as folder:
        handler = logging.handlers.RotatingFileHandler(f"{folder}/app.log", maxBytes=100, backupCount=2)
        for number in range(event["n"]):
            handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "line %d", (number,), None))
        handler.close()
        return sorted(os.listdir(folder))


def archives(event: Event) -> Any:
    """Files that get the modes and times of others: packed, unpacked, copied and stamped."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/from")
        for number in range(event["n"]):
            with open(f"{folder}/from/{number}", "w") as file:
                file.write("x")
        for kind in ("tar", "zip"):
            packed = shutil.make_archive(f"{folder}/packed", kind, f"{folder}/from")
            shutil.unpack_archive(packed, f"{folder}/to-{kind}")
        shutil.copytree(f"{folder}/from", f"{folder}/copy")
        stamp = f"{event['folder']}/stamp"
        with open(stamp, "w"):
            pass
        os.utime(stamp, (1, 2))
        os.chmod(stamp, 0o640)
        return sorted(os.listdir(f"{folder}/to-zip"))


def host(_: Event) -> Any:
    """What /proc shows of the host, of other processes and of the network."""
    paths = ("/proc/loadavg", "/proc/1/comm", f"/proc/{os.getppid()}/stat", "/proc/net/dev")
    found = 0
    for path in paths:
        with open(path) as file:
            found += len(file.read()) > 0
    return found


def handler(event: Event, _: object) -> Any:
    return getattr(sys.modules[__name__], event["do"])(event) if "do" in event else None
