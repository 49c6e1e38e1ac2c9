"""docs/glossary.md: each word is used in the code under the name that it gives; words that were given up stay out."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

import sandbox

ROOT = Path(sandbox.__file__).parent.parent
ROW = re.compile(r"^\| ([a-z ]+) \| ((?:`\w+`(?:, )?)+) \| (.+) \|$", re.MULTILINE)
WORDS = ROW.findall((ROOT / "docs" / "glossary.md").read_text())

GIVEN_UP = {
    "boss": "supervisor",
    "caller": "task",
    "handover": "the page with the listener's number",
    "parting": "the split of the descriptor table",
    "seal": "digest",
    "ticket": "the pointers of the single exec",
    "twin": "policy",
    "workshop": "the build side, or what is not shipped",
}
"""{a word that had a second meaning, or none that a stranger knows: what to say instead}."""


def _names() -> dict[str, str]:
    """{each identifier of the package: one file that uses it}."""
    names: dict[str, str] = {}
    for path in sorted((ROOT / "sandbox").rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME:
                names.setdefault(token.string, str(path.relative_to(ROOT)))
    return names


NAMES = _names()


def _parts(name: str) -> list[str]:
    """The words of an identifier: ListenerPage and listener_page are `listener` and `page`."""
    return re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+", name)


def test_there_are_about_forty_words() -> None:
    """A glossary that grows without end is not read."""
    assert 30 <= len(WORDS) <= 48
    assert len({word for word, _, _ in WORDS}) == len(WORDS)


@pytest.mark.parametrize(("word", "names", "meaning"), WORDS, ids=[word for word, _, _ in WORDS])
def test_each_word_is_used(word: str, names: str, meaning: str) -> None:
    """At least the first name is an identifier of the package, and the meaning is a sentence or two."""
    first, *others = re.findall(r"\w+", names)
    parts = {part.lower() for name in NAMES for part in _parts(name)}
    assert first in NAMES or first.lower() in parts, word
    assert all(other in NAMES for other in others), word
    assert meaning.endswith(".")


@pytest.mark.parametrize("word", GIVEN_UP)
def test_no_name_says_what_was_given_up(word: str) -> None:
    """No identifier of the package is made of a word that has a better one."""
    found = {name: file for name, file in NAMES.items() if word in [part.lower() for part in _parts(name)]}
    assert not found, f"say {GIVEN_UP[word]}"
