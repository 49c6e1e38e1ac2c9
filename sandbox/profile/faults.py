"""Everything for which a file is refused as a profile, so that one run of lint is enough to mend it."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.errors import ProfileError
from sandbox.profile import shape
from sandbox.profile.document import Document, load, parse
from sandbox.profile.model import Profile, ProfiledFunction
from sandbox.profile.places import compose

MOST = 100
"""Faults of one profile that are told."""


def examined(path: str) -> tuple[Document | None, list[ProfileError]]:
    """A profile, or everything for which `document.read` refuses the file, the one that it raises first."""
    try:
        data = load(path)
        return parse(data, path), []
    except ProfileError as error:
        return None, [error, *(_others(data, path) if error.todo == shape.REMEDY else ())]


def _others(data: bytes, path: str) -> Iterator[ProfileError]:
    """The faults of its shape behind the first."""
    tree, places = compose(data, path)
    document = Document(Profile(ProfiledFunction("")), path, places, {}, data.decode("utf-8-sig"))
    for at, what in [*shape.faults(tree)][1:MOST]:
        yield document.error(at, what, shape.REMEDY)
