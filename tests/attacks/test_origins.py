"""A library that is made to start a shell: refused, and named on the line, with file and line of code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import vulnerable_library as library
from supervised_programs import NATIVE, PLAIN_HOSTS, Supervision, bench_for

from sandbox.sensor.offsets import covered
from sandbox.violations import reader

bench = bench_for([PLAIN_HOSTS[0], NATIVE[-1]])

START = ("/usr/bin/python3", "-I", "-S")


@pytest.fixture(scope="module")
def app(bench: Supervision) -> Path:
    """The function with the library beside it, which its user can read."""
    folder = bench.new("")
    folder.mkdir()
    return library.install(folder)


def test_a_loader_that_spawns_a_shell_is_named(bench: Supervision, app: Path) -> None:
    """Bare the document runs a shell; under the sandbox it does not, and the line says which library's code it was."""
    marker = bench.new("")
    document = f"!!apply:os.system echo owned > {marker}"
    bench.bare(*START, str(app), document)
    assert marker.read_text() == "owned\n"
    marker.unlink()

    done = bench.run(bench.bundle(), *START, str(app), document)
    assert not marker.exists()
    assert done.code == 0, done.stderr
    (line,) = done.of("clone")
    assert line["by"] == {
        "distribution": library.NAME, "version": library.VERSION, "module": "tagload/constructor.py",
        "function": "construct_apply", "line": library.CALL_LINE,
        "handler": {"file": str(app), "function": "handler", "line": library.HANDLER_LINE},
    }  # fmt: skip
    (found,) = reader.parse(json.dumps(line).encode())
    assert found.violation
    assert reader.describe(found.violation).partition("; by ")[2].partition("; to allow")[0] == (
        f"{library.NAME} {library.VERSION} constructor.py construct_apply line {library.CALL_LINE}, "
        f"from app.py handler line {library.HANDLER_LINE}"
    )


def test_a_forged_name_is_said_and_allows_nothing(bench: Supervision, app: Path) -> None:
    """Code can pass for any library's, as docs/security.md says; what it asks for is refused all the same."""
    path = app.parent / "site-packages" / "tagload" / "constructor.py"
    forged = f"exec(compile('\\n' * 76 + 'import os; print(os.fork())', {str(path)!r}, 'exec'))"
    done = bench.run(bench.bundle(), *START, "-c", f"try: {forged}\nexcept OSError as error: print(error.errno)")
    assert done.stdout == "1\n"
    (line,) = done.of("clone")
    assert line["by"] == {
        "distribution": library.NAME, "version": library.VERSION, "module": "tagload/constructor.py",
        "function": "<module>", "line": 77,
    }  # fmt: skip


GARBLE = """
import ctypes, os, sys

def attempt():
    try: os.fork()
    except OSError as error: os.write(1, b"%d " % error.errno)

def descend(depth, name):
    exec(compile("go(depth)", f"{name * 15}{depth}", "exec"), {"depth": depth, "go": lambda depth: again(depth, name)})

def again(depth, name):
    descend(depth - 1, name) if depth else attempt()

sys.setrecursionlimit(10_000)
descend(300, "/\u6587" * 120)
code = id(attempt.__code__)
for offset in OFFSETS:
    place = ctypes.c_uint64.from_address(code + offset)
    before = place.value
    for value in (code, before + 1, 1 << 62, 8):
        place.value = value
        attempt()
    place.value = before
attempt()
os._exit(0)
"""


def test_garbled_memory_stops_no_report(bench: Supervision) -> None:
    """A deep stack of long names, and code whose names lead anywhere: each call is refused, and has its line."""
    version = subprocess.run(
        [*START, "-c", "import sys; print(*sys.version_info[:3], sep='.')"], capture_output=True, text=True, check=True
    ).stdout.strip()
    major, minor, micro = map(int, version.split("."))
    fields = covered((major, minor, micro))
    if fields is None:
        pytest.skip(f"Python {version} is in no table of offsets")
    code = GARBLE.replace("OFFSETS", str([fields["code_file"], fields["code_name"]]))
    done = bench.run(bench.bundle(), *START, "-c", code)
    assert (done.code, done.stdout.split()) == (0, ["1"] * 10), done.stderr
    lines = done.of("clone")
    assert len(lines) == 10
    assert ["by" in line for line in lines[1:]] == [False] * 9  # none of it is in a file
    assert done.counted("clone process: denied") == (10, 10)
