"""Text of strangers made safe to show: no control character, no escape sequence, no direction mark gets through."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything that does not show as itself written as \\xNN or \\uNNNN."""
    return text if text.isascii() and text.isprintable() else "".join([_shown(character) for character in text])


def quoted(text: str) -> str:
    """The text in double quotes; quotes and backslashes inside are escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


def quote(data: bytes) -> str:
    """Bytes in double quotes, as UTF-8 where they are that."""
    return quoted(data.decode("utf-8", "surrogateescape"))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
