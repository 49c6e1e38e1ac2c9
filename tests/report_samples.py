"""What reports are made of in tests: a profile with something in every section, and names that try everything."""

from __future__ import annotations

import json
from pathlib import Path

PROFILES = Path(__file__).parents[1] / "profiles"
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp.exe\x1b[2J"
DEEP = "/" + "d/" * 300 + "x" * 1000


def violation(number: int, **more: object) -> str:
    """A line of a log."""
    return json.dumps({
        "event": "violation", "time": 1764500000 + number * 7.5, "function": NASTY, "phase": "invoke", "request": None,
        "pid": 1, "tid": 1, "comm": NASTY, "syscall": "openat", "class": "read", "args": [NASTY], "target": NASTY,
        "verdict": "denied", "errno": "EPERM", "reason": NASTY, "risk": ("high", "medium", "low", NASTY)[number % 4],
        "technique": "T1005", "allow": f"files.read: [{NASTY}]", **more,
    })  # fmt: skip


def hostile(folder: Path) -> tuple[Path, Path]:
    """A profile with something in every section of a report, and a log of 10,000 violations, whose names try to become
    markup, to deceive, and to have no end.
    """
    text = (PROFILES / "thumbnail.yaml").read_text()
    network = """network:
- runtime-api
- {to: 'api.example.com:443', by: [urllib3, requests]}
- {to: 'dynamodb.eu-west-1.amazonaws.com:443', by: [botocore]}
- 'tcp://10.0.0.0/8:5432'
- 'udp://[2001:db8::7]:8125'
- 'unix:/tmp/pool-*/sock'
- dns://example.org
listen: ['tcp://127.0.0.1:0']
grants: [{syscall: personality, because: an old library asks for the persona}]"""
    libraries = """libraries:
- {name: requests, version: 2.32.4, init: loaded, invoke: executed}
- {name: urllib3, version: 2.5.0, init: loaded, invoke: executed}
- {name: certifi, version: 2025.8.3, init: loaded}

completeness:"""
    text = text.replace("network: [runtime-api]", network).replace("completeness:", libraries, 1)
    paths = json.dumps([f"/srv/{NASTY}", f"/srv/{NASTY}/{'y' * 100_000}", DEEP, *(f"/many/{i}/f" for i in range(300))])
    text = text.replace("  write:\n", f"  - /srv/one\n  write: {paths}\n#").replace("- /tmp/**", "/tmp")
    text = text.replace("handler: app.handler", f"handler: {json.dumps(NASTY)}")
    lines = ["not ours", *(violation(number, target=f"{NASTY}{number % 500}") for number in range(10_000))]
    profile, log = folder / "hostile.yaml", folder / "log.jsonl"
    profile.write_text(text)
    log.write_text("\n".join(lines) + "\n")
    return profile, log
