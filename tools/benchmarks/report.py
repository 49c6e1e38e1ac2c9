"""A benchmark's outcome as a Markdown table for people or as one JSON object for machines."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.benchmarks.measure import Bar, Series


@dataclass(frozen=True)
class Row:
    """One line of a table; `cells` are text, `series` (in the table's unit) fills min, quartiles and median."""

    name: str
    series: Series | None
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """`columns` names the cells behind the name and the spread; `scale` turns seconds into `unit`."""

    title: str
    unit: str
    scale: float
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    digits: int = 1


@dataclass(frozen=True)
class Report:
    """Everything that one run of the tool found out."""

    benchmark: str
    rounds: int
    tables: tuple[Table, ...]
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()
    interpreters: dict[str, str] = field(default_factory=dict)


def machine() -> dict[str, str]:
    """What the times depend on: processor, cores, kernel, day. No name of the host."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "kernel": f"Linux {platform.release()} {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": model,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def markdown(report: Report) -> str:
    """The tables, the bars and what there is to note."""
    facts = machine()
    pythons = "; ".join(f"{use}: {version}" for use, version in report.interpreters.items())
    processor = f" of {facts['processor']}" if facts["processor"] else ""
    lines = [
        f"Measured on {facts['date']}: {facts['kernel']}, {facts['cores']} cores{processor}; {pythons}; "
        f"{report.rounds} interleaved round{'s' if report.rounds != 1 else ''} after one that does not count.",
        "",
    ]
    for table in report.tables:
        lines += [*_table(table), ""]
    for bar in report.bars:
        low, high = bar.spread
        lines.append(
            f"- {bar.text}: {bar.value:.2f} (rounds: {low:.2f} to {high:.2f}), "
            f"bar {bar.limit:.2f}: {'met' if bar.met else 'missed'}"
        )
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table) -> list[str]:
    spread = ("median", "min", "quartiles") if any(row.series for row in table.rows) else ()
    head = [f"{table.title}, {table.unit}" if table.unit else table.title, *spread, *table.columns]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for row in table.rows:
        cells: list[str] = []
        if row.series:
            low, high = row.series.quartiles
            numbers = [table.scale * value for value in (row.series.median, row.series.lowest, low, high)]
            median, lowest, low_text, high_text = (f"{number:.{table.digits}f}" for number in numbers)
            cells = [median, lowest, f"{low_text} to {high_text}"]
        elif spread:
            cells = [""] * len(spread)
        lines.append(_line([row.name, *cells, *row.cells]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def as_json(report: Report) -> str:
    """The same as one JSON object: all rounds of each case, in seconds."""
    document: dict[str, Any] = {
        "benchmark": report.benchmark,
        "machine": machine(),
        "interpreters": report.interpreters,
        "rounds": report.rounds,
        "tables": [
            {
                "title": table.title,
                "rows": [
                    {
                        "name": row.name,
                        "seconds": list(row.series.values) if row.series else [],
                        "median": row.series.median if row.series else None,
                        "min": row.series.lowest if row.series else None,
                        "quartiles": list(row.series.quartiles) if row.series else None,
                        **dict(zip(table.columns, row.cells, strict=False)),
                    }
                    for row in table.rows
                ],
            }
            for table in report.tables
        ],
        "bars": [
            {"text": bar.text, "value": bar.value, "limit": bar.limit, "quartiles": list(bar.spread), "met": bar.met}
            for bar in report.bars
        ],
        "notes": list(report.notes),
    }
    return json.dumps(document) + "\n"
