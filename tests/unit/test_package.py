"""Archives, repacking, manifests, bills of materials and snippets, without a platform."""

from __future__ import annotations

import ast
import io
import json
import stat
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import hcl2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from users import HOME

from sandbox.errors import UsageError
from sandbox.package import archive, contents, entry, runtime, snippet
from sandbox.package.bom import bom
from sandbox.package.contents import File
from sandbox.package.manifest import manifest

NAMES = {
    "name": "resize", "handler": "app.handler", "runtime": "python3.13", "arch": "aarch64", "layer": "out/sandbox.zip",
    "image": "example.org/team/resize:1.2", "command": "/app/server",
}  # fmt: skip

parts = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,8}", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)
trees = st.dictionaries(paths, st.tuples(st.binary(max_size=50), st.sampled_from([0o644, 0o755, 0o600])), max_size=6)


def files(tree: dict[str, tuple[bytes, int]]) -> list[File]:
    """The files of a tree in which no file is a folder as well."""
    folders = {"/".join(path.split("/")[:depth]) for path in tree for depth in range(1, path.count("/") + 1)}
    return [File(path, data, mode) for path, (data, mode) in tree.items() if path not in folders]


def written(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> str:
    """A zip of these members."""
    with zipfile.ZipFile(path, "w") as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for member, data in members:
            out.writestr(member, data)
    return str(path)


@given(trees, st.randoms())
def test_archives_have_the_same_bytes_for_the_same_files(tree: dict[str, tuple[bytes, int]], chance: object) -> None:
    """In whatever order files come, zip and tar are the same, and every byte and mode can be read back."""
    found = files(tree)
    other = list(reversed(found))
    assert archive.zipped(found) == archive.zipped(other)
    assert archive.tarred(found) == archive.tarred(other)
    with zipfile.ZipFile(io.BytesIO(archive.zipped(found))) as back:
        assert {file.path: file.data for file in found} == {name: back.read(name) for name in back.namelist()}
        assert all(back.getinfo(file.path).external_attr >> 16 == stat.S_IFREG | file.mode for file in found)


def test_a_zip_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Modes and symbolic links survive reading and writing."""
    found = [File("bin/tool", b"x", 0o755), File("latest", b"bin/tool", 0o777, link=True), File("plain", b"")]
    path = tmp_path / "some.zip"
    path.write_bytes(archive.zipped(found))
    assert sorted(archive.unzipped(str(path)), key=lambda file: file.path) == found


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("../out", b"")], "leads out"),
        ([("/etc/passwd", b"")], "leads out"),
        ([("a/../../b", b"")], "leads out"),
        ([("..\\out", b"")], "leads out"),
        ([("twice", b"1"), ("twice", b"2")], "more than once"),
    ],
)
def test_a_zip_that_cannot_be_trusted(tmp_path: Path, members: list[tuple[str, bytes]], what: str) -> None:
    """Members that climb, are absolute or come twice are refused by name."""
    with pytest.raises(UsageError, match=what):
        archive.unzipped(written(tmp_path / "bad.zip", *members))


def test_an_encrypted_zip(tmp_path: Path) -> None:
    """An encrypted member is refused, whatever the archive's own password handling says."""
    path = Path(written(tmp_path / "secret.zip", ("bootstrap", b"x")))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="encrypted"):
        archive.unzipped(str(path))


@pytest.mark.parametrize("text", [b"", b"PK", b"no zip at all" * 100])
def test_no_zip(tmp_path: Path, text: bytes) -> None:
    """What is no zip is said to be none."""
    path = tmp_path / "none.zip"
    path.write_bytes(text)
    with pytest.raises(UsageError, match="no zip"):
        archive.unzipped(str(path))


@given(trees)
def test_repacking_loses_nothing(tree: dict[str, tuple[bytes, int]]) -> None:
    """Every file of the function is in the new package, its bootstrap under another name, and ours beside them."""
    original = [File("bootstrap", b"#!/bin/sh\n", 0o755), *(file for file in files(tree) if file.path != "bootstrap")]
    found = contents.by_path(runtime.repacked(original, [File("policy/policy.json", b"{}")], "some.zip"))
    assert runtime.compare(original, list(found.values()), "some.zip") == len(original)
    assert found["bootstrap"].data == entry.runtime(".sandbox", "bootstrap.handler")
    assert found[".sandbox/policy/policy.json"].data == b"{}"
    assert len(found) == len(original) + 2


