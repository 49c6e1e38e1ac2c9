"""The loader of calls.toml: attempts that are one system call each, with their arguments as data.

An argument is a number, or "@word" for what the scene holds under that name (a path, a pid, a buffer).
A call that this architecture does not have is left out.
"""

from __future__ import annotations

import errno
import tomllib
from functools import partial
from importlib import resources

from sandbox.errors import SandboxError
from sandbox.probe import raw
from sandbox.probe.attempt import GROUPS, Attempt, Effect
from sandbox.probe.scene import Scene

Row = dict[str, object]

REQUIRED = {"id", "group", "title", "technique", "syscall", "args", "live"}
OPTIONAL = {"reached", "refused", "enosys", "evidence", "probe"}
WORD_MASK = (1 << 64) - 1


def load_calls(text: str | None = None) -> tuple[Attempt, ...]:
    """The attempts of calls.toml (or of `text`), in file order. Raises SandboxError for a malformed row."""
    source = text if text is not None else (resources.files("sandbox.probe") / "calls.toml").read_text()
    rows: list[Row] = tomllib.loads(source)["call"]
    return tuple(_attempt(row) for row in rows if row.get("syscall") in raw.NUMBERS)


def _attempt(row: Row) -> Attempt:
    where = f"sandbox/probe/calls.toml, call {row.get('id')!r}"
    keys = set(row)
    if not REQUIRED <= keys <= REQUIRED | OPTIONAL:
        raise SandboxError(f"keys missing or unknown: {sorted(keys ^ REQUIRED)}", where=where)
    if row["group"] not in GROUPS:
        raise SandboxError(f"unknown group {row['group']!r}", where=where)
    name, reached = str(row["syscall"]), _errnos(row.get("reached"), where)
    arguments = _arguments(row["args"], where)
    probe = _arguments(row["probe"], where) if "probe" in row else None
    return Attempt(
        id=str(row["id"]),
        group=str(row["group"]),
        title=str(row["title"]),
        technique=str(row["technique"]),
        syscall=name,
        args=tuple(1 if isinstance(value, str) else value & WORD_MASK for value in arguments),
        run=partial(_single_call, name, arguments, probe, reached),
        live=str(row["live"]),
        reached=reached,
        refused=_errnos(row.get("refused"), where),
        enosys=bool(row.get("enosys", False)),
        evidence=str(row.get("evidence", "")),
    )


def _arguments(value: object, where: str) -> tuple[int | str, ...]:
    if isinstance(value, list) and len(value) <= 6 and all(isinstance(item, int | str) for item in value):
        return tuple(value)
    raise SandboxError("at most six numbers or @words expected as arguments", where=where)


def _errnos(value: object, where: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(hasattr(errno, str(name)) for name in value):
        raise SandboxError(f"a list of errno names expected, not {value!r}", where=where)
    return tuple(int(getattr(errno, name)) for name in value)


def _single_call(
    name: str,
    arguments: tuple[int | str, ...],
    probe: tuple[int | str, ...] | None,
    reached: tuple[int, ...],
    scene: Scene,
) -> Effect:
    value = raw.call(name, *_resolve(arguments, scene))
    scene.remember(value)
    if not -4096 < value < 0:
        return Effect(True, None, f"{name} returned {value if value <= 0xFFFF else hex(value)}")
    if value == -errno.EPERM and probe is not None:
        # These arguments fail before the kernel looks at privilege, which tells its EPERM from a filter's.
        second = -raw.call(name, *_resolve(probe, scene))
        if second in reached:
            return Effect(False, second, f"{name} passes the filter; only privilege is missing")
    return Effect(False, -value, name)


def _resolve(arguments: tuple[int | str, ...], scene: Scene) -> tuple[int, ...]:
    return tuple(
        scene.words[argument.removeprefix("@")] if isinstance(argument, str) else argument
        for argument in arguments
    )
