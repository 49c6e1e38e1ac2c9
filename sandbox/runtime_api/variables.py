"""A function's own variables: from the command line, from files, and the caller's credentials.

A value never leaves this module but in the result: errors name the file, the line and the variable, and have no cause
that could print more.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sandbox.errors import UsageError

LARGEST = 1 << 20
"""Bytes of a file; the platform allows 4 KiB for all variables of a function."""

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
CREDENTIALS = (*KEYS, "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION")
"""What `--aws-credentials` hands on."""

EVERY_FUNCTION = "Parameters"
"""The key of `sam local --env-vars` whose variables are every function's."""

RESERVED = {
    "_HANDLER": "give --handler",
    "LAMBDA_TASK_ROOT": "give --root",
    "AWS_LAMBDA_RUNTIME_API": "leave it out: its Runtime API is the one that serves the events",
}
PREFIX = "SANDBOX_"

SHORTEST_MASKED = 8

_NAME = re.compile(r"[^=\0\s]+")
_EXPORT = "eval \"$(aws configure export-credentials --format env)\" puts any profile's into the environment"


def variables(
    function: str, options: Sequence[str], files: Sequence[str], *, credentials: bool, here: Mapping[str, str]
) -> dict[str, str]:
    """The variables for a function, the later of these first: `files`, the caller's `credentials`, `options`.

    `options` are NAME=VALUE, or NAME for the value that it has in `here`. Raises UsageError.
    """
    found: dict[str, str] = {}
    for path in files:
        found.update(_of_file(path, function, here))
    if credentials:
        found.update(_credentials(here))
    for option in options:
        name, given, value = option.partition("=")
        # An option without a name may be a value that lost its name: nothing of it is shown.
        where = f"--env {name}" if name else "--env"
        found[_checked(name, where)] = _fit(value, where) if given else _from_here(name, where, here)
    return found


def masked(text: str, found: Mapping[str, str]) -> str:
    """A text with `<NAME>` in place of each value; values of a few characters stay, as they may mean anything."""
    for name, value in sorted(found.items(), key=lambda entry: -len(entry[1])):
        if len(value) >= SHORTEST_MASKED and "REGION" not in name:
            text = text.replace(value, f"<{name}>")
    return text


def _checked(name: str, where: str) -> str:
    """The name. Raises UsageError for one that a function cannot be given."""
    if not _NAME.fullmatch(name):
        raise UsageError("is not the name of a variable", where=where, todo="write NAME=VALUE")
    if name.startswith(PREFIX):
        what = f"{name} configures the sandbox and is removed before the function starts"
        raise UsageError(what, where=where, todo="leave it out; `invoke` hands on those of its own environment")
    if name in RESERVED:
        raise UsageError(f"{name} is set by the emulator", where=where, todo=RESERVED[name])
    return name


def _fit(value: str, where: str) -> str:
    if "\0" in value:
        raise UsageError("holds a NUL byte", where=where, todo="remove it: no environment can hold one")
    return value


def _from_here(name: str, where: str, here: Mapping[str, str]) -> str:
    if name not in here:
        raise UsageError(f"{name} is not set here", where=where, todo=f"export {name}, or give {name}=VALUE")
    return here[name]


