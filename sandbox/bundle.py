"""The bundle on disk, where the compiler and the starters meet: policy.bin, and two files for people.

policy.bin says all that a start needs, to this bootstrap and to the native launcher. All numbers are little endian. A
text is its length (4 bytes), its bytes and a NUL; a list is its count and its size in bytes (4 bytes each), and texts
that each end with a NUL. In this order:

    magic         8 bytes, "sandbox" and the version of the format
    length        4 bytes, of the whole file
    fields        in the order of FIELDS, each as its kind says (KINDS)
    programs      a count (4 bytes), and for each architecture its name (text), then the plain program and the
                  supervised one: instructions and those of the head (4 bytes each), and the instructions; then the
                  calls of the init phase, the path calls that are looked at, and the calls that the attendant may
                  make in the function's place, each of the three as its size (4 bytes), and for each call its number
                  and a count of conditions (4 bytes each), which are an argument (4 bytes), a mask and a value (8
                  bytes each)
    supervision   its length (4 bytes), and what only a supervisor needs, as a JSON object (sandbox/supervised.py)
    digest        32 bytes, SHA-256 of all that stands before it: against damage, not against people

sandbox/policy/encode.py writes it. tools/header makes the launcher's half of the reader from the same tables.

Standard library only and without json, re or dataclasses, whose imports cost more than the whole launch.
"""

from __future__ import annotations

import os

from sandbox.errors import PolicyInvalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    from sandbox.supervised import Alternative, Supervision

    PathRule: TypeAlias = tuple[str, str, bool]
    """One of BASES, the path there, and whether all that lies below it is meant."""
    Literal: TypeAlias = tuple[str, bytes, int, int | None]
    """One of PROTOCOLS, a packed address, the bits of it that count, and a port or None for any."""
    Programs: TypeAlias = tuple[tuple[bytes, int], tuple[bytes, int], bytes, bytes, bytes]
    """Of one architecture: the plain and the supervised one, each with its head, and the three tables of calls."""

FORMAT = 8
FILE = "policy.bin"
LISTING = "listing.txt"
PROFILE = "profile.yaml"
"""Where `sandbox compile` puts the profile, for people: no start reads it."""
MAGIC = b"sandbox" + bytes([FORMAT])
LARGEST = 1 << 20
"""Bytes of a policy; the kernel takes programs of 32 KiB at most."""
DIGEST = 32
REBUILD = "compile the profile again: `sandbox compile PROFILE --output DIR`"

