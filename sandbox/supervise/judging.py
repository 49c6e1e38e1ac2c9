"""Whose call it is that waits, what detectors say of it, and what the profile makes of that.

The stack is read once for both. With `report` alone an access of each thread to each entry is judged once a second,
with `deny` or `terminate` each, while it waits. Who cannot be read is suspected by nobody.
"""

from __future__ import annotations

import time

from sandbox.behaviour import anomaly
from sandbox.behaviour.access import PROGRAM, Access
from sandbox.behaviour.anomaly import DENY, OFF, REPORT, TERMINATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from sandbox.behaviour.anomaly import Anomaly
    from sandbox.kernel.notification import Notification
    from sandbox.kernel.task import Task
    from sandbox.sensor.detectors import Detector
    from sandbox.sensor.detectors.seen import Known
    from sandbox.sensor.early import Early
    from sandbox.sensor.origins import Sensor
    from sandbox.supervise.activity import Follower
    from sandbox.supervise.decision import Decider
    from sandbox.violations.origin import Origin

    Users: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]

PATIENCE_ASKED = 1.0
"""Seconds for a reading where the profile has `on-anomaly`, or activity is told: more hangs on it than the words of a
line (PATIENCE)."""
AGAIN = 1.0
"""Seconds until another access of a thread to an entry is judged where nothing is refused for it: reading a stack takes
longer than making a connect."""
MOST_JUDGED = 4096
"""Entries, each with a thread, of which it is known when an access was judged; with more all are forgotten."""
MOST_UNKNOWN = 4
"""Kinds of interpreters that are said to be unknown, one line each: whoever starts programs can make up any number."""


class Judgement:
    """Who made a call, None where nobody can tell; what is suspected, if it is, and the response of the profile."""

    __slots__ = ("anomaly", "by", "response", "users")

    def __init__(
        self, by: Origin | None, found: Anomaly | None = None, response: str = OFF, users: Sequence[str] = ()
    ) -> None:
        """`users` are the libraries on its stack as a profile lists them."""
        self.by = by
        self.users = users
        self.anomaly = found
        self.response = response

    def also(self, found: Anomaly, response: str) -> Judgement:
        """The same call, suspected of something else."""
        return Judgement(self.by, found, response, self.users)

    @property
    def refuses(self) -> bool:
        """Whether the call must not be made."""
        return self.response in (DENY, TERMINATE)


