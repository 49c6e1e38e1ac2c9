"""The tree of errors: what its docstring says is what its classes are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sandbox import errors
from sandbox.errors import SandboxError

ERROR_TYPE = re.compile(r"^(Runtime|Function)\.[A-Z][a-zA-Z]+$")
"""What the Runtime API accepts as an error type."""


def tree(root: type[SandboxError], depth: int = 0) -> Iterator[tuple[int, type[SandboxError]]]:
    """All classes with their depth, in the order of their definition."""
    yield depth, root
    for child in root.__subclasses__():
        yield from tree(child, depth + 1)


CLASSES = [found for _, found in tree(SandboxError)]


def test_the_docstring_is_the_tree() -> None:
    """Names, depth, exit codes and error types in the docstring are those of the classes, in the same order."""
    pattern = re.compile(r"^    ( *)(\w+) +(\d+)  (\S+)$", re.MULTILINE)
    documented = [
        (len(indent) // 2, name, int(code), type_)
        for indent, name, code, type_ in pattern.findall(errors.__doc__ or "")
    ]
    found = [(depth, cls.__name__, cls.exit_code, cls.error_type) for depth, cls in tree(SandboxError)]
    assert documented == found[1:]
    assert (errors.__doc__ or "").splitlines()[2].split() == ["SandboxError", "exit", "Runtime", "API", "type"]


def test_exit_codes_are_unique_and_free() -> None:
    """Each class has its own exit code, clear of success, shells and Python's own."""
    codes = [cls.exit_code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(3 <= code < 126 for code in codes)


@pytest.mark.parametrize("cls", CLASSES)
def test_error_types_are_the_platforms(cls: type[SandboxError]) -> None:
    """Each class has an error type of its own that the Runtime API accepts, and a docstring."""
    assert ERROR_TYPE.match(cls.error_type)
    assert [other.error_type for other in CLASSES].count(cls.error_type) == 1
    assert cls.__doc__


@pytest.mark.parametrize("cls", CLASSES)
def test_a_message_says_what_where_and_what_to_do(cls: type[SandboxError]) -> None:
    """All parts of an error are in its text, and no empty ones."""
    assert str(cls("broke", where="here", todo="mend it")) == "here: broke\n  what to do: mend it"
    assert str(cls("broke")) == "broke"
    assert cls("broke").args == ("broke",)
