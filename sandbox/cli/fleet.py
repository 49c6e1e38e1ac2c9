"""`sandbox fleet`: take in the lines of many functions, ask questions of them, and learn profiles from them."""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from sandbox.cli.output import emit, json_line, json_text, say, warn, write_text
from sandbox.errors import UsageError
from sandbox.fleet.engines import Value
from sandbox.fleet.extras import FLEET, require
from sandbox.logs.counts import many


class EngineChoice(enum.StrEnum):
    """What --engine takes."""

    duckdb = "duckdb"
    spark = "spark"


StoreArgument = Annotated[str, typer.Argument(help="The folder of the store", metavar="STORE")]
EngineOption = Annotated[EngineChoice, typer.Option("--engine", help="What answers: duckdb in this process, or spark")]
DaysOption = Annotated[int, typer.Option(min=1, help="Days within which a thing is new", metavar="N")]
MinutesOption = Annotated[int, typer.Option(min=1, help="Minutes that count as at once", metavar="N")]
FunctionsOption = Annotated[int, typer.Option(min=2, help="Functions that count as several", metavar="N")]
UnusedOption = Annotated[int, typer.Option(min=1, help="Days without use after which a right is unused", metavar="N")]
NowOption = Annotated[str, typer.Option(help="The moment of the question: 2026-11-30T12:00", metavar="TIME")]
SinceOption = Annotated[str, typer.Option(help="Read only days from this one on, and undated lines", metavar="DAY")]
OnlyOption = Annotated[str, typer.Option("--function", help="Only this function", metavar="NAME")]


def ingest(
    store: StoreArgument,
    sources: Annotated[
        list[str],
        typer.Argument(help="Logs, profiles, bundles: files, folders, s3://..., or -", metavar="SOURCE..."),
    ],
    json_output: Annotated[bool, typer.Option("--json", help="JSON lines instead of text")] = False,
) -> None:
    """Add the lines of logs, profiles and bundles to a store. The same lines again add nothing.

    Example: sandbox fleet ingest store logs/ profiles/
    """
    require(*FLEET)
    from sandbox.fleet import ingest as ingestion
    from sandbox.fleet import sources as opening
    from sandbox.fleet.store import Store

    counts, writer = ingestion.ingest(Store(store, create=True), opening.sources(sources), warn)
    if json_output:
        json_line({**vars(counts), "rows": writer.taken, "new": writer.new, "files": writer.files})
    else:
        say(
            f"{store}: {many(counts.lines, 'line')} of {many(counts.sources, 'source')}, {counts.ours} of ours; "
            f"{many(writer.new, 'new row')} in {many(writer.files, 'file')}"
            + (f"; {counts.not_understood} cut or altered" if counts.not_understood else "")
        )
    if counts.damaged:
        raise typer.Exit(1)


def report(
    store: StoreArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="A file: .html, .md or .json", metavar="FILE")] = "",
    engine: EngineOption = EngineChoice.duckdb,
    days: DaysOption = 7,
    minutes: MinutesOption = 10,
    functions: FunctionsOption = 3,
    unused: UnusedOption = 30,
    now: NowOption = "",
    since: SinceOption = "",
    function: OnlyOption = "",
) -> None:
    """Answer every question, as a page, Markdown or JSON.

    Example: sandbox fleet report store --output fleet.html
    """
    require(*FLEET)
    from sandbox.fleet import engines, page
    from sandbox.fleet import report as reporting
    from sandbox.fleet.questions import Window
    from sandbox.fleet.store import Store

    ending = output.rpartition(".")[2] if output else "md"
    if ending not in ("html", "json", "md"):
        todo = "end its name with .html, .md or .json"
        raise UsageError("is neither HTML nor Markdown nor JSON", where=f"-o {output}", todo=todo)
    window = Window(_moment(now), days, minutes, functions, unused, function)
    with engines.opened(Store(store), engine.value, _day(since)) as opened:
        found = reporting.gather(opened, window)
    written = {
        "html": lambda: page.html(found), "md": lambda: reporting.markdown(found),
        "json": lambda: json_text(reporting.data(found), 2) + "\n",
    }  # fmt: skip
    text = written[ending]()
    if output:
        write_text(output, text)
        say(f"wrote {output}")
    else:
        emit(text)


def query(
    store: StoreArgument,
    question: Annotated[str, typer.Argument(help="A question's name, or a SELECT over the tables", metavar="NAME|SQL")],
    engine: EngineOption = EngineChoice.duckdb,
    days: DaysOption = 7,
    minutes: MinutesOption = 10,
    functions: FunctionsOption = 3,
    unused: UnusedOption = 30,
    now: NowOption = "",
    since: SinceOption = "",
    function: OnlyOption = "",
    json_output: Annotated[bool, typer.Option("--json", help="JSON lines instead of a table")] = False,
) -> None:
    """Answer one question, or a SELECT of your own. Nothing can be written, and no other file be read.

    Example: sandbox fleet query store "SELECT function, count(*) FROM violations GROUP BY function"
    """
    require(*FLEET)
    from sandbox.fleet import engines, select
    from sandbox.fleet import report as reporting
    from sandbox.fleet.questions import QUESTIONS, Window
    from sandbox.fleet.store import Store

    window = Window(_moment(now), days, minutes, functions, unused, function)
    with engines.opened(Store(store), engine.value, _day(since)) as opened:
        if asked := QUESTIONS.get(question):
            rows = [reporting.shown(row) for row in opened.rows(asked.ask(opened.tables, window))]
        else:
            rows = select.answer(opened, question)
    _print(rows, json_output)


def _print(rows: Iterable[Mapping[str, Value]], json_output: bool) -> None:
    found = list(rows)
    if json_output:
        for row in found:
            json_line(row)
        return
    if not found:
        say("no rows")
        return
    texts = [["" if value is None else str(value) for value in row.values()] for row in found]
    heads = list(found[0])
    widths = [max(len(head), *(len(row[i]) for row in texts)) for i, head in enumerate(heads)]
    for line in (heads, *texts):
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _day(text: str) -> str:
    try:
        return text and datetime.fromisoformat(text).date().isoformat()
    except ValueError as error:
        raise UsageError(f"{text!r} is not a day", where="--since", todo="write 2026-11-30") from error


def _moment(text: str) -> int:
    if not text:
        return round(time.time() * 1000)
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        todo = "write 2026-11-30 or 2026-11-30T12:00:00"
        raise UsageError(f"{text!r} is not a time", where="--now", todo=todo) from error
