"""Detectors as pure functions: what each suspects, what it leaves alone, and that its data names what is there."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import pytest
import yaml

from sandbox.behaviour import anomaly
from sandbox.behaviour.access import NETWORK, READ, Access
from sandbox.behaviour.call import Call
from sandbox.sensor import detectors
from sandbox.sensor.detectors import code_from_string, foreign_memory, late_load, library_misuse, new_library
from sandbox.sensor.detectors.seen import Known, Seen
from sandbox.sensor.maps import Mapped, mapped
from sandbox.sensor.reading import FROM_STRING, StackFrame
from sandbox.supervise.judging import Judge
from sandbox.violations.origin import STANDARD_LIBRARY

CONNECT = Access(Call("connect"), "invoke", NETWORK, "tcp://10.0.0.1:443")
ROWS = json.loads(Path(library_misuse.__file__).with_name("entry_points.json").read_text())


class Frame(NamedTuple):
    """What a detector sees of one frame."""

    owner: str
    module: str
    function: str
    c_function: str = ""
    line: int = 7
    version: str = "1.0"

    @property
    def file(self) -> str:
        """As the code names it."""
        return self.module if self.module.startswith(("<", "/")) or not self.module else f"/lib/{self.module}"


CONNECTS = Frame(STANDARD_LIBRARY, "socket.py", "create_connection")
HANDLER = Frame("", "/var/task/app.py", "handler")
IMPORT = Frame(STANDARD_LIBRARY, "<frozen importlib._bootstrap>", "_call_with_frames_removed")
YAML = Frame("PyYAML", "yaml/constructor.py", "FullConstructor.make_python_instance")
PICKLES = HANDLER._replace(c_function="_pickle.loads")
READS = Frame("s3fs", "s3fs/core.py", "S3File.read")


def seen(*frames: Frame) -> Seen:
    """A stack, the innermost frame first."""
    return Seen(cast(Sequence[StackFrame], frames))


@pytest.mark.parametrize(
    ("frames", "by", "detail"),
    [
        ((CONNECTS, YAML, HANDLER), None, "in yaml/constructor.py make_python_instance line 7: deserialiser, pyyaml"),
        ((CONNECTS, YAML._replace(owner="", module="/var/task/yaml/constructor.py"), HANDLER), None, "in /var/task/"),
        ((CONNECTS, PICKLES), {"python"}, "below _pickle.loads line 7: deserialiser, python-pickle"),
        ((CONNECTS, HANDLER, PICKLES), None, "below _pickle.loads"),
        ((CONNECTS, Frame("numexpr", "numexpr/necompiler.py", "stringToExpression")), None,
         "in numexpr/necompiler.py stringToExpression line 7: expression evaluator, numexpr"),
        ((CONNECTS, HANDLER), None, ""),
        ((CONNECTS, YAML._replace(function="SafeConstructor.construct_yaml_map"), HANDLER), None, ""),
        ((CONNECTS, YAML, HANDLER), {"pyyaml"}, ""),
        ((CONNECTS, PICKLES), {"python-pickle"}, ""),
        ((CONNECTS, READS, PICKLES), None, ""),
        ((CONNECTS, HANDLER, IMPORT, YAML), None, ""),
        ((CONNECTS, Frame("", "/var/task/pickle.py", "load_reduce")), None, ""),
        ((), None, ""),
    ],
)  # fmt: skip
def test_misuse_of_libraries(frames: tuple[Frame, ...], by: set[str] | None, detail: str) -> None:
    """Below an entry point, wherever it is installed; not beside it, nor what it calls on purpose or training knows."""
    known = Known(None if by is None else frozenset(by))
    found = library_misuse.suspect(seen(*frames), CONNECT, known)
    assert found is None if not detail else found is not None
    assert found is None or (found.detector, found.detail.startswith(detail)) == ("library-misuse", True), found
    reading = Access(Call("openat", "read"), "invoke", READ, "/etc/hosts")
    assert library_misuse.suspect(seen(*frames), reading, known) is None


STRING = Frame(FROM_STRING, "<string>", "<module>")


@pytest.mark.parametrize(
    ("frames", "suspected"),
    [
        ((CONNECTS, STRING, HANDLER), True),
        ((CONNECTS, STRING._replace(function="inner"), STRING, HANDLER), True),
        ((CONNECTS, HANDLER, STRING._replace(module=""), HANDLER), True),
        ((CONNECTS, STRING), False),
        ((CONNECTS, HANDLER, STRING), False),
        ((CONNECTS, STRING._replace(function="__create_fn__.<locals>.__init__"), HANDLER), False),
        ((CONNECTS, STRING._replace(module="<attrs generated init app.C>"), HANDLER), False),
        ((CONNECTS, HANDLER), False),
    ],
)
def test_code_from_strings(frames: tuple[Frame, ...], suspected: bool) -> None:
    """What is run as a whole, below other code; neither generated functions nor a program that is a string itself."""
    found = code_from_string.suspect(seen(*frames), CONNECT, Known())
    assert (found is not None) == suspected
    assert code_from_string.suspect(seen(*frames), CONNECT, Known(frozenset({"code-from-string"}))) is None


@pytest.mark.parametrize(
    ("owners", "users", "by", "new"),
    [
        (["urllib3", "Requests"], (), {"botocore", "urllib3"}, "requests"),
        (["aiohttp", "botocore"], (), {"botocore", "urllib3"}, "aiohttp"),
        (["aiohttp", "requests"], (), {"botocore", "urllib3"}, "aiohttp and requests"),
        ([], ("python",), {"botocore", "urllib3"}, "python"),
        (["urllib3", "botocore", "s3transfer"], (), {"botocore", "urllib3"}, ""),
        (["urllib3"], (), {"botocore", "urllib3"}, ""),
        (["urllib3", "requests"], (), {"urllib3", "requests", "botocore"}, ""),
        ([], ("function",), {"botocore"}, ""),
        ([], (), {"botocore"}, ""),
        (["requests"], (), None, ""),
        (["requests"], (), set[str](), ""),
    ],
)
def test_a_new_library(owners: list[str], users: tuple[str, ...], by: set[str] | None, new: str) -> None:
    """One that training never saw make the access; another caller of a known client, or what nobody knows, is not."""
    frames = [CONNECTS, *(Frame(owner, f"{owner}/x.py", "call") for owner in owners), HANDLER]
    stack = Seen(cast(Sequence[StackFrame], frames), users=users)
    found = new_library.suspect(stack, CONNECT, Known(None if by is None else frozenset(by)))
    assert (found.detail.partition(",")[0] if found else "") == (new and f"by {new}")


def test_a_library_that_was_never_loaded() -> None:
    """Between the access and the function, in an invocation; not where no metadata names it, or none are known."""
    library = Frame("Some_Lib", "some/lib.py", "call")
    found = late_load.suspect(seen(CONNECTS, library, HANDLER), CONNECT, Known(None, frozenset({"boto3"})))
    assert found
    assert found.detail == "in some/lib.py of Some_Lib 1.0, which training never loaded"
    for frames, libraries in (
        ((CONNECTS, library, HANDLER), {"some-lib"}), ((CONNECTS, library, HANDLER), set[str]()),
        ((CONNECTS, HANDLER, library), {"boto3"}), ((CONNECTS, library._replace(version=""), HANDLER), {"boto3"}),
    ):  # fmt: skip
        assert late_load.suspect(seen(*frames), CONNECT, Known(None, frozenset(libraries))) is None
    early = Access(Call("connect"), "init", NETWORK, "tcp://10.0.0.1:443")
    assert late_load.suspect(seen(CONNECTS, library, HANDLER), early, Known(None, frozenset({"boto3"}))) is None


def test_training_marks_what_is_no_anomaly_later() -> None:
    """The marks of a stack are what the same stack is excused by; an ordinary one has none."""
    for frames in ((CONNECTS, YAML, HANDLER), (CONNECTS, PICKLES), (CONNECTS, STRING, HANDLER)):
        stack, marked = seen(*frames), detectors.marks(seen(*frames).frames)
        assert len(marked) == 1
        judges = (library_misuse, code_from_string)
        assert not any(one.suspect(stack, CONNECT, Known(marked)) for one in judges)
        assert any(one.suspect(stack, CONNECT, Known()) for one in judges)
    assert not detectors.marks(seen(CONNECTS, HANDLER).frames)


def test_code_in_foreign_memory() -> None:
    """Anonymous, shared, or writable: suspected; files of any name, the kernel's own and what is unknown are not."""
    for path in ("", "[heap]", "[stack]", "[anon:jit]", "/memfd:x (deleted)", "/dev/zero (deleted)"):
        assert foreign_memory.suspect(Seen(code=Mapped(path, writable=False)), CONNECT, Known())
    assert foreign_memory.suspect(Seen(code=Mapped("/lib/libc.so.6", writable=True)), CONNECT, Known())
    for path in ("/lib/libc.so.6", "/var/task/bootstrap (deleted)", "[vdso]", "[vsyscall]"):
        assert foreign_memory.suspect(Seen(code=Mapped(path, writable=False)), CONNECT, Known()) is None
    assert foreign_memory.suspect(Seen(), CONNECT, Known()) is None


