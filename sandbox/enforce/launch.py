"""The bootstrap's way from its own start to the handler's: settings, command, policy, installation, exec.

Imports little on purpose: tests hold the list of modules and tools/bench measures the time.
"""

from __future__ import annotations

import os
import sys

from sandbox.errors import HandlerNotFound, InstallRefused, SandboxError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from sandbox.enforce.install import Report

MODES = ("enforce", "learn", "off")
PREFIX = "SANDBOX_"
"""Every variable with this prefix is ours and is removed before the exec: the handler must not read or set policy."""


class Command:
    """What to exec: an absolute path, its arguments, and the environment without our variables."""

    __slots__ = ("argv", "environment", "path")

    def __init__(self, path: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.path = path
        self.argv = argv
        self.environment = environment


def main() -> NoReturn:
    """Entry of `bootstrap`. Does not return: it execs, or exits with the error's code."""
    environment = dict(os.environ)
    try:
        mode = _choice(environment, "SANDBOX_MODE", MODES)
        on_unavailable = _choice(environment, "SANDBOX_ON_UNAVAILABLE", ("fail", "warn"))
        command = resolve(sys.argv[1:], environment)
        if mode == "off":
            _say({"event": "sandbox", "mode": "off", "enforced": [], "degraded": ["everything: SANDBOX_MODE=off"]})
            os.execve(command.path, list(command.argv), dict(command.environment))
        if mode == "learn":
            from sandbox.learn.observe import observe

            sys.exit(observe(command, environment))
        enforce(command, environment, on_unavailable)
    except SandboxError as error:
        fail(error, environment)


def fail(error: SandboxError, environment: Mapping[str, str]) -> NoReturn:
    """Say what went wrong, to the log and to the Runtime API, and exit with the error's own code."""
    os.write(2, f"sandbox: {error.error_type}: {error}\n".encode())
    api = environment.get("AWS_LAMBDA_RUNTIME_API", "")
    if api:
        from sandbox.enforce.init_error import post

        post(api, error.error_type, str(error))
    os._exit(error.exit_code)


def _choice(environment: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    value = environment.get(name) or choices[0]
    if value not in choices:
        raise UsageError(f"is {value!r}, not one of {', '.join(choices)}", where=name, todo="correct or unset it")
    return value


def resolve(arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """The command to exec: the arguments, or awslambdaric with $_HANDLER. Raises UsageError, HandlerNotFound."""
    kept = {key: value for key, value in environment.items() if not key.startswith(PREFIX)}
    if not arguments:
        handler = environment.get("_HANDLER", "")
        if not handler:
            raise UsageError(
                "no command and no _HANDLER", where="bootstrap",
                todo="give a command to start, or set _HANDLER=module.function as the platform does",
            )  # fmt: skip
        root = environment.get("LAMBDA_TASK_ROOT", "")
        if root:
            try:
                os.chdir(root)
            except OSError as error:
                raise HandlerNotFound(
                    f"cannot be entered: {error.strerror}", where=root, todo="correct LAMBDA_TASK_ROOT"
                ) from None
        arguments = [environment.get("SANDBOX_PYTHON") or sys.executable, "-m", "awslambdaric", handler]
    return Command(_which(arguments[0], environment.get("PATH", os.defpath)), list(arguments), kept)


def _which(name: str, path: str) -> str:
    tried = [name] if "/" in name else [os.path.join(entry or ".", name) for entry in path.split(":")]
    for found in tried:
        if os.path.isfile(found):
            if os.access(found, os.X_OK):
                return found
            if "/" in name:
                raise HandlerNotFound("is not executable", where=found, todo=f"chmod +x {found}")
    raise HandlerNotFound(
        "does not exist" if "/" in name else f"is in none of {path}", where=name, todo="correct the command"
    )


def enforce(command: Command, environment: Mapping[str, str], on_unavailable: str) -> NoReturn:
    """Install the policy and exec. Raises SandboxError when it cannot; the caller reports it."""
    from sandbox.enforce import locate, single_exec
    from sandbox.enforce.install import Report, install

    policy = locate.load(locate.find(environment))
    launch = single_exec.Launch(command.path, command.argv, command.environment)
    try:
        report = install(policy, launch.addresses, _api_port(environment))
    except InstallRefused as error:
        if on_unavailable == "fail":
            raise
        report = Report()
        report.degraded.append(f"everything that is not listed as enforced: {error}")
    _say(status_line(policy.function, policy.digest, report))
    error = launch.exec()
    raise HandlerNotFound(
        f"cannot be executed: {error.strerror}", where=command.path,
        todo="check its interpreter line, its architecture and its dynamic loader",
    )  # fmt: skip


def _api_port(environment: Mapping[str, str]) -> int | None:
    api = environment.get("AWS_LAMBDA_RUNTIME_API", "")
    port = api.rpartition(":")[2]
    if not api:
        return None
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"is {api!r}, not host:port", where="AWS_LAMBDA_RUNTIME_API", todo="the platform sets it")
    return int(port)


def status_line(function: str, digest: str, report: Report) -> Mapping[str, object]:
    """What is in force, for one JSON line in the log."""
    line: dict[str, object] = {
        "event": "sandbox", "mode": "enforce", "function": function, "policy": "sha256:" + digest,
        "requested": report.requested, "enforced": report.enforced, "degraded": report.degraded,
    }  # fmt: skip
    if report.filters is not None:
        line["filters"] = report.filters
    return line


def _say(line: Mapping[str, object]) -> None:
    os.write(2, (encode(line) + "\n").encode())


def encode(value: object) -> str:
    """JSON without the json module, whose import would double our own time; for text, integers, lists and mappings."""
    if isinstance(value, str):
        from _json import encode_basestring_ascii

        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ", ".join([f"{encode(key)}: {encode(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([encode(item) for item in value]) + "]"
    return str(value)
