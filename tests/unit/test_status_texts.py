"""What the native launcher says of an installation are the texts of the Python one: read from both sources.

tests/kernel/test_conformance.py compares what the two say where it can make them say it; most refusals it cannot make.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import sandbox

HOME = Path(sandbox.__file__).parent
SOURCES = (
    "confine/install.py", "confine/landlock_rules.py", "confine/single_exec.py", "start/launch.py", "start/locate.py",
    "start/settings.py", "start/wire.py", "provenance.py", "bundle.py", "errors.py",
)  # fmt: skip
THE_LAUNCHERS = {
    "supervision: no Python supervisor beside the launcher, or no python in PATH",
    "%: cannot be executed: %", "correct it, or set SANDBOX_SUPERVISE=0",  # of the decider
    # Two of the bootstrap's in one:
    "tier: nothing (the tripwire cannot be set: %)",
    "memory: the supervisor's is open to the function (no Landlock, and prctl is refused or the function is root's)",
}  # fmt: skip
"""What only the launcher has to say."""


def python_texts() -> set[str]:
    """The texts of an installation and a start, `%` for what is put in."""
    found = set[str]()
    for name in SOURCES:
        for node in ast.walk(ast.parse((HOME / name).read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "%" for part in node.values)
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def launcher_texts() -> set[str]:
    """The texts that launcher/*.c and *.h add to the status line or refuse with, `%` for what is put in."""
    found = set[str]()
    for path in (HOME / "launcher").glob("*.[ch]"):
        for call in re.findall(r"\b(?:note|refuse)\((.*?)\);", path.read_text(), re.DOTALL):
            joined = re.sub(r'"\s*"', "", call).replace("\\n", "\n")
            found.update(re.sub(r"[#@$]", "%", text) for text in re.findall(r'"((?:[^"\\]|\\.)*)"', joined))
    return {text for text in found if " " in text}


def one_of(text: str, known: set[str]) -> bool:
    """Whether a text is one of these, or two of them with a colon between, as an error's place and what happened."""
    if text in known:
        return True
    cuts = [found.start() for found in re.finditer(": ", text)]
    return any({text[:cut], text[:cut] + ": %"} & known and text[cut + 2 :] in known for cut in cuts) or (
        text.endswith(": %") and any(other.startswith(text[:-1]) for other in known)
    )


def test_the_launcher_has_no_texts_of_its_own() -> None:
    """Each of its texts is one of the bootstrap's, but for what only it has to say."""
    known, texts = python_texts(), launcher_texts()
    assert len(texts) > 25
    assert {text for text in texts if not one_of(text, known)} <= THE_LAUNCHERS
