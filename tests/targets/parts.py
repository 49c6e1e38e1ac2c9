"""What the parts of a sandbox decide about, each with one deed that its profile holds and one that it does not.

Prints {part: [what became of the first, and of the second]} in the network of tests/resolving_world.py.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable


def tried(deed: Callable[[], object]) -> object:
    """What it gives, or the name of its errno."""
    try:
        return deed()
    except socket.gaierror:
        return "no address"
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def greeted(host: str) -> str:
    """What a server there says first."""
    with socket.create_connection((host, 7777), 10) as connection:
        return connection.recv(16).decode()


def served(port: int) -> bool:
    """Whether somebody who connects to a listener there is heard."""
    with socket.create_server(("127.0.0.1", port)) as listener, socket.socket() as client:
        client.connect(("127.0.0.1", port))
        listener.accept()[0].close()
        return client.recv(1) == b""


def started(path: str) -> int:
    """The exit status of a program."""
    return os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(path, [path], {}), 0)[1])


if __name__ == "__main__":
    both = len(sys.argv) < 2
    deeds: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "sockets": (lambda: greeted("10.99.0.3"), lambda: greeted("127.0.0.9")),
        "names": (lambda: greeted("one.demo.test"), lambda: greeted("far.demo.test")),
        "listeners": (lambda: served(7788), lambda: served(7789)),
        "exec": (lambda: started("/usr/bin/true"), lambda: started("/usr/bin/id")),
    }
    print(json.dumps({part: [tried(deed) for deed in pair[: 1 + both]] for part, pair in deeds.items()}), flush=True)
