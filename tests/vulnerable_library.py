"""A library of ours that does what a careless loader does: it calls what a document names. Installed as pip would."""

from __future__ import annotations

from pathlib import Path

NAME, VERSION = "TagLoad", "2.1"

CONSTRUCTOR = '''\
import importlib


def find(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def construct_apply(name, argument):
    return find(name)(argument)
'''
CALL_LINE = CONSTRUCTOR.splitlines().index("    return find(name)(argument)") + 1

MAIN = '''\
from tagload.constructor import construct_apply


def load(document):
    tag, _, argument = document.partition(" ")
    if tag.startswith("!!apply:"):
        return construct_apply(tag.removeprefix("!!apply:"), argument)
    return document
'''

HANDLER = '''\
import sys

sys.path.insert(0, {site!r})
import tagload


def handler(event):
    return tagload.load(event["document"])


if __name__ == "__main__":
    print(handler({{"document": sys.argv[1]}}), flush=True)
'''
HANDLER_LINE = HANDLER.splitlines().index('    return tagload.load(event["document"])') + 1


def install(folder: Path, site: str = "site-packages") -> Path:
    """The library with its metadata below a folder, and a function that loads its argument with it: the path of that.

    `site` is the folder of libraries, '' for the function's own.
    """
    home = folder / site
    info = home / f"{NAME}-{VERSION}.dist-info"
    package = home / "tagload"
    for made in (package, info):
        made.mkdir(parents=True)
    (package / "__init__.py").write_text(MAIN)
    (package / "constructor.py").write_text(CONSTRUCTOR)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n\nLoads.\n")
    names = ("tagload/__init__.py", "tagload/constructor.py", f"{info.name}/METADATA", f"{info.name}/RECORD")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    app = folder / "app.py"
    app.write_text(HANDLER.format(site=str(home)))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    return app
