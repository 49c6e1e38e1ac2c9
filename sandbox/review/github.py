"""Findings as workflow commands, which GitHub shows beside the line, without uploading anything."""

from __future__ import annotations

from sandbox.errors import printable
from sandbox.profile.finding import RULES, Finding

LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def command(finding: Finding) -> str:
    """`::warning file=profiles/a.yaml,line=5,col=24,title=...::message`, with nothing in it that ends or begins one."""
    properties = {
        "file": finding.file, "line": str(finding.line), "col": str(finding.column),
        "title": f"{RULES[finding.rule].title} ({finding.rule})",
    }  # fmt: skip
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{LEVELS[finding.severity]} {listed}::{_data(f'{finding.message}; what to do: {finding.todo}')}"


def _data(text: str) -> str:
    return printable(text).replace("%", "%25")  # line breaks are written out already


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
