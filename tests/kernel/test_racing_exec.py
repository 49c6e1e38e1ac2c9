"""Execs of a path that changes between the supervisor's look and the exec: what is not listed never runs."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from guests import LOADING, profile
from supervised_programs import Supervision, supervision
from users_and_folders import TARGETS, USERS, identity, place

from sandbox.confine.install import SEIZED, STOPPED, WHAT_STARTS
from sandbox.confine.landlock_rules import chain
from sandbox.errors import FunctionTerminated
from sandbox.kernel import abi, landlock
from sandbox.policy import build
from sandbox.supervise.executing import SWAPPED, UNSTOPPED

GOOD, BAD, RAN = "program-a", "program-b", "ran"
SECONDS = "20"
"""Bounds a race that nobody wins; one that is won ends at once."""
CALLS = (
    *LOADING, "execve", "clone process", "clone thread", "vfork", "wait4", "openat write", "openat create", "pwrite64",
    "ftruncate", "symlink", "rename", "unlink", "pause", "timer_create", "timer_settime",
)  # fmt: skip
HOWS = ("shared", "file", "threads", "vfork", "places", "timer")


class Host(NamedTuple):
    """What a host refuses, what the function learned besides, and what the status line says of its execs."""

    refused: Mapping[str, int]
    learned: Sequence[str]
    said: str


NO_PTRACE, NO_LANDLOCK = {"ptrace": errno.EPERM}, {"landlock_create_ruleset": errno.ENOSYS}
BY_CALL = "the first call that is notified"
HOSTS = {
    "Landlock": Host({}, (), SEIZED), "no Landlock": Host(NO_LANDLOCK, (), SEIZED),
    "no ptrace": Host(NO_PTRACE, (), STOPPED), "neither": Host({**NO_PTRACE, **NO_LANDLOCK}, (), STOPPED),
}  # fmt: skip
ALONE = Host({**NO_PTRACE, **NO_LANDLOCK}, ("kill SIGCONT to others",), STOPPED)
"""Where the function could take a SIGSTOP back, so that no stop can be relied on."""
RACES = [
    (uid, native, host, how)
    for uid, native, host, hows in (
        (USERS[-1], False, "no Landlock", HOWS), (USERS[-1], False, "neither", ("shared", "file", "vfork", "timer")),
        (USERS[-1], False, "no ptrace", ("threads", "places")), (USERS[-1], True, "Landlock", ("shared", "places")),
        (USERS[0], False, "no Landlock", ("shared", "file")), (USERS[0], False, "Landlock", ("vfork",)),
        (USERS[0], True, "no ptrace", ("shared",)),
    )
    for how in hows
]  # fmt: skip


class Track(Supervision):
    """A folder with a listed program, another one of a name of the same length, and the race between them."""

    bundles = Path()
    """Where its user renames nothing."""

    def races(self, hows: Sequence[str], host: str = "", learned: Sequence[str] = ()) -> tuple[Path, list[str]]:
        """A bundle, and the command of a race for it.

        Where Landlock holds the programs the other one is the loader, which it must let start, and which starts what is
        not listed. Elsewhere it is what is not listed itself.
        """
        programs = self.folder / "programs"
        if not programs.exists():
            if not shutil.which("cc"):
                pytest.skip("no C compiler (cc)")
            programs.mkdir()
            for name, code in ((GOOD, "7"), ("unlisted", f'write(1, "{RAN}", {len(RAN)}) < 0 ? 8 : 9')):
                linger = "usleep(100000);" * (name != GOOD)
                text = f"#include <unistd.h>\nint main() {{ int code = {code}; {linger} return code; }}"
                subprocess.run(["cc", "-x", "c", "-o", programs / name, "-"], input=text, text=True, check=True)
            subprocess.run(["cc", "-O1", "-pthread", "-o", programs / "race", TARGETS / "racing_exec.c"], check=True)
            (programs / "loader").mkdir()
            (programs / "itself").mkdir()
            loader = next(path for path, is_loader in chain(str(programs / "unlisted"), "") if is_loader)
            for folder, other in (("loader", loader), ("itself", programs / "unlisted")):
                shutil.copy(programs / GOOD, programs / folder)
                (programs / folder / BAD).symlink_to(other)
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        if self.uid is not None:
            os.chown(work, self.uid, self.uid)
        subprocess.run(["chmod", "-R", "a+rX", programs], check=True)
        listed = programs / ("itself" if "landlock_create_ruleset" in self.refused or not host else "loader")
        found = dataclasses.replace(
            profile(*CALLS, *learned), processes=frozenset({str(listed / GOOD)}), reads=frozenset({"/**"}),
            writes=frozenset({f"{work}/*"}),
        )  # fmt: skip
        self._numbers += 1
        made = self.bundles / f"{self._numbers}.bundle"
        build.write(build.build(found, (abi.MACHINE,)), str(made))
        subprocess.run(["chmod", "-R", "a+rX", made], check=True)
        other = str(programs / "unlisted")
        return made, [str(programs / "race"), ",".join(hows), str(listed / GOOD), str(listed / BAD), SECONDS, other]

    def survivors(self) -> list[str]:
        """The processes that still run a program of this folder."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                exe = os.readlink(f"/proc/{entry}/exe")
            except OSError:
                continue
            found += [exe] * exe.startswith(str(self.folder))
        return found


