"""JSON text without the json module, whose import would double the bootstrap's own time and burden the supervisor.

    >>> encode({"event": "sandbox", "enforced": ["filter"], "filters": 2, "request": None})
    '{"event": "sandbox", "enforced": ["filter"], "filters": 2, "request": null}'
"""

from __future__ import annotations


def encode(value: object) -> str:
    """One line of JSON, in ASCII, for text, numbers, booleans, None, lists, tuples and mappings.

    A number that JSON cannot say (infinity, not-a-number) is null. The text of anything else is taken as a number.
    """
    if isinstance(value, str):
        from _json import encode_basestring_ascii

        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ", ".join([f"{encode(key)}: {encode(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join([encode(item) for item in value]) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if value - value == 0 else "null"
    return str(value)
