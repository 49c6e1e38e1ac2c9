"""The exact text of a profile that would allow a call: `syscalls.invoke.openat.classes: {create: 1}`.

What the supervisor prints beside a violation and what an amendment writes are the same, because both come from here.
"""

from __future__ import annotations

from sandbox.behaviour.call import Call
from sandbox.behaviour.quoting import quoted

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
    if call.arg_class:
        return f"syscalls.{phase}.{call.syscall}.classes: {{{scalar(call.arg_class)}: {count}}}"
    return f"syscalls.{phase}.{call.syscall}: {{count: {count}, because: <your reason>}}"


def of_place(section: str, place: str) -> str:
    """For a destination (section `network`), a program (`processes`) or a file (`files.read`, `files.write`)."""
    return f"{section}: [{scalar(place)}]"


def of_grant(syscall: str, arg_classes: tuple[str, ...] = ()) -> str:
    """For a hard-denied call: only a person can write this, with a reason."""
    classes = f"classes: [{', '.join(map(scalar, arg_classes))}], " if arg_classes else ""
    return f"grants: [{{syscall: {syscall}, {classes}because: <your reason>}}]"
