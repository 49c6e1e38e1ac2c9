"""A profile that was trained on too little: one audit heals it; refusals heal it in a few rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from agreement import AUDIT, LOOKING, Trip, everyday, greeter
from sandbox_command import Event, Workshop, workshop_of
from users_and_folders import TARGETS, USERS, user_id

from sandbox.kernel import landlock
from sandbox.profile import base

pytestmark = pytest.mark.skipif(landlock.abi_version() < 3, reason="Landlock ABI 3 is needed (Linux 6.2)")

KINDS: dict[str, list[Event]] = {
    "spill": [{"do": "spill", "n": 9}, {"do": "spill", "n": 3000}],
    "folders": [{"do": "folders", "n": 2}],
    "lazy": [{"do": "lazy", "modules": ["difflib", "_curses"]}],
    "child": [{"do": "child", "path": str(TARGETS / "hello.py"), "port": "PORT"}],
    "pool": [{"do": "pool", "n": 2}],
    "names": [{"do": "names", "hosts": ["localhost", "127.0.0.1"]}],
    "server": [{"do": "server", "n": 2, "port": 0}],
    "state": [{"do": "state", "n": 2, "folder": "FOLDER"}],
    "logs": [{"do": "logs", "n": 99, "folder": "FOLDER"}],
}


@pytest.fixture(scope="module", params=[None], ids=[user_id(None)])
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


@pytest.mark.parametrize("trained_on_nothing", USERS, indirect=True, ids=user_id)
def test_one_audit_heals(trained_on_nothing: tuple[Trip, Path]) -> None:
    """What audit let through passes after amend, without a line."""
    trip, profile = trained_on_nothing
    with greeter() as port:
        trip.heals_by_audit(profile, events(list(KINDS), trip.workshop, port))


@for_users(*KINDS, others=("spill",))
def test_refusals_heal_in_a_few_rounds(trained_on_nothing: tuple[Trip, Path], kind: str) -> None:
    """Each run is stopped by what the last one could not see; after five at most nothing is refused."""
    trip, profile = trained_on_nothing
    with greeter() as port:
        rounds = trip.heals_by_refusals(profile, events([kind], trip.workshop, port))
    assert rounds > 0


def joined(known: Any, more: Any) -> Any:
    """Two values of a profile as one: mappings by their keys, lists as sets."""
    if isinstance(known, dict) and isinstance(more, dict):
        return {key: joined(known.get(key), more.get(key)) for key in {**known, **more}}
    if isinstance(known, list) and isinstance(more, list):
        return sorted({*known, *more})
    return more if known is None else known


def applied(profile: Any, text: str) -> Any:
    """A profile with a line's `allow`, as a person would put it in: its dotted key says where it belongs."""
    ((key, value),) = yaml.safe_load(text).items()
    for name in reversed(key.split(".")):
        value = {name: value}
    return joined(profile, value)


def test_what_lines_say_to_allow_has_its_effect(trained_on_nothing: tuple[Trip, Path]) -> None:
    """The `allow` of every line of an audit, put into the profile by hand, serves the events without a line."""
    trip, profile = trained_on_nothing
    with greeter() as port:
        # A port that the kernel chooses is another one at each event: only amend knows that it is the function's own.
        asked = events([kind for kind in KINDS if kind != "server"], trip.workshop, port)
        audited = trip.serve(profile, asked, AUDIT)
        edited = yaml.safe_load(profile.read_text())
        for text in sorted({line["allow"] for line in audited.lines if line["event"] == "violation"}):
            edited = applied(edited, text)
        # Words for groups of these calls; an error names those that are left out.
        edited["promises"] = [promise.name for promise in base.promises()]
        by_hand = trip.workshop.new()
        by_hand.write_text(yaml.safe_dump(edited))
        served = trip.serve(by_hand, asked, LOOKING)
    assert served.is_quiet, (served.failed, served.told)
