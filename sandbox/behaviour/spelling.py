"""How profiles and reports are spelled: the exact text that would allow a call, and strangers' text in quotes.

    >>> of_use("invoke", Call("openat", "create"))
    'syscalls.invoke.openat: {classes: {create: 1}, because: <your reason>}'

What the supervisor prints beside a violation and what an amendment proposes are the same, because both come from here.
"""

from __future__ import annotations

from sandbox.behaviour.call import Call
from sandbox.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./@")


def scalar(text: str) -> str:
    """A text as YAML, inside a flow collection too: in double quotes where it could be read as anything else."""
    words = text.split(" ")
    plain = all(word and PLAIN.issuperset(word) for word in words) and (text[0].isalpha() or text[0] == "/")
    # A scheme's colon is followed by no space, so that it stays plain (YAML 1.2, 7.3.3).
    scheme, colon, rest = text.partition("://")
    if colon and PLAIN.issuperset(scheme) and PLAIN.issuperset(rest.replace(":", "")) and not rest.endswith(":"):
        plain = bool(scheme) and scheme[0].isalpha()
    if plain and text.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n"):
        return text
    return quoted(text)  # \xNN, \uNNNN and \UNNNNNNNN are YAML's escapes as well


def of_use(phase: str, call: Call, count: int = 1) -> str:
    """For a call in a phase."""
    times = f"classes: {{{scalar(call.arg_class)}: {count}}}" if call.arg_class else f"count: {count}"
    return f"syscalls.{phase}.{call.syscall}: {{{times}, because: <your reason>}}"


ENTRIES = {"network": "to", "listen": "at", "processes": "program", "write": "path"}
"""The key of an entry by its section, where more is said of it than that it is there."""


def of_entry(section: str, entry: str, by: Sequence[str] = ()) -> str:
    """For a destination (section `network`), a program (`processes`) or a file (`files.read`, `files.write`).

    `by` are the distributions that use it, where that is known.
    """
    if not by:
        return f"{section}: [{scalar(entry)}]"
    key, users = ENTRIES[section.removeprefix("files.")], ", ".join(map(scalar, by))
    return f"{section}: [{{{key}: {scalar(entry)}, by: [{users}]}}]"


def of_program(path: str, sha256: str) -> str:
    """For a program; one that lies where the function writes is told from others by its content."""
    if not sha256:
        return of_entry("processes", path)
    return f"processes: [{{program: {scalar(path)}, sha256: [{scalar(sha256)}]}}]"


def of_tolerated(call: Call, phase: str, at: str, errno: str) -> str:
    """For a refusal that a person knows to be survived."""
    what = f"call: {scalar(str(call))}, phase: {phase}, at: {at}, errno: {errno}"
    return f"tolerates: [{{{what}, because: <your reason>}}]"


def of_anomaly(detector: str) -> str:
    """For what a detector suspects."""
    return f"on-anomaly: {{{detector}: report}}"


def of_grant(syscall: str, arg_classes: tuple[str, ...] = ()) -> str:
    """For a hard-denied call: only a person can write this, with a reason."""
    classes = f"classes: [{', '.join(map(scalar, arg_classes))}], " if arg_classes else ""
    return f"grants: [{{syscall: {syscall}, {classes}because: <your reason>}}]"


def below_named(path: str, names: Sequence[tuple[str, str]]) -> str:
    """A physical path as a profile spells it on this host, by the first of the (folder, name) that it lies in.

    >>> below_named("/srv/app/data.txt", [("/srv/app", "{root}")])
    '{root}/data.txt'
    """
    for folder, name in names:
        if path == folder or path.startswith(f"{folder}/"):
            return name + path.removeprefix(folder)
    return path


def quoted(text: str) -> str:
    """The text in double quotes; quotes and backslashes inside are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def quote(data: bytes) -> str:
    """Bytes in double quotes, as UTF-8 where they are that."""
    return quoted(data.decode("utf-8", "surrogateescape"))
