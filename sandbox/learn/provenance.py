"""Where and on what a training ran: host, kernel, libc, Python, architecture, digests of handler and lock file."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from typing import Any

from sandbox.enforce.launch import Command
from sandbox.errors import HandlerNotFound
from sandbox.learn.interpreter import Interpreter, ask

TOOL = "{tool}"
"""Names the folder of this tool, whose files say nothing about the function."""
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

LOCKS = (
    "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.lock", "requirements.txt", "package-lock.json",
    "go.sum", "Cargo.lock",
)  # fmt: skip


def describe(command: Command, environment: Mapping[str, str]) -> dict[str, Any]:
    """The provenance of a run that is about to start; what cannot be found out is ''."""
    root = environment.get("LAMBDA_TASK_ROOT") or os.getcwd()
    release = _os_release()
    python = _interpreter(command.path, root)
    return {
        "host": release.get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "libc": _libc(),
        "python": python.version if python else "",
        "architecture": platform.machine(),
        "handler_digest": _digest(_handler_file(command, environment.get("_HANDLER", ""), root)),
        "places": {TOOL: _HOME, "{root}": root, **(python.places if python else {})},
        "lock_digest": next((_digest(p) for name in LOCKS if os.path.isfile(p := os.path.join(root, name))), ""),
    }


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _libc() -> str:
    name, version = platform.libc_ver()
    if name:
        return f"{name} {version}"
    musl = [entry for entry in os.listdir("/lib") if entry.startswith("ld-musl-")] if os.path.isdir("/lib") else []
    return "musl" if musl else ""


def _interpreter(path: str, root: str) -> Interpreter | None:
    """The interpreter that the command starts; None for a program that is no Python."""
    if not os.path.basename(os.path.realpath(path)).startswith("python"):
        return None
    try:
        return ask(path, root)
    except HandlerNotFound:
        return None


def _handler_file(command: Command, handler: str, root: str) -> str:
    """The handler's module (a/b.py of `a/b.function` or `a.b.function`), else the program that is started."""
    module = os.path.join(root, handler.rpartition(".")[0].replace(".", "/") + ".py")
    return module if handler and os.path.isfile(module) else command.path


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return ""
