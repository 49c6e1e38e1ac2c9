"""The terminal as rich draws on it: loaded only where there is one, because rich takes as long as a small command."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

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

Cell = str | tuple[str, str]
"""A text, or a text and its style."""


def show_table(
    titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str = "", numbers: Collection[str] = ()
) -> None:
    """A table on the terminal, as wide as it: cells wrap. The columns called `numbers` are set to the right."""
    table = Table(title=title or None, title_justify="left")
    for name in titles:
        table.add_column(name, overflow="fold", justify="right" if name in numbers else "left")
    for row in rows:
        cells = ((cell, "") if isinstance(cell, str) else cell for cell in row)
        table.add_row(*(Text(printable(text), style) for text, style in cells))
    console.print(table)
