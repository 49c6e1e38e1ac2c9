"""Where and on what a training ran: host, libc, digests of handler and lock file, and the function's own Python.

Which interpreter that is, where its libraries lie, and whether the runtime client is there, it says itself.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import NamedTuple

from sandbox import __version__, provenance
from sandbox.confine import Command
from sandbox.errors import HandlerNotFound
from sandbox.learn.records import Start

TOOL = "{tool}"
"""Names this package, whose files say nothing about the function. What lies around it may be the function's own."""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def describe(command: Command, function: str, handler: str, *, api: bool) -> Start:
    """The run that is about to start; what cannot be found out is ''. `api`: it has a Runtime API."""
    root = command.root or os.getcwd()
    release = _os_release()
    python = _interpreter(command.path, root)
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
        places={TOOL: _PACKAGE, "{root}": root, **(python.places if python else {})},
        lock_digest=provenance.digest(provenance.lock_file(root)),
    )


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _interpreter(path: str, root: str) -> Interpreter | None:
    """The interpreter that the command starts; None for a program that is no Python."""
    if not os.path.basename(os.path.realpath(path)).startswith("python"):
        return None
    try:
        return ask(path, root)
    except HandlerNotFound:
        return None


# The observed function waits for the answer, so nothing is imported for it that a start does not load anyway (json,
# platform and importlib.util take as long as the start itself).
_ASK = """
import sys, sysconfig
client = any(finder.find_spec("awslambdaric", None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
print(sys.version.split()[0], sysconfig.get_path("stdlib"), sys.prefix, sys.base_prefix, client, sep="\\0", end="")
"""


class Interpreter(NamedTuple):
    """An executable and what it says of itself."""

    path: str
    version: str
    stdlib: str
    prefix: str
    base: str
    client: bool

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


def ask(python: str | None, root: str) -> Interpreter:
    """Ask an interpreter (default: the one that runs this) from the function's root. Raises HandlerNotFound."""
    path = python or sys.executable
    if os.path.isdir(path):
        path = os.path.join(path, "bin", "python")  # a virtual environment was named
    if os.sep in path:
        path = os.path.abspath(path)  # from where the user stands, and not from the function's folder
    todo = "give --python the function's interpreter, or the folder of its virtual environment"
    try:
        done = subprocess.run(
            [path, "-c", _ASK], cwd=root, capture_output=True, text=True, check=True, timeout=60,
            env={"PATH": os.pathsep.join(os.get_exec_path()), "HOME": "/tmp"},
        )  # fmt: skip
        version, stdlib, prefix, base, client = done.stdout.split("\0")
        return Interpreter(path, version, stdlib, prefix, base, client == "True")
    except OSError as error:
        raise HandlerNotFound(f"cannot be started: {error.strerror}", where=path, todo=todo) from error
    except (subprocess.SubprocessError, ValueError, TypeError) as error:
        raise HandlerNotFound(f"is not a usable Python: {error}", where=path, todo=todo) from error


def ask_for_client(python: str | None, root: str) -> Interpreter:
    """As `ask`, and raises HandlerNotFound when the interpreter lacks awslambdaric."""
    found = ask(python, root)
    if not found.client:
        raise HandlerNotFound(
            "has no awslambdaric, the runtime client under which Python handlers run", where=found.path,
            todo=f"{found.path} -m pip install awslambdaric",
        )  # fmt: skip
    return found
