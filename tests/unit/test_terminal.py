"""Nothing of a stranger's reaches a terminal raw: names, paths, labels and answers, in output and in errors."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import guests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sandbox
from sandbox import cli
from sandbox.behaviour import spelling
from sandbox.cli import invoke, output
from sandbox.errors import UsageError, log_entry, printable
from sandbox.profile import document
from sandbox.runtime_api.model import Outcome
from sandbox.violations.activity import Activity, Reached
from sandbox.violations.record import Violation
from sandbox.violations.sink import Sink

SOURCES = Path(str(sandbox.__file__)).parent
STYLES = re.compile("\x1b\\[(?:0|[1-3]|[39][0-7])(?:;(?:[1-3]|[39][0-7]))*m|\x1b\\[\\?25[hl]|\r?\x1b\\[[12][KA]")
"""What rich writes for the styles that commands use, and for a progress bar."""

HOSTILE = st.lists(
    st.sampled_from([
        "\x1b]0;owned\x07", "\x1b[8m", "\x9b2J", "\x90q", "\x7f", "\r", "\t", "\x00", "\u202e", "\u2066", "\u200b",
        "\ud800", "\udc9b", "\x85", "\u2028", "[red]", "[/]", "ü", "漢", "a", "'", '"', "\\", ": ", "#", "/",
    ]), min_size=1, max_size=8,
).map("".join)  # fmt: skip


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


@contextlib.contextmanager
def terminal(*arguments: str) -> Iterator[tuple[Terminal, Terminal]]:
    """Both streams as a terminal, and the command's arguments."""
    before = sys.stdout, sys.stderr, sys.argv
    streams = Terminal(), Terminal()
    try:
        sys.stdout, sys.stderr = streams
        sys.argv = ["sandbox", *arguments]
        yield streams
    finally:
        sys.stdout, sys.stderr, sys.argv = before


def shown(*arguments: str) -> str:
    """What a command writes to a terminal, without the styles."""
    with terminal(*arguments) as (out, err):
        with contextlib.suppress(SystemExit):
            cli.main()
        return STYLES.sub("", out.getvalue() + err.getvalue())


def shown_by_process(*arguments: str) -> str:
    """The same of a command that starts functions: it goes on in a child of its process, which must not be ours."""
    ours, its = os.openpty()
    command = [sys.executable, "-m", "sandbox", *arguments]
    environment = {**os.environ, "TERM": "linux"}  # of few colours
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its):
        os.close(its)
        found = bytearray()
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while data := os.read(ours, 1 << 16):
                found += data
        os.close(ours)
    return STYLES.sub("", found.decode(errors="replace").replace("\r\n", "\n"))


def assert_safe(text: str) -> None:
    """Whatever is there shows as itself."""
    assert [character for character in text if not character.isprintable() and character != "\n"] == []


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(HOSTILE, min_size=4, max_size=4))
def test_violations_and_profiles_are_safe_to_look_at(tmp_path: Path, texts: list[str]) -> None:
    """Every command that shows records and profiles, and what they say of those that they cannot read."""
    one, two, three, four = texts
    journal, old, new, torn = (tmp_path / name for name in ("journal", "old.yaml", "new.yaml", "torn.yaml"))
    journal.unlink(missing_ok=True)
    sink = Sink(f"file:{journal}")
    sink.write(
        Violation(
            function=one, phase="invoke", request=two, pid=1, tid=2, comm=three, syscall=four, arg_class=one,
            args=[two, three], target=four, verdict="denied", errno="EPERM", reason=one, allow=two, risk=three,
            technique=four,
        )
    )  # fmt: skip
    sink.close()
    data = journal.read_bytes()
    assert b"\x7f" not in data
    assert data.isascii()
    (tmp_path / "key").write_bytes(b"key")
    for options in ((), ("--summary",), ("--json",), ("--verify", "--key-file", str(tmp_path / "key"))):
        text = shown("events", str(journal), *options)
        assert text
        assert_safe(text)
    for path, calls, text in ((old, ("umask",), one), (new, ("umask", "getppid"), two)):
        profile = guests.profile(*calls)
        uses = frozenset(dataclasses.replace(use, because=frozenset({text})) for use in profile.uses)
        hostile = dataclasses.replace(profile, uses=uses, processes=frozenset({f"/{text}"}))
        path.write_text(document.write(hostile), encoding="utf-8", errors="backslashreplace")
    torn.write_text(f"schema: {three}\n{four}: [", encoding="utf-8", errors="surrogatepass")
    for command in (
        ("show", "--syscalls", str(new)), ("lint", str(old), str(new), str(torn)), ("diff", str(old), str(new)),
        ("show", "--json", str(new)), ("diff", "--json", str(old), str(new)), ("merge", str(old), str(new)),
        ("show", str(torn)), ("show", one.replace("\0", "")), (three.replace("\0", ""),),
    ):  # fmt: skip
        text = shown("profile", *command)
        assert text
        assert_safe(text)


