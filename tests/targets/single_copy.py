"""A handler whose child tries a single-copy read of its parent's memory and falls back to a pipe, as message-passing
libraries do. The event's `at` names another process for it, `call` another call."""

from __future__ import annotations

import ctypes
import os
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return {"how", "errno"}: `memory` with 0, or `pipe` with the errno of the attempt."""
    reader, writer = os.pipe()
    parent = event.get("at", os.getpid())
    child = os.fork()
    if child == 0:
        try:
            got = LIBC.process_vm_readv(parent, None, 0, None, 0, 0)
            os.write(writer, b"memory 0" if got == 0 else b"pipe %d" % ctypes.get_errno())
        finally:
            os._exit(0)
    os.close(writer)
    how, number = os.read(reader, 64).split()
    os.close(reader)
    os.waitpid(child, 0)
    return {"how": how.decode(), "errno": int(number)}