def _of_file(path: str, function: str, here: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    text = _read(path)
    entries = _of_json(text, path, function) if text.lstrip().startswith("{") else _of_dotenv(text, path, here)
    for where, name, value in entries:
        yield _checked(name, where), _fit(value, f"{where}: {name}")


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot be read: {reason}", where=path, todo="name a dotenv or JSON file") from error
    if len(data) > LARGEST:
        raise UsageError(f"is larger than {LARGEST} bytes", where=path, todo="name a dotenv or JSON file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError("is not UTF-8", where=f"{path}:{line}", todo="save the file as UTF-8") from None


_Entry = tuple[str, str, str]
"""Where a variable stands, its name, its value."""


def _of_dotenv(text: str, path: str, here: Mapping[str, str]) -> Iterator[_Entry]:
    """Lines NAME=VALUE, quoted or not; a NAME alone has the caller's value, as docker's --env-file has it.

    Nothing is expanded: a password may hold `${`.
    """
    from dotenv.parser import parse_stream

    for binding in parse_stream(io.StringIO(text)):
        began = binding.original.string
        line = binding.original.line + began.count("\n", 0, len(began) - len(began.lstrip()))
        where = f"{path}:{line}"
        if binding.error:
            raise UsageError("is not NAME=VALUE", where=where, todo="close its quotes, or correct the line")
        if binding.key is not None:
            value = binding.value
            yield where, binding.key, _from_here(binding.key, where, here) if value is None else value


def _of_json(text: str, path: str, function: str) -> Iterator[_Entry]:
    """{"Parameters": {...}, "FunctionName": {...}} as `sam local --env-vars` takes it, or the variables alone."""
    try:
        document: Any = json.loads(text)
    except json.JSONDecodeError as error:
        what, where = f"is not JSON: {error.msg}", f"{path}:{error.lineno}:{error.colno}"
        raise UsageError(what, where=where, todo="correct the file") from None
    except RecursionError:
        raise UsageError("is nested too deeply", where=path, todo="correct the file") from None
    if not any(isinstance(value, dict) for value in document.values()):
        sections = {"": document}
    else:
        sections = {name: document[name] for name in (EVERY_FUNCTION, function) if name in document}
    if not sections:
        others = ", ".join(sorted(document))
        what = f"has variables for {others}, and none for {function}"
        raise UsageError(what, where=path, todo=f"put them under {function!r} or {EVERY_FUNCTION!r}")
    for section, entries in sections.items():
        where = f"{path}: {section}" if section else path
        if not isinstance(entries, dict):
            raise UsageError("is not an object", where=where, todo='write {"NAME": "VALUE"}')
        for name, value in entries.items():
            yield where, name, _text(value, f"{where}: {name}")


def _text(value: Any, where: str) -> str:
    """A value of JSON as sam puts it into the environment."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise UsageError("is not a text, number or boolean", where=where, todo="write it as a text")


def _credentials(here: Mapping[str, str]) -> dict[str, str]:
    """The caller's credentials and region from its environment, else from the files of the AWS command line."""
    found = {name: here[name] for name in CREDENTIALS if here.get(name)}
    if not all(name in found for name in KEYS):
        found |= _of_profile(here)
    region = found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION")
    return found | ({"AWS_REGION": region, "AWS_DEFAULT_REGION": region} if region else {})


def _of_profile(here: Mapping[str, str]) -> dict[str, str]:
    """The static keys of AWS_PROFILE (or `default`) in ~/.aws. Raises UsageError where there are none."""
    profile = here.get("AWS_PROFILE") or "default"
    home = os.path.join(here.get("HOME") or os.path.expanduser("~"), ".aws")
    shared = here.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(home, "credentials")
    config = here.get("AWS_CONFIG_FILE") or os.path.join(home, "config")
    entries: dict[str, str] = {}
    for path, section in ((config, profile if profile == "default" else f"profile {profile}"), (shared, profile)):
        entries |= _section(path, section)
    keys = {name: entries.get(name.lower(), "") for name in (*KEYS, "AWS_SESSION_TOKEN")}
    if not all(keys[name] for name in KEYS):
        raise UsageError(
            f"the environment has no {' and '.join(KEYS)}, and the profile {profile} no keys of its own",
            where="--aws-credentials", todo=f"export them; {_EXPORT}",
        )  # fmt: skip
    region = here.get("AWS_REGION") or here.get("AWS_DEFAULT_REGION") or entries.get("region", "")
    return {name: value for name, value in (*keys.items(), ("AWS_REGION", region)) if value}


def _section(path: str, section: str) -> dict[str, str]:
    if not os.path.exists(path):
        return {}
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(_read(path))
    except configparser.Error as error:  # its text holds the line
        lines: Iterable[int] = [line for line, _ in getattr(error, "errors", ())] or [getattr(error, "lineno", 1)]
        todo = "correct the file, or export the credentials"
        raise UsageError("is not an INI file", where=f"{path}:{min(lines)}", todo=todo) from None
    return dict(parser.items(section)) if parser.has_section(section) else {}
