"""Where and on what a training ran: host, kernel, libc, Python, architecture, digests of handler and lock file."""

from __future__ import annotations

import os
import platform

from sandbox import __version__, provenance
from sandbox.confine.single_exec import Command
from sandbox.errors import HandlerNotFound
from sandbox.learn.interpreter import Interpreter, ask
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
