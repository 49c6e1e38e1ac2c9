"""The picture: a line of state, the accesses as they come, and all about the selected one.

Colours only repeat what words say, so that NO_COLOR and monochrome terminals lose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import BoundedSemaphore, Thread
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widgets import DataTable, Footer, Static

from sandbox.errors import SandboxError, printable
from sandbox.logs.counts import Counts, many
from sandbox.violations import reader
from sandbox.violations.reader import Line
from sandbox.watch.session import ALLOW, MOST, WatchedAccess, WatchedFunction

AHEAD = 8
"""Pieces of a log that may wait to be shown, before reading waits."""
NARROW, WIDE = 80, 130
"""Columns below which it is not shown when and in which request, and by whom; the details say it."""
STYLES = {"denied": "bold red", "terminated": "bold reverse red", "reported": "yellow", "suspected": "magenta"}
COLUMNS = {"time": 12, "phase": 6, "request": 8, "verdict": 10, "call": 22, "reaches": 0}
WIDE_COLUMNS = {**COLUMNS, "by": 0}
NARROW_COLUMNS = {"verdict": 10, "call": 16, "reaches": 0}
"""Each column's width; those without share what is left, LEAST at least."""
LEAST = 12


class Came(Message):
    """Lines that were read since the last."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        super().__init__()


class Ended(Message):
    """Nothing more comes; `why` in words."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__()


