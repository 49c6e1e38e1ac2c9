"""diff: what a reviewer of a changed profile must see, and what must make the check fail."""

from __future__ import annotations

import json
from dataclasses import replace

import profile_strategies
from hypothesis import given, settings

from sandbox.profile.diff import AnomalyChange, SettingChange, described, diff, lines
from sandbox.profile.merge import merge
from sandbox.profile.model import Grant, Phase, Profile, ProfiledFunction, Use
from sandbox.profile.promises import promises_of

ANY = profile_strategies.profiles(name="f", runtime_api=True, max_uses=6)


def profile(*uses: tuple[Phase, str, str]) -> Profile:
    """A profile with these uses."""
    found = frozenset(Use(phase, syscall, name, 1, frozenset({"learned"})) for phase, syscall, name in uses)
    return Profile(ProfiledFunction("f"), found, promises=promises_of(found))


def test_a_new_promise_comes_first() -> None:
    """A new call shows its promise with what it is about and its risk, then itself with its danger and reason."""
    old = profile(("invoke", "openat", "read"))
    new = profile(("invoke", "openat", "read"), ("invoke", "execve", ""))
    assert list(lines(diff(old, new))) == [
        "+ promise exec in invoke: runs programs (risk: high)",
        "+ invoke: execve, exec, runs another program (learned)",
    ]
    assert diff(old, new).widened


def test_less_is_no_widening() -> None:
    """What is only taken away is shown with a minus and does not count as widened."""
    old = profile(("invoke", "openat", "read"), ("invoke", "execve", ""))
    found = diff(old, profile(("invoke", "openat", "read")))
    assert [line[0] for line in lines(found)] == ["-", "-"]
    assert not found.widened


def test_a_move_from_init_to_invoke_widens_invoke() -> None:
    """A call that init made and invoke makes now is new for invoke, and its line says where it was before."""
    found = diff(profile(("init", "openat", "create")), profile(("invoke", "openat", "create")))
    assert found.widened
    assert list(lines(found)) == [
        "+ promise cpath in invoke: creates, renames and removes files",
        "- promise cpath in init: creates, renames and removes files",
        "- init: openat create, cpath (learned)",
        "+ invoke: openat create, cpath, before only in init (learned)",
    ]


def test_a_promise_that_stays_elsewhere_says_so() -> None:
    """A promise that another phase had already is new for this phase only."""
    old = profile(("init", "openat", "read"))
    new = profile(("init", "openat", "read"), ("invoke", "openat", "read"))
    assert next(lines(diff(old, new))) == (
        "+ promise rpath in invoke, as in init: opens files to read and lists directories"
    )


def test_a_wider_class_is_widening() -> None:
    """The class counts, not only the syscall."""
    old, new = profile(("invoke", "sendto", "connected")), profile(("invoke", "sendto", "addressed"))
    assert diff(old, new).widened
    line = "+ invoke: sendto addressed, inet, sends to any address without connecting (learned)"
    assert line in list(lines(diff(old, new)))


def test_places_count() -> None:
    """Programs, destinations and paths that came are widening; a path inside a known pattern is not."""
    old = replace(profile(), writes=frozenset({"/tmp/**"}), reads=frozenset({"/etc/*"}))
    inside = replace(old, writes=old.writes | {"/tmp/x/*"}, reads=old.reads | {"/etc/passwd"})
    assert not diff(old, inside).changes
    for field in ("processes", "network", "reads", "writes"):
        wider = replace(old, **{field: getattr(old, field) | {"/srv/x"}})
        assert diff(old, wider).widened, field
        assert not diff(wider, old).widened, field


def test_another_spelling_is_no_change() -> None:
    """Of a destination, or of a folder with all below it, which `/*` and `/**` both are for Landlock."""
    old = replace(profile(), network=frozenset({"tcp://db.internal:5432"}), writes=frozenset({"/tmp/*"}))
    new = replace(old, network=frozenset({"DB.internal.:5432"}), writes=frozenset({"/tmp/**", "/tmp/a/b/**"}))
    assert not diff(old, new).changes
    assert not diff(new, old).changes
    assert diff(old, replace(old, network=frozenset({"udp://db.internal:5432"}))).widened


def test_counts_and_reasons_are_no_change() -> None:
    """Seeing a call more often, or for another reason, allows nothing more."""
    old = profile(("invoke", "openat", "read"))
    new = replace(old, uses=frozenset(replace(use, count=9, because=frozenset({"x"})) for use in old.uses))
    assert not diff(old, new).changes


def test_grants_count_by_what_they_grant() -> None:
    """A grant of all classes contains one of some; another reason is no change."""
    some = replace(profile(), grants=frozenset({Grant("prctl", frozenset({"PR_SET_MM"}), "moves its image")}))
    more = replace(profile(), grants=frozenset({Grant("prctl", frozenset(), "moves its image")}))
    other = replace(profile(), grants=frozenset({Grant("prctl", frozenset({"PR_SET_MM"}), "another reason")}))
    assert diff(some, more).widened
    assert not diff(more, some).widened
    assert not diff(some, other).changes
    assert next(lines(diff(profile(), some))) == "+ grant prctl PR_SET_MM: moves its image"


def test_speaking_the_runtime_api_widens() -> None:
    """A function that becomes a Runtime API client gets what clients need."""
    plain = Profile(ProfiledFunction("f", runtime_api=False))
    assert diff(plain, Profile(ProfiledFunction("f"))).widened
    assert not diff(Profile(ProfiledFunction("f")), plain).widened


@settings(deadline=None, max_examples=40)
@given(ANY, ANY)
def test_diff_is_antisymmetric(one: Profile, other: Profile) -> None:
    """Seen from the other side every plus is a minus."""
    there, back = described(diff(one, other)), described(diff(other, one))
    turned = json.loads(json.dumps(back).replace('"sign": "+"', '"sign": "?"'))
    turned = json.loads(json.dumps(turned).replace('"sign": "-"', '"sign": "+"').replace('"sign": "?"', '"sign": "-"'))

    def facts(found: dict[str, object]) -> list[str]:
        entries = [
            {key: value for key, value in change.items() if key != "before"}
            for section in ("promises", "places", "grants", "syscalls")
            for change in json.loads(json.dumps(found[section]))
        ]
        return sorted(json.dumps(entry, sort_keys=True) for entry in entries)

    assert facts(there) == facts(turned)


@settings(deadline=None, max_examples=40)
@given(ANY, ANY)
def test_a_merge_takes_nothing_away(one: Profile, other: Profile) -> None:
    """Against its parts a merge has no minus, but that anomalies and refusals are answered as the stricter one says."""
    merged = merge(one, other)
    found = diff(one, merged)
    stricter = (AnomalyChange, SettingChange)
    assert all(change.sign == "+" for change in found.changes if not isinstance(change, stricter))
    assert all(change.sign == "-" for change in found.anomalies if one.on_anomaly)
    assert not diff(merged, merged).changes


def test_another_interpreter_counts_where_both_are_known() -> None:
    """A program that another one interprets now is widening; to learn what interprets it is none."""
    old = replace(profile(), processes=frozenset({"/opt/s", "/opt/t"}), interpreters=frozenset({("/opt/s", "/bin/sh")}))
    new = replace(old, interpreters=old.interpreters | {("/opt/s", "/bin/bash"), ("/opt/t", "/bin/sh")})
    assert list(lines(diff(old, new))) == ["+ processes: /opt/s interpreted by /bin/bash"]
