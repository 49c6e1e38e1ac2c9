"""SARIF of diff and lint against the published schema of SARIF 2.1.0, which an npm package of Microsoft's carries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from cloud_fakes import CLIENTS
from report_samples import PROFILES

SCHEMA = CLIENTS / "node_modules" / "@microsoft" / "jest-sarif" / "lib" / "schemas" / "sarif-2.1.0-rtm.5.json"


@pytest.mark.skipif(not SCHEMA.exists(), reason="no schema of SARIF: tools/clients without npm")
def test_sarif_is_what_the_standard_says(tmp_path: Path) -> None:
    """A widening, findings of each severity, and a file that is no profile validate."""
    (tmp_path / "broken.yaml").write_text("schema: [")
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    for arguments in (
        ("diff", PROFILES / "hello.yaml", PROFILES / "archive.yaml"),
        ("lint", *sorted(PROFILES.glob("*.yaml")), tmp_path / "broken.yaml"),
    ):
        command = [sys.executable, "-m", "sandbox", "profile", *map(str, arguments), "--format", "sarif"]
        log = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout)
        assert log["runs"][0]["results"]
        assert [error.message for error in validator.iter_errors(log)] == []
