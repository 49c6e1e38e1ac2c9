"""Reading a log as it comes: unpacked, line by line, each line out of its envelope, in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from sandbox.errors import UsageError
from sandbox.logs import audit_record, envelopes
from sandbox.logs.counts import Counts
from sandbox.logs.envelopes import FORMATS, LONGEST_STRING, Parts, Text
from sandbox.plain_json import encode
from sandbox.violations import reader
from sandbox.violations.reader import STATUS, Line
from sandbox.violations.record import LONGEST

PIECE = 1 << 18
"""Bytes that are read at once, and of a line that is longer, looked at before its end is there."""
DEEPEST = 3
"""Envelopes within one another: what a driver of Docker's sends to CloudWatch, by a subscription."""
MOST_PRETTY = 1 << 16
"""Bytes over which one of our lines may be spread, where a tool has indented it."""
CUT_LINE = "a line that begins like ours and is cut or altered"
CUT_GZIP, BAD_GZIP = "gzip data that ends too early", "gzip data that is damaged"
_BY_LINE = ("docker", "journald", "cri")
"""Formats of which each line is."""
_NAMED = rb'"(?:' + "|".join(reader.EVENTS).encode() + rb')"'
_COMPACT = re.compile(rb'\{"event":' + _NAMED)
_ANYWHERE = re.compile(rb'[{,]\s*"event"\s*:\s*' + _NAMED)
_INDENTED = re.compile(rb'"event"\s*:\s*' + _NAMED + rb",")
_REALTIME = re.compile(rb'"__REALTIME_TIMESTAMP"\s*:\s*"(\d{10,18})"')


