"""What was trained is served without a line: enforced, looked at and in audit; in any network, in any guest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from agreement import LOOKING, MODES, Trip, everyday, greeter
from child_processes import in_child
from guests import inside
from guests.hosts import why_not
from resolving_world import PORT, unshared
from sandbox_command import Event, Workshop, workshop_of
from users_and_folders import NOBODY, TARGETS, USERS, user_id

from sandbox.learn.host import ask_for_client
from sandbox.learn.training import bootstrap
from sandbox.runtime_api import Environment, Function, Invocation


def kinds(folder: Path, port: int) -> tuple[list[Event], list[Event]]:
    """What a function is trained on, and other events of the same kinds."""
    path, hosts = str(TARGETS / "hello.py"), ["localhost", "127.0.0.1", "::1"]
    trained: list[Event] = [
        {"do": "spill", "n": 3000}, {"do": "folders", "n": 1}, {"do": "lazy", "modules": ["difflib", "_curses"]},
        {"do": "child", "path": path, "port": port}, {"do": "names", "hosts": hosts},
        {"do": "server", "n": 1, "port": 0},
        {"do": "archives", "n": 1, "folder": str(folder)}, {"do": "host"},
        {"do": "state", "n": 2, "folder": str(folder)}, {"do": "logs", "n": 60, "folder": str(folder)},
    ]  # fmt: skip
    others: list[Event] = [
        {}, {"do": "spill", "n": 9}, {"do": "spill", "n": 9000}, {"do": "folders", "n": 5},
        {"do": "lazy", "modules": ["plistlib", "_decimal"]}, {"do": "names", "hosts": hosts[::-1]},
        {"do": "server", "n": 4, "port": 0},
        {"do": "archives", "n": 3, "folder": str(folder)},
        {"do": "state", "n": 1, "folder": str(folder)}, {"do": "logs", "n": 99, "folder": str(folder)},
    ]  # fmt: skip
    return trained, others


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """Each user with the commands."""
    with workshop_of(request.param) as found:
        yield found


def test_what_was_trained_is_served_without_a_line(workshop: Workshop) -> None:
    """In each mode the events of the training, and others of their kinds."""
    trip = Trip(workshop, everyday(workshop))
    with greeter() as port:
        trained, others = kinds(workshop.folder, port)
        trained.append({"do": "pool", "n": 2})
        profile = trip.learn({}, *trained)
        for mode in MODES.values():
            served = trip.serve(profile, [*trained, *others], mode)
            assert served.is_quiet, (served.failed, served.told)


class GuestTrip(Trip):
    """The same in a guest: the function and its bootstrap, not the command, are there."""

    def __init__(self, workshop: Workshop, start: Sequence[str], guest: str) -> None:
        super().__init__(workshop, start)
        self.guest, self.lines = guest, workshop.folder / "data"

    def invoke(
        self, profile: Path, events: Path, more: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> tuple[list[dict[str, Any]], str]:
        """As `sandbox invoke`."""
        bundle, log = self.workshop.new(""), self.workshop.new(".log")
        self.workshop.sandbox("compile", profile, "--output", bundle)
        subprocess.run(["chmod", "-R", "a+rX", str(bundle)], check=True)
        client = ask_for_client(None, self.start[-1])
        environment = {
            "SANDBOX_POLICY": str(bundle), "SANDBOX_PYTHON": client.path, "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_EXECUTION_ENV": client.execution_environment, **more,
        }  # fmt: skip
        command = (*inside(self.guest), *bootstrap()[:-1], str(self.workshop.home / "bootstrap"))
        function = Function(
            command=command, root=self.start[-1], name="trip", handler="everyday.handler",
            environment=environment, timeout=30,
        )  # fmt: skip
        found = []
        with log.open("w+b") as output, Environment(
            function, stdout=output, stderr=output, pass_fds=pass_fds
        ) as served:
            for line in events.read_text().splitlines():
                outcome = served.invoke(Invocation(line.encode()))
                good = outcome.status == "ok"
                said = json.loads(outcome.payload) if good else f"{outcome.error_type}: {outcome.error_message}"
                found.append({"event": line, "status": outcome.status, "result": said})
        return found, log.read_text(errors="replace")


GUESTS = ("lambda-like", "docker-like", "without landlock")


@pytest.fixture(scope="module")
def open_workshop() -> Iterator[Workshop]:
    """A workshop of root's whose checkout everybody may read, with a folder that everybody may write, `data`."""
    with workshop_of(NOBODY) as found:
        found.uid = None
        os.chown(found.folder, 0, 0)
        found.folder.chmod(0o755)
        (found.folder / "data").mkdir()
        (found.folder / "data").chmod(0o777)
        yield found


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "guests can be made")
def test_in_guests(open_workshop: Workshop) -> None:
    """Trained on this machine, served in guests, and healed there by an audit; with owned sockets, without Landlock."""
    trip = Trip(open_workshop, everyday(open_workshop))
    with greeter() as port:
        data = open_workshop.folder / "data"
        trained, others = kinds(data, port)
        profile, nothing = trip.learn({}, *trained), trip.learn({})
        for guest in GUESTS:
            shutil.rmtree(data)  # what another uid made there
            data.mkdir()
            data.chmod(0o777)
            there = GuestTrip(open_workshop, trip.start, guest)
            served = there.serve(profile, [*trained, *others], LOOKING)
            assert served.is_quiet, (guest, served.failed, served.told)
            # More at once than a run has lines for.
            there.heals_by_audit(nothing, [one for one in trained if one["do"] not in ("archives", "host")])


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace: needs root")
@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "dual"])
def test_names(workshop: Workshop, ipv6: bool) -> None:
    """Names looked up in all ways and connected to, with IPv4 only and with both; an audit tells names by name."""
    hosts = ["one.demo.test", "twin.demo.test", "both.demo.test"]
    events: list[Event] = [{"do": "names", "hosts": hosts}, {"do": "connects", "hosts": hosts, "port": PORT}]
    trip = Trip(workshop, everyday(workshop))

    def inside_network() -> list[str]:
        found = []
        with unshared(ipv6=ipv6):
            trip.heals_by_audit(trip.learn({}), events)
            profile = trip.learn({}, *events)
            for name, mode in MODES.items():
                served = trip.serve(profile, events, mode)
                found += [] if served.is_quiet else [f"{name}: {served.failed} {served.told}"]
        return found

    assert in_child(inside_network, None) == []
