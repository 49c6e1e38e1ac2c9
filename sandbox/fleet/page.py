"""The report over a fleet as one HTML file, in the style of a function's report.

It holds all that it needs and asks for nothing: its own policy (CSP 3) forbids script, and any style but the one whose
digest it names. Every text is made printable and escaped; colours repeat what words say.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from html import escape

from sandbox.errors import printable
from sandbox.fleet.engines import Value
from sandbox.fleet.report import SHOWN, TIMES, Answer, FleetReport, chapters, functions_by_tier, moment_of, shown, total

STYLE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "report", "templates", "page.css")
TIERS = {
    "unprotected": "high", "detects": "medium", "unknown": "medium", "learning": "medium", "degraded": "medium",
    "audited": "low", "enforced": "low",
}  # fmt: skip
"""The tiers, the worst first, each with the class that colours it."""
LONGEST = 200
"""Characters of a cell."""
LEFT_OUT = frozenset({"allow", "technique"})
"""Columns for which a page has no room; Markdown and JSON have them."""
BAR = 640
"""Units that the bar of tiers is wide."""


def html(report: FleetReport) -> str:
    """The page. Raises OSError where this installation lacks its style."""
    with open(STYLE, encoding="utf-8") as file:
        style = file.read()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return "\n".join(_page(report, style, digest)) + "\n"


def _page(report: FleetReport, style: str, digest: str) -> Iterator[str]:
    parts = list(chapters(report))
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield '<head>\n<meta charset="utf-8">'
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">'
    yield f"<title>Fleet report</title>\n<style>{style}</style>\n</head>\n<body>"
    yield '<a class="skip" href="#main">Skip to the report</a>'
    yield '<header>\n<p class="kicker">Sandbox report</p>\n<h1>Fleet</h1>'
    yield f'<p class="lead">Until <time>{moment_of(report.window.now)}</time>, asked on {escape(report.engine)}.</p>'
    yield "</header>"
    yield '<nav aria-label="Sections">\n<ul>'
    for name, title, _ in parts:
        yield f'<li><a href="#{name}">{escape(title)}</a></li>'
    yield '<li><a href="#unused">Unused rights</a></li>\n</ul>\n</nav>'
    yield '<main id="main" tabindex="-1">'
    yield from _glance(report)
    for name, title, rows in parts:
        yield f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{escape(title)}</h2>'
        yield from _table(title, rows)
        yield "</section>"
    yield '<section id="unused" aria-labelledby="unused-title">'
    yield f'<h2 id="unused-title">Rights that nothing used in the last {report.window.unused} days</h2>'
    for one in report.narrowing[:SHOWN]:
        yield f"<h3>{_text(one.function)}</h3>\n<ul>"
        yield from (f"<li><code>{_text(line)}</code></li>" for line in one.change)
        yield "</ul>"
    if not report.narrowing:
        yield "<p>None that activity or observations could show.</p>"
    yield "</section>\n</main>\n</body>\n</html>"


def _glance(report: FleetReport) -> Iterator[str]:
    """Numbers, and the tiers as a bar."""
    tables, tiers = report.tables, functions_by_tier(report)
    functions = set[str]().union(*tiers.values())
    tiles = [
        ("functions", len(functions), ""), ("unprotected", len(tiers.get("unprotected", ())), "high"),
        ("degraded or unknown", len(tiers.get("degraded", set()) | tiers.get("unknown", set())), "medium"),
        ("violations with a line", total(tables["violations"], "count"), ""),
        ("violations counted", total(tables["unlisted"], "count"), ""),
        ("refused in several functions at once", len(tables["together"]), "high"),
        ("new in the fleet", len(tables["new"]), ""), ("no longer as trained", len(tables["stale"]), "medium"),
    ]  # fmt: skip
    yield '<section id="glance" aria-labelledby="glance-title">\n<h2 id="glance-title">At a glance</h2>'
    yield '<dl class="tiles">'
    for title, count, colour in tiles:
        yield f'<div class="{colour if count else ""}"><dt>{escape(title)}</dt><dd><b>{count}</b></dd></div>'
    yield "</dl>"
    yield from _bar([(tier, len(tiers[tier])) for tier in TIERS if tier in tiers])
    yield "</section>"


def _bar(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    """How many functions each tier has, as parts of one bar; a function of two releases may be in two tiers."""
    whole = sum(count for _, count in counts)
    if not whole:
        return
    said = ", ".join(f"{count} {tier}" for tier, count in counts)
    fills = {"high": "#b42318", "medium": "#a15c07", "low": "#3b5b7a"}
    yield f'<figure>\n<svg role="img" aria-label="Functions by tier: {said}" viewBox="0 0 {BAR} 24">'
    at = 0.0
    for number, (tier, count) in enumerate(counts):
        width = BAR * count / whole
        opacity = 1 - 0.15 * (number % 3)
        place = f'x="{at:.1f}" y="0" width="{max(width - 1, 1):.1f}" height="24"'
        fill = f'fill="{fills[TIERS[tier]]}" fill-opacity="{opacity:.2f}"'
        yield f"<rect {place} {fill}><title>{tier}: {count}</title></rect>"
        at += width
    yield f"</svg>\n<figcaption>Functions by tier: {said}.</figcaption>\n</figure>"


def _table(title: str, rows: Sequence[Answer]) -> Iterator[str]:
    if not rows:
        yield "<p>None.</p>"
        return
    columns = [name for name in rows[0] if name not in LEFT_OUT]
    yield f'<table>\n<caption class="quiet">{escape(title)}</caption>\n<thead><tr>'
    yield "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    yield "</tr></thead>\n<tbody>"
    for row in rows[:SHOWN]:
        cells = shown(row)
        yield f"<tr>{''.join(_cell(name, cells[name]) for name in columns)}</tr>"
    yield "</tbody>\n</table>"
    if len(rows) > SHOWN:
        yield f"<p>{len(rows) - SHOWN} more; <code>sandbox fleet query</code> shows all.</p>"


def _cell(name: str, value: Value) -> str:
    if value is None or value == "":
        return '<td><span class="none">-</span></td>'
    if isinstance(value, int | float):
        return f'<td class="number">{value if isinstance(value, int) else f"{value:.3g}"}</td>'
    if name in TIMES:
        return f"<td><time>{_text(value[:16].replace('T', ' '))}</time></td>"
    if name == "tier":
        colour = TIERS.get(value, "low")
        return f'<td><span class="risk {colour}">{_text(value)}</span></td>'
    return f"<td><bdi>{_text(value[:12] if name == 'release' else value)}</bdi></td>"


def _text(value: str) -> str:
    """Whatever a stranger wrote, printable, with an end, and as text."""
    text = value if len(value) <= LONGEST else value[:LONGEST] + "..."
    return escape(printable(text))
