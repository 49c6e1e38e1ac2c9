"""Six injected attacks on a learned function: each works bare, and under its profile its effect is absent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from users_and_folders import HOME, THUMBNAIL, place

from sandbox.kernel import landlock
from sandbox.runtime_api import Environment, Function, Invocation

from .conftest import Learned

ATTACKS = ("fork", "os_system", "memfd_execve", "tcp_connect", "udp_sendto", "ptrace")
HELD_OUT = sorted((THUMBNAIL / "held-out").glob("*.json"))

# The call that each attack ends at, and its errno as the kernel gives it; None: os.system has only a status.
REFUSALS: dict[str, tuple[str, str | None]] = {
    "fork": ("fork", "EPERM"),
    "os_system": ("system", None),
    "memfd_execve": ("execve", "EPERM"),
    "tcp_connect": ("connect", "EACCES"),  # Landlock (man 7 landlock); the runtime client itself needs connect
    "udp_sendto": ("socket", "EPERM"),
    "ptrace": ("ptrace", "EPERM"),
}


@dataclass
class Prey:
    """What the attacks aim at, in a folder of its own: files, listeners on loopback, a process."""

    folder: Path
    tcp: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    udp: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    victim: subprocess.Popen[bytes] = field(default_factory=lambda: subprocess.Popen(["sleep", "600"]))

    def __post_init__(self) -> None:
        self.udp.bind(("127.0.0.1", 0))
        self.tcp.setblocking(False)
        self.udp.setblocking(False)

    def marker(self, attack: str) -> Path:
        """The file that the attack leaves when it succeeds."""
        return self.folder / f"marker-{attack}"

    def event(self, attack: str) -> dict[str, Any]:
        """The attack's event, aimed here."""
        found: dict[str, Any] = json.loads((THUMBNAIL / "attacks" / f"{attack}.json").read_text())
        address = (self.udp if attack == "udp_sendto" else self.tcp).getsockname()
        aims = {"marker": str(self.marker(attack)), "target": f"127.0.0.1:{address[1]}", "victim": self.victim.pid}
        return found | {key: value for key, value in aims.items() if key in found}

    def effect(self, attack: str) -> bool:
        """Whether the attack can be seen to have happened, whatever it says itself."""
        if attack in ("fork", "os_system", "memfd_execve"):
            return self.marker(attack).exists()
        if attack == "ptrace":
            status = Path(f"/proc/{self.victim.pid}/status").read_text()
            return "TracerPid:\t0\n" not in status
        try:
            if attack == "udp_sendto":
                return bool(self.udp.recv(64))
            self.tcp.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """End what was started."""
        self.tcp.close()
        self.udp.close()
        self.victim.kill()
        self.victim.wait()


@pytest.fixture(scope="module")
def prey() -> Iterator[Prey]:
    """Something to attack."""
    with place(None) as folder:
        found = Prey(folder)
        yield found
        found.close()


@pytest.fixture(scope="module", params=["1", "0"], ids=["supervised", "filter alone"])
def supervised(request: pytest.FixtureRequest) -> str:
    """SANDBOX_SUPERVISE."""
    return str(request.param)


@pytest.fixture(scope="module")
def enforced(thumbnail: Learned, prey: Prey, supervised: str) -> list[dict[str, Any]]:
    """The results of `sandbox invoke` with each attack and, after each, an event that training never saw."""
    held_out = [json.loads(path.read_text()) for path in HELD_OUT]
    events = [event for n, attack in enumerate(ATTACKS) for event in (prey.event(attack), held_out[n % len(held_out)])]
    workshop = thumbnail.workshop
    more = {"SANDBOX_SUPERVISE": supervised}
    return workshop.invoke(thumbnail.profile, thumbnail.start, workshop.events(*events), expect=None, more=more)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_and_the_function_goes_on(
    enforced: list[dict[str, Any]], prey: Prey, attack: str, supervised: str
) -> None:
    """The exact errno at the call that counts, no effect, and the next event is served."""
    if attack == "tcp_connect" and supervised == "0" and landlock.abi_version() < 4:
        pytest.skip("this kernel cannot limit TCP by port (Landlock ABI 4); the supervisor decides there")
    at = 2 * ATTACKS.index(attack)
    attacked, following = enforced[at : at + 2]
    assert not prey.effect(attack)
    assert following["status"] == "ok", following
    if attack == "ptrace" and supervised == "1":
        # The supervisor ends who tries; the next event met a new process.
        assert (attacked["status"], attacked["error_type"]) == ("error", "Runtime.ExitError")
        return
    assert attacked["status"] == "ok", attacked
    report = json.loads(attacked["result"])["computed"]["attack"]
    call, error = REFUSALS[attack]
    assert (report["attack"], report["happened"], report["call"]) == (attack, False, call)
    if attack == "tcp_connect" and supervised == "1":
        assert report["error"] == "EPERM"  # the supervisor looks at the destination before Landlock does
    elif error is not None:
        assert report["error"] == error
    else:
        assert report["status"] == 127 << 8  # man 3 system: no child could be made


def test_held_out_events_get_the_same_answers_as_without_the_sandbox(thumbnail: Learned) -> None:
    """Enforcement changes nothing for the events of everyday, seen in training or not."""
    events = [json.loads(path.read_text()) for path in (*HELD_OUT, *sorted((THUMBNAIL / "events").glob("*.json")))]
    # What is drawn as noise is another picture each time.
    events = [event for event in events if event["image"]["kind"] != "noise"]
    workshop = thumbnail.workshop
    results = workshop.invoke(thumbnail.profile, thumbnail.start, workshop.events(*events))
    with Environment(bare()) as environment:
        for event, line in zip(events, results, strict=True):
            outcome = environment.invoke(Invocation(json.dumps(event).encode()))
            assert (line["status"], outcome.status) == ("ok", "ok")
            assert json.loads(line["result"]) == json.loads(outcome.payload)


def bare() -> Function:
    """The function under its runtime client and nothing else."""
    command = (sys.executable, "-m", "awslambdaric", "app.handler")
    return Function(command, str(THUMBNAIL), handler="app.handler")


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attacks_are_live(prey: Prey, attack: str) -> None:
    """Without the sandbox each of them happens; else their refusal would say nothing."""
    with Environment(bare(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as environment:
        outcome = environment.invoke(Invocation(json.dumps(prey.event(attack)).encode()))
    if attack == "memfd_execve":  # a success takes the runtime's place, so that nobody is left to answer
        assert outcome.status == "crash"
    else:
        report = json.loads(outcome.payload)["computed"]["attack"]
        assert report["happened"], report
    if attack != "ptrace":  # it has let go of its victim again
        assert prey.effect(attack)
        prey.marker(attack).unlink(missing_ok=True)


def test_no_attack_is_left_out() -> None:
    """Each event in examples/thumbnail/attacks is tried here."""
    assert {path.stem for path in (HOME / "examples/thumbnail/attacks").glob("*.json")} == set(ATTACKS)
