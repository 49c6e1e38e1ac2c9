"""`sandbox` command lines in a fork of the test: a process of their own, without the start of an interpreter."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox import cli

LONGEST = 60
"""Seconds after which a command line is ended by SIGALRM."""


class Ended(NamedTuple):
    """What came of a command line. `code` is its exit status, or minus the signal that ended it."""

    code: int
    stdout: str
    stderr: str


def forked(
    *words: str, cwd: Path, environ: Mapping[str, str] | None = None, stdin: bytes = b"",
    before: Callable[[], None] = lambda: None,
) -> Ended:  # fmt: skip
    """Run `sandbox WORDS` in a folder with variables beside ours; `before` runs in the child, just before it."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        child = os.fork()
        if not child:
            _become(words, cwd, environ or {}, [given.fileno(), out.fileno(), err.fileno()], before)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="surrogateescape"))
    return Ended(code, *texts)


def _become(
    words: Sequence[str], cwd: Path, environ: Mapping[str, str], streams: Sequence[int], before: Callable[[], None]
) -> None:
    status = 99
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(0, "r", closefd=False), os.fdopen(1, "w", closefd=False),
            os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1),
        )  # fmt: skip
        os.chdir(cwd)
        os.environ.update(environ)
        signal.alarm(LONGEST)
        sys.argv = ["sandbox", *words]
        before()
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for written in (sys.stdout, sys.stderr):
            try:
                written.flush()
            except (OSError, ValueError):
                status = status or 120
        os._exit(status)
