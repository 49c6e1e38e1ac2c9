"""Where HTTP/1.1 messages begin and end in a stream of bytes, and the two things that the Runtime API's heads tell.

Pure. Only heads are read: a body may hold anything, also what looks like a head.
"""

from __future__ import annotations

LARGEST_HEAD = 1 << 18
LONGEST_ID = 128
ID_HEADER = b"lambda-runtime-aws-request-id"

_HEAD, _BODY, _SIZE, _TRAILER, _LOST = range(5)


class Responses:
    """The responses of one connection. What cannot be followed is not guessed at: then nothing more is said of it.

    `request` is the id in the head that came last and had one, `finished` how many responses are over.
    """

    __slots__ = ("_buffer", "_chunked", "_left", "_state", "finished", "request")

    def __init__(self) -> None:
        self.request: str | None = None
        self.finished = 0
        self._buffer = bytearray()
        self._left = 0
        self._chunked = False
        self._state = _HEAD

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._state == _BODY and len(data) < self._left:
            self._left -= len(data)
        elif self._state != _LOST:
            self._buffer += data
            while self._step():
                pass

    def _step(self) -> bool:
        """Go on by one part; False when more bytes are needed."""
        buffer = self._buffer
        if self._state == _BODY:
            taken = min(self._left, len(buffer))
            del buffer[:taken]
            self._left -= taken
            if self._left:
                return False
            return self._begin(_SIZE) if self._chunked else self._finish()
        end = b"\r\n\r\n" if self._state == _HEAD else b"\r\n"
        at = buffer.find(end)
        if at < 0:
            return self._lose() if len(buffer) > LARGEST_HEAD else False
        text = bytes(buffer[:at])
        del buffer[: at + len(end)]
        if self._state == _HEAD:
            return self._head(text)
        if self._state == _TRAILER:
            return True if text else self._finish()
        return self._size(text)

    def _head(self, text: bytes) -> bool:
        lines = text.split(b"\r\n")
        words = lines[0].split(b" ")
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            return self._lose()
        fields: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        code = int(words[1])
        found = fields.get(ID_HEADER, b"")
        if found and len(found) <= LONGEST_ID and found.isascii() and found.decode().isprintable():
            self.request = found.decode()
        if code < 200:  # the answer proper follows
            return self._begin(_HEAD)
        if code in (204, 304):
            return self._finish()
        length = fields.get(b"content-length", b"")
        self._chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        if self._chunked:
            return self._begin(_SIZE)
        if not length.isdigit() or len(length) > 18:
            return self._lose()  # it ends with the connection
        self._left = int(length)
        return self._begin(_BODY)

    def _size(self, text: bytes) -> bool:
        digits = text.partition(b";")[0].strip()
        if not 0 < len(digits) <= 15 or digits.strip(b"0123456789abcdefABCDEF"):
            return self._lose()
        size = int(digits, 16)
        self._left = size + 2  # with the line's end behind the data
        return self._begin(_BODY if size else _TRAILER)

    def _begin(self, state: int) -> bool:
        self._state = state
        return True

    def _finish(self) -> bool:
        self.finished += 1
        return self._begin(_HEAD)

    def _lose(self) -> bool:
        self._state = _LOST
        self._buffer.clear()
        return False


def asks_for_next(line: bytes) -> bool:
    """Whether a request line asks for the next invocation."""
    words = line.split(b" ")
    return len(words) > 1 and words[0] == b"GET" and words[1].endswith(b"/invocation/next")


def answers(line: bytes) -> str | None:
    """The id of the request that a request line answers, with a response or an error; None for any other line."""
    words = line.split(b" ")
    parts = words[1].split(b"/") if len(words) > 1 and words[0] == b"POST" else []
    if len(parts) > 3 and parts[-3] == b"invocation" and parts[-1] in (b"response", b"error"):
        return parts[-2].decode("ascii", "replace")
    return None