@pytest.mark.parametrize(
    ("names", "what"),
    [(["app.py"], "has no `bootstrap`"), (["bootstrap", "bootstrap.handler"], "holds bootstrap.handler already"),
     (["bootstrap", ".sandbox/bootstrap"], "already")],
)  # fmt: skip
def test_what_is_not_repacked(names: list[str], what: str) -> None:
    """A package without a bootstrap, and one that was repacked, are refused."""
    with pytest.raises(UsageError, match=what):
        runtime.repacked([File(name, b"") for name in names], [], "some.zip")


def test_a_lost_file_is_found() -> None:
    """The comparison after writing does compare."""
    with pytest.raises(UsageError, match="did not survive"):
        runtime.compare([File("a", b"1")], [File("a", b"2")], "some.zip")


def test_the_guard_is_complete_and_no_more() -> None:
    """What bootstrap and supervisor import is in it; what only the workshop needs is not."""
    names = {file.path for file in contents.modules()}
    assert {"bootstrap", "sandbox/enforce/launch.py", "sandbox/supervise/supervisor.py"} <= names
    assert not [name for name in names if name.startswith(("sandbox/learn", "sandbox/policy", "sandbox/cli"))]
    assert "sandbox/profile/schema.json" not in names


@pytest.mark.parametrize("script", [entry.wrapper(), entry.runtime(".sandbox", "bootstrap.handler")])
def test_the_scripts_are_sh(script: bytes) -> None:
    """A POSIX shell reads them, and they start no process before the exec."""
    done = subprocess.run(["/bin/sh", "-n"], input=script, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert script.count(b"$(") == 1  # `command -v`, a built-in, and only where nothing else is known


def test_a_bill_of_materials() -> None:
    """It is CycloneDX that a validator takes, names every file with its digest, and is the same each time."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    guard = [File("bootstrap", b"x"), File("dnslib/dns.py", b"y")]
    found = bom("resize", guard)
    assert found == bom("resize", guard)
    components = {component["name"] for component in json.loads(found.data)["components"]}
    assert components == {"bootstrap", "dnslib/dns.py", "dnslib", "seccomp-bootstrap"}
    try:
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(found.data.decode()) is None
    except ImportError:
        pytest.skip("the validator's own libraries are not installed")


def test_a_manifest_lists_every_file() -> None:
    """Path, digest and mode of each, in one order."""
    listed = json.loads(manifest("resize", [File("b", b"2"), File("a", b"1", 0o755)]).data)
    assert list(listed["files"]) == ["a", "b"]
    assert listed["files"]["a"]["mode"] == "755"


@pytest.mark.parametrize("kind", snippet.TEMPLATES)
def test_a_snippet_has_the_names_and_no_hole(kind: str) -> None:
    """Everything is filled in."""
    text = snippet.snippet(kind, **NAMES)
    assert "$" not in text
    assert "/opt/sandbox/wrapper" in text


def test_snippets_are_what_their_own_parsers_read(tmp_path: Path) -> None:
    """Terraform by an HCL parser, Serverless and Kubernetes by YAML, CDK by Python."""
    terraform = hcl2.loads(snippet.snippet("terraform", **NAMES))
    assert {kind.strip('"') for block in terraform["resource"] for kind in block} == {
        "aws_lambda_layer_version", "aws_lambda_function"
    }  # fmt: skip
    for kind in ("k8s", "knative"):
        found = yaml.safe_load(snippet.snippet(kind, **NAMES))
        container = found["spec"]["template"]["spec"]["containers"][0]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["command"] == ["/opt/sandbox/wrapper"]
    text = snippet.snippet("serverless", **NAMES).replace("!Ref ", "")
    assert yaml.safe_load(text)["functions"]["resize"]["handler"] == "app.handler"
    ast.parse(snippet.snippet("cdk", **NAMES))


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_sam_template_passes_cfn_lint(tmp_path: Path, arch: str) -> None:
    """cfn-lint transforms and checks it without a finding."""
    template = tmp_path / "template.yaml"
    template.write_text(snippet.snippet("sam", **{**NAMES, "arch": arch}))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sandbox.zip").write_bytes(b"")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), "--regions", "eu-west-1", "--", str(template)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("value", ["", "a b", 'x"', "$(id)", "a\nb", "ü/../;"])
def test_names_stay_inside_their_quotes(value: str) -> None:
    """What would not fit a template is refused."""
    with pytest.raises(UsageError, match="cannot hold"):
        snippet.snippet("sam", **{**NAMES, "name": value})


def test_the_templates_are_in_the_package() -> None:
    """Every kind has its file."""
    assert all((HOME / "sandbox" / "package" / "snippets" / name).is_file() for name in snippet.TEMPLATES.values())
