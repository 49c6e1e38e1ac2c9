"""Every variable that a start reads, parsed once: ours (SANDBOX_...) and those of the platform.

    settings = Settings(os.environ)
    settings.require("SANDBOX_MODE")
    settings.mode  # "enforce"

Nothing below this package looks a variable up: supervisor, observer and sinks are given values. Parsing raises nothing,
because a wrong value only matters to a start that reads it: `SANDBOX_MODE=off` starts whatever SANDBOX_STALE says.
"""

from __future__ import annotations

import os

from sandbox.errors import UsageError, debugging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "SANDBOX_"
"""Every variable with this prefix is ours and is removed before the exec: the handler must not read or set policy."""

MODE, MODES = "SANDBOX_MODE", ("enforce", "audit", "learn", "off")
ON_UNAVAILABLE = "SANDBOX_ON_UNAVAILABLE"
STALE = "SANDBOX_STALE"
ACTIVITY = "SANDBOX_ACTIVITY"
REQUEST_ID = "SANDBOX_REQUEST_ID"
SUPERVISE = "SANDBOX_SUPERVISE"
FILES = "SANDBOX_FILES"
ON_DECIDER = "SANDBOX_ON_DECIDER"
RUNTIME_API = "AWS_LAMBDA_RUNTIME_API"
NEXT_WRAPPER = "SANDBOX_NEXT_WRAPPER"
STATUS = "SANDBOX_STATUS"
STANDS_FOR = "SANDBOX_STANDS_FOR"
REFUSES = "SANDBOX_REFUSES"
VERIFY_KEY = "SANDBOX_VERIFY_KEY"
EVENT_KEY = "SANDBOX_EVENT_KEY"

KNOWN = """
ACTIVITY DEBUG ENTRY EVENTS EVENT_KEY FILES GRANTS MODE NEXT_WRAPPER OBSERVATIONS ON_DECIDER ON_UNAVAILABLE POLICY
PYTHON REFUSES REQUEST_ID STALE STANDS_FOR STATUS SUPERVISE TRIPWIRE VERIFY_KEY
"""
"""What follows PREFIX in each variable that there is; no other may be set."""

LARGEST_PORT = 65535


class RuntimeApi:
    """Where the Runtime API listens: `text` as the platform says it, `host` without the brackets of IPv6, `port`."""

    __slots__ = ("host", "port", "text")

    def __init__(self, text: str) -> None:
        """Raises UsageError for anything but host:port."""
        host, _, port = text.rpartition(":")
        # int() takes signs, blanks and the digits of every script, and refuses some that isdigit() takes.
        decimal = port.isascii() and port.isdigit() and len(port) <= len(str(LARGEST_PORT))
        if not decimal or not 0 < int(port) <= LARGEST_PORT:
            raise UsageError(f"is {text!r}, not host:port", where=RUNTIME_API, todo="the platform sets it")
        self.text = text
        self.host = host.strip("[]")
        self.port = int(port)


