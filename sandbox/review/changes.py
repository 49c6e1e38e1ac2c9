"""The changes between two versions of a profile as one list, each with its section, effect, risk and line.

    + syscalls.invoke: execve, exec, runs another program (learned from a.json only)   high   profiles/a.yaml:31:5

Every view of a comparison (text, Markdown, SARIF, JSON, the report page) shows this list; none compares by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sandbox.behaviour.call import Call
from sandbox.profile import base, diff, risk
from sandbox.profile.document import Document
from sandbox.profile.libraries import UserChange
from sandbox.profile.model import Ignore
from sandbox.profile.places import Path
from sandbox.profile.risk import RISKS, Risk

Effect = Literal["widens", "narrows", "neither"]
Rule = Literal[
    "client", "variable", "ignore", "promise", "processes", "network", "listen", "read", "write", "user", "grant",
    "tolerated", "anomaly", "setting", "call",
]  # fmt: skip

NOWHERE = -1
"""In a path, the position of what a list does not hold: its place is that of the list."""


@dataclass(frozen=True)
class ProfileChange:
    """One difference of NEW to OLD.

    `section` is spelled as in the profile (`syscalls.invoke`, `files.write`), `subject` is the entry itself, `text` the
    line without its sign. `line` and `column` count from 1 in `file`, the new profile; what went has those of its
    section. `old_line` is its line in the old profile, 0 for what was not there. `risk` is that of what came or went.
    """

    rule: Rule
    sign: diff.Sign
    section: str
    subject: str
    text: str
    risk: Risk
    file: str
    line: int
    column: int
    old_line: int

    @property
    def effect(self) -> Effect:
        """What it does to what the function may do."""
        return "neither" if self.rule in ("variable", "ignore") else "widens" if self.sign == "+" else "narrows"


def changes(old: Document, new: Document) -> tuple[ProfileChange, ...]:
    """All changes, in the order of a review: what is asked of people first, single calls last."""
    compared = diff.diff(old.profile, new.profile)
    return tuple(_changes(compared, old, new))


def widest(found: Iterable[ProfileChange]) -> Risk | None:
    """The highest risk of what widens; None where nothing does."""
    risks = [change.risk for change in found if change.effect == "widens"]
    return max(risks, key=RISKS.index, default=None)


def _changes(compared: diff.Diff, old: Document, new: Document) -> Iterator[ProfileChange]:
    if compared.client:
        path: Path = ("function", "runtime-api")
        yield _change("client", "function", "runtime-api", diff.CLIENT, compared.client, "low", path, path, old, new)
    for change in compared.changes:
        yield _of(change, old, new)


def _of(change: diff.Change, old: Document, new: Document) -> ProfileChange:
    text = diff.text_of(change)

    def made(rule: Rule, section: str, subject: str, how: Risk, before: Path, after: Path) -> ProfileChange:
        return _change(rule, section, subject, text, change.sign, how, before, after, old, new)

    if isinstance(change, diff.VariableChange):
        path: Path = ("function", "environment")
        there = _position(change.name, old.tree.get("function", {}).get("environment", ()))
        here = _position(change.name, new.tree.get("function", {}).get("environment", ()))
        return made("variable", "function.environment", change.name, "low", (*path, *there), (*path, *here))
    if isinstance(change, diff.IgnoreChange):
        before, after = (_path_of_ignore(change.ignore, one) for one in (old, new))
        return made("ignore", "ignores", change.ignore.rule, "low", before, after)
    if isinstance(change, diff.PromiseChange):
        there, here = (_position(change.name, one.tree["promises"]) for one in (old, new))
        how: Risk = risk.of_promise(change.name)
        return made("promise", "promises", change.name, how, ("promises", *there), ("promises", *here))
    if isinstance(change, diff.PlaceChange):
        section = spelled(change.section)
        entry = change.place
        if change.section == "processes":
            entry = entry.partition(diff.CONTENT)[0].partition(diff.INTERPRETED)[0]
        before, after = (_path_of(change.section, entry, one) for one in (old, new))
        return made(change.section, section, change.place, risk.of_entry(section), before, after)
    if isinstance(change, UserChange):
        before, after = (_path_of_user(change, one) for one in (old, new))
        return made("user", spelled(change.section), change.entry, "medium", before, after)
    if isinstance(change, diff.GrantChange):
        before, after = (_path_of_grant(change, one) for one in (old, new))
        subject = " ".join((change.grant.syscall, *sorted(change.grant.classes)))
        return made("grant", "grants", subject, "high", before, after)
    if isinstance(change, diff.ToleratedChange):
        before, after = (_path_of_tolerated(change, one) for one in (old, new))
        denied = base.denial(change.entry.call)
        how = "medium" if denied and denied.response == "terminate" else "low"
        return made("tolerated", "tolerates", str(change.entry.call), how, before, after)
    if isinstance(change, diff.AnomalyChange):
        path = ("on-anomaly", change.detector)
        return made("anomaly", "on-anomaly", change.detector, "medium", path, path)
    if isinstance(change, diff.SettingChange):
        call = Call.parse(change.name)
        path = ("responses", change.name) if change.section == "responses" else tuple(change.section.split("."))
        how = "high" if change.section == "audit-until" else "low" if not change.name else risk.of_call(call)
        return made("setting", change.section, change.name or change.section, how, path, path)
    use = change.use
    path = ("syscalls", use.phase, use.syscall, *(("classes", use.arg_class) if use.arg_class else ()))
    return made("call", f"syscalls.{use.phase}", str(use.call), risk.of_call(use.call), path, path)


def _change(
    rule: Rule, section: str, subject: str, text: str, sign: diff.Sign, how: Risk, before: Path, after: Path,
    old: Document, new: Document,
) -> ProfileChange:  # fmt: skip
    line, column = new.place(after)
    old_line, _ = old.places.get(before, (0, 0))
    return ProfileChange(rule, sign, section, subject, text, how, new.source, line, column, old_line)


def spelled(section: str) -> str:
    """The section as it stands in the profile: `files.read` of `read`."""
    return f"files.{section}" if section in ("read", "write") else section


def _position(entry: object, entries: Sequence[object]) -> Path:
    return (entries.index(entry) if entry in entries else NOWHERE,)


def _path_of_ignore(ignore: Ignore, document: Document) -> Path:
    lines = document.tree.get("ignores", ())
    texts = [Ignore(line["rule"], line.get("at", ""), line.get("because", "")) for line in lines]
    return ("ignores", *_position(ignore, texts))


def _path_of(section: str, entry: str, document: Document) -> Path:
    path: Path = ("files", section) if section in ("read", "write") else (section,)
    return (*path, *_position(entry, document.entries(section)))


def _path_of_user(change: UserChange, document: Document) -> Path:
    if change.section != "syscalls":
        return _path_of(change.section, change.entry, document)
    call, _, phase = change.entry.rpartition(" in ")
    syscall, _, arg_class = call.partition(" ")
    return ("syscalls", phase, syscall, *(("classes", arg_class) if arg_class else ()))


def _path_of_grant(change: diff.GrantChange, document: Document) -> Path:
    grant = change.grant
    for i, line in enumerate(document.tree.get("grants", ())):
        if (line["syscall"], frozenset(line.get("classes", ()))) == (grant.syscall, grant.classes):
            return ("grants", i)
    return ("grants", NOWHERE)


def _path_of_tolerated(change: diff.ToleratedChange, document: Document) -> Path:
    entry = change.entry
    for i, line in enumerate(document.tree.get("tolerates", ())):
        if (line["call"], line["phase"], line["at"]) == (str(entry.call), entry.phase, entry.at):
            return ("tolerates", i)
    return ("tolerates", NOWHERE)
