"""The shape of a profile, by the JSON Schema that editors use too (schema.json)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import jsonschema

from sandbox.profile.nearest import nearest
from sandbox.profile.places import Path

ID = "urn:seccomp-bootstrap:profile:"
REMEDY = "see `sandbox path schema`, or point your editor at it"
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


def faults(tree: Any) -> Iterator[tuple[Path, str]]:
    """Where a tree has not the shape of a profile, and what is wrong, with the nearest right word; the worst first."""
    errors = sorted(_validator().iter_errors(tree), key=jsonschema.exceptions.relevance, reverse=True)
    # A misspelled key before the one that is therefore missing.
    for found in sorted(errors, key=lambda one: (len(one.absolute_path), one.validator != "additionalProperties")):
        error = jsonschema.exceptions.best_match([found])
        dotted = ".".join(map(str, error.absolute_path)) or "the document"
        text = error.message if len(error.message) < LONGEST else error.message[:LONGEST] + " ..."
        for stranger in _strangers(error) or [()]:
            yield (*error.absolute_path, *stranger), f"{dotted}: {text}{_near(error, stranger)}"


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


def _strangers(error: jsonschema.ValidationError) -> list[tuple[str, ...]]:
    """The keys that do not belong there, if that is what the error is about."""
    if error.validator != "additionalProperties" or not isinstance(error.instance, Mapping):
        return []
    known = set(_known(error))
    return [(str(key),) for key in error.instance if key not in known]


def _near(error: jsonschema.ValidationError, stranger: tuple[str, ...]) -> str:
    word = stranger[0] if stranger else error.instance
    return nearest(word, map(str, _known(error))) if isinstance(word, str) else ""
