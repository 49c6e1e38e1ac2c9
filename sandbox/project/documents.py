"""Templates as plain values: YAML with CloudFormation's tags, or JSON, whatever a stranger put into it.

    Resources: {F: {Properties: {Handler: !Sub "${Name}.handler"}}}
    -> Mapping with `.line`; the handler is Intrinsic("Sub", "${Name}.handler")

Every scalar is text. Anchors are followed, once each, so that no small text becomes a large one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from sandbox.errors import UsageError

DEEPEST = 60
"""Levels; CloudFormation's own templates have fewer than twenty."""
MOST = 100_000
"""Values of one document, those that merge keys copy included."""


class Intrinsic(NamedTuple):
    """A value that only a deployment knows: `Ref`, `Sub`, `GetAtt`, `ImportValue` ..., with what it is made of."""

    name: str
    value: object


class Table(dict[str, Any]):
    """A mapping with the line that it begins in, from 1; 0 where that is not known (JSON)."""

    line = 0


def parse(text: str, source: str) -> object:
    """The values of a text: Table, list, str or Intrinsic. Raises UsageError with file, line and column."""
    return _json(text, source) if source.endswith(".json") else _yaml(text, source)


def table(value: object, *keys: str) -> Table:
    """The mapping below these keys; an empty one where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Table) else None
    return value if isinstance(value, Table) else Table()


def _json(text: str, source: str) -> object:
    try:
        return _from_json(json.loads(text), 0)
    except json.JSONDecodeError as error:
        where = f"{source}:{error.lineno}:{error.colno}"
        raise UsageError(f"is not JSON: {error.msg}", where=where, todo="correct it, or build it again") from error
    except (RecursionError, ValueError) as error:
        raise UsageError("is nested too deeply, or holds what is not a value", where=source, todo=REMEDY) from error


REMEDY = "remove it from the folder, or give the folder of the function itself"


def _from_json(value: object, depth: int) -> object:
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        if len(value) == 1 and (name := next(iter(value))) and (name == "Ref" or name.startswith("Fn::")):
            return Intrinsic(name.removeprefix("Fn::"), _from_json(value[name], depth + 1))
        return Table({key: _from_json(inner, depth + 1) for key, inner in value.items()})
    if isinstance(value, list):
        return [_from_json(inner, depth + 1) for inner in value]
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


class _Composer(yaml.SafeLoader):
    """Composes nodes no deeper than a template has them: libyaml's tree is walked by recursion."""

    depth = count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth >= DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        self.count += 1
        if self.count > MOST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"holds more than {MOST} values", problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _yaml(text: str, source: str) -> object:
    try:
        loader = _Composer(text)
        try:
            node = loader.get_single_node()
            return _Walk(source).value(node) if node else Table()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        what = " ".join(filter(None, (error.context, error.problem)))
        raise UsageError(f"is not a template: {what}", where=where, todo="correct the line") from error
    except yaml.YAMLError as error:
        raise UsageError("is not YAML: it holds a character that YAML forbids", where=source, todo=REMEDY) from error


class _Walk:
    """From nodes to values, each node once: an alias is the same object again, also one that holds itself."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.known: dict[int, object] = {}
        self.count = 0

    def value(self, node: yaml.Node) -> object:
        if id(node) in self.known:
            return self.known[id(node)]
        self._spend(node, 1)
        if node.tag.startswith("!"):
            # An intrinsic that holds itself by an alias is opaque inside.
            self.known[id(node)] = Intrinsic(node.tag.lstrip("!"), "")
            found: object = Intrinsic(node.tag.lstrip("!"), self._content(node))
        else:
            found = self._content(node)
        self.known[id(node)] = found
        return found

    def _content(self, node: yaml.Node) -> object:
        if isinstance(node, yaml.MappingNode):
            return self._table(node)
        if isinstance(node, yaml.SequenceNode):
            items: list[object] = []
            if not node.tag.startswith("!"):
                self.known[id(node)] = items
            items.extend(self.value(inner) for inner in node.value)
            return items
        return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)

    def _table(self, node: yaml.MappingNode) -> object:
        found = Table()
        found.line = node.start_mark.line + 1
        if not node.tag.startswith("!"):
            self.known[id(node)] = found
        merged: list[Table] = []
        for key, inner in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            value = self.value(inner)
            if key.tag == "tag:yaml.org,2002:merge":
                merged += [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Table)]
            elif name:
                found[name] = value
        for other in merged:
            self._spend(node, len(other))
            for name, value in [*other.items()]:
                found.setdefault(name, value)
        if len(found) == 1 and (name := next(iter(found))) and (name == "Ref" or name.startswith("Fn::")):
            return Intrinsic(name.removeprefix("Fn::"), found[name])
        return found

    def _spend(self, node: yaml.Node, count: int) -> None:
        self.count += count
        if self.count > MOST:
            where = f"{self.source}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
            raise UsageError(f"holds more than {MOST} values", where=where, todo=REMEDY)


class Resolver:
    """What a template itself says of its variables: defaults of parameters, by name."""

    def __init__(self, defaults: Table) -> None:
        self.defaults = {name: body["Default"] for name, body in defaults.items() if _has_default(body)}

    def text(self, value: object) -> str | None:
        """The value as text; None where only a deployment knows it."""
        if isinstance(value, str):
            return value
        if isinstance(value, Intrinsic) and value.name == "Ref" and isinstance(value.value, str):
            return self.defaults.get(value.value)
        if isinstance(value, Intrinsic) and value.name == "Sub" and isinstance(value.value, str):
            return self._substituted(value.value)
        return None

    def _substituted(self, text: str) -> str | None:
        parts: list[str] = []
        for part in _parts(text):
            known = self.defaults.get(part[2:-1]) if part.startswith("${") else part
            if known is None:
                return None
            parts.append(known)
        return "".join(parts)


def _has_default(body: object) -> bool:
    return isinstance(body, Table) and isinstance(body.get("Default"), str)


def _parts(text: str) -> Iterator[str]:
    """Literal pieces and `${names}`, in order."""
    while text:
        before, sign, rest = text.partition("${")
        if before:
            yield before
        name, end, text = rest.partition("}")
        if sign:
            yield f"${{{name}}}" if end else sign + name
