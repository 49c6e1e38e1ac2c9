"""What each part of the sandbox does in each guest: one start a mode, under the launcher, in a network of its own.

rows = [parts.row for parts in examine()]      # as root; what docs/platforms.md shows
python tests/guests/parts.py                   # the same rows, for other kernels (tools/kernels)
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(HOME / "tests"), str(HOME)]

from child_processes import in_child  # noqa: E402  # started by itself it needs the two folders first
from resolving_world import unshared  # noqa: E402
from supervised_programs import PYTHON, SOCKETS, native_starter  # noqa: E402
from users_and_folders import place  # noqa: E402

from guests.hosts import GUESTS, enter  # noqa: E402
from guests.policies import LOADING, profile  # noqa: E402
from sandbox import tripwire  # noqa: E402
from sandbox.confine.install import MET, SEIZED, STOPPED, WHAT_STARTS  # noqa: E402
from sandbox.kernel import abi  # noqa: E402
from sandbox.learn import observations  # noqa: E402
from sandbox.learn.generalise import generalise  # noqa: E402
from sandbox.policy import build  # noqa: E402
from sandbox.profile.model import Profile  # noqa: E402

ITEMS = (
    *SOCKETS, "socket AF_NETLINK SOCK_RAW NETLINK_ROUTE", "bind", "listen", "accept4", "clone process", "vfork",
    "execve", "wait4", "ioctl FIONREAD", "epoll_create1",
)  # fmt: skip
NETWORK = ("one.demo.test:7777", "tcp://10.99.0.3:7777", "tcp://127.0.0.1:7788", "tcp://127.0.0.1:7789")
LISTEN, PROGRAM = "tcp://127.0.0.1:7788", "/usr/bin/true"
OTHERS = {"sockets": "127.0.0.9:7777", "names": "far.demo.test", "listeners": ":7789", "exec": "/usr/bin/id"}
"""What the profile does not hold, as lines name it."""
DONE = {"sockets": "hello", "names": "hello", "listeners": True, "exec": 0}
DEEDS = str(HOME / "tests" / "targets" / "parts.py")
RUNGS = {SEIZED: "ptrace", STOPPED: "SIGSTOP", MET: "first call"}
MODES = ("enforce", "audit", "learn")
HEAD = ("guest", "tier", "sockets", "names", "listeners", "exec", "audit", "learn")


@dataclasses.dataclass(frozen=True)
class Start:
    """How one ended, what its deeds got, the lines of its log, what was asked of the resolver, and its error's type."""

    code: int
    deeds: dict[str, list[Any]]
    lines: list[dict[str, Any]]
    asked: list[str]
    error: str
    log: bytes

    @property
    def status(self) -> dict[str, Any]:
        """The status line."""
        return next((line for line in self.lines if line["event"] == "sandbox"), {})

    def said(self, begins: str) -> str:
        """What the status line lists behind these words."""
        texts = [*self.status["enforced"], *self.status["degraded"]]
        return next((text.removeprefix(begins) for text in texts if text.startswith(begins)), "")

    def reports(self, part: str, verdict: str) -> bool:
        """Whether a violation names what the profile does not hold of a part."""
        return any(
            line["event"] == "violation" and line["verdict"] == verdict and OTHERS[part] in line["target"]
            for line in self.lines
        )


@dataclasses.dataclass(frozen=True)
class Parts:
    """What was seen in one guest; `learned` is the profile that comes of it, None where nothing can be observed."""

    name: str
    starts: dict[str, Start]
    learned: Profile | None

    def refused(self, part: str) -> bool:
        """Whether the part let through what the profile holds, and nothing else."""
        first, second = self.starts["enforce"].deeds[part]
        asked = part == "names" and OTHERS["names"] in self.starts["enforce"].asked
        return first == DONE[part] and second != DONE[part] and not asked

    @property
    def row(self) -> str:
        """Its line of the table."""
        return "| " + " | ".join((self.name, self.starts["enforce"].status["tier"], *self._cells())) + " |"

    def _cells(self) -> Iterator[str]:
        enforced, audited = self.starts["enforce"], self.starts["audit"]
        supervised = "supervision" in enforced.status["enforced"]
        made = enforced.said("destinations: on sockets that the supervisor makes")
        rung = RUNGS.get(enforced.said(WHAT_STARTS), "")
        notes = {"sockets": "the supervisor's" if made else "duplicates" if supervised else "", "exec": rung}
        for part in DONE:
            first, second = enforced.deeds[part]
            outcome = "lets others through" if second == DONE[part] else f"refuses others ({second})"
            if part == "names" and second != DONE[part]:
                outcome = "asks others" if OTHERS[part] in enforced.asked else "asks no others"
            outcome = outcome if first == DONE[part] else f"fails ({first})"
            yield ": ".join(filter(None, (notes.get(part, ""), outcome)))
        through = sum(audited.deeds[part][1] == DONE[part] for part in DONE) if audited.deeds else 0
        lines = sum(audited.reports(part, "reported") for part in DONE)
        yield f"{audited.status['tier']}: {through} let through, {lines} reported"
        yield f"{len(held(self.learned))} of {len(DONE)}" if self.learned else f"refuses ({self.starts['learn'].error})"


