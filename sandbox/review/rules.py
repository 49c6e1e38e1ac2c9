"""The rules of SARIF: what kinds of changes and findings there are, with an id that never changes its meaning.

What GitHub shows of an alert is its rule's text, so that each says what it means and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sandbox.profile.finding import RULES, Finding, Severity
from sandbox.profile.risk import Risk
from sandbox.review.changes import ProfileChange
from sandbox.review.sarif import Alert, AlertRule, Level, uri

LEVELS: Mapping[Risk, Level] = {"high": "error", "medium": "warning", "low": "note"}

OF_SEVERITIES: Mapping[Severity, Level] = {"error": "error", "warning": "warning", "info": "note"}

OF_CHANGES: Mapping[str, tuple[str, str]] = {
    "client": ("The function speaks the Runtime API", "It gets what every client of the Runtime API needs."),
    "ignore": ("Lint ignores another finding", "A reviewer no longer sees the finding: read its reason."),
    "promise": ("A phase needs a new promise", "Calls of one purpose that the phase did not make before."),
    "processes": ("Another program may be started", "A program, or a content of one, that was not listed."),
    "network": ("Another destination", "The function may connect or send to a place that was not listed."),
    "listen": ("Listens at another address", "Others may connect or send to the function there."),
    "read": ("Reads other files", "A pattern of paths to read that no older pattern covers."),
    "write": ("Writes other files", "A pattern of paths to write that no older pattern covers."),
    "user": ("A library uses what others used", "A library connects, listens, starts or writes as only others did."),
    "grant": ("Grants a hard-denied call", "A person lifts the hard deny for a call of this function."),
    "tolerated": ("Tolerates a refused call", "A hard-denied call no longer ends the function; it stays refused."),
    "anomaly": ("Answers anomalies less strictly", "What a detector suspects is answered by less than before."),
    "setting": ("Applies the profile less strictly", "A later end of audit, a laxer response, or names kept longer."),
    "call": ("Another system call", "A call, with its argument class, that a phase may make now."),
}

ASK = (
    "Ask why the function needs this now: for a feature of this change, or for a library that was updated with it? "
    "If it is needed, say why in the line's `because` and approve; if not, remove the line and compile again."
)


def of_changes() -> list[AlertRule]:
    """The rules of what widens a profile."""
    return [
        AlertRule(f"widening/{name}", short, full, f"{full} {ASK}", "warning")
        for name, (short, full) in OF_CHANGES.items()
    ]


def widenings(found: Iterable[ProfileChange], function: str) -> list[Alert]:
    """What widens, as results; what a profile no longer allows is nothing to alert of."""
    return [
        Alert(
            f"widening/{change.rule}", LEVELS[change.risk], f"{change.text}. Risk: {change.risk}.",
            change.file, change.line, change.column, function, f"{change.section}\0{change.subject}",
        )
        for change in found if change.effect == "widens"
    ]  # fmt: skip


def of_lint() -> list[AlertRule]:
    """The rules of lint."""
    return [
        AlertRule(f"lint/{name}", rule.title, f"{rule.title}. {rule.why}", rule.why, "warning")
        for name, rule in RULES.items()
    ]


def findings(found: Iterable[Finding]) -> list[Alert]:
    """Findings as results, without those that a profile ignores: GitHub would show them as open."""
    return [
        Alert(
            f"lint/{finding.rule}", OF_SEVERITIES[finding.severity], f"{finding.message}; what to do: {finding.todo}",
            finding.file, finding.line, finding.column, uri(finding.file), finding.subject,
        )
        for finding in found if not finding.ignored
    ]  # fmt: skip
