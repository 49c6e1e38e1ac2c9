"""What `sandbox fleet` needs and an installation may lack: the engines' packages, and Java for Spark."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec

from sandbox.errors import ExtraMissing, UsageError

FLEET = ("pyarrow", "fsspec", "ibis", "duckdb")
SPARK = ("pyspark",)
OLDEST_JAVA = 17
"""What Spark 4 runs on (https://spark.apache.org/docs/latest/)."""
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


def require(*packages: str, extra: str = "fleet") -> None:
    """Raises ExtraMissing, which names the extra, where a package is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ExtraMissing(
            f"needs {' and '.join(missing)}, which this installation lacks", where="sandbox fleet",
            todo=f"pip install 'seccomp-bootstrap[{extra}]'",
        )  # fmt: skip


def java() -> str:
    """The Java that Spark will start: of JAVA_HOME, else of PATH. Raises UsageError for none, and for one too old."""
    home = os.environ.get("JAVA_HOME", "")
    program = os.path.join(home, "bin", "java") if home else shutil.which("java")
    todo = f"install Java {OLDEST_JAVA} or newer (Debian: openjdk-{OLDEST_JAVA}-jre-headless), or set JAVA_HOME to it"
    if not program or not os.access(program, os.X_OK):
        raise UsageError("needs Java, and there is none", where=f"--engine spark{_of(home)}", todo=todo)
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{program} does not run: {error}", where="--engine spark", todo=todo) from error
    found = _VERSION.search(said)
    if not found or int(found[1]) < OLDEST_JAVA:
        version = found[1] if found else "an unknown one"
        raise UsageError(f"needs Java {OLDEST_JAVA}, and {program} is {version}", where="--engine spark", todo=todo)
    return program


def _of(home: str) -> str:
    return f", JAVA_HOME={home}" if home else ""
