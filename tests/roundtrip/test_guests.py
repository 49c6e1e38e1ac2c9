"""The whole way in each guest: learned outside, compiled, started under ./bootstrap there, attacked; and learned there.

The outcomes are the table in docs/platforms.md. UPDATE_PLATFORMS=1 writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from guests import GUESTS, inside
from guests.hosts import why_not
from sandbox_command import Workshop
from supervised_programs import native_starter
from users_and_folders import HOME, home_for, imports, place

from sandbox import errors, tripwire
from sandbox.kernel import abi, landlock
from sandbox.learn.host import ask_for_client
from sandbox.learn.training import bootstrap
from sandbox.profile import document
from sandbox.runtime_api import Environment, Function, Invocation, Outcome

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "guests can be made")

PAGE = HOME / "docs" / "platforms.md"
BEGIN, END = "<!-- guests: tests/roundtrip/test_guests.py -->\n", "<!-- end -->"
STRANGER = 1000
"""A uid of a guest: what it can read, all can."""
EVENTS = ({"x": 1}, {"x": [1, 2]})
ATTACKS = ("fork", "system", "tcp", "udp")
DOCTOR = "import json, sys; sys.path.insert(0, {home!r}); from sandbox.doctor import *; print(judge(examine()).tier)"
guest_by_name = pytest.mark.parametrize("name", GUESTS)


@dataclass
class Ran:
    """What became of a start in a guest: the status line (None: there was none), and each event's outcome."""

    status: dict[str, Any] | None
    outcomes: list[Outcome]
    attacks: dict[str, bool] = field(default_factory=dict)
    log: str = ""

    @property
    def degraded(self) -> list[str]:
        """What the log says is missing, without the figures of this machine."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith('{"event": "degraded"')]
        said = [*(self.status or {}).get("degraded", ()), *(line["reason"] for line in lines)]
        return [re.sub(r" \(.*\)$", "", text.partition("\n")[0]) for text in said]

    @property
    def cell(self) -> str:
        """What the table says of it."""
        failed = next((outcome for outcome in self.outcomes if outcome.status != "ok"), None)
        if failed:
            return f"refuses: exit {failed.exit_status}, `{failed.error_type}`"
        said = f"; says: {', '.join(self.degraded)}" if self.degraded else ""
        through = [name for name, happened in self.attacks.items() if happened]
        return f"works{said}" + (f"; lets through: {', '.join(through)}" if through else "")


class Trial:
    """A profile that was learned on this machine, and starts of its function in guests."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.profile = workshop.new()
        start = ("--handler", "attacked.handler", "--root", workshop.targets)
        workshop.sandbox("learn", "attacked", "--no-verify", *start, "--events", workshop.events(*EVENTS),
                         "--output", self.profile, "--cold-starts", "1")  # fmt: skip
        self.bundle = workshop.new("")
        workshop.sandbox("compile", self.profile, "--output", self.bundle)
        subprocess.run(["chmod", "-R", "a+rX", str(workshop.folder)], check=True)
        client = ask_for_client(None, str(workshop.targets))
        self.common = {
            "SANDBOX_PYTHON": client.path, "AWS_EXECUTION_ENV": client.execution_environment,
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def run(
        self, guest: str, variables: Mapping[str, str], *, fatal: Collection[str] = (), attack: bool = True,
        native: bool = False,
    ) -> Ran:  # fmt: skip
        """Serve the events, and the attacks, in a guest, started by the bootstrap or the native launcher."""
        home = self.workshop.home
        there = (str(native_starter(home)),) if native else (*bootstrap()[:-1], str(home / "bootstrap"))
        function = Function(
            command=(*inside(guest, fatal=fatal), *there), root=str(self.workshop.targets), name="attacked",
            handler="attacked.handler", environment={**self.common, **variables}, timeout=20,
        )  # fmt: skip
        log = self.workshop.new(".log")
        with log.open("w+b") as output, Environment(function, stdout=output, stderr=output) as served:
            ran = Ran(None, [])
            for event in EVENTS:
                ran.outcomes.append(served.invoke(Invocation(json.dumps(event).encode())))
                if ran.outcomes[-1].status != "ok":
                    break  # a start that failed is tried anew with each event
            if attack and ran.outcomes[-1].status == "ok":
                ran.attacks = {name: self._attack(served, name) for name in ATTACKS}
                ran.outcomes.append(served.invoke(Invocation(json.dumps(EVENTS[0]).encode())))
        ran.log = log.read_text(errors="replace")
        lines = [json.loads(line) for line in ran.log.splitlines() if line.startswith('{"event": "sandbox"')]
        ran.status = lines[0] if lines else None
        return ran

    def _attack(self, served: Environment, name: str) -> bool:
        """Whether an attack had its effect, whatever the function says of it."""
        marker = Path(f"/tmp/attacked-{os.getpid()}-{name}")
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            for listener in (tcp, udp):
                listener.bind(("127.0.0.1", 0))
                listener.settimeout(0.2)
            tcp.listen()
            port = (tcp if name == "tcp" else udp).getsockname()[1]
            event = {"attack": name, "marker": str(marker), "port": port}
            outcome = served.invoke(Invocation(json.dumps(event).encode()))
            assert outcome.status == "ok", outcome
            with contextlib.suppress(TimeoutError):
                if name == "tcp":
                    tcp.accept()[0].close()
                    return True
                if name == "udp":
                    return bool(udp.recv(64))
        happened = marker.exists()
        marker.unlink(missing_ok=True)
        return happened


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    """One for all guests."""
    tripwire.path(abi.MACHINE)
    with place(None) as folder, home_for(STRANGER) as home:
        if reason := imports(STRANGER, home):
            pytest.skip(reason)
        yield Trial(Workshop(None, home, folder))


ENFORCED: dict[str, tuple[Ran, Ran]] = {}
LEARNED: dict[str, str] = {}
UNFILTERED = "lambda-like without seccomp"
DETECTED = f"{UNFILTERED}, `SANDBOX_ON_UNAVAILABLE=best`"
TIERS: dict[str, str] = {}


@guest_by_name
def test_enforced(trial: Trial, name: str) -> None:
    """Unsupervised, and supervised by each starter: it works and the attacks fail, or what is missing is said."""
    found = []
    for supervise, native in (("0", False), ("1", False), ("1", True)):
        ran = trial.run(name, {"SANDBOX_POLICY": str(trial.bundle), "SANDBOX_SUPERVISE": supervise}, native=native)
        found.append(ran)
        if any(outcome.status != "ok" for outcome in ran.outcomes):
            types = {error.error_type for error in vars(errors).values() if hasattr(error, "error_type")}
            assert {outcome.error_type for outcome in ran.outcomes} <= types, ran.log
            assert len(ran.outcomes) == 1
            continue
        assert ran.status is not None
        assert json.loads(ran.outcomes[0].payload)["uid"] == GUESTS[name].uid
        assert not any(ran.attacks[attack] for attack in ("fork", "system", "udp")), ran.log
        limited = not any(text.startswith("network") for text in ran.degraded)
        # A supervisor refuses a destination also where it can only look, and the status line says that.
        assert ran.attacks["tcp"] == (not limited and supervise == "0"), ran.log
        assert ("supervision" in ran.status["enforced"]) == (
            supervise == "1" and not any(text.startswith("supervision") for text in ran.degraded)
        )
    assert found[2].cell == found[1].cell
    ENFORCED[name] = found[0], found[1]


def test_detected(trial: Trial) -> None:
    """Where no filter can be installed the function serves below a tripwire, which refuses and reports the attacks."""
    found = []
    for supervise in ("0", "1"):
        ran = trial.run(
            UNFILTERED, {"SANDBOX_POLICY": str(trial.bundle), "SANDBOX_SUPERVISE": supervise,
                         "SANDBOX_ON_UNAVAILABLE": "best"},
        )  # fmt: skip
        assert ran.status is not None, ran.log
        assert all(outcome.status == "ok" for outcome in ran.outcomes), ran.log
        assert ran.status["tier"] == "detects"
        assert not any(ran.attacks.values()), ran.log
        lines = [json.loads(line) for line in ran.log.splitlines() if line.startswith('{"event": "violation"')]
        requests = {line["request"] for line in lines}
        assert {line["syscall"] for line in lines} == {"clone", "connect", "socket"}
        assert len(requests) >= len(ATTACKS)
        assert None not in requests, json.dumps([line for line in lines if not line["request"]])
        assert {line["by"]["handler"]["function"] for line in lines} == {f"_{name}" for name in ATTACKS}
        found.append(ran)
    ENFORCED[DETECTED] = found[0], found[1]


@guest_by_name
def test_learned(trial: Trial, name: str) -> None:
    """Learned in the guest the profile promises what it does on this machine, or the error says why it cannot be."""
    told = Path(f"/tmp/learned-{os.getpid()}-{name.replace(' ', '-')}.jsonl")
    try:
        ran = trial.run(name, {"SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(told)}, attack=False)
        if any(outcome.status != "ok" for outcome in ran.outcomes):
            failed = ran.outcomes[0]
            assert failed.error_type in ("Runtime.SandboxInstallRefused", "Runtime.SandboxListenerBusy"), ran.log
            LEARNED[name] = f"refuses: exit {failed.exit_status}, `{failed.error_type}`"
            return
        path = trial.workshop.new()
        trial.workshop.sandbox("learn", "there", "--from", told, "--output", path)
    finally:
        told.unlink(missing_ok=True)
    there, here = document.read(str(path)).profile, document.read(str(trial.profile)).profile
    assert set(there.promises) == set(here.promises)
    LEARNED[name] = "works"


@guest_by_name
def test_the_doctors_tier(trial: Trial, name: str) -> None:
    """The doctor in the guest says beforehand what the start turns out to be."""
    command = [*inside(name), "/usr/bin/python3", "-I", "-S", "-c", DOCTOR.format(home=str(trial.workshop.home))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    TIERS[name] = done.stdout.strip()
    plain, supervised = ENFORCED[name]
    assert (plain.status is not None) == TIERS[name].startswith("kernel")
    in_force = supervised.status is not None and "supervision" in supervised.status["enforced"]
    assert in_force == (TIERS[name] == "kernel + supervisor")


HARMLESS = {
    # Landlock is looked for: a kernel without it says ENOSYS, too.
    "0": {"landlock_create_ruleset"},
    # A supervisor closes its memory by prctl, which nothing else does and nothing tells beforehand, and looks whether
    # it can duplicate descriptors. Each is handled where it is refused, and what is missing then is said.
    "1": {"landlock_create_ruleset", "prctl", "pidfd_open"},
}


WITHOUT_THREADS = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"}
"""From Python 3.12 on the runtime client waits for events in a thread, and glibc asks for one with clone3 first. That
is the function's own call, behind our exec: under this name the client makes no thread, and every clone3 is ours."""


@pytest.mark.parametrize(("supervise", "native"), [("0", False), ("1", False), ("1", True)])
def test_nothing_that_is_refused_is_called_on_the_way_in(trial: Trial, supervise: str, native: bool) -> None:
    """A Lambda-like guest that ends a process for the first call that it refuses, but for those that are looked for."""
    fatal = GUESTS["lambda-like"].refused.keys() - HARMLESS[supervise]
    variables = {"SANDBOX_POLICY": str(trial.bundle), "SANDBOX_SUPERVISE": supervise, **WITHOUT_THREADS}
    ran = trial.run("lambda-like", variables, fatal=fatal, attack=False, native=native)
    assert [outcome.status for outcome in ran.outcomes] == ["ok"] * len(EVENTS), ran.log
    for name in HARMLESS[supervise]:
        ran = trial.run("lambda-like", variables, fatal=[name], attack=False, native=native)
        assert ran.outcomes[0].status != "ok", f"{name} is not called any more: take it from the list"


def test_the_table(trial: Trial) -> None:
    """docs/platforms.md holds the outcomes of this very run."""
    if landlock.abi_version() < 6:
        pytest.skip("the table is that of a kernel with Landlock ABI 6")
    rows = ["| guest | `sandbox doctor` | enforced | with a supervisor | learned there |", "|---|---|---|---|---|"]
    for name in GUESTS:
        plain, supervised = ENFORCED[name]
        rows.append(f"| {name} | {TIERS[name]} | {plain.cell} | {supervised.cell} | {LEARNED[name]} |")
        if name == UNFILTERED:
            plain, supervised = ENFORCED[DETECTED]
            rows.append(f"| {DETECTED} | {TIERS[name]} | {plain.cell} | {supervised.cell} | the same |")
    text = "\n" + "\n".join(rows) + "\n\n"
    before, mark, rest = PAGE.read_text().partition(BEGIN)
    if os.environ.get("UPDATE_PLATFORMS"):
        PAGE.write_text(before + mark + text + rest[rest.index(END) :])
        return
    assert mark
    assert rest[: rest.index(END)] == text
