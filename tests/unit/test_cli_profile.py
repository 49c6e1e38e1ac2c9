"""`sandbox profile`: what people and scripts get from it, through the command itself."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from sandbox.cli.loading import app
from sandbox.errors import ProfileError, SandboxError, UsageError, printable
from sandbox.kernel import tables
from sandbox.policy.rules import rules_for
from sandbox.profile import document

OLD = """\
schema: 2
function: {name: thumbnail, handler: app.handler}
promises: [rpath]
network: [runtime-api]
files: {read: [/etc/**], write: [/tmp/**]}
completeness: [{training: abc, invoke: {samples: 90, items: 9, once: 0, novelty: 0, quiet: 80, bound: 0.037, chao2: 9}}]
syscalls:
  invoke:
    openat: {classes: {read: 300}, because: learned from every event}
"""
NEW = OLD.replace("[rpath]", "[exec, rpath]") + "    execve: {count: 1, because: learned from a.json only}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The old and the new profile on disk."""
    for name, text in (("old.yaml", OLD), ("new.yaml", NEW)):
        (tmp_path / name).write_text(text)
    return str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")


def run(*arguments: str) -> Result:
    """The command's result; an error that the command prints for people is raised as it is."""
    result = CliRunner().invoke(app, ("profile", *arguments))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_bill_of_unknown_libraries_says_so(files: tuple[str, str]) -> None:
    """A profile without libraries, as an older training wrote it, gives an empty bill and a warning."""
    done = run("bom", files[0])
    assert "components" not in json.loads(done.stdout)
    assert "lists no libraries" in " ".join(done.stderr.split())
    Path(files[0]).write_text(OLD + "libraries: [{name: botocore, invoke: loaded}]\n")
    done = run("bom", files[0])
    assert ([one["name"] for one in json.loads(done.stdout)["components"]], done.stderr) == (["botocore"], "")


def test_show_begins_with_promises(files: tuple[str, str]) -> None:
    """Promises come first, with what they are about, risk and calls, and completeness is said in words."""
    lines = run("show", files[1]).stdout.splitlines()
    assert lines[:3] == [
        "thumbnail (app.handler), speaks the Runtime API",
        "promise exec: runs programs (risk: high); calls: invoke 1",
        "promise rpath: opens files to read and lists directories; calls: invoke 1",
    ]
    assert "network: runtime-api" in lines
    assert "writes: /tmp/**" in lines
    assert "worst in invoke: up to 3.7% of invocations" in lines[-1]
    assert "219 more quiet invocations reach 1 %" in lines[-1]
    assert "drawn like production's" in lines[-1]


def test_show_lists_calls_on_request(files: tuple[str, str]) -> None:
    """--syscalls adds each call with its class, count and reasons."""
    assert "invoke openat read: 300 times, learned from every event" in run("show", files[0], "--syscalls").stdout
    assert "openat" not in run("show", files[0]).stdout


def test_show_for_machines(files: tuple[str, str]) -> None:
    """--json gives the same as one object."""
    shown = json.loads(run("show", files[1], "--json").stdout)
    function = {"name": "thumbnail", "handler": "app.handler", "runtime_api": True, "environment": []}
    assert shown["function"] == function
    assert [promise["name"] for promise in shown["promises"]] == ["exec", "rpath"]
    assert shown["promises"][1]["seen"]["invoke"] == 300
    assert shown["completeness"][0]["more_quiet_for_1_percent"] == 219


def test_diff_fails_when_something_widened(files: tuple[str, str]) -> None:
    """Wider exits with 1, narrower with 0, and equal says so."""
    wider = run("diff", *files)
    assert wider.exit_code == 1
    assert wider.stdout.splitlines() == [
        "+ promise exec in invoke: runs programs (risk: high)",
        "+ invoke: execve, exec, runs another program (learned from a.json only)",
    ]
    narrower = run("diff", files[1], files[0])
    assert narrower.exit_code == 0
    assert {line[0] for line in narrower.stdout.splitlines()} == {"-"}
    assert run("diff", files[0], files[0]).stdout == "no difference in what is allowed\n"


def test_diff_for_machines(files: tuple[str, str]) -> None:
    """--json says the same and exits the same."""
    result = run("diff", *files, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["widened"]
    assert [change["syscall"] for change in found["syscalls"]] == ["execve"]


def test_diff_is_coloured_on_a_terminal_only(files: tuple[str, str]) -> None:
    """Lines have colours on a terminal and none in a pipe."""
    command = [sys.executable, "-c", "from sandbox.cli import main; main()", "profile", "diff", *files]
    piped = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert piped.returncode == 1
    assert piped.stdout.startswith("+ promise exec")
    parent, child = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdout=child, stderr=child, env=environment)
    os.close(child)
    shown = b""
    try:
        while block := os.read(parent, 4096):
            shown += block
    except OSError:
        pass  # EIO: the last writer of a pseudo terminal has gone
    finally:
        os.close(parent)
    assert process.wait(timeout=60) == 1
    assert b"\x1b[32m+ promise exec" in shown


def test_merge_writes_what_either_allows(files: tuple[str, str], tmp_path: Path) -> None:
    """The merged profile goes to standard output or to a file, and is the same in any order."""
    text = run("merge", *files).stdout
    assert document.parse(text).profile.items() == document.parse(NEW).profile.items()
    output = tmp_path / "merged.yaml"
    assert run("merge", files[1], files[0], "--output", str(output)).exit_code == 0
    assert output.read_text() == text


def test_lint_points_at_lines(files: tuple[str, str]) -> None:
    """Errors fail, warnings do not, and each line can be clicked."""
    result = run("lint", *files)
    assert result.exit_code == 1
    assert f"{files[1]}:10:5: error: execve in invoke (runs another program) has no reason" in result.stdout
    assert not any(line.startswith(f"{files[0]}:") for line in result.stdout.splitlines())
    findings = [json.loads(line) for line in run("lint", files[1], "--json").stdout.splitlines()]
    errors = [finding for finding in findings if finding["severity"] == "error"]
    assert [(finding["line"], finding["column"]) for finding in errors] == [(10, 5)]
    assert run("lint", files[0]).exit_code == 0


def test_lint_goes_on_after_a_broken_file(files: tuple[str, str], tmp_path: Path) -> None:
    """A file that is no profile is an error at its place, and the next file is still checked."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("schema: 1\nfunction: [\n")
    result = run("lint", str(broken), str(tmp_path / "none.yaml"), files[1])
    assert result.exit_code == 1
    assert f"{broken}:3:1: error: is not YAML" in result.stdout
    assert f"{tmp_path}/none.yaml:1:1: error: cannot be read" in result.stdout
    assert f"{files[1]}:10:5: error" in result.stdout


def test_export_and_import(files: tuple[str, str], tmp_path: Path) -> None:
    """What is exported is OCI JSON for both architectures, and imported it allows the same."""
    exported, imported = str(tmp_path / "seccomp.json"), str(tmp_path / "back.yaml")
    assert run("export", files[0], "--output", exported).exit_code == 0
    result = run("import", exported, "--name", "thumbnail", "--output", imported)
    assert result.exit_code == 0
    assert f"{exported}: $.syscalls[0].names" in result.stderr
    assert "execve is left out" in result.stderr
    back = document.read(imported).profile
    for arch in tables.ARCHES:
        assert rules_for(back, arch).allow.keys() == rules_for(document.read(files[0]).profile, arch).allow.keys()
    assert json.loads(run("export", files[0], "--arch", "x86_64").stdout)["architectures"] == ["SCMP_ARCH_X86_64"]


def test_import_overwrites_nothing_unasked(files: tuple[str, str], tmp_path: Path) -> None:
    """A file that is there stays, unless --force is said."""
    source = tmp_path / "s.json"
    source.write_text('{"defaultAction": "SCMP_ACT_ERRNO"}')
    with pytest.raises(UsageError, match="already exists"):
        run("import", str(source), "--name", "x", "--output", files[0])
    assert Path(files[0]).read_text() == OLD
    assert run("import", str(source), "--name", "x", "--output", files[0], "--force").exit_code == 0
    assert Path(files[0]).read_text() != OLD


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "none.yaml"], "none.yaml: cannot be read"),
        (["diff", "none.yaml", "none.yaml"], "none.yaml: cannot be read"),
        (["merge", "none.yaml"], "none.yaml: cannot be read"),
        (["export", "none.yaml"], "none.yaml: cannot be read"),
        (["import", "none.json", "--name", "x"], "none.json: cannot be read"),
        (["import", "broken.json", "--name", "x"], "broken.json:1:2: is not JSON"),
        (["import", "empty.json", "--name", "x"], "empty.json:$: 'defaultAction' is a required property"),
        (["import", "good.json", "--name", "a b"], "--name: is not a function's name"),
        (["merge", "p.yaml", "--output", "good.json/x.yaml"], "cannot be written"),
        (["export", "p.yaml", "--output", "."], "cannot be written"),
    ],
)
def test_errors_say_where_and_what_to_do(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with the files is an error of ours, with its place and what to do."""
    monkeypatch.chdir(tmp_path)
    texts = {"broken.json": "{", "empty.json": "{}", "good.json": '{"defaultAction": "SCMP_ACT_ERRNO"}', "p.yaml": OLD}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SandboxError) as caught:
        run(*arguments)
    assert says in str(caught.value)
    assert "what to do: " in str(caught.value)


def test_a_profile_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """Escape sequences, control and direction marks in a profile are shown, not obeyed."""
    path = tmp_path / "p.yaml"
    path.write_text(OLD.replace("[/etc/**]", '["/a\\e[31m\\u202e\\rb", "[red]c[/red]"]'))
    shown = run("show", str(path)).stdout
    assert "reads: /a\\x1b[31m\\u202e\\x0db, [red]c[/red]" in shown
    assert printable("ünïcode 漢字") == "ünïcode 漢字"


def test_editors_get_the_schema_beside_a_profile(files: tuple[str, str], tmp_path: Path) -> None:
    """The first line of what is written names the schema beside it, which a newer version renews and others keep."""
    written = tmp_path / "out" / "f.yaml"
    assert run("merge", *files, "--output", str(written)).exit_code == 0
    modeline = written.read_text().splitlines()[0]
    beside = written.parent / modeline.partition("$schema=")[2]
    schema = json.loads(beside.read_text())
    jsonschema.validate(yaml.safe_load(written.read_text()), schema)
    assert modeline.startswith("# yaml-language-server: $schema=")
    assert schema["$id"]
    unsaid = [name for name, body in schema["properties"].items() if not body.get("description")]
    assert unsaid == []
    for old, kept in (('{"$id": "urn:seccomp-bootstrap:profile:1"}', False), ('{"$id": "urn:another"}', True)):
        beside.write_text(old)
        run("merge", *files, "--output", str(written))
        assert (beside.read_text() == old) is kept
    assert sorted(os.listdir(written.parent)) == ["f.yaml", beside.name]


def test_lint_tells_every_fault_of_the_shape(files: tuple[str, str]) -> None:
    """Each misspelled key and wrong value has a line of its own, so that one run is enough."""
    text = OLD.replace("promises:", "promisses:").replace("files: {read", "files: {reed").replace("count: 300", "x")
    Path(files[0]).write_text(text.replace("handler: app", "handlre: app"))
    shown = [line for line in run("lint", files[0]).stdout.splitlines() if ": error: " in line]
    for key, near in (("promisses", "promises"), ("reed", "read"), ("handlre", "handler")):
        assert [line for line in shown if f"'{key}' was unexpected" in line and line.endswith(f"did you mean {near}?")]
    assert len({line.split(": ")[0] for line in shown}) == 4  # and the missing promises, of the document as a whole
    with pytest.raises(ProfileError, match="did you mean promises"):
        document.read(files[0])


@pytest.mark.parametrize(
    "line",
    ["ignores: [{rule: address, because: no name}]", "on-anomaly: deny", "audit-until: '2030-01-31'",
     "listen: [{at: 'tcp://0.0.0.0:80', because: the platform asks}]"],
)  # fmt: skip
def test_training_replaces_nothing_that_a_person_wrote(files: tuple[str, str], line: str) -> None:
    """A profile with a person's lines is not trained anew over them without a word."""
    Path(files[0]).write_text(OLD.replace("syscalls:", f"{line}\nsyscalls:"))
    done = CliRunner().invoke(app, ("learn", "thumbnail", "--output", files[0], "--", "true"))
    assert "that would be lost" in str(done.exception)
