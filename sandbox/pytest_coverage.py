"""Measuring with coverage.py what runs under a profile: what it needs is learned, and its data are brought home.

A measured program imports coverage.py and writes a data file when it ends. The profile of production must not hold
that; so for a run of tests it is added, with a folder of ours in place of the one where the data belong.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STARTS, CONFIG = "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"
MEASURES = (STARTS, CONFIG, "COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE")
"""By these coverage.py, or an older pytest-cov, measures what is started."""
DATA = "COVERAGE_FILE"
NAME = ".coverage"
RUNS = 3
"""Programs that are observed: the names of data files differ, and a pattern of them is learned."""

Run = Callable[..., subprocess.CompletedProcess[str]]


def measures(environ: Mapping[str, str]) -> bool:
    """Whether what is started with these variables is measured, in a way that can be led elsewhere."""
    return bool(environ.get(STARTS) or environ.get(CONFIG))


def with_coverage(profile: str, folder: str, start: Sequence[str], command: Run) -> str:
    """The path of a profile that allows what `profile` does and what measuring takes; '' where there cannot be one.

    `folder` takes the data, `start` is how the bootstrap is started, `command` runs `sandbox` with these words. A
    function of the Runtime API has phases, in which nothing can be learned of a program that measures.
    """
    shown = command("profile", "show", "--json", profile)
    function = json.loads(shown.stdout)["function"] if shown.returncode == 0 else {"runtime_api": True}
    if function["runtime_api"]:
        return ""
    work = os.path.join(folder, "learning")
    os.mkdir(work)
    script, settings = os.path.join(work, "measured.py"), os.path.join(work, "coveragerc")
    for path, text in ((script, "measured = True\n"), (settings, f"[run]\nparallel = true\nsource = {work}\n")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    observed = [os.path.join(work, f"{number}.observations") for number in range(RUNS)]
    environment = {key: value for key, value in os.environ.items() if key not in MEASURES}
    environment |= {STARTS: settings, DATA: os.path.join(folder, NAME), "SANDBOX_MODE": "learn"}
    for path in observed:
        more = {**environment, "SANDBOX_OBSERVATIONS": path}
        subprocess.run([*start, sys.executable, script], env=more, capture_output=True, check=False)
    for name in os.listdir(folder):
        if name.startswith(NAME):
            os.remove(os.path.join(folder, name))  # of those that did nothing
    learned, both = os.path.join(work, "coverage.yaml"), os.path.join(work, "both.yaml")
    done = command("learn", function["name"], "--from", *observed, "--output", learned, "--generalise", "never")
    if done.returncode == 0:
        done = command("profile", "merge", profile, learned, "--output", both)
    return both if done.returncode == 0 else ""


def variables(folder: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What to change for a measured program so that its data go into the folder."""
    data = os.path.join(folder, NAME)
    settings = _settings(environ)
    if settings is None:
        return {DATA: data}
    return {DATA: data, CONFIG: base64.b64encode(json.dumps({**settings, "data_file": data}).encode()).decode()}


def bring_home(folder: str, environ: Mapping[str, str]) -> None:
    """Move the data to where they are looked for, under the names that parallel runs have there."""
    home = _home(environ)
    for name in os.listdir(folder):
        if name.startswith(f"{NAME}."):
            with contextlib.suppress(OSError):
                shutil.move(os.path.join(folder, name), home + name.removeprefix(NAME))


def _home(environ: Mapping[str, str]) -> str:
    """The path of the data file as the tests' own process has it."""
    if given := environ.get(DATA):
        return os.path.abspath(given)
    return os.path.abspath(str((_settings(environ) or {}).get("data_file", NAME)))


def _settings(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """What COVERAGE_PROCESS_CONFIG says (CoverageConfig.serialize: JSON in base64); None where it is not that."""
    with contextlib.suppress(ValueError):
        found = json.loads(base64.b64decode(environ.get(CONFIG, "")))
        return found if isinstance(found, dict) else None
    return None
