"""From learned paths to the places of a policy: folding, what covers what, and what no rule can stand for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from guests import profile
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour.path import check, covers
from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.generalise import generalise
from sandbox.learn.observations import read
from sandbox.learn.records import Start
from sandbox.policy import build
from sandbox.profile import base
from sandbox.profile.folding import changed
from sandbox.profile.model import Profile, Use

PARTS = st.sampled_from(["a", "b", "c", "x*y", "?", "[z]"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.frozensets(PATHS, max_size=6))
def test_every_entry_can_be_made_again(entries: frozenset[str]) -> None:
    """For each entry that training made, the folder above it is in a pattern, and never the root folder."""
    patterns = changed(entries)
    assert all(any(covers(pattern, entry) for pattern in patterns) for entry in entries)
    assert not {"/*", "/**"} & patterns


def test_a_folder_that_training_made() -> None:
    """What lies in a made folder counts for the one above, since the name may be another next time."""
    assert changed({"/tmp/x9/a", "/tmp/x9"}) == {"/tmp/**", "/tmp/*"}
    assert changed({"/data/out/report"}) == {"/data/out/*"}
    assert changed({"/file"}) == {"/file"}


@given(st.frozensets(PATHS, max_size=6), st.frozensets(PATHS, max_size=6), st.frozensets(PATHS, max_size=6))
def test_whatever_was_learned_compiles(
    reads: frozenset[str], writes: frozenset[str], entries: frozenset[str]
) -> None:
    """Any path of an observation ends in a pattern that the compiler takes and that covers it."""
    start = Start(api=False, places={"{root}": "/a/b"})
    found = generalise([ColdStart("0" * 16, "x", start, reads=reads, writes=writes, entries=entries)], "some").profile
    told = build.file_fields(found)
    held = [*found.reads, *found.writes]
    for path in reads | writes:
        inside = path == "/a/b" or path.startswith("/a/b/")
        assert any(covers(pattern, path) for pattern in held) or (inside and "{root}/**" in held)
    assert told["listed"] is bool(held)


def test_the_base_is_well_formed() -> None:
    """Each place of files.yaml is a pattern with a reason, none twice, and no secret is among them."""
    readable, writable = base.readable("connected", "runtime"), base.writable()
    for place in (*readable, *writable):
        assert check(place.path, "base") == place.path
        assert place.because
    for found in (readable, writable):
        assert len({place.path for place in found}) == len(found)
    for secret in (
        "/root/.aws/credentials", "/home/u/.ssh/id_rsa", "/etc/shadow", "/run/secrets/x", "/etc/ssl/private/k",
        "/var/run/secrets/kubernetes.io/serviceaccount/token", "/tmp/x", "/var/task/.env",
    ):  # fmt: skip
        assert not any(covers(place.path, secret) for place in (*readable, *writable)), secret


def test_what_a_policy_tells() -> None:
    """Nothing for a profile without files, the base and the profile's own otherwise; programs where exec is granted."""
    told = build.file_fields(profile("execve"))
    assert told == {
        "listed": False, "read": [], "write": [], "limited": False, "programs": [], "memfd": False, "renames": False
    }  # fmt: skip
    own = Profile(profile().function, reads=frozenset({"/srv/x", "/usr/share/y"}), processes=frozenset({"/bin/true"}))
    told = build.file_fields(own)
    assert told["limited"] is False  # no exec
    assert isinstance(told["read"], list)
    assert {"/srv/x", "/usr/**", "/proc/**"} <= set(told["read"])
    assert "/usr/share/y" not in told["read"]
    assert isinstance(told["write"], list)
    assert not set(told["write"]) & set(told["read"])  # who may write may read
    connected = build.file_fields(dataclasses.replace(own, network=frozenset({"tcp:db:5432"})))["read"]
    assert isinstance(connected, list)
    assert set(connected) - set(told["read"]) >= {"/etc/hosts", "/etc/ssl/certs/**"}
    threads = dataclasses.replace(own, uses=frozenset({Use("run", "clone", "thread")}))
    assert "/sys/devices/system/cpu/**" in build.file_fields(threads)["read"]  # type: ignore[operator]
    assert not [place for place in told["read"] if place.startswith("/sys")]
    assert told["write"] == ["/dev/full", "/dev/null", "/dev/tty"]


def test_entries_of_an_observation(tmp_path: Path) -> None:
    """A line of mode `entry` is read as an entry and not as a written file."""
    file = tmp_path / "x.jsonl"
    head = {"event": "start", "format": 1, "environment": "e", "time": 1.0}
    line = {"event": "file", "value": "/tmp/x", "mode": "entry", "environment": "e", "time": 1.0}
    file.write_text(json.dumps(head) + "\n" + json.dumps(line) + "\n")
    (found,) = read([str(file)])
    assert found.entries == {"/tmp/x"}
    assert not found.writes | found.reads
