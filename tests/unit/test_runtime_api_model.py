"""The platform's own words: error types, exit sentences, error documents."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sandbox.runtime_api
from sandbox.runtime_api.model import (
    error_answer,
    error_document,
    error_fields,
    exit_text,
    normalise_error_type,
    trailer_answer,
)


@pytest.mark.parametrize(
    ("header", "recorded"),
    [
        ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
        ("Function.Mine", "Function.Mine"),
        ("prefix Runtime.Unanchored7", "prefix Runtime.Unanchored7"),
        ("Function.lower", "Function.Unknown"),
        ("Runtime.X", "Runtime.Unknown"),
        ("ValueError", "Runtime.Unknown"),
        ("", "Runtime.Unknown"),
    ],
)
def test_error_types(header: str, recorded: str) -> None:
    """A type that matches the platform's expression anywhere stays; the rest is unknown."""
    assert normalise_error_type(header) == recorded


@given(st.text())
def test_normalising_twice_changes_nothing(header: str) -> None:
    """What the platform records is itself a valid type."""
    once = normalise_error_type(header)
    assert normalise_error_type(once) == once


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "Runtime exited without providing a reason"),
        (128, "Runtime exited with error: exit status 128"),
        (-6, "Runtime exited with error: signal: aborted"),
        (-9, "Runtime exited with error: signal: killed"),
        (-11, "Runtime exited with error: signal: segmentation fault"),
        (-15, "Runtime exited with error: signal: terminated"),
        (-24, "Runtime exited with error: signal: CPU time limit exceeded"),
        (-29, "Runtime exited with error: signal: I/O possible"),
        (-31, "Runtime exited with error: signal: bad system call"),
        (-34, "Runtime exited with error: signal: signal 34"),
    ],
)
def test_exit_texts(status: int, text: str) -> None:
    """Each end has the platform's sentence."""
    assert exit_text(status) == text


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_error_fields_take_anything(body: bytes) -> None:
    """A body that is no error document has neither type nor message, and raises nothing."""
    assert error_fields(body) == ("", "")


def test_error_fields_of_hostile_documents() -> None:
    """Endless nesting and fields of another kind are no error document."""
    assert error_fields(b"[" * 1_000_000) == ("", "")
    assert error_fields(b'{"errorType": 1, "errorMessage": ["x"]}') == ("", "")


@given(st.text(), st.text(), st.text(min_size=1))
def test_documents_are_read_back(error_type: str, message: str, request_id: str) -> None:
    """A document of the platform says what it was made of."""
    assert error_fields(error_document(error_type, message)) == (error_type, message)
    kind, text = error_fields(error_document(error_type, message, request_id))
    assert (kind, text) == (error_type, f"RequestId: {request_id} Error: {message}")


def test_answers() -> None:
    """The document's type goes before the header's; without one the normalised header stands in."""
    answer = error_answer(b'{"errorType": "A", "errorMessage": "b"}', "Function.Some", ended=1.0)
    assert (answer.error_type, answer.error_message, answer.fault) == ("A", "b", "Function.Some")
    assert error_answer(b"", "odd", ended=1.0).error_type == "Runtime.Unknown"
    streamed = trailer_answer(b"part", "Function.Some", "", ended=1.0)
    assert (streamed.status, streamed.payload, streamed.error_type) == ("error", b"part", "Function.Some")


def test_exports() -> None:
    """The package exports what it names, and names what it exports."""
    public = {name: value for name, value in vars(sandbox.runtime_api).items() if not name.startswith("_")}
    names = {name for name, value in public.items() if not isinstance(value, ModuleType)}
    assert names == set(sandbox.runtime_api.__all__)
