"""The pre-commit hook `sandbox-diff`: what a commit widens, `python -m sandbox.ci.staged FILE...`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from sandbox.ci import comparison
from sandbox.errors import SandboxError, printable, printable_lines


def main(arguments: Sequence[str]) -> int:
    """1 where a profile widens by at least `--fail-on RISK` (default: low), or the exit code of an error."""
    least, files = "low", list(arguments)
    if files[:1] == ["--fail-on"] and len(files) > 1:
        least, files = files[1], files[2:]
    elif files and files[0].startswith("--fail-on="):
        least, files = files[0].partition("=")[2], files[1:]
    born = subprocess.run(["git", "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, check=False)
    failed = False
    try:
        for one in comparison.with_commit(files, "HEAD" if born.returncode == 0 else ""):
            bad = comparison.fails(one.widest, least)
            failed |= bad
            for change in one.found if bad else ():
                sys.stdout.write(printable(f"{change.file}:{change.line}: {change.sign} {change.text}") + "\n")
    except SandboxError as error:
        sys.stdout.write(printable_lines(f"sandbox: {error}") + "\n")
        return error.exit_code
    if failed:
        sys.stdout.write("a profile widens; if that is meant, commit with SKIP=sandbox-diff\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
