"""Where and on what a training ran: host, kernel, libc, Python, architecture, digests of handler and lock file."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping

from sandbox.enforce.launch import Command

LOCKS = (
    "uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "requirements.lock", "requirements.txt", "package-lock.json",
    "go.sum", "Cargo.lock",
)  # fmt: skip


def describe(command: Command, environment: Mapping[str, str]) -> dict[str, str]:
    """The provenance of a run that is about to start, as text; what cannot be found out is ''."""
    root = environment.get("LAMBDA_TASK_ROOT") or os.getcwd()
    release = _os_release()
    return {
        "host": release.get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "libc": _libc(),
        "python": _python(command.path),
        "architecture": platform.machine(),
        "handler_digest": _digest(_handler_file(command, environment.get("_HANDLER", ""), root)),
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


def _python(path: str) -> str:
    """The version of the interpreter that the command starts; '' for a program that is no Python."""
    if not os.path.basename(os.path.realpath(path)).startswith("python"):
        return ""
    code = "import platform; print(platform.python_version())"
    done = subprocess.run([path, "-I", "-S", "-c", code], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


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