def test_mappings_are_those_of_the_kernel() -> None:
    """At the first and last byte of each of a process's own mappings; nothing is where none is, or time is up."""
    later = time.monotonic() + 20
    with open("/proc/self/maps") as file:
        lines = [line.rstrip("\n").split(maxsplit=5) for line in file]
    for span, rights, *_, path in (line for line in lines if len(line) == 6 and line[5].startswith("/")):
        first, last = (int(word, 16) for word in span.split("-"))
        for address in (first, last - 1):
            found = mapped(os.getpid(), address, later)
            assert found
            assert (found.path, found.writable) == (path, "w" in rights)
    assert mapped(os.getpid(), 1, later) is None
    assert mapped(os.getpid(), int(lines[0][0].split("-")[0], 16), time.monotonic() - 1) is None


def test_a_burst_is_many_times_what_training_did() -> None:
    """Some more is none, nor is anything where training has not counted; ten times is, from a certain number on."""
    suspect = detectors.burst.suspect
    for most, count in ((0, 21), (2, 21), (3, 31), (100, 1001)):
        assert suspect("connects", count - 1, {"connects": most}) is None
        found = suspect("connects", count, {"connects": most})
        assert found
        assert found.detail == f"{count} connects in one invocation, in training {most} at most"
    assert suspect("connects", 10**6, {"programs": 1}) is None


