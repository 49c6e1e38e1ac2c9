"""What a supervisor writes, one line of JSON each: violations, their counts, and what it lacks itself.

The lines are described in schema.json. `seq`, `supervisor`, `lost` and `hmac` belong to the sink that writes them.
"""

from __future__ import annotations

import os
import time as clock

from sandbox.behaviour.call import Call
from sandbox.memo import memo
from sandbox.plain_json import encode, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

    from sandbox.violations.origin import Origin

DENIED, TERMINATED, REPORTED = VERDICTS = "denied", "terminated", "reported"
"""What became of a violation: refused, ended with its whole process tree, or let through."""

LONGEST = 4096
"""Bytes of a line with its newline: what a pipe takes in one piece (PIPE_BUF, man 7 pipe)."""

CUTS = (2048, 1024, 512, 256, 128, 64, 32)
"""To how many bytes the longest texts are cut, one after the other, until the line fits."""

LONGEST_KEY = 120
"""Characters of a call in a summary."""

MOST_ITEMS = 16
KEPT = ("event", "time", "seq", "supervisor", "lost")
"""Fields without which a line cannot be placed; any other may go when nothing else makes it fit."""

QUESTION = "a DNS question for a name that the profile does not hold"
"""How the reason of a question's violation begins: its port is a guess, which the connect behind it corrects."""

UNRATED = ("low", "T1106", "Native API")
"""Risk and technique of a call that techniques.json does not name: a program that was made to do something else."""


@memo
def techniques() -> Mapping[str, Mapping[str, str]]:
    """{syscall or "syscall class": {risk, technique, title}}, after MITRE ATT&CK for Linux: techniques.json."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "techniques.json"), encoding="utf-8") as file:
        found: Mapping[str, Mapping[str, str]] = parse(file.read())
    return found


def counted_as(call: Call, verdict: str) -> str:
    """`openat create: denied`, as a summary writes a kind of violations; long classes are cut."""
    return f"{str(call)[:LONGEST_KEY]}: {verdict}"


def technique_of(call: Call) -> tuple[str, str, str]:
    """(risk, ATT&CK id, title) of a call: the entry with the most words of the class wins."""
    words = [call.syscall, *call.arg_class.split()]
    while words:
        found = techniques().get(" ".join(words))
        if found:
            return found["risk"], found["technique"], found["title"]
        words.pop()
    return UNRATED


class Record:
    """One line of a supervisor: its moment, in seconds since 1970 to the millisecond. Never changed once made."""

    __slots__ = ("time",)
    event = ""
    """What the line is called."""

    def __init__(self, time: float | None = None) -> None:
        """`time` is now by default."""
        self.time: Final = round(clock.time() if time is None else time, 3)

    def fields(self) -> dict[str, object]:
        """What stands in the line behind its event and time, in its order, as JSON names it: its own slots."""
        return {name: getattr(self, name) for name in self.__slots__}


class CallRecord(Record):
    """One call of the function's that is told of, and what a detector suspected of it, if one did."""

    __slots__ = (
        "allow", "anomaly", "arg_class", "args", "by", "comm", "detail", "function", "phase", "pid", "request", "risk",
        "syscall", "target", "technique", "tid",
    )  # fmt: skip

    def __init__(
        self, *, function: str, phase: str, request: str | None, pid: int, tid: int, comm: str, syscall: str,
        arg_class: str, args: Sequence[str], target: str, allow: str, risk: str | None = None,
        technique: str | None = None, by: Origin | None = None, anomaly: str = "", detail: str = "",
        time: float | None = None,
    ) -> None:  # fmt: skip
        """`arg_class` is '' for a call without, `args` what decode_args says.

        `target` is the destination, program or path that the call names, as a profile writes it: what an amendment
        adds. `allow` is the text of a profile that allows it, '' where none can. Risk and technique are those of
        techniques.json by default. `by` is None where nobody could tell who made the call. `anomaly` is the name of a
        detector, `detail` what it saw.
        """
        super().__init__(time)
        usual = technique_of(Call(syscall, arg_class)) if risk is None or technique is None else UNRATED
        self.function: Final = function
        self.phase: Final = phase
        self.request: Final = request
        self.pid: Final = pid
        self.tid: Final = tid
        self.comm: Final = comm
        self.syscall: Final = syscall
        self.arg_class: Final = arg_class
        self.args: Final = tuple(args)
        self.target: Final = target
        self.risk: Final = usual[0] if risk is None else risk
        self.technique: Final = usual[1] if technique is None else technique
        self.allow: Final = allow
        self.by: Final = by
        self.anomaly: Final = anomaly
        self.detail: Final = detail

    @property
    def call(self) -> Call:
        """What was called."""
        return Call(self.syscall, self.arg_class)

    def fields(self) -> dict[str, object]:
        """See Record."""
        suspected = {"anomaly": self.anomaly, "detail": self.detail} if self.anomaly else {}
        by: dict[str, object] = {"by": self.by.fields()} if self.by else {}
        return {
            "function": self.function, "phase": self.phase, "request": self.request, "pid": self.pid, "tid": self.tid,
            "comm": self.comm, "syscall": self.syscall, "class": self.arg_class, "args": self.args,
            "target": self.target, **self.outcome(), "risk": self.risk, "technique": self.technique,
            "allow": self.allow, **suspected, **by,
        }  # fmt: skip

    def outcome(self) -> dict[str, object]:
        """What became of the call."""
        return {}


