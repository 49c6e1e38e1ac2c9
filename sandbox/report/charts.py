"""The pictures of a page, as SVG that needs neither script nor style.

Colours are attributes of each mark, which the page's style may replace (in the dark). No text of a stranger gets into a
picture: what a profile or a log names stands in the tables beside it. To a screen reader each is one image whose label
says what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sandbox.errors import missing_extra
from sandbox.profile.completeness import TARGET, bound
from sandbox.profile.model import Estimate
from sandbox.report.surface import RISKS, Standing, SystemCall
from sandbox.report.timeline import Bar, span

COLOURS: Mapping[str, str] = {"high": "#b42318", "medium": "#a15c07", "low": "#3b5b7a"}
QUIET = "#8a94a6"
INK = "currentColor"
FONT = "system-ui, sans-serif"

SHAPES: Mapping[Standing, tuple[str, float]] = {
    "allowed": ("M-1,-1H1V1H-1Z", 1.0), "in part": ("M-1,1L1,-1V1Z", 1.0), "init only": ("M-1,-1H1V1H-1Z", 1.0),
    "refused": ("circle", 0.1),
}  # fmt: skip
CELL, COLUMNS = 15, 20
MOST_QUIET = 1000


def _library() -> Any:
    try:
        import altair
        import vl_convert  # noqa: F401  # what draws; both come with the extra
    except ImportError as error:
        raise missing_extra(
            "altair and vl-convert, which draw pictures", "report", error, more="--format markdown needs none"
        ) from error
    return altair


def _drawn(chart: Any, label: str) -> str:
    """The SVG of a chart: as wide as there is room, and an image with a label (words of ours, without markup)."""
    import vl_convert

    configured = chart.configure(background="transparent", font=FONT, padding=2).configure_view(stroke="transparent")
    configured = configured.configure_axis(
        labelColor=INK, titleColor=INK, domainColor=QUIET, tickColor=QUIET, gridColor=QUIET, gridOpacity=0.25,
        labelFontSize=12, titleFontSize=12, titleFontWeight="normal", labelFont=FONT, titleFont=FONT,
    )  # fmt: skip
    svg: str = vl_convert.vegalite_to_svg(configured.to_dict())
    head, _, rest = svg.partition(">")
    box = head.partition('viewBox="')[2].partition('"')[0]
    # As wide as there is room and no higher than it is drawn, also where no style says so.
    size = f'width="100%" height="{box.split()[3]}" preserveAspectRatio="xMinYMin meet"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {size} role="img" aria-label="{label}">{rest}'


def grid(calls: Iterable[SystemCall], risk: str) -> str:
    """The calls of one risk, a mark each, in their order: shape says what becomes of a call."""
    alt = _library()
    layers = []
    cells = [(i % COLUMNS, i // COLUMNS, call.standing) for i, call in enumerate(calls)]
    rows = max((y for _, y, _ in cells), default=0) + 1
    for standing, (shape, share) in SHAPES.items():
        values = [{"x": x, "y": y} for x, y, found in cells if found == standing]
        if not values:
            continue
        hollow = standing == "init only"
        colour = QUIET if standing == "refused" else COLOURS[risk]
        layers.append(
            alt.Chart(alt.Data(values=values))
            .mark_point(
                shape=shape, size=(CELL - 4) ** 2 * share, opacity=1, aria=False, strokeWidth=1.6 if hollow else 0,
                fill="transparent" if hollow else colour, stroke=colour,
            )
            .encode(
                x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-0.5, COLUMNS - 0.5], nice=False)),
                y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[rows - 0.5, -0.5], nice=False)),
            )
        )  # fmt: skip
    label = f"A mark for each of the {len(cells)} system calls of {risk} risk, those that are open first."
    return _drawn(alt.layer(*layers).properties(width=CELL * COLUMNS, height=CELL * rows), label)


def curve(estimates: Iterable[Estimate], width: int) -> str:
    """The bound by the number of quiet samples, and where each phase of a profile stands on it."""
    alt = _library()
    counts = sorted({round(10 ** (step / 24)) for step in range(24 * 3 + 1)})
    line = [{"quiet": count, "bound": bound(count)} for count in counts]
    at: dict[int, list[str]] = {}
    for estimate in estimates:
        at.setdefault(min(max(1, estimate.quiet), MOST_QUIET), []).append(estimate.phase)
    points = [{"quiet": quiet, "bound": bound(quiet), "phase": ", ".join(phases)} for quiet, phases in at.items()]
    x = alt.X(
        "quiet:Q", scale=alt.Scale(type="log", domain=[1, MOST_QUIET], nice=False), title="last events without news",
        axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000], grid=False, format="d"),
    )  # fmt: skip
    y = alt.Y(
        "bound:Q", scale=alt.Scale(type="log", domain=[0.002, 1], nice=False), title="may need something unseen",
        axis=alt.Axis(format=".1~%", values=[0.003, 0.01, 0.03, 0.1, 0.3, 1]),
    )  # fmt: skip
    target = alt.Chart(alt.Data(values=[{"bound": TARGET}])).mark_rule(
        color=COLOURS["low"], strokeDash=[4, 4], aria=False
    ).encode(y="bound:Q")  # fmt: skip
    chart = alt.Chart(alt.Data(values=line)).mark_line(color=QUIET, strokeWidth=2, aria=False).encode(x=x, y=y)
    layers = [target, chart]
    if points:
        marks = alt.Chart(alt.Data(values=points))
        dots = marks.mark_point(fill=COLOURS["high"], strokeWidth=0, size=110, opacity=1, aria=False)
        names = marks.mark_text(align="left", dx=9, dy=-9, fontSize=13, fontWeight=600, color=INK, aria=False)
        layers += [dots.encode(x=x, y=y), names.encode(x=x, y=y, text="phase:N")]
    stands = "".join(f" {point['phase']} stands at {point['bound']:.0%}." for point in points)
    label = f"A line that falls from {bound(1):.0%} after one event without news to {bound(MOST_QUIET):.1%}.{stands}"
    return _drawn(alt.layer(*layers).properties(width=width - 70, height=210), label)


def _clock(bars: Sequence[Bar]) -> str:
    """How moments are written (d3-time-format): what tells those of one picture apart."""
    last = bars[-1].start - bars[0].start
    if last < 5:
        return "%H:%M:%S.%L"
    return "%H:%M:%S" if last < 300 else "%H:%M" if last < 43200 else "%d %b %H:%M" if last < 604800 else "%d %b %Y"


def _moments(bars: Sequence[Bar], step: float, most: int) -> list[int]:
    """Where an axis has labels, in milliseconds: each is the beginning of a bar."""
    count = round((bars[-1].start - bars[0].start) / step) + 2
    return [round((bars[0].start + at * step) * 1000) for at in range(0, count, -(-count // most))]


def _whole(highest: int) -> list[int]:
    """Whole numbers for an axis: some five, from 0 to the highest or above it."""
    step = 1
    while step * 5 < highest:
        step = step * 2 if str(step)[0] in "15" else step // 2 * 5
    return list(range(0, highest + step, step))


def time_line(bars: Sequence[Bar], step: float, width: int) -> str:
    """Violations by time, a bar a span, the risks upon one another."""
    alt = _library()
    height: dict[float, int] = {}
    values = []
    for bar in sorted(bars, key=lambda bar: (bar.start, RISKS.index(bar.risk))):
        low = height.get(bar.start, 0)
        height[bar.start] = low + bar.count
        begin, end = round(bar.start * 1000), round((bar.start + step) * 1000)
        values.append({"from": begin, "to": end, "low": low, "high": low + bar.count, "risk": bar.risk})
    whole, moments = _whole(max(height.values())), _moments(bars, step, width // 150)
    clock = f"utcFormat(datum.value, '{_clock(bars)}')"
    colours = alt.Scale(domain=list(RISKS), range=[COLOURS[risk] for risk in RISKS])
    chart = alt.Chart(alt.Data(values=values)).mark_rect(aria=False, xOffset=1).encode(
        # As numbers: Vega tells moments apart by their text, which has no part of a second.
        x=alt.X(
            "from:Q", scale=alt.Scale(domain=[moments[0], values[-1]["to"]], nice=False), title=None,
            axis=alt.Axis(grid=False, values=moments, labelExpr=clock, labelOverlap="greedy"),
        ),
        x2="to:Q",
        y=alt.Y(
            "low:Q", title="violations", axis=alt.Axis(values=whole, format="~s"),
            scale=alt.Scale(domain=[0, whole[-1]], nice=False),
        ),
        y2="high:Q",
        color=alt.Color("risk:N", scale=colours, legend=None),
    )  # fmt: skip
    label = f"Violations by time, in bars of {span(step)}: at most {max(height.values()):,} in one."
    return _drawn(chart.properties(width=width - 60, height=150), label)
