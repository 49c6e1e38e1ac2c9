"""Where and on what a training ran: host, libc, digests of handler and lock file, and the function's own Python.

Which interpreter that is, where its libraries lie, what it needs of this host, and whether the runtime client is there,
it says itself: a name on PATH may be a script that chooses one (pyenv), and a virtual environment's is a link.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sandbox import __version__, provenance
from sandbox.confine import Command
from sandbox.confine.landlock_rules import chain
from sandbox.errors import HandlerNotFound, printable
from sandbox.learn.records import Start

TOOL = "{tool}"
"""Names this package, whose files say nothing about the function. What lies around it may be the function's own."""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def describe(command: Command, function: str, handler: str, asked: Asked, *, api: bool) -> Start:
    """The run that is about to start; what cannot be found out is ''. `api`: it has a Runtime API."""
    root = command.root or os.getcwd()
    release = _os_release()
    python = asked.interpreter()
    return Start(
        version=__version__,
        function=function,
        handler=handler,
        api=api,
        host=release.get("PRETTY_NAME", platform.system()),
        kernel=platform.release(),
        libc=provenance.libc(),
        python=python.version if python else "",
        architecture=platform.machine(),
        handler_digest=provenance.digest(provenance.handler_file(command.path, handler, root)),
        places={TOOL: _PACKAGE, "{root}": root, **(_places(python, command.path) if python else {})},
        lock_digest=provenance.digest(provenance.lock_file(root)),
        interpreter=command.path if _is_python(command.path) else "",
    )


def _places(python: Interpreter, path: str) -> Mapping[str, str]:
    """Those of its folders that a starter finds again by the path of the command: a script's environment alone."""
    places = python.places
    if _is_python(path):
        return places
    beside = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    return {name: folder for name, folder in places.items() if name == "{venv}" and folder == beside}


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


class Asked:
    """The interpreter that a command starts, itself or by the first line of a script, asked while others do their work.

    It takes as long to answer as most of a learning start, and there may be a second processor.
    """

    def __init__(self, command: Command) -> None:
        self._root = command.root or os.getcwd()
        self._candidates = filter(_is_python, started_by(command.path))
        self._answers = self._ask()

    def _ask(self) -> _Answers | None:
        for path in self._candidates:
            with contextlib.suppress(HandlerNotFound):
                return _Answers([path], self._root, {"PATH": os.pathsep.join(os.get_exec_path()), "HOME": "/tmp"})
        return None

    def interpreter(self) -> Interpreter | None:
        """What it says; None where the command starts none, or none that answers."""
        while answers := self._answers:
            with contextlib.suppress(HandlerNotFound):
                return answers.take()
            self._answers = self._ask()
        return None


def started_by(path: str) -> Iterator[str]:
    """A program, and what the first line of a script starts in its place (execve(2)), by env(1) too."""
    return (other for other, is_loader in chain(path, os.pathsep.join(os.get_exec_path())) if not is_loader)


NAME = re.compile(r"(python|pypy)(\d[\w.-]*)?")
"""What the file of an interpreter is called."""


def _is_python(path: str) -> bool:
    return bool(NAME.fullmatch(os.path.basename(os.path.realpath(path))))


# The observed function waits for the answer, so nothing is imported for it that a start does not load anyway (json,
# platform and importlib.util take as long as the start itself).
_ASK = """
import os, sys, sysconfig
os.chdir(sys.argv[1])
client = any(finder.find_spec("awslambdaric", None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
    mapped = {line.split(None, 5)[5].rstrip("\\n") for line in maps if line.count("/")}
print(sys.executable, sys.version.split()[0], sysconfig.get_path("stdlib"), sys.prefix, sys.base_prefix, client,
      *sorted({*filter(None, sys.path), *mapped}), sep="\\0", end="")
"""
LONGEST_ANSWER = 60
"""Seconds."""
CHOOSE_PYTHON = "give --python the function's interpreter, or the folder of its virtual environment"


class Interpreter(NamedTuple):
    """An executable and what it says of itself. `needs` are files and folders of the host without which it fails."""

    path: str
    version: str
    stdlib: str
    prefix: str
    base: str
    client: bool
    needs: tuple[str, ...] = ()

    @property
    def execution_environment(self) -> str:
        """AWS_EXECUTION_ENV as the platform sets it, on which the client's threading depends."""
        return "AWS_Lambda_python" + ".".join(self.version.split(".")[:2])

    @property
    def places(self) -> dict[str, str]:
        """Names for directories in paths, so that one profile serves hosts that differ in them."""
        places = {"{python}": self.stdlib}
        if self.prefix != self.base:
            places["{venv}"] = self.prefix
        return places


def find(python: str) -> str:
    """The file that a user means by an interpreter: a path from where he stands, a folder with one, a name on PATH.

    A link into a virtual environment is that environment's interpreter, which is one only under its own name. Raises
    HandlerNotFound.
    """
    named = os.path.expanduser(python)
    inner = os.path.join(named, "bin", "python")
    if os.path.isdir(named) and (os.sep in named or os.path.exists(inner)):
        path = inner
    elif os.sep in named or not (path := _on_path(named)):
        path = named
    if os.path.isdir(path) or not os.path.exists(path):
        what = "does not exist" if os.sep in named else "is neither on PATH nor the folder of an environment"
        raise HandlerNotFound("is a folder" if os.path.isdir(path) else what, where=path, todo=CHOOSE_PYTHON)
    path = os.path.abspath(path)
    return next((hop for hop in (path, *links(path)) if _is_in_venv(hop)), path)


