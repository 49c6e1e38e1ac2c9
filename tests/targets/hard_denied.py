"""A handler that makes one call that training never grants: the event's `call`, ptrace by default.

The arguments are chosen so that the call has no effect and its bare outcome cannot be taken for a refusal.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH = 16  # sys/ptrace.h
NO_PROCESS = 0  # no process has this id: bare, ptrace fails with ESRCH


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return {"call", "result", "errno"}: bare, ptrace gives -1 with ESRCH (3), the others 0 with 0."""
    call = event.get("call", "ptrace")
    ctypes.set_errno(0)
    if call == "ptrace":
        result = LIBC.ptrace(PTRACE_ATTACH, NO_PROCESS, None, None)
    elif call == "unshare":
        result = LIBC.unshare(0)
    elif call == "process_vm_readv":
        result = LIBC.process_vm_readv(os.getpid(), None, 0, None, 0, 0)
    else:
        raise ValueError(f"no such call here: {call}")
    return {"call": call, "result": result, "errno": ctypes.get_errno() if result < 0 else 0}
