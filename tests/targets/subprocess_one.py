"""A handler that runs one child program, /bin/true; with {"stdin": text} it runs /usr/bin/gzip on it."""

from __future__ import annotations

import gzip
import subprocess
from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return the child's status, or the errno with which it could not be started."""
    try:
        if "stdin" in event:
            text = event["stdin"].encode()
            child = subprocess.run(["/usr/bin/gzip", "-c"], input=text, stdout=subprocess.PIPE, check=True)
            return {"status": child.returncode, "text": gzip.decompress(child.stdout).decode()}
        return {"status": subprocess.run(["/bin/true"], check=False).returncode}
    except OSError as error:
        return {"errno": error.errno}
