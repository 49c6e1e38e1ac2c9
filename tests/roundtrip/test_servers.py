"""Programs that do not end: trained while a driver asks them, for a time, or until a signal, and then enforced."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from http_servers import answers, ended, free_port, in_background
from sandbox_command import Workshop

from sandbox.profile import document

ASK = f"{sys.executable} -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:{{port}}{{path}}\").read())'"


def program(workshop: Workshop, port: int, *more: str) -> tuple[str, ...]:
    """The server's folder and command."""
    return ("--root", str(workshop.targets), "--", sys.executable, "server.py", str(port), *more)


def test_a_driver_trains_a_server(workshop: Workshop) -> None:
    """The driver asks, in training and again to prove the profile; enforced, what it did not ask for is refused."""
    port, profile = free_port(), workshop.new()
    drive = ASK.format(port=port, path="/hello")
    done = workshop.sandbox(
        "learn", "server", "--drive", drive, "--output", profile, "--cold-starts", "1", *program(workshop, port)
    )
    assert "enforce: ok" in done.stdout
    verified = document.read(str(profile)).profile.verified
    assert verified is not None
    assert (verified.audit, verified.enforce) == ("ok", "ok")
    start = program(workshop, port)[2:]
    with in_background(workshop, "run", profile, *start, folder=workshop.targets) as child:
        assert answers(port, "/hello") == (200, "/hello")
        assert answers(port, "/shell")[0] == 500
        assert answers(port, "/again") == (200, "/again")
        child.terminate()
        status, said = ended(child)
    assert status in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert said.count('"event": "violation"') == 1
    assert "pwned" not in said