@given(HOSTILE, HOSTILE)
def test_errors_and_answers_are_safe_and_pipes_are_exact(one: str, two: str) -> None:
    """An answer of a function shows on a terminal, and is for a pipe what it was; so is JSON, for both."""
    error = UsageError(one, where=two, todo=one)
    assert_safe(log_entry(error).decode())
    good = Outcome("ok", one.encode(errors="replace"), duration=0.5)
    line = invoke._line(0, two, good)
    with terminal() as (out, _):
        output.emit(f"{invoke._text(line)}\n")
        output.say(one, "red")
        output.warn(two)
        assert_safe(STYLES.sub("", out.getvalue()))
    with contextlib.redirect_stdout(io.StringIO()) as pipe:
        output.emit(f"{invoke._text(line)}\n")
        output.json_line(line)
    text, _, encoded = pipe.getvalue().removesuffix("\n").rpartition("\n")
    assert text == f"{two}: ok in 500.0 ms: {one.encode(errors='replace').decode()}"
    assert_safe(encoded)
    assert json.loads(encoded)["result"] == one.encode(errors="replace").decode()
    assert printable(one) == printable(printable(one))
    assert spelling.quoted(one).isprintable()


def test_commands_print_one_way() -> None:
    """No command writes to a stream by itself: sandbox/cli/output.py does."""
    ways = {"print", "echo", "secho", "confirm", "prompt"}
    found = []
    for path in sorted((SOURCES / "cli").glob("*.py")):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if owner not in ("console", "bar.console") and (
                name in ways or (name == "write" and owner.startswith("sys.std")) or name in ("Console", "writelines")
            ):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node.func)}")
    assert found == []


NAMED = "\x1b]0;owned\x07\x9b2J\u202e[red]"
"""A name of a stranger's: a title, a cleared screen, a direction, and markup."""
COMMANDS = {
    "learn": ("learn", "shell", "--cold-starts", "1", "--force", "--output", "{folder}/learned.yaml", "--",
              "/bin/sh", "-c", "echo > '{folder}/{name}.made'"),
    "learn what fails": ("learn", "shell", "--cold-starts", "1", "--output", "{folder}/no.yaml", "--",
                         "/bin/sh", "-c", "echo '{name}' >&2; exit 3"),
    "learn events": ("learn", "shell", "--events", "{folder}/{name}", "--handler", "{name}.x"),
    "compile": ("compile", "{folder}/hostile.yaml", "--output", "{folder}/{name}.bundle"),
    "compile nothing": ("compile", "{folder}/{name}.yaml", "--output", "{folder}/bundle"),
    "invoke": ("invoke", "{folder}/hostile.yaml", "--events", "{folder}/{name}", "--handler", "{name}.x"),
    "run": ("run", "{folder}/{name}.none", "--", "true"),
    "events": ("events", "{folder}/journal"),
    "activity": ("events", "{folder}/journal", "--activity"),
    "activity, added up": ("events", "{folder}/journal", "--activity", "--summary"),
    "amend": ("profile", "amend", "{folder}/hostile.yaml", "--from", "{folder}/journal"),
    "lint": ("profile", "lint", "{folder}/hostile.yaml", "{folder}/{name}"),
    "export": ("profile", "export", "{folder}/hostile.yaml", "--output", "{folder}/{name}/x"),
    "import": ("profile", "import", "{folder}/{name}", "--name", "some"),
    "verify": ("verify", "{folder}/{name}"),
    "snippet": ("package", "snippet", "sam", "{name}"),
    "an option": ("events", "--{name}"),
}  # fmt: skip


def test_no_command_shows_a_strangers_name_raw(tmp_path: Path) -> None:
    """Each command with hostile names in its arguments, in what it reads, and in what it runs."""
    profile = dataclasses.replace(
        guests.profile("umask"), processes=frozenset({f"/{NAMED}"}), writes=frozenset({f"/srv/{NAMED}/*"}),
    )  # fmt: skip
    (tmp_path / "hostile.yaml").write_text(document.write(profile))
    (tmp_path / NAMED).write_text(f"{NAMED}: [")
    sink = Sink(f"file:{tmp_path / 'journal'}")
    sink.write(
        Violation(
            function="some", phase="run", request="", pid=1, tid=1, comm=NAMED, syscall="openat", arg_class="create",
            args=[NAMED], target=f"/srv/{NAMED}", verdict="denied", errno="EACCES", reason=NAMED,
            allow=f'files.write: ["/srv/{NAMED}"]', risk="low", technique=NAMED,
        )
    )  # fmt: skip
    reached = [Reached(NAMED, 1, [NAMED])]
    sink.write(
        Activity(
            function=NAMED, phase="invoke", request=NAMED, duration=1.0, answered=True, shared=False,
            accesses={NAMED: 1}, destinations=reached, listeners=reached, programs=reached, written=[NAMED],
            refused={NAMED: 1}, anomalies={NAMED: 1}, new=[NAMED], outlived=[NAMED], more=1,
        )
    )  # fmt: skip
    sink.close()
    silent = []
    for name, words in COMMANDS.items():
        show = shown_by_process if words[0] in ("learn", "invoke") else shown
        text = show(*(word.format(folder=tmp_path, name=NAMED) for word in words))
        assert_safe(text)
        silent += [name] if not text.strip() else []
    assert silent == []
    assert (tmp_path / f"{NAMED}.made").exists()
