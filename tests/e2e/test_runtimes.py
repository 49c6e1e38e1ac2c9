"""Language runtimes on the platform's emulator, under policies that were learned for them, supervised and not."""

from __future__ import annotations

import contextlib
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from language_runtimes import RUNTIMES, Missing, Runtime
from platform_emulator import BOOTSTRAP, MODE, MODES, PATIENCE, Platform, outside
from process_table import all_end, descendants
from sandbox_command import Workshop
from users_and_folders import HOME, TARGETS, place

from sandbox.kernel import landlock

EXTENSION = f"""#!{sys.executable}
import http.client, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
name = {{"Lambda-Extension-Name": "witness"}}
api.request("POST", "/2020-01-01/extension/register", '{{"events": ["SHUTDOWN"]}}', name)
reply = api.getresponse()
reply.read()
api.request("GET", "/2020-01-01/extension/event/next",
            headers={{"Lambda-Extension-Identifier": reply.headers["Lambda-Extension-Identifier"]}})
print("the extension heard", api.getresponse().read().decode(), flush=True)
"""


@dataclass(frozen=True)
class Learned:
    """A runtime with its policy."""

    runtime: Runtime
    command: tuple[str, ...]
    policy: str
    workshop: Workshop

    def start(
        self, mode: str, more: Mapping[str, str] | None = None, around: tuple[str, ...] = (), timeout: int = 30
    ) -> Platform:
        """The emulator with this runtime under ./bootstrap."""
        variables = {
            "SANDBOX_POLICY": self.policy, "SANDBOX_SUPERVISE": MODES[mode], **self.runtime.variables(), **(more or {}),
        }  # fmt: skip
        command = self.command
        if self.runtime.python:  # the bootstrap's own way to start a Python handler
            variables |= {"SANDBOX_PYTHON": command[0], "_HANDLER": command[-1]}
            command = ()
        return Platform(self.workshop.folder, (BOOTSTRAP, *command), variables, timeout, around)


@pytest.fixture(scope="module", params=RUNTIMES, ids=lambda runtime: runtime.name)
def learned(request: pytest.FixtureRequest) -> Iterator[Learned]:
    """Each runtime that this machine has, its profile learned from events that succeed."""
    runtime: Runtime = request.param
    with place(None) as folder:
        try:
            command = runtime.command(folder)
        except Missing as missing:
            pytest.skip(str(missing))
        workshop = Workshop(None, HOME, folder)
        events: list[dict[str, Any]] = [{}, {"sleep": 0.01}, *([{"stream": 3}] if runtime.streams else [])]
        profile, bundle = folder / f"{runtime.name}.yaml", folder / f"{runtime.name}.bundle"
        start: tuple[str, ...] = ("--", *command)
        if runtime.python:
            start = ("--python", command[0], "--handler", command[-1])
        workshop.sandbox(
            "learn", runtime.name, "--no-verify",
            "--root", TARGETS, "--events", workshop.events(*events), "--output", profile,
            "--cold-starts", "1", *start,
        )  # fmt: skip
        workshop.sandbox("compile", profile, "--output", bundle)
        yield Learned(runtime, command, str(bundle), workshop)


@pytest.fixture(scope="module")
def platforms(learned: Learned) -> Iterator[Mapping[str, Platform]]:
    """The runtime on two platforms, one a mode, with a time-out."""
    with contextlib.ExitStack() as stack:
        yield {mode: stack.enter_context(learned.start(mode, timeout=learned.runtime.timeout)) for mode in MODES}


def serves(learned: Learned, platform: Platform, mode: str) -> dict[str, Any]:
    """The answer to an event, from a process under the whole policy."""
    status, answer = platform.post({})
    assert status == 200, platform.log
    assert "pid" in answer, platform.log
    line = platform.status_lines()[-1]
    assert (line["mode"], "syscalls" in line["enforced"]) == ("enforce", True)
    assert ("supervision" in line["enforced"]) == (mode == "supervised")
    state = Path(f"/proc/{answer['pid']}/status").read_text()
    assert ("Seccomp:\t2" in state, "NoNewPrivs:\t1" in state) == (True, True)
    assert (answer["parent"] == platform.pid) == (mode == "unsupervised")
    found: dict[str, Any] = answer
    return found


