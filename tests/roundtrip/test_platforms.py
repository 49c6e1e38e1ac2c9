"""`--platform`: training and `invoke` have what a platform has, and lack what it lacks, as far as this host allows."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from refusing_filters import below
from sandbox_command import Workshop

from sandbox.learn.platforms import LAMBDA
from sandbox.profile import document

FACTS = ("--handler", "platform_facts.handler")


@pytest.fixture
def root(workshop: Workshop) -> str:
    """A folder that everybody can read, with the function alone."""
    folder = workshop.new("")
    folder.mkdir()
    shutil.copy(workshop.targets / "platform_facts.py", folder)
    for path in (workshop.folder, folder):
        path.chmod(0o755)
    (folder / "platform_facts.py").chmod(0o644)
    return str(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_lambda(workshop: Workshop, root: str) -> None:
    """The function sees what Lambda has; the profile says so, holds what happens there, and serves there."""
    path, start = workshop.new(), (*FACTS, "--root", root, "--platform", "lambda", "--events", workshop.events({}))
    learned = workshop.sandbox("learn", "facts", *start, "--cold-starts", "1", "--output", path)
    assert "trained for lambda: /tmp fresh for each start" in learned.stdout
    assert "not as on lambda" not in learned.stdout
    assert LAMBDA.user
    there = {
        "user": [LAMBDA.user.uid, LAMBDA.user.gid, LAMBDA.user.home], "groups": [], "limits": [1024, 1024],
        "home": None, "devices": sorted([*LAMBDA.devices, "fd", "stdin", "stdout", "stderr"]), "null": "ok",
        "made": {"/tmp": "ok", "/var/tmp": "EROFS", root: "EROFS"},
        "prctl": "EPERM", "pidfd_open": "ENOSYS", "epoll_pwait2": "ENOSYS", "landlock": "ENOSYS",
        "get_mempolicy": "ok",
    }  # fmt: skip
    served = workshop.sandbox("invoke", path, *start, "--json")
    assert json.loads(json.loads(served.stdout)["result"]) == there
    assert '"event": "violation"' not in served.stderr
    assert '"platform: calls ' in served.stderr
    profile = document.read(str(path)).profile
    assert [training.platform for training in profile.trainings] == ["lambda"]
    assert not {"prctl", "pidfd_open"} & {use.syscall for use in profile.uses}
    assert profile.writes == {"/dev/null", "/tmp/*"}
    assert profile.verified
    assert (profile.verified.audit, profile.verified.enforce) == ("ok", "ok")
    assert "trained for lambda" in workshop.sandbox("profile", "lint", path).stdout


def test_what_lambda_lacks_is_told(workshop: Workshop, root: str) -> None:
    """A lock of multiprocessing fails as it does there; trained for this host, the report says what differs."""
    path, start = workshop.new(), (*FACTS, "--root", root, "--events", workshop.events({"lock": True}))
    plain = ("--cold-starts", "1", "--no-verify", "--output", path)
    failed = workshop.sandbox("learn", "facts", *start, *plain, "--platform", "lambda", expect=74)
    assert "failed in cold start 1: " in failed.stderr
    assert "No such file or directory" in failed.stderr
    assert "with --platform host it runs as if nothing of lambda were missing" in failed.stderr
    assert not path.exists()
    learned = workshop.sandbox("learn", "facts", *start, *plain)
    assert "trained for host: /tmp and /dev/shm fresh" in learned.stdout
    assert "pidfd_open, epoll_pwait2, landlock_create_ruleset and it has no /dev/shm; --platform lambda" in (
        learned.stdout
    )
    assert [training.platform for training in document.read(str(path)).profile.trainings] == [""]


def test_what_cannot_be_imitated_is_told(workshop: Workshop, root: str) -> None:
    """Without mounts, and with a file that others cannot read: the report says what is not as there."""
    secret = Path(root) / "secret.txt"
    secret.touch(0o600)
    arguments = ("learn", "facts", *FACTS, "--root", root, "--platform", "lambda", "--events", workshop.events({}))
    command = [sys.executable, "-m", "sandbox", *map(str, arguments), "--cold-starts", "1", "--output"]
    done = subprocess.run(
        below({"mount": errno.EPERM, "unshare": errno.EPERM}, *command, str(workshop.new())), cwd=workshop.folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("trained for lambda")]
    assert "/tmp is the host's (unshare(CLONE_NEWNS): Operation not permitted)" in line
    assert "as on lambda: 1024 descriptors, no HOME, it refuses prctl, pidfd_open" in line
    missing = line.partition("not as on lambda: ")[2]
    assert "no /dev/shm, only /tmp can be written to" in missing
    assert "1024 processes and threads" in missing
    if os.geteuid() == 0:
        assert f"its user ({secret} cannot be read by others)" in missing


def test_a_container(workshop: Workshop, root: str) -> None:
    """What engines' default filters refuse fails as there; shared memory is there, and the user stays."""
    events, path = workshop.events({"lock": True}), workshop.new()
    start = (*FACTS, "--root", root, "--platform", "container", "--events", events)
    workshop.sandbox("learn", "facts", *start, "--cold-starts", "1", "--no-verify", "--output", path)
    served = json.loads(json.loads(workshop.sandbox("invoke", path, *start, "--json").stdout)["result"])
    assert served["get_mempolicy"] == "EPERM"
    assert (served["prctl"], served["pidfd_open"], served["user"][0]) == ("ok", "ok", os.getuid())
