"""A person's own SELECT over the tables of a store."""

from __future__ import annotations

from sandbox.errors import UsageError
from sandbox.fleet.engines import FleetEngine, Value
from sandbox.fleet.questions import QUESTIONS


def answer(engine: FleetEngine, text: str) -> list[dict[str, Value]]:
    """The rows of one SELECT. Raises UsageError for any other statement, and for what the engine refuses.

    On DuckDB the connection is closed up (engines.py): even a function that reads files reads none but the store's.
    """
    if engine.name != "duckdb":
        todo = "leave out --engine, or ask one of the questions"
        raise UsageError("runs SQL on DuckDB alone", where="sandbox fleet query", todo=todo)
    import duckdb

    connection = engine.connection
    try:
        statements = connection.extract_statements(text)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise UsageError(
                "is neither a question nor one SELECT", where=repr(text),
                todo=f"ask {', '.join(QUESTIONS)}, or write a SELECT over the tables of docs/fleet.md",
            )  # fmt: skip
        found = connection.execute(statements[0])
        names = [column[0] for column in found.description]
        rows = found.fetchall()
    except duckdb.Error as error:
        first = str(error).partition("\n")[0]
        raise UsageError(first, where=repr(text), todo="see the tables and columns in docs/fleet.md") from error
    return [{name: _value(value) for name, value in zip(names, row, strict=True)} for row in rows]


def _value(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
