"""The bootstrap's way from its own start to the handler's: settings, command, policy, installation, exec.

Imports little on purpose: tests hold the list of modules and tools/bench measures the time.
"""

from __future__ import annotations

import os
import sys
import time

from sandbox.confine.single_exec import Command, not_executed, restore_signals
from sandbox.errors import HandlerNotFound, InstallRefused, SandboxError, UsageError, debugging, trace
from sandbox.plain_json import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from sandbox.bundle import Policy
    from sandbox.confine.install import Report

MODES = ("enforce", "audit", "learn", "off")
PREFIX = "SANDBOX_"
"""Every variable with this prefix is ours and is removed before the exec: the handler must not read or set policy."""

NEXT_WRAPPER = "SANDBOX_NEXT_WRAPPER"
ENTRY = "SANDBOX_ENTRY"
"""What the platform started, where that was a script of a package: another wrapper execs it again."""

COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python may set LC_CTYPE to (PEP 538)."""

PATHS = ("SANDBOX_POLICY", "SANDBOX_OBSERVATIONS")
"""Variables that name files, from where the bootstrap was started and not from LAMBDA_TASK_ROOT, which it enters."""


def main() -> NoReturn:
    """Entry of `bootstrap`. Does not return: it execs, or exits with the error's code."""
    environment = started_with(os.environ)
    try:
        chain(environment)
        for name in PATHS:
            if environment.get(name):
                environment[name] = os.path.abspath(environment[name])
        mode = _choice(environment, "SANDBOX_MODE", MODES)
        on_unavailable = _choice(environment, "SANDBOX_ON_UNAVAILABLE", ("fail", "warn"))
        command = resolve(sys.argv[1:], environment)
        if mode == "off":
            _say({"event": "sandbox", "mode": "off", "enforced": [], "degraded": ["everything: SANDBOX_MODE=off"]})
            run(command)
        if mode == "learn":
            from sandbox.learn.observe import observe

            sys.exit(observe(command, environment))
        enforce(command, environment, on_unavailable, audit=mode == "audit")
    except SandboxError as error:
        fail(error, environment)


def chain(environment: dict[str, str]) -> None:
    """Exec SANDBOX_NEXT_WRAPPER, if any, with this program before its arguments: it execs us again, innermost and last.

    There is one AWS_LAMBDA_EXEC_WRAPPER, and others want it too. Raises HandlerNotFound.
    """
    wrapper = environment.pop(NEXT_WRAPPER, "")
    ours = environment.get(ENTRY) or os.path.abspath(sys.argv[0])
    if wrapper:
        try:
            run(Command(wrapper, [wrapper, ours, *sys.argv[1:]], environment))
        except HandlerNotFound as error:
            todo = "name an executable file by its whole path, or unset it"
            raise HandlerNotFound(f"{wrapper}: {error.what}", where=NEXT_WRAPPER, todo=todo) from error


def fail(error: SandboxError, environment: Mapping[str, str]) -> NoReturn:
    """Say what went wrong, to the log and to the Runtime API, and exit with the error's own code."""
    text = f"sandbox: {error.error_type}: {error}\n" + (trace(error) if debugging(environment) else "")
    os.write(2, text.encode(errors="backslashreplace"))
    api = environment.get("AWS_LAMBDA_RUNTIME_API", "")
    if api:
        from sandbox.start.init_error import post

        if not post(api, error.error_type, str(error)):
            os.write(2, b"sandbox: the Runtime API was not told: it could not be reached, or did not take the report\n")
    os._exit(error.exit_code)


