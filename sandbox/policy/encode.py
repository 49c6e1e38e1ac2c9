"""Writing policy.bin (its format: sandbox/bundle.py). Expensive work happens here, once, and not at every start."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from sandbox.behaviour.path import rule_of
from sandbox.bundle import BASES, DIGEST, FIELDS, MAGIC, PROTOCOLS, series
from sandbox.errors import PolicyInvalid

if TYPE_CHECKING:
    from sandbox.bundle import Literal

Compiled = tuple[bytes, int]
"""A program as the kernel takes it, and how many of its instructions are the head."""
Calls = Mapping[str, Sequence[Sequence[Sequence[int]]]]
"""{number, in decimal: alternatives of [argument, mask, value]}."""


def encode(
    values: Mapping[str, Any], programs: Mapping[str, tuple[Compiled, Compiled, Calls, Calls, Calls]],
    supervision: Mapping[str, Any],
) -> bytes:  # fmt: skip
    """The file that says `values` (by the names of FIELDS).

    `programs` are the plain and the supervised one, the calls of the init phase, the path calls and those that are
    served, by architecture.

    `supervision` has the shape of sandbox/supervised.py. Raises PolicyInvalid for a text with a NUL, a path in a folder
    that is not one of BASES, and a day that is not one.
    """
    body = [_WRITERS[kind](values[name], words) for name, kind, words in FIELDS]
    body.append(struct.pack("<I", len(programs)))
    for arch, (plain, supervised, *tables) in programs.items():
        body.append(_text(arch))
        for code, head in (plain, supervised):
            body += [struct.pack("<II", len(code) // 8, head), code]
        body += map(_calls, tables)
    told = json.dumps(supervision, separators=(",", ":")).encode()
    body += [struct.pack("<I", len(told)), told]
    data = b"".join(body)
    found = MAGIC + struct.pack("<I", len(MAGIC) + 4 + len(data) + DIGEST) + data
    return found + hashlib.sha256(found).digest()


def _text(text: str, words: object = ()) -> bytes:
    data = text.encode()
    if b"\0" in data:
        raise PolicyInvalid("holds a NUL", where=ascii(text))
    return struct.pack("<I", len(data)) + data + b"\0"


def _list(texts: Iterable[str]) -> bytes:
    found = [_text(text)[4:] for text in texts]
    return struct.pack("<II", len(found), sum(map(len, found))) + b"".join(found)


def _calls(calls: Calls) -> bytes:
    found = [
        struct.pack("<II", int(number), len(conditions)) + b"".join(struct.pack("<IQQ", *one) for one in conditions)
        for number, alternatives in calls.items()
        for conditions in alternatives
    ]
    return struct.pack("<I", sum(map(len, found))) + b"".join(found)


def _texts(values: Mapping[str, Iterable[str]], names: Iterable[str]) -> bytes:
    return b"".join(_list(_compared(name, values.get(name) or ())) for name in names)


def _compared(fact: str, values: Iterable[str]) -> list[str]:
    """What a host's fact is compared with. No host has a NUL in one; what stands for it no host has either."""
    found = [value.replace("\0", "\ufffd") for value in values]
    return [series(value) for value in found] if fact in ("kernel", "python") else found


def _paths(patterns: Iterable[str], words: object) -> bytes:
    return _list(map(_path, patterns))


def _path(pattern: str) -> str:
    base, path, below = rule_of(pattern)
    if base not in BASES:
        raise PolicyInvalid("is in no folder that a starter knows", where=ascii(pattern))
    return f"{BASES.index(base)}{'*' if below else '.'}{path}"


def _day(day: str, words: object) -> bytes:
    try:
        days = max(0, (date.fromisoformat(day) - date(1970, 1, 1)).days) if day else 0
    except ValueError as error:
        raise PolicyInvalid("is not a day", where=ascii(day)) from error
    return struct.pack("<I", days)


def _choice(word: str, words: tuple[str, ...]) -> bytes:
    return bytes([words.index(word)])


def _ports(ports: Sequence[int], words: object) -> bytes:
    return struct.pack(f"<I{len(ports)}H", len(ports), *ports)


def _lines(texts: Iterable[str], words: object) -> bytes:
    return _list(texts)


def _number(value: int, words: object) -> bytes:
    return struct.pack("<I", value)


def _literals(literals: Sequence[Literal], words: object) -> bytes:
    found = [
        struct.pack("<BBBBH16s", PROTOCOLS.index(protocol), len(address), bits, port is None, port or 0, address)
        for protocol, address, bits, port in literals
    ]
    return struct.pack("<I", len(found)) + b"".join(found)


def _flag(value: bool, words: object) -> bytes:
    return bytes([value])


_WRITERS: Mapping[str, Callable[[Any, Any], bytes]] = {
    "text": _text, "choice": _choice, "flag": _flag, "day": _day, "paths": _paths, "texts": _texts,
    "ports": _ports, "lines": _lines, "number": _number, "literals": _literals, "hosts": _lines,
}  # fmt: skip
