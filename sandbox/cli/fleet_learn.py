"""`sandbox fleet learn`: profiles from the observations of all environments in a store."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from sandbox.cli import generalise as generalising
from sandbox.cli import training
from sandbox.cli.fleet import StoreArgument
from sandbox.cli.learn import from_observations, refuse_to_lose
from sandbox.cli.output import write_text
from sandbox.fleet.extras import FLEET, require
from sandbox.profile import document


def learn(
    store: StoreArgument,
    names: Annotated[list[str], typer.Argument(help="Functions, as their logs name them", metavar="NAME...")],
    output: Annotated[str, typer.Option("--output", "-o", help="Where to write NAME.yaml", metavar="DIR")] = "profiles",
    force: Annotated[bool, typer.Option("--force", help="Replace a profile that holds a person's edits")] = False,
    allow_failed: Annotated[bool, typer.Option("--allow-failed", help="Write a profile even if a run failed")] = False,
    generalise_option: generalising.Option = generalising.Generalise.ask,
    json_output: Annotated[bool, typer.Option("--json", help="JSON lines instead of text")] = False,
) -> None:
    """Write the profile of each function from all of its observations: the one of `learn --from` of the same logs.

    No refusal is tolerated that a person has not decided on.

    Example: sandbox fleet learn store orders payments
    """
    require(*FLEET)
    from sandbox.fleet.gathering import gather
    from sandbox.fleet.store import Store

    opened = Store(store)
    for name in names:
        path = os.path.join(output, f"{name}.yaml")
        cold_starts = gather(opened, name)
        if os.path.exists(path) and not force:
            refuse_to_lose(document.read(path).profile, path)
        learned = from_observations(cold_starts, name, allow_failed, json_output)
        learned, offered = generalising.offer(
            learned, generalise_option, lambda profile: profile, json_output=json_output
        )
        text = document.write(learned.profile)
        document.parse(text, path)  # what we write must be what we accept; a name that is none ends here
        write_text(path, text)
        training.report(learned.profile, learned, path, offered, json_output)
