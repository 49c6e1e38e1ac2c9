"""The function's own Python: which one, where its libraries lie, and whether the runtime client is there."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

from sandbox.errors import HandlerNotFound

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
    todo = "give --python the function's interpreter, or the folder of its virtual environment"
    try:
        done = subprocess.run(
            [path, "-c", _ASK], cwd=root, capture_output=True, text=True, check=True, timeout=60,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/tmp"},
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
