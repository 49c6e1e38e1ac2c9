"""policy.bin, the flat twin of policy.json for the native launcher, which has no JSON (sandbox/launcher/policy.h).

All numbers are little endian. A text is its length (4 bytes), its bytes and a NUL; a list is its count (4 bytes) and
its texts. In this order:

    magic       8 bytes, "sbxtwin" and the version of the format
    length      4 bytes, of the whole file
    described   32 bytes, SHA-256 of the policy.json that it is the twin of
    choices     8 bytes: exec granted, signals to any, network (0 family, 1 runtime-api, 2 none), bind, files listed,
                files sealed, programs told apart, 0
    function, audit-until     texts
    read, write, programs     lists of places
    provenance                lists in the order of FACTS; kernel and python as they are compared, 6.18 of 6.18.44
    filters     a count (4 bytes), and for each architecture its name (text), then twice, for the plain program and the
                supervised one: file name (text), instructions (4 bytes), SHA-256 of the file (32 bytes)
    digest      32 bytes, SHA-256 of all that stands before it: against damage, not against people
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from sandbox.bundle import series
from sandbox.errors import PolicyInvalid

FILE = "policy.bin"
VERSION = 1
MAGIC = b"sbxtwin" + bytes([VERSION])
NETWORKS = ("family", "runtime-api", "none")
FACTS = ("libc", "kernel", "architecture", "python", "handler_digest", "lock_digest")


def encode(description: Mapping[str, Any], described: bytes) -> bytes:
    """The twin of a description (sandbox/policy/build.py) whose policy.json has the bytes `described`.

    Raises PolicyInvalid for a text that holds a NUL.
    """
    files, filters = description["files"], description["filters"]
    body = [
        hashlib.sha256(described).digest(),
        bytes(
            [
                description["exec"] == "granted", description["signals"] == "any",
                NETWORKS.index(description["network"]), description["bind"], files["listed"], files["sealed"],
                files["programs"] is not None, 0,
            ]
        ),
        _text(description["function"]),
        _text(description["audit-until"]),
        *(_list(files[name] or ()) for name in ("read", "write", "programs")),
        *(_list(_compared(fact, description["provenance"].get(fact) or ())) for fact in FACTS),
        struct.pack("<I", len(filters)),
    ]  # fmt: skip
    for arch, plain in filters.items():
        body.append(_text(arch))
        for entry in (plain, plain["supervised"]):
            body += [_text(entry["file"]), struct.pack("<I", entry["instructions"]), bytes.fromhex(entry["sha256"])]
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


def _list(texts: Iterable[str]) -> bytes:
    found = [_text(text) for text in texts]
    return struct.pack("<I", len(found)) + b"".join(found)


def decode(data: bytes) -> dict[str, Any]:
    """What a twin says, in the words of policy.json and `described` as hexadecimal. Raises PolicyInvalid."""
    if data[:8] != MAGIC or len(data) < 44 or int.from_bytes(data[8:12], "little") != len(data):
        raise PolicyInvalid("is no twin of this version, or not whole", where=FILE)
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise PolicyInvalid("is not as it was written (its digest differs)", where=FILE)
    rest = _Cursor(data[12:-32])
    described, choices = rest.take(32).hex(), rest.take(8)
    found: dict[str, Any] = {
        "exec": "granted" if choices[0] else "single-use", "signals": "any" if choices[1] else "self",
        "network": NETWORKS[choices[2]], "bind": bool(choices[3]), "described": described,
        "function": rest.text(), "audit-until": rest.text(),
    }  # fmt: skip
    read, write, programs = rest.texts(), rest.texts(), rest.texts()
    found["files"] = {
        "listed": bool(choices[4]), "sealed": bool(choices[5]), "read": read, "write": write,
        "programs": programs if choices[6] else None,
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
        except UnicodeDecodeError:
            raise PolicyInvalid("holds a text that is no UTF-8", where=FILE) from None

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.number())]

    def entry(self) -> dict[str, Any]:
        return {"file": self.text(), "instructions": self.number(), "sha256": self.take(32).hex()}
