"""A system call by code that no file holds, or that can still be written: what an exploit has put into memory.

Compilers at run-time (V8, HotSpot, LuaJIT, numba, libffi's closures) write code, too, but make their system calls
through the C library, whose instruction is in its file; so do all but programs that unpack themselves.
"""

from __future__ import annotations

from sandbox.behaviour.anomaly import Anomaly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandbox.behaviour.access import Access
    from sandbox.sensor.detectors.seen import Known, Seen

NAME = "foreign-memory"
KERNELS = ("[vdso]", "[vsyscall]")
OF_NO_FILE = ("/memfd:", "/dev/zero", "/SYSV")
"""How memory is named that the kernel holds like a file, and whose content comes from the process alone."""


def suspect(seen: Seen, access: Access, known: Known) -> Anomaly | None:
    """Where the mapping of the system call instruction is writable, or of no file; for any access."""
    code = seen.code
    if code is None or code.path in KERNELS:
        return None
    if code.writable:
        return Anomaly(NAME, f"the system call instruction lies in memory that can be written: {code}")
    if not code.path.startswith("/") or code.path.startswith(OF_NO_FILE):
        return Anomaly(NAME, f"the system call instruction lies in memory of no file: {code}")
    return None
