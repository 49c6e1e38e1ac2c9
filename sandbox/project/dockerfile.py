"""What a Dockerfile starts: the command of its last stage, and the Lambda runtime of its base image, if it has one.

Nothing is built: what only a build knows (an argument without a default, a command of the base image) stays unknown.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

LAMBDA_BASE = re.compile(r"(?:^|/)lambda/([a-z]+)(?:[:@]([0-9.]*)[A-Za-z0-9_.:-]*)?$")
"""`public.ecr.aws/lambda/python:3.13`, and mirrors of it."""
CLIENTS = ("awslambdaric", "aws-lambda-ric", "aws_lambda_ric")
"""Runtime API clients that take the handler as their argument."""
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")
MOST = 2000
"""Instructions that are read."""


@dataclass(frozen=True)
class Image:
    """`command` as exec takes it, `handler` where a Runtime API client is named, `runtime` as Lambda names it."""

    image: str = ""
    command: tuple[str, ...] = ()
    handler: str = ""
    runtime: str = ""
    folder: str = ""
    stop_signal: str = ""
    ports: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())


def read_image(text: str, source: str) -> Image:
    """What the last stage starts. Raises nothing: what is no instruction is skipped."""
    stages: dict[str, str] = {}
    arguments: dict[str, str] = {}
    base, folder, stop = "", "", ""
    entry: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: list[str] = []
    for word, rest in _instructions(text):
        if word == "ARG":
            name, sign, value = rest.partition("=")
            if sign:
                arguments[name.strip()] = _filled(value.strip().strip("\"'"), arguments)
        elif word == "ENV":
            name, _, value = rest.partition("=")
            arguments.setdefault(name.strip(), value.strip().strip("\"'"))
        elif word == "FROM":
            names = [part for part in rest.split() if not part.startswith("--")]
            image = _filled(names[0], arguments) if names else ""
            base = stages.get(image.lower(), image)
            if len(names) == 3 and names[1].lower() == "as":
                stages[names[2].lower()] = base
            entry, command, folder, stop, ports = (), (), "", "", []
        elif word == "ENTRYPOINT":
            entry = _words(rest)
        elif word == "CMD":
            command = _words(rest)
        elif word == "WORKDIR":
            folder = os.path.join(folder, _filled(rest, arguments))
        elif word == "STOPSIGNAL":
            stop = _filled(rest, arguments)
        elif word == "EXPOSE":
            ports += [port.partition("/")[0] for port in rest.split()]
    return _image(base, entry, command, Image(folder=folder, stop_signal=stop, ports=tuple(ports)), source)


def _image(base: str, entry: tuple[str, ...], command: tuple[str, ...], known: Image, source: str) -> Image:
    found = LAMBDA_BASE.search(base)
    missing = (f"{source}: the base image is known to a build alone",) if not base or "$" in base else ()
    runtime = f"{found[1]}{found[2] or ''}" if found and found[1] not in ("provided",) else ""
    handler = ""
    whole = (*entry, *command)
    if found and not entry and command:
        handler = command[0]
    elif client := next((i for i, word in enumerate(whole) if word.rpartition("/")[2] in CLIENTS), None):
        handler = whole[client + 1] if client + 1 < len(whole) else ""
        python = os.path.basename(whole[0]).startswith("python")
        runtime = runtime or ("python" if python else "")
    if not whole:
        missing = (*missing, f"{source} names no command: that of its base image is started")
    return Image(base, whole, handler, runtime, known.folder, known.stop_signal, known.ports, missing)


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """(INSTRUCTION, the rest) with lines that go on joined; comments and what a here-document holds are left out."""
    lines = iter(text.splitlines()[: MOST * 10])
    count = 0
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = [line.strip()]
        while parts[-1].endswith("\\"):
            parts[-1] = parts[-1][:-1].rstrip()
            following = next(lines, "").strip()
            while following.startswith("#"):
                following = next(lines, "").strip()
            parts.append(following)
        whole = " ".join(parts)
        ends = re.findall(r"<<-?\s*[\"']?(\w+)[\"']?", whole)
        for end in ends:
            for inner in lines:
                if inner.strip() == end:
                    break
        word, _, rest = whole.partition(" ")
        count += 1
        if count > MOST:
            return
        yield word.upper(), rest.strip()


def _words(rest: str) -> tuple[str, ...]:
    """The exec form as it stands, the shell form by a shell."""
    if rest.startswith("["):
        try:
            found = json.loads(rest)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and all(isinstance(word, str) for word in found):
            return tuple(found)
    try:
        plain = shlex.split(rest)
    except ValueError:
        plain = []
    simple = plain and not set(rest) & set("|&;<>()$`*?[]{}~#=")
    return tuple(plain) if simple else ("sh", "-c", rest) if rest else ()


def _filled(text: str, arguments: Mapping[str, str]) -> str:
    """With the values of arguments that have one; others stay as they stand."""
    return VARIABLE.sub(lambda found: arguments.get(found[1] or found[3]) or found[2] or found[0], text)
