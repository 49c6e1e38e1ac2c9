"""The part of `make demo` about a vulnerable library: whom a line names, and what `on-anomaly: deny` adds."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exploits.attack import SECRET
from exploits.demonstrated import DEMONSTRATED as ROW
from rich.console import Console
from rich.table import Table

from tools.evaluation import exploits
from tools.evaluation.page import WAYS
from tools.evaluation.production import plain, production
from tools.evaluation.serving import Deployed

NAMES = dict(zip(WAYS, ("under ./bootstrap", "with on-anomaly: deny"), strict=True))


def shown(console: Console) -> bool:
    """Train, serve and attack the function; print what came of it. Whether it is as it should be."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/var/tmp") as folder:
        work = Path(folder)
        work.chmod(0o755)
        root = work / ROW.name
        root.mkdir()
        (root / "app.py").write_text(ROW.code)
        with production(work, plain) as service:
            asked = {"API": f"127.0.0.1:{service.port}"}
            function = Deployed(ROW.name, root, Path(sys.prefix), (), {"TOKEN": SECRET}, asked, asked)
            found = exploits.evaluate(ROW, function, work, service)
    table = Table()
    for column in ("attack", "bare", *NAMES.values()):
        table.add_column(column)
    for way in WAYS:
        events, blocked = found[way]["events"], found[way]["false_blocks"]
        console.print(f"{NAMES[way]}: {events - blocked} of {events} ordinary events work")
    for attack in found["attacks"]:
        effects = ("happens" if attack[way]["effect"] else "blocked" for way in WAYS)
        table.add_row(attack["name"], "happens", *effects)
        for way in WAYS:
            for line in attack[way]["lines"]:
                console.print(f"{attack['name']}: {_said(line)}", soft_wrap=True, markup=False)
    console.print(table)
    return all(_is_good(attack) for attack in found["attacks"]) and not any(
        found[way]["false_blocks"] or found[way]["false_alarms"] for way in WAYS
    )


def _is_good(attack: Mapping[str, Any]) -> bool:
    """Whether it was stopped by `deny` at the latest, and each line names the library."""
    lines = [line for way in WAYS for line in attack[way]["lines"]]
    stopped = attack["enforced"]["effect"] is not attack["withstood"] and not attack["denying"]["effect"]
    return stopped and bool(lines) and all(line["right"] for line in lines)


def _said(line: Mapping[str, Any]) -> str:
    """A line in the words that matter: what was refused whom."""
    by = line["by"]
    library = " ".join(str(by.get(key, "?")) for key in ("distribution", "version", "module"))
    handler = by.get("handler", {}).get("line", "?")
    suspected = f" [{line['anomaly']}]" if "anomaly" in line else ""
    where = f"{library} line {by.get('line', '?')}, from app.py line {handler}"
    return f"{line['syscall']} {line['verdict']}: {where}{suspected}"
