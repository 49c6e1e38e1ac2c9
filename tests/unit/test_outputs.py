"""Every JSON output has a schema in the repository, its writer keeps to it, and docs/automation.md lists it."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
from output_schemas import HOME, OF_COMMANDS, SCHEMAS, check, validator
from typer.testing import CliRunner

from sandbox.alerts import metrics
from sandbox.ci import comparison
from sandbox.cli import loading
from sandbox.learn import records
from sandbox.package.contents import File
from sandbox.package.manifest import manifest
from sandbox.violations import reader
from sandbox.violations.record import Violation

ROOT = HOME.parent
OBSERVED: tuple[records.Record, ...] = (
    records.Start(), records.Again(records.Start()), records.NewItem(1, "init", "openat", "read"),
    records.Span("invocation", {1: 2}, "r", left={"threads": 1}), records.Span("init", {}), records.SoFar({1: 1}),
    records.Part({1: 1}), records.NewFact(1, records.FileAccess("/etc/hosts", "read")),
    records.NewFact(2, records.Connect("192.0.2.7:443")), records.NewFact(3, records.Listen("tcp://127.0.0.1:1")),
    records.NewFact(4, records.Program("/bin/sh", real="/bin/dash")), records.NewFact(5, records.Receive("recvmsg")),
    records.NewFact(6, records.MadeBy(1, True, ("requests",))), records.NewFact(7, records.Loaded("a", "1", "loaded")),
    records.Full(1), records.DeniedCall("ptrace"), records.Failure("r", ("read",)), records.End(0, ()),
    records.Label("r", "a.json"),
)  # fmt: skip
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


def test_every_schema_is_one() -> None:
    """Each is valid JSON Schema and says what it describes and who writes that."""
    for path in SCHEMAS:
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["title"], path
        assert schema["$comment"], path


def test_every_command_with_json_has_a_schema() -> None:
    """Each command that takes --json is named by the schema that the tests hold it to."""
    options = {name: {text for param in command.params for text in param.opts} for name, command in loading.commands()}
    assert {name for name, texts in options.items() if "--json" in texts} == set(OF_COMMANDS)
    for name, schemas in OF_COMMANDS.items():
        for one in schemas:
            schema = validator(one).schema
            assert isinstance(schema, dict)
            assert f"sandbox {name} --json" in schema["$comment"], one


def test_commands_keep_to_their_schemas(tmp_path: Path) -> None:
    """What show, diff, lint and events write of all committed profiles, and of a log, fits."""
    call = {
        "args": ["6"],
        "target": "192.0.2.7:443",
        "allow": "",
        "pid": 1,
        "tid": 1,
        "comm": "python3",
        "request": None,
    }
    told = {"function": "hello", "phase": "run", "syscall": "connect", "arg_class": "", **call}
    fields = Violation(verdict="denied", errno="EPERM", reason="not listed", **told).fields()
    log = tmp_path / "log"
    line = {"event": "violation", "time": 1.0, "seq": 1, "supervisor": "0123abcd", **fields}
    log.write_text(json.dumps(line) + "\n")
    key = tmp_path / "key"
    key.write_text("secret")
    broken = tmp_path / "broken.yaml"
    broken.write_text("schema: 2\nfunction: 7\n")
    commands: list[tuple[str, ...]] = [("profile", "show", "--json", str(path)) for path in PROFILES]
    commands += [("profile", "diff", "--json", str(old), str(new)) for old, new in pairwise(PROFILES)]
    commands += [("profile", "lint", "--json", *map(str, PROFILES)), ("profile", "lint", "--json", str(broken))]
    commands += [("events", str(log), "--json"), ("events", str(log), "--json", "--summary")]
    commands += [("events", str(log), "--json", "--verify", "--key-file", str(key))]
    commands += [("explain", "openat", "create", "--json", "--profile", str(PROFILES[0]))]
    for command in commands:
        done = CliRunner().invoke(loading.app, command)
        assert done.stdout, command
        check(command, done.stdout)


def test_files_keep_to_their_schemas(tmp_path: Path) -> None:
    """So do a package's manifest, the comparison of a change, status lines, observations, and the metrics of a log."""
    for one in OBSERVED:
        validator("learn/observations").validate(json.loads(records.encode(one, "01234567", 1.0)))
    written = json.loads(manifest("hello", [File("bootstrap", b"", 0o755)]).data)
    validator("package/manifest").validate(written)
    (path,) = (path for path in PROFILES if path.stem == "hello")
    comparison.write(list(comparison.with_commit([str(path)], "")), str(tmp_path))
    validator("ci/comparison").validate(json.loads((tmp_path / comparison.RESULT).read_text()))
    status = {"event": "sandbox", "mode": "off", "enforced": [], "degraded": ["everything: SANDBOX_MODE=off"]}
    validator("start/status").validate(status)
    for document in metrics.documents(reader.lines(io.BytesIO(json.dumps(status).encode() + b"\n"), starts=True)):
        validator("alerts/metrics").validate(document)


@pytest.mark.parametrize("more", [{"unknown": 1}, {"status": "perhaps"}])
def test_a_schema_says_no(more: dict[str, object]) -> None:
    """What a command does not write is refused."""
    result = {
        "index": 0, "event": "a", "status": "ok", "result": "1", "error_type": "", "error_message": "", "duration": 0.1,
    }  # fmt: skip
    validator("cli/invoke").validate(result)
    with pytest.raises(jsonschema.ValidationError):
        validator("cli/invoke").validate({**result, **more})