class Judge:
    """Asks the detectors about the calls of one function. Not for several threads."""

    def __init__(
        self, settings: Mapping[str, str], users: Users, libraries: Iterable[str], *, audit: bool,
        waits: Callable[[Notification], bool], degraded: Callable[[str], None], tells: bool = False,
        each: bool = False,
    ) -> None:  # fmt: skip
        """These are `on_anomaly`, `by` and `libraries` of Supervision. `audit` lets through whatever is suspected.

        `waits` says whether a call still waits, `degraded` is told of what cannot be read for its version. `tells`:
        who makes a call is asked where no detector is, too; with `each` not of the first accesses alone.
        """
        self._settings = settings
        self._users = users
        self._libraries = frozenset(libraries)
        self._audit = audit
        self._waits = waits
        self._degraded = degraded
        self._unknown: set[str] = set()
        self._judged: dict[tuple[int, str, str], float] = {}
        self._sensor: Sensor | None = None
        self._early: Early | None = None
        self._detectors: Sequence[Detector] = ()
        answers = {anomaly.response(settings, name) for name in anomaly.OF_CALLS}
        self._asks = answers != {OFF}
        self._tells = tells
        self._each = each
        self._refuses = not audit and not answers.isdisjoint((DENY, TERMINATE))

    def meet(self, pid: int) -> None:
        """Open of the function's process what it may not show later (PR_SET_DUMPABLE).

        And where the profile asks detectors, load them now, behind the answer to a call, rather than before another.
        """
        from sandbox.sensor.early import Early

        if self._early is None and self._sensor is None:
            self._early = Early(pid)
            if self._settings:
                self._load()

    def wants(self, tid: int, section: str, entry: str) -> bool:
        """Whether an access that an entry of the profile allows is to be judged."""
        if not self._asks and not self._tells:
            return False
        if self._refuses or self._each:
            return True
        key, now = (tid, section, entry), time.monotonic()
        if now - self._judged.get(key, -AGAIN) < AGAIN:
            return False
        if len(self._judged) >= MOST_JUDGED:
            self._judged.clear()
        self._judged[key] = now
        return True

    def forget(self) -> None:
        """Judge each entry and thread anew."""
        self._judged.clear()

    def judge(self, call: Notification, task: Task, access: Access, section: str = "", entry: str = "") -> Judgement:
        """What is found while a call waits, about an access that an entry of a section of the profile is about."""
        first = self._sensor is None
        sensor = self._sensor or self._load()
        from sandbox.sensor.detectors.seen import Seen
        from sandbox.sensor.maps import mapped
        from sandbox.sensor.origins import PATIENCE
        from sandbox.sensor.users import users

        more = self._settings or self._tells or first  # the first of all has more to read
        patience = PATIENCE_ASKED if more else PATIENCE
        deadline, process = time.monotonic() + patience, task.process()
        reading = sensor.reading(call.pid, process, deadline)
        if reading and section and access.reach == PROGRAM:  # what the profile lets it run
            sensor.starts(process, reading)
        why = sensor.unknown
        if why and why not in self._unknown and len(self._unknown) < MOST_UNKNOWN:
            self._unknown.add(why)
            self._degraded(f"origins: {why}: lines do not say whose calls they report")
        # What a filter sees is the address behind the instruction (man 2 seccomp).
        code = mapped(process, call.ip - 1, deadline) if self._asks else None
        frames = reading.frames if reading and (self._asks or self._tells) else ()
        by = users(reading) if reading and frames else ()  # what other runtimes tell is less sure
        seen, known = Seen(frames, code, by), self._known(access, section, entry)
        found: Anomaly | None = None
        strictest = OFF
        for detector in self._detectors:
            suspected = detector.suspect(seen, access, known)
            answer = anomaly.response(self._settings, detector.NAME)
            if suspected and anomaly.stricter((answer, strictest)) != strictest:
                found, strictest = suspected, answer
        if not self._waits(call):  # all of it may be another's
            return Judgement(None)
        response = REPORT if self._audit and found else strictest
        return Judgement(reading.origin if reading else None, found, response, by)

    def _load(self) -> Sensor:
        """Load what reads and what judges; a start without reports does without."""
        from sandbox.sensor.detectors import DETECTORS
        from sandbox.sensor.origins import Sensor

        self._detectors = [one for one in DETECTORS if anomaly.response(self._settings, one.NAME) != OFF]
        self._users = {section: _as_decided(section, found) for section, found in self._users.items()}
        self._sensor = Sensor(self._early)
        return self._sensor

    def _known(self, access: Access, section: str, entry: str) -> Known:
        """What the policy has of who uses the entry, or makes the call in the phase."""
        from sandbox.behaviour.path import covers
        from sandbox.sensor.detectors.seen import Known

        if not section:
            names = self._users.get("syscalls", {}).get(f"{access.phase} {access.call}")
        else:
            entries = self._users.get(section, {})
            names = entries.get(entry)
            if names is None and entry.startswith("/"):
                names = next((found for pattern, found in entries.items() if covers(pattern, entry)), None)
        return Known(None if names is None else frozenset(names), self._libraries)


def _as_decided(section: str, entries: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """The entries of a section as what decides about them writes them."""
    if section not in ("network", "listen"):
        return entries
    from sandbox.behaviour import destination, listener

    parse = destination.parse if section == "network" else listener.parse
    return {parse(text).text: names for text, names in entries.items()}


def make_judge(
    decider: Decider, follower: Follower | None, *, waits: Callable[[Notification], bool],
    degraded: Callable[[str], None],
) -> Judge:  # fmt: skip
    """The judge of one supervisor, by its policy; `follower` is what its activity is told to, None where it is not."""
    return Judge(
        decider.on_anomaly, decider.by, decider.libraries, audit=decider.audit, waits=waits, degraded=degraded,
        tells=follower is not None, each=follower is not None and follower.full,
    )  # fmt: skip
