"""`sandbox learn` ends by serving its own events again, audited and enforced; the profile says what came of it."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys

from refusing_filters import below
from sandbox_command import Workshop

from sandbox import __version__
from sandbox.profile import document
from sandbox.profile.model import Verified


def test_what_agrees_is_written_into_the_profile(workshop: Workshop) -> None:
    """The day, the version, how many events and both outcomes; a tolerated refusal is no disagreement."""
    path = workshop.new()
    start = ("--handler", "single_copy.handler", "--root", workshop.targets, "--cold-starts", "1")
    events = workshop.events({}, {"n": 1})
    told = workshop.sandbox("learn", "copy", *start, "--events", events, "--output", path).stdout
    profile = document.read(str(path)).profile
    found = profile.verified
    assert found
    assert found == Verified(found.date, __version__, 2, "ok", "ok")
    assert found.date <= datetime.datetime.now(datetime.UTC).date().isoformat()
    assert "audit: ok" in told
    assert "enforce: ok" in told
    (training,) = profile.trainings
    assert (training.tool, training.date) == (__version__, found.date)


def test_without_verification_nothing_is_claimed(workshop: Workshop) -> None:
    """--no-verify serves nothing again; neither does --from, which has no events."""
    path, again = workshop.new(), workshop.new()
    start = ("--handler", "hello.handler", "--root", workshop.targets, "--cold-starts", "1", "--no-verify")
    told = workshop.sandbox("learn", "x", *start, "--events", workshop.events({}), "--output", path).stdout
    assert document.read(str(path)).profile.verified is None
    assert "under the profile" not in told
    seen = workshop.new(".jsonl")
    environment = {"PATH": "/usr/bin:/bin", "SANDBOX_MODE": "learn", "SANDBOX_OBSERVATIONS": str(seen)}
    subprocess.run([str(workshop.home / "bootstrap"), "/bin/true"], env=environment, check=True)
    workshop.sandbox("learn", "elsewhere", "--from", seen, "--output", again)
    assert document.read(str(again)).profile.verified is None


def test_what_disagrees_is_an_error_with_the_access(workshop: Workshop) -> None:
    """A function that does more than it was trained to: exit status 81, the access, and the outcome in the profile."""
    path = workshop.new()
    start = ("--handler", "changes_its_mind.handler", "--root", workshop.targets, "--cold-starts", "1")
    events = workshop.events({"path": str(workshop.new(".mark"))})
    done = workshop.sandbox("learn", "mind", *start, "--events", events, "--output", path, expect=81)
    assert f"{path}: does not serve the events that it was learned from; audit: umask; enforce: umask" in done.stderr
    found = document.read(str(path)).profile.verified
    assert found
    assert (found.audit, found.enforce) == ("umask", "umask")


def test_a_profile_that_was_there_stays_when_the_new_one_disagrees(workshop: Workshop) -> None:
    """The new one goes beside it; --force and --allow-failed put it in its place."""
    path = workshop.new()
    start = ("--handler", "changes_its_mind.handler", "--root", workshop.targets, "--cold-starts", "1")

    def learn(*more: str, expect: int) -> None:
        events = workshop.events({"path": str(workshop.new(".mark"))})
        workshop.sandbox("learn", "mind", *start, "--events", events, "--output", path, *more, expect=expect)

    learn(expect=81)
    before = path.read_bytes()
    for more in ((), ("--merge",)):
        learn(*more, expect=81)
        assert path.read_bytes() == before
        beside = document.read(str(path.with_suffix(".unverified.yaml"))).profile
        assert beside.verified
        assert beside.verified.enforce == "umask"
    learn("--force", expect=81)
    assert path.read_bytes() != before
    before = path.read_bytes()
    learn("--allow-failed", expect=0)
    assert path.read_bytes() != before


def test_an_access_of_a_file_that_disagrees_is_named(workshop: Workshop) -> None:
    """Landlock refuses in silence; the look names call and path, and the error says which event failed."""
    path, text, marks = workshop.new(), workshop.new(".txt"), workshop.new("")
    text.write_text("again")
    marks.mkdir()
    start = ("--handler", "changes_its_mind.handler", "--root", workshop.targets, "--cold-starts", "1")
    events = workshop.events({"path": str(marks / "mark"), "then": str(text)})
    done = workshop.sandbox("learn", "mind", *start, "--events", events, "--output", path, expect=81)
    assert f"audit: openat read {text}; enforce: openat read {text} ({events.name}:1 failed: Permission" in done.stderr


def test_a_plain_program_is_run_again(workshop: Workshop) -> None:
    """Without the Runtime API the command itself is run under the profile, once in each mode."""
    path, count = workshop.new(), workshop.new(".txt")
    program = ("--", "/bin/sh", "-c", f"echo run >> {count}")
    workshop.sandbox("learn", "plain", "--output", path, "--cold-starts", "1", *program)
    found = document.read(str(path)).profile.verified
    assert found
    assert (found.events, found.audit, found.enforce) == (0, "ok", "ok")
    assert count.read_text() == "run\n" * 3


def test_a_host_that_lacks_landlock_says_what_was_not_verified(workshop: Workshop) -> None:
    """The profile claims nothing of files there, and it is no error: the host is another than production."""
    path = workshop.new()
    arguments = ["learn", "hello", "--handler", "hello.handler", "--root", str(workshop.targets)]
    arguments += ["--cold-starts", "1", "--events", str(workshop.events({})), "--output", str(path)]
    command = below({"landlock_create_ruleset": 38}, sys.executable, "-m", "sandbox", *arguments)
    done = subprocess.run(command, cwd=workshop.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = document.read(str(path)).profile.verified
    assert found
    assert found.enforce.startswith("ok, but not in force here: ")
    assert "files" in found.enforce


def test_json_says_what_was_verified(workshop: Workshop) -> None:
    """One object with the outcome of each mode and the accesses behind it."""
    path = workshop.new()
    start = ("--handler", "changes_its_mind.handler", "--root", workshop.targets, "--cold-starts", "1", "--json")
    events = workshop.events({"path": str(workshop.new(".mark"))})
    done = workshop.sandbox("learn", "mind", *start, "--events", events, "--output", path, expect=81)
    (line,) = [found for found in map(json.loads, done.stdout.splitlines()) if found["event"] == "verified"]
    assert (line["events"], line["audit"]["outcome"], line["enforce"]["accesses"]) == (1, "umask", ["umask"])


def test_events_that_failed_in_training_are_not_served_again(workshop: Workshop) -> None:
    """With --allow-failed the others are verified."""
    path = workshop.new()
    start = ("--handler", "fails.handler", "--root", workshop.targets, "--cold-starts", "1", "--allow-failed")
    events = workshop.events({}, {"fail": True}, {})
    workshop.sandbox("learn", "fails", *start, "--events", events, "--output", path)
    found = document.read(str(path)).profile.verified
    assert found
    assert (found.events, found.audit, found.enforce) == (2, "ok", "ok")