class Watch(App[None]):
    """One log, live. `read` yields lines and blocks between them, in a thread of its own; `stop` ends it."""

    CSS = """
    #state { height: auto; padding: 0 1; background: $primary-background; }
    #rows { height: 2fr; min-height: 4; }
    #about { height: 1fr; min-height: 4; border-top: solid $primary; padding: 0 1; }
    """
    TITLE = "sandbox watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "Quit"),
        Binding("r", "refusals", "Refusals"),
        Binding("p", "pause", "Pause"),
        Binding("f", "newest", "Newest"),
        Binding("n", "next_refusal", "Next one"),
        Binding("tab", "app.focus_next", "Switch", show=False),
    ]

    def __init__(
        self, source: str, counts: Counts, read: Callable[[], Iterator[list[Line]]], stop: Callable[[], None]
    ) -> None:
        """`source` names the log for people, `counts` is what was read of it so far."""
        super().__init__()
        self.session = WatchedFunction(counts=counts)
        self.refusals_only = False
        self.paused = False
        self._source = source
        self._read = read
        self._stop = stop
        self._follows = True
        self._width = 0
        self._columns = COLUMNS
        self._stopped = False
        self._room = BoundedSemaphore(AHEAD)
        self._reader = Thread(target=self._run, name="log", daemon=True)

    def compose(self) -> ComposeResult:
        """The three parts and the keys."""
        yield Static(id="state", markup=False)
        with Vertical():
            yield DataTable(id="rows", cursor_type="row", zebra_stripes=True)
            with VerticalScroll(id="about", can_focus=True):
                yield Static("nothing is selected", id="details", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Start to read."""
        self._width = self.size.width
        self._fill()
        self._say()
        self.query_one(DataTable).focus()
        self.set_interval(1.0, self._say)
        self._reader.start()

    def on_unmount(self) -> None:
        """Let the thread end."""
        self._stopped = True
        self._stop()
        self._reader.join(2)

    def _run(self) -> None:
        why = "the log ended"
        try:
            for lines in self._read():
                while lines and not self._room.acquire(timeout=0.5):
                    if self._stopped:
                        return
                if lines:
                    self.post_message(Came(lines))
        except (OSError, SandboxError) as error:
            why = printable(str(error).partition("\n")[0])
        if not self._stopped:
            self.post_message(Ended(why))

    def on_came(self, message: Came) -> None:
        """Show new lines."""
        self._room.release()
        new = [row for line in message.lines for row in self.session.take(line)]
        if not self.paused:
            self._add(new)
        self._say()

    def on_ended(self, message: Ended) -> None:
        """Say that no more will come."""
        self.session.ended = message.why
        self._say()

    def on_resize(self, event: Resize) -> None:
        """Fewer columns where there is no room, wider ones where there is."""
        if event.size.width != self._width:
            self._width = event.size.width
            self._fill()
        self._say()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """All about the selected row."""
        row = self._row(event.row_key.value)
        if row:
            self.query_one("#details", Static).update(about(row))
        table = event.data_table
        self._follows = table.cursor_row >= table.row_count - 1

    def action_refusals(self) -> None:
        """Leave out what is allowed, or show it again."""
        self.refusals_only = not self.refusals_only
        self._fill()
        self._say()

    def action_pause(self) -> None:
        """Hold the list still; what comes meanwhile is shown afterwards."""
        self.paused = not self.paused
        if not self.paused:
            self._fill()
        self._say()

    def action_newest(self) -> None:
        """Go to the last row and stay there."""
        table = self.query_one(DataTable)
        self._follows = True
        if table.row_count:
            table.move_cursor(row=table.row_count - 1)
        else:
            self.query_one("#details", Static).update("nothing is selected")

    def action_next_refusal(self) -> None:
        """Go to the next row that is not allowed, from the first on behind the last."""
        table = self.query_one(DataTable)
        rows = [self._row(key.value) for key in table.rows]
        order = [*range(table.cursor_row + 1, len(rows)), *range(min(table.cursor_row + 1, len(rows)))]
        for index in order:
            if (row := rows[index]) and row.is_refusal:
                table.move_cursor(row=index)
                return

    def _row(self, key: str | None) -> WatchedAccess | None:
        first = self.session.rows[0].number if self.session.rows else 0
        index = int(key or 0) - first
        return self.session.rows[index] if 0 <= index < len(self.session.rows) else None

    def _fill(self) -> None:
        """Show all rows anew, and stay at the selected one where it is among them."""
        table = self.query_one(DataTable)
        key = None
        if table.row_count and not self._follows:
            key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key
        table.clear(columns=True)
        self._columns = columns(self._width)
        for name, width in self._columns.items():
            table.add_column(name, key=name, width=width)
        self._put(self.session.rows)
        if key is not None and key in table.rows:
            table.move_cursor(row=table.get_row_index(key))
        else:
            self.action_newest()

    def _add(self, rows: list[WatchedAccess]) -> None:
        table = self.query_one(DataTable)
        if table.row_count + len(rows) > 2 * MOST:  # removing rows one by one takes longer
            self._fill()
            return
        follows = self._follows
        self._put(rows)
        if follows:
            self.action_newest()

    def _put(self, rows: Iterable[WatchedAccess]) -> None:
        table = self.query_one(DataTable)
        for row in rows:
            if row.is_refusal or not self.refusals_only:
                table.add_row(*cells(row, self._columns), key=str(row.number))

    def _say(self) -> None:
        told = state(self.session, self._source, self._width, paused=self.paused, refusals_only=self.refusals_only)
        self.query_one("#state", Static).update(told)


def state(session: WatchedFunction, source: str, width: int, *, paused: bool, refusals_only: bool) -> Text:
    """The head: who, in which mode and phase, serving what, and how much there was."""
    text = Text(no_wrap=False)
    text.append(session.function or "waiting for a start", "bold")
    mode = session.mode or "mode not known"
    text.append("  ")
    text.append(mode, "bold green" if mode == "enforce" else "bold yellow")
    text.append(f"  phase {session.phase or '?'}")
    if session.request:
        text.append(f"  request {session.request if width >= NARROW else session.request[:8]}")
    counts = [f"{count} {verdict}" for verdict, count in sorted(session.by_verdict.items())]
    text.append(f"\n{', '.join(counts) or 'no accesses yet'}; ")
    text.append(f"{many(session.invocations, 'invocation')}, {many(session.starts, 'start')}")
    marks = ["PAUSED"] * paused + ["refusals only"] * refusals_only + [session.ended] * bool(session.ended)
    if marks:
        text.append(f"  [{', '.join(marks)}]", "bold")
    if session.degraded:
        text.append(f"\nnot in force: {'; '.join(session.degraded)}", "yellow")
    if session.counts.nothing_ours:
        text.append(f"\n{session.counts.verdict()}", "yellow")
    elif width >= NARROW:
        text.append(f"\n{source}: {session.counts.lines} lines read", "dim")
    return text


def columns(width: int) -> dict[str, int]:
    """The columns that a screen of so many has room for, each with its width."""
    found = NARROW_COLUMNS if width < NARROW else WIDE_COLUMNS if width >= WIDE else COLUMNS
    shared = [name for name, own in found.items() if not own]
    rest = width - sum(found.values()) - 2 * len(found) - 2  # the padding of each, and the scroll bar
    return {name: own or max(rest // len(shared), LEAST) for name, own in found.items()}


def cells(row: WatchedAccess, columns: Mapping[str, int]) -> list[Text]:
    """A row's texts; what is longer than its column is cut in the middle, and whole among the details."""
    texts = {
        "time": reader.moment(row.time)[11:23], "phase": row.phase, "request": row.request, "verdict": row.verdict,
        "call": row.call, "reaches": row.target, "by": row.by,
    }  # fmt: skip
    style = STYLES.get(row.verdict, "")
    found = []
    for name, width in columns.items():
        said = texts[name]
        if len(said) > width:
            said = f"{said[: width // 2 - 1]}…{said[-(width - width // 2) :]}"
        found.append(Text(said, style if name in ("verdict", "call") else ""))
    return found


def about(row: WatchedAccess) -> Text:
    """All about a row."""
    text = Text()
    for name, said in row.details:
        text.append(f"{name:>9} ", "bold green" if name == ALLOW else "bold")
        text.append(f"{said}\n", "bold" if name == ALLOW else "")
    return text
