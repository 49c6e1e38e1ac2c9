"""The bootstrap's way from its own start to the handler's: settings, command, policy, installation, exec.

Imports little on purpose: tests hold the list of modules and tools/bench measures the time.
"""

from __future__ import annotations

import os
import sys
import time

from sandbox.confine import Command, not_executed, restore_signals, started_with
from sandbox.errors import HandlerNotFound, InstallRefused, SandboxError, UsageError, log_entry, shortage
from sandbox.plain_json import encode
from sandbox.start.settings import (
    ACTIVITY,
    EVENT_KEY,
    FILES,
    MODE,
    NEXT_WRAPPER,
    ON_DECIDER,
    ON_UNAVAILABLE,
    REFUSES,
    REQUEST_ID,
    RUNTIME_API,
    STALE,
    STANDS_FOR,
    STATUS,
    SUPERVISE,
    RuntimeApi,
    Settings,
    refuse_unknown,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from sandbox.behaviour.stand_ins import StandIns
    from sandbox.bundle import Policy
    from sandbox.confine.child import ListenerPage
    from sandbox.confine.install import InForce
    from sandbox.supervise.start import Duties


def main() -> NoReturn:
    """Entry of `bootstrap`. Does not return: it execs, or exits with the error's code."""
    environ = started_with(os.environ)
    settings = Settings(environ)
    try:
        chain(environ, settings)
        keep_collector(settings)
        refuse_unknown(environ)
        settings.require(MODE, ON_UNAVAILABLE, STATUS)
        arguments = sys.argv[1:]
        if not arguments:
            enter_root(settings)
        command = find_command(arguments, settings)
        if settings.mode == "off":
            off = {"event": "sandbox", "mode": "off", "enforced": [], "degraded": ["everything: SANDBOX_MODE=off"]}
            _say(off, settings)
            run(command)
        if settings.mode == "learn":
            settings.require(RUNTIME_API, REFUSES)
            _say(learning_line(settings), settings)
            sys.exit(learn(command, settings))
        enforce(command, settings)
    except SandboxError as error:
        fail(error, settings)
    except (OSError, MemoryError) as error:
        fail(shortage(error) or internal(error), settings)


def chain(environ: Mapping[str, str], settings: Settings) -> None:
    """Exec SANDBOX_NEXT_WRAPPER, if any, with this program before its arguments: it execs us again, innermost and last.

    There is one AWS_LAMBDA_EXEC_WRAPPER, and others want it too. Raises HandlerNotFound.
    """
    wrapper = settings.next_wrapper
    if not wrapper:
        return
    # What the platform started, where that was a script of a package: the wrapper execs it again.
    ours = settings.entry or os.path.abspath(sys.argv[0])
    # Still with our variables, for the second time; without this one, which would have no end.
    handed = {key: value for key, value in environ.items() if key != NEXT_WRAPPER}
    try:
        run(Command(wrapper, [wrapper, ours, *sys.argv[1:]], handed))
    except HandlerNotFound as error:
        todo = "name an executable file by its whole path, or unset it"
        raise HandlerNotFound(f"{wrapper}: {error.what}", where=NEXT_WRAPPER, todo=todo) from error


def keep_collector(settings: Settings) -> None:
    """Close the descriptors of SANDBOX_EVENTS=fd:N and SANDBOX_STATUS for the function, whoever reports or not."""
    for place in (settings.events, f"fd:{settings.status}"):
        number = place.removeprefix("fd:")
        try:
            if number != place and int(number) > 2:
                os.set_inheritable(int(number), False)
        except (OSError, ValueError, OverflowError):
            continue  # who writes to it says so


def fail(error: SandboxError, settings: Settings) -> NoReturn:
    """Say what went wrong, to the log and to the Runtime API, and exit with the error's own code."""
    os.write(2, log_entry(error, debug=settings.debug))
    if settings.has_api:
        from sandbox.start.init_error import post

        if settings.api is None or not post(settings.api, error.error_type, str(error)):
            os.write(2, b"sandbox: the Runtime API was not told: it could not be reached, or did not take the report\n")
    os._exit(error.exit_code)


def internal(error: BaseException) -> SandboxError:
    """What a fault of ours is to the user: an error like others, with the fault as its cause."""
    found = SandboxError(
        f"internal error: {type(error).__name__}: {error}", where="bootstrap",
        todo="please report this, with what SANDBOX_DEBUG=1 adds",
    )  # fmt: skip
    found.__cause__ = error
    return found


def run(command: Command) -> NoReturn:
    """Exec the command as it stands. Raises HandlerNotFound."""
    restore_signals()
    try:
        os.execve(command.path, list(command.argv), dict(command.environ))
    except OSError as error:
        raise not_executed(command.path, error) from error


def enter_root(settings: Settings) -> None:
    """Make LAMBDA_TASK_ROOT the working folder, as the platform's own runtimes do. Raises HandlerNotFound.

    Only for $_HANDLER: a command says itself where it lies, and may mean a path below the folder it was started in.
    """
    root = settings.task_root
    if not settings.handler or not root:
        return
    try:
        os.chdir(root)
    except OSError as error:
        raise HandlerNotFound(
            f"cannot be entered: {error.strerror}", where=root, todo="correct LAMBDA_TASK_ROOT"
        ) from error


def find_command(arguments: Sequence[str], settings: Settings) -> Command:
    """The command to exec: the arguments, or awslambdaric with $_HANDLER. Raises UsageError, HandlerNotFound."""
    if not arguments:
        if not settings.handler:
            raise UsageError(
                "no command and no _HANDLER", where="bootstrap",
                todo="give a command to start, or set _HANDLER=module.function as the platform does",
            )  # fmt: skip
        arguments = [settings.python or sys.executable, "-m", "awslambdaric", settings.handler]
    path = _which(arguments[0], settings.search)
    return Command(path, list(arguments), settings.environ, root=settings.task_root, search=settings.search)


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


def learning_line(settings: Settings) -> Mapping[str, object]:
    """The status line of SANDBOX_MODE=learn: nothing is in force but the hard deny, whatever policy is there."""
    degraded = ["everything but the hard deny: SANDBOX_MODE=learn observes and lets through"]
    if policy := _policy_here(settings):
        degraded.append(f"policy: {policy} is here, and is not in force")
    return {
        "event": "sandbox", "mode": "learn", "function": settings.function, "requested": [],
        "enforced": ["hard deny", *(["what the platform refuses"] if settings.refuses else [])], "degraded": degraded,
    }  # fmt: skip


def _policy_here(settings: Settings) -> str:
    """The path of the policy that another mode would use; '' for none, as before the first training."""
    from sandbox.start import locate

    try:
        return locate.find(settings)
    except SandboxError:
        return ""


def learn(command: Command, settings: Settings) -> int:
    """Run the command and write down what it does. Returns the exit status to end with. Raises SandboxError."""
    from sandbox.learn import host

    asked = host.Asked(command)  # before the rest is loaded
    from sandbox.learn.observe import ObserverDuties, observe

    duties = ObserverDuties(
        settings.function, settings.handler, _address(settings.api), settings.grants, settings.observations,
        settings.local_domains, settings.debug, stand_ins(settings), settings.refuses,
    )  # fmt: skip
    return observe(command, duties, asked)


def _address(api: RuntimeApi | None) -> tuple[str, int] | None:
    return (api.host, api.port) if api else None


def enforce(command: Command, settings: Settings) -> NoReturn:
    """Install the policy and exec, with a supervisor unless SANDBOX_SUPERVISE=0. Raises SandboxError when it cannot."""
    from sandbox import provenance
    from sandbox.start import locate

    path = locate.find(settings)
    policy = locate.load(path, settings.verify_key)
    exposed = locate.check_writable(path, policy, settings)
    degraded = [exposed] if exposed else []
    audit = settings.mode == "audit" or time.strftime("%Y-%m-%d", time.gmtime()) < policy.audit_until
    settings.require(RUNTIME_API, STALE, REQUEST_ID, ACTIVITY, SUPERVISE, FILES, ON_DECIDER, REFUSES)
    root = settings.task_root or os.getcwd()
    stale = provenance.differences(policy.provenance, command.path, settings.handler, root)
    if settings.refuse_stale and stale:
        raise provenance.stale(stale)
    if settings.api is not None:
        # Behind Landlock and the filters nothing can be loaded any more, and that is where the last errors come from.
        from sandbox.start import init_error  # noqa: F401
    if settings.supervise and (open_reports := locate.check_events(policy, settings)):
        degraded.append(open_reports)
    wired = wire(command, path, settings, audit=audit)
    if not settings.supervise:
        if settings.activity != "off":
            raise UsageError(
                f"is {settings.activity}, but without a supervisor nobody sees what the function does", where=ACTIVITY,
                todo="set SANDBOX_SUPERVISE=1, or unset it",
            )  # fmt: skip
        if settings.relays:
            raise UsageError(
                "is relay, but without a supervisor nobody relays", where=REQUEST_ID,
                todo="set SANDBOX_SUPERVISE=1, or unset it",
            )  # fmt: skip
        if settings.event_key:
            raise UsageError(
                "is set, but without a supervisor nobody signs", where=EVENT_KEY,
                todo="set SANDBOX_SUPERVISE=1, or unset it",
            )  # fmt: skip
        if settings.files == "look":
            raise UsageError(
                "is look, but without a supervisor nobody looks", where=FILES,
                todo="set SANDBOX_SUPERVISE=1, or unset it",
            )  # fmt: skip
        if settings.stand_ins:
            raise UsageError(
                "is set, but without a supervisor no connect is led to a fake", where=STANDS_FOR,
                todo="set SANDBOX_SUPERVISE=1, or unset it",
            )  # fmt: skip
        confine(command, policy, settings, stale, degraded, wired, tell=None, audit=audit)
    _ = policy.supervision  # parsed here: damage must stop the start, and the clone below shares it
    # Before the clone, so that the child writes to fewer pages that it shares.
    from sandbox.confine import install, single_exec  # noqa: F401
    from sandbox.kernel import landlock
    from sandbox.supervise.start import start

    def child(page: ListenerPage) -> None:
        try:
            confine(command, policy, settings, stale, degraded, wired, tell=page.tell, audit=audit)
        except SandboxError as error:
            fail(error, settings)
        except BaseException as error:  # nobody is above it who could say so
            fail(shortage(error) or internal(error), settings)

    found = duties(settings, command, audit=audit)
    found.looks = install.looks_at_files(policy, landlock.abi_version(), settings.files, audit=audit)
    degraded += [f"network: {text} ({STANDS_FOR})" for text in settings.stand_ins]
    sys.exit(start(child, policy, found))


def duties(settings: Settings, command: Command, *, audit: bool) -> Duties:
    """What the settings ask of a supervisor of this command."""
    from sandbox.supervise.start import Duties

    return Duties(
        audit=audit, events=settings.events, event_key=settings.event_key, api=_address(settings.api),
        relays=settings.relays, one_phase=settings.one_phase, command=command,
        local_domains=settings.local_domains, stand_ins=stand_ins(settings), goes_on=settings.goes_on,
        activity=settings.activity,
    )  # fmt: skip


def stand_ins(settings: Settings) -> StandIns | None:
    """What stands for destinations in this start; None for nothing, as in production. Raises UsageError."""
    if not settings.stand_ins:
        return None
    from sandbox.behaviour.stand_ins import StandIns

    return StandIns(settings.stand_ins)


def wire(command: Command, path: str, settings: Settings, *, audit: bool) -> Mapping[str, str] | InstallRefused | None:
    """The variables of the tripwire, or why it cannot be set; None where SANDBOX_ON_UNAVAILABLE does not ask for it.

    Asked before anything is installed: behind a part of the walls nothing more can be loaded.
    """
    if settings.on_unavailable not in ("detect", "best"):
        return None
    from sandbox.start.wire import variables

    try:
        return variables(command, path, settings.api.text if settings.api else "", audit=audit)
    except InstallRefused as error:
        return error


def _still_wired(wired: Mapping[str, str] | InstallRefused | None) -> Mapping[str, str] | InstallRefused | None:
    """`wired`, or why part of the walls, in force by now, keeps the tripwire out."""
    if wired is None or isinstance(wired, InstallRefused):
        return wired
    from sandbox.start.wire import check_readable  # loaded already

    try:
        check_readable(wired)
    except InstallRefused as error:
        return error
    return wired


def confine(
    command: Command, policy: Policy, settings: Settings, stale: Sequence[str], degraded: Sequence[str],
    wired: Mapping[str, str] | InstallRefused | None, *, tell: Callable[[int | None], None] | None, audit: bool,
) -> NoReturn:  # fmt: skip
    """Install the policy in this process and exec. Raises SandboxError.

    `degraded` are things that are not as they should be, for the status line. `wired` is what `wire` found. `tell`
    hears of the listener, once.
    """
    from sandbox.confine import single_exec
    from sandbox.confine.install import InForce, install

    launch = single_exec.Launch(command.path, command.argv, command.environ)
    in_force = InForce()
    in_force.degraded += degraded
    tier = ""
    try:
        port = settings.api.port if settings.api else None
        install(
            policy, launch.addresses, port, in_force, tell=tell, audit=audit, files=settings.files, command=command,
            refuses=settings.refuses,
        )  # fmt: skip
    except InstallRefused as error:
        wired = _still_wired(wired)
        refuses = settings.on_unavailable == "detect" and isinstance(wired, InstallRefused)
        if settings.on_unavailable == "fail" or refuses:
            raise
        in_force.degraded.append(f"everything that is not listed as enforced: {error}")
        if isinstance(wired, InstallRefused):
            in_force.degraded.append(f"tier: nothing ({wired.what})")
            tier = "nothing"
        elif wired is not None:
            from sandbox.start.wire import TIER  # loaded already

            in_force.degraded.append(TIER)
            tier = "detects"
            launch = single_exec.Launch(command.path, command.argv, {**command.environ, **wired})
        if tell:
            tell(None)
    if settings.stand_ins and "supervision" not in in_force.enforced:
        # The function would reach production instead, although nobody meant it to.
        raise InstallRefused(
            "is set, but nothing here could redirect a connect to a fake", where=STANDS_FOR,
            todo="unset it, or start where a supervisor can be (the status line of a start without it says why)",
        )  # fmt: skip
    if tell and "supervision" in in_force.enforced and settings.one_phase:
        why = "AWS_LAMBDA_MAX_CONCURRENCY: workers start meanwhile"
        in_force.degraded.append(f"phases: init calls stay allowed ({why})")
    if settings.activity != "off":
        if tell and "supervision" in in_force.enforced:
            in_force.reported.append(f"activity: {settings.activity}")
        else:
            in_force.degraded.append(f"activity: not written, since there is no supervisor ({ACTIVITY})")
    line = status_line("audit" if audit else "enforce", policy.function, policy.digest, in_force, stale)
    if wired is not None:
        tier = tier or ("kernel + supervisor" if "supervision" in in_force.enforced else "kernel only")
        line = {**line, "tier": tier}
    _say(line, settings)
    restore_signals()
    refused = launch.exec()
    raise not_executed(command.path, refused) from refused


def status_line(mode: str, function: str, digest: str, in_force: InForce, stale: Sequence[str]) -> Mapping[str, object]:
    """What is in force, for one JSON line in the log."""
    line: dict[str, object] = {
        "event": "sandbox", "mode": mode, "function": function, "policy": "sha256:" + digest,
        "requested": in_force.requested, "enforced": in_force.enforced, "degraded": in_force.degraded,
    }  # fmt: skip
    if in_force.reported:
        line["reported"] = in_force.reported
    if stale:
        line["stale"] = stale
    if in_force.filters is not None:
        line["filters"] = in_force.filters
    return line


def _say(line: Mapping[str, object], settings: Settings) -> None:
    text = (encode(line) + "\n").encode()
    try:
        os.write(settings.status, text)
    except OSError as error:
        if settings.status == 2:
            raise
        raise UsageError(
            f"cannot be written: {error.strerror}", where=f"{STATUS}=fd:{settings.status}",
            todo="name a descriptor that it inherits",
        ) from error  # fmt: skip
