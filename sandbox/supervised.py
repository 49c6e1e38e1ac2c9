"""What a policy tells the supervisor alone: its part of policy.bin as typed values (sandbox/bundle.py has the rest).

A start without a supervisor loads none of this. With one it is parsed before the child is made, which shares it: behind
Landlock nothing can be imported.
"""

from __future__ import annotations

import struct

from sandbox import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    Alternative: TypeAlias = Sequence[Sequence[int]]
    """[argument, mask, value] of each condition."""

ARGUMENTS = 6
"""Of a system call (man 2 syscall)."""

SHAPE: Mapping[str, Any] = {
    "runtime-api": bool,
    "init": {str: {str: [str]}},
    "sockets": {str: [[(int, int, int)]]},
    "messages": bool,
    "destinations": [str],
    "listen": [str],
    "brokered": [str],
    "terminate": [str],
    "responses": {str: str},
    "on-anomaly": {str: str},
    "denied": {str: [str]},
    "never-granted": [str],
    "tolerates": [str],
    "contents": {str: [str]},
    "interpreters": [str],
    "free-interpreters": [str],
    "own-interpreter": bool,
    "by": {str: {str: [str]}},
    "libraries": [str],
    "most": {str: int},
    "proc": [str],
}
"""The shape of what a supervisor needs; [x] is any number of x, {int: x} has numbers in decimal as keys."""
SINCE_THEN: Mapping[str, Any] = {"by": {}, "libraries": [], "most": {}, "proc": ["/proc/**"]}
"""What an older policy of the same format lacks, and what that means."""


class Supervision:
    """What a policy tells the supervisor on one architecture (sandbox/policy/supervision.py).

    Calls that registers decide are alternatives of (argument, mask, value) triples, all of which hold.
    """

    __slots__ = (
        "brokered", "by", "contents", "denied", "destinations", "free_interpreters", "init", "interpreters",
        "libraries", "listen", "messages", "most", "never_granted", "on_anomaly", "own_interpreter", "proc",
        "responses", "runtime_api", "sockets", "terminate", "tolerates",
    )  # fmt: skip

    def __init__(self, data: Mapping[str, Any], arch: str) -> None:
        """`data` has the shape of SHAPE."""
        self.runtime_api: bool = data["runtime-api"]
        self.init: Mapping[str, Sequence[str]] = data["init"].get(arch, {})
        """{syscall: argument classes} allowed until the first connection to the Runtime API and not after it."""
        self.sockets: Sequence[Alternative] = data["sockets"].get(arch, [])
        """What socket(2) makes after the init phase."""
        self.messages: bool = data["messages"]
        """Whether sendmsg(2) is in the profile."""
        self.destinations: Sequence[str] = data["destinations"]
        self.listen: Sequence[str] = data["listen"]
        self.brokered: Sequence[str] = data["brokered"]
        """`syscall class` of calls that are decided by whom they reach."""
        self.terminate: Sequence[str] = data["terminate"]
        """Syscalls that end the function."""
        self.responses: Mapping[str, str] = data["responses"]
        """{syscall, or `syscall class`: answer} where a profile wants another than the usual."""
        self.on_anomaly: Mapping[str, str] = data["on-anomaly"]
        """{detector, or `all`: response}, as sandbox/behaviour/anomaly.py reads it; empty for a profile without."""
        self.denied: Mapping[str, Sequence[str]] = data["denied"]
        """{syscall: argument classes, none for all} of the hard deny."""
        self.never_granted: Sequence[str] = data["never-granted"]
        self.tolerates: Sequence[str] = data["tolerates"]
        """`phase aim syscall class` of hard-denied calls that training survived."""
        self.contents: Mapping[str, Sequence[str]] = data["contents"]
        """{program, with a `*` for random parts of its path: SHA-256 of each content} where the function writes."""
        self.interpreters: Sequence[str] = data["interpreters"]
        """What interprets listed programs and is not listed: some are in files.programs, and none starts by itself."""
        self.free_interpreters: Sequence[str] = data["free-interpreters"]
        """Interpreters of listed scripts that are listed themselves, as env(1) starts them."""
        self.own_interpreter: bool = data["own-interpreter"]
        """Whether the program that the function runs under may be started again."""
        self.by: Mapping[str, Mapping[str, Sequence[str]]] = data["by"]
        """{section: {entry: distributions}} where training knew the libraries that use an entry of the profile.

        Sections are `network`, `listen`, `processes`, `write`, and `syscalls` of `phase syscall class`. Of an entry
        that is not there nobody's use is known.
        """
        self.libraries: Sequence[str] = data["libraries"]
        """The distributions whose code training loaded, in whatever version; none where that is not known."""
        self.most: Mapping[str, int] = data["most"]
        """{what is counted: the most that one event of training did or left} by names of anomaly.MOST."""
        self.proc: Sequence[str] = data["proc"]
        """What may be read in /proc of other processes and of the network (sandbox/behaviour/proc.py)."""


def parse(data: bytes, arch: str) -> Supervision:
    """What the bytes say for an architecture. Raises ValueError."""
    found = plain_json.parse(data.decode())
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    found = {**SINCE_THEN, **found}
    for key, shape in SHAPE.items():
        if not _fits(found.get(key), shape):
            raise ValueError(f"{key} is not as this version writes it")
    return Supervision(found, arch)


def _fits(value: object, shape: Any) -> bool:
    """Whether a value has one of the shapes in SHAPE."""
    if isinstance(shape, tuple):
        numbers = isinstance(value, list) and [type(number) for number in value] == list(shape)
        return isinstance(value, list) and numbers and 0 <= value[0] < ARGUMENTS
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(item, shape[0]) for item in value)
    if isinstance(shape, dict):
        ((key, inner),) = shape.items()
        return isinstance(value, dict) and all(
            _fits(item, inner) and (key is str or (name.isascii() and name.isdecimal())) for name, item in value.items()
        )
    return type(value) is shape


_NUMBER, _CONDITION = struct.Struct("<I"), struct.Struct("<IQQ")


def calls(data: bytes) -> Mapping[str, Sequence[Alternative]]:
    """The calls that stand in a table of policy.bin: {number, in decimal: alternatives}. Raises ValueError."""
    found: dict[str, list[Alternative]] = {}
    at = 0
    try:
        while at < len(data):
            (number,), (count,) = _NUMBER.unpack_from(data, at), _NUMBER.unpack_from(data, at + 4)
            at += 8
            conditions = []
            for _ in range(count):
                conditions.append(list(_CONDITION.unpack_from(data, at)))
                at += _CONDITION.size
                if conditions[-1][0] >= ARGUMENTS:
                    raise ValueError(f"argument {conditions[-1][0]} of a call")
            found.setdefault(str(number), []).append(conditions)
    except struct.error as error:
        raise ValueError("it ends too early") from error
    return found