def started_with(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment as the kernel handed it over: Python puts LC_CTYPE into its own in the C locale (PEP 538)."""
    found = dict(environment)
    if found.get("LC_CTYPE") in COERCED:
        try:
            with open("/proc/self/environ", "rb") as file:
                entries = file.read().split(b"\0")
        except OSError:
            return found
        original = [entry for entry in entries if entry.startswith(b"LC_CTYPE=")]
        del found["LC_CTYPE"]
        if original:
            found["LC_CTYPE"] = os.fsdecode(original[0].partition(b"=")[2])
    return found


def run(command: Command) -> NoReturn:
    """Exec the command as it stands. Raises HandlerNotFound."""
    restore_signals()
    try:
        os.execve(command.path, list(command.argv), dict(command.environment))
    except OSError as error:
        raise not_executed(command.path, error) from error


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
                ) from error
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
    what = "is a folder" if os.path.isdir(name) else "does not exist"
    raise HandlerNotFound(
        what if "/" in name else f"is in none of {path}", where=name, todo="correct the command"
    )


def enforce(command: Command, environment: Mapping[str, str], on_unavailable: str, *, audit: bool) -> NoReturn:
    """Install the policy and exec, with a supervisor unless SANDBOX_SUPERVISE=0. Raises SandboxError when it cannot."""
    from sandbox import provenance
    from sandbox.start import locate

    path = locate.find(environment)
    policy = locate.load(path, environment)
    told = [said] if (said := locate.check_writable(path, policy, environment, on_unavailable)) else []
    audit = audit or time.strftime("%Y-%m-%d", time.gmtime()) < policy.audit_until
    api_port = _api_port(environment)
    stale = provenance.differences(policy.provenance, command.path, environment)
    if _choice(environment, "SANDBOX_STALE", ("warn", "refuse")) == "refuse" and stale:
        raise provenance.stale(stale)
    relayed = _choice(environment, "SANDBOX_REQUEST_ID", ("off", "relay")) == "relay"
    if api_port is not None:
        # Behind Landlock and the filters nothing can be loaded any more, and that is where the last errors come from.
        from sandbox.start import init_error  # noqa: F401
    if _choice(environment, "SANDBOX_SUPERVISE", ("1", "0")) == "0":
        if relayed:
            raise UsageError(
                "is relay, which a supervisor does, and there is none", where="SANDBOX_REQUEST_ID",
                todo="set SANDBOX_SUPERVISE=1, or unset it",
            )  # fmt: skip
        confine(command, policy, api_port, on_unavailable, stale, told, tell=None, audit=audit)
    _ = policy.supervision  # parsed here: damage must stop the start, and the clone below shares it
    # Before the clone, so that the child writes to fewer pages that it shares.
    from sandbox.confine import install, single_exec  # noqa: F401
    from sandbox.supervise.start import Handover, start

    def child(handover: Handover) -> None:
        try:
            confine(command, policy, api_port, on_unavailable, stale, told, tell=handover.tell, audit=audit)
        except SandboxError as error:
            fail(error, environment)

    sys.exit(start(child, policy, environment, audit=audit))


def confine(
    command: Command, policy: Policy, api_port: int | None, on_unavailable: str, stale: Sequence[str],
    told: Sequence[str], *, tell: Callable[[int | None], None] | None, audit: bool,
) -> NoReturn:  # fmt: skip
    """Install the policy in this process and exec. Raises SandboxError.

    `told` are things that are not as they should be, for the status line. `tell` hears of the listener, once.
    """
    from sandbox.confine import single_exec
    from sandbox.confine.install import Report, install

    launch = single_exec.Launch(command.path, command.argv, command.environment)
    report = Report()
    report.degraded += told
    try:
        install(policy, launch.addresses, api_port, report, tell=tell, audit=audit, command=command)
    except InstallRefused as error:
        if on_unavailable == "fail":
            raise
        report.degraded.append(f"everything that is not listed as enforced: {error}")
        if tell:
            tell(None)
    if tell and "supervision" in report.enforced and command.environment.get("AWS_LAMBDA_MAX_CONCURRENCY"):
        report.degraded.append("phases: init calls stay allowed (AWS_LAMBDA_MAX_CONCURRENCY: workers start meanwhile)")
    _say(status_line("audit" if audit else "enforce", policy.function, policy.digest, report, stale))
    restore_signals()
    refused = launch.exec()
    raise not_executed(command.path, refused) from refused


def _api_port(environment: Mapping[str, str]) -> int | None:
    api = environment.get("AWS_LAMBDA_RUNTIME_API", "")
    port = api.rpartition(":")[2]
    if not api:
        return None
    if not (port.isascii() and port.isdigit() and len(port) < 6) or not 0 < int(port) < 65536:
        raise UsageError(f"is {api!r}, not host:port", where="AWS_LAMBDA_RUNTIME_API", todo="the platform sets it")
    return int(port)


def status_line(mode: str, function: str, digest: str, report: Report, stale: Sequence[str]) -> Mapping[str, object]:
    """What is in force, for one JSON line in the log."""
    line: dict[str, object] = {
        "event": "sandbox", "mode": mode, "function": function, "policy": "sha256:" + digest,
        "requested": report.requested, "enforced": report.enforced, "degraded": report.degraded,
    }  # fmt: skip
    if report.reported:
        line["reported"] = report.reported
    if stale:
        line["stale"] = stale
    if report.filters is not None:
        line["filters"] = report.filters
    return line


def _say(line: Mapping[str, object]) -> None:
    os.write(2, (encode(line) + "\n").encode())