@MODE
def test_cold_warm_error_and_crash(learned: Learned, platforms: Mapping[str, Platform], mode: str) -> None:
    """Events meet one process, streamed or not; an error leaves it alive; after a crash the next one is confined."""
    platform = platforms[mode]
    first = serves(learned, platform, mode)
    second = serves(learned, platform, mode)
    assert (second["pid"], second["events"]) == (first["pid"], first["events"] + 1)
    if learned.runtime.streams:
        status, text = platform.post({"stream": 2000})
        assert (status, text) == (200, "".join(f"piece {number}\n" for number in range(2000))), platform.log
    status, error = platform.post({"raise": "as asked"})
    assert (status, error["errorType"], error["errorMessage"]) == (200, learned.runtime.error, "as asked"), platform.log
    assert serves(learned, platform, mode)["pid"] == first["pid"]
    starts = len(platform.status_lines())
    before = descendants(platform.pid)
    status, error = platform.post({"exit": 3})
    assert (status, error["errorType"]) == (502, "Runtime.ExitError")
    assert "exit status 3" in error["errorMessage"]
    assert all_end(before, PATIENCE)
    assert serves(learned, platform, mode)["events"] == 1
    assert len(platform.status_lines()) == starts + 1


@MODE
def test_many_events_later(learned: Learned, platforms: Mapping[str, Platform], mode: str) -> None:
    """What a runtime does only when it runs hot, as compiling code, it may do: one process serves event after event."""
    first = serves(learned, platforms[mode], mode)
    for _ in range(learned.runtime.hot):
        platforms[mode].post({})
    last = serves(learned, platforms[mode], mode)
    assert (last["pid"], last["events"]) == (first["pid"], first["events"] + learned.runtime.hot + 1)


def test_a_time_out(learned: Learned, platforms: Mapping[str, Platform]) -> None:
    """In both modes the platform's reset leaves no process behind, and the next one serves."""
    befores = {
        mode: (serves(learned, platform, mode), descendants(platform.pid)) for mode, platform in platforms.items()
    }
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda platform: platform.post({"sleep": 60}), platforms.values()))
    for (mode, platform), (status, text) in zip(platforms.items(), answers, strict=True):
        assert (status, "Task timed out" in str(text)) == (200, True), text
        assert all_end(befores[mode][1], PATIENCE), platform.log
        after = serves(learned, platform, mode)
        assert (after["events"], after["pid"] != befores[mode][0]["pid"]) == (1, True)


@MODE
def test_attacks(learned: Learned, platforms: Mapping[str, Platform], mode: str) -> None:
    """A process that was not learned does not start, a port that was not learned hears nobody, and events go on."""
    platform = platforms[mode]
    before = serves(learned, platform, mode)
    below = len(descendants(platform.pid))
    if learned.runtime.name != "shell" or landlock.abi_version() >= 1:
        marker = learned.workshop.new("")
        status, answer = platform.post({"spawn": str(marker)})
        assert (status, answer["pid"]) == (200, before["pid"]), platform.log
        assert answer["attack"], answer
        assert not marker.exists()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        if mode == "supervised" or landlock.abi_version() >= 4:
            status, answer = platform.post({"connect": server.getsockname()[1]})
            assert (status, answer.get("pid")) == (200, before["pid"]), (answer, platform.log)
            assert answer["attack"] not in ("", "connected")
            with pytest.raises(BlockingIOError):
                server.accept()
    assert serves(learned, platform, mode)["pid"] == before["pid"]
    assert len(descendants(platform.pid)) == below


@MODE
def test_an_initialisation_error(learned: Learned, mode: str) -> None:
    """A handler that cannot begin is reported by the runtime itself, and nothing of it stays."""
    with learned.start(mode, {"BREAK_INIT": "1"}) as platform:
        status, error = platform.post({})
        assert status == 502
        assert isinstance(error, dict), (error, platform.log)
        said = error["errorMessage"]
        assert said in ("this handler cannot begin", "begin() failed", f"{learned.command[-1]} failed"), platform.log
        assert all_end(descendants(platform.pid), PATIENCE)


@MODE
def test_sigterm_reaches_the_handler(learned: Learned, mode: str) -> None:
    """With an extension registered the platform's SIGTERM arrives at shutdown, through the supervisor too."""
    opt = learned.workshop.folder / "opt"
    witness = opt / "extensions" / "witness"
    witness.parent.mkdir(parents=True, exist_ok=True)
    witness.write_text(EXTENSION)
    witness.chmod(witness.stat().st_mode | stat.S_IXUSR)
    around = outside(opt, Path("/opt"))
    with learned.start(mode, around=around) as platform:
        serves(learned, platform, mode)
        platform.stop()
        assert "the extension heard" in platform.log
        assert ("the handler saw SIGTERM" in platform.log) == learned.runtime.hears_signals, platform.log
