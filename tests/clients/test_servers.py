"""gunicorn, uvicorn and nginx: trained by a driver with a restart, then enforced through restarts and an attack."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from http_servers import READY, answers, ended, free_port, in_background
from sandbox_command import Workshop, workshop_of

from sandbox.profile import document

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
CONFIGURATION = """
daemon off;
worker_processes 2;
pid run/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log /dev/stdout;
    client_body_temp_path run/body; proxy_temp_path run/proxy; fastcgi_temp_path run/fastcgi;
    uwsgi_temp_path run/uwsgi; scgi_temp_path run/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "$uri {version} $pid"; }}
        location = /fetch {{ proxy_pass http://127.0.0.1:$arg_port/; }}
    }}
}}
"""
DRIVER = """
import os, signal, sys, time, urllib.request
def worker():
    return int(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/driven", timeout=10).read().split()[-1])
first, end = worker(), time.monotonic() + 20
os.kill(int(os.environ["SERVER_PID"]), signal.SIGHUP)
while os.path.exists(f"/proc/{first}"):
    if time.monotonic() > end:
        sys.exit("no worker was started anew")
    time.sleep(0.1)
worker()
"""


@dataclass(frozen=True)
class Server:
    """One of them: its command, how its next version is deployed, its attack, and the signal that ends it."""

    command: tuple[str, ...]
    deploy: Callable[[int], object]
    attack: str
    stop: signal.Signals = signal.SIGTERM


def python_server(clients: Path, root: Path, *command: str) -> Server:
    """A server of Python's with the application `web` in the folder `root`."""
    source = (Path(__file__).parent.parent / "targets" / "web.py").read_text()

    def deploy(version: int) -> None:
        (root / "web.py").write_text(source.replace("VERSION = 1", f"VERSION = {version}"))

    return Server((str(clients / "bin" / command[0]), *command[1:]), deploy, "/shell")


def nginx(root: Path, port: int, secret: int) -> Server:
    """nginx with a configuration that connects where a client says, which is the attack."""
    assert NGINX
    (root / "run").mkdir(exist_ok=True)

    def deploy(version: int) -> None:
        (root / "nginx.conf").write_text(CONFIGURATION.format(port=port, version=version))

    command = (NGINX, "-p", str(root), "-c", "nginx.conf", "-e", "stderr")
    return Server(command, deploy, f"/fetch?port={secret}", signal.SIGQUIT)


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """A folder outside /tmp, where gunicorn writes: Python would write its bytecode beside code below /tmp."""
    with workshop_of(None, "/var/tmp") as found:
        yield found


@pytest.mark.parametrize("name", ["gunicorn", "uvicorn", "nginx"])
def test_a_server_is_trained_restarted_and_attacked(workshop: Workshop, clients: Path, name: str) -> None:
    """HUP starts workers with new code, enforced too and without a line; the attack fails; it ends in order."""
    if name == "nginx" and not NGINX:
        pytest.skip("no nginx")
    port, profile, root = free_port(), workshop.new(), workshop.folder / name
    root.mkdir(mode=0o755)
    driver, journal = workshop.folder / "drive.py", workshop.folder / f"{name}.journal"
    driver.write_text(DRIVER)
    with socket.create_server(("127.0.0.1", 0)) as inner:
        inner.settimeout(0.2)
        if name == "gunicorn":
            server = python_server(clients, root, "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "web")
        elif name == "uvicorn":
            server = python_server(clients, root, "uvicorn", "--workers", "2", "--port", str(port), "web:app")
        else:
            server = nginx(root, port, inner.getsockname()[1])
        server.deploy(1)
        workshop.sandbox(
            "learn", name, "--root", root, "--cold-starts", "1", "--output", profile, "--stop-signal", server.stop.name,
            "--drive", f"{sys.executable} {driver} {port}", "--", *server.command,
        )  # fmt: skip
        verified = document.read(str(profile)).profile.verified
        assert verified
        assert (verified.audit, verified.enforce) == ("ok", "ok")
        more = {"SANDBOX_EVENTS": f"file:{journal}"}
        with in_background(workshop, "run", profile, "--", *server.command, folder=root, more=more) as child:
            for version in (1, 2, 3):
                if version > 1:
                    server.deploy(version)
                    child.send_signal(signal.SIGHUP)
                end = time.monotonic() + READY
                while (found := answers(port, "/asked"))[1].split()[:2] != ["/asked", str(version)]:
                    assert time.monotonic() < end, found
                    time.sleep(0.1)
            assert not journal.exists() or not journal.read_text()
            status, body = answers(port, server.attack)
            assert status >= 500, body
            assert '"event": "violation"' in journal.read_text()
            with pytest.raises(TimeoutError):
                inner.accept()
            assert answers(port, "/again")[0] == 200
            child.send_signal(server.stop)
            status, said = ended(child)
    assert status == 0, said
