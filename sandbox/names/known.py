"""Which host names an address stands for now: what DNS answers said, for their time to live and a grace."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 60.0
"""Seconds beyond the time to live: who was just given an address may still be on the way to it."""
LONGEST = 86400.0
"""Seconds; no answer is believed for longer."""
MOST_ADDRESSES = 1024
MOST_NAMES = 16
"""For one address: many hosts of a content network share one."""


class KnownAddresses:
    """Bounded: the address, and for one address the name, that was not heard of for longest is forgotten first."""

    def __init__(self, clock: Callable[[], float], most: int = MOST_ADDRESSES) -> None:
        self._clock = clock
        self._most = most
        # Both are ordered: what was used last stands last.
        self._names: dict[bytes, dict[str, float]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def remember(self, name: str, address: bytes, ttl: float) -> None:
        """The packed address stands for the name for `ttl` seconds from now, and the grace. Never shortens."""
        until = self._clock() + min(ttl, LONGEST) + GRACE
        names = self._names.pop(address, {})
        until = max(until, names.pop(name, 0.0))
        if len(names) >= MOST_NAMES:
            del names[next(iter(names))]
        names[name] = until
        self._names[address] = names
        if len(self._names) > self._most:
            del self._names[next(iter(self._names))]

    def names_of(self, address: bytes) -> frozenset[str]:
        """The names for which the packed address stands now; none for an unknown one."""
        names = self._names.pop(address, None)
        if not names:
            return frozenset()
        now = self._clock()
        current = {name: until for name, until in names.items() if until > now}
        if current:
            self._names[address] = current
        return frozenset(current)
