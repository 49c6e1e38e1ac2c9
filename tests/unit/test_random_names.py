"""Random parts of names: known shapes from one path, others from two that differ there, and secrets never."""

from __future__ import annotations

import tempfile
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.behaviour import destination
from sandbox.behaviour.path import check, covers
from sandbox.profile.random_names import generalised, sockets

DIGEST = "0123456789abcdef" * 4
POOL = ("/tmp/pool/pymp-k2j4_x1z/listener-0a1b2c3d", "/tmp/pool/pymp-abcdefgh/listener-zzzzzzzz")


def one(*paths: str) -> str:
    """The one pattern that paths become."""
    (found,) = generalised(paths)
    return found


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (POOL[0], "/tmp/pool/pymp-*/listener-*"),
        ("/tmp/tmpk2j4_x1z", "/tmp/tmp*"),
        ("/tmp/tmpk2j4_x1z.zip", "/tmp/tmp*.zip"),
        ("/tmp/tmp.Ab3dEf6hIj/out", "/tmp/tmp.*/out"),
        ("/srv/jobs/0F9E8D7C-0000-4000-8000-0123456789ab.json", "/srv/jobs/*.json"),
        ("/srv/cache/sha256-" + DIGEST, "/srv/cache/sha256-*"),
        (f"/sys/fs/cgroup/system.slice/docker-{DIGEST}.scope/memory.max",
         "/sys/fs/cgroup/system.slice/docker-*.scope/memory.max"),
        ("/sys/fs/cgroup/kubepods/pod0f9e8d7c_0000_4000_8000_0123456789ab/x", None),
        ("/srv/data/template", None), ("/srv/data/tmpdir.d", None), ("/srv/data/defaced", None),
        ("/srv/data/00000000000000000000000000000000", None), ("/srv/data/job-1234", None),
        ("/srv/data/2026-11-30.csv", None),
    ],
)  # fmt: skip
def test_one_path(path: str, pattern: str | None) -> None:
    """A shape that only a tool makes is enough by itself; a word, a number and a date are not."""
    assert one(path) == (pattern or path)


@pytest.mark.parametrize(
    ("paths", "pattern"),
    [
        (("/srv/in/2026-11-28/a", "/srv/in/2026-11-29/a"), "/srv/in/*/a"),
        (("/srv/in/2026/11/28/a", "/srv/in/2026/12/01/a"), "/srv/in/2026/*/*/a"),
        (("/srv/log/app-20261130T101112Z.log", "/srv/log/app-20261130T101113Z.log"), "/srv/log/app-*.log"),
        (("/srv/run/worker-1234.sock", "/srv/run/worker-77777.sock"), "/srv/run/worker-*.sock"),
        (("/tmp/w-7", "/tmp/w-31"), "/tmp/w-*"),
        (("/srv/in/k3j4h5g6/x", "/srv/in/a9b8c7d6/x"), "/srv/in/*/x"),
    ],
)
def test_two_paths(paths: tuple[str, str], pattern: str) -> None:
    """What differs between two of one shape is random; with one of them, it keeps its name."""
    assert one(*paths) == pattern
    assert [one(path) for path in paths] == list(paths)


@pytest.mark.parametrize(
    "paths",
    [
        ("/srv/a/settings", "/srv/a/defaults"), ("/srv/a/v1", "/srv/a/v2"), ("/srv/a/x-100", "/srv/b/x-101"),
        ("/mnt/tenant-1001/x", "/mnt/tenant-1002/x"), ("/srv/2026-11-28", "/srv/2026-11-29"),
        ("/etc/app/key-1001", "/etc/app/key-1002"), ("/run/secrets/a/1001", "/run/secrets/a/1002"),
        ("/var/run/secrets/x/2026-11-28/t", "/var/run/secrets/x/2026-11-29/t"),
        ("/root/key-1001", "/root/key-1002"), ("/home/u/key-1001", "/home/u/key-1002"),
        ("/home/u/.ssh/key-1001", "/home/u/.ssh/key-1002"), ("/root/.aws/sso/" + DIGEST, "/root/.aws/sso/x"),
    ],
)
def test_words_and_secrets_keep_their_names(paths: tuple[str, str]) -> None:
    """Words, small numbers, other folders, whole mounts, homes and folders of secrets."""
    assert generalised(paths) == set(paths)


def test_what_means_all_below_stays() -> None:
    """A folder with all below it is no random name, and its own random parts are found."""
    assert generalised({"/srv/in/**", "/tmp/**"}) == {"/srv/in/**", "/tmp/**"}
    assert one("/srv/in/job-1001/**", "/srv/in/job-1002/**") == "/srv/in/job-*/**"


def test_names_of_this_python() -> None:
    """The shapes are those that tempfile makes today."""
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(suffix=".csv") as file:
        names = [folder.rpartition("/")[2], file.name.rpartition("/")[2]]
    assert [one(f"/tmp/{name}") for name in names] == ["/tmp/tmp*", "/tmp/tmp*.csv"]
    assert one(f"/tmp/{uuid.uuid4()}") == "/tmp/*"


NAMES = st.sampled_from(["a", "b-1001", "b-1002", "b-*", "tmpk2j4_x1z", "c", "2026-11-28", "2026-11-29", "k3j4h5g6",
                         "h5g6k3j4", "x1", "x2", "*", ".ssh"])  # fmt: skip
PATHS = st.builds(
    "{}/{}".format, st.sampled_from(["/tmp", "/srv", "/srv/in", "/etc", "/home/u", "/run/secrets"]),
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
)  # fmt: skip
SETS = st.frozensets(PATHS, max_size=8)


@given(SETS, SETS)
def test_nothing_is_lost_and_the_order_does_not_matter(some: frozenset[str], more: frozenset[str]) -> None:
    """Each path is covered by a pattern that the grammar takes; once more, or in two steps, it is the same."""
    found = generalised(some | more)
    for path in some | more:
        assert any(covers(pattern, path) for pattern in found), path
    for pattern in found:
        assert check(pattern, "some") == pattern or pattern in some | more
    assert generalised(found) == found
    assert generalised(generalised(some) | more) == found


def test_sockets_of_a_pool() -> None:
    """The paths of unix sockets alike; other entries stay as they were written."""
    others = {"db.internal:5432", "tcp://127.0.0.1:4001", "tcp://127.0.0.1:4002", "unix:@k2j4_x1z", "nonsense"}
    found = sockets({f"unix:{path}" for path in POOL} | others)
    assert found == others | {"unix:/tmp/pool/pymp-*/listener-*"}
    assert sockets(found) == found
    names = {"unix:@listener-4711-0", "unix:@listener-99-0", "unix:@/tmp/dbus-k3X9aQ2m1Z", "unix:@/tmp/dbus-Zb3dEf6h9Q"}
    kept = {"unix:@plain", "unix:@17", "unix:@18", "any", "own"}
    assert sockets(names | kept) == {"unix:@listener-*-0", "unix:@/tmp/dbus-*"} | kept
    assert sockets({"unix:@listener-0abcdef1", "unix:@pymp-k2j4_x1z"}) == {"unix:@listener-*", "unix:@pymp-*"}
    assert sockets([f"unix:{POOL[0]}", "unix:/tmp/pool/pymp-*/listener-*"]) == {"unix:/tmp/pool/pymp-*/listener-*"}
    (entry,) = destination.entries(found - others)
    assert (entry.kind, str(entry), entry.is_pattern) == ("pattern", "unix:/tmp/pool/pymp-*/listener-*", True)
