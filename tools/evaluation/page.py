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
answer. *Detected by* is the call that has a line, with what it was refused. *Library named* counts the lines that name
the right library, or the function where it is its own code. Before, between and behind the attacks both serve events
that training did not see: *false blocks* are those with another answer than bare, *false alarms* their lines.
"""

NEGATIVES = """\
## What got through

Attacks that only do what the profile allows. They have their effect, and no line says so.
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
            lines = attack["lines"]
            right = f"{sum(line['right'] for line in lines)} of {len(lines)}" if lines else "-"
            rows.append((
                exploit["flaw"] if first else "", attack["name"], _effect(attack["bare"]), _effect(attack["enforced"]),
                "; ".join(dict.fromkeys(map(_detected, lines))) or "-", right, *(benign if first else ("", "")),
            ))  # fmt: skip
    head = ("exploit", "attack", "bare", "enforced", "detected by", "library named", "false blocks", "false alarms")
    return _table(head, rows)


def _effect(happened: bool) -> str:
    return "happens" if happened else "stopped"


def _detected(line: Results) -> str:
    call = " ".join(filter(None, (line.get("syscall"), line.get("class"))))
    outcome = line.get("errno") or line.get("verdict") or line["event"]
    noticed = line.get("anomaly") or line.get("detector")
    return f"{call} {outcome}" + (f" ({noticed})" if noticed else "")


def all_lines(found: Iterable[Results]) -> Iterator[Results]:
    """Every line about an attack."""
    return (line for exploit in found for attack in exploit["attacks"] for line in attack["lines"])


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
        (exploit["name"], attack["name"], attack["why"])
        for exploit in found for attack in exploit["attacks"] if attack["enforced"]
    ]  # fmt: skip
    return _table(("function", "attack", "why"), rows) if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
