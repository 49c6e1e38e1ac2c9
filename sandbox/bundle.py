"""The bundle on disk, where the workshop and the guard meet: one .bpf for each architecture, policy.json, listing.txt.

Standard library only and without json, re or dataclasses, whose imports cost more than the whole launch: the C scanner
behind json is enough to read what we wrote.
"""

from __future__ import annotations

import os

from sandbox.errors import PolicyInvalid
from sandbox.plain_json import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    PathRule: TypeAlias = tuple[str, str, bool]
    """`{root}` or such or '', the path there, and whether all that lies below it is meant."""
    Alternative: TypeAlias = Sequence[Sequence[int]]
    """[argument, mask, value] of each condition."""

FORMAT = 3
FILE = "policy.json"
LARGEST = 1 << 20
"""Bytes of any file of a bundle; the kernel takes programs of 32 KiB at most."""

LAUNCHED = ("execve", "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
"""What the launcher looks at in a filter, since only it knows the addresses of its exec and its own pid: execve, and
the signals whose first argument names a process."""

_SEAL = b',\n  "digest": "'
"""What stands before the digest with which a description ends."""

REBUILD = "compile the profile again: `sandbox compile PROFILE --output DIR`"


class FileRules:
    """What a policy says of files and programs (sandbox/policy/files.py); a PathRule is a pattern, taken apart.

    `listed` is False where no file is limited, `programs` None where no program is told from another. `memfd` is
    whether the function can make a program that lies in no folder, `renames` whether it can put a folder in another's
    place.
    """

    __slots__ = ("listed", "memfd", "programs", "read", "renames", "write")

    def __init__(self, data: Mapping[str, Any]) -> None:
        programs = data["programs"]
        self.listed: bool = data["listed"]
        self.read: Sequence[PathRule] = [place(pattern) for pattern in data["read"]]
        self.write: Sequence[PathRule] = [place(pattern) for pattern in data["write"]]
        self.programs: Sequence[PathRule] | None = None if programs is None else [place(path) for path in programs]
        self.memfd: bool = not data["sealed"]
        self.renames: bool = data["renames"]


class Supervision:
    """What a policy tells the supervisor on one architecture (sandbox/policy/supervision.py).

    Calls that registers decide are alternatives of (argument, mask, value) triples, all of which hold.
    """

    __slots__ = (
        "brokered", "denied", "destinations", "init", "init_calls", "messages", "never_granted", "responses",
        "runtime_api", "sockets", "terminate",
    )  # fmt: skip

    def __init__(self, data: Mapping[str, Any], arch: str) -> None:
        self.runtime_api: bool = data["runtime-api"]
        self.init: Mapping[str, Sequence[str]] = data["init"].get(arch, {})
        """{syscall: argument classes} allowed until the first connection to the Runtime API and not after it."""
        self.init_calls: Mapping[str, Sequence[Alternative]] = data["init-calls"].get(arch, {})
        """{number, in decimal: alternatives} of those that registers decide alone."""
        self.sockets: Sequence[Alternative] = data["sockets"].get(arch, [])
        """What socket(2) makes after the init phase."""
        self.messages: bool = data["messages"]
        """Whether sendmsg(2) is in the profile."""
        self.destinations: Sequence[str] = data["destinations"]
        self.brokered: Sequence[str] = data["brokered"]
        """`syscall class` of calls that are decided by whom they reach."""
        self.terminate: Sequence[str] = data["terminate"]
        """Syscalls that end the function."""
        self.responses: Mapping[str, str] = data["responses"]
        """{syscall, or `syscall class`: answer} where a profile wants another than the usual."""
        self.denied: Mapping[str, Sequence[str]] = data["denied"]
        """{syscall: argument classes, none for all} of the hard deny."""
        self.never_granted: Sequence[str] = data["never-granted"]


class Policy:
    """What the run-time needs of a profile, and the programs of one architecture: plain, and for a supervisor.

    Each has a head of so many bytes, behind which goes what only the launcher knows.
    """

    __slots__ = (
        "audit_until", "bind", "canary", "digest", "exec", "files", "function", "head", "network", "program",
        "provenance", "signals", "source", "supervised", "supervised_head", "supervision",
    )  # fmt: skip

    def __init__(
        self, description: Mapping[str, Any], plain: tuple[bytes, int], supervised: tuple[bytes, int], arch: str,
        digest: str, source: str,
    ) -> None:  # fmt: skip
        self.function: str = description["function"]
        self.exec: str = description["exec"]  # single-use | granted
        self.signals: str = description["signals"]  # self | any
        self.network: str = description["network"]  # runtime-api | none | family
        self.bind: bool = description["bind"]  # whether the function may bind TCP ports
        self.canary: str = description["canary"]  # the syscall that must be refused
        self.files = FileRules(description["files"])
        self.supervision = Supervision(description["supervision"], arch)
        self.audit_until: str = description["audit-until"]  # YYYY-MM-DD or ''
        self.provenance: Mapping[str, list[str]] = description["provenance"]  # sandbox/provenance.py
        self.program, self.head = plain
        self.supervised, self.supervised_head = supervised
        self.digest = digest
        self.source = source


CHOICES = {
    "exec": ("single-use", "granted"),
    "signals": ("self", "any"),
    "network": ("runtime-api", "none", "family"),
    "bind": (True, False),
    "canary": ("seccomp",),
}


def sha256(data: bytes) -> str:
    """Hexadecimal digest, by the interpreter's small C module (hashlib would load OpenSSL)."""
    try:
        from _sha2 import sha256 as digest  # type: ignore[import-not-found,unused-ignore]  # Python 3.12 and newer
    except ImportError:
        try:
            from _sha256 import sha256 as digest  # type: ignore[import-not-found,unused-ignore]  # Python 3.11
        except ImportError:
            from hashlib import sha256 as digest
    return str(digest(data).hexdigest())


def series(release: str) -> str:
    """What of a version is compared: 6.18 of 6.18.44-vendor, 3.11 of 3.11.2."""
    return ".".join(release.split(".")[:2])


def place(pattern: str) -> PathRule:
    """A pattern as (folder, path, whole): `{root}` or such or '', the path there, and whether it means what lies below.

        >>> place("{root}/models/**")
        ('{root}', '/models', True)
        >>> place("/etc/hosts")
        ('', '/etc/hosts', False)
    """
    path, whole = pattern, pattern.endswith("/*") or pattern.endswith("/**")
    if whole:
        path = pattern.rstrip("*")[:-1]
    if not path.startswith("{"):
        return "", path or "/", whole
    name, slash, rest = path.partition("/")
    return name, slash + rest, whole


def seal(text: str) -> bytes:
    """A description (a JSON object in lines, as json.dumps with indent=2 writes it) with its own digest at its end.

    Against damage, not against people: who can write the file can write a digest too.
    """
    head = text.rstrip().removesuffix("}").rstrip().encode()
    return head + _ending(head)


def _ending(head: bytes) -> bytes:
    return _SEAL + sha256(head).encode() + b'"\n}\n'


def parse_json(text: str, where: str) -> Any:
    """Parse JSON. Raises PolicyInvalid for anything else."""
    try:
        return parse(text)
    except ValueError as error:
        raise PolicyInvalid(str(error), where=where, todo=REBUILD) from error


def at_once(path: str, flags: int) -> int:
    """An opener that does not wait for the other end of a FIFO, which then reads as empty."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", opener=at_once) as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise PolicyInvalid(f"cannot be read: {error.strerror}", where=path, todo=REBUILD) from error
    except ValueError as error:
        raise PolicyInvalid("is no name of a file", where=ascii(path), todo=REBUILD) from error
    if len(data) > LARGEST:
        raise PolicyInvalid(f"larger than {LARGEST} bytes", where=path, todo=REBUILD)
    return data


def read(directory: str, arch: str) -> Policy:
    """Read a bundle for an architecture (`x86_64`, `aarch64`). Raises PolicyInvalid for anything that does not fit."""
    path = os.path.join(directory, FILE)
    return decode(_read(path), lambda name: _read(os.path.join(directory, name)), arch, path)


def decode(description: bytes, file: Any, arch: str, where: str) -> Policy:
    """The policy in a description and `file(name) -> bytes`; checks format, choices, digest and length."""
    try:
        text = description.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyInvalid("is no UTF-8", where=where, todo=REBUILD) from error
    data = parse_json(text, where)
    head = description.rpartition(_SEAL)[0]
    if description != head + _ending(head):
        raise PolicyInvalid("is not as it was written (its digest differs)", where=where, todo=REBUILD)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise PolicyInvalid(f"is of format {found!r}, this bootstrap reads {FORMAT}", where=where, todo=REBUILD)
    if not isinstance(data.get("function"), str):
        raise PolicyInvalid("names no function", where=where, todo=REBUILD)
    for key, choices in CHOICES.items():
        if data.get(key) not in choices:
            known = ", ".join([str(choice) for choice in choices])
            raise PolicyInvalid(f"{key} is {data.get(key)!r}, not one of {known}", where=where, todo=REBUILD)
    if not _date(data.get("audit-until")):
        raise PolicyInvalid(f"audit-until is {data.get('audit-until')!r}, no date", where=where, todo=REBUILD)
    provenance = data.get("provenance")
    if not isinstance(provenance, dict) or not all(isinstance(known, list) for known in provenance.values()):
        raise PolicyInvalid("does not say where it was learned", where=where, todo=REBUILD)
    if not _files(data.get("files")):
        raise PolicyInvalid("says nothing of files that could be held", where=where, todo=REBUILD)
    filters = data.get("filters")
    entry = filters.get(arch) if isinstance(filters, dict) else None
    if not isinstance(entry, dict):
        known = ", ".join(filters) if isinstance(filters, dict) and filters else "no architecture"
        raise PolicyInvalid(f"has a filter for {known}, not for {arch}", where=where, todo=REBUILD + " --arch all")
    supervision = data.get("supervision")
    told = isinstance(supervision, dict) and isinstance(supervision.get("sockets"), dict)
    if not told or not isinstance(entry.get("supervised"), dict):
        raise PolicyInvalid("says nothing for a supervisor", where=where, todo=REBUILD)
    plain, supervised = _program(entry, file, where), _program(entry["supervised"], file, where)
    try:
        return Policy(data, plain, supervised, arch, sha256(description), where)
    except (KeyError, TypeError, AttributeError):
        raise PolicyInvalid("says nothing for a supervisor", where=where, todo=REBUILD) from None


def _files(value: object) -> bool:
    """Whether a value says of files and programs what the launcher reads (sandbox/policy/files.py)."""
    if not isinstance(value, dict):
        return False
    programs = value.get("programs", ())
    lists = (value.get("read"), value.get("write"), [] if programs is None else programs)
    return (
        all(isinstance(found, list) and all(_path(path) for path in found) for found in lists)
        and value.get("listed") in (True, False)
        and value.get("sealed") in (True, False)
        and value.get("renames") in (True, False)
    )


def _path(value: object) -> bool:
    return isinstance(value, str) and value[:1] in ("/", "{") and "\0" not in value and "/../" not in value + "/"


def _date(value: object) -> bool:
    """Whether a value is YYYY-MM-DD, or '' for none: anything else could stay in the future for ever."""
    if not isinstance(value, str):
        return False
    parts = value.split("-")
    return not value or ([len(part) for part in parts] == [4, 2, 2] and value.isascii() and "".join(parts).isdigit())


def _program(entry: Mapping[str, Any], file: Any, where: str) -> tuple[bytes, int]:
    """The file that an entry names, when it is the one that was compiled, and the bytes of its head."""
    name = entry.get("file")
    if not isinstance(name, str) or os.path.basename(name) != name or name in ("", ".", ".."):
        raise PolicyInvalid(f"names the file {name!r}, which is no plain name", where=where, todo=REBUILD)
    program: bytes = file(name)
    if sha256(program) != entry.get("sha256"):
        raise PolicyInvalid(f"{name} is not the file that was compiled (its digest differs)", where=where, todo=REBUILD)
    if len(program) % 8 or not program or len(program) // 8 != entry.get("instructions"):
        length = entry.get("instructions")
        raise PolicyInvalid(f"{name} is no array of {length} instructions", where=where, todo=REBUILD)
    head = entry.get("head")
    if type(head) is not int or not 0 < head < len(program) // 8:
        raise PolicyInvalid(f"{name} has a head of {head!r} instructions", where=where, todo=REBUILD)
    return program, 8 * head
