"""One violation as one line of JSON: its fields in a fixed order, its risk, and how it is cut to 4096 bytes.

The fields are described in schema.json. `seq`, `supervisor`, `lost` and `hmac` belong to the sink that writes the line.
"""

from __future__ import annotations

import os
import time as clock

from sandbox.plain_json import encode, parse
from sandbox.remember import remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VIOLATION = "violation"
SUMMARY = "violations"

LONGEST = 4096
"""Bytes of a line with its newline: what a pipe takes in one piece (PIPE_BUF, man 7 pipe)."""

CUTS = (2048, 1024, 512, 256, 128, 64, 32)
"""To how many bytes the longest texts are cut, one after the other, until the line fits."""

MOST_ITEMS = 16
KEPT = ("event", "time", "seq", "supervisor", "lost")
"""Fields without which a line cannot be placed; any other may go when nothing else makes it fit."""

UNRATED = ("low", "T1106", "Native API")
"""Risk and technique of a call that techniques.json does not name: a program that was made to do something else."""


@remember
def techniques() -> Mapping[str, Mapping[str, str]]:
    """{syscall or "syscall class": {risk, technique, title}}, after MITRE ATT&CK for Linux: techniques.json."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "techniques.json"), encoding="utf-8") as file:
        found: Mapping[str, Mapping[str, str]] = parse(file.read())
    return found


def technique(syscall: str, name: str) -> tuple[str, str, str]:
    """(risk, ATT&CK id, title) of a call with an argument class: the entry with the most words of the class wins."""
    words = [syscall, *name.split()]
    while words:
        found = techniques().get(" ".join(words))
        if found:
            return found["risk"], found["technique"], found["title"]
        words.pop()
    return UNRATED


def violation(
    *, function: str, phase: str, request: str | None, pid: int, tid: int, comm: str, syscall: str, name: str,
    args: Sequence[str], verdict: str, errno: str, reason: str, allow: str, target: str = "",
    time: float | None = None,
) -> dict[str, object]:  # fmt: skip
    """The fields of one violation, in their order.

    `name` is the argument class ('' for a call without), `args` what decode_args says, `verdict` denied, terminated
    or reported, `errno` EPERM or '' where the call was let through, `allow` the text of allow.py ('' when nothing
    allows it). `target` is the destination, program or path that the call names, as the profile would write it: what
    an amendment adds. `time` is in seconds since 1970, now by default.
    """
    risk, id_, _ = technique(syscall, name)
    return {
        "event": VIOLATION, "time": _milliseconds(time), "function": function, "phase": phase, "request": request,
        "pid": pid, "tid": tid, "comm": comm, "syscall": syscall, "class": name, "args": list(args), "target": target,
        "verdict": verdict, "errno": errno, "reason": reason, "risk": risk, "technique": id_, "allow": allow,
    }  # fmt: skip


def summary(function: str, counts: Mapping[str, int], *, final: bool, time: float | None = None) -> dict[str, object]:
    """How many violations of each kind (`syscall class: verdict`) had no line of their own; `final`: how many ever."""
    return {
        "event": SUMMARY, "time": _milliseconds(time), "function": function, "final": final, "counts": dict(counts),
    }  # fmt: skip


def _milliseconds(time: float | None) -> float:
    return round(clock.time() if time is None else time, 3)


def render(event: Mapping[str, object], room: int = LONGEST - 1) -> str:
    """The event as one line of JSON of at most `room` bytes (ASCII), without the newline.

    Long texts end in `...`, long lists are cut to 16 items; where even that does not fit, whole fields are left out,
    the longest first.
    """
    line = encode(event)
    for longest in CUTS:
        if len(line) <= room:
            return line
        line = encode({key: _cut(value, longest) for key, value in event.items()})
    if len(line) <= room:
        return line
    kept = {key: _cut(value, CUTS[-1]) for key, value in event.items()}
    for key in sorted(kept, key=lambda key: -len(encode(kept[key]))):
        if key not in KEPT and len(line) > room:
            del kept[key]
            line = encode(kept)
    return line


def _cut(value: object, longest: int) -> object:
    if isinstance(value, str):
        return cut(value, longest)
    if isinstance(value, list):
        kept = [_cut(item, longest) for item in value[:MOST_ITEMS]]
        return [*kept, "..."] if len(value) > MOST_ITEMS else kept
    return value


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and `...`, so that it takes at most `longest` bytes in JSON without the quotes."""
    if len(text) * 12 <= longest or len(encode(text)) - 2 <= longest:
        return text
    kept = text[:longest]
    while kept and (size := len(encode(kept)) - 2) > longest - 3:
        kept = kept[: min(len(kept) - 1, len(kept) * (longest - 3) // size)]
    return kept + "..."
