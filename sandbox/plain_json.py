"""JSON text without the json package, whose import would double the bootstrap's own time and burden the supervisor.

    >>> encode({"event": "sandbox", "enforced": ["filter"], "filters": 2, "request": None})
    '{"event": "sandbox", "enforced": ["filter"], "filters": 2, "request": null}'
    >>> parse('{"event": "sandbox", "filters": 2}')
    {'event': 'sandbox', 'filters': 2}
"""

from __future__ import annotations

# Now and not when a line is written: behind Landlock and the filters no module can be loaded any more.
try:
    from _json import encode_basestring_ascii
except ImportError:
    from json.encoder import py_encode_basestring_ascii as encode_basestring_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def encode(value: object) -> str:
    """One line of JSON, in printable ASCII, for text, numbers, booleans, None, lists, tuples and mappings.

    A number that JSON cannot say (infinity, not-a-number) is null. The text of anything else is taken as a number.
    """
    return _encoded(value).replace("\x7f", "\\u007f")


def _encoded(value: object) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ", ".join([f"{_encoded(key)}: {_encoded(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([_encoded(item) for item in value]) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if value - value == 0 else "null"
    return str(value)


def parse(text: str) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, and for text behind it."""
    try:
        from _json import make_scanner
    except ImportError:
        # Its stub does not name what an interpreter without the C module has instead.
        from json.scanner import py_make_scanner as make_scanner  # type: ignore[attr-defined,no-redef,unused-ignore]
    try:
        value, end = make_scanner(_Context())(text, 0)  # type: ignore[arg-type,unused-ignore]  # what it reads of a decoder
    except (StopIteration, ValueError, RecursionError, SystemError) as error:
        raise ValueError("is no JSON") from error
    if text[end:].strip():
        raise ValueError("has text behind the JSON")
    return value


class _Context:
    """The attributes that json's scanner reads from its decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}

    def parse_constant(self, name: str) -> float:
        return float(name)