class LogReader:
    """One log. Not for several threads."""

    def __init__(self, format: str = "auto") -> None:
        """`format` is one of FORMATS: `auto` looks at each line. Raises UsageError for another."""
        if format not in FORMATS:
            todo = f"use {', '.join(FORMATS)}"
            raise UsageError(f"{format!r} is not a format of a log", where="--log-format", todo=todo)
        self.counts = Counts()
        self._format = format
        self._begins = envelopes.keys_of(format)
        self._rest = b""
        self._plain_from = self._json_from = self._looked = 0
        self._is_new = True
        self._number = 1
        self._found: list[Line] = []
        self._parts = Parts(self._whole)
        self._pretty: list[bytes] = []
        self._depth = self._size = 0
        self._opened = False
        self._unpack: zlib._Decompress | None = None
        self._decode: codecs.IncrementalDecoder | None = None
        self._first = b""
        self._broken = False

    def lines(self, file: BinaryIO, *, starts: bool = False) -> Iterator[Line]:
        """The lines of ours in a file, as they come; with `starts` status lines, too. Raises OSError."""
        read = getattr(file, "read1", file.read)
        while data := read(PIECE):
            yield from self.feed(data, starts=starts)
        yield from self.end(starts=starts)

    def feed(self, data: bytes, *, starts: bool = False) -> Iterator[Line]:
        """The lines of ours that end in the next bytes of a log."""
        for piece in self._unpacked(data):
            self._take(piece)
            yield from self._taken(starts)

    def end(self, *, starts: bool = False) -> Iterator[Line]:
        """Those that no newline ends; afterwards another file can be fed, whose lines are numbered anew."""
        if len(self._first) == 1:
            self._take(self._first)
        if self._unpack is not None and not self._broken and not self._unpack.eof:
            self.counts.problem(CUT_GZIP)
        if self._rest:
            self._look(ended=True)
        self._parts.end()
        self._end_pretty()
        yield from self._taken(starts)
        self._first, self._unpack, self._decode, self._broken = b"", None, None, False
        self._number, self._is_new, self._opened = 1, True, False

    def _taken(self, starts: bool) -> Iterator[Line]:
        found, self._found = self._found, []
        for line in found:
            if line.fields["event"] == STATUS:
                self.counts.starts += 1
                if starts:
                    yield line
            else:
                self.counts.ours += 1
                yield line

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        """The bytes themselves, or what gzip has made of them: one member or several, in pieces."""
        if len(self._first) < 2:
            self._first, data = (self._first + data)[:2], self._first + data
            if len(self._first) < 2:
                return
            if self._first == b"\x1f\x8b":
                self._unpack = zlib.decompressobj(31)
            elif self._first in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # what a shell of Windows writes
                self._decode = codecs.getincrementaldecoder("utf-16")("replace")
        if self._decode is not None:
            data = self._decode.decode(data).encode("utf-8", "replace")
        if self._unpack is None:
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]
            return
        while not self._broken:
            try:
                piece = self._unpack.decompress(data, PIECE)
            except zlib.error:
                self._broken = True
                self.counts.problem(BAD_GZIP)
                return
            if piece:
                yield piece
            data = self._unpack.unconsumed_tail
            if self._unpack.eof:
                data = self._unpack.unused_data.lstrip(b"\0")  # what fills up the last block of a tape (man 1 gzip)
                if not data:
                    return
                self._unpack = zlib.decompressobj(31)
            elif not data and len(piece) < PIECE:
                return

    def _take(self, data: bytes) -> None:
        start = 0
        while (newline := data.find(b"\n", start)) >= 0:
            self._rest += data[start:newline]
            self._look(ended=True)
            start = newline + 1
        self._rest += data[start:]
        if len(self._rest) - self._looked > PIECE:
            self._look(ended=False)

    def _look(self, *, ended: bool) -> None:
        """Find what is new in the line so far, and forget what nothing can come of."""
        line = self._rest
        if ended:
            self._rest = b""
            if self._is_new:
                self._line(line.removesuffix(b"\r"))
            else:
                self._plain(line, self._plain_from, self._number, ended=True)
                self._strings(line, self._json_from, ended=True, depth=0)
            self.counts.lines += 1
            self._number += 1
            self._plain_from = self._json_from = self._looked = 0
            self._is_new = True
            return
        self._is_new = False
        used = self._plain(line, self._plain_from, self._number, ended=False)
        done = self._strings(line, self._json_from, ended=False, depth=0)
        going_on = envelopes.unfinished(line, self._begins, done)
        if len(line) - going_on > LONGEST_STRING:
            self.counts.problem(envelopes.CUT_STRING)
            going_on = done = len(line)
        cut = min(max(used, len(line) - LONGEST), going_on)
        self._rest = line[cut:]
        self._plain_from, self._json_from = max(used - cut, 0), max(done - cut, 0)
        self._looked = len(self._rest)

    def _line(self, line: bytes) -> None:
        """A line that is there as a whole."""
        if self._format in ("auto", "cri") and (part := envelopes.cri(line)):
            stream, ends, text = part
            self._parts.add("cri", stream, text, self._number, ends=ends)
            return
        if self._indented(line) or not line.strip():
            return
        if self._format in _BY_LINE and not (self._format != "cri" and self._begins.search(line)):
            self.counts.problem(f"a line that is not of {self._format}")
        self._content(line, self._number, "", 0, _time_of(line))

    def _content(self, text: bytes, number: int, envelope: str, depth: int, time: float | None = None) -> None:
        """What of ours a text holds, itself or in envelopes of its own."""
        before = len(self._found)
        audit = audit_record.BEGIN.search(text) if self._format in ("auto", "audit", "journald") else None
        if audit and not self._begins.search(text, 0, audit.start()):  # else it stands in a string, and comes out of it
            record = audit_record.parse(text[audit.start() :], number, time)
            if record:
                self._found.append(record)
                self.counts.kernel += 1
            else:
                self.counts.problem(audit_record.NOT_READ)
        self._plain(text, 0, number, ended=True)
        if len(self._found) == before and _ANYWHERE.search(text):
            self._reordered(text, number)
        if envelope and len(self._found) > before:
            self.counts.envelopes[envelope] = self.counts.envelopes.get(envelope, 0) + len(self._found) - before
        if depth < DEEPEST:
            self._strings(text, 0, ended=True, depth=depth, time=time)

    def _plain(self, text: bytes, start: int, number: int, *, ended: bool) -> int:
        """Add the lines that stand in a text as they were written; until where they go."""
        used = start
        for line, begin, end in reader.candidates(text[start:], number):
            if line:
                self._found.append(line)
            elif ended or start + begin + LONGEST <= len(text):
                self.counts.problem(CUT_LINE)
            else:
                continue
            used = start + end
        return max(used, self._rewritten(text, start, number))

    def _rewritten(self, text: bytes, start: int, number: int) -> int:
        """Lines of ours without the spaces that we write, as tools leave them that parse and write JSON again."""
        for match in _COMPACT.finditer(text, start):
            try:
                value, _ = json.JSONDecoder().raw_decode(text[match.start() :][:LONGEST].decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            start = match.end() if self._add(value, number) else start
        return start

    def _reordered(self, text: bytes, number: int) -> None:
        """Lines of ours whose fields a tool has sorted, or put into an object of its own."""
        if len(text) > MOST_PRETTY or (start := text.find(b"{")) < 0:
            return
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return
        for one in (value, *value.values()):
            if isinstance(one, dict) and one.get("event") in reader.EVENTS:
                self._add({"event": one["event"], **one}, number)

    def _add(self, fields: dict[str, object], number: int) -> bool:
        """Add the line that we would have written of these fields; whether it is one of ours."""
        try:
            said = encode(fields).encode()
        except RecursionError:  # JSON may be nested deeper for who reads it than for who writes it
            return False
        found = [line for line, _, _ in reader.candidates(said, number) if line]
        self._found += found
        return bool(found)

    def _strings(self, text: bytes, start: int, *, ended: bool, depth: int, time: float | None = None) -> int:
        """Add what stands in strings of JSON; until where they go."""
        if self._format in ("plain", "cri", "audit") or not self._begins.search(text, start):
            return start
        number = self._number
        for found in envelopes.strings(text, self._begins, start, ended=ended):
            start = found.end
            if found.problem:
                self.counts.problem(found.problem)
            if found.key == "data":
                for line in found.text.split(b"\n"):
                    self._content(line, number, found.format, depth + 1)
            elif found.key == "log" and depth == 0 and text.startswith(b'{"log":'):
                self._of_docker(text, found)
            elif found.text:
                for line in found.text.split(b"\n"):
                    self._content(line, number, found.format, depth + 1, time)
        return start

    def _of_docker(self, line: bytes, found: Text) -> None:
        ends = found.text.endswith(b"\n")
        self._parts.add("docker", envelopes.stream_of(line), found.text, self._number, ends=ends)

    def _whole(self, text: bytes, number: int, name: str) -> None:
        """Take what a container runtime has written in parts."""
        self._content(text, number, name, 1)

    def _indented(self, line: bytes) -> bool:
        """Collect one of our lines that a tool has spread over several, as `aws logs tail --format json` does."""
        words = line.strip()
        if not self._pretty:
            if self._opened and _INDENTED.match(words):
                self._pretty, self._depth, self._size = [b"{"], 1, 0
            else:
                self._opened = words.endswith(b"{")
                return False
        self._opened = False
        self._pretty.append(words)
        self._size += len(words)
        self._depth += words.endswith((b"{", b"[")) - words.startswith((b"}", b"]"))
        if self._depth <= 0 or self._size > MOST_PRETTY:
            self._end_pretty()
        return True

    def _end_pretty(self) -> None:
        if not self._pretty:
            return
        text, self._pretty = b"".join(self._pretty).decode("utf-8", "replace"), []
        try:
            value, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            value = {}
        if not self._add(value, self._number):
            self.counts.problem(CUT_LINE)


def _time_of(line: bytes) -> float | None:
    """When journald took a line, in seconds since 1970."""
    match = _REALTIME.search(line)
    return int(match[1]) / 1e6 if match else None
