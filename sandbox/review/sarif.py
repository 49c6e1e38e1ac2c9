"""Findings and changes as SARIF 2.1.0, for code scanning: what a reviewer sees beside the line of the profile.

GitHub refuses a whole file for one result without a file or a line, and shows only paths below the checkout. So each
result has both, from a type that cannot lack them.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sandbox import __version__
from sandbox.errors import printable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

Level = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")

WINDOW = 100
MOST = 5000
"""Results; GitHub shows no more of one run, and refuses a run with over 25,000."""


@dataclass(frozen=True)
class AlertRule:
    """A rule of SARIF: `id` never changes its meaning, `help` says what to do, in Markdown."""

    id: str
    short: str
    full: str
    help: str
    level: Level


@dataclass(frozen=True)
class Alert:
    """One finding at a line, from 1. `subject` and `function` tell it from others, whichever line it stands in."""

    rule: str
    level: Level
    message: str
    file: str
    line: int
    column: int
    function: str
    subject: str


def log(rules: Iterable[AlertRule], results: Sequence[Alert], automation: str) -> str:
    """The text of one run with these rules. `automation` names the analysis: by it GitHub closes its alerts alone."""
    known = list(rules)
    index = {rule.id: i for i, rule in enumerate(known)}
    seen: dict[str, int] = {}
    worst = results if len(results) <= MOST else sorted(results, key=lambda one: LEVELS.index(one.level))
    written = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "seccomp-bootstrap",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "rules": [_rule(rule) for rule in known],
                    }
                },
                "automationDetails": {"id": f"{automation}/"},
                "columnKind": "unicodeCodePoints",
                "results": [_result(result, index[result.rule], seen) for result in worst[:MOST]],
            }
        ],
    }
    return json.dumps(written, indent=2).replace("\x7f", "\\u007f") + "\n"


def _rule(rule: AlertRule) -> dict[str, Any]:
    # Without a `security-severity`, which is one for all results of a rule, GitHub shows the level of each result.
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.id.replace("/", "-").split("-")),
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": rule.full},
        "help": {"text": rule.help, "markdown": rule.help},
        "defaultConfiguration": {"level": rule.level},
        "properties": {"tags": ["security", "sandbox"], "precision": "very-high"},
    }


def _result(result: Alert, index: int, seen: dict[str, int]) -> dict[str, Any]:
    """`seen` counts equal results, so that each has a fingerprint of its own."""
    same = "\0".join((result.rule, result.function, result.subject))
    seen[same] = seen.get(same, 0) + 1
    digest = hashlib.sha256(f"{same}\0{seen[same]}".encode(errors="surrogateescape")).hexdigest()
    by_line = _line_hashes(result.file).get(result.line)
    return {
        "ruleId": result.rule,
        "ruleIndex": index,
        "level": result.level,
        "message": {"text": printable(result.message).replace("](", "] (")},  # or a name could be a link
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": uri(result.file)},
                    "region": {"startLine": max(1, result.line), "startColumn": max(1, result.column)},
                }
            }
        ],
        "partialFingerprints": {"sandboxFinding/v1": digest[:32]}
        | ({"primaryLocationLineHash": by_line} if by_line else {}),
    }


@cache
def _line_hashes(file: str) -> Mapping[int, str]:
    """The fingerprint of each line by which GitHub follows a result from run to run; nothing of a file not readable.

    The action that uploads computes it too, and warns where another stands there: a polynomial in 37, modulo 2**64, of
    the 100 UTF-16 units from the line's start that are neither blank nor tab; equal lines are numbered.
    """
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:  # \r\n and \r become \n
            text = stream.read()
    except (OSError, ValueError):
        return {}
    encoded = text.replace(" ", "").replace("\t", "").encode("utf-16-le", "replace")
    units = [*memoryview(encoded).cast("H"), 0xFFFF]
    starts = [0, *(i + 1 for i, unit in enumerate(units[:-1]) if unit == ord("\n"))]
    found: dict[int, str] = {}
    times: dict[int, int] = {}
    for number, start in enumerate(starts, 1):
        value = 0
        for unit in [*units[start : start + WINDOW], *([0] * WINDOW)][:WINDOW]:
            value = (value * 37 + unit) % 2**64
        times[value] = times.get(value, 0) + 1
        found[number] = f"{value:x}:{times[value]}"
    return found


def uri(file: str) -> str:
    """A file's path as a relative URI: below its repository, the working directory, or else its own folder."""
    path = os.path.abspath(file)
    for base in (_repository(path), os.getcwd(), os.path.dirname(path)):
        if base and os.path.commonpath((base, path)) == base:
            return urllib.parse.quote(os.path.relpath(path, base).replace(os.sep, "/"), errors="surrogateescape")
    return urllib.parse.quote(os.path.basename(path))


def _repository(path: str) -> str:
    """The nearest folder above that git keeps its own in; '' for none."""
    folder = os.path.dirname(path)
    while not os.path.exists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return ""
        folder = parent
    return folder
