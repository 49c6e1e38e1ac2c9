"""docs/evaluation.md and the results that it is rendered from."""

from __future__ import annotations

import json
import sys
from typing import Any

from exploits.vulnerable import VULNERABLE
from users_and_folders import HOME

sys.path.append(str(HOME))
from tools.evaluation import page

RESULTS: dict[str, Any] = json.loads((HOME / "tests" / "exploits" / "results.json").read_text())
ATTACKS = [(exploit, attack) for exploit in RESULTS["exploits"] for attack in exploit["attacks"]]


def test_the_page_is_that_of_the_results() -> None:
    """`tools/evaluate --page` would change nothing, and the results are those of the functions that are here."""
    assert (HOME / "docs" / "evaluation.md").read_text() == page.render(RESULTS)
    assert [(exploit["name"], attack["name"]) for exploit, attack in ATTACKS] == [
        (row.name, attack.name) for row in VULNERABLE for attack in row.attacks
    ]


def test_what_must_be_stopped_was() -> None:
    """Each attack had its effect bare and, unless the profile allows all that it does, none under the profile: EPERM,
    or Landlock's EACCES.
    """
    assert all(attack["bare"] for _, attack in ATTACKS)
    for way, stopped in (("enforced", "withstood"), ("denying", "denied")):
        assert [attack["name"] for _, attack in ATTACKS if attack[stopped] and attack[way]["effect"]] == []
        lines = [attack[way]["lines"] for _, attack in ATTACKS if attack[stopped]]
        assert all(lines)
        assert {line["errno"] for found in lines for line in found} <= {"EPERM", "EACCES"}


def test_lines_name_the_library_and_ordinary_events_have_none() -> None:
    """95 % of the lines about attacks name the right library; no ordinary event was blocked or has a line."""
    right = [line["right"] for line in page.all_lines(RESULTS["exploits"])]
    assert sum(right) >= 0.95 * len(right)
    served = [exploit[way] for exploit in RESULTS["exploits"] for way in page.WAYS] + RESULTS["workloads"]
    assert not any(one["false_blocks"] or one["false_alarms"] for one in served)
