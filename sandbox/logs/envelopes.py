"""What carries lines of ours: the strings of JSON that log services write, and the lines of a container runtime.

JSON is taken by its tokens and not as a document, because an answer of CloudWatch may be one line of a hundred
megabytes, or one object over many lines. So memory is bounded by the longest string, whatever stands around it.

    CloudWatch    `message` of filter-log-events and get-log-events, `value` and `@message` of Insights, and `data` of a
                  subscription (base64 of gzip; Kinesis has the same)
    Docker        `log` of a json-file, cut at 16 KiB: what has no newline at its end goes on in the next line
    journald      `MESSAGE` of journalctl -o json, a string or an array of bytes
    others        `line` of Loki, `textPayload` of Google Cloud, `_raw` of Splunk, `msg` and `body` of OpenTelemetry's
    CRI           `2025-01-31T12:00:00.123456789Z stderr F text`, where P is a part that goes on in the next line
                  (kubernetes/kubelet's log format of the container runtime interface)
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONGEST_STRING = 2 << 20
"""Bytes of one string of JSON. CloudWatch takes events of 1 MiB, and escapes make more of them."""
LONGEST_UNPACKED = 32 << 20
"""Bytes that the data of one subscription may unpack to: the event of a Lambda function has 6 MiB at most."""

KEYS = {
    "cloudwatch": ("message", "@message", "value", "data"), "docker": ("log",), "journald": ("MESSAGE",),
    "json": ("line", "textPayload", "_raw", "msg", "body"),
}  # fmt: skip
"""The keys of JSON below which each format has its text."""
FORMATS = ("auto", "plain", *KEYS, "cri", "audit")
_OWNER = {key: name for name, keys in KEYS.items() for key in keys}
_BODY = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_REST = re.compile(_BODY, re.DOTALL)
_NUMBERS = re.compile(rb"\[([\d,\s]*+)\]")
_NUMBER = re.compile(rb"\d{1,3}")
_STREAM = re.compile(rb'"stream"\s*:\s*"(stdout|stderr)"')
_CRI = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([PF])(?::\S*)? ")
UNFINISHED = re.compile(rb'"(?:' + "|".join(_OWNER).encode() + rb')"\s*:?\s*$|"[@_]?\w{0,12}"?$')
"""A key at the end of a piece, whose value is still to come."""

CUT_STRING, NOT_UNPACKED = "a string that ends nowhere or is too long", "data of a subscription that does not unpack"
NULL_MESSAGE = "a MESSAGE that journald left out (journalctl --all writes it)"


@dataclass(frozen=True)
class Text:
    """What an envelope carries: the text, of which format, and from where to where of the piece it stands.

    `problem` says why there is no text.
    """

    format: str
    key: str
    text: bytes
    start: int
    end: int
    problem: str = ""


def keys_of(name: str) -> re.Pattern[bytes]:
    """Where a value begins that the format has its text in, for `auto` any."""
    keys = [key for own, keys in KEYS.items() if name in ("auto", own) for key in keys]
    return re.compile(rb'"(' + b"|".join(re.escape(key.encode()) for key in keys) + rb')"\s*:\s*(?=["\[n])')


def strings(piece: bytes, begins: re.Pattern[bytes], position: int, *, ended: bool) -> Iterator[Text]:
    """The texts of a line or a piece of it, from a position on. Where the piece has not ended the last one may have no
    end; that one is not among them, and `unfinished` says where it begins.
    """
    while match := begins.search(piece, position):
        key = match[1].decode()
        found = _value(piece, match, key, ended=ended)
        if found is None:
            return
        position = max(found.end, match.end())
        yield found


def unfinished(piece: bytes, begins: re.Pattern[bytes], position: int) -> int:
    """Where the text begins that the next piece goes on with; the length of the piece where there is none."""
    match = begins.search(piece, position)
    if match:
        return match.start()
    half = UNFINISHED.search(piece, max(position, len(piece) - 64))
    return half.start() if half else len(piece)


def _value(piece: bytes, match: re.Match[bytes], key: str, *, ended: bool) -> Text | None:
    start, at, owner = match.start(), match.end(), _OWNER[key]
    if piece[at : at + 1] == b"n":
        null = key == "MESSAGE" and piece[at : at + 4] == b"null"
        return Text(owner, key, b"", start, at + 1, NULL_MESSAGE if null else "")
    if piece[at : at + 1] == b"[":
        array = _NUMBERS.match(piece, at)
        if array and key == "MESSAGE":
            numbers = _NUMBER.findall(array[1])
            return Text(owner, key, bytes(min(int(one), 255) for one in numbers), start, array.end())
        if array is None and not ended and piece[at:].translate(None, b"[0123456789, \t") == b"":
            return None
        return Text(owner, key, b"", start, at + 1)  # of objects, which hold texts of their own
    rest = _REST.match(piece, at + 1)
    end = rest.end() if rest else at + 1
    if piece[end : end + 1] != b'"':
        return Text(owner, key, b"", start, len(piece), CUT_STRING) if ended else None
    body = piece[at + 1 : end]
    if key == "data":
        return _unpacked(body, start, end + 1)
    text = _decoded(body)
    return Text(owner, key, text or b"", start, end + 1, CUT_STRING if text is None else "")


def _decoded(body: bytes) -> bytes | None:
    """The text of a string of JSON, as bytes; what is not UTF-8 stays as it is."""
    if b"\\" not in body:
        return body
    try:
        text = json.loads(f'"{body.decode("utf-8", "surrogateescape")}"', strict=False)
    except ValueError:
        return None
    try:
        return str(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return str(text).encode("utf-8", "replace")


def _unpacked(body: bytes, start: int, end: int) -> Text:
    """The JSON behind `data`; nothing where it is not of gzip, as other services have keys of that name, too."""
    body = body.replace(b"\\/", b"/")
    if not body.startswith(b"H4sI"):  # base64 of gzip's magic number with deflate
        return Text("cloudwatch", "data", b"", start, end)
    stream = zlib.decompressobj(31)
    try:
        text = stream.decompress(base64.b64decode(body, validate=True), LONGEST_UNPACKED)
        whole = stream.eof
    except (binascii.Error, zlib.error):
        text, whole = b"", False
    return Text("cloudwatch", "data", text, start, end, "" if whole else NOT_UNPACKED)


def stream_of(line: bytes) -> bytes:
    """Which stream a line of Docker's is of."""
    match = _STREAM.search(line)
    return match[1] if match else b""


def cri(line: bytes) -> tuple[bytes, bool, bytes] | None:
    """(stream, whether the text ends here, the text) of a line of CRI; None for another."""
    match = _CRI.match(line)
    return (match[1], match[2] == b"F", line[match.end() :]) if match else None


class Parts:
    """Texts that a container runtime has cut, put together again, by stream. No more than LONGEST_STRING of each."""

    def __init__(self, take: Callable[[bytes, int, str], None]) -> None:
        """`take` is called with each whole text, its line's number and its format."""
        self._take = take
        self._held: dict[tuple[str, bytes], tuple[list[bytes], int, int]] = {}

    def add(self, name: str, stream: bytes, text: bytes, number: int, *, ends: bool) -> None:
        """Take the next part."""
        parts, size, _ = self._held.pop((name, stream), ([], 0, 0))
        parts.append(text)
        size += len(text)
        if ends or size > LONGEST_STRING:
            self._take(b"".join(parts), number, name)
        else:
            self._held[name, stream] = parts, size, number

    def end(self) -> None:
        """Nothing more comes."""
        held, self._held = self._held, {}
        for (name, _), (parts, _, number) in held.items():
            self._take(b"".join(parts), number, name)
