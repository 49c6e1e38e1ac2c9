"""A change's profiles against those before it, as files of a CI system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.ci import comparison, gitlab
from sandbox.profile import document
from sandbox.profile.model import Profile, ProfiledFunction


def test_two_profiles_of_one_function_are_both_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each stage: the analysis of the function has what widens in either, each with its own fingerprint."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / stage / "greet.yaml" for stage in ("dev", "prod")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(document.write(Profile(ProfiledFunction("greet"), network=frozenset({"tcp://192.0.2.7:443"}))))
    found = list(comparison.with_commit([str(path) for path in paths], ""))
    comparison.write(found, str(tmp_path / "report"))
    (run,) = json.loads((tmp_path / "report" / "greet.sarif").read_text())["runs"]
    places = [result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]]
    assert places == ["dev/greet.yaml", "prod/greet.yaml"]
    assert len({result["partialFingerprints"]["sandboxFinding/v1"] for result in run["results"]}) == 2
    assert len({one["fingerprint"] for one in gitlab.quality(found)}) == 2
