"""What `init` writes for the functions of a project: the commands that train them, and the job that checks profiles.

Names come from strangers' templates: in a shell each is quoted, and in YAML none stands.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence

from sandbox.errors import printable
from sandbox.project.function import PYTHON, Described

TRAINING = "sandbox-train.sh"
GITHUB = ".github/workflows/sandbox.yml"
GITLAB = ".gitlab/sandbox.yml"
DEPLOYMENT = "sandbox-deploy.md"

HEAD = """\
#!/bin/sh
# Trains each function on its sample events and writes profiles/NAME.yaml: review it like code, and commit it.
# Run it where the functions can run: on Linux, with their packages installed. What it is given, each command is given:
# --env NAME=VALUE, --stands-for HOST:PORT=ADDRESS:PORT.
set -eu
cd "$(dirname "$0")"
"""

GITHUB_JOB = """\
# Compares the profiles of a pull request with those before it, and fails where one widens without the label.
name: sandbox profile
on:
  pull_request:
    types: [opened, synchronize, reopened, labeled, unlabeled]
    paths: [profiles/**]
permissions:
  contents: read
  pull-requests: write
  security-events: write
jobs:
  compare:
    runs-on: ubuntu-latest
    env:
      REPORT: ${{ github.workspace }}/sandbox-report
      PROFILES: profiles/*.yaml
      FAIL_ON: low
      LABEL: sandbox-widening
      COMMENT: "true"
      UPLOAD: "true"
      TOKEN: ${{ github.token }}
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0}
      - uses: actions/setup-python@v5
        with: {python-version: "3.13"}
      - run: python -m pip install --quiet seccomp-bootstrap
      - run: sandbox profile lint profiles/*.yaml --format github
      - run: python -P -m sandbox.ci.github compare
      - run: python -P -m sandbox.ci.github report
"""

GITLAB_JOB = """\
# Compares the profiles of a merge request with those before it.
# In .gitlab-ci.yml: include: [{local: .gitlab/sandbox.yml}]
sandbox-profile:
  image: python:3.13-slim
  variables: {PROFILES: profiles/*.yaml, FAIL_ON: low, LABEL: sandbox-widening, REPORT: sandbox-report, GIT_DEPTH: "0"}
  before_script:
    - apt-get update -q && apt-get install -q -y --no-install-recommends git
    - python -m pip install --quiet seccomp-bootstrap
  script:
    - sandbox profile lint profiles/*.yaml
    - python -P -m sandbox.ci.gitlab
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
      changes: [profiles/**/*]
  artifacts:
    when: always
    paths: [sandbox-report]
    reports: {codequality: sandbox-report/code-quality.json}
"""

STEPS = """\
# Deploying with the sandbox

Begin with `SANDBOX_MODE=audit`, and remove the variable once `sandbox promote PROFILE --from LOG` says yes.
"""


def training(found: Iterable[Described]) -> str:
    """The script that trains all of them; what could not be found stands as a comment above its command."""
    parts = [HEAD]
    for one in found:
        needs = [f"needs variables, by --env or --env-file: {', '.join(one.variables)}"] if one.variables else []
        notes = "".join(f"# {printable(sentence)}\n" for sentence in (*one.missing, *needs))
        line = f'{printable(shlex.join(learned(one)))} "$@" {printable(shlex.join(started(one)))}'.rstrip()
        off = "" if one.trainable else "# "
        parts.append(f"# {printable(one.name)}, from {printable(one.source)}\n{notes}{off}{line}\n")
    return "\n".join(parts)


def command(one: Described) -> list[str]:
    """The command that trains a function."""
    return [*learned(one), *started(one)]


def learned(one: Described) -> list[str]:
    """The same without what follows `--`."""
    words = ["sandbox", "learn", one.name]
    if one.runtime.startswith(PYTHON) and one.handler:
        words += ["--handler", one.handler]
    if one.code not in ("", "."):
        words += ["--root", one.code]
    if one.events:
        words += ["--events", one.events]
    if one.python:
        words += ["--python", one.python]
    return [*words, *one.options]


def started(one: Described) -> list[str]:
    """What follows `--`: the command of whatever is not a Python handler."""
    if one.runtime.startswith(PYTHON) and one.handler:
        return []
    if one.runtime.startswith("nodejs") and one.handler:
        return ["--", "npx", "aws-lambda-ric", one.handler]
    if one.is_program:
        return ["--", "./bootstrap"]
    return ["--", *one.command] if one.command else []


def untrainable(one: Described) -> str:
    """What the command still needs, '' where it can work as it stands."""
    if one.runtime.startswith("nodejs") and one.handler:
        return "needs the package aws-lambda-ric beside its code to be trained here"
    if one.trainable or one.runtime.startswith(PYTHON):
        return ""  # what a Python function lacks is its handler, and that is told already
    what = f" for {one.runtime}" if one.runtime else ""
    return f"needs a command behind `--` that starts it with a Runtime API client{what}"


def steps(found: Sequence[Described], snippets: Sequence[str]) -> str:
    """How to deploy each, as Markdown: what to package, and what to paste (`snippets`, '' for none)."""
    parts = [STEPS]
    for one, snippet in zip(found, snippets, strict=True):
        parts.append(f"## {one.name}\n\n    {packaged(one)}\n")
        if snippet:
            parts.append("".join(f"    {line}".rstrip() + "\n" for line in snippet.splitlines()))
    return "\n".join(parts)


def packaged(one: Described) -> str:
    """The command that packages a function for where it runs."""
    profile = os.path.join("profiles", f"{one.name}.yaml")
    if one.image or (one.command and not one.is_program):
        return f"sandbox package image {profile} --output {one.name}.tar"
    if one.is_program:
        return f"sandbox package runtime {profile} function.zip --output {one.name}.zip"
    return f"sandbox package layer {profile} --output {one.name}.zip"


def snippet_kind(one: Described) -> str:
    """What `sandbox package snippet` takes for it, '' where nothing is to be pasted."""
    if one.is_program:
        return ""
    if one.image or one.tool == "dockerfile":
        return "dockerfile-lambda" if one.handler else "dockerfile"
    return "sam-fragment" if one.tool == "sam" else one.tool  # its function is in a template already
