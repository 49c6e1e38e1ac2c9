"""The job of the GitLab template: `python -m sandbox.ci.gitlab`, in a pipeline of a merge request.

Writes the report and a code quality report into the folder $REPORT, and fails for a widening that no label accepts.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping

from sandbox.ci import comparison
from sandbox.errors import SandboxError, printable, printable_lines

QUALITY = "code-quality.json"
SEVERITIES = {"high": "critical", "medium": "major", "low": "minor"}


def main(environ: Mapping[str, str]) -> int:
    """0, 1 for a widening without a label, or the exit code of an error."""
    folder = environ.get("REPORT", "sandbox-report")
    base = environ.get("CI_MERGE_REQUEST_DIFF_BASE_SHA") or environ.get("CI_COMMIT_BEFORE_SHA", "")
    try:
        files = comparison.files(environ.get("PROFILES", "profiles/*.yaml").split())
        found = list(comparison.with_commit(files, base if base.strip("0") else ""))
        comparison.write(found, folder)
        with open(os.path.join(folder, QUALITY), "w", encoding="utf-8") as file:
            json.dump(list(quality(found)), file, indent=2)
        widening = [one for one in found if comparison.fails(one.widest, environ.get("FAIL_ON", "low"))]
    except SandboxError as error:
        sys.stdout.write(printable_lines(f"sandbox: {error}") + "\n")
        return error.exit_code
    for one in found:
        for change in one.found:
            sys.stdout.write(printable(f"{change.file}:{change.line}: {change.sign} {change.text}") + "\n")
    label = environ.get("LABEL", "")
    if not widening or (label and label in environ.get("CI_MERGE_REQUEST_LABELS", "").split(",")):
        return 0
    sys.stdout.write(f"a profile widens{f'; add the label {printable(label)} if that is meant' if label else ''}\n")
    return 1


def quality(found: Iterable[comparison.Compared]) -> Iterable[dict[str, object]]:
    """What widens, as GitLab's code quality report has it."""
    for one in found:
        for change in one.found:
            if change.effect != "widens":
                continue
            same = "\0".join((change.file, one.function, change.section, change.subject))
            yield {
                "description": printable(change.text), "check_name": f"widening/{change.rule}",
                "fingerprint": hashlib.sha256(same.encode(errors="surrogateescape")).hexdigest(),
                "severity": SEVERITIES[change.risk],
                "location": {"path": os.path.relpath(change.file), "lines": {"begin": change.line}},
            }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(os.environ))
