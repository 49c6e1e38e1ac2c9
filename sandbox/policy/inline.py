"""Compile one profile for one architecture to standard output: the bytes of a policy.bin.

What the bootstrap calls in a child process when it is given a profile and not a bundle.
"""

from __future__ import annotations

import os
import sys

from sandbox import bundle
from sandbox.errors import SandboxError, debugging, trace


def main() -> None:
    """argv: PROFILE ARCH. Exits with the error's own code and its message on standard error."""
    from sandbox.policy.build import build
    from sandbox.profile import document

    try:
        built = build(document.read(sys.argv[1]).check_network().profile, (sys.argv[2],))
    except SandboxError as error:
        sys.stderr.write(f"sandbox: {error}\n" + (trace(error) if debugging(os.environ) else ""))
        sys.exit(error.exit_code)
    sys.stdout.buffer.write(built.files[bundle.FILE])
