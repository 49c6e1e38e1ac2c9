"""A report as one HTML file, or as Markdown for a pull request.

The page holds all that it needs and asks for nothing: its own policy (CSP 3) forbids script, and any style but the one
whose digest it names. Every text that is put in is printable, has an end, and is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from sandbox.errors import missing_extra
from sandbox.profile import lint
from sandbox.profile.libraries import VERBS
from sandbox.report import charts, timeline
from sandbox.report.contents import FEW, MOST, Contents
from sandbox.report.surface import MARKS, MEANINGS, RISKS, STANDINGS
from sandbox.report.tree import short
from sandbox.violations import reader

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
TECHNIQUE = 16
"""Characters of an id of ATT&CK in a table; what a log has made up is cut."""
WIDE, NARROW = 720, 340
"""Widths for which pictures with text are drawn: a page has both and shows one."""


def _environment() -> Any:
    try:
        import jinja2
        import markupsafe
    except ImportError as error:
        raise missing_extra(
            "jinja2, which fills the page", "report", error, more="--format markdown needs none"
        ) from error

    def shown(value: object) -> object:
        """Whatever a template puts into the page, unless it is markup of ours."""
        return value if isinstance(value, markupsafe.Markup) or not isinstance(value, str) else short(value)

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, finalize=shown,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.globals.update(
        RISKS=RISKS, STANDINGS=STANDINGS, MARKS=MARKS, MEANINGS=MEANINGS, VERBS=VERBS, PLACES=lint.PLACES, FEW=FEW,
        MOST=MOST, KINDS=timeline.KINDS, TECHNIQUE=TECHNIQUE, moment=reader.moment, explained=reader.explained,
        span=timeline.span,
    )  # fmt: skip
    found.filters["percent"] = percent
    found.filters["short"] = short
    found.filters["brief"] = brief
    return found


def percent(share: float) -> str:
    """`34.8 %`; small shares keep a digit."""
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def brief(count: int) -> str:
    """`10,000`, `1.2 M`: a number that fits a tile."""
    return f"{count:,}" if count < 100_000 else f"{count / 1e3:,.0f} k" if count < 1e6 else f"{count / 1e6:,.1f} M"


def html(contents: Contents) -> str:
    """The page. Raises ExtraMissing where the extra `report` is not installed."""
    environment = _environment()
    from markupsafe import Markup

    with open(os.path.join(FOLDER, "page.css"), encoding="utf-8") as file:
        style = file.read()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    estimates = [known.estimate for known in contents.known]
    log = contents.log
    drawn = {
        "grids": {risk: Markup(charts.grid(contents.surface.of(risk), risk)) for risk in RISKS},
        "curves": [Markup(charts.curve(estimates, width)) for width in (WIDE, NARROW)] if estimates else [],
        "lines": [Markup(charts.time_line(log.bars, log.step, width)) for width in (WIDE, NARROW)]
        if log and log.bars else [],
    }  # fmt: skip
    page: str = environment.get_template("page.html").render(
        c=contents, p=contents.profile, style=Markup(style), style_digest=digest, **drawn
    )
    return page