@pytest.fixture(scope="module")
def tracks() -> Iterator[Mapping[int | None, Supervision]]:
    """A folder for each user, under the bootstrap."""
    with supervision(USERS[0]) as first, supervision(USERS[-1]) as last, place(None) as bundles:
        bundles.chmod(0o755)
        Track.bundles = bundles
        yield MappingProxyType({USERS[0]: first, USERS[-1]: last})


def on(found: Supervision, refused: Mapping[str, int], *, native: bool) -> Track:
    """The same folder on a host that refuses these calls."""
    found._numbers += 100
    track = Track(found.uid, found.home, found.folder, refused, native=native)
    track._numbers = found._numbers
    return track


def test_each_race_can_be_won(tracks: Mapping[int | None, Supervision]) -> None:
    """Bare, each of them starts what is not listed, whether that is reached by the loader or by itself."""
    track = on(tracks[USERS[-1]], {}, native=False)
    for host in ("", "Landlock"):
        _, command = track.races(HOWS, host)
        said = track.bare(*command, limit=5 * float(SECONDS))
        lines = [list(map(int, line.split())) for line in said.replace(RAN, "").splitlines()]
        assert len(lines) == len(HOWS), said
        assert all(good > 0 and bad > 0 for _, good, bad, *_ in lines), said


@pytest.mark.parametrize(("uid", "native", "host", "how"), RACES)
def test_what_is_not_listed_never_starts(
    tracks: Mapping[int | None, Supervision], uid: int | None, native: bool, host: str, how: str
) -> None:
    """The first exec that something else stands in ends the whole function; the line names both files.

    But for a stop that a timer takes back, it makes not one instruction of its own.
    """
    if "Landlock" not in HOSTS[host].refused and not landlock.abi_version() and native:
        pytest.skip("the launcher leaves hosts without Landlock to the bootstrap")
    track = on(tracks[uid], HOSTS[host].refused, native=native)
    bundle, command = track.races([how], host)
    done = track.run(bundle, *command)
    assert RAN not in done.stdout or how == "timer", done.stdout
    assert done.code == FunctionTerminated.exit_code, (done.stdout, done.stderr)
    assert not track.survivors()
    swapped = [line for line in done.violations if line["reason"].startswith(SWAPPED)]
    assert [(line["verdict"], line["target"]) for line in swapped] == [("terminated", command[2])]
    other = os.path.realpath(command[3])
    assert swapped[0]["reason"].endswith(other) or f": {other} as " in swapped[0]["reason"]
    assert WHAT_STARTS + HOSTS[host].said in done.stderr
    assert not [line for line in done.events if line["event"] == "degraded"]


@pytest.mark.parametrize("uid", USERS)
def test_where_nothing_stops_it_nobody_may_change_the_path(
    tracks: Mapping[int | None, Supervision], uid: int | None
) -> None:
    """No ptrace, no Landlock, and a function that may send SIGCONT: each of these is refused, a plain exec is not.

    The log says that what starts is compared at its first notified call.
    """
    track = on(tracks[uid], ALONE.refused, native=False)
    bundle, command = track.races(HOWS, "neither", ALONE.learned)
    command[4] = "0.1"
    done = track.run(bundle, *command)
    assert RAN not in done.stdout
    lines = [list(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [(good, bad, others) for _, good, bad, _, others in lines] == [(0, 0, 0)] * len(HOWS), done.stdout
    reasons = {line["reason"] for line in done.violations}
    assert all("Landlock does not hold" in reason or "does not list" in reason for reason in reasons), reasons
    plain = "import os; pid = os.fork(); pid or os.execv(PATH, [PATH]); print(os.wait()[1] >> 8)"
    done = track.run(bundle, "/usr/bin/python3", "-I", "-S", "-c", plain.replace("PATH", repr(command[2])))
    assert (done.stdout, done.violations) == ("7\n", [])
    assert any(BY_CALL in line["reason"] for line in done.events if line["event"] == "degraded")


def test_audit_reports_what_it_lets_go_on(tracks: Mapping[int | None, Supervision]) -> None:
    """Nothing is ended or refused: both programs start, each line says reported, and the status line how it is told."""
    track = on(tracks[USERS[-1]], {}, native=False)
    bundle, command = track.races(["shared"], "Landlock")
    done = track.run(bundle, *command, more={"SANDBOX_MODE": "audit"})
    execs, good, bad, refused, others = map(int, done.stdout.replace(RAN, "").split())
    assert (done.code, refused, others, good + bad) == (0, 0, 0, execs)
    assert good > 0 < bad
    assert {line["verdict"] for line in done.of("execve")} == {"reported"}
    assert WHAT_STARTS + SEIZED in done.stderr


def test_a_function_that_is_traced_keeps_its_tracer(tracks: Mapping[int | None, Supervision]) -> None:
    """Under strace -f every exec of a listed program starts it, nothing is stopped, and the log says what is left."""
    if not shutil.which("strace"):
        pytest.skip("no strace")
    track = on(tracks[USERS[-1]], {}, native=False)
    bundle, (race, how, good, *rest) = track.races(["vfork"], "Landlock")
    tracer = ("strace", "-f", "-qq", "-e", "trace=none", "-o", "/dev/null", str(track.starter))
    done = subprocess.run(
        [*tracer, race, how, good, good, "0.1", rest[-1]], env=track.environment(bundle, 2, {"SANDBOX_EVENTS": ""}),
        cwd=track.folder, capture_output=True, text=True, timeout=60, check=False, **identity(track.uid),
    )  # fmt: skip
    execs, started, *others = map(int, done.stdout.split())
    assert (execs, others) == (started, [0, 0, 0]), done.stderr
    assert UNSTOPPED in done.stderr
