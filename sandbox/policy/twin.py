"""policy.bin, the flat twin of policy.json for the native launcher, which has no JSON (sandbox/launcher/policy.h).

All numbers are little endian. A text is its length (4 bytes), its bytes and a NUL; a list is its count (4 bytes) and
its texts. What needs thought is thought here, and not at every start. In this order:

    magic       8 bytes, "sbxtwin" and the version of the format
    length      4 bytes, of the whole file
    described   32 bytes, SHA-256 of the policy.json that it is the twin of
    choices     8 bytes: exec granted, signals to any, network (0 family, 1 runtime-api, 2 none), bind, files listed,
                files sealed, programs told apart, renames
    audit       4 bytes, the days from 1970-01-01 to the day until which is audited; 0 for none
    function    text
    read, write, programs     lists of places: before each text's length its folder (1 byte: 0 for /, or the number of
                one of FOLDERS) and whether it means what lies below (1 byte)
    provenance                lists in the order of FACTS; kernel and python as they are compared, 6.18 of 6.18.44
    filters     a count (4 bytes), and for each architecture its name (text), then twice, for the plain program and the
                supervised one: file name (text), instructions (4 bytes), those of its head (4 bytes), SHA-256 of
                the file (32 bytes)
    digest      32 bytes, SHA-256 of all that stands before it: against damage, not against people
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from sandbox.behaviour.path import NAMES
from sandbox.bundle import place, series
from sandbox.errors import PolicyInvalid

FILE = "policy.bin"
VERSION = 3
MAGIC = b"sbxtwin" + bytes([VERSION])
NETWORKS = ("family", "runtime-api", "none")
FOLDERS = ("", *NAMES)
FACTS = ("libc", "kernel", "architecture", "python", "handler_digest", "lock_digest")


def encode(description: Mapping[str, Any], described: bytes) -> bytes:
    """The twin of a description (sandbox/policy/build.py) whose policy.json has the bytes `described`.

    Raises PolicyInvalid for a text with a NUL, a place in a folder that is none of FOLDERS, and a day that is none.
    """
    files, filters = description["files"], description["filters"]
    body = [
        hashlib.sha256(described).digest(),
        bytes(
            [
                description["exec"] == "granted", description["signals"] == "any",
                NETWORKS.index(description["network"]), description["bind"], files["listed"], files["sealed"],
                files["programs"] is not None, files["renames"],
            ]
        ),
        struct.pack("<I", _days(description["audit-until"])),
        _text(description["function"]),
        *(_list(files[name] or (), _place) for name in ("read", "write", "programs")),
        *(_list(_compared(fact, description["provenance"].get(fact) or ())) for fact in FACTS),
        struct.pack("<I", len(filters)),
    ]  # fmt: skip
    for arch, plain in filters.items():
        body.append(_text(arch))
        for entry in (plain, plain["supervised"]):
            sizes = struct.pack("<II", entry["instructions"], entry["head"])
            body += [_text(entry["file"]), sizes, bytes.fromhex(entry["sha256"])]
    data = b"".join(body)
    head = MAGIC + struct.pack("<I", len(MAGIC) + 4 + len(data) + 32)
    return head + data + hashlib.sha256(head + data).digest()


def _compared(fact: str, values: Iterable[str]) -> list[str]:
    """What a host's fact is compared with. No host has a NUL in one; what stands for it no host has either."""
    found = [value.replace("\0", "\ufffd") for value in values]
    return [series(value) for value in found] if fact in ("kernel", "python") else found


def _text(text: str) -> bytes:
    data = text.encode()
    if b"\0" in data:
        raise PolicyInvalid("holds a NUL", where=ascii(text))
    return struct.pack("<I", len(data)) + data + b"\0"


def _list(texts: Iterable[str], entry: Callable[[str], bytes] = _text) -> bytes:
    found = [entry(text) for text in texts]
    return struct.pack("<I", len(found)) + b"".join(found)


def _place(pattern: str) -> bytes:
    folder, path, whole = place(pattern)
    if folder not in FOLDERS:
        raise PolicyInvalid("is in no folder that the launcher knows", where=ascii(pattern))
    return bytes([FOLDERS.index(folder), whole]) + _text(path)


def _days(day: str) -> int:
    try:
        return max(0, (date.fromisoformat(day) - date(1970, 1, 1)).days) if day else 0
    except ValueError as error:
        raise PolicyInvalid("is no day", where=ascii(day)) from error


def decode(data: bytes) -> dict[str, Any]:
    """What a twin says, in the words of policy.json and `described` as hexadecimal. Raises PolicyInvalid."""
    if data[:8] != MAGIC or len(data) < 44 or int.from_bytes(data[8:12], "little") != len(data):
        raise PolicyInvalid("is no twin of this version, or not whole", where=FILE)
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise PolicyInvalid("is not as it was written (its digest differs)", where=FILE)
    rest = _Cursor(data[12:-32])
    described, choices = rest.take(32).hex(), rest.take(8)
    days = rest.number()
    found: dict[str, Any] = {
        "exec": "granted" if choices[0] else "single-use", "signals": "any" if choices[1] else "self",
        "network": NETWORKS[choices[2]], "bind": bool(choices[3]), "described": described,
        "function": rest.text(), "audit-until": str(date(1970, 1, 1) + timedelta(days)) if days else "",
    }  # fmt: skip
    read, write, programs = rest.places(), rest.places(), rest.places()
    found["files"] = {
        "listed": bool(choices[4]), "sealed": bool(choices[5]), "renames": bool(choices[7]), "read": read,
        "write": write, "programs": programs if choices[6] else None,
    }  # fmt: skip
    found["provenance"] = {fact: rest.texts() for fact in FACTS}
    filters = {}
    for _ in range(rest.number()):
        arch, plain = rest.text(), rest.entry()
        filters[arch] = plain | {"supervised": rest.entry()}
    if rest.left:
        raise PolicyInvalid("has bytes behind its end", where=FILE)
    return found | {"filters": filters}


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, count: int) -> bytes:
        if count > len(self.left):
            raise PolicyInvalid("ends too early", where=FILE)
        found, self.left = self.left[:count], self.left[count:]
        return found

    def number(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def text(self) -> str:
        data = self.take(self.number())
        if self.take(1) != b"\0" or b"\0" in data:
            raise PolicyInvalid("holds a text without its end", where=FILE)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise PolicyInvalid("holds a text that is no UTF-8", where=FILE) from error

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.number())]

    def places(self) -> list[str]:
        found = []
        for _ in range(self.number()):
            folder, whole = self.take(2)
            path = self.text()
            found.append(FOLDERS[folder] + (path.removesuffix("/") + "/**" if whole else path))
        return found

    def entry(self) -> dict[str, Any]:
        found: dict[str, Any] = {"file": self.text(), "instructions": self.number(), "head": self.number()}
        return found | {"sha256": self.take(32).hex()}