def test_survivors_are_more_than_training_left_and_begun_now() -> None:
    """What training left, began before or never counted is not suspected, nor are some threads of a runtime."""
    suspect = detectors.survivors.suspect
    many = 2 + detectors.survivors.SPARE["threads"]
    begun, grown = {"threads": ["worker 7"], "processes": []}, {"threads": many, "processes": 1}
    found = list(suspect(begun, grown, {"threads": 1, "processes": 0}))
    said = f"{many} threads more than after init, in training 1 at most"
    assert [(sort, one.detail) for sort, one in found] == [("threads", said)]
    assert not list(suspect(begun, grown, {"threads": 2}))
    assert [sort for sort, _ in suspect({"processes": ["sh 8"]}, grown, {"processes": 0})] == ["processes"]
    assert not list(suspect(begun, grown, {}))


def test_the_registry_and_the_names_agree() -> None:
    """Each detector has its name among those that a profile may hold, and a module of its own."""
    names = [detector.NAME for detector in detectors.DETECTORS]
    assert sorted(names) == sorted(anomaly.OF_CALLS)
    assert tuple(detector.NAME for detector in detectors.OF_INVOCATIONS) == anomaly.OF_INVOCATIONS


def test_entry_points_are_functions_of_what_is_installed() -> None:
    """Of Python's own library and of PyYAML each listed function is there; every row says where it is documented."""
    assert all(row["source"] and row["kind"] and row["name"] for row in ROWS)
    homes = {"python": Path(ast.__file__).parent, "pyyaml": Path(yaml.__file__).parent.parent}
    checked = 0
    for row in ROWS:
        path = homes.get(row["library"], Path("/nowhere")) / row["module"]
        if path.exists():
            tree = ast.parse(path.read_text())
            there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert set(row["functions"]) <= there, row["module"]
            checked += 1
        for name in row.get("c", ()):
            module, *parts = name.split(".")
            assert importlib.util.find_spec(module)
            value: object = __import__(module)
            for part in parts:
                value = getattr(value, part)
    assert checked >= 6


def test_who_only_reports_judges_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread and entry by itself; where something is refused each access is judged, where all are off none."""

    def judge(audit: bool = False, **settings: str) -> Judge:
        return Judge(settings, {}, (), audit=audit, waits=lambda call: True, degraded=lambda why: None)

    now = [100.0]
    monkeypatch.setattr("sandbox.supervise.judging.time.monotonic", lambda: now[0])
    for one in (judge(), judge(all="report"), judge(audit=True, all="deny")):
        assert [one.wants(7, "network", "a") for _ in range(3)] == [True, False, False]
        assert (one.wants(8, "network", "a"), one.wants(7, "network", "b")) == (True, True)
        now[0] += 1.0
        assert [one.wants(7, "network", "a") for _ in range(2)] == [True, False]
    assert all(judge(all="deny").wants(7, "network", "a") for _ in range(3))
    assert not judge(all="off").wants(7, "network", "a")
