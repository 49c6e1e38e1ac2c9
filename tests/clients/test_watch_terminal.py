"""The live view of a command in a real terminal: drawn, driven by keys, resized, and ended with what it started."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TMUX = shutil.which("tmux")
pytestmark = pytest.mark.skipif(TMUX is None, reason="needs tmux, which tools/clients installs where it can")

FUNCTION = """
import json, os, sys, time
status = {"event": "sandbox", "mode": "audit", "function": "thumbnail", "degraded": []}
refused = {"event": "violation", "time": 1700000000, "seq": 1, "supervisor": "0a", "function": "thumbnail",
           "phase": "invoke", "syscall": "connect", "target": "tcp://10.0.0.9:25", "verdict": "reported",
           "reason": "not in the profile", "allow": "network: [tcp://10.0.0.9:25]"}
open(sys.argv[1], "w").write(f"{os.getpid()} {os.environ['SANDBOX_ACTIVITY']}")
for line in (status, refused):
    print(json.dumps(line), file=sys.stderr, flush=True)
time.sleep(600)
"""


class Terminal:
    """One terminal of tmux's, on a server of its own."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    def do(self, *arguments: str) -> str:
        """Run a command of tmux."""
        assert TMUX
        command = [TMUX, "-f", "/dev/null", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def until(self, *words: str) -> str:
        """The screen, once it shows all of these."""
        end = time.monotonic() + 60
        while not all(word in (screen := self.do("capture-pane", "-p")) for word in words):
            assert time.monotonic() < end, screen
            time.sleep(0.1)
        return screen


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal that is gone afterwards."""
    found = Terminal(tmp_path)
    yield found
    found.do("kill-server")


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_command_is_watched_in_a_terminal(tmp_path: Path, terminal: Terminal) -> None:
    """Wide and narrow it shows the refusal with the line that would allow it; `q` ends the command, too."""
    script, started = tmp_path / "function.py", tmp_path / "started"
    script.write_text(FUNCTION)
    watch = f"{sys.executable} -m sandbox watch -- {sys.executable} {script} {started}; echo status $?; sleep 600"
    terminal.do("new-session", "-d", "-x", "120", "-y", "30", watch)
    screen = terminal.until("tcp://10.0.0.9:25", "to allow network: [tcp://10.0.0.9:25]")
    assert "thumbnail  audit  phase invoke" in screen
    assert "request" in screen
    terminal.do("resize-window", "-x", "50", "-y", "20")
    _until(lambda: "request" not in terminal.do("capture-pane", "-p"))
    terminal.until("reported", "tcp://10.0.0.9:25", "q Quit")
    pid, activity = started.read_text().split()
    assert activity == "full"
    assert _is_there(int(pid))
    terminal.do("send-keys", "q")
    terminal.until("2 lines read: 1 start and 1 line of a supervisor", "status 0")
    _until(lambda: not _is_there(int(pid)))
