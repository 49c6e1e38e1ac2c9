"""Making the forwarder: where dnslib lies for a bootstrap without site-packages, and which servers to ask."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.behaviour.stand_ins import StandIns
    from sandbox.names.forwarder import Forwarder

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds the package."""


def make(
    allowed: Callable[[str], bool], on_denied: Callable[[str, str], None], local_domains: Sequence[str], *,
    keep: float, observing: bool = False, reads_hosts: bool = True, stand_ins: StandIns | None = None,
    on_answer: Callable[[str, frozenset[str]], None] | None = None,
) -> Forwarder | None:  # fmt: skip
    """The forwarder for the names that are allowed; None where dnslib is missing or loopback cannot be bound.

    `keep` is for how many seconds beyond its time to live an address stands for its name; `on_answer` is Forwarder's.
    `reads_hosts`: nobody has read the hosts file before the function ran.
    """
    from sandbox.names import addresses

    try:
        Forwarder = _forwarder_class()
        wanted: Callable[[str], bool] = (lambda name: True) if observing else allowed
        known = (addresses.hosts(wanted) if reads_hosts else {}) | (stand_ins.hosts(wanted) if stand_ins else {})
        return Forwarder(
            addresses.upstreams(), allowed, on_denied, searches=addresses.searches(local=local_domains),
            known_hosts=known, keep=keep, observing=observing, stand_ins=stand_ins, on_answer=on_answer,
        )  # fmt: skip
    except (ImportError, OSError):
        return None


def _forwarder_class() -> type[Forwarder]:
    """The forwarder with dnslib, which the bootstrap, without site-packages, finds beside the package or nowhere.

    But in a checkout it lies in .venv, of which only it (pure Python, whatever the interpreter) is wanted. Raises
    ImportError.
    """
    try:
        from sandbox.names.forwarder import Forwarder
    except ImportError:
        folders = checkout_libraries(HOME)
        sys.path += folders
        try:
            from sandbox.names.forwarder import Forwarder
        finally:
            sys.path[:] = [folder for folder in sys.path if folder not in folders]
    return Forwarder


def checkout_libraries(home: str) -> list[str]:
    """Where a checkout keeps its libraries; none where the package is installed or packed.

    pyproject.toml beside the package tells a checkout: it is in no wheel and in no package for a function. Elsewhere a
    .venv beside the package would be somebody else's, and code from it would run in the supervisor.
    """
    if not os.path.exists(os.path.join(home, "pyproject.toml")):
        return []
    libraries = os.path.join(home, ".venv", "lib")
    try:
        names = sorted(name for name in os.listdir(libraries) if name.startswith("python3"))
    except OSError:
        return []
    folders = [os.path.join(libraries, name, "site-packages") for name in names]
    return [folder for folder in folders if folder not in sys.path]
