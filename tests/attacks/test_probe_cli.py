"""`sandbox probe`: every attempt has its row, nothing is open, and what a person allowed is named with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sandbox.probe import ATTEMPTS

from .conftest import Learned

Rows = dict[str, dict[str, Any]]


def probe(learned: Learned, profile: Path, *options: str, expect: int = 0) -> Rows:
    """The rows of a probe by attempt."""
    done = learned.workshop.sandbox("probe", profile, "--json", *options, expect=expect)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["attempt"]: row for row in rows}


@pytest.fixture(scope="module")
def enforced(thumbnail: Learned) -> Rows:
    """The probe of the profile as it was learned."""
    return probe(thumbnail, thumbnail.profile)


@pytest.fixture(scope="module")
def bare(thumbnail: Learned) -> Rows:
    """The same attempts without the profile."""
    return probe(thumbnail, thumbnail.profile, "--without")


def test_every_attempt_has_its_row(enforced: Rows) -> None:
    """At least 40 attempts, in the groups that they belong to."""
    assert len(enforced) == len(ATTEMPTS) >= 40
    assert {row["group"] for row in enforced.values()} == {attempt.group for attempt in ATTEMPTS}
    for row in enforced.values():
        assert row["title"]
        assert row["technique"]


def test_nothing_is_open(enforced: Rows) -> None:
    """Each is blocked with an errno (or by the kernel's own signal), allowed by a line, or inconclusive."""
    assert {row["state"] for row in enforced.values()} <= {"blocked", "allowed", "inconclusive"}
    for row in enforced.values():
        if row["state"] == "blocked" and row["group"] != "abi":
            assert row["errno"] in ("EPERM", "EACCES", "ENOSYS", "ENOEXEC"), row


@pytest.mark.parametrize("attempt", [
    "process-os-fork", "process-os-system", "process-subprocess", "exec-execve", "exec-memfd", "exec-guess-ticket",
    "clone-new-user-namespace",
])  # fmt: skip
def test_what_a_payload_would_try_first_is_blocked(enforced: Rows, attempt: str) -> None:
    """These can never be inconclusive here."""
    assert enforced[attempt]["state"] == "blocked", enforced[attempt]


def test_what_the_profile_allows_is_named_with_its_place(thumbnail: Learned, enforced: Rows) -> None:
    """file:line:column of a line that really names the call, or the base profile that holds it."""
    lines = thumbnail.profile.read_text().splitlines()
    for row in enforced.values():
        if row["state"] == "allowed":
            found = re.search(r"thumbnail\.yaml:(\d+):(\d+)", row["detail"])
            assert found or "profiles/base/" in row["detail"], row
            if found:
                said = re.match(r"(\w+) ?([^(:]*?)(?: \(same family as (\w+)\))?: ", row["detail"])
                assert said, row
                named = said[2] or said[3] or said[1]
                assert lines[int(found[1]) - 1][int(found[2]) - 1 :].startswith(named), row


def test_bare_attempts_are_live(enforced: Rows, bare: Rows) -> None:
    """Without the profile most attempts succeed, and the exit status stays 0; the same attempts are tried."""
    assert bare.keys() == enforced.keys()
    live = [row for row in bare.values() if row["state"] == "open"]
    assert len(live) >= 20
    for attempt in ("process-os-fork", "exec-execve", "exec-memfd"):
        assert bare[attempt]["state"] == "open"


def test_a_dangerous_use_that_a_person_wrote_is_allowed_with_its_line(thumbnail: Learned) -> None:
    """execve, and a hard-denied call with a grant: the rows say allowed and point at the lines."""
    text = thumbnail.profile.read_text()
    text = text.replace("  invoke:\n", "  invoke:\n    execve: {count: 1, because: starts a converter}\n", 1)
    text = text.replace(
        "\ncompleteness:", "\ngrants:\n- {syscall: personality, because: runs old code}\n\ncompleteness:", 1
    )
    text = re.sub(r"^promises: \[", "promises: [exec, ", text, count=1, flags=re.MULTILINE)
    profile = thumbnail.workshop.folder / "dangerous.yaml"
    profile.write_text(text)
    rows = probe(thumbnail, profile)
    lines = text.splitlines()
    for attempt, syscall in (("exec-execve", "execve"), ("personality", "personality")):
        row = rows[attempt]
        assert row["state"] == "allowed", row
        found = re.search(rf"{re.escape(str(profile))}:(\d+):(\d+)", row["detail"])
        assert found, row
        assert syscall in lines[int(found[1]) - 1]
    assert rows["process-os-fork"]["state"] == "blocked"


def test_the_table_says_the_same(thumbnail: Learned) -> None:
    """Without --json there is one line for each attempt, and a summary."""
    done = thumbnail.workshop.sandbox("probe", thumbnail.profile)
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{len(ATTEMPTS)} attempts as ")
    assert len(lines) == len(ATTEMPTS) + 2
    assert re.search(r"\d+ blocked", lines[-1])
    assert "open" not in lines[-1]
