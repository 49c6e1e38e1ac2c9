"""`sandbox probe`: attack attempts under a profile, each in a fresh process, one row each."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from sandbox.bundle import Policy
from sandbox.cli import ending
from sandbox.cli.arguments import ProfileFile
from sandbox.cli.environment import AwsCredentials, Env, EnvFile, On, chosen
from sandbox.cli.output import json_line, on_terminal, progress, say
from sandbox.cli.sources import profile_of
from sandbox.confine import single_exec
from sandbox.confine.install import install
from sandbox.kernel import tables
from sandbox.learn import platforms
from sandbox.policy.build import build
from sandbox.policy.rules import Rule, Rules
from sandbox.probe import ATTEMPTS, Attempt, Result, run_attempt
from sandbox.profile import document
from sandbox.profile.document import Document

API_PORT = 9001
"""Stands for the Runtime API's port, to which Landlock limits a function that talks to nobody else."""

State = Literal["blocked", "allowed", "open", "inconclusive"]


@dataclass(frozen=True)
class Row:
    """One attempt's verdict: `open` is what succeeded although nothing allows it, and makes the probe fail."""

    attempt: Attempt
    state: State
    errno: str
    detail: str


def probe(
    profile: ProfileFile,
    without: Annotated[bool, typer.Option("--without", help="Run without the sandbox, to show that they work")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON line for each attempt")] = False,
    env: Env = None,
    env_file: EnvFile = None,
    aws_credentials: AwsCredentials = False,
    platform: On = "",
) -> None:
    """Attack a process under the profile in every way we know; exit 1 if an attack gets through.

    Example: sandbox probe profiles/hello.yaml
    """
    user = platforms.of(platform).user if platform else None
    uid = user.uid if user and os.geteuid() == 0 else os.geteuid()
    read = document.read(profile_of(profile))
    os.environ.update(chosen(read.profile.function.name, env, env_file, aws_credentials))  # each attempt inherits them
    built = build(read.profile, (tables.machine(),))
    policy, rules = built.policy(tables.machine()), built.rules[tables.machine()]
    rows = []
    ending.watch()
    with progress("attacking", len(ATTEMPTS)) as step:
        for attempt in ATTEMPTS:
            result = run_attempt(attempt, install=None if without else lambda: _install(policy), uid=uid)
            row = _bare(attempt, result) if without else _judge(attempt, result, rules, read)
            rows.append(row)
            step()
            if json_output:
                json_line(_json(row))
    if not json_output:
        _print(rows, without, uid)
    if any(row.state == "open" for row in rows) and not without:
        raise typer.Exit(1)


def _install(policy: Policy) -> None:
    launch = single_exec.Launch("/bin/true", ["true"], {})
    install(policy, launch.addresses, API_PORT)


def _bare(attempt: Attempt, result: Result) -> Row:
    state: State = "open" if result.verdict == "succeeded" else result.verdict
    return Row(attempt, state, result.errno, result.detail)


def _judge(attempt: Attempt, result: Result, rules: Rules, read: Document) -> Row:
    if result.verdict == "blocked":
        return Row(attempt, "blocked", result.errno, result.detail)
    if result.verdict == "inconclusive":
        return Row(attempt, "inconclusive", result.errno, result.detail)
    nr = tables.numbers(rules.arch).get(attempt.syscall, -1)
    rule = rules.rule_for(nr, (*attempt.args, 0, 0, 0, 0, 0, 0)[:6])
    if rule is None or attempt.group == "abi":
        return Row(attempt, "open", result.errno, result.detail)
    return Row(attempt, "allowed", result.errno, _allowed_by(rule, read))


def _allowed_by(rule: Rule, read: Document) -> str:
    """Where it is written that a rule's call is allowed."""
    if rule.origin == "floor":
        return f"{rule.call}: profiles/base/floor.yaml ({rule.detail})"
    if rule.origin == "runtime client":
        return f"{rule.call}: profiles/base/runtime-client.yaml ({rule.detail})"
    if rule.origin == "grant":
        return f"{rule.call}: {read.line_of_grant(rule.syscall)}"
    for use in sorted(read.profile.uses):
        origin = rule.detail.partition(":")[0] if rule.origin == "family" else rule.syscall
        relation = "" if use.syscall == rule.syscall else f" (same family as {use.syscall})"
        if use.syscall == origin and use.call.as_compared().arg_class == rule.arg_class:
            return f"{rule.call}{relation}: {read.line_of(use)}"
    return f"{rule.call}: {rule.origin} ({rule.detail})"


def _json(row: Row) -> dict[str, object]:
    return {
        "attempt": row.attempt.id, "group": row.attempt.group, "title": row.attempt.title,
        "technique": row.attempt.technique, "state": row.state, "errno": row.errno, "detail": row.detail,
    }  # fmt: skip


STYLES = {"blocked": "green", "allowed": "yellow", "open": "bold red", "inconclusive": "dim"}
BARE = {"open": "live", "blocked": "refused by the kernel itself", "inconclusive": "inconclusive"}


def _print(rows: list[Row], without: bool, uid: int) -> None:
    user = "root" if uid == 0 else f"uid {uid}"
    title = f"{len(rows)} attempts as {user}" + (", bare" if without else "")
    counts = Counter(BARE[row.state] if without else row.state for row in rows)
    summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    if not on_terminal():
        say(title)
        for row in rows:
            shown = f"{BARE[row.state] if without else row.state} {row.errno}".strip()
            say(f"{shown:16} {row.attempt.group:8} {row.attempt.title}; {row.detail}".rstrip("; "))
        say(summary)
        return
    from sandbox.cli.terminal import show_table

    judged = ((row, BARE[row.state] if without else row.state, "" if without else STYLES[row.state]) for row in rows)
    cells = (
        (row.attempt.group, row.attempt.title, (f"{state} {row.errno}".strip(), style), row.detail)
        for row, state, style in judged
    )
    show_table(("group", "attempt", "result", "detail"), cells, title=title)
    say(summary)
