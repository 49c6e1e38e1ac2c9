"""The terminal as rich draws on it: loaded only where there is one, because rich takes as long as a small command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandbox.cli.screen import coloured, columns, wrapped
from sandbox.errors import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment


class TerminalConsole(Console):
    """A console that shows in whatever is rendered what a terminal would obey; its own colours come behind that."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


console = TerminalConsole(highlight=False, soft_wrap=True, markup=False)

NARROWEST = 14
"""Characters of a column, with what is drawn around it."""

Cell = str | tuple[str, str]
"""A text, or a text and its style."""


def show_table(
    titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", numbers: Collection[str] = ()
) -> None:
    """A table on the terminal, no wider than it: cells wrap. The columns called `numbers` are set to the right.

    Where columns would have less than NARROWEST characters each, a row is a paragraph of `title: cell` lines.
    """
    width = columns()
    if width < NARROWEST * len(titles):
        _stack(titles, rows, title, width)
        return
    table = Table(title=title or None, title_justify="left")
    for name in titles:
        table.add_column(name, overflow="fold", justify="right" if name in numbers else "left")
    for row in rows:
        cells = map(_styled, row)
        table.add_row(*(Text(printable(text), style) for text, style in cells))
    console.print(table, width=width)


def _styled(cell: Cell) -> tuple[str, str]:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return text, style if coloured() else ""


def _stack(titles: Sequence[str], rows: Iterable[Sequence[Cell]], title: str, width: int) -> None:
    if title:
        console.print(Text(title))
    for row in rows:
        for name, cell in zip(titles, row, strict=True):
            text, style = _styled(cell)
            if text:
                for line in wrapped(printable(f"{name}: {text}"), width):
                    console.print(Text(line, style), soft_wrap=True)
        console.print()


@contextlib.contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A line of progress on standard error, gone when it is done.

    With a `total` no thread draws it, because what is counted may fork.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    shown = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), TimeElapsedColumn())
    with Progress(*shown, console=TerminalConsole(stderr=True), transient=True, auto_refresh=total is None) as progress:
        task = progress.add_task(what, total=total)

        def step() -> None:
            progress.advance(task)
            progress.refresh()

        yield step