def interrupted(child: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    child.send_signal(signal.SIGINT)


def interrupted_from_a_script(child: subprocess.Popen[str]) -> None:
    """Ctrl-C as a script sends it, to the whole process group: no terminal's, which kernel and command tell apart."""
    os.killpg(child.pid, signal.SIGINT)


@pytest.mark.parametrize("end", [interrupted_from_a_script, subprocess.Popen.terminate])
def test_a_signal_ends_the_training(workshop: Workshop, end: Callable[[subprocess.Popen[str]], None]) -> None:
    """Ctrl-C and SIGTERM end a server's training with a profile, and leave nothing running."""
    port, profile = free_port(), workshop.new()
    with in_background(workshop, "learn", "server", "--output", profile, *program(workshop, port)) as child:
        assert child.stdout
        assert "it listens: ask it now" in child.stdout.readline()
        assert answers(port) == (200, "/")
        end(child)
        status, said = ended(child)
    assert status == 0, said
    assert said.startswith("ending it with SIGTERM; another signal gives up")
    assert "listen" in {use.syscall for use in document.read(str(profile)).profile.uses}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_the_second_signal_gives_up(workshop: Workshop) -> None:
    """A server that ignores SIGTERM is waited for after the first Ctrl-C; the second ends it, without a profile."""
    port, profile = free_port(), workshop.new()
    with in_background(workshop, "learn", "server", "--output", profile, *program(workshop, port, "deaf")) as child:
        assert answers(port) == (200, "/")
        interrupted(child)
        time.sleep(0.5)
        assert child.poll() is None
        interrupted(child)
        status, said = ended(child)
    assert status == 128 + signal.SIGINT, said
    assert not profile.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_server_is_trained_for_a_time(workshop: Workshop) -> None:
    """--for ends the server after its seconds; one in a virtual environment below /tmp finds all of that there."""
    port, profile, environment = free_port(), workshop.new(), workshop.folder / "environment"
    for folder in (environment, environment / "bin", environment / "lib"):
        folder.mkdir(mode=0o755)
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    shutil.copy(workshop.targets / "server.py", environment / "lib")
    script = environment / "bin" / "serve"
    library = environment / "lib" / "server.py"
    code = f"import runpy\nrunpy.run_path({str(library)!r}, run_name='__main__')\n"
    script.write_text(f"#!{environment}/bin/python\n{code}")
    script.chmod(0o755)
    command = ("--root", str(workshop.targets), "--", str(script), str(port))
    learn: Sequence[str | Path] = ("learn", "server", "--for", "4", "--output", profile, *command)
    with in_background(workshop, *learn) as child:
        assert answers(port) == (200, "/")
        status, said = ended(child)
    assert status == 0, said
    reads = document.read(str(profile)).profile.reads
    assert [path for path in reads if path.startswith("{venv}/")]  # another host may have its environment elsewhere
    assert not [path for path in reads if path.startswith((str(environment), "{python}"))]


def test_the_signal_of_its_image_ends_it(workshop: Workshop) -> None:
    """--stop-signal ends a server that heeds no other, and what is no such signal is an error of use."""
    port, profile = free_port(), workshop.new()
    server = program(workshop, port, "deaf")
    workshop.sandbox(
        "learn", "server", "--for", "3", "--stop-signal", "quit", "--no-verify", "--output", profile, *server
    )
    assert profile.exists()
    for name in ("KILL", "9", "SIGNOTHING"):
        done = workshop.sandbox("learn", "server", "--stop-signal", name, *server, expect=64)
        assert "--stop-signal" in done.stderr


WEB = """
const { execFileSync } = require("child_process");
const server = require("http").createServer((request, response) => {
  let status = 200, text = request.url;
  if (request.url === "/shell") {
    try {
      text = execFileSync("/bin/sh", ["-c", "echo pwned"]).toString();
    } catch (error) {
      status = 500;
      text = error.code;
    }
  }
  response.writeHead(status, { "Content-Length": text.length });
  response.end(text);
});
server.listen(Number(process.argv[2]), "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)) && server.closeAllConnections());
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_node_serves_http(workshop: Workshop) -> None:
    """Node's http server is trained by a driver and ends in order; enforced, it serves and starts no shell."""
    port, profile, root = free_port(), workshop.new(), workshop.folder / "web"
    root.mkdir(mode=0o755)
    (root / "app.js").write_text(WEB)
    (root / "app.js").chmod(0o644)
    command = (str(shutil.which("node")), "app.js", str(port))
    drive = ASK.format(port=port, path="/hello")
    workshop.sandbox(
        "learn", "web", "--drive", drive, "--cold-starts", "1", "--output", profile, "--root", root, "--", *command
    )
    with in_background(workshop, "run", profile, "--", *command, folder=root) as child:
        assert answers(port, "/hello") == (200, "/hello")
        assert answers(port, "/shell") == (500, "EPERM")
        child.terminate()
        status, said = ended(child)
    assert (status, said.count('"event": "violation"')) == (0, 1), said


NODE = """
const timer = setInterval(() => {}, 1000);
process.stdout.write("started\\n");
setTimeout(() => clearInterval(timer), 50);
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_output_is_a_pipe_in_training(workshop: Workshop) -> None:
    """Node makes its pipes non-blocking at its start and its end: trained, it runs with pipes and ends well."""
    profile, root = workshop.new(), workshop.folder / "piped"
    root.mkdir()
    root.chmod(0o755)
    (root / "app.js").write_text(NODE)
    (root / "app.js").chmod(0o644)
    command = (str(shutil.which("node")), "app.js")
    workshop.sandbox("learn", "piped", "--cold-starts", "1", "--output", profile, "--root", root, "--", *command)
    with in_background(workshop, "run", profile, "--", *command, folder=root) as child:
        status, said = ended(child)
    assert status == 0, said
    assert "started" in said
    assert '"violation"' not in said


@pytest.mark.parametrize(
    ("options", "command", "said"),
    [
        (["--drive", "exit 3"], "server.py {port}", "the driver ended with status 3"),
        (["--drive", "kill -KILL $SERVER_PID; sleep 1"], "server.py {port}", "signal: killed"),
        (["--drive", "true"], "hello.py", "ended before it listened"),
        (["--for", "60"], "hello.py", "ended before its 60 s were over"),
        (["--until-signal"], "hello.py", "ended before a signal came"),
    ],
)
def test_what_went_wrong_is_said(workshop: Workshop, options: list[str], command: str, said: str) -> None:
    """A driver that fails, and a program that ends too early, leave no profile and say why."""
    profile = workshop.new()
    start = ("--root", str(workshop.targets), "--", sys.executable, *command.format(port=free_port()).split())
    done = workshop.sandbox(
        "learn", "server", *options, "--output", profile, "--cold-starts", "1", *start, expect=None
    )
    assert done.returncode not in (0, 1)
    assert said in done.stderr
    assert not profile.exists()


@pytest.mark.parametrize(
    "options", [("--drive", "true", "--for", "3"), ("--for", "3", "--handler", "hello.handler", "--events", ".")]
)
def test_ends_that_do_not_fit(workshop: Workshop, options: tuple[str, ...]) -> None:
    """Two ends at once, and an end for a function that has events, are errors of use."""
    done = workshop.sandbox("learn", "server", *options, *program(workshop, 1), expect=64)
    assert "what to do" in done.stderr
