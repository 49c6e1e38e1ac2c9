"""docs/evaluation.md, rendered from the results: the page says nothing that a run did not find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Results = Mapping[str, Any]
WAYS = ("enforced", "denying")
"""Under the profile as it was learned, and with `on-anomaly: deny` in it."""

HEAD = """\
# Evaluation

What a learned profile keeps from an attacker, what gets through, and what it costs. `make evaluate` trains every
function below anew, serves and attacks it, and writes this page from `tests/exploits/results.json`; the functions,
their events and the attacks are in `tests/exploits`. The libraries are real, in versions with the hole that each row
names, and pinned in `requirements/exploits.txt`. Payloads are harmless: they make a file, connect to a listener of
the evaluation's own, or run `id`.
"""

EXPLOITS = """\
## Exploits

Each function is trained with ordinary events. Then every attack is served to the bare function, where it must have
its effect, to the function under its profile, and under the same profile with `on-anomaly: deny`. An effect is looked
for where it shows (a file, a listener), never in an answer unless the answer is the way out. *Detected by* is the
call that has a line, what it was refused, and what a detector suspected. *Library named* is what the lines name, and
how many of them name the right one: the vulnerable library, or the function where it is its own code. Before, between
and behind the attacks both serve events that training did not see: *false blocks* are those with another answer than
bare, *false alarms* their lines.
"""

NEGATIVES = """\
## What got through

Attacks that only do what the profile allows have their effect, unless a detector suspects them and the profile says
that it decides. And what a line names is no proof: code in the process can pretend to be any other's. Such lines are
left out of the count above.
"""

WORKLOADS = """\
## What training knows, and what came

Ten ordinary functions, trained with 20, 60 and 200 events that are drawn as production's would be: most alike, some
rare. *Estimate* is the share of events that the profile of the others would refuse something, *at most* the bound that
training states (95 % confidence); *came* is how many of 100 events that training did not see needed something else,
under audit.
"""
CALLS = """\
## System calls

How many of this machine's system calls each lets a function make: Docker's default profile
(`tests/guests/moby-default.json`, calls with conditions counted), a list made from `strace -f` of a start with 20 of
the events, and the learned profile of 200, until the function asks for its first event and afterwards. The learned one
holds more calls than strace's: it closes families (`open` and `openat`, `fork` and `clone`), so that it serves other C
libraries and architectures, and it has the floor of harmless calls. Of many calls it lets only classes of arguments
through, which the count does not show.
"""
COSTS = """\
## Costs

The fastest of 9 starts, from the spawn to the first question for an event, and of the 9 medians of warm invocations,
bare and under native launcher and supervisor by turns. `tools/bench` measures with more care
([performance.md](performance.md)).
"""


def render(results: Results) -> str:
    """The whole page."""
    exploits, workloads = (
        [row for row in results[kind] if "skipped" not in row] for kind in ("exploits", "workloads")
    )
    parts = [
        HEAD, _measured(results), EXPLOITS, _exploits(exploits), _totals(exploits), NEGATIVES, _through(exploits),
        WORKLOADS, _estimates(workloads), _served(workloads), CALLS, _calls(workloads), COSTS, _costs(workloads),
        f"The machine had other work (a load of {results['load']} when this began): small differences are chance.",
    ]  # fmt: skip
    skipped = [row["skipped"] for kind in ("exploits", "workloads") for row in results[kind] if "skipped" in row]
    parts += [f"Left out here: {'; '.join(skipped)}."] if skipped else []
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _measured(results: Results) -> str:
    machine = results["machine"]
    return (
        f"Written on {machine['date']}: {machine['kernel']}, {machine['cores']} cores of {machine['processor']}, "
        f"Python {machine['python']}, in {machine['minutes']} minutes beside other work.\n"
    )


def _exploits(found: Sequence[Results]) -> str:
    rows = []
    for exploit in found:
        benign = tuple(_of_both(exploit, key) for key in ("false_blocks", "false_alarms"))
        for number, attack in enumerate(exploit["attacks"]):
            first = number == 0
            detected = "; ".join(dict.fromkeys(map(_detected, _lines(attack)))) or "-"
            rows.append((
                exploit["flaw"] if first else "", attack["name"], _effect(attack["bare"]),
                *(_effect(attack[way]["effect"]) for way in WAYS), detected, _named(attack),
                *(benign if first else ("", "")),
            ))  # fmt: skip
    head = (
        "exploit", "attack", "bare", "enforced", "on-anomaly: deny", "detected by", "library named", "false blocks",
        "false alarms",
    )  # fmt: skip
    return _table(head, rows)


def _of_both(exploit: Results, key: str) -> str:
    return f"{sum(_count(exploit[way][key]) for way in WAYS)} of {sum(exploit[way]['events'] for way in WAYS)}"


def _count(found: int | Sequence[Any]) -> int:
    return found if isinstance(found, int) else len(found)


def _lines(attack: Results) -> list[Results]:
    return [line for way in WAYS for line in attack[way]["lines"]]


def _named(attack: Results) -> str:
    lines = _lines(attack)
    if not lines:
        return "-"
    names = ", ".join(dict.fromkeys(map(_name, lines)))
    return f"{names}: forged" if attack["forged"] else f"{names}: {sum(x['right'] for x in lines)} of {len(lines)}"


def _name(line: Results) -> str:
    """Whom a line names: `PyYAML 5.3.1 yaml/constructor.py`, or the function's own frame alone."""
    by = line["by"]
    started = "started by " if by.get("started") else ""
    if "distribution" in by:
        return started + " ".join(filter(None, (by["distribution"], by["version"], by["module"])))
    return f"{started}the function, line {by['handler']['line']}" if "handler" in by else "nobody"


