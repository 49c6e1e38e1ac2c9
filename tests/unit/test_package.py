"""Archives, repacking, manifests, bills of materials and snippets, without a platform."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import guests
import hcl2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from users_and_folders import HOME

from sandbox.cli import package as cli
from sandbox.errors import PackageInvalid, UsageError
from sandbox.kernel import tables
from sandbox.package import archive, contents, entry, runtime, snippet
from sandbox.package.bom import bom
from sandbox.package.contents import File
from sandbox.package.manifest import manifest
from sandbox.policy import build

NAMES = snippet.Names(
    name="resize", handler="app.handler", runtime="python3.13", arch="aarch64", layer="out/sandbox.zip",
    image="example.org/team/resize:1.2", command="/app/server",
)  # fmt: skip

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
    """Modes, symbolic links, empty folders and odd names survive reading and writing."""
    found = [
        File("-rf *", b"x", 0o4755), File("bin/tool", b"x", 0o755), File("empty", b"", 0o700, stat.S_IFDIR),
        File("latest", b"bin/tool", 0o777, stat.S_IFLNK), File("line\nfeed\"'$(id)", b"", 0), File("plain", b""),
        File("\u65e5 \u00fc", b"x" * 100_000, 0o600),
    ]  # fmt: skip
    path = tmp_path / "some.zip"
    path.write_bytes(archive.zipped(found))
    assert sorted(archive.unzipped(str(path)), key=lambda file: file.path) == found


@pytest.mark.skipif(not shutil.which("zip"), reason="zip (Info-ZIP) is not installed")
def test_a_zip_of_another_program(tmp_path: Path) -> None:
    """What Info-ZIP writes of a folder is read as it lies there: links, modes, folders, names."""
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "\u00fc b").write_text("x")
    (source / "tool").write_text("y")
    (source / "tool").chmod(0o755)
    (source / "link").symlink_to("tool")
    subprocess.run(["zip", "-qry", "../some.zip", "."], cwd=source, check=True)
    read = {
        file.path: (file.data, file.kind, file.mode & 0o111) for file in archive.unzipped(str(tmp_path / "some.zip"))
    }
    assert read == {
        "empty": (b"", stat.S_IFDIR, 0o111), "\u00fc b": (b"x", stat.S_IFREG, 0), "tool": (b"y", stat.S_IFREG, 0o111),
        "link": (b"tool", stat.S_IFLNK, 0o111),
    }  # fmt: skip


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    """A member that was made under Unix."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("../out", b"")], "leads out"),
        ([("/etc/passwd", b"")], "leads out"),
        ([("a/../../b", b"")], "leads out"),
        ([("..\\out", b"")], "leads out"),
        ([("twice", b"1"), ("twice", b"2")], "more than once"),
        ([("twice", b"1"), ("./twice", b"2")], "more than once"),
        ([("a//twice", b"1"), ("a/./twice", b"2")], "more than once"),
        ([(member("tree", stat.S_IFLNK | 0o777), b"/etc"), ("tree/passwd", b"")], "'tree/passwd' below 'tree'"),
        ([("tree/leaf", b""), ("tree", b"")], "'tree/leaf' below 'tree'"),
        ([(member("null", stat.S_IFCHR | 0o666), b"")], "neither a file nor a folder"),
        ([(member("pipe", stat.S_IFIFO | 0o666), b"")], "neither a file nor a folder"),
        ([(member("file/", stat.S_IFREG | 0o666), b"")], "neither a file nor a folder"),
        ([(member("folder", stat.S_IFDIR | 0o755), b"")], "neither a file nor a folder"),
    ],
)
def test_a_zip_that_cannot_be_trusted(
    tmp_path: Path, members: list[tuple[zipfile.ZipInfo | str, bytes]], what: str
) -> None:
    """Members that climb, are absolute, take another's place or are devices are refused by name."""
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


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    """Platforms would take its bytes as they are; we could not write them again."""
    path = Path(written(tmp_path / "latin.zip", ("na?me", b"x")))
    path.write_bytes(path.read_bytes().replace(b"na?me", b"na\xefme"))
    with pytest.raises(UsageError, match=r"not UTF-8: b'na\\xefme'"):
        archive.unzipped(str(path))


