"""The function of tests/clients/test_interpreters.py in Python: a handler, and a Runtime API loop for who has none."""

from __future__ import annotations

import gc
import http.client
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


def told(attempt: Callable[[], object]) -> str:
    """What became of it: ok, an errno, or in words."""
    try:
        attempt()
    except OSError as error:
        return str(error.errno)
    return "ok"


def work(rounds: int) -> None:
    """Garbage in cycles from several threads, and a loop that is worth compiling."""

    def busy() -> None:
        for _ in range(rounds):
            cycle: list[object] = [bytearray(1 << 16) for _ in range(50)]
            cycle.append(cycle)
            sum(n * n for n in range(50_000))

    threads = [threading.Thread(target=busy, name=f"worker-{number}") for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()


def stored(path: str) -> None:
    """Write a file."""
    with open(path, "w", encoding="ascii") as file:
        file.write("text")


def connected(host: str, port: int) -> None:
    """Connect and hear the greeting."""
    with socket.create_connection((host, port)) as connection:
        assert connection.recv(5, socket.MSG_WAITALL) == b"hello"


def handler(event: Event, _: object) -> Event:
    """Do what the event asks for."""
    attempts: dict[str, Callable[[], object]] = {}
    if "work" in event:
        attempts["work"] = lambda: work(event["work"])
    if "file" in event:
        attempts["file"] = lambda: stored(event["file"])
    if "program" in event:
        attempts["program"] = lambda: subprocess.run([event["program"]], stdout=subprocess.DEVNULL, check=True)
    if "host" in event:
        attempts["connect"] = lambda: connected(event["host"], event["port"])
    return {name: told(attempt) for name, attempt in attempts.items()}


def serve() -> None:
    """The loop."""
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def ask(method: str, path: str, body: str | None = None) -> tuple[http.client.HTTPResponse, bytes]:
        connection.request(method, f"/2018-06-01/runtime/invocation/{path}", body)
        reply = connection.getresponse()
        return reply, reply.read()

    while True:
        event, body = ask("GET", "next")
        answer = json.dumps(handler(json.loads(body), None))
        ask("POST", f"{event.headers['Lambda-Runtime-Aws-Request-Id']}/response", answer)


if __name__ == "__main__":
    serve()