def _effect(happened: bool) -> str:
    return "happens" if happened else "stopped"


def _detected(line: Results) -> str:
    call = " ".join(filter(None, (line.get("syscall"), line.get("class"))))
    outcome = line.get("errno") or line.get("verdict") or "let through"
    return f"{call} {outcome}" + (f" ({line['anomaly']})" if "anomaly" in line else "")


def all_lines(found: Iterable[Results]) -> Iterator[Results]:
    """Every line about an attack that does not forge it."""
    attacks = (attack for exploit in found for attack in exploit["attacks"] if not attack["forged"])
    return (line for attack in attacks for line in _lines(attack))


def _totals(found: Sequence[Results]) -> str:
    lines = list(all_lines(found))
    right = sum(line["right"] for line in lines)
    attacks = [attack for exploit in found for attack in exploit["attacks"]]
    stopped, denied = (sum(not attack[way]["effect"] for attack in attacks) for way in WAYS)
    benign, blocked, alarms = (
        sum(_count(exploit[way][key]) for exploit in found for way in WAYS)
        for key in ("events", "false_blocks", "false_alarms")
    )
    return (
        f"Of {len(attacks)} attacks {stopped} are stopped, {denied} with `on-anomaly: deny`. {right} of {len(lines)} "
        f"lines ({share(right, len(lines))}) name the right library. Of {benign} ordinary events "
        f"{blocked} were blocked, and {alarms} lines were written about them.\n"
    )


def share(part: int, whole: int) -> str:
    """A percentage, or nothing of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "none"


def _through(found: Sequence[Results]) -> str:
    rows = [
        (exploit["name"], attack["name"], *(_effect(attack[way]["effect"]) for way in WAYS), attack["why"])
        for exploit in found for attack in exploit["attacks"]
        if attack["forged"] or any(attack[way]["effect"] for way in WAYS)
    ]  # fmt: skip
    return _table(("function", "attack", "enforced", "on-anomaly: deny", "why"), rows)


def _estimates(found: Sequence[Results]) -> str:
    counts = list(found[0]["trainings"]) if found else []
    heads = [text for n in counts for text in (f"{n} events: estimate", "at most", "came")]
    head = ["workload", *heads, f"what came after {counts[0]}" if counts else ""]
    rows = []
    for workload in found:
        cells = []
        for one in workload["trainings"].values():
            cells += [f"{100 * one['novelty']:.1f} %", f"{100 * one['bound']:.1f} %", f"{one['needed']} of 100"]
        new = workload["trainings"][counts[0]]["new"]
        rows.append([workload["name"], *cells, ", ".join(new) or "-"])
    return _table(head, rows)


def _served(found: Sequence[Results]) -> str:
    events = sum(workload["held_out"] for workload in found)
    blocked = sum(workload["false_blocks"] for workload in found)
    alarms = sum(len(workload["false_alarms"]) for workload in found)
    within = [one["needed"] / 100 <= one["bound"] for workload in found for one in workload["trainings"].values()]
    return (
        f"In {sum(within)} of {len(within)} trainings no more came than the bound. Enforced after 200 events, with "
        f"`on-anomaly: deny`, {blocked} of {events} were blocked, and {alarms} lines written.\n"
    )


def _calls(found: Sequence[Results]) -> str:
    head = ("workload", "Docker's default", "`strace -f`", "learned, init", "learned, invoke")
    keys = ("docker", "strace", "init", "invoke")
    return _table(head, [(row["name"], *(str(row["calls"][key] or "no strace") for key in keys)) for row in found])


def _costs(found: Sequence[Results]) -> str:
    head = (
        "workload", "start, bare, ms", "enforced", "on-anomaly: deny", "warm invocation, bare, ms", "enforced",
        "on-anomaly: deny",
    )  # fmt: skip
    rows = []
    for workload in found:
        cells = []
        for what in ("start", "warm"):
            times = workload["costs"][what]
            usual = times["bare"]
            cells += [f"{usual:.2f}", *(f"{times[way]:.2f}, {times[way] / usual:.2f} x" for way in WAYS)]
        rows.append((workload["name"], *cells))
    return _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
