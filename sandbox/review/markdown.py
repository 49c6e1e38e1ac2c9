"""The changes of a profile as Markdown, for the comment of a pull request. Names in it are strangers' text.

    **2 changes widen what thumbnail may do**, the highest risk is high.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sandbox.errors import printable
from sandbox.review.changes import ProfileChange, widest

MOST = 60_000
"""Characters; a comment on GitHub holds 65,536, and what embeds this one needs some itself."""

TITLES = {"widens": "What it may do now", "narrows": "What it may no longer do", "neither": "What changes no right"}

WRITTEN = {ord(character): f"&#{ord(character)};" for character in "&<>\\`*_{}[]()#+!|~@"}
ADDRESS = re.compile(r"\w+://|www\.", re.IGNORECASE)
"""What GitHub makes a link of without being asked to."""


def of_changes(found: Sequence[ProfileChange], name: str) -> str:
    """The changes of the function `name`: a sentence, and a table for each effect, single calls folded away."""
    lines = [*_told(found, name)]
    size = sum(map(len, lines))
    for text in _tables(found):
        size += len(text) + 1
        if size > MOST:
            lines += ["", "More changes than fit here: `sandbox profile diff` shows all."]
            break
        lines.append(text)
    return "\n".join(lines) + "\n"


def _told(found: Sequence[ProfileChange], name: str) -> Iterator[str]:
    widening = [change for change in found if change.effect == "widens"]
    if not found:
        yield f"No difference in what {text(name)} is allowed."
    elif not widening:
        yield f"**Nothing widens** what {text(name)} may do."
    else:
        many = len(widening) > 1
        yield (
            f"**{len(widening)} change{'s' * many} widen{'s' * (not many)} what {text(name)} may do**, "
            f"the highest risk is {widest(found)}."
        )


def _tables(found: Sequence[ProfileChange]) -> Iterator[str]:
    """Whole pieces: what was begun is also ended, whichever of them is the last that fits."""
    for effect, title in TITLES.items():
        chosen = [change for change in found if change.effect == effect]
        plain = [change for change in chosen if change.rule != "call" or change.risk != "low"]
        calls = [change for change in chosen if change not in plain]
        if chosen:
            yield f"\n### {title}\n"
        yield from _table(plain)
        if calls:
            rows = "\n".join(_table(calls))
            title = f"{len(calls)} call{'s' * (len(calls) > 1)} of low risk"
            yield f"\n<details><summary>{title}</summary>\n\n{rows}\n\n</details>"


def _table(chosen: Sequence[ProfileChange]) -> Iterator[str]:
    if chosen:
        yield "| risk | change | where |\n|---|---|---|"
    for change in chosen:
        yield f"| {change.risk} | {change.sign} {text(change.text)} | {text(change.file)}:{change.line} |"


def text(value: str) -> str:
    """A stranger's text as text: nothing of it is a link, a mention, an image, HTML or the end of a cell."""
    shown = printable(value).translate(WRITTEN)
    return ADDRESS.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), shown)
