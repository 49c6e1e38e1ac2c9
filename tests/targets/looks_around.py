"""A handler that tells about its place, and leaves something in it: the folder of temporary files and its own."""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "/tmp/looks-around.mark"


_served = 0


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Fail where anything was left here before, or the function's folder can be written to; else leave something.

    `wait` is how many seconds to stay before looking again; `shared`: /tmp is not fresh, only TMPDIR is.
    """
    global _served
    _served += 1
    folder = tempfile.gettempdir()
    mark = os.path.join(folder, "own.mark") if event.get("shared") else MARK
    if _served == 1:
        left = sorted(os.listdir(folder))
        assert not left, f"left in {folder}: {left}"
        with open(mark, "x") as file:
            file.write(str(os.getpid()))
        time.sleep(event.get("wait", 0))
    with open(mark) as file:
        assert file.read() == str(os.getpid()), "another start writes here"
    if not event.get("shared"):
        try:
            open(os.path.join(HERE, "looks_around.mark"), "w").close()
        except OSError as error:
            return {"errno": error.errno, "folder": folder}
        raise AssertionError("the function's folder can be written to")
    return {"errno": 0, "folder": folder}
