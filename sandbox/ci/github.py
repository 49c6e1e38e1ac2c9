"""The steps of the GitHub Action (action.yml): `python -m sandbox.ci.github compare|report`.

`compare` writes the report, the job's summary and the outputs. `report` tells GitHub, as far as the token may: the
analysis to code scanning, the comment to the pull request; then it fails for a widening that no label accepts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sandbox.ci import comparison
from sandbox.ci.github_api import GitHub, NotDone
from sandbox.errors import SandboxError, UsageError, printable_lines
from sandbox.profile import document

NOTHING = "0" * 40
"""The commit before the first push of a branch."""
WIDENED = 1


def main() -> int:
    """The exit status: 0, 1 for a widening without a label, or that of an error."""
    steps = {"compare": compare, "report": report}
    step = steps.get(sys.argv[1] if len(sys.argv) == 2 else "")
    try:
        if step is None:
            raise UsageError("takes `compare` or `report`", where="sandbox.ci.github", todo="name one of them")
        return step(os.environ)
    except SandboxError as error:
        _tell("error", str(error))
        return error.exit_code


def compare(environ: Mapping[str, str]) -> int:
    """Compare, and write what every run has: report, analyses, summary and outputs."""
    folder = environ.get("REPORT", "sandbox-report")
    event = _event(environ)
    patterns = environ.get("PROFILES", "").split()
    if train := environ.get("TRAIN", ""):
        found = [_trained(comparison.files(patterns), train, folder)]
    else:
        commit = environ.get("BASE") or _before(event)
        found = list(comparison.with_commit(comparison.files(patterns), commit))
    comparison.write(found, folder)
    with open(os.path.join(folder, comparison.REPORT), encoding="utf-8") as file:
        text = file.read()
    _append(environ.get("GITHUB_STEP_SUMMARY", ""), text)
    worst = _result(folder)["widens"]
    _append(environ.get("GITHUB_OUTPUT", ""), f"widened={'true' if worst else 'false'}\nrisk={worst or ''}\n")
    return 0


def report(environ: Mapping[str, str]) -> int:
    """Tell GitHub what may be told, and say whether the run fails."""
    folder, event = environ.get("REPORT", "sandbox-report"), _event(environ)
    hub = GitHub(environ.get("GITHUB_API_URL", ""), environ.get("GITHUB_REPOSITORY", ""), environ.get("TOKEN", ""))
    result = _result(folder)
    number = _dict(event.get("pull_request")).get("number")
    if environ.get("UPLOAD") == "true" and not environ.get("TRAIN"):
        for function in sorted({one["function"] for one in result["profiles"]}):
            with open(os.path.join(folder, f"{function}.sarif"), "rb") as file:
                data = file.read()
            _allowed(hub.upload, data, environ.get("GITHUB_SHA", ""), environ.get("GITHUB_REF", ""))
    if environ.get("COMMENT") == "true" and isinstance(number, int):
        with open(os.path.join(folder, comparison.REPORT), encoding="utf-8") as file:
            text = file.read()
        _allowed(partial(hub.comment, is_news=any(one["changes"] for one in result["profiles"])), number, text)
    worst = result["widens"]
    if not comparison.fails(worst, environ.get("FAIL_ON", "low")):
        return 0
    label = environ.get("LABEL", "")
    if label and isinstance(number, int) and label in _labels(hub, number, event):
        _tell("notice", f"the profile widens (risk {worst}), which the label {label} accepts")
        return 0
    todo = f"; add the label {label} if that is meant" if label else ""
    _tell("error", f"the profile widens, the highest risk is {worst}{todo}")
    return WIDENED


def _trained(files: list[str], command: str, folder: str) -> comparison.Compared:
    """The one committed profile against what training writes now: what widens is missing in the committed one."""
    if len(files) != 1:
        raise UsageError(f"names {len(files)} files", where="profiles", todo="with `train` name the one that it trains")
    os.makedirs(folder, exist_ok=True)
    new = os.path.join(os.path.abspath(folder), os.path.basename(files[0]))
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command], env={**os.environ, "NEW_PROFILE": new}, check=False
    )
    if done.returncode or not os.path.exists(new):
        what = f"ended with {done.returncode}" if done.returncode else "did not write $NEW_PROFILE"
        raise UsageError(what, where="train", todo="see its output above")
    return comparison.compared(files[0], document.read(files[0]), document.read(new))


def _labels(hub: GitHub, number: int, event: Mapping[str, Any]) -> set[str]:
    """The labels now; of a run that may not ask, those of its event."""
    try:
        return hub.labels(number)
    except NotDone as error:
        _tell("notice", f"labels of the event, since GitHub did not tell: {error}")
        labels = _dict(event.get("pull_request")).get("labels")
        return {str(_dict(one).get("name")) for one in labels} if isinstance(labels, list) else set()


def _allowed(ask: Callable[..., None], *arguments: object) -> None:
    try:
        ask(*arguments)
    except NotDone as error:
        _tell("notice", f"not told to GitHub, see the summary and the artifact: {error}")


def _before(event: Mapping[str, Any]) -> str:
    """The commit to compare with: the base of a pull request, or what a push replaced; '' for none."""
    base = _dict(_dict(event.get("pull_request")).get("base")).get("sha") or event.get("before") or ""
    return "" if base == NOTHING else str(base)


def _event(environ: Mapping[str, str]) -> Mapping[str, Any]:
    path = environ.get("GITHUB_EVENT_PATH", "")
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return _dict(json.load(file))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read: {error}", where=path, todo="run this in a workflow") from error


def _result(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, comparison.RESULT)
    try:
        with open(path, encoding="utf-8") as file:
            return _dict(json.load(file))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read: {error}", where=path, todo="run `compare` before `report`") from error


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _append(path: str, text: str) -> None:
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


def _tell(level: str, text: str) -> None:
    """A workflow command; nothing of the text can begin another."""
    escaped = printable_lines(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    sys.stdout.write(f"::{level} title=sandbox profile::{escaped}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
