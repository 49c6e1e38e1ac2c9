"""Clients with resolvers of their own: trained by name, served by name, and asking for nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from child_processes import in_child
from resolving_world import PORT, unshared
from sandbox_command import Workshop

from sandbox.profile import document

CLIENTS = ("aiodns", "dnspython", "grpc")
GREETER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
class Greeter(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server = grpc.server(ThreadPoolExecutor(2), handlers=[Greeter()])
server.add_insecure_port("10.99.0.2:7778")
server.start()
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
def test_clients_with_resolvers_of_their_own(workshop: Workshop, clients: Path) -> None:
    """One profile for all of them, of names alone; served without a line; another name leaves no question."""
    path = workshop.new()
    where = ("--handler", "asking_clients.handler", "--root", workshop.targets, "--python", clients)
    events = workshop.events(*({"client": client, "name": "one.demo.test"} for client in CLIENTS))
    others = workshop.events(*({"client": client, "name": "other.demo.test"} for client in CLIENTS))

    def inside() -> tuple[subprocess.CompletedProcess[str], ...]:
        with unshared(ipv6=False) as world:
            greeter = subprocess.Popen([clients / "bin/python", "-c", GREETER], stdin=subprocess.PIPE)
            try:
                _wait_for("10.99.0.2", 7778)
                learn = ("learn", "clients", *where, "--no-verify", "--cold-starts", "1", "--events", events)
                learned = workshop.sandbox(*learn, "--output", path)
                served = workshop.sandbox("invoke", path, *where, "--events", events, "--json")
                refused = workshop.sandbox("invoke", path, *where, "--events", others, "--json")
                assert set(world.asked) == {"one.demo.test"}
                return learned, served, refused
            finally:
                greeter.communicate()

    learned, served, refused = in_child(inside, None)
    network = document.read(str(path)).profile.network
    assert network == {"runtime-api", f"one.demo.test:{PORT}", "one.demo.test:7778"}, learned.stderr
    assert _answers(served) == [{"answer": "hello"}] * 3, served.stderr
    assert '"violation"' not in served.stderr
    assert all("error" in answer for answer in _answers(refused)), refused.stdout


def _answers(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    return [json.loads(json.loads(line)["result"]) for line in done.stdout.splitlines()]


def _wait_for(host: str, port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