LAUNCHED = ("execve", "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
"""What the launcher looks at in a filter, since only it knows the addresses of its exec and its own pid: execve, and
the signals whose first argument names a process."""

BASES = ("", "{root}", "{python}", "{venv}")
"""The folders that a path may begin with; what each is on its host a starter finds out."""

ANY = "any"
"""In the place of a digest: a person's word that the content of a program is another each time."""

FACTS = ("libc", "kernel", "architecture", "python", "handler_digest", "lock_digest")
"""What a start compares with the trainings (sandbox/provenance.py)."""

PROTOCOLS = ("tcp", "udp")
"""Of destinations that are decided without the Python supervisor."""
SERVED_IN_INIT = 1 << 31
"""Added to the number of a served call that the init phase alone may make."""
LITERAL = 22
"""Bytes of a literal destination."""

FIELDS = (
    ("function", "text", ()),
    ("exec", "choice", ("single-use", "granted")),
    ("signals", "choice", ("self", "any")),
    ("network", "choice", ("family", "runtime-api", "ports")),
    ("bind", "choice", ("any", "ports", "none")),
    ("abstract", "choice", ("any", "own")),
    ("audit_until", "day", ()),
    ("files.listed", "flag", ()),
    ("files.limited", "flag", ()),
    ("files.memfd", "flag", ()),
    ("files.renames", "flag", ()),
    ("files.read", "paths", ()),
    ("files.write", "paths", ()),
    ("files.programs", "paths", ()),
    ("network_ports", "ports", ()),
    ("network_shown", "text", ()),
    ("bind_ports", "ports", ()),
    ("bind_shown", "text", ()),
    ("unsupervised", "lines", ()),
    ("limits_proc", "flag", ()),
    ("looked", "lines", ()),
    ("unlooked", "lines", ()),
    ("reads_netlink", "flag", ()),
    ("connects", "choice", ("never", "init", "always")),
    ("decider", "choice", ("when-needed", "early")),
    ("looks", "choice", ("attendant", "decider")),
    ("judged", "flag", ()),
    ("own", "flag", ()),
    ("literals", "literals", ()),
    ("hosts", "hosts", ()),
    ("socket_paths", "lines", ()),
    ("names_keep", "number", ()),
    ("names_receives", "lines", ()),
    ("provenance", "texts", FACTS),
)
"""The attributes of a Policy that both starters read, in the order of the file: (name, kind, words)."""

KINDS = {
    "text": "a text",
    "choice": "1 byte, the number of one of the words",
    "flag": "1 byte, 0 or 1",
    "day": "4 bytes, the days from 1970-01-01 to the day; 0 for none",
    "paths": "a list; each text begins with the digit of one of BASES and `*` for all that lies below, `.` for itself",
    "texts": "a list for each of the words",
    "ports": "a count (4 bytes), and so many ports of 2 bytes",
    "lines": "a list",
    "number": "4 bytes",
    "literals": "a count (4 bytes), and for each the number of one of PROTOCOLS, the bytes of its address (4 or 16), "
    "how many bits of it count and whether any port is meant (1 byte each), a port (2 bytes), the address (16 bytes)",
    "hosts": "a list; each text begins with the digit of one of PROTOCOLS, `2` for none, goes on with a port in four "
    "hexadecimal digits or `****` for any, and ends with a name, or what a name ends with, from its dot on",
}

class FileRules:
    """What a policy says of files and programs (sandbox/policy/build.py)."""

    __slots__ = ("limited", "listed", "memfd", "programs", "read", "renames", "write")

    listed: bool  # False: no file is limited
    limited: bool  # False: no program is told from another
    memfd: bool  # the function can make a program that lies in no folder
    renames: bool  # the function can put one folder in the place of another
    read: Sequence[PathRule]
    write: Sequence[PathRule]
    programs: Sequence[PathRule]  # all below a place: what the function puts there itself, by Supervision.contents


class Policy:
    """What the run-time needs of a profile, and the programs of one architecture: plain, and for a supervisor.

    Each has a head of so many bytes, behind which goes what only a starter knows.
    """

    __slots__ = (
        "_init_calls", "_path_calls", "_served_calls", "_supervision", "abstract", "arch", "audit_until", "bind",
        "bind_ports", "bind_shown", "connects", "decider", "digest", "exec", "files", "function", "head", "hosts",
        "judged", "limits_proc", "literals", "looked", "looks", "names_keep", "names_receives", "network",
        "network_ports", "network_shown", "own", "program", "provenance", "reads_netlink", "signals", "socket_paths",
        "source", "supervised", "supervised_head", "unlooked", "unsupervised",
    )  # fmt: skip

    function: str
    exec: str  # single-use | granted
    signals: str  # self | any
    network: str  # where TCP may connect to: family: any port, ports: those of network_ports, runtime-api: also its own
    bind: str  # where TCP may listen: any | none | ports: those of bind_ports
    abstract: str  # which abstract unix sockets may be connected to: any | own, those of its processes
    network_ports: Sequence[int]
    network_shown: str  # the ports in the status line, where network is runtime-api what comes behind its own
    bind_ports: Sequence[int]
    bind_shown: str
    unsupervised: Sequence[str]  # what stays open without a supervisor, for the status line
    reads_netlink: bool  # the function may make netlink sockets, and no entry says that they may change the network
    limits_proc: bool  # not all that /proc shows of others may be read
    looked: Sequence[str]  # what a look at files holds besides Landlock, for the status line
    unlooked: Sequence[str]  # what stays open where nobody looks at files, for the status line
    connects: str  # when the attendant may connect to the Runtime API: never | init, until the first | always
    decider: str  # when-needed | early: the profile holds what only the Python supervisor decides
    looks: str  # who may answer a call by its path alone: attendant, or only the decider
    judged: bool  # the attendant makes no connect and sends nothing but to the Runtime API: detectors have a say first
    own: bool  # the function may reach what it is bound to itself
    literals: Sequence[Literal]  # destinations that their address decides
    hosts: Sequence[str]  # names that may be asked for, with what is reached by them: KINDS["hosts"]
    socket_paths: Sequence[str]  # of unix sockets: where none is, to say so needs no supervisor
    names_keep: int  # for how many seconds an address stays with its name after its time to live; 0 for good
    names_receives: Sequence[str]  # the calls that the supervisor makes on sockets which asked a resolver
    audit_until: str  # YYYY-MM-DD or ''
    files: FileRules
    provenance: Mapping[str, Sequence[str]]  # by FACTS
    arch: str
    program: bytes
    head: int
    supervised: bytes
    supervised_head: int
    digest: str  # hexadecimal SHA-256 of the file
    source: str
    _init_calls: bytes
    _path_calls: bytes
    _served_calls: bytes
    _supervision: bytes | Supervision

    @property
    def init_calls(self) -> Mapping[str, Sequence[Alternative]]:
        """{number, in decimal: alternatives} of what the init phase alone may do and registers decide.

        Raises PolicyInvalid.
        """
        return self._table(self._init_calls, "the init phase")

    @property
    def path_calls(self) -> Mapping[str, Sequence[Alternative]]:
        """{number, in decimal: alternatives} of what Landlock holds by a path and passes after the init phase.

        Raises PolicyInvalid.
        """
        return self._table(self._path_calls, "paths")

    @property
    def served_calls(self) -> Mapping[str, Sequence[Alternative]]:
        """{number, in decimal: alternatives} of what the attendant may make in the function's place.

        With SERVED_IN_INIT in the number until the first connect to the Runtime API.

        Raises PolicyInvalid.
        """
        return self._table(self._served_calls, "what is served")

    def _table(self, data: bytes, what: str) -> Mapping[str, Sequence[Alternative]]:
        from sandbox.supervised import calls

        try:
            return calls(data)
        except ValueError as error:
            raise PolicyInvalid(f"says nothing of {what}: {error}", where=self.source, todo=REBUILD) from error

    @property
    def supervision(self) -> Supervision:
        """What the supervisor needs, parsed when it is first asked for. Raises PolicyInvalid."""
        if isinstance(self._supervision, bytes):
            from sandbox.supervised import parse

            try:
                self._supervision = parse(self._supervision, self.arch)
            except ValueError as error:
                what = f"says nothing for a supervisor: {error}"
                raise PolicyInvalid(what, where=self.source, todo=REBUILD) from error
        return self._supervision


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return str(_hash(data).hexdigest())


_ALGORITHM: list[Any] = []  # filled once: an import that fails searches the path, each time


def _hash(data: bytes) -> Any:
    """A hash object, by the interpreter's small C module (hashlib would load OpenSSL)."""
    if not _ALGORITHM:
        try:
            from _sha2 import sha256 as digest  # Python 3.12 and newer
        except ImportError:
            try:
                from _sha256 import sha256 as digest  # Python 3.11
            except ImportError:
                from hashlib import sha256 as digest
        _ALGORITHM.append(digest)
    return _ALGORITHM[0](data)


def series(release: str) -> str:
    """What of a version is compared: 6.18 of 6.18.44-vendor, 3.11 of 3.11.2."""
    return ".".join(release.split(".")[:2])


def nonblocking_opener(path: str, flags: int) -> int:
    """An opener that does not wait for the other end of a FIFO, which then reads as empty."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", opener=nonblocking_opener) as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise PolicyInvalid(f"cannot be read: {error.strerror}", where=path, todo=REBUILD) from error
    except ValueError as error:
        raise PolicyInvalid("is not a file name", where=ascii(path), todo=REBUILD) from error
    if len(data) > LARGEST:
        raise PolicyInvalid(f"larger than {LARGEST} bytes", where=path, todo=REBUILD)
    return data


def read(directory: str, arch: str) -> Policy:
    """Read a bundle for an architecture (`x86_64`, `aarch64`). Raises PolicyInvalid for anything that does not fit."""
    path = os.path.join(directory, FILE)
    return decode(_read(path), arch, path)


def arches(directory: str) -> Sequence[str]:
    """The architectures that a bundle has programs for. Raises PolicyInvalid."""
    path = os.path.join(directory, FILE)
    return list(_contents(_read(path), path)[1])


def decode(data: bytes, arch: str, where: str) -> Policy:
    """The policy that the bytes of a policy.bin say. Raises PolicyInvalid."""
    policy, programs = _contents(data, where)
    if arch not in programs:
        raise PolicyInvalid(
            f"has a filter for {', '.join(programs) or 'no architecture'}, not for {arch}", where=where,
            todo=f"{REBUILD} --arch all",
        )  # fmt: skip
    (policy.program, policy.head), (policy.supervised, policy.supervised_head), *tables = programs[arch]
    policy._init_calls, policy._path_calls, policy._served_calls = tables
    policy.arch = arch
    return policy


def _contents(data: bytes, where: str) -> tuple[Policy, Mapping[str, Programs]]:
    """A policy but for what is an architecture's, and that."""
    if data[: len(MAGIC)] != MAGIC:
        raise PolicyInvalid(f"is not a policy of format {FORMAT}", where=where, todo=REBUILD)
    body = data[:-DIGEST]
    cut = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "little") != len(data)
    found = _hash(b"" if cut else body)
    if cut or found.digest() != data[-DIGEST:]:
        raise PolicyInvalid("is not as it was written (its digest differs)", where=where, todo=REBUILD)
    reader = _Reader(body, len(MAGIC) + 4)
    policy = Policy()
    policy.files = FileRules()
    programs = {}
    name = ""
    try:
        for name, kind, words in FIELDS:
            owner, _, field = name.rpartition(".")
            setattr(policy.files if owner else policy, field, getattr(reader, kind)(*words))
        name = "programs"
        for _ in range(reader.number()):
            arch = reader.text()
            programs[arch] = (reader.program(), reader.program(), reader.table(), reader.table(), reader.table())
        name = "supervision"
        policy._supervision = reader.take(reader.number())
        if reader.at != len(body):
            raise ValueError("has bytes behind its end")
    except (ValueError, IndexError) as error:
        what = f"holds what this version does not know ({name})"
        raise PolicyInvalid(what, where=where, todo=REBUILD) from error
    found.update(data[-DIGEST:])
    policy.digest = found.hexdigest()
    policy.source = where
    return policy, programs


