"""Programs under the real ./bootstrap with its supervisor: a user with a folder, bundles, runs and their events.

    with supervision(uid) as bench:
        done = bench.run(bench.bundle("umask"), "/bin/true")
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import guests
import pytest
from users_and_folders import TARGETS, USERS, home_for, identity, place, user_id

from sandbox import launcher
from sandbox.kernel import abi
from sandbox.learn.platforms import LAMBDA
from sandbox.policy import build
from sandbox.profile.model import Library, Tolerated, Use, UsedBy

PYTHON = ("/usr/bin/python3", "-I", "-S", "-c")
LIMIT = 60.0

SOCKETS = (
    "socket AF_INET SOCK_STREAM IPPROTO_MPTCP",
    "socket AF_INET SOCK_STREAM", "socket AF_INET SOCK_DGRAM", "socket AF_INET6 SOCK_STREAM",
    "socket AF_INET6 SOCK_DGRAM", "socket AF_UNIX SOCK_STREAM", "socket AF_UNIX SOCK_DGRAM", "connect", "sendmsg",
    "sendmmsg", "sendto connected", "sendto addressed", "recvfrom", "recvmsg", "getsockopt", "setsockopt",
    "getsockname", "getpeername", "poll", "ppoll", "select", "pselect6", "fcntl F_SETFL", "ioctl FIONBIO",
    "shutdown", "dup2", "pipe2", "dup3", "socketpair",
)  # fmt: skip
"""All that a program needs to use the sockets that others of its profile may reach."""


@dataclasses.dataclass(frozen=True)
class Done:
    """How a run ended, what it wrote, and its events."""

    code: int
    stdout: str
    stderr: str
    events: list[dict[str, Any]]

    @property
    def violations(self) -> list[dict[str, Any]]:
        """The lines that stand for one violation each."""
        return [event for event in self.events if event["event"] == "violation"]

    def of(self, syscall: str) -> list[dict[str, Any]]:
        """The violations of one syscall."""
        return [event for event in self.violations if event["syscall"] == syscall]

    def counted(self, what: str) -> tuple[int, int]:
        """How many violations `syscall class: verdict` by lines and summaries, and by the totals at the end."""
        lines = sum(f"{e['syscall']} {e['class']}".strip() + f": {e['verdict']}" == what for e in self.violations)
        summaries = [event for event in self.events if event["event"] == "violations"]
        more = sum(event["counts"].get(what, 0) for event in summaries if not event["final"])
        return lines + more, sum(event["counts"].get(what, 0) for event in summaries if event["final"])


class Supervision:
    """A user with a folder of its own, on a host whose filter answers the calls in `refused` with an errno.

    With `native` the launcher starts the programs: its events go to standard error, where nothing but the first of them
    brings the Python supervisor.
    """

    def __init__(
        self, uid: int | None, home: Path, folder: Path, refused: Mapping[str, int], *, native: bool = False
    ) -> None:
        self.uid, self.home, self.folder, self.refused, self.native = uid, home, folder, refused, native
        self.starter = native_starter(home) if native else home / "bootstrap"
        self._numbers = 0
        self._bundles: dict[object, Path] = {}

    def new(self, suffix: str) -> Path:
        """A name that nothing has yet."""
        self._numbers += 1
        return self.folder / f"new-{self._numbers}{suffix}"

    def bundle(
        self, *items: str, init: Sequence[str] = (), network: Sequence[str] = (), runtime_api: bool = False,
        responses: Mapping[str, str] = MappingProxyType({}), audit_until: str = "", grants: Sequence[str] = (),
        tolerates: Sequence[Tolerated] = (), listen: Sequence[str] = (), writes: Sequence[str] = (),
        receives: Sequence[str] = (), on_anomaly: Mapping[str, str] = MappingProxyType({}),
        by: Collection[UsedBy] = (), libraries: Collection[str] = (), processes: Collection[str] = (),
    ) -> Path:  # fmt: skip
        """The compiled bundle of a profile with these `syscall class` items; `init` are those of the first phase."""
        lists = tuple(map(tuple, (
            init, network, responses.items(), grants, tolerates, listen, writes, receives, on_anomaly.items(), by,
            libraries, processes,
        )))  # fmt: skip
        key: object = (items, lists, runtime_api, audit_until)
        if key not in self._bundles:
            found = guests.profile(
                *guests.LOADING, *items, runtime_api=runtime_api, network=tuple(network), grants=tuple(grants),
                listen=tuple(listen),
            )  # fmt: skip
            early = {Use("init", *item.partition(" ")[::2], 0, frozenset({"a test needs it"})) for item in init}
            found = dataclasses.replace(
                found, uses=found.uses | early, responses=frozenset(responses.items()), audit_until=audit_until,
                tolerates=frozenset(tolerates), writes=frozenset(writes), names_receives=frozenset(receives),
                reads=frozenset({"/**"} if writes else ()), on_anomaly=frozenset(on_anomaly.items()), by=frozenset(by),
                processes=frozenset(processes),
                libraries=frozenset(Library(name, "1.0", "loaded") for name in libraries),
            )
            path = self._bundles[key] = self.new(".bundle")
            build.write(build.build(found, (abi.MACHINE,)), str(path))
            subprocess.run(["chmod", "-R", "a+rX", str(path)], check=True)
        return self._bundles[key]

    def environment(self, bundle: Path, events: int, more: Mapping[str, str]) -> dict[str, str]:
        """The variables of a run; empty ones are left out. `events` is the descriptor of a collector."""
        sink = "" if self.native else f"fd:{events}"
        ours = {"SANDBOX_SUPERVISE": "1", "SANDBOX_POLICY": str(bundle), "SANDBOX_EVENTS": sink}
        merged = {"PATH": "/usr/bin:/bin", **ours, **more}
        return {key: value for key, value in merged.items() if value}

    def start(
        self, bundle: Path, *command: str, more: Mapping[str, str] = MappingProxyType({}), **options: Any
    ) -> tuple[subprocess.Popen[str], Path]:
        """A run and the file of its events; the caller waits for its end."""
        events = self.new(".jsonl")
        if self.refused:
            options["preexec_fn"] = _below(self.refused, options.get("preexec_fn"))
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        with open(os.devnull if self.native else events, "wb") as collector:
            if not self.native and "SANDBOX_EVENTS" not in more:
                streams["pass_fds"] = (*streams.get("pass_fds", ()), collector.fileno())
            process = subprocess.Popen(
                [str(self.starter), *command], env=self.environment(bundle, collector.fileno(), more),
                cwd=self.folder, text=True, **streams, **identity(self.uid),
            )  # fmt: skip
        return process, events

    def run(
        self, bundle: Path, *command: str, more: Mapping[str, str] = MappingProxyType({}), limit: float = LIMIT,
        before: Callable[[], None] | None = None,
    ) -> Done:  # fmt: skip
        """Run to the end, after `before` in the new process. Fails when that takes longer than `limit` seconds."""
        process, events = self.start(bundle, *command, more=more, preexec_fn=before)
        try:
            stdout, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            pytest.fail(f"no end in {limit} s; it said {stdout!r} {stderr!r}")
        return Done(process.returncode, stdout, stderr, self.said(events, stderr))

    def said(self, events: Path, stderr: str) -> list[dict[str, Any]]:
        """The events of a run, which the launcher leaves on standard error."""
        if not self.native or events.exists():
            return read_events(events)
        lines = [json.loads(line) for line in stderr.splitlines() if line.startswith('{"event": ')]
        return [line for line in lines if line["event"] != "sandbox"]

    def bare(self, *command: str, limit: float = LIMIT) -> str:
        """What the same command says without the bootstrap."""
        done = subprocess.run(
            command, env={"PATH": "/usr/bin:/bin"}, cwd=self.folder, capture_output=True, text=True, timeout=limit,
            check=False, **identity(self.uid),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hostile(self) -> str:
        """targets/hostile.c, compiled."""
        path = self.folder / "hostile"
        if not path.exists():
            compiler = shutil.which("cc")
            if not compiler:
                pytest.skip("no C compiler (cc)")
            source = str(TARGETS / "hostile.c")
            subprocess.run([compiler, "-O1", "-pthread", "-o", str(path), source], check=True)
            path.chmod(0o755)
        return str(path)


def without_landlock() -> None:
    """As a host that has none; for `before`."""
    _below({"landlock_create_ruleset": errno.ENOSYS}, None)()


def _below(refused: Mapping[str, int], before: Callable[[], None] | None) -> Callable[[], None]:
    def enter() -> None:
        if before:
            before()
        guests.refuse(refused)

    return enter


DUPLICATES_REFUSED: Sequence[Mapping[str, int]] = (
    {"pidfd_getfd": errno.EPERM, "kcmp": errno.EPERM}, {"pidfd_open": errno.ENOSYS, "pidfd_getfd": errno.ENOSYS}
)  # fmt: skip
"""By containers' default filters, and by Lambda-like guests: the supervisor makes the function's sockets there."""
HOSTS = [
    pytest.param((uid, refused), id=user_id(uid) + "-makes" * bool(refused))
    for i, uid in enumerate(USERS)
    for refused in ({}, DUPLICATES_REFUSED[i % 2])
]
"""(uid, what the host refuses): each user where sockets can be duplicated, and where not."""
PLAIN_HOSTS, HOSTS_WITHOUT_DUPLICATES = HOSTS[::2], HOSTS[1::2]


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of events; none where it was not made."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def supervision(
    uid: int | None, refused: Mapping[str, int] = MappingProxyType({}), *, native: bool = False
) -> Iterator[Supervision]:  # fmt: skip
    """A user with a folder, on a host that refuses these calls; with `native` under the launcher."""
    with home_for(uid) as home, place(uid) as folder:
        yield Supervision(uid, home, folder, refused, native=native)


def native_starter(home: Path) -> Path:
    """The launcher beside a user's Python package."""
    built = home / "sandbox" / "launcher" / "built" / f"launcher-{abi.MACHINE}"
    current = Path(launcher.path(abi.MACHINE))  # built where its sources have changed, in the checkout there already
    if current != built and not built.exists():
        built.parent.mkdir(exist_ok=True)
        shutil.copy(current, built)
    return built


NATIVE = [pytest.param((uid, {}, True), id=user_id(uid) + "-launcher") for uid in USERS]
"""Each user under the launcher, where sockets can be duplicated."""
LAMBDA_LIKE = [pytest.param((uid, LAMBDA.refuses, True), id=user_id(uid) + "-launcher-makes") for uid in USERS]
"""Each user under the launcher on a Lambda-like host: no Landlock, no prctl, and the attendant makes the sockets."""


def bench_for(hosts: Sequence[Any]) -> Any:
    """The fixture `bench` of a module: each of these users and hosts with a folder of its own."""

    @pytest.fixture(scope="module", params=hosts)
    def bench(request: pytest.FixtureRequest) -> Iterator[Supervision]:
        """A user with a folder, on a host."""
        uid, refused, *native = request.param
        with supervision(uid, refused, native=bool(native)) as found:
            yield found

    return bench
