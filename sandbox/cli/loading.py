"""The table of commands as typer takes it: what a command imports is imported when it runs or shows its help page."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer
import typer.core
import typer.main
from typer.completion import completion_init  # type: ignore[attr-defined]  # as typer itself imports it

from sandbox import __version__
from sandbox.cli.output import say
from sandbox.cli.screen import columns
from sandbox.cli.table import COMMANDS, GROUPS
from sandbox.start.settings import check

MISUSED: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
"""What typer raises for arguments that it does not take: of click, or of the copy of it that newer versions hold."""
ABORTED: Any = typer.Abort

COMPLETE = "_SANDBOX_COMPLETE"
"""What a shell sets to ask for completions, by the name of the command (typer)."""
if COMPLETE in os.environ:
    completion_init()

SETTINGS = {"help_option_names": ["-h", "--help"]}


class TableCommand(typer.core.TyperCommand):
    """A command as the list of commands and completion know it; its module is loaded when its arguments are parsed."""

    def __init__(self, name: str, place: str, about: str) -> None:
        super().__init__(name, short_help=about, rich_markup_mode=None)
        self.place = place

    def loaded(self) -> typer.core.TyperCommand:
        """The command itself, with its options."""
        module, _, function = self.place.partition(":")
        alone = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=SETTINGS
        )
        command = getattr(importlib.import_module(f"sandbox.cli.{module}"), function)
        text, _, example = inspect.cleandoc(command.__doc__).partition("\n\nExample: ")
        shown = f"\b\nExample:\n  {' '.join(example.split())}" if example else ""  # \b: not wrapped, to be copied
        alone.command(self.name, help=text, epilog=shown)(command)
        found = typer.main.get_command(alone)
        assert isinstance(found, typer.core.TyperCommand)
        return found

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """The context of the command itself, which click goes on with. Raises UsageError for a setting that is none.

        What a command does not read it may hand on, to functions whose starts would fail one by one.
        """
        context = self.loaded().make_context(*arguments, terminal_width=width(), **settings)
        if not context.resilient_parsing:
            check(os.environ)
        return context


def width() -> int:
    """Of help pages: the terminal's, which may be less than the 50 characters that click takes at least."""
    return min(columns(), 80)


def example_of(command: typer.core.TyperCommand) -> str:
    """The command line that a help page shows, '' for none."""
    return (command.epilog or "").partition("Example:")[2].strip()


class Root(typer.core.TyperGroup):
    """`sandbox` with all of its commands, none of them loaded."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        groups = {
            name: typer.core.TyperGroup(name=name, help=f"{about}.", no_args_is_help=True, rich_markup_mode=None)
            for name, about in GROUPS.items()
        }
        for names, (place, about) in COMMANDS.items():
            group, _, name = names.rpartition(" ")
            (groups[group] if group else self).add_command(TableCommand(name, place, about))
        for one in groups.values():
            self.add_command(one)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """As typer does, with the width of help pages."""
        return super().make_context(*arguments, terminal_width=width(), **settings)


app = typer.Typer(
    name="sandbox", cls=Root, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None, context_settings=SETTINGS,
)  # fmt: skip


def _show_version(asked: bool) -> None:
    if asked:
        say(f"seccomp-bootstrap {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit")
    ] = False,
) -> None:
    """Learn what a serverless function does, and let the kernel refuse the rest."""


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Each command by its full name (`profile diff`), loaded, in the order of the table."""
    for names, (place, about) in COMMANDS.items():
        yield names, TableCommand(names.rpartition(" ")[2], place, about).loaded()
