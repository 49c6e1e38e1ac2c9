"""A report as Markdown, for the comment of a pull request: what a reviewer must see, and the rest folded away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from sandbox.profile.libraries import VERBS
from sandbox.report.contents import Contents
from sandbox.report.surface import RISKS, STANDINGS
from sandbox.report.tree import short
from sandbox.report.words import LOOKED_UP
from sandbox.review import markdown
from sandbox.review.changes import ProfileChange

FEW, MANY = 20, 100
"""Rows of a table, and lines of a list that is folded away; the page has the others."""
ROOM = 2000
"""Characters that are left for the last line and for whatever embeds this one."""


def written(contents: Contents) -> str:
    """The comment, of at most markdown.MOST characters. It needs no extra."""
    lines: list[str] = []
    size = 0
    for piece in _pieces(contents):
        size += len(piece) + 1
        if size > markdown.MOST - ROOM:
            lines.append("More than fits here: `sandbox report` writes the whole page.")
            break
        lines.append(piece)
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return markdown.text(short(value))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """`numbers` columns, the last ones, are aligned as numbers."""
    rule = ["---"] * (len(titles) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, rule, *rows)) + "\n"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"


def _pieces(contents: Contents) -> Iterator[str]:
    """From what matters most on; each is whole by itself."""
    profile, surface = contents.profile, contents.surface
    yield f"## {_text(profile.function.name)}: sandbox report\n"
    yield _table(("", ""), _glance(contents), numbers=1)
    yield "\n".join(f"- **{verb}** {_text(rest)}" for verb, rest in contents.sentences) + "\n"
    if contents.changes is not None:
        yield from _changes(contents.ranked, profile.function.name)
    if contents.log is not None:
        yield from _log(contents)
    reached = (
        ("connects to", [entry for entry in profile.network if not entry.startswith(LOOKED_UP)]),
        ("looks up", [entry for entry in profile.network if entry.startswith(LOOKED_UP)]),
        ("listens on", profile.listen), ("starts", profile.processes), ("writes", profile.writes),
        ("reads", profile.reads),
    )  # fmt: skip
    places = [(verb, entry) for verb, entries in reached for entry in sorted(entries)]
    if places:
        reach = "\n".join(f"- {verb} {_text(place)}" for verb, place in places[:MANY]) + "\n"
        more = f"- and {len(places) - MANY:,} more\n" if len(places) > MANY else ""
        yield _folded(f"Where it reaches: {len(places)} entries", reach + more)
    counts = ([risk, *(str(surface.count(risk, standing)) for standing in STANDINGS)] for risk in RISKS)
    yield f"### Attack surface\n\n{_table(('risk', *STANDINGS), counts, numbers=len(STANDINGS))}"
    rows = [
        (f"`{call.name}`", call.standing, _text(", ".join(call.classes)), _text(call.because))
        for call in surface.open_high
    ]
    if rows:
        table = _table(("call", "stands", "with", "because"), rows)
        yield _folded(f"{len(rows)} call{'s' * (len(rows) > 1)} of high risk that can be made", table)
    serious = [one for one in contents.findings if one.severity != "info" and not one.ignored]
    if serious:
        found = [(one.severity, str(one.line), _text(one.message), _text(one.todo)) for one in serious[:FEW]]
        yield f"### Findings\n\n{_table(('', 'line', 'finding', 'what to do'), found)}"
    users = [
        (_text(user.name), _text("; ".join(f"{VERBS[section]} {entry}" for section, entry in user.uses[:FEW])))
        for user in contents.users if user.uses
    ]  # fmt: skip
    if users:
        yield _folded("Who needs what", _table(("library", "needs"), users[:MANY]))


def _glance(contents: Contents) -> Iterator[tuple[str, str]]:
    profile, surface = contents.profile, contents.surface
    open_ = len(surface.calls) - surface.standing("refused")
    listens = f", and {len(profile.listen)} to listen on" if profile.listen else ""
    yield "system calls that can be made", f"{open_} of {len(surface.calls)}"
    yield "those of high risk", f"{len(surface.open_high)} of {len(surface.of('high'))}"
    yield "destinations", f"{len(profile.network)}{listens}"
    yield "programs it starts", contents.programs
    if contents.worst:
        worst = contents.worst.estimate
        yield f"may need something unseen, in {worst.phase}", f"at most {worst.bound:.1%}"
    if contents.log is not None:
        known = not contents.log.nothing_ours
        yield "violations in the log", f"{contents.log.violations:,}" if known else "not known"


def _changes(found: Sequence[ProfileChange], name: str) -> Iterator[str]:
    """Those of the highest risk, where they are many; what is left out is counted."""
    shown = [replace(change, text=short(change.text)) for change in found]
    if len(shown) > MANY:
        shown = shown[:MANY]
        yield f"{len(found):,} changes; these are the {MANY} that open the most.\n"
    yield markdown.of_changes(shown, name)


def _log(contents: Contents) -> Iterator[str]:
    log = contents.log
    assert log is not None
    rows = [
        (f"{kind.count:,}", _text(f"{kind.syscall} {kind.arg_class}".strip()), _text(kind.risk or "not rated"),
         _text(kind.target or "-"), _text(kind.allow or "nothing can"))
        for kind in log.kinds[:FEW]
    ]  # fmt: skip
    yield f"### Violations\n\n{_text(log.verdict)}\n"
    if rows:
        yield _table(("count", "call", "risk", "target", "to allow it"), rows)
    if len(log.kinds) > FEW:
        yield f"and {len(log.kinds) - FEW:,} more kinds\n"
