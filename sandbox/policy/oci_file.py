"""Reading seccomp files of other tools: JSON or YAML, the object inside of what was written around it, and its shape.

Engines write more than the OCI runtime specification has: errnos as words, listeners, flags. Kubernetes' Security
Profiles Operator wraps the object into one of its own.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jsonschema

from sandbox.errors import ProfileError
from sandbox.policy.oci import SPO_KIND
from sandbox.profile import places

DEEPEST = 14
"""Levels of nesting; a container's config.json has at most eight."""


def load(text: bytes, source: str) -> Any:
    """JSON, or YAML where the file is named so, as plain values. Raises ProfileError with file, line and column."""
    if source.endswith((".yaml", ".yml")):
        return places.compose(text, source)[0]
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        raise ProfileError(
            f"is not UTF-8: byte {text[error.start]:#04x}", where=f"{source}:{line}:{column}", todo="save it as UTF-8"
        ) from error
    try:
        return json.loads(decoded, object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise ProfileError(
            f"is not JSON: {error.msg}", where=f"{source}:{error.lineno}:{error.colno}", todo="correct the line"
        ) from error
    except RecursionError as error:
        raise ProfileError("nested too deeply", where=f"{source}:1:1", todo="this is not a seccomp profile") from error
    except ValueError as error:
        raise ProfileError(
            f"is not usable: {str(error)[:200]}", where=f"{source}:1:1", todo="correct or remove it"
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def find(data: Any, source: str) -> tuple[str, Mapping[str, Any]]:
    """The JSON path of the seccomp object, '$' if the data is one itself, and the object, of known shape.

    It may stand in a container's config.json (`$.linux.seccomp`) or in a SeccompProfile (`$.spec`). Raises
    ProfileError, located by JSON path.
    """
    if _deep(data):
        raise ProfileError("nested too deeply", where=f"{source}:$", todo="this is not a seccomp profile")
    prefix, seccomp = "$", data
    if isinstance(data, dict) and "defaultAction" not in data:
        if "kind" in data:
            prefix, seccomp = "$.spec", _of_operator(data, source)
        elif "linux" in data:
            linux = data["linux"]
            if not isinstance(linux, dict) or "seccomp" not in linux:
                raise ProfileError(
                    "has no seccomp object", where=f"{source}:$.linux", todo="this container runs without a filter"
                )
            prefix, seccomp = "$.linux.seccomp", linux["seccomp"]
    _check(seccomp, source, prefix)
    return prefix, seccomp


def _of_operator(data: Mapping[str, Any], source: str) -> Any:
    if data["kind"] != SPO_KIND or "spec" not in data:
        raise ProfileError(
            f"is a Kubernetes object of another kind than {SPO_KIND}, or has no spec", where=f"{source}:$.kind",
            todo=f"give a {SPO_KIND} of the Security Profiles Operator, one in a file",
        )  # fmt: skip
    return data["spec"]


def error_number(entry: Mapping[str, Any], key: str, where: str) -> int | None:
    """The errno that `entry` names under `key`+Ret (a number, or a word), or under `key` (a word); None without one.

    Raises ProfileError for a word that no errno has.
    """
    for value in (entry.get(key), entry.get(f"{key}Ret")):
        if isinstance(value, int):
            return value
        if value:
            number = int(value) if value.isascii() and value.isdigit() else getattr(errno, value, None)
            if not isinstance(number, int) or number > LARGEST_ERRNO:
                raise ProfileError(f"{value!r} is not an errno", where=f"{where}.{key}Ret", todo="see errno(3)")
            return number
    return None


LARGEST_ERRNO = 4095
"""MAX_ERRNO of include/linux/err.h."""


def _deep(data: Any) -> bool:
    level = [data]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


@cache
def _validator() -> jsonschema.protocols.Validator:
    with open(os.path.join(os.path.dirname(__file__), "oci.json"), encoding="utf-8") as file:
        return jsonschema.Draft202012Validator(json.load(file))


def _check(seccomp: Any, source: str, prefix: str) -> None:
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(seccomp))
    if problem is None:
        return
    path = _json_path(prefix, problem.absolute_path)
    last = next((part for part in reversed(problem.absolute_path) if isinstance(part, str)), "")
    raise ProfileError(
        problem.message if len(problem.message) < 200 else problem.message[:200] + " ...",
        where=f"{source}:{path}",
        todo=HINTS.get(last, "see the OCI runtime specification, config-linux.md, section Seccomp"),
    )


HINTS = {
    "defaultAction": "a profile lists what is allowed; a file that allows or only logs by default says something else",
    "includes": "this is a template of Docker's; take the resolved filter from a container's config.json",
    "excludes": "this is a template of Docker's; take the resolved filter from a container's config.json",
}


def _json_path(prefix: str, parts: Iterable[str | int]) -> str:
    return prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
