"""Arguments and options that several commands take: one meaning a name."""

from __future__ import annotations

from typing import Annotated

import typer

ProfileFile = Annotated[
    str, typer.Argument(help="A profile: its file, its name, or the folder of its bundle", metavar="PROFILE")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text")]
Output = Annotated[
    str, typer.Option("--output", "-o", help="Where to write it; standard output if not given", metavar="FILE")
]
