"""Which libraries reached what in training: from the stacks of waiting threads into the profile, and on from there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from layered_libraries import install
from sandbox_command import Workshop
from users_and_folders import identity

from sandbox.profile import document
from sandbox.profile.model import Library, Profile


@contextmanager
def servers(count: int) -> Iterator[list[int]]:
    """So many TCP servers on loopback that accept and close: their ports."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return

    threads = [threading.Thread(target=serve, args=(listener,)) for listener in listeners]
    for thread in threads:
        thread.start()
    try:
        yield [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def trained(workshop: Workshop) -> Iterator[tuple[Profile, Path, list[int]]]:
    """The profile of the handler of tests/layered_libraries.py, its file, and five ports that it connected to."""
    root = install(workshop.new(""))
    path = workshop.new()
    with servers(5) as ports:
        shell = ["/bin/bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{ports[4]}"]
        events = workshop.events(
            {"do": [["wire", "dial", ports[0]], ["kit", "dial", ports[0]], ["wire", "dial", ports[1]]]},
            {"do": [["own", "dial", ports[2]]]},
            {"do": [["thread", "dial", ports[3]], ["wire", "run", *shell]]},
            {"do": [["wire", "dial", ports[0]], ["kit", "run", "/usr/bin/true"], ["own", "run", "/usr/bin/env"]]},
            {"do": [["wire", "serve"], ["kit", "note", "/tmp/noted"], ["own", "note", "/tmp/own"]]},
        )  # fmt: skip
        start = ("--handler", "app.handler", "--root", root, "--events", events, "--cold-starts", "1")
        workshop.sandbox("learn", "layers", *start, "--output", path)
        yield document.read(str(path)).profile, path, ports


def test_a_destination_lists_the_libraries_that_connect(trained: tuple[Profile, Path, list[int]]) -> None:
    """The innermost library and the outermost that the function calls, or who started a program; not the function."""
    profile, _, ports = trained
    to = [f"tcp://127.0.0.1:{port}" for port in ports]
    both = ["kit-cloud", "wire-line"]
    assert {entry: names for entry, names in profile.users("network").items() if entry in to} == {
        to[0]: both, to[1]: ["wire-line"], to[3]: both, to[4]: ["wire-line"],
    }  # fmt: skip
    assert to[2] in profile.network


def test_programs_listeners_folders_and_dangerous_calls_have_theirs(
    trained: tuple[Profile, Path, list[int]],
) -> None:
    """What Python's library does for the function's own code is Python's; its reasons name the library's function."""
    profile, path, _ = trained
    both = ["kit-cloud", "wire-line"]
    assert profile.users("processes") == {
        "/usr/bin/true": both, "/usr/bin/env": ["python"], "/bin/bash": ["wire-line"],
    }  # fmt: skip
    assert profile.users("listen") == {"tcp://127.0.0.1:*": ["wire-line"]}
    assert profile.users("write") == {"/tmp/*": ["function", *both]}
    execs = next(use for use in profile.uses if use.syscall == "execve")
    assert execs.by == {*both, "python"}
    assert not any(use.by for use in profile.uses if use.syscall in ("connect", "openat"))
    connects = next(use for use in profile.uses if use.syscall == "connect")
    assert connects.because == {"learned from every event, by wire-line 1.4 wireline/__init__.py dial and 1 other"}
    assert document.write(profile) == path.read_text()


def test_a_log_of_production_carries_them(workshop: Workshop) -> None:
    """Observed by its own starter, a plain program has the same words in the profile that is made of its log."""
    root, path = install(workshop.new("")), workshop.new()
    with servers(1) as (port,):
        script = f"import app; app.handler({{'do': [['kit', 'dial', {port}], ['wire', 'run', '/usr/bin/true']]}}, None)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(workshop.home / "bootstrap"), sys.executable, "-c", script], cwd=root,
            env={"PATH": os.defpath, "SANDBOX_MODE": "learn"}, capture_output=True, text=True, check=True,
            **identity(workshop.uid),
        )  # fmt: skip
    log = workshop.new(".log")
    log.write_text("".join(f"web-1 | {line}\n" for line in done.stderr.splitlines()))
    workshop.sandbox("learn", "layers", "--from", log, "--output", path)
    profile = document.read(str(path)).profile
    assert profile.users("network")[f"tcp://127.0.0.1:{port}"] == ["kit-cloud", "wire-line"]
    assert profile.users("processes") == {"/usr/bin/true": ["wire-line"]}
    assert Library("wire-line", "1.4", run="executed") in profile.libraries


def test_the_libraries_that_training_met_are_a_bill_of_materials(
    workshop: Workshop, trained: tuple[Profile, Path, list[int]]
) -> None:
    """Each with its version and the phases in which its code was opened and ran; what was not imported is not there."""
    profile, path, _ = trained
    met = {library.name: library for library in profile.libraries}
    assert met["wire-line"] == Library("wire-line", "1.4", "loaded", "executed")
    assert met["kit-cloud"] == Library("kit-cloud", "0.9", "loaded", "executed")
    assert met["awslambdaric"].invoke == "executed"
    assert "idle" not in met
    bill = json.loads(workshop.sandbox("profile", "bom", path).stdout)
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "layers")
    wire = next(one for one in bill["components"] if one["purl"] == "pkg:pypi/wire-line@1.4")
    assert {one["name"]: one["value"] for one in wire["properties"]} == {
        "seccomp-bootstrap:init": "loaded", "seccomp-bootstrap:invoke": "loaded",
        "seccomp-bootstrap:executed": "invoke",
    }  # fmt: skip
    shown = workshop.sandbox("profile", "show", path).stdout
    assert "loaded in training, on stacks awslambdaric, kit-cloud, wire-line\n" in shown