def links(path: str) -> Iterator[str]:
    """The files that a link leads to, one after the other, and last the real one."""
    for _ in range(MOST_LINKS):
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            break
        yield os.path.normpath(path)
    yield os.path.realpath(path)


MOST_LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""


def _is_in_venv(path: str) -> bool:
    return os.path.exists(os.path.join(os.path.dirname(os.path.dirname(path)), "pyvenv.cfg"))


def ask(python: str | None, root: str) -> Interpreter:
    """Ask an interpreter (default: the one that runs this) about itself and the function's root.

    Raises HandlerNotFound.
    """
    path = find(python) if python else sys.executable
    # A script that chooses one does it by variables and by the folder that the user stands in.
    found = _Answers([path, "-s"], root, {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}).take()
    with contextlib.suppress(OSError):
        if os.path.samefile(found.path, path):  # by the name that the user gave
            return found._replace(path=path)
    return found


class _Answers:
    """One interpreter that was started to answer."""

    def __init__(self, command: list[str], root: str, environment: Mapping[str, str]) -> None:
        """Raises HandlerNotFound."""
        self._where = command[0]
        try:
            self._started = subprocess.Popen(
                [*command, "-c", _ASK, root], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, errors="surrogateescape", env=environment,
            )  # fmt: skip
        except OSError as error:
            what = f"cannot be started: {error.strerror}"
            raise HandlerNotFound(what, where=self._where, todo=CHOOSE_PYTHON) from error

    def take(self) -> Interpreter:
        """Wait for the answer. Raises HandlerNotFound."""
        where = self._where
        with self._started as started:
            try:
                answer, complaint = started.communicate(timeout=LONGEST_ANSWER)
            except subprocess.TimeoutExpired as error:
                started.kill()
                what = f"is not a usable Python: it does not answer within {LONGEST_ANSWER} seconds"
                raise HandlerNotFound(what, where=where, todo=CHOOSE_PYTHON) from error
        if started.returncode:  # a script that chooses says why it has none
            said = [line for line in complaint.splitlines() if line.strip()] or [f"exit status {started.returncode}"]
            why = said[-1 if said[0].startswith(("Traceback", "  File")) else 0].strip()
            raise HandlerNotFound(f"is not a usable Python: {why}", where=where, todo=CHOOSE_PYTHON)
        try:
            path, version, stdlib, prefix, base, client, *needs = answer.split("\0")
        except ValueError as error:
            why = "it answers nothing that a Python would"
            raise HandlerNotFound(f"is not a usable Python: {why}", where=where, todo=CHOOSE_PYTHON) from error
        path = path or where
        hops = (where, path, *links(path))
        return Interpreter(path, version, stdlib, prefix, base, client == "True", (*hops, prefix, base, stdlib, *needs))


def without_chooser(
    command: Sequence[str], root: str, *, inherits: bool = True
) -> tuple[Sequence[str], dict[str, str]]:  # fmt: skip
    """The command with the interpreter in the place of a script that chooses one (pyenv's `python3`), if it is that.

    And the variables by which a script that env(1) starts finds the same, where it `inherits` our PATH. Where the
    program will run is no such script, and what it starts to choose is not the program's. Raises HandlerNotFound where
    it chooses none.
    """
    hops = list(started_by(_found(command[0], root))) if command else []
    scripts = hops[:-1] if inherits else hops[:-1][:1]
    path = next(filter(_is_python, scripts), "")
    if not path:
        return command, {}
    chosen = ask(os.path.abspath(path), root).path
    sys.stderr.write(f"{printable(f'sandbox: {path} is a script that chooses: {chosen} is started')}\n")
    if path == hops[0]:
        return (chosen, *command[1:]), {}
    return command, {"PATH": os.pathsep.join((os.path.dirname(chosen), *os.get_exec_path()))}


def _found(command: str, root: str) -> str:
    return os.path.join(root, command) if os.sep in command else _on_path(command)


def _on_path(name: str) -> str:
    """A program on PATH, '' where there is none."""
    import shutil  # a learning start knows its program already

    return shutil.which(name) or ""


def needs_of(command: str, root: str) -> tuple[str, ...]:
    """What a program needs of this host beside its arguments, if it is a Python or a script of one; () for others."""
    for program in started_by(_found(command, root)):
        if _is_python(program):
            with contextlib.suppress(HandlerNotFound):
                return ask(os.path.abspath(program), root).needs
    return ()


class Runnable(NamedTuple):
    """What a start runs: a command, or nothing where `python` runs the client, with what that needs of this host.

    `variables` are those that it needs besides.
    """

    command: tuple[str, ...]
    python: str
    needs: tuple[str, ...]
    variables: Mapping[str, str]


def runnable(command: Sequence[str], python: str, root: str, *, inherits: bool) -> Runnable:
    """What a user's command starts, or without one his `python` ('' for this one); `inherits` as for without_chooser.

    Raises HandlerNotFound.
    """
    if not command:
        client = ask_for_client(python or None, root)
        return Runnable((), client.path, client.needs, {"AWS_EXECUTION_ENV": client.execution_environment})
    command, search = without_chooser(command, root, inherits=inherits)
    return Runnable(tuple(command), "", needs_of(command[0], root), search)


def ask_for_client(python: str | None, root: str) -> Interpreter:
    """As `ask`, and raises HandlerNotFound when the interpreter lacks awslambdaric."""
    found = ask(python, root)
    if not found.client:
        raise HandlerNotFound(
            "has no awslambdaric, the runtime client under which Python handlers run", where=found.path,
            todo=f"{found.path} -m pip install awslambdaric",
        )  # fmt: skip
    return found
