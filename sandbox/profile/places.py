"""YAML text as plain values with the place of each, for errors that point at a line and column.

A profile is data that strangers send in reviews: aliases, tags and deep nesting, of which YAML can make bombs, are
refused as they are met, before anything is built from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from sandbox.errors import ProfileError

Path = tuple[str | int, ...]
Place = tuple[int, int]

LARGEST = 2**53
"""What every reader of YAML and JSON can hold exactly."""

SHOWN = 100
"""Characters of a line that an error shows."""

DEEPEST = 12
"""Levels; a profile has at most seven."""


def compose(data: bytes | str, source: str) -> tuple[Any, Mapping[Path, Place]]:
    """The values of a YAML text, and (line, column) of each path into them, counted from 1.

    Raises ProfileError with `source:line:column` for anything else than one document of mappings with text keys,
    lists and scalars.
    """
    text = data if isinstance(data, str) else _decode(data, source)
    places: dict[Path, Place] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise _Refused("is empty", (1, 1), "`sandbox learn` makes a profile")
            return _Walk(loader, places).value(node, ()), places
        finally:
            loader.dispose()
    except _Refused as error:
        raise ProfileError(error.what, where=_at(source, error.place), todo=error.todo) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ProfileError(f"is not YAML: {what}", where=_at(source, place), todo="correct the line") from error
    except yaml.reader.ReaderError as error:
        raise ProfileError(
            f"is not YAML: the character {_named(error.character)} is not allowed",
            where=_at(source, _place_of(text, error.position)),
            todo="remove it, or write it as an escape in double quotes",
        ) from error


def excerpt(text: str, place: Place) -> str:
    """The line of a place and a mark below its column, cut to what a terminal shows; '' where there is no such line."""
    line, column = place
    lines = text.split("\n", line)
    if line > len(lines) or not lines[line - 1].strip():
        return ""
    shown = lines[line - 1].rstrip("\r")
    start = max(0, column - 1 - SHOWN // 2) if len(shown) > SHOWN else 0
    # What does not show as itself would move the mark.
    cut = "".join(one if one.isprintable() else "?" for one in shown[start : start + SHOWN])
    return f"  {line} | {cut}\n  {' ' * len(str(line))} | {' ' * (column - 1 - start)}^"


def _at(source: str, place: Place) -> str:
    return f"{source}:{place[0]}:{place[1]}"


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        raise ProfileError(
            f"is not UTF-8: byte {data[error.start]:#04x}",
            where=_at(source, _place_of(before, len(before))),
            todo="save it as UTF-8 text",
        ) from error


def _place_of(text: str, position: int) -> Place:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _named(character: object) -> str:
    return f"U+{character if isinstance(character, int) else ord(str(character)[:1] or '?'):04X}"


class _Refused(Exception):
    def __init__(self, what: str, place: Place, todo: str) -> None:
        self.what, self.place, self.todo = what, place, todo
        super().__init__(what)


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what makes a text mean more than it shows, at the event where it begins."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _Refused("an anchor or alias", place, "write the value out where it is meant")
        if event.tag is not None:
            raise _Refused(f"the tag {event.tag!r}", place, "remove it; put text in quotes")
        if self.depth >= DEEPEST:
            raise _Refused("nested too deeply", place, "a profile has at most seven levels")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Walk:
    """From nodes to values, noting places on the way."""

    def __init__(self, loader: _Loader, places: dict[Path, Place]) -> None:
        self.loader = loader
        self.places = places

    def value(self, node: yaml.Node, path: Path) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.places.setdefault(path, place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = self._scalar(key_node, place) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise _Refused("a key that is not text", place, "put it in quotes")
            if key in found:
                raise _Refused(f"{key!r} stands twice", place, "merge the two")
            self.places[(*path, key)] = place
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        try:
            value: object = self.loader.construct_object(node, deep=True)
        except (ValueError, OverflowError) as error:
            # A date that no calendar has, a number of thousands of digits.
            raise _Refused(f"not a value: {str(error)[:120]}", place, "correct it, or put it in quotes") from error
        if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
            raise _Refused("a number out of range", place, f"numbers lie between -{LARGEST} and {LARGEST}")
        return value
