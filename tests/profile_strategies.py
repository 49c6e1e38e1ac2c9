"""Hypothesis strategies for profiles: everything that a profile may hold, and nothing that the reader would refuse.

    @given(profiles())
    def test_something(profile): ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from sandbox.behaviour import anomaly, arguments
from sandbox.behaviour.call import Call
from sandbox.kernel import tables
from sandbox.profile import base
from sandbox.profile.finding import RULES
from sandbox.profile.model import (
    AIMS,
    PHASES,
    RUNTIME_API,
    SEEN,
    Estimate,
    Grant,
    Ignore,
    Library,
    Phase,
    Profile,
    ProfiledFunction,
    Section,
    Tolerated,
    Training,
    Use,
    UsedBy,
    Verified,
)
from sandbox.profile.promises import promises_of

NUMBERS = (0x1234, 0xFFFFFFFF)
"""Values that no table names, so that their classes are numbers."""

REASONS = ("learned at cold start", "learned from every event", "learned from a.json only", "resizes the picture")

# PyYAML writes text as UTF-8, in which a lone surrogate cannot be said.
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, min_size=1, max_size=20)
DISTRIBUTIONS = st.sampled_from(["botocore", "urllib3", "python", "function"]) | TEXT


def _field_values(group: str) -> tuple[int, ...]:
    if group in ("socket_option", "socket_protocol"):
        return (0, 1, 2, 6, 9, 17, *NUMBERS)  # how they are called hangs on the fields before them
    return (*tables.constants(group).values(), *NUMBERS)


def _classes(syscall: str) -> tuple[str, ...]:
    """The classes of a syscall: all of a closed list, else those of the values that the tables name."""
    if not arguments.has_classes(syscall):
        return ("",)
    if arguments.partition_classes(syscall):
        return arguments.partition_classes(syscall)
    calls: list[list[int]] = [[0] * 6]
    groups = [part.split(":")[0] for part in arguments.classification(syscall).split(",")]
    for (argument, mask), group in zip(arguments.masks(syscall), groups, strict=True):
        values = {value & mask for value in _field_values(group)}
        calls = [[*call[:argument], value, *call[argument + 1 :]] for call in calls for value in sorted(values)]
    names = {arguments.classify(syscall, call, "x86_64") for call in calls}
    if arguments.target_argument(syscall) is not None:
        names |= {Call(syscall, name).to_others().arg_class for name in names}
    return tuple(sorted(names))


def _allowed(syscall: str, name: str) -> bool:
    return base.kept_out(Call(syscall, name)) is None


CLASSES: dict[str, tuple[str, ...]] = {
    syscall: allowed
    for syscall in sorted(tables.every_name())
    if (allowed := tuple(name for name in _classes(syscall) if _allowed(syscall, name)))
}
"""Syscall to the classes that a profile may allow without a grant."""

_GRANTABLE = tuple(entry for entry in base.hard_deny() if entry.grantable)


def items() -> st.SearchStrategy[Call]:
    """Calls that a profile may allow without a grant; syscalls with classes come up more often."""
    classed = [syscall for syscall, names in CLASSES.items() if names != ("",)]
    return st.one_of(st.sampled_from(classed), st.sampled_from(sorted(CLASSES))).flatmap(
        lambda syscall: st.builds(Call, st.just(syscall), st.sampled_from(CLASSES[syscall]))
    )


def reasons() -> st.SearchStrategy[frozenset[str]]:
    """One to three reasons, learned ones and people's."""
    return st.frozensets(st.sampled_from(REASONS) | TEXT, min_size=1, max_size=3)


@st.composite
def uses(draw: st.DrawFn, phases: Sequence[Phase] = PHASES, max_size: int = 16) -> frozenset[Use]:
    """Uses with distinct keys."""
    libraries = st.frozensets(DISTRIBUTIONS, max_size=2)
    keys = draw(st.frozensets(st.tuples(st.sampled_from(phases), items()), max_size=max_size))
    return frozenset(
        Use(phase, syscall, name, draw(st.integers(0, 10**6)), draw(reasons()), draw(libraries))
        for phase, (syscall, name) in sorted(keys)
    )


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """A grant of a hard-denied call, with the classes that are denied where only some are."""
    entry = draw(st.sampled_from(_GRANTABLE))
    classes = draw(st.frozensets(st.sampled_from(entry.classes), min_size=1)) if entry.classes else frozenset[str]()
    return Grant(entry.syscall, classes, draw(st.text(CHARACTERS, min_size=8, max_size=30)))


@st.composite
def estimates(draw: st.DrawFn, phase: Phase) -> Estimate:
    """An estimate with the digits that a profile's text keeps."""
    counts = st.integers(0, 10**4)
    return Estimate(
        phase=phase,
        samples=draw(counts),
        items=draw(counts),
        once=draw(counts),
        novelty=draw(st.integers(0, 10**4)) / 10**4,
        quiet=draw(counts),
        bound=draw(st.integers(0, 10**4)) / 10**4,
        chao2=draw(st.integers(0, 10**6)) / 100,
        users=draw(st.integers(0, 10**4)) / 10**4,
    )


@st.composite
def trainings(draw: st.DrawFn, id_: str) -> Training:
    """A training with that id."""
    words = st.just("") | TEXT
    phases = draw(st.frozensets(st.sampled_from(PHASES)))
    return Training(
        id=id_,
        host=draw(words),
        kernel=draw(words),
        libc=draw(words),
        python=draw(words),
        architecture=draw(words),
        handler_digest=draw(words),
        lock_digest=draw(words),
        date=draw(st.sampled_from(["", "2030-01-31"])),
        tool=draw(words),
        estimates=tuple(draw(estimates(phase)) for phase in PHASES if phase in phases),
    )


