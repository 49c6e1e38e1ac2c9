"""Paths and destinations as trees that fit on a page, whatever a profile lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sandbox.behaviour import destination, listener
from sandbox.behaviour.destination import ANY_PORT, Entry
from sandbox.errors import ProfileError, printable
from sandbox.profile.model import Profile

LONGEST = 200
"""Characters of one name; what is cut is said."""
DEEPEST = 24
"""Levels; what lies deeper is shown on one line."""
MOST = 200
"""Entries of a tree; how many more there are is said."""


@dataclass
class Node:
    """One name, with what lies below it. `notes` say what may be done there and by whom; none on the way there."""

    name: str
    notes: tuple[str, ...] = ()
    below: list[Node] = field(default_factory=list)
    heads: bool = False
    """Whether the name is a word of ours over what lies below."""


@dataclass(frozen=True)
class Tree:
    """The outermost nodes, and how many entries were left out."""

    nodes: tuple[Node, ...]
    more: int = 0


def short(text: str, longest: int = LONGEST) -> str:
    """The text made printable, and cut in the middle where it is long, with how long it is."""
    if len(text) > longest:
        half = longest // 2
        return f"{printable(text[:half])} … {printable(text[-half:])} ({len(text):,} characters)"
    return printable(text)


def files(profile: Profile) -> Tree:
    """What is read and written, folder by folder."""
    users = profile.users("write")
    marked = dict.fromkeys(profile.reads, ("reads",))
    for path in profile.writes:
        marked[path] = (*marked.get(path, ()), "writes", *(f"by {name}" for name in users.get(path, ())))
    listed = sorted(marked)
    return Tree(_grown((_levels(path), marked[path]) for path in listed[:MOST]), max(0, len(listed) - MOST))


def _levels(path: str) -> tuple[str, ...]:
    """The names of a path, each folder's with its slash: what is meant with all below it is said in words."""
    head, *names = path.split("/", DEEPEST)
    found = [head + "/"] if names else [head]
    found += [name + "/" for name in names[:-1]]
    if names and names[-1] in ("*", "**"):
        return (*found, "everything below")
    return tuple(found + names[-1:])


def _grown(entries: Iterable[tuple[tuple[str, ...], tuple[str, ...]]]) -> tuple[Node, ...]:
    root = Node("")
    for levels, notes in entries:
        at = root
        for level in levels:
            name = short(level)
            known = next((node for node in reversed(at.below) if node.name == name), None)
            if known is None:
                known = Node(name)
                at.below.append(known)
            at = known
        at.notes = (*at.notes, *notes)
    return tuple(_joined(node) for node in root.below)


def _joined(node: Node) -> Node:
    """Without the folders that hold one thing and are nothing else."""
    while not node.notes and len(node.below) == 1 and node.below[0].name != "everything below":
        (only,) = node.below
        node = Node(node.name + only.name, only.notes, only.below)
    if not node.notes and len(node.below) == 1:
        return Node(f"{node.name} and everything below", node.below[0].notes)
    return Node(node.name, node.notes, [_joined(below) for below in node.below])


def destinations(profile: Profile) -> Tree:
    """Where it connects and listens, by what is meant: hosts, addresses, local sockets."""
    groups: dict[str, dict[str, list[tuple[str, tuple[str, ...]]]]] = {}
    count = 0
    for verb, texts, users, parse in (
        ("connects", profile.network, profile.users("network"), destination.parse),
        ("listens", profile.listen, profile.users("listen"), listener.parse),
    ):
        for text in sorted(texts):
            count += 1
            if count > MOST:
                continue
            try:
                group, name, how = _described(parse(text))
            except ProfileError:
                group, name, how = "Cannot be read", text, ""
            notes = (f"{verb} {how}".strip(), *(f"by {user}" for user in users.get(text, ())))
            groups.setdefault(group, {}).setdefault(short(name), []).append((how, notes))
    nodes = []
    for group in sorted(groups):
        below = [
            Node(name, tuple(dict.fromkeys(note for _, notes in found for note in notes)))
            for name, found in groups[group].items()
        ]
        nodes.append(Node(group, (), below, heads=True))
    return Tree(tuple(nodes), max(0, count - MOST))


def _described(entry: Entry) -> tuple[str, str, str]:
    """(group, name, how) of an entry: which part of the tree, what it names, and over what."""
    chosen = {ANY_PORT: "any port", listener.CHOSEN: "a port that the kernel chooses"}
    port = chosen.get(entry.port, f"port {entry.port}")
    how = f"on {entry.protocol.upper()} {port}" if port.startswith("a ") else f"{entry.protocol.upper()} {port}"
    if entry.kind == destination.RUNTIME_API:
        return "Platform", "Runtime API", "where the platform says that it is"
    if entry.kind == destination.OWN:
        return "Itself", "its own listeners on loopback", ""
    if entry.kind == destination.ROUTES:
        return "Itself", "sockets that only ask for a route", "and sends nothing"
    if entry.kind == listener.ANY:
        return "Network", "any address", "any port"
    if entry.protocol == destination.LOOKED_UP:
        return "Names that are looked up only", str(entry.value), ""
    if entry.protocol == "unix":
        return "Local sockets", entry.text.removeprefix("unix:"), ""
    if entry.protocol == "family":
        return "Other socket families", str(entry.value), ""
    if isinstance(entry.value, bytes):
        text = entry.text.partition("://")[2] or entry.text
        host = text.rpartition(":")[0] or text
        group = "Networks" if entry.kind == "network" else "Addresses"
        return group, f"{host} (every address)" if entry.is_unspecified else host, how
    return "Hosts", f"*{entry.value}" if entry.kind == "suffix" else str(entry.value), how