class Settings:
    """What one start was told, and `environ`: the function's own variables. Paths are absolute; nothing here changes.

    `api` is None where there is no Runtime API, `verify_key` where no signature is asked for. `task_root`, `handler`,
    `function`, `policy`, `python`, `observations` are '' where they are not set. `status` is the descriptor for the
    status line. `stand_ins` are parsed where they are
    used (sandbox/behaviour/stand_ins.py). `refuses` are numbers of syscalls with the errnos that a platform gives them.
    `one_phase`: workers are forked while others serve already, so that the init
    phase has no end. `goes_on`: the function does when the process that decides about its calls has died.
    `local_domains` are what LOCALDOMAIN says (man 5 resolv.conf).
    """

    __slots__ = (
        "activity", "api", "debug", "entry", "environ", "event_key", "events", "files", "function", "goes_on",
        "grants", "handler", "has_api", "local_domains", "mode", "next_wrapper", "observations", "on_unavailable",
        "one_phase", "policy", "problems", "python", "refuse_stale", "refuses", "relays", "search", "stand_ins",
        "status", "supervise", "task_root", "verify_key",
    )  # fmt: skip

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`environ` is that of the bootstrap's own start."""
        problems: list[UsageError] = []
        text = environ.get(RUNTIME_API, "")
        self.has_api = bool(text)
        self.api: RuntimeApi | None = None
        try:
            self.api = RuntimeApi(text) if text else None
        except UsageError as error:
            problems.append(error)
        self.debug = debugging(environ)
        self.mode = setting(environ, MODE, MODES, problems)
        self.on_unavailable = setting(environ, ON_UNAVAILABLE, ("fail", "warn", "detect", "best"), problems)
        self.refuse_stale = setting(environ, STALE, ("warn", "refuse"), problems) == "refuse"
        self.activity = setting(environ, ACTIVITY, ("off", "summary", "full"), problems)
        self.relays = setting(environ, REQUEST_ID, ("off", "relay"), problems) == "relay" or self.activity != "off"
        self.supervise = setting(environ, SUPERVISE, ("1", "0"), problems) == "1"
        self.goes_on = setting(environ, ON_DECIDER, ("end", "continue"), problems) == "continue"
        self.files = setting(environ, FILES, ("auto", "look", "off"), problems)
        self.refuses = _refuses(environ, problems)
        self.status = _descriptor(environ, STATUS, problems)
        self.problems = tuple(problems)

        self.next_wrapper = environ.get(NEXT_WRAPPER, "")
        self.entry = environ.get("SANDBOX_ENTRY", "")
        # Absolute, because find_command may enter LAMBDA_TASK_ROOT before these are opened.
        self.policy = _absolute(environ, "SANDBOX_POLICY")
        self.observations = _absolute(environ, "SANDBOX_OBSERVATIONS")
        self.verify_key = environ.get(VERIFY_KEY)
        self.python = environ.get("SANDBOX_PYTHON", "")
        self.grants = frozenset(filter(None, environ.get("SANDBOX_GRANTS", "").split(",")))
        self.stand_ins = tuple(filter(None, environ.get(STANDS_FOR, "").split(",")))
        self.events = environ.get("SANDBOX_EVENTS", "")
        self.event_key = os.fsencode(environ.get(EVENT_KEY, "")) or None

        self.function = environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.handler = environ.get("_HANDLER", "")
        self.task_root = environ.get("LAMBDA_TASK_ROOT", "")
        self.one_phase = bool(environ.get("AWS_LAMBDA_MAX_CONCURRENCY"))
        self.local_domains = tuple(environ.get("LOCALDOMAIN", "").split())
        self.search = environ.get("PATH", os.defpath)
        self.environ = {key: value for key, value in environ.items() if not key.startswith(PREFIX)}

    def require(self, *names: str) -> None:
        """Raises UsageError where one of these variables has a value that it cannot have."""
        for problem in self.problems:
            if problem.where in names:
                raise problem

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "environ"):  # set last: from then on nothing changes
            raise AttributeError(f"{name} of settings that are parsed already")
        super().__setattr__(name, value)


def refuse_unknown(environ: Mapping[str, str]) -> None:
    """Raises UsageError for a variable with our prefix that means nothing: a misspelled setting, or the function's own,
    which it would not get.
    """
    known = KNOWN.split()
    for name in environ:
        if name.startswith(PREFIX) and name[len(PREFIX) :] not in known:
            from difflib import get_close_matches

            near = get_close_matches(name[len(PREFIX) :], known, n=1)
            meant = f"did you mean {PREFIX}{near[0]}? " if near else ""
            todo = f"{meant}Unset it: no function is given a variable with this prefix"
            raise UsageError("is not a setting", where=name, todo=todo)


def check(environ: Mapping[str, str]) -> None:
    """Raises UsageError for the first variable of ours that is unknown or has a value that it cannot have."""
    refuse_unknown(environ)
    for problem in Settings(environ).problems:
        if problem.where.startswith(PREFIX):
            raise problem


def setting(environ: Mapping[str, str], name: str, choices: Sequence[str], problems: list[UsageError]) -> str:
    """One of `choices`, the first where the variable is unset or empty; of any other value `problems` hears."""
    value = environ.get(name) or choices[0]
    if value in choices:
        return value
    problems.append(
        UsageError(f"is {value!r}, not one of {', '.join(choices)}", where=name, todo="correct or unset it")
    )
    return choices[0]


def _refuses(environ: Mapping[str, str], problems: list[UsageError]) -> tuple[tuple[int, int], ...]:
    """`157:1,434:38` as pairs of numbers; of anything else `problems` hears."""
    text = environ.get(REFUSES, "")
    try:
        pairs = [one.split(":") for one in text.split(",") if one]
        found = tuple((int(nr), int(number)) for nr, number in pairs)
    except ValueError:
        found = ((-1, 0),)
    if all(0 <= nr < 1 << 30 and 0 < number < 4096 for nr, number in found):
        return found
    problems.append(UsageError(f"is {text!r}, not NUMBER:ERRNO,...", where=REFUSES, todo="correct or unset it"))
    return ()


def _descriptor(environ: Mapping[str, str], name: str, problems: list[UsageError]) -> int:
    """The number of `fd:N`, 2 where the variable is unset or empty; of anything else `problems` hears."""
    text = environ.get(name) or "fd:2"
    number = text.removeprefix("fd:")
    # Digits that int() takes and others than ASCII's are none.
    if number != text and number.isascii() and number.isdigit() and 1 <= int(number[:10]) < 1 << 20:
        return int(number)
    problems.append(UsageError(f"is {text!r}, not fd:N", where=name, todo="name a descriptor that it inherits"))
    return 2


def _absolute(environ: Mapping[str, str], name: str) -> str:
    path = environ.get(name, "")
    return os.path.abspath(path) if path else ""
