"""Egress by name, learned and enforced: a DNS server of our own, its resolv.conf, real getaddrinfo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dnslib
import pytest
from dnslib.server import BaseResolver, DNSServer
from guests import inside
from local_service import answering

from sandbox.profile import document

ROOT = Path(__file__).resolve().parents[2]
DNS = "127.0.0.77"
SERVICE = "127.0.3.1"  # stands for a remote host; Linux routes all of 127/8 to loopback
OTHER = "127.0.3.2"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="binds port 53 and makes a mount namespace: needs root")


class Zone(BaseResolver):  # type: ignore[misc]  # dnslib has no types
    """Answers every A question for *.test with SERVICE, but for only.test, and remembers the names."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolve(self, request: dnslib.DNSRecord, handler: object) -> dnslib.DNSRecord:
        """One answer."""
        name = str(request.q.qname).rstrip(".")
        self.asked.append(name)
        reply = request.reply()
        if request.q.qtype == dnslib.QTYPE.A and name.endswith(".test"):
            address = OTHER if name == "only.test" else SERVICE
            reply.add_answer(dnslib.RR(name, rdata=dnslib.A(address), ttl=5))
        return reply


@pytest.fixture(scope="module")
def zone() -> Iterator[Zone]:
    """A DNS server on port 53 of a loopback address."""
    found = Zone()
    servers = [DNSServer(found, address=DNS, port=53, tcp=tcp) for tcp in (False, True)]
    for server in servers:
        server.start_thread()
    yield found
    for server in servers:
        server.stop()
        server.server.server_close()


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    """A TCP service that answers each connection once; yields its port."""
    with answering(SERVICE, b"service\n") as port:
        yield port


def sandbox(tmp_path: Path, *arguments: str, guest: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a mount namespace whose resolver is ours, and in a guest."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {DNS}\noptions timeout:2 attempts:2\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    mounts = " && ".join(f"mount --bind {tmp_path}/{name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf"))
    there = inside(guest) if guest else ()
    start = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    command = [*start, *there, sys.executable, "-m", "sandbox", *arguments]
    environment = {**os.environ, "SANDBOX_SUPERVISE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def events(folder: Path, *found: dict[str, object]) -> Path:
    """A folder with these events."""
    folder.mkdir()
    for number, event in enumerate(found):
        (folder / f"{number}.json").write_text(json.dumps(event))
    return folder


@pytest.mark.parametrize("guest", ["", "docker-like"])
def test_names_are_learned_and_only_they_are_reached(tmp_path: Path, zone: Zone, service: int, guest: str) -> None:
    """A profile learned from a name allows that name and port, and no other name, no address, and no DNS tunnel.

    A name that was looked up alone is looked up again, and not reached. Also where the supervisor cannot duplicate the
    function's sockets and makes them, in training too.
    """
    training = events(tmp_path / "training", {"host": "good.test", "port": service}, {"look": "only.test"})
    profile = tmp_path / "fetch.yaml"
    where = ["--handler", "fetch.handler", "--root", str(ROOT / "tests" / "targets")]
    learned = sandbox(
        tmp_path, "learn", "fetch", *where, "--events", str(training), "--output", str(profile), "--cold-starts", "1",
        guest=guest,
    )  # fmt: skip
    assert learned.returncode == 0, learned.stderr
    network = document.read(str(profile)).profile.network
    assert {entry for entry in network if ".test" in entry} == {f"good.test:{service}", "dns://only.test"}
    zone.asked.clear()
    asked = events(
        tmp_path / "asked",
        {"host": "good.test", "port": service},
        {"host": "secret-data.evil.test", "port": service},
        {"host": SERVICE, "port": service + 1},
        {"host": "good.test", "port": service},
        {"look": "only.test"},
        {"host": "only.test", "port": service},
    )
    invoked = sandbox(tmp_path, "invoke", str(profile), *where, "--events", str(asked), "--json", guest=guest)
    results = [json.loads(json.loads(line)["result"]) for line in invoked.stdout.splitlines()]
    assert results[0] == results[3] == {"answer": "service\n"}, invoked.stderr
    assert results[1]["error"].startswith("gaierror"), results
    assert results[2] == results[5] == {"error": "PermissionError 1"}
    assert results[4] == {"answer": OTHER}
    assert "secret-data.evil.test" not in zone.asked
    assert "good.test" in zone.asked
    assert '"args": ["secret-data.evil.test"' in invoked.stderr
