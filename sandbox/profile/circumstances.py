"""How a platform starts a function and serves it: what training saw of that, and what production may add.

Each may do something of its own: what is restored runs hooks, what finds its own files of last time replaces them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

ON_DEMAND, RESTORED, WORKERS = "on-demand", "restored", "workers"
AGAIN, RESTARTED = "again", "restarted"
SAMPLED, STREAMED = "sampled", "streamed"

ADDED = {
    AGAIN: ("event served twice by one process", "train it again: the last start serves each event twice"),
    RESTARTED: ("restart beside what was left in /tmp", "train it again: the last start is restarted"),
    SAMPLED: ("request that is traced", "train it again: each event is sampled where it is served twice"),
    RESTORED: ("start from a snapshot (SnapStart)", "train with --snapstart, too, if production has it"),
    WORKERS: ("second worker (Managed Instances)", "train with --workers 2, too, if production has them"),
}
"""What production may add: what it is, and what to do. Whether a response is streamed is the function's own choice."""
NAMES = (ON_DEMAND, *ADDED, STREAMED)


def written(found: Collection[str]) -> str:
    """As a profile says it."""
    return ", ".join(name for name in NAMES if name in found)


def unseen(texts: Collection[str]) -> Iterator[tuple[str, str]]:
    """What no training with one of these texts saw: what it is, and what to do. Nothing where no text says anything."""
    seen = {name for text in texts for name in text.split(", ") if name}
    return (line for name, line in ADDED.items() if seen and name not in seen)