def test_a_size_that_is_not_true(tmp_path: Path) -> None:
    """A declared size beyond what a platform unpacks is refused, and no more than a small one is unpacked."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(64 << 20))
    data = path.read_bytes()
    for size, what in ((10, "CRC"), (1 << 31, "unpacks to more")):
        path.write_bytes(data.replace((64 << 20).to_bytes(4, "little"), size.to_bytes(4, "little")))
        tracemalloc.start()
        with pytest.raises(UsageError, match=what):
            archive.unzipped(str(path))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()


@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_a_damaged_zip(chance: random.Random, times: int) -> None:
    """Whatever bytes are changed, it is read or refused in words."""
    data = bytearray(archive.zipped([File("a", b"hello" * 50), File("b/c", b"a", 0o777, stat.S_IFLNK)]))
    for _ in range(times):
        data[chance.randrange(len(data))] = chance.randrange(256)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(UsageError):
            archive.unzipped(file.name)


@pytest.mark.parametrize("text", [b"", b"PK", b"no zip at all" * 100])
def test_no_zip(tmp_path: Path, text: bytes) -> None:
    """What is not a zip is refused as one."""
    path = tmp_path / "none.zip"
    path.write_bytes(text)
    with pytest.raises(UsageError, match="cannot be read as a zip"):
        archive.unzipped(str(path))


@given(trees)
def test_repacking_loses_nothing(tree: dict[str, tuple[bytes, int]]) -> None:
    """Every file of the function is in the new package, its bootstrap under another name, and ours beside them."""
    original = [File("bootstrap", b"#!/bin/sh\n", 0o755), *(file for file in files(tree) if file.path != "bootstrap")]
    found = contents.by_path(runtime.repacked(original, [File("policy/policy.bin", b"{}")], "some.zip"))
    assert runtime.compare(original, list(found.values()), "some.zip") == len(original)
    assert found["bootstrap"].data == entry.runtime(".sandbox", "bootstrap.handler")
    assert found[".sandbox/policy/policy.bin"].data == b"{}"
    assert len(found) == len(original) + 2


@pytest.mark.parametrize(
    ("names", "what"),
    [(["app.py"], "has no `bootstrap`"), (["bootstrap", "bootstrap.handler"], "already holds bootstrap.handler"),
     (["bootstrap", ".sandbox/bootstrap"], "already"), (["bootstrap", ".sandbox"], "already"),
     (["bootstrap", "bootstrap.handler/x"], "already")],
)  # fmt: skip
def test_what_is_not_repacked(names: list[str], what: str) -> None:
    """A package without a bootstrap, and one that was repacked, are refused."""
    with pytest.raises(UsageError, match=what):
        runtime.repacked([File(name, b"") for name in names], [], "some.zip")


def test_a_bootstrap_that_is_a_link() -> None:
    """As some languages' builds make it: the link moves and leads where it led; a folder of that name is refused."""
    original = [File("bootstrap", b"bin/server", 0o777, stat.S_IFLNK), File("bin/server", b"x", 0o755)]
    found = contents.by_path(runtime.repacked(original, [], "some.zip"))
    assert found["bootstrap.handler"] == File("bootstrap.handler", b"bin/server", 0o777, stat.S_IFLNK)
    with pytest.raises(UsageError, match="a folder as its `bootstrap`"):
        runtime.repacked([File("bootstrap", b"", 0o755, stat.S_IFDIR)], [], "some.zip")


@pytest.mark.parametrize(
    "other", [File("a", b"2"), File("a", b"1", 0o755), File("a", b"1", kind=stat.S_IFLNK), File("b", b"1")]
)
def test_a_lost_file_is_found(other: File) -> None:
    """The comparison after writing does compare bytes, modes and kinds."""
    with pytest.raises(UsageError, match="was lost or changed"):
        runtime.compare([File("a", b"1")], [other], "some.zip")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.REGTYPE])
