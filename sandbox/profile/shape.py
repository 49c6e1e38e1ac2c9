"""The shape of a profile, by the JSON Schema that editors use too (schema.json)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import jsonschema

from sandbox.profile.nearest import nearest
from sandbox.profile.places import Path

ID = "urn:seccomp-bootstrap:profile:"
LARGEST = 1 << 20
LONGEST = 200
"""Characters of what the validator says: it quotes what it was given."""


def schema_path() -> str:
    """The JSON Schema file that editors can use."""
    return os.path.join(os.path.dirname(__file__), "schema.json")


def text() -> str:
    """The schema as it is written beside profiles."""
    with open(schema_path(), encoding="utf-8") as file:
        return file.read()


def is_ours(text: str) -> bool:
    """Whether a text is a schema of ours, of whatever version: a file of that name may be another tool's."""
    return f'"$id": "{ID}' in text[:400]


def fault(tree: Any) -> tuple[Path, str] | None:
    """Where a tree has not the shape of a profile, and what is wrong, with the nearest right word."""
    error = jsonschema.exceptions.best_match(_validator().iter_errors(tree))
    if error is None:
        return None
    dotted = ".".join(map(str, error.absolute_path)) or "the document"
    text = error.message if len(error.message) < LONGEST else error.message[:LONGEST] + " ..."
    return (*error.absolute_path, *_stranger(error)), f"{dotted}: {text}{_near(error)}"


@cache
def _validator() -> jsonschema.protocols.Validator:
    return jsonschema.Draft202012Validator(json.loads(text()))


def _known(error: jsonschema.ValidationError) -> Iterable[object]:
    """The words of which one is right."""
    if error.validator == "enum" and isinstance(error.schema, Mapping):
        return [word for word in error.schema["enum"] if isinstance(word, str)]
    if error.validator == "additionalProperties" and isinstance(error.schema, Mapping):
        return [*error.schema.get("properties", {})]
    return ()


def _stranger(error: jsonschema.ValidationError) -> tuple[str, ...]:
    """The key that does not belong there, if that is what the error is about."""
    if error.validator != "additionalProperties" or not isinstance(error.instance, Mapping):
        return ()
    known = set(_known(error))
    return next(((str(key),) for key in error.instance if key not in known), ())


def _near(error: jsonschema.ValidationError) -> str:
    word = next(iter(_stranger(error)), error.instance)
    return nearest(word, map(str, _known(error))) if isinstance(word, str) else ""
