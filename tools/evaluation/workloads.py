"""One ordinary function: trained with few and many events, served with others, counted, and timed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloud_fakes import CREDENTIALS, ENDPOINT, fake_dynamodb
from exploits.workloads import Event, Workload
from guests.filters import MOBY
from production_servers import API

from sandbox.behaviour.anomaly import ALL, DENY
from sandbox.kernel import tables
from sandbox.policy.oci_file import load
from sandbox.policy.supervision import filters
from sandbox.profile.model import Profile
from tools.evaluation.exploits import ROOT, shown
from tools.evaluation.production import production
from tools.evaluation.serving import Deployed, Missing, Start, bare, enforced

TRAININGS = (20, 60, 200)
HELD_OUT = 100
STARTS, WARM = 9, 60
"""Starts of each way that are timed, and in each so many invocations, or fewer where they take LONGEST."""
WARMING, LONGEST = 5, 1.0
"""Invocations before those, and seconds for all of them."""
CALLED = re.compile(rb"^\d+ +(?:<\.\.\. )?(\w+)[ (]", re.MULTILINE)


@contextlib.contextmanager
def deployed(row: Workload, work: Path) -> Iterator[Deployed]:
    """The function in a folder of its own, with the service that it asks. Raises Missing."""
    made = ROOT / ".cache" / row.made
    if row.needs and not shutil.which(row.needs):
        raise Missing(f"{row.name}: needs {row.needs}")
    if row.asks and not shutil.which("openssl"):
        raise Missing(f"{row.name}: needs openssl")
    root = work / row.name
    root.mkdir()
    (root / ("app.mjs" if row.node else "app.py")).write_text(row.code)
    row.prepare(root)
    command: tuple[str, ...] = ()
    if row.node:
        if not (node := shutil.which("node")):
            raise Missing(f"{row.name}: needs node")
        command = (os.path.realpath(node), str(ROOT / "examples/node-runtime/runtime.mjs"), "app.handler")
    if row.asks == "shop":
        with production(work) as service:
            certificate = str(shutil.copy(service.authority, root / "authority.pem"))
            yield Deployed(
                row.name, root, made, command, {"SSL_CERT_FILE": certificate}, {"API": API},
                {"API": f"127.0.0.1:{service.port}"}, (service.stand_in,),
            )  # fmt: skip
    elif row.asks == "dynamodb":
        with fake_dynamodb(work) as fake:
            certificate = str(shutil.copy(fake.authority, root / "authority.pem"))
            variables = {**CREDENTIALS, "AWS_DEFAULT_REGION": "eu-west-1", "TABLE": "orders"}
            local = {"AWS_ENDPOINT_URL_DYNAMODB": f"https://127.0.0.1:{fake.port}"}
            yield Deployed(
                row.name, root, made, command, {**variables, "AWS_CA_BUNDLE": certificate}, {}, local,
                (f"{ENDPOINT}:443=127.0.0.1:{fake.port}",),
            )  # fmt: skip
    else:
        yield Deployed(row.name, root, made, command)


def evaluate(row: Workload, work: Path) -> dict[str, Any]:
    """What came of one function, as the results hold it, but for its costs. Raises EvaluationFailed or Missing."""
    held_out = row.events(HELD_OUT, 1)
    trainings = {}
    with deployed(row, work) as function:
        with bare(function, work) as start:
            answers = [start.ask(event).answer for event in held_out]
        for count in TRAININGS:
            # What starts a program for each event takes long, and its second start would tell of the init phase alone.
            learned = function.learned(row.events(count, 0), 1 if row.needs else 2)
            trainings[str(count)] = _estimate(learned.profile) | _needed(function, learned.profile, held_out, work)
        denying = replace(learned.profile, on_anomaly=frozenset({(ALL, DENY)}))
        with enforced(function, denying, work) as start:
            replies = [start.ask(event) for event in held_out]
        traced = _traced(function, row.events(TRAININGS[0], 0), work)
    blocked = sum(reply.answer != answer for reply, answer in zip(replies, answers, strict=True))
    return {
        "name": row.name, "trainings": trainings, "held_out": HELD_OUT, "false_blocks": blocked,
        "false_alarms": [shown(line) for reply in replies for line in reply.lines],
        "calls": _calls(learned.profile, traced),
    }  # fmt: skip


def _estimate(profile: Profile) -> dict[str, float]:
    """What the training itself says of the invocations to come."""
    (training,) = profile.trainings
    (found,) = (estimate for estimate in training.estimates if estimate.phase == "invoke")
    return {"novelty": round(found.novelty, 4), "bound": round(found.bound, 4)}


def _needed(function: Deployed, profile: Profile, held_out: Sequence[Event], work: Path) -> dict[str, Any]:
    """How many of the other events need something that the profile does not have: audit lets each show it."""
    new: set[str] = set()
    needing = 0
    with enforced(function, profile, work, "audit") as start:
        for event in held_out:
            lines = start.ask(event).lines
            needing += bool(lines)
            new |= {" ".join(filter(None, (line["syscall"], line["class"]))) for line in lines}
    return {"needed": needing, "new": sorted(new)}


def _traced(function: Deployed, events: Sequence[Event], work: Path) -> frozenset[str]:
    """The calls that `strace -f` shows of a bare start with these events; none where there is no strace."""
    strace, file = shutil.which("strace"), work / "strace"
    if not strace:
        return frozenset()
    with bare(function, work, (strace, "-f", "-qq", "-o", str(file))) as start:
        for event in events:
            start.ask(event)
    return frozenset(name.decode() for name in CALLED.findall(file.read_bytes()))


def _calls(profile: Profile, traced: frozenset[str]) -> dict[str, Any]:
    """How many calls of this machine are allowed: by the profile in each phase, by the others in both."""
    rules = filters(profile, tables.machine())
    return {
        "docker": len(docker()), "strace": len(traced), "init": len(rules.plain.allow), "invoke": len(rules.later.allow)
    }


def docker() -> frozenset[str]:
    """What Docker's default profile allows, if only with some arguments."""
    seccomp = load(MOBY.read_bytes(), str(MOBY))["linux"]["seccomp"]
    numbers = tables.numbers(tables.machine())
    allowed = (entry for entry in seccomp["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW")
    return frozenset(name for entry in allowed for name in entry["names"] if name in numbers)


def costs(row: Workload, work: Path) -> dict[str, Any]:
    """Times of starts and warm invocations, bare and under profiles by turns, in milliseconds. Raises as `evaluate`.

    The fastest of all rounds: what else the machine does only adds. Both ask the service by its address: a bare start
    cannot be led to a fake.
    """
    events = row.events(TRAININGS[0], 0)
    with deployed(row, work) as named:
        function = replace(named, production=named.local, stand_ins=())
        profile = function.learned(events).profile
        denying = replace(profile, on_anomaly=frozenset({(ALL, DENY)}))
        starts: dict[str, list[float]] = {"bare": [], "enforced": [], "denying": []}
        warm: dict[str, list[float]] = {way: [] for way in starts}
        for _ in range(STARTS):
            for way, served in (
                ("bare", bare(function, work)), ("enforced", enforced(function, profile, work, native=True)),
                ("denying", enforced(function, denying, work, native=True)),
            ):  # fmt: skip
                with served as start:
                    starts[way].append(start.took)
                    warm[way].append(_warm(start, events))
    return {"start": _fastest(starts), "warm": _fastest(warm)}


def _warm(start: Start, events: Sequence[Event]) -> float:
    """The median duration of an invocation, after others."""
    usual = events[0]
    taken: list[float] = []
    while len(taken) < WARMING + WARM and (sum(taken) < LONGEST or len(taken) < 2 * WARMING):
        taken.append(start.ask(usual).outcome.duration)
    return statistics.median(taken[WARMING:])


def _fastest(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {way: round(1000 * min(values), 3) for way, values in taken.items()}
