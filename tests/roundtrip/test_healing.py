"""A profile that was trained on too little: one audit heals it; refusals heal it in a few rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agreement import Trip, everyday, greeter
from sandbox_command import Event, Workshop, workshop_of
from users_and_folders import TARGETS, USERS, user_id

from sandbox.kernel import landlock

pytestmark = pytest.mark.skipif(landlock.abi_version() < 3, reason="Landlock ABI 3 is needed (Linux 6.2)")

KINDS: dict[str, list[Event]] = {
    "spill": [{"do": "spill", "n": 9}, {"do": "spill", "n": 3000}],
    "folders": [{"do": "folders", "n": 2}],
    "lazy": [{"do": "lazy", "modules": ["difflib", "_curses"]}],
    "child": [{"do": "child", "path": str(TARGETS / "hello.py"), "port": "PORT"}],
    "pool": [{"do": "pool", "n": 2}],
    "names": [{"do": "names", "hosts": ["localhost", "127.0.0.1"]}],
    "state": [{"do": "state", "n": 2, "folder": "FOLDER"}],
    "logs": [{"do": "logs", "n": 99, "folder": "FOLDER"}],
}


@pytest.fixture(scope="module")
def trained_on_nothing(request: pytest.FixtureRequest) -> Iterator[tuple[Trip, Path]]:
    """Each user's function with the profile of an event that does nothing."""
    with workshop_of(request.param) as workshop:
        trip = Trip(workshop, everyday(workshop))
        yield trip, trip.learn({})


def events(kinds: list[str], workshop: Workshop, port: int) -> list[Event]:
    """The events of the kinds, with the port of a server and a folder that is new."""
    folder = workshop.new("")
    folder.mkdir()
    folder.chmod(0o777)
    known = {"PORT": port, "FOLDER": str(folder)}
    return [{key: known.get(str(value), value) for key, value in one.items()} for kind in kinds for one in KINDS[kind]]


def for_users(*kinds: str, others: tuple[str, ...]) -> pytest.MarkDecorator:
    """Each kind as the tests' own user, and some as the other users."""
    runs = [(uid, kind) for uid in USERS for kind in (kinds if uid is None else others)]
    return pytest.mark.parametrize(
        ("trained_on_nothing", "kind"), runs, indirect=["trained_on_nothing"],
        ids=[f"{user_id(uid)}-{kind}" for uid, kind in runs],
    )  # fmt: skip


@for_users(*KINDS, "all", others=("all",))
def test_one_audit_heals(trained_on_nothing: tuple[Trip, Path], kind: str) -> None:
    """What audit let through passes after amend, without a line."""
    trip, profile = trained_on_nothing
    with greeter() as port:
        trip.heals_by_audit(profile, events(list(KINDS) if kind == "all" else [kind], trip.workshop, port))


@for_users(*KINDS, others=("child", "spill"))
def test_refusals_heal_in_a_few_rounds(trained_on_nothing: tuple[Trip, Path], kind: str) -> None:
    """Each run is stopped by what the last one could not see; after five at most nothing is refused."""
    trip, profile = trained_on_nothing
    with greeter() as port:
        rounds = trip.heals_by_refusals(profile, events([kind], trip.workshop, port))
    assert rounds > 0
