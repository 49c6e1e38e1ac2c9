"""A library that is made to start a shell: refused, and named on the line, with file and line of code."""

from __future__ import annotations

from pathlib import Path

import pytest
import vulnerable_library as library
from supervised_programs import PLAIN_HOSTS, Supervision, bench_for

bench = bench_for(PLAIN_HOSTS)

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