def of_deeds() -> Profile:
    """The profile of the starts: it holds the first of each part's deeds."""
    found = profile(*LOADING, *ITEMS, network=NETWORK, listen=(LISTEN,))
    return dataclasses.replace(found, processes=frozenset({PROGRAM}))


def held(learned: Profile) -> set[str]:
    """The parts of which a learned or amended profile holds both deeds."""
    programs = {str(program) for program in learned.processes}
    entries = {str(entry) for entry in learned.network}
    listens = {str(entry) for entry in learned.listen}
    found = {
        "sockets": {"tcp://10.99.0.3:7777", "tcp://127.0.0.9:7777"} <= entries,
        "names": {"one.demo.test:7777", "far.demo.test:7777"} <= entries,
        "listeners": all(any(port in entry for entry in listens) for port in ("7788", "7789")),
        "exec": {PROGRAM, OTHERS["exec"]} <= programs,
    }
    return {part for part, both in found.items() if both}


def examine(names: Sequence[str] = tuple(GUESTS)) -> list[Parts]:
    """Start in each of these guests what does the deeds: enforced, audited and observed. Needs root."""
    tripwire.path(abi.MACHINE)
    starter = native_starter(HOME)
    with place(None) as folder:
        folder.chmod(0o755)
        (seen := folder / "seen").mkdir()
        seen.chmod(0o777)
        build.write(build.build(of_deeds(), (abi.MACHINE,)), str(folder / "bundle"))
        subprocess.run(["chmod", "-R", "a+rX", str(folder / "bundle")], check=True)

        def world() -> list[dict[str, Start]]:
            with unshared(ipv6=False) as network:
                return [_all_starts(name, starter, folder, network.asked) for name in names]

        starts = in_child(world, None, limit=800)
        return [Parts(name, each, _learned(seen, name)) for name, each in zip(names, starts, strict=True)]


def _all_starts(name: str, starter: Path, folder: Path, asked: list[str]) -> dict[str, Start]:
    found = {}
    for mode in MODES:
        asked.clear()
        ours = {
            "PATH": "/usr/bin:/bin", "SANDBOX_MODE": mode, "SANDBOX_ON_UNAVAILABLE": "best",
            "SANDBOX_POLICY": str(folder / "bundle"), "SANDBOX_SUPERVISE": "1",
        }  # fmt: skip
        if mode == "learn":
            seen = str(_seen(folder / "seen", name))
            ours = {"PATH": ours["PATH"], "SANDBOX_MODE": mode, "SANDBOX_OBSERVATIONS": seen}
        command = [str(starter), *PYTHON[:-1], DEEDS]

        def inside(command: list[str] = command, ours: dict[str, str] = ours) -> tuple[int, str, str]:
            enter(GUESTS[name])
            done = subprocess.run(
                command, env=ours, cwd="/tmp", capture_output=True, text=True, timeout=200, check=False
            )
            return done.returncode, done.stdout, done.stderr

        code, out, errors = in_child(inside, None, limit=250)
        deeds = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        lines = [json.loads(line) for line in errors.splitlines() if line.startswith('{"event"')]
        kinds = [line.split(": ")[1] for line in errors.splitlines() if line.startswith("sandbox: Runtime.")]
        did, error = deeds[0] if deeds else {}, kinds[0] if kinds else ""
        found[mode] = Start(code, did, lines, list(asked), error, errors.encode())
    return found


def _seen(folder: Path, name: str) -> Path:
    return folder / name.replace(" ", "-")


def _learned(folder: Path, name: str) -> Profile | None:
    cold_starts = observations.read([str(_seen(folder, name))])
    return generalise(cold_starts, "parts", trusted=False).profile if cold_starts[0].status == 0 else None


if __name__ == "__main__":
    print("\n".join(parts.row for parts in examine(sys.argv[1:] or tuple(GUESTS))))
