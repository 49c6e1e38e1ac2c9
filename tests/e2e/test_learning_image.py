"""An image with our wrapper as ENTRYPOINT: it learns with no profile, its log makes one, and that is enforced there.

runc starts the container with a read-only root and nothing to write to; the host's own programs are its image.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from http_servers import answers, free_port
from process_table import until
from sandbox_command import LIMIT, Workshop, workshop_of

SYSTEM = ("usr", "lib", "lib64", "bin", "etc")
RIGHTS = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID")
"""Of root in a container, as engines give them."""


@dataclass(frozen=True)
class Container:
    """One that runs: its runc, its name, and the file that its output goes to."""

    runc: tuple[str, ...]
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def end(self, number: signal.Signals) -> int:
        """The exit status after this signal to its first process."""
        subprocess.run([*self.runc, "kill", self.name, number.name], check=True)
        return self.process.wait(LIMIT)


class Image:
    """The image, and runc to start it."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.folder = workshop.folder
        self.runc = ("runc", "--root", str(self.folder / "state"))
        self._count = 0
        for name in (*SYSTEM, "proc", "dev", "app", "policy"):
            (self.folder / "rootfs" / name).mkdir(parents=True)
        workshop.sandbox("package", "image", "--learn", "--output", self.folder / "learn.tar")
        unpack = ("tar", "-xpf", self.folder / "learn.tar", "-C", self.folder / "rootfs", "--no-same-owner")
        subprocess.run(unpack, check=True)

    @contextlib.contextmanager
    def started(self, uid: int, *command: str, policy: Path | None = None, **variables: str) -> Iterator[Container]:
        """A container in which this user starts the command by the wrapper; killed at the end."""
        binds = {f"/{name}": f"/{name}" for name in SYSTEM} | {"/app": str(self.workshop.targets)}
        if policy:
            binds["/policy"] = str(policy)
        variables = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **variables}
        self._write(uid, ("/opt/sandbox/wrapper", *command), binds, variables)
        self._count += 1
        name, log = f"sandbox-test-{os.getpid()}-{self._count}", self.folder / f"{self._count}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.runc, "run", "-b", str(self.folder), name],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            yield Container(self.runc, name, process, log)
        finally:
            subprocess.run([*self.runc, "delete", "--force", name], capture_output=True, check=False)
            process.wait(LIMIT)

    def _write(self, uid: int, args: tuple[str, ...], binds: Mapping[str, str], variables: Mapping[str, str]) -> None:
        rights = list(RIGHTS) if uid == 0 else []
        mounts = [
            {"destination": inside, "type": "bind", "source": outside, "options": ["rbind", "ro"]}
            for inside, outside in binds.items()
        ]
        configuration = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": uid}, "args": list(args), "cwd": "/app",
                "env": [f"{key}={value}" for key, value in variables.items()],
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), rights),
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}, *mounts,
            ],
            "linux": {"namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts")]},
        }  # fmt: skip
        (self.folder / "config.json").write_text(json.dumps(configuration))


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Skips where runc starts nothing."""
    if os.geteuid() or not shutil.which("runc") or not Path("/usr/bin/python3").exists():
        pytest.skip("needs root, runc and Debian's python3")
    with workshop_of(None) as workshop:
        found = Image(workshop)
        with found.started(0, "/usr/bin/true", SANDBOX_MODE="off") as container:
            if container.process.wait(LIMIT):
                pytest.skip(f"runc starts nothing here: {container.log.read_text()[-200:]}")
        yield found


@pytest.mark.parametrize(("uid", "end"), [(0, signal.SIGTERM), (65534, signal.SIGKILL)])
def test_an_image_without_a_profile_learns_one(image: Image, uid: int, end: signal.Signals) -> None:
    """Served and observed, loudly; its log makes a profile, however it ends, that serves and refuses a shell there."""
    port = free_port()
    command = ("/usr/bin/python3", "server.py", str(port))
    with image.started(uid, *command, SANDBOX_MODE="learn") as container:
        assert answers(port, "/shell") == (200, "pwned\n")
        assert answers(port, "/hello") == (200, "/hello")
        assert container.end(end) == 128 + end
        log = container.log.read_text()
    status = json.loads(log.splitlines()[0])
    assert (status["mode"], status["enforced"]) == ("learn", ["hard deny"])
    assert "sandbox: LEARNING: NOTHING IS ENFORCED" in log
    with image.started(uid, *command, SANDBOX_MODE="learn") as container:
        for _ in range(2):  # what the server did after its first answer is seen when the second comes
            assert answers(port, "/hello") == (200, "/hello")
        assert container.end(end) == 128 + end
        log = container.log.read_text()
    profile, bundle = image.workshop.new(), image.workshop.new("")
    composed = "".join(f"web-1  | {line}\n" for line in log.splitlines())
    learned = image.workshop.sandbox("learn", "web", "--from", "-", "--output", profile, given=composed)
    assert "in 1 runs" in learned.stdout
    image.workshop.sandbox("compile", profile, "--output", bundle)
    with image.started(uid, *command, policy=bundle, SANDBOX_POLICY="/policy") as container:
        assert answers(port, "/hello") == (200, "/hello")
        assert answers(port, "/shell")[0] == 500
        assert container.end(signal.SIGTERM) == 128 + signal.SIGTERM
        said = container.log.read_text()
    assert '"mode": "enforce"' in said
    refused = {json.loads(line)["syscall"] for line in said.splitlines() if '"violation"' in line}
    assert refused <= {"vfork", "clone", "pipe2"}


ORPHANS = """
for i in 1 2 3; do (true & exec true); done; (sh -c 'sleep 0.2' & exec true)
sleep 0.5; cat /proc/[0-9]*/stat | grep -c ') Z '
"""


def test_the_first_process_leaves_no_zombies(image: Image) -> None:
    """In a container the observer gets the children that lost their parent, and reaps them."""
    with image.started(0, "/bin/sh", "-c", ORPHANS, SANDBOX_MODE="learn") as container:
        container.process.wait(LIMIT)
        said = container.log.read_text().splitlines()
    assert [line for line in said if line.isdigit()] == ["0"]


def test_an_early_end_is_not_lost(image: Image) -> None:
    """A container's first process ignores what it has no handler for: SIGTERM while it starts ends the program then."""
    with image.started(0, "/bin/sleep", "60", SANDBOX_MODE="learn") as container:
        until(lambda: b"LEARNING" in container.log.read_bytes())
        assert container.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_an_image_without_a_profile_serves_in_no_other_mode(image: Image) -> None:
    """Without SANDBOX_MODE=learn it does not start."""
    with image.started(65534, "/usr/bin/true") as container:
        assert container.process.wait(LIMIT) == 67
        assert "Runtime.SandboxPolicyNotFound" in container.log.read_text()
