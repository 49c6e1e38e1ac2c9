"""Making the forwarder: where dnslib lies for a bootstrap without site-packages, and which servers to ask."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sandbox.names.forwarder import Forwarder

_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def add_library_path() -> None:
    """Let dnslib be found: beside this package in an installation, in .venv in a checkout (it is pure Python)."""
    libraries = os.path.join(_HOME, ".venv", "lib")
    try:
        names = os.listdir(libraries)
    except OSError:
        return
    for name in names:
        place = os.path.join(libraries, name, "site-packages")
        if name.startswith("python3") and place not in sys.path:
            sys.path.append(place)


def make(
    allowed: Callable[[str], bool], on_denied: Callable[[str, str], None], environment: Mapping[str, str], *,
    observing: bool = False,
) -> Forwarder | None:  # fmt: skip
    """The forwarder for the names that are allowed; None where dnslib is missing or loopback cannot be bound."""
    add_library_path()
    try:
        from sandbox.names.forwarder import Forwarder, hosts, searches, upstreams

        wanted: Callable[[str], bool] = (lambda name: True) if observing else allowed
        return Forwarder(
            upstreams(), allowed, on_denied, searches=searches(environment=environment), known_hosts=hosts(wanted),
            observing=observing,
        )  # fmt: skip
    except (ImportError, OSError):
        return None
