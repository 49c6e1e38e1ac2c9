"""Two libraries of ours, one that calls the other, and a handler that reaches things through them and by itself."""

from __future__ import annotations

from pathlib import Path

WIRE, KIT, IDLE = ("Wire.Line", "1.4"), ("Kit_Cloud", "0.9"), ("idle", "3")
"""Names as their authors write them, and versions; the last is installed and never imported."""

WIRE_MAIN = '''\
import socket


def dial(port):
    with socket.socket() as line:
        line.connect(("127.0.0.1", port))


def run(*command):
    import subprocess

    return subprocess.run(command, check=True).returncode


def serve():
    with socket.create_server(("127.0.0.1", 0)):
        pass


def note(path):
    with open(path, "w") as file:
        file.write("noted")
'''
KIT_MAIN = '''\
import wireline


def ask(what, *arguments):
    return getattr(wireline, what)(*arguments)
'''
HANDLER = '''\
import os
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site-packages"))
import kitcloud
import wireline


def handler(event, context):
    how = {"kit": kitcloud.ask, "wire": lambda what, *arguments: getattr(wireline, what)(*arguments)}
    for whose, what, *arguments in event["do"]:
        if (whose, what) == ("own", "dial"):
            with socket.socket() as line:
                line.connect(("127.0.0.1", *arguments))
        elif (whose, what) == ("own", "run"):
            subprocess.run(arguments, check=True)
        elif (whose, what) == ("own", "note"):
            open(*arguments, "w").close()
        elif whose == "thread":
            thread = threading.Thread(target=kitcloud.ask, args=(what, *arguments))
            thread.start()
            thread.join()
        else:
            how[whose](what, *arguments)
    return {}
'''


def install(folder: Path) -> Path:
    """The libraries as pip would install them in `site-packages` of a folder, and the module `app` beside it."""
    site = folder / "site-packages"
    sources = ((WIRE, "wireline", WIRE_MAIN), (KIT, "kitcloud", KIT_MAIN), (IDLE, "idle", ""))
    for (name, version), package, source in sources:
        info = site / f"{name}-{version}.dist-info"
        for made in (site / package, info):
            made.mkdir(parents=True)
        (site / package / "__init__.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nOurs.\n")
        (info / "RECORD").write_text(f"{package}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    (folder / "app.py").write_text(HANDLER)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    return folder