class Violation(CallRecord):
    """One access that the policy does not allow, or a detector kept from being made."""

    __slots__ = ("errno", "reason", "verdict")
    event = "violation"

    def __init__(self, *, verdict: str, errno: str, reason: str, **call: Any) -> None:
        """`verdict` is one of VERDICTS, `errno` EPERM, or '' where the call was let through; for `call` CallRecord."""
        super().__init__(**call)
        self.verdict: Final = verdict
        self.errno: Final = errno
        self.reason: Final = reason

    def outcome(self) -> dict[str, object]:
        """See CallRecord."""
        return {"verdict": self.verdict, "errno": self.errno, "reason": self.reason}


class Suspected(CallRecord):
    """One access that the policy allows and that was made, although a detector suspected it."""

    __slots__ = ()
    event = "anomaly"


class Summary(Record):
    """How many violations of each kind (`syscall class: verdict`) had no line of their own; `final`: how many ever.

    `total` is the number of all violations, in final ones: where one line does not hold all counts, it tells when the
    last has come. None in others, and in those of versions that did not write it.
    """

    __slots__ = ("counts", "final", "function", "total")
    event = "violations"

    def __init__(
        self, function: str, counts: Mapping[str, int], *, final: bool, total: int | None = None,
        time: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(time)
        self.function: Final = function
        self.final: Final = final
        self.counts: Final = dict(counts)
        self.total: Final = total

    def fields(self) -> dict[str, object]:
        """See Record."""
        found = {"function": self.function, "final": self.final, "counts": self.counts}
        return found if self.total is None else {**found, "total": self.total}


class Beginning(Record):
    """The first line of a run that signs its lines: what is in force, whatever the function does to those behind it."""

    __slots__ = ("digest", "function", "mode")
    event = "begin"

    def __init__(self, function: str, mode: str, digest: str, time: float | None = None) -> None:
        """`mode` as in the status line, `digest` the SHA-256 of the policy in hexadecimal."""
        super().__init__(time)
        self.function: Final = function
        self.mode: Final = mode
        self.digest: Final = digest

    def fields(self) -> dict[str, object]:
        """See Record."""
        return {"function": self.function, "mode": self.mode, "policy": f"sha256:{self.digest}"}


class Heartbeat(Record):
    """Behind the lines of a run that signs them: how many violations there were until now, with a line or without."""

    __slots__ = ("function", "total")
    event = "alive"

    def __init__(self, function: str, total: int, time: float | None = None) -> None:
        super().__init__(time)
        self.function: Final = function
        self.total: Final = total


class Degraded(Record):
    """What a supervisor has to do without, and what follows from it."""

    __slots__ = ("function", "reason")
    event = "degraded"

    def __init__(self, function: str, reason: str, time: float | None = None) -> None:
        super().__init__(time)
        self.function: Final = function
        self.reason: Final = reason


def render(fields: Mapping[str, object], room: int = LONGEST - 1) -> str:
    """The fields as one line of JSON of at most `room` bytes (ASCII), without the newline.

    Long texts end in `...`, long lists are cut to 16 items; where even that does not fit, whole fields are left out,
    the longest first.
    """
    line = encode(fields)
    for longest in CUTS:
        if len(line) <= room:
            return line
        line = encode({key: _cut(value, longest) for key, value in fields.items()})
    if len(line) <= room:
        return line
    kept = {key: _cut(value, CUTS[-1]) for key, value in fields.items()}
    for key in sorted(kept, key=lambda key: -len(encode(kept[key]))):
        if key not in KEPT and len(line) > room:
            del kept[key]
            line = encode(kept)
    return line


def _cut(value: object, longest: int) -> object:
    if isinstance(value, str):
        return cut(value, longest)
    if isinstance(value, dict):
        return {key: _cut(item, longest) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
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
