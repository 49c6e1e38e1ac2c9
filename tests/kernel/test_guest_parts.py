"""What each part of the sandbox does in each guest; UPDATE_PLATFORMS=1 writes it into docs/platforms.md."""

from __future__ import annotations

import io
import os

import pytest
from guests import parts
from guests.hosts import why_not
from users_and_folders import HOME

from sandbox.kernel import landlock
from sandbox.profile.amend import propose
from sandbox.violations import reader
from sandbox.violations.record import Violation

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "guests can be made")

PAGE = HOME / "docs" / "platforms.md"
BEGIN, END = "<!-- parts: tests/kernel/test_guest_parts.py -->\n", "<!-- end -->"


def test_each_part_in_each_guest() -> None:
    """Where a supervisor or a tripwire stands each part holds; from audit's lines a profile gets what it lacks."""
    found = {each.name: each for each in parts.examine()}
    for name, each in found.items():
        tier = each.starts["enforce"].status["tier"]
        assert (each.starts["enforce"].code, each.starts["audit"].code) == (0, 0), name
        refused = {part for part in parts.DONE if each.refused(part)}
        if tier != "kernel only":
            assert refused == parts.DONE.keys(), name
            assert all(each.starts["enforce"].reports(part, "denied") for part in parts.DONE), name
        elif landlock.abi_version() >= 4:  # without eyes the kernel alone tells ports and programs apart
            assert refused == {"listeners", "exec"}, name
        audited = each.starts["audit"]
        assert all(each.starts["audit"].reports(part, "reported") for part in parts.DONE), name
        assert all(audited.deeds[part] == [parts.DONE[part]] * 2 for part in parts.DONE), name
        log = reader.lines(io.BytesIO(audited.log))
        violations = [line.record for line in log if isinstance(line.record, Violation)]
        assert parts.held(propose(parts.of_deeds(), violations).profile) == parts.DONE.keys(), name
        if each.learned:
            assert parts.held(each.learned) == parts.DONE.keys(), name
        else:
            assert each.starts["learn"].error, name
    tiers = {name: each.starts["enforce"].status["tier"] for name, each in found.items()}
    assert tiers["lambda-like"] == "kernel + supervisor"
    assert tiers["lambda-like without seccomp"] == "detects"
    rows = ["", f"| {' | '.join(parts.HEAD)} |", "|" + "---|" * len(parts.HEAD), *(each.row for each in found.values())]
    _compare("\n".join((*rows, "", "")))


def _compare(text: str) -> None:
    if landlock.abi_version() < 6:
        return  # the page shows a kernel with all of Landlock
    before, mark, rest = PAGE.read_text().partition(BEGIN)
    assert mark
    if os.environ.get("UPDATE_PLATFORMS"):
        PAGE.write_text(before + mark + text + rest[rest.index(END) :])
    else:
        assert rest[: rest.index(END)] == text