def test_a_tar_that_we_did_not_write(tmp_path: Path, kind: bytes) -> None:
    """A link or a device after a file, or another file in its place, would be what an image has; it is refused."""
    path = tmp_path / "image.tar"
    path.write_bytes(archive.tarred([File("opt/sandbox/wrapper", b"x" * 3, 0o755)]))
    assert archive.untarred(str(path)) == [File("opt/sandbox/wrapper", b"x" * 3, 0o755)]
    with tarfile.open(path, "a") as out:
        other = tarfile.TarInfo("opt/sandbox/wrapper")
        other.type, other.linkname = kind, "/tmp/elsewhere"
        out.addfile(other)
    with pytest.raises(UsageError, match="twice, or as a link"):
        archive.untarred(str(path))


def test_the_guard_is_complete_and_no_more() -> None:
    """What bootstrap and supervisor import is in it; what only the workshop needs is not."""
    names = {file.path for file in contents.modules()}
    assert {"bootstrap", "sandbox/start/launch.py", "sandbox/supervise/supervisor.py"} <= names
    assert {"sandbox/learn/observe.py", f"sandbox/learn/data/{tables.machine()}.bpf"} <= names
    assert not [name for name in names if name.startswith(("sandbox/learn/gen", "sandbox/policy", "sandbox/cli"))]
    assert "sandbox/profile/schema.json" not in names


