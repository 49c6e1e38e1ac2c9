"""Whether the tripwire could be set here: the library is loaded in front of this interpreter, which then ends.

The function here runs in a child.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from sandbox.confine import tripwire
from sandbox.doctor.isolate import Failed

PROBED = 42
"""Exit status of a program in which the library found the functions of its C library (sandbox/tripwire/tripwire.c)."""


def _set() -> str:
    if why := tripwire.missing(tripwire.loader_of(sys.executable, os.environ.get("PATH", os.defpath))):
        raise Failed(why)
    variables = {"LD_AUDIT": tripwire.library(), tripwire.VARIABLE: "probe"}
    pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", ""], {**os.environ, **variables})
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != PROBED:
        raise Failed(f"this interpreter's loader did not load it, or it ended with {code}")
    return "by this interpreter's loader"


TRIPWIRE = "tripwire"
PROBES: dict[str, Callable[[], str]] = {TRIPWIRE: _set}
