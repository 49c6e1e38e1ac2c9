"""The chain of signatures over a supervisor's lines: each signs its own text and the signature before it.

hmac = HMAC-SHA256(key, previous hmac in hexadecimal || line without its hmac field); the first line's previous is ''.
Whoever lacks the key cannot write, change, reorder or take out a line unseen. A run begins with a line of its own and
ends with its exact counts (summaries marked `final`), so that lines off the end are missed as well. Only a whole run
can be taken out, or put in again elsewhere: that is a question of how many there should be, and when.
"""

from __future__ import annotations

from sandbox.bundle import sha256
from sandbox.violations.record import Beginning, Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.violations.reader import Line

BLOCK = 64
"""Bytes that SHA-256 works on at once."""

FIELD = ', "hmac": "'
SIZE = len(FIELD) + 64 + 1
"""Bytes that a signature adds to a line."""


def sign(key: bytes, previous: str, body: str) -> str:
    """The signature of a line, in hexadecimal. `body` is the line without its hmac field.

    RFC 2104 written out: the hmac module loads OpenSSL, four megabytes of the sixteen that a supervisor may have.
    """
    block = (bytes.fromhex(sha256(key)) if len(key) > BLOCK else key).ljust(BLOCK, b"\0")
    message = (previous + body).encode("utf-8", "surrogateescape")
    inner = sha256(bytes([byte ^ 0x36 for byte in block]) + message)
    return sha256(bytes([byte ^ 0x5C for byte in block]) + bytes.fromhex(inner))


def signed(body: str, signature: str) -> str:
    """The line with its signature as the last field."""
    return f'{body[:-1]}{FIELD}{signature}"}}'


def split(line: str) -> tuple[str, str] | None:
    """(body, signature) of a signed line; None for one without a signature at its end."""
    body, field, rest = line.rpartition(FIELD)
    if not field or len(rest) != 66 or not rest.endswith('"}'):
        return None
    return body + "}", rest[:64]


class SignedRun:
    """What the verified lines of one supervisor tell. Times are seconds since 1970, `began` None without a beginning.

    `policy` is as the beginning says it, `lost` how many lines the sink could not take, `violations` the exact number
    of all, None until the end has come: without it the run was killed, still runs, or its lines were cut off.
    """

    __slots__ = ("_totals", "began", "function", "last", "lines", "lost", "policy", "supervisor", "violations")

    def __init__(self, supervisor: str) -> None:
        self.supervisor = supervisor
        self.function = ""
        self.policy = ""
        self.began: float | None = None
        self.last = 0.0
        self.lines = 0
        self.lost = 0
        self.violations: int | None = None
        self._totals = 0

    def add(self, line: Line) -> None:
        """Take the next line, which is verified."""
        self.lines += 1
        self.lost += line.lost
        self.last = float(str(line.fields["time"]))
        self.function = str(line.fields.get("function", self.function))
        if line.fields["event"] == Beginning.event:
            self.began = self.last
            self.policy = str(line.fields.get("policy", ""))
        if isinstance(line.record, Summary) and line.record.final:
            self._totals += sum(line.record.counts.values())
            total = self._totals if line.record.total is None else line.record.total
            self.violations = total if self._totals >= total else None


class Verifier:
    """Follows the chains of any number of supervisors through one file."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Of each supervisor, (signature, seq) of the last line and of the last one that was in order.
        self._seen: dict[str, tuple[str, int]] = {}
        self._good: dict[str, tuple[str, int]] = {}
        self._runs: dict[str, SignedRun] = {}
        self.checked = 0

    def step(self, line: Line) -> str:
        """What is wrong with a line, '' when it follows from the one before it."""
        import hmac

        self.checked += 1
        supervisor, seq = line.supervisor, line.seq
        parts = split(line.text)
        if parts is None or supervisor is None or seq is None:
            return "carries no signature"
        body, signature = parts
        start = ("", 0)
        before = self._seen.get(supervisor, start)
        # Behind a damaged line: the next follows from it where only its text was changed, from the one before it where
        # it was put in between.
        for previous in {before[0], self._good.get(supervisor, start)[0]}:
            if hmac.compare_digest(sign(self._key, previous, body).encode(), signature.encode("utf-8", "replace")):
                self._seen[supervisor] = self._good[supervisor] = (signature, seq)
                self._runs.setdefault(supervisor, SignedRun(supervisor)).add(line)
                return ""
        self._seen[supervisor] = (signature, seq)
        gap = seq - before[1] - 1 - line.lost
        if gap > 0:
            lines = f"{gap} line{'s' * (gap > 1)}"
            return f"{lines} before it missing (number {seq} follows {before[1]}), or it was altered"
        if gap < 0:
            return f"out of order (number {seq} follows {before[1]}), or altered"
        return "was altered, or signed with another key"

    def runs(self) -> list[SignedRun]:
        """The runs of which a line was verified, in the order of their first ones."""
        return list(self._runs.values())

    def unfinished(self) -> list[str]:
        """The supervisors whose chain does not end with their last summary: killed, still running, or cut off."""
        return sorted(run.supervisor for run in self._runs.values() if run.violations is None)