@pytest.mark.parametrize(
    "script", [entry.wrapper(), entry.wrapper(shared=True), entry.runtime(".sandbox", "bootstrap.handler")]
)
def test_the_scripts_are_sh(script: bytes) -> None:
    """A POSIX shell reads them, and they start no process before the exec."""
    done = subprocess.run(["/bin/sh", "-n"], input=script, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert script.count(b"$(") == 1  # `command -v`, a built-in, and only where nothing else is known


def test_a_bill_of_materials(policy: str) -> None:
    """It is CycloneDX that a validator takes, names every file with its digest, and is the same each time."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    guard = [File("bootstrap", b"x"), File("dnslib/dns.py", b"y")]
    found = bom("resize", guard)
    assert found == bom("resize", guard)
    components = {component["name"] for component in json.loads(found.data)["components"]}
    assert components == {"bootstrap", "dnslib/dns.py", "dnslib", "seccomp-bootstrap"}
    try:
        for document in (found, bom("resize", contents.guard({"policy": policy}, native=False).files)):
            assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.data.decode()) is None
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
    text = snippet.snippet(kind, NAMES)
    assert "$" not in text
    assert "/opt/sandbox/wrapper" in text


def test_snippets_are_what_their_own_parsers_read() -> None:
    """Terraform by an HCL parser, Serverless and Kubernetes by YAML, CDK's Python by Python."""
    terraform = hcl2.loads(snippet.snippet("terraform", NAMES))
    assert {kind.strip('"') for block in terraform["resource"] for kind in block} == {
        "aws_lambda_layer_version", "aws_lambda_function"
    }  # fmt: skip
    for kind in ("k8s", "knative", "kustomize"):
        found = yaml.safe_load(snippet.snippet(kind, NAMES))
        if kind == "kustomize":
            found = yaml.safe_load(found["patches"][0]["patch"])
        container = found["spec"]["template"]["spec"]["containers"][0]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["command"] == ["/opt/sandbox/wrapper"]
    text = snippet.snippet("serverless", NAMES).replace("!Ref ", "")
    assert yaml.safe_load(text)["functions"]["resize"]["handler"] == "app.handler"
    ast.parse(snippet.snippet("cdk-python", NAMES))


@pytest.mark.parametrize("kind", snippet.TEMPLATES)
def test_a_snippet_starts_with_an_audit_where_there_is_a_python(kind: str) -> None:
    """By default as one can start: Lambda's runtimes of other languages have no Python, and start enforcing."""
    audited, enforced = snippet.snippet(kind, NAMES), snippet.snippet(kind, NAMES, "enforce")
    assert ("SANDBOX_MODE" in audited, "promote" in audited) == (True, True)
    assert "SANDBOX_MODE" not in enforced
    assert [line for line in audited.splitlines() if line not in enforced.splitlines()] != []
    node = dataclasses.replace(NAMES, runtime="nodejs22.x")
    assert ("SANDBOX_MODE" in snippet.snippet(kind, node)) == (kind not in snippet.WRAPPED)
    if kind in snippet.WRAPPED:
        with pytest.raises(UsageError, match=r"nodejs22.x has no Python 3\.11"):
            snippet.snippet(kind, node, "audit")


@pytest.mark.parametrize("kind", snippet.TEMPLATES)
def test_a_snippet_for_a_shared_guard_names_the_policy(kind: str) -> None:
    """Whatever name a deployment gives the function, and whether it audits or enforces."""
    assert "SANDBOX_POLICY" not in snippet.snippet(kind, NAMES)
    for mode in ("audit", "enforce"):
        text = snippet.snippet(kind, dataclasses.replace(NAMES, shared=True), mode)
        assert text.count("/opt/sandbox/policy-resize") == 1
        if kind in ("k8s", "knative"):
            (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
            assert {"name": "SANDBOX_POLICY", "value": "/opt/sandbox/policy-resize"} in container["env"]


def test_the_sam_template_passes_cfn_lint(tmp_path: Path) -> None:
    """cfn-lint transforms and checks it without a finding, for both architectures."""
    for arch in tables.ARCHES:
        (tmp_path / f"{arch}.yaml").write_text(snippet.snippet("sam", dataclasses.replace(NAMES, arch=arch)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sandbox.zip").write_bytes(b"")
    lint = str(Path(sys.executable).with_name("cfn-lint"))
    done = subprocess.run(
        [lint, "--regions", "eu-west-1", "--", *(f"{arch}.yaml" for arch in tables.ARCHES)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def changed(key: str, value: str) -> snippet.Names:
    """NAMES with another value."""
    return snippet.Names(**{**vars(NAMES), key: value})


@pytest.mark.parametrize("key", ["name", "handler", "runtime", "code", "layer", "image", "container", "command"])
@pytest.mark.parametrize("value", ["", "a b", 'x"', "it's", "$(id)", "a\nb", "ü", "-x", "a#b", "{a}", "a\\b", "ü/../;"])
def test_values_stay_inside_their_quotes(key: str, value: str) -> None:
    """What would not fit a template is refused; a blank of a command is before an argument."""
    if (key, value) == ("command", "a b"):
        assert 'args: ["a", "b"]' in snippet.snippet("k8s", changed(key, value))
        assert '["python3", "-m", "a.b"]' in snippet.snippet("dockerfile", changed(key, "python3 -m a.b"))
        return
    with pytest.raises(UsageError, match="cannot hold"):
        snippet.snippet("sam", changed(key, value))


WORDS, NUMBERS = ("yes", "null", "on", "n", "a-b"), ("123", "0x1F", "1e3", "2020-01-01", "1_0", "A_b")
OF_LAMBDA = ("sam", "sam-fragment", "cdk", "cdk-python", "terraform")


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in snippet.NAMES for name in (WORDS + NUMBERS if kind in OF_LAMBDA else WORDS)],
)
def test_a_name_stays_a_name(kind: str, name: str) -> None:
    """What YAML would read as a truth value, a number or a date is still a name in every template."""
    text = snippet.snippet(kind, dataclasses.replace(NAMES, name=name))
    if kind == "cdk":
        assert f'functionName: "{name}",' in text
    elif kind == "cdk-python":
        assert name in [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    elif kind == "terraform":
        functions = [block for block in hcl2.loads(text)["resource"] if '"aws_lambda_function"' in block]
        assert functions[0]['"aws_lambda_function"']['"function"']["function_name"] == f'"{name}"'
    elif kind == "sam-fragment":
        assert f"{name}-sandbox" in leaves(yaml.safe_load(text.replace("!Ref ", "")))
    else:
        assert name in leaves(yaml.safe_load(text.replace("!Ref ", "")))


def leaves(tree: object) -> list[object]:
    """Keys and values of a document that are no lists and no mappings."""
    if isinstance(tree, dict):
        return [*tree, *(leaf for value in tree.values() for leaf in leaves(value))]
    return [leaf for value in tree for leaf in leaves(value)] if isinstance(tree, list) else [tree]


@pytest.mark.parametrize("name", ["a:", "a:b", "a.b", "@x", "x" * 65, *NUMBERS])
def test_a_name_that_a_platform_does_not_take(name: str) -> None:
    """Refused in words, by every platform that does not take it."""
    for kind in snippet.NAMES:
        if name not in NUMBERS or kind not in OF_LAMBDA:
            with pytest.raises(UsageError, match=f"is not a name for {kind}"):
                snippet.snippet(kind, dataclasses.replace(NAMES, name=name))


@pytest.mark.parametrize("kind", snippet.WRAPPED)
def test_no_wrapper_for_a_runtime_that_starts_none(kind: str) -> None:
    """provided.* ignores exec wrappers: a template with one would leave the function unprotected, and is refused."""
    with pytest.raises(UsageError, match="starts no exec wrapper"):
        snippet.snippet(kind, dataclasses.replace(NAMES, runtime="provided.al2023"))


def test_two_policies_of_one_function(tmp_path: Path, policy: str) -> None:
    """Which of them would count cannot be said."""
    with pytest.raises(UsageError, match="is a second policy of some"):
        cli.layer(str(tmp_path / "layer.zip"), [policy, policy], python=True)


def test_the_templates_are_in_the_package() -> None:
    """Every kind has its file."""
    assert all((HOME / "sandbox" / "package" / "snippets" / name).is_file() for name in snippet.TEMPLATES.values())


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiled bundle."""
    directory = tmp_path_factory.mktemp("policy")
    build.write(build.build(guests.profile(*guests.LOADING), tables.ARCHES), str(directory))
    return str(directory)


def test_a_package_has_the_same_bytes_on_another_machine(tmp_path: Path, policy: str) -> None:
    """In another checkout, time zone, locale, with other times of files, hashes and rights: bills of materials too."""
    packages = []
    for name, mask, variables in (
        ("a", 0o022, {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
        ("b c", 0o077, {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2", "SOURCE_DATE_EPOCH": "1"}),
    ):
        checkout, package = tmp_path / name, tmp_path / f"{name}.zip"
        for part in ("sandbox", "profiles"):
            shutil.copytree(HOME / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__", "built"))
        shutil.copy(HOME / "bootstrap", checkout)
        for path in checkout.rglob("*"):
            os.utime(path, (len(name), len(name)))
        subprocess.run(
            [sys.executable, "-P", "-m", "sandbox", "package", "layer", policy, "--output", package, "--no-launcher",
             "--compile-for", sys.executable],
            env={"PATH": os.defpath, "PYTHONPATH": str(checkout), **variables}, check=True, umask=mask,
            capture_output=True,
        )  # fmt: skip
        packages.append(package.read_bytes())
    assert packages[0] == packages[1]


def test_verify_reads_every_package(tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What `package` writes, `verify` finds whole, also where the function has a sandbox/ of its own."""
    original = written(tmp_path / "some.zip", (member("bootstrap"), b"x"), ("sandbox/manifest.json", b"theirs"))
    cli.layer(str(tmp_path / "layer.zip"), [policy], python=True)
    cli.image(str(tmp_path / "image.tar"), [policy], python=True)
    cli.runtime(policy, original, str(tmp_path / "guarded.zip"), python=True)
    for name in ("layer.zip", "image.tar", "guarded.zip"):
        cli.verify(str(tmp_path / name))
    assert capsys.readouterr().out.count("are what manifest.json lists") == 3


def test_verify_says_what_it_does_not_cover(tmp_path: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The function's own files are counted; a package without a signature, or a file with another mode, is refused."""
    original, package = written(tmp_path / "some.zip", (member("bootstrap"), b"x"), ("data", b"y")), tmp_path / "g.zip"
    cli.runtime(policy, original, str(package), python=True)
    cli.verify(str(package))
    assert "2 more are the function's own" in capsys.readouterr().out
    with pytest.raises(PackageInvalid, match="is not signed") as unsigned:
        cli.verify(str(package), key="/etc/hostname")
    assert unsigned.value.where.startswith(str(package))
    files = [
        dataclasses.replace(file, mode=0o644) if file.path == ".sandbox/bootstrap" else file
        for file in archive.unzipped(str(package))
    ]
    package.write_bytes(archive.zipped(files))
    with pytest.raises(PackageInvalid, match="does not have the mode 755"):
        cli.verify(str(package))


def test_the_functions_own_package_is_not_overwritten(tmp_path: Path, policy: str) -> None:
    """--output that names what is repacked is a mistake, and nothing is lost."""
    original = written(tmp_path / "some.zip", (member("bootstrap"), b"x"))
    before = Path(original).read_bytes()
    with pytest.raises(UsageError, match="is the function's own package"):
        cli.runtime(policy, original, original, python=True)
    assert Path(original).read_bytes() == before


@pytest.mark.parametrize(
    ("first", "name"),
    [(b"#!/usr/bin/env node", "bootstrap-handler"), (b"#!/bin/sh", "bootstrap.handler"),
     (b"\x7fELF node", "bootstrap.handler")],
)  # fmt: skip
def test_a_script_for_node_keeps_a_name_without_an_end(first: bytes, name: str) -> None:
    """Node loads no module whose name ends with what it does not know; everything else is bootstrap.handler."""
    original = [File("bootstrap", first + b"\n", 0o755)]
    files = contents.by_path(runtime.repacked(original, [], "some.zip"))
    assert files[name].data == original[0].data
    assert f"$here/{name}".encode() in files["bootstrap"].data
    assert runtime.compare(original, list(files.values()), "some.zip") == 1


@pytest.mark.parametrize(
    ("path", "made", "error", "what"),
    [
        ("bootstrap", File("bootstrap", b"x", 0o755), UsageError, "does not start the sandbox"),
        ("bootstrap", File("bootstrap", b"bootstrap.handler", 0o777, stat.S_IFLNK), UsageError, "does not start"),
        (".sandbox/start", None, UsageError, "does not start the sandbox"),
        (".sandbox/more", File(".sandbox/more", b"x"), PackageInvalid, "not in the manifest"),
        (".sandbox/policy/policy.bin", None, PackageInvalid, "cannot be read"),
        (".sandbox/bom.json", File(".sandbox/bom.json", b"/x", 0o777, stat.S_IFLNK), UsageError, "is not a file"),
        (".sandbox/manifest.json", None, UsageError, "does not hold a manifest.json"),
    ],
)
def test_verify_finds_what_was_changed(
    tmp_path: Path, policy: str, path: str, made: File | None, error: type[Exception], what: str
) -> None:
    """A repacked function whose start or guard somebody changed, removed or added to is refused."""
    original, package = written(tmp_path / "some.zip", (member("bootstrap"), b"x")), tmp_path / "guarded.zip"
    cli.runtime(policy, original, str(package), python=True)
    kept = [file for file in archive.unzipped(str(package)) if file.path != path]
    assert len(kept) < len(archive.unzipped(str(package))) or made
    package.write_bytes(archive.zipped([*kept, *([made] if made else [])]))
    with pytest.raises(error, match=what):
        cli.verify(str(package))
