"""Names that change from run to run: sockets of process pools, and files of a volume that is turned over meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_command import Workshop, workshop_of
from users_and_folders import USERS, user_id

from sandbox.kernel import landlock
from sandbox.profile import document

POOLS = """
import multiprocessing, os, tempfile

tempfile.tempdir = {folder!r}


def handler(event, context):
    method = multiprocessing.get_context("forkserver")
    if event.get("shared"):
        with method.Manager() as manager:
            table = manager.dict()
            table["sum"] = -sum(event["numbers"])
            return table["sum"]
    with method.Pool(2) as pool:
        return sum(pool.map(int.__neg__, event["numbers"]))
"""

VOLUME = """
import os, time

MOUNT = {folder!r}


def handler(event, context):
    end, first = time.monotonic() + event.get("wait", 0), os.readlink(MOUNT + "/..data")
    while time.monotonic() < end and os.readlink(MOUNT + "/..data") == first:
        time.sleep(0.02)
    with open(MOUNT + "/app.yaml") as file:
        return file.read()
"""


REPLACED = """
import os, time

PLACE = {folder!r} + "/conf/settings.json"


def handler(event, context):
    end, first = time.monotonic() + event.get("wait", 0), os.stat(PLACE).st_ino
    with open(PLACE) as file:
        before = file.read()
    while time.monotonic() < end and os.stat(PLACE).st_ino == first:
        time.sleep(0.02)
    with open(PLACE) as file:
        return before + " " + file.read()
"""


TERMINALS = """
import os, tty


def handler(event, context):
    master, slave = os.openpty()
    tty.setraw(slave)
    os.write(slave, b"through")
    with open(os.ttyname(slave), "rb"):
        return os.read(master, 100).decode()
"""


@pytest.fixture(scope="module", params=USERS, ids=user_id)
def workshop(request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """Each user with the commands."""
    with workshop_of(request.param, "/var/tmp") as found:
        yield found


def function(workshop: Workshop, name: str, code: str) -> tuple[Path, tuple[str, ...]]:
    """A folder for the data of a function that knows its place, and the options that start it."""
    root, folder = workshop.folder / name, workshop.folder / f"{name}-data"
    for place in (root, folder):
        place.mkdir()
    (root / "app.py").write_text(code.format(folder=str(folder)))
    for place in (root, folder, root / "app.py"):
        place.chmod(0o777)
    return folder, ("--handler", "app.handler", "--root", str(root))


def test_pools_are_served_after_training(workshop: Workshop) -> None:
    """The fork server is handed descriptors over a socket whose name is new in every run, as a manager's is."""
    folder, start = function(workshop, "pools", POOLS)
    training = workshop.events({"numbers": [1, 2]}, {"numbers": [3], "shared": True})
    path = workshop.new()
    workshop.sandbox("learn", "pools", "--no-verify", *start, "--events", training, "--output", path)
    entries = {entry for entry in document.read(str(path)).profile.network if entry.startswith("unix:")}
    # The manager runs in a child of the fork server, which has not imported the handler.
    assert entries == {f"unix:{folder}/pymp-*/listener-*", "unix:/tmp/pymp-*/listener-*"}
    others = workshop.events({"numbers": [4, 5, 6]}, {"numbers": [7], "shared": True})
    assert [line["result"] for line in workshop.invoke(path, start, others)] == ["-15", "-7"]


def publish(mount: Path, version: int) -> None:
    """Turn a volume over as Kubernetes does: a new folder, the link turned over, the old folder removed."""
    data, folder = mount / "..data", mount / f"..2026_11_30_{version}"
    old = os.readlink(data) if data.is_symlink() else ""
    folder.mkdir()
    (folder / "app.yaml").write_text(f"version {version}")
    if not old:
        (mount / "app.yaml").symlink_to("..data/app.yaml")
    (mount / "..data_tmp").symlink_to(folder.name)
    (mount / "..data_tmp").rename(data)
    if old:
        (mount / old / "app.yaml").unlink()
        (mount / old).rmdir()


@pytest.mark.skipif(landlock.abi_version() < 3, reason="Landlock ABI 3 is needed (Linux 6.2)")
def test_a_volume_is_readable_after_it_was_turned_over(workshop: Workshop) -> None:
    """Between training and start, and while the function runs; what lies beside the volume is not opened."""
    mount, start = function(workshop, "volume", VOLUME)
    publish(mount, 1)
    path = workshop.new()
    workshop.sandbox("learn", "volume", "--no-verify", *start, "--events", workshop.events({}), "--output", path)
    reads = document.read(str(path)).profile.reads
    assert f"{mount}/**" in reads
    assert not [pattern for pattern in reads if pattern != f"{mount}/**" and pattern.startswith(str(workshop.folder))]
    publish(mount, 2)
    turned = threading.Timer(3, publish, (mount, 3))
    turned.start()
    events = workshop.events({}, {"wait": 60}, {})
    results = [json.loads(line["result"]) for line in workshop.invoke(path, start, events)]
    turned.join()
    assert results[1:] == ["version 3", "version 3"]


@pytest.mark.skipif(landlock.abi_version() < 3, reason="Landlock ABI 3 is needed (Linux 6.2)")
def test_a_file_that_was_replaced_in_training_is_readable_when_it_is_replaced(workshop: Workshop) -> None:
    """The profile opens its folder, and no more; enforced, the function reads what is put in the file's place."""
    folder, start = function(workshop, "replaced", REPLACED)
    conf = folder / "conf"
    conf.mkdir()
    conf.chmod(0o755)

    def put(number: int) -> None:
        (conf / "next").write_text(str(number))
        (conf / "next").chmod(0o644)
        (conf / "next").rename(conf / "settings.json")

    @contextlib.contextmanager
    def replacing() -> Iterator[None]:
        over = threading.Event()

        def run() -> None:
            while not over.wait(0.5):
                put(next(numbers))

        thread = threading.Thread(target=run)
        thread.start()
        yield
        over.set()
        thread.join()

    numbers = itertools.count(1)
    put(next(numbers))
    path = workshop.new()
    training = workshop.events({"wait": 60})
    options = ("--no-verify", "--events", training, "--cold-starts", "1", "--output", path)
    with replacing():
        workshop.sandbox("learn", "replaced", *start, *options)
    assert f"{conf}/**" in document.read(str(path)).profile.reads
    with replacing():
        (line,) = workshop.invoke(path, start, workshop.events({"wait": 60}))
    before, after = map(int, json.loads(line["result"]).split())
    assert 0 < before < after


def test_pseudo_terminals_of_any_number_are_served(workshop: Workshop) -> None:
    """A function that makes a pair of pseudo-terminals gets another number in production, and its two ends work."""
    _, start = function(workshop, "terminals", TERMINALS)
    path, events = workshop.new(), workshop.events({})
    workshop.sandbox("learn", "terminals", *start, "--events", events, "--cold-starts", "1", "--output", path)
    assert "/dev/pts/*" in document.read(str(path)).profile.writes
    mine = os.openpty()
    try:
        (line,) = workshop.invoke(path, start, events)
    finally:
        for end in mine:
            os.close(end)
    assert json.loads(line["result"]) == "through"