def _notes(entries: frozenset[str]) -> st.SearchStrategy[frozenset[tuple[str, str]]]:
    if not entries:
        return st.just(frozenset())
    return st.frozensets(st.tuples(st.sampled_from(sorted(entries)), TEXT), max_size=3)


@st.composite
def libraries(draw: st.DrawFn) -> list[Library]:
    """Libraries with distinct names and versions, each met in some phase."""
    seen = st.sampled_from(SEEN)
    found = st.builds(Library, DISTRIBUTIONS, st.sampled_from(["", "1.0", "2.1rc1"]), seen, seen, seen)
    return draw(st.lists(found, max_size=3, unique_by=lambda library: (library.name, library.version)))


def _by(entries: Mapping[Section, frozenset[str]]) -> st.SearchStrategy[frozenset[UsedBy]]:
    known = sorted((section, entry) for section, texts in entries.items() for entry in texts)
    if not known:
        return st.just(frozenset())
    return st.frozensets(
        st.builds(lambda at, name: UsedBy(at[0], at[1], name), st.sampled_from(known), DISTRIBUTIONS), max_size=3
    )


@st.composite
def tolerates(draw: st.DrawFn, phases: Sequence[Phase] = PHASES) -> frozenset[Tolerated]:
    """Tolerated refusals with distinct keys."""
    calls = [(entry, name) for entry in base.hard_deny() if not entry.unreadable for name in entry.classes or ("",)]
    keys = st.tuples(st.sampled_from(phases), st.sampled_from(calls), st.sampled_from(AIMS))
    drawn = draw(st.frozensets(keys, max_size=3))
    return frozenset(
        Tolerated(phase, entry.syscall, name, aim, entry.errno, draw(reasons()))
        for phase, (entry, name), aim in sorted(drawn, key=str)
        if aim != "other" or entry.response != "terminate"
    )


def on_anomaly() -> st.SearchStrategy[frozenset[tuple[str, str]]]:
    """What is said of some detectors, or of all."""
    names = st.sampled_from([anomaly.ALL, *anomaly.DETECTORS])
    said = st.dictionaries(names, st.sampled_from(anomaly.RESPONSES), max_size=3)
    return said.map(lambda found: frozenset(found.items()))


def ignores() -> st.SearchStrategy[Ignore]:
    """An ignored finding, with a reason or without."""
    return st.builds(Ignore, st.sampled_from(sorted(RULES)), st.just("") | TEXT, st.just("") | TEXT)


def verified() -> st.SearchStrategy[Verified]:
    """The outcome of serving the events of a training again."""
    outcome = st.sampled_from(["ok", "event 2: openat"])
    return st.builds(Verified, st.just("2030-01-31"), TEXT, st.integers(0, 10**4), outcome, outcome)


@st.composite
def profiles(
    draw: st.DrawFn, *, name: str | None = None, runtime_api: bool | None = None, max_uses: int = 16,
    compiled: bool = False,
) -> Profile:  # fmt: skip
    """A whole profile that the reader accepts; `name` and `runtime_api` fix what merge wants to be equal.

    With `compiled` one that the compiler accepts, too.
    """
    function = ProfiledFunction(
        draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)) if name is None else name,
        draw(st.just("") | TEXT),
        draw(st.booleans()) if runtime_api is None else runtime_api,
    )
    found = draw(uses(("init", "invoke") if function.runtime_api else ("run",), max_uses))
    # What a rule can stand for: a path without a wildcard or NUL in it, a folder, a folder with a name for it.
    named = TEXT.map(lambda text: "/x" + "".join(character for character in text if character not in "/*\0"))
    places = st.frozensets(named | st.sampled_from(["/tmp/**", "{root}/**", "/etc/passwd"]), max_size=3)
    programs = st.frozensets(named | st.just("{root}/bin/tool"), max_size=3)
    network = st.sampled_from([RUNTIME_API, "tcp://127.0.0.1:80", "udp://example.org:53", "unix:/run/x"])
    ids = draw(st.frozensets(st.from_regex(r"[0-9a-f]{12}", fullmatch=True), max_size=2))
    destinations = draw(st.frozensets(network if compiled else network | TEXT, max_size=3))
    listener = st.sampled_from(["tcp://127.0.0.1:8001", "udp://[::1]:*", "tcp://0.0.0.0:80", "unix:/run/x", "unix:@x"])
    listen = draw(st.frozensets(listener if compiled else listener | TEXT, max_size=3))
    processes, writes = draw(programs), draw(places)
    return Profile(
        function=function,
        uses=found,
        processes=processes,
        network=destinations,
        libraries=frozenset(draw(libraries())),
        by=draw(_by({"network": destinations, "listen": listen, "processes": processes, "write": writes})),
        listen=listen,
        listen_because=draw(_notes(listen)),
        names_keep=draw(st.sampled_from(["", "90s", "15m", "2h", "120m", "60m", "forever"])),
        names_receives=frozenset(draw(st.sets(st.sampled_from(["recvfrom", "recvmsg", "getpeername"])))),
        tolerates=draw(tolerates(("init", "invoke") if function.runtime_api else ("run",))),
        verified=draw(st.none() | verified()),
        on_anomaly=draw(on_anomaly()),
        most=frozenset(draw(st.dictionaries(st.sampled_from(anomaly.MOST), st.integers(0, 10**6))).items()),
        ignores=draw(st.frozensets(ignores(), max_size=2)),
        reads=draw(places),
        writes=writes,
        grants=draw(st.frozensets(grants(), max_size=2)),
        trainings=frozenset(draw(trainings(id_)) for id_ in sorted(ids)),
        promises=promises_of(found),
    )