_DIGITS = "0123456789abcdef"


class _Reader:
    """Takes what stands at `at` in the bytes of a policy; the kinds of FIELDS by their names. Raises ValueError."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def take(self, count: int) -> bytes:
        """So many bytes."""
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise ValueError("it ends too early")
        self.at += count
        return found

    def number(self) -> int:
        """4 bytes."""
        return int.from_bytes(self.take(4), "little")

    def table(self) -> bytes:
        """Calls, for `calls` of sandbox/supervised.py."""
        return self.take(self.number())

    def text(self) -> str:
        found = self.take(self.number() + 1)
        if found.find(0) != len(found) - 1:
            raise ValueError("a text without its end")
        return found[:-1].decode()

    def choice(self, *words: str) -> str:
        return words[self.take(1)[0]]

    def flag(self) -> bool:
        return (False, True)[self.take(1)[0]]

    def day(self) -> str:
        from time import gmtime

        days = self.number()
        if not days:
            return ""
        year, month, day = gmtime(86400 * days)[:3]
        if year > 9999:
            raise ValueError("a day that is none")
        return f"{year:04}-{month:02}-{day:02}"

    def _list(self) -> Sequence[str]:
        count, size = self.number(), self.number()
        found = self.take(size)
        if found.count(0) != count or (found and found[-1]):
            raise ValueError("a list of another length")
        return found[:-1].decode().split("\0") if found else []

    def ports(self) -> Sequence[int]:
        data = self.take(2 * self.number())
        return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)]

    def lines(self) -> Sequence[str]:
        return self._list()

    def literals(self) -> Sequence[Literal]:
        data, found = self.take(LITERAL * self.number()), []
        for at in range(0, len(data), LITERAL):
            protocol, size, bits, every = data[at : at + 4]
            if protocol >= len(PROTOCOLS) or size not in (4, 16) or bits > 8 * size or every > 1:
                raise ValueError(f"the destination {data[at : at + LITERAL].hex()}")
            port = None if every else int.from_bytes(data[at + 4 : at + 6], "little")
            found.append((PROTOCOLS[protocol], data[at + 6 : at + 6 + size], bits, port))
        return found

    def hosts(self) -> Sequence[str]:
        found = self._list()
        for text in found:
            port = text[1:5]
            if text[:1] not in ("0", "1", "2") or len(text) < 6 or (port != "****" and set(port) - set(_DIGITS)):
                raise ValueError(f"the host {text!r}")
        return found

    def texts(self, *names: str) -> Mapping[str, Sequence[str]]:
        return {name: self._list() for name in names}

    def paths(self) -> Sequence[PathRule]:
        found = []
        for text in self._list():
            base, below, path = "0123".find(text[:1]), text[1:2], text[2:]
            inside = path[:1] == "/" or (not path and base > 0)
            if base < 0 or not text or below not in ("*", ".") or not inside or "/../" in path + "/":
                raise ValueError(f"the path {text!r}")
            found.append((BASES[base], path, below == "*"))
        return found

    def program(self) -> tuple[bytes, int]:
        """The instructions, and how many bytes of them are the head."""
        length, head = self.number(), self.number()
        if not 0 < head < length:
            raise ValueError(f"a program of {length} instructions with a head of {head}")
        return self.take(8 * length), 8 * head
