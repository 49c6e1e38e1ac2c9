"""The variables of a start become one record, and a wrong value only matters to who reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import sandbox
from sandbox.errors import UsageError
from sandbox.start import settings
from sandbox.start.settings import RuntimeApi, Settings

HOME = Path(sandbox.__file__).parent
CHOICES = ("SANDBOX_MODE", "SANDBOX_ON_UNAVAILABLE", "SANDBOX_STALE", "SANDBOX_REQUEST_ID", "SANDBOX_SUPERVISE",
           "SANDBOX_FILES", "SANDBOX_ON_DECIDER", "SANDBOX_ACTIVITY")  # fmt: skip


def test_without_variables() -> None:
    """What holds where nothing is set."""
    found = Settings({})
    assert (found.mode, found.on_unavailable, found.supervise) == ("enforce", "fail", True)
    assert (found.refuse_stale, found.relays, found.one_phase, found.debug) == (False, False, False, False)
    assert (found.api, found.has_api, found.verify_key, found.event_key) == (None, False, None, None)
    assert found.search == os.defpath
    assert found.problems == ()


def test_the_function_gets_its_own_variables() -> None:
    """All but ours, those of the platform included."""
    environ = {"SANDBOX_MODE": "off", "SANDBOX_": "", "_HANDLER": "a.b", "PATH": "/bin", "MODE": "x"}
    assert Settings(environ).environ == {"_HANDLER": "a.b", "PATH": "/bin", "MODE": "x"}


def test_paths_are_those_of_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A later change of the working folder does not change what they name."""
    monkeypatch.chdir(tmp_path)
    found = Settings({"SANDBOX_POLICY": "bundle", "SANDBOX_OBSERVATIONS": "/var/x/../y"})
    assert (found.policy, found.observations) == (str(tmp_path / "bundle"), "/var/y")


def test_nothing_changes_later() -> None:
    """The record is frozen."""
    found = Settings({})
    with pytest.raises(AttributeError):
        found.mode = "off"


@pytest.mark.parametrize("name", CHOICES)
def test_a_wrong_word_matters_where_it_is_read(name: str) -> None:
    """It is refused by name, and only when that name is asked for; unset and empty are the first choice."""
    found = Settings({name: "maybe"})
    with pytest.raises(UsageError, match=rf"^{name}: is 'maybe', not one of \w+, ") as refused:
        found.require(*CHOICES)
    assert refused.value.where == name
    found.require(*(other for other in CHOICES if other != name))
    assert Settings({name: ""}).problems == ()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9001", "127.0.0.1", 9001),
        ("[::1]:1", "::1", 1),
        ("::1:80", "::1", 80),
        ("api.local:65535", "api.local", 65535),
    ],
)
def test_the_runtime_api(text: str, host: str, port: int) -> None:
    """Host and port, the host without brackets, and the text as it stands."""
    api = Settings({"AWS_LAMBDA_RUNTIME_API": text}).api
    assert api is not None
    assert (api.text, api.host, api.port) == (text, host, port)


@pytest.mark.parametrize(
    "text",
    ["host", ":", "h:", "h:0", "h:65536", "h:-1", "h:+1", "h: 1", "h:1_0", "h:\u00b2", "h:100000", "h:\u0661"],
)
def test_what_is_no_runtime_api(text: str) -> None:
    """Refused with the platform's name for it, when it is asked for."""
    with pytest.raises(UsageError, match="not host:port"):
        RuntimeApi(text)
    found = Settings({"AWS_LAMBDA_RUNTIME_API": text})
    assert found.has_api
    assert found.api is None
    with pytest.raises(UsageError, match=r"^AWS_LAMBDA_RUNTIME_API: "):
        found.require(settings.RUNTIME_API)


def test_no_other_module_of_the_start_looks_a_variable_up() -> None:
    """Only settings.py asks for a variable of a start by its name."""
    floors = ("start", "supervise", "confine", "egress", "names", "violations", "kernel", "behaviour")
    observer = [HOME / "learn" / name for name in ("observe.py", "naming.py", "host.py", "recorder.py")]
    asks = re.compile(r"environ(?:ment)?(?:\.get\(|\[)")
    paths = {path for floor in floors for path in (HOME / floor).glob("*.py")} | set(observer)
    assert {path.name for path in paths if asks.search(path.read_text())} == {"settings.py"}


@pytest.mark.parametrize("text", ["157", "157:0", "157:4096", "-1:1", "prctl:EPERM", "157:1:2", "1:2;3:4"])
def test_refused_calls_are_numbers(text: str) -> None:
    """Syscalls with errnos, both numbers in their range; nothing else is taken."""
    assert Settings({settings.REFUSES: "157:1,434:38"}).refuses == ((157, 1), (434, 38))
    found = Settings({settings.REFUSES: text})
    assert found.refuses == ()
    with pytest.raises(UsageError, match="not NUMBER:ERRNO"):
        found.require(settings.REFUSES)


def test_the_settings_that_there_are_are_those_of_the_reference() -> None:
    """A variable of docs/reference.md is a setting for commands and starts, and each other one is an error."""
    page = (Path(sandbox.__file__).parent.parent / "docs" / "reference.md").read_text()
    rows = set(re.findall(r"^\| `SANDBOX_([A-Z_]+)`", page, re.MULTILINE))
    assert set(settings.KNOWN.split()) == rows
    for name in sorted(rows):
        settings.refuse_unknown({f"SANDBOX_{name}": "x", "NOT_SANDBOX_": "y"})
    for name in ("SANDBOX_", "SANDBOX_MOD", "SANDBOX_mode", "SANDBOX_MODE_"):
        with pytest.raises(UsageError, match=f"^{name}: is not a setting"):
            settings.refuse_unknown({name: "audit"})
