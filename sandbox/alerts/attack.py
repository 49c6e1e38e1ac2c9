"""MITRE ATT&CK: names, tactics and sources of the techniques that lines name (attack.json, one version of it)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Named:
    """A tactic or technique: its id (TA0002, T1059, T1059.004), its name, and the page that describes it."""

    uid: str
    name: str
    source: str

    @property
    def fields(self) -> dict[str, str]:
        """As OCSF writes it."""
        return {"uid": self.uid, "name": self.name, "src_url": self.source}


@dataclass(frozen=True)
class Technique:
    """A technique, the sub-technique of it that is meant, if one is, and the tactics that it serves."""

    technique: Named
    sub_technique: Named | None
    tactics: tuple[Named, ...]

    @property
    def title(self) -> str:
        """`Process Injection: Ptrace System Calls`."""
        return ": ".join(one.name for one in (self.technique, self.sub_technique) if one)


@cache
def matrix() -> dict[str, Any]:
    """The data file: {version, source, tactics: {id: {name, source}}, techniques: {id: {name, tactics, source}}}."""
    found: dict[str, Any] = json.loads(files("sandbox.alerts").joinpath("attack.json").read_text("utf-8"))
    return found


def technique(uid: str) -> Technique | None:
    """What the matrix says of an id; None for one that it does not hold, as a stranger may have written it."""
    parent, _, sub = uid.partition(".")
    if uid not in matrix()["techniques"] or parent not in matrix()["techniques"]:
        return None
    tactics = tuple(_named("tactics", one) for one in matrix()["techniques"][uid]["tactics"])
    return Technique(_named("techniques", parent), _named("techniques", uid) if sub else None, tactics)


def attacks(uid: str) -> Iterator[dict[str, object]]:
    """OCSF's `attack` objects of a technique, one for each tactic that it serves."""
    found = technique(uid)
    if found is None:
        return
    sub = {"sub_technique": found.sub_technique.fields} if found.sub_technique else {}
    for tactic in found.tactics:
        yield {
            "version": matrix()["version"], "tactic": tactic.fields, "technique": found.technique.fields, **sub,
        }  # fmt: skip


def _named(kind: str, uid: str) -> Named:
    entry = matrix()[kind][uid]
    return Named(uid, entry["name"], entry["source"])
