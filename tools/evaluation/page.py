"""docs/evaluation.md, rendered from the results: the page says nothing that a run did not find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]

HEAD = """\
# Evaluation

What a learned profile keeps from an attacker, and what gets through. `make evaluate` trains every function below anew,
serves and attacks it, and writes this page from `tests/exploits/results.json`; the functions, their events and the
attacks are in `tests/exploits`. The libraries are real, in versions with the hole that each row names, and pinned in
`requirements/exploits.txt`. Payloads are harmless: they make a file, connect to a listener of the evaluation's own, or
run `id`.
"""

EXPLOITS = """\
## Exploits

Each function is trained with ordinary events. Then every attack is served to the bare function, where it must have its
effect, and to the function under its profile. An effect is looked for where it shows (a file, a listener), never in an
answer unless the answer is the way out. *Detected by* is the call that has a line, with what it was refused. *Library
named* is what the lines name, and how many of them name the right one: the vulnerable library, or the function where it
is its own code. Before, between and behind the attacks both serve events that training did not see: *false blocks* are
those with another answer than bare, *false alarms* their lines.
"""

NEGATIVES = """\
## What got through

Attacks that only do what the profile allows have their effect, and no line says so. And what a line names is no proof:
code in the process can pretend to be any other's. Such lines are left out of the count above.
"""


def render(results: Results) -> str:
    """The whole page."""
    parts = [HEAD, _measured(results), EXPLOITS, _exploits(results["exploits"]), _totals(results["exploits"])]
    if through := _through(results["exploits"]):
        parts += [NEGATIVES, through]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _measured(results: Results) -> str:
    machine = results["machine"]
    return (
        f"Written on {machine['date']}: {machine['kernel']}, {machine['cores']} cores of {machine['processor']}, "
        f"Python {machine['python']}, in {machine['minutes']} minutes.\n"
    )


def _exploits(found: Sequence[Results]) -> str:
    rows = []
    for exploit in found:
        benign = (f"{exploit['false_blocks']} of {exploit['benign']}", f"{len(exploit['false_alarms'])}")
        for number, attack in enumerate(exploit["attacks"]):
            first = number == 0
            detected = "; ".join(dict.fromkeys(map(_detected, attack["lines"]))) or "-"
            rows.append((
                exploit["flaw"] if first else "", attack["name"], _effect(attack["bare"]), _effect(attack["enforced"]),
                detected, _named(attack), *(benign if first else ("", "")),
            ))  # fmt: skip
    head = ("exploit", "attack", "bare", "enforced", "detected by", "library named", "false blocks", "false alarms")
    return _table(head, rows)


def _named(attack: Results) -> str:
    lines = attack["lines"]
    if not lines:
        return "-"
    names = ", ".join(dict.fromkeys(map(_name, lines)))
    return f"{names}: forged" if attack["forged"] else f"{names}: {sum(x['right'] for x in lines)} of {len(lines)}"


def _name(line: Results) -> str:
    """Whom a line names: `PyYAML 5.3.1 yaml/constructor.py`, or the function's own frame alone."""
    by = line["by"]
    if "distribution" in by:
        return " ".join(filter(None, (by["distribution"], by["version"], by["module"])))
    return f"the function, line {by['handler']['line']}" if "handler" in by else "nobody"


def _effect(happened: bool) -> str:
    return "happens" if happened else "stopped"


def _detected(line: Results) -> str:
    call = " ".join(filter(None, (line.get("syscall"), line.get("class"))))
    outcome = line.get("errno") or line.get("verdict") or line["event"]
    noticed = line.get("anomaly") or line.get("detector")
    return f"{call} {outcome}" + (f" ({noticed})" if noticed else "")


def all_lines(found: Iterable[Results]) -> Iterator[Results]:
    """Every line about an attack that does not forge it."""
    attacks = (attack for exploit in found for attack in exploit["attacks"] if not attack["forged"])
    return (line for attack in attacks for line in attack["lines"])


def _totals(found: Sequence[Results]) -> str:
    lines = list(all_lines(found))
    right = sum(line["right"] for line in lines)
    attacks = [attack for exploit in found for attack in exploit["attacks"]]
    stopped = sum(not attack["enforced"] for attack in attacks)
    benign = sum(exploit["benign"] for exploit in found)
    blocked = sum(exploit["false_blocks"] for exploit in found)
    alarms = sum(len(exploit["false_alarms"]) for exploit in found)
    return (
        f"{stopped} of {len(attacks)} attacks stopped; {right} of {len(lines)} lines ({share(right, len(lines))}) name "
        f"the right library; of {benign} ordinary events {blocked} blocked, {alarms} with a line.\n"
    )


def share(part: int, whole: int) -> str:
    """A percentage, or nothing of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "none"


def _through(found: Sequence[Results]) -> str:
    rows = [
        (exploit["name"], attack["name"], _effect(attack["enforced"]), attack["why"])
        for exploit in found for attack in exploit["attacks"] if attack["enforced"] or attack["forged"]
    ]  # fmt: skip
    return _table(("function", "attack", "enforced", "why"), rows) if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
