"""The findings that a profile ignores, each with a person's reason, and the ignores that are findings themselves.

    ignores:
    - {rule: address, at: "tcp://192.0.2.7:443", because: the vendor publishes no name for its gateway}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sandbox.profile.document import Document
from sandbox.profile.finding import RULES, Finding
from sandbox.profile.model import Ignore
from sandbox.profile.nearest import nearest
from sandbox.profile.places import Path
from sandbox.profile.reasons import is_empty_reason, spoken

LISTS = ("processes", "network", "listen", "read", "write")
"""The sections whose lines are entries."""


def subject_of(path: Path, document: Document) -> str:
    """What a path of a document is about: the entry at its end, or the call."""
    if path[0] == "syscalls":
        return " ".join(str(part) for part in path[2:] if part != "classes") or str(path[1])
    if isinstance(path[-1], int):
        section = str(path[-2])
        if section in LISTS:
            return document.entries(section)[path[-1]]
        line = document.tree[section][path[-1]]
        return str(line if isinstance(line, str) else line.get("call") or line.get("syscall") or section)
    if path[0] == "grants" and isinstance(path[1], int):
        return str(document.tree["grants"][path[1]]["syscall"])
    return str(path[-1])


def with_ignores(found: Iterable[Finding], document: Document) -> Iterator[Finding]:
    """The findings with the reasons for which the profile ignores some, and a finding for each ignore in vain."""
    known = [
        Ignore(line["rule"], line.get("at", ""), line.get("because", ""))
        for line in document.tree.get("ignores", ())
    ]
    used = set[Ignore]()
    for finding in found:
        those = [one for one in known if one.rule == finding.rule and one.at in ("", finding.subject)]
        used.update(those)
        reasons = [one.because for one in those if not is_empty_reason(one.because) and spoken([one.because])]
        ignored = RULES[finding.rule].can_be_ignored and reasons
        yield replace(finding, ignored=reasons[0]) if ignored else finding
    for i, one in enumerate(known):
        place, where = document.place(("ignores", i)), f" at {one.at}" if one.at else ""
        if one.rule not in RULES:
            near = nearest(one.rule, RULES)
            yield Finding(
                "error", document.source, *place, f"{one.rule!r} is not a rule of lint{near}",
                "write one that `sandbox profile lint --format json` names", "unused-ignore", one.rule,
            )  # fmt: skip
        elif not RULES[one.rule].can_be_ignored:
            yield Finding(
                "error", document.source, *place, f"{one.rule} cannot be ignored", "mend what it names",
                "unused-ignore", one.rule,
            )  # fmt: skip
        elif one not in used:
            yield Finding(
                "warning", document.source, *place, f"nothing to ignore: no finding of {one.rule}{where}",
                "remove the line", "unused-ignore", one.rule,
            )  # fmt: skip
        elif is_empty_reason(one.because) or not spoken([one.because]):
            yield Finding(
                "error", document.source, *place, f"{one.rule}{where} is ignored without a reason in a person's words",
                "write under `because` why it does not matter here", "ignore-without-reason", one.rule,
            )  # fmt: skip
