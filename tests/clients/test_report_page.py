"""The page of `sandbox report` in a browser: what a person sees of it, with keyboard, phone, dark room, printer, and
without style or script.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cloud_fakes import CLIENTS
from report_samples import PROFILES, hostile

CHROMIUM = "/usr/lib/chromium/chromium-headless-shell"
MODULES = CLIENTS / "node_modules"


@pytest.mark.skipif(not os.path.exists(CHROMIUM), reason="no chromium-headless-shell")
@pytest.mark.skipif(not shutil.which("node"), reason="no node")
@pytest.mark.skipif(not (MODULES / "axe-core").exists(), reason="no axe-core: tools/clients without npm")
def test_everybody_can_read_it(tmp_path: Path) -> None:
    """axe-core finds nothing in light and dark with everything unfolded; no width scrolls sideways; without its style
    nothing is hidden; no name of a stranger runs or asks for anything.
    """
    profile, log = hostile(tmp_path)
    page = tmp_path / "page.html"
    options: list[str | Path] = ["--events", log, "--against", PROFILES / "hello.yaml", "-o", page]
    subprocess.run([sys.executable, "-m", "sandbox", "report", profile, *options], check=True, timeout=120)
    script = Path(__file__).with_name("read_page.mjs")
    run = subprocess.run(["node", script, CHROMIUM, MODULES, page], capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["axe"], found["wide"], found["said"], found["asked"]) == ([], [], [], [])
    assert found["passed"] == ["light 1280: true true", "light 320: false true", "dark 1280: true false"]
    # The keyboard reaches each link and each fold, in order, and shows where it is.
    assert found["focus"][0]["text"] == "Skip to the report"
    assert found["focus"][-1]["text"] == "Open to every such program"
    assert all(stop["outline"] == "solid" and stop["seen"] for stop in found["focus"])
    assert found["print"] == {"nav": 0, "hidden": 0, "background": "rgb(255, 255, 255)"}
    for width, bare in found["bare"].items():
        assert (bare["styled"], bare["hidden"], bare["twice"]) == (False, 0, 0)
        assert all(0 < picture <= int(width) for picture in bare["pictures"])
