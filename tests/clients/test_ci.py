"""The GitHub Action, the GitLab job and the hooks: by their schemas, step by step as a runner does, by pre-commit."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

import sandbox
from sandbox.ci.github_api import MARK

ROOT = Path(sandbox.__file__).parent.parent
VENV = Path(sys.executable).parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
WIDER = "network: ['db.internal:5432']\n"


class Answering(http.server.BaseHTTPRequestHandler):
    """GitHub's answers to the questions of the action; the token says what may be written, as there."""

    labels: ClassVar[list[str]] = []
    comments: ClassVar[list[dict[str, Any]]] = []
    analyses: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Labels, and comments in pages of 100."""
        path, _, query = self.path.partition("?")
        page = int(re.findall(r"page=(\d+)$", query)[0])
        if path == "/repos/o/r/issues/7/labels":
            self._answer(200, [{"name": name} for name in self.labels])
        elif path == "/repos/o/r/issues/7/comments":
            self._answer(200, self.comments[(page - 1) * 100 : page * 100])
        else:
            self._answer(404, {"message": "Not Found"})

    def do_POST(self) -> None:
        """A comment or an analysis."""
        self._write()

    do_PATCH = do_POST

    def _write(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(f"{self.command} {self.path}")
        if self.headers["Authorization"] != "Bearer writes":
            self._answer(403, {"message": "Resource not accessible by integration"})
        elif self.path == "/repos/o/r/issues/7/comments":
            self.comments.append({"id": len(self.comments) + 1, **body})
            self._answer(201, self.comments[-1])
        elif found := re.fullmatch(r"/repos/o/r/issues/comments/(\d+)", self.path):
            self.comments[int(found[1]) - 1].update(body)
            self._answer(200, self.comments[int(found[1]) - 1])
        elif self.path == "/repos/o/r/code-scanning/sarifs":
            assert body["ref"] == "refs/pull/7/merge"
            assert body["commit_sha"] == "1" * 40
            self.analyses.append(json.loads(gzip.decompress(base64.b64decode(body["sarif"]))))
            self._answer(202, {"id": "1"})
        else:
            self._answer(404, {"message": "Not Found"})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    """Its address."""
    for kept in (Answering.labels, Answering.comments, Answering.analyses, Answering.asked):
        kept.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose second commit widens a profile."""
    folder = tmp_path / "checkout"
    (folder / "profiles").mkdir(parents=True)
    profile = folder / "profiles" / "hello.yaml"
    shutil.copy(ROOT / "profiles" / "hello.yaml", profile)
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "base")
    profile.write_text(re.sub(r"^network: .*\n", WIDER, profile.read_text(), flags=re.MULTILINE))
    assert WIDER in profile.read_text()
    _git(folder, "commit", "-qam", "widen")
    return folder


def _git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    command = ["git", "-c", "safe.directory=*", *words]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **who}, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runner's temporary folder after the step that installs; the libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("runner")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    done = _step("Install", folder, ROOT, {"package": str(wheel)}, {"PIP_NO_DEPS": "1"})
    assert done.returncode == 0, done.stdout
    (libraries,) = (folder / "sandbox").glob("lib/python*/site-packages")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (libraries / "tested.pth").write_text(f"{here}\n")
    return folder


def _step(
    name: str, runner: Path, cwd: Path, inputs: Mapping[str, str], more: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """One step of action.yml as a runner starts it, with its expressions filled in."""
    (step,) = (one for one in ACTION["runs"]["steps"] if one["name"] == name)
    given = {key: one.get("default", "") for key, one in ACTION["inputs"].items()} | dict(inputs)

    def filled(text: str) -> str:
        def value(found: re.Match[str]) -> str:
            words = [word.strip() for word in found[1].split("||")]
            known = {"runner.temp": str(runner), "github.action_path": str(ROOT)}
            return next(
                filter(None, (known.get(word) or given.get(word.removeprefix("inputs.")) for word in words)), ""
            )

        return re.sub(r"\$\{\{(.*?)\}\}", value, text)

    environment = {
        "PATH": os.defpath, "HOME": str(runner), "RUNNER_TEMP": str(runner), "GITHUB_PATH": str(runner / "path"),
        **{key: filled(text) for key, text in step["env"].items()}, **more,
    }  # fmt: skip
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        script, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120
    )


class Run:
    """One run of the action for a pull request."""

    def __init__(self, runner: Path, checkout: Path, api: str, **inputs: str) -> None:
        files = {name: runner / name for name in ("event", "summary", "output")}
        for path in files.values():
            path.unlink(missing_ok=True)
        shutil.rmtree(runner / "sandbox-report", ignore_errors=True)
        base = _git(checkout, "rev-parse", "main~1")
        request = {"number": 7, "base": {"sha": base}, "labels": [{"name": "of-the-event"}]}
        files["event"].write_text(json.dumps({"pull_request": request}))
        more = {
            "GITHUB_EVENT_PATH": str(files["event"]), "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "GITHUB_OUTPUT": str(files["output"]), "GITHUB_API_URL": api, "GITHUB_REPOSITORY": "o/r",
            "GITHUB_SHA": "1" * 40, "GITHUB_REF": "refs/pull/7/merge",
        }  # fmt: skip
        self.compared = _step("Compare", runner, checkout, inputs, more)
        assert self.compared.returncode == 0, self.compared.stdout
        self.told = _step("Tell GitHub", runner, checkout, inputs, more)
        self.summary = files["summary"].read_text()
        self.outputs = files["output"].read_text()
        self.report = runner / "sandbox-report"


def test_a_pull_request_hears_what_widens(runner: Path, checkout: Path, api: str) -> None:
    """Summary, outputs, the one comment and the analysis say what widened; the run fails unless a label accepts that.

    A token that only reads has summary and report as well, and fails for the widening alone.
    """
    Answering.comments.extend({"id": number, "body": "somebody's"} for number in range(1, 101))
    first = Run(runner, checkout, api, token="writes")
    assert first.told.returncode == 1, first.told.stdout
    assert "::error title=sandbox profile::" in first.told.stdout
    assert "db.internal" in first.summary
    assert re.fullmatch(r"widened=true\nrisk=(low|medium|high)\n", first.outputs)
    assert Answering.comments[100]["body"].startswith(f"{MARK}\n")
    assert "db.internal" in Answering.comments[100]["body"]
    (analysis,) = Answering.analyses
    (result,) = analysis["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "profiles/hello.yaml"

    Answering.labels.append("sandbox-widening")
    again = Run(runner, checkout, api, token="writes")
    assert again.told.returncode == 0, again.told.stdout
    assert len(Answering.comments) == 101

    Answering.asked.clear()
    fork = Run(runner, checkout, api, token="reads")
    assert fork.told.returncode == 0, fork.told.stdout
    assert fork.told.stdout.count("403 Resource not accessible by integration") >= 2
    assert len(Answering.asked) >= 2
    assert "db.internal" in fork.summary
    assert {path.name for path in fork.report.iterdir()} == {"report.md", "comparison.json", "hello.sarif"}
    Answering.labels.clear()
    assert Run(runner, checkout, api, token="reads").told.returncode == 1
    assert Run(runner, checkout, "http://127.0.0.1:1", token="reads", label="of-the-event").told.returncode == 0


def test_what_does_not_widen_is_quiet(runner: Path, checkout: Path, api: str) -> None:
    """Nothing to say makes no comment; a training that needs more than the profile has fails; errors say what to do."""
    same = _git(checkout, "rev-parse", "main")
    quiet = Run(runner, checkout, api, token="writes", base=same)
    assert quiet.told.returncode == 0, quiet.told.stdout
    assert Answering.asked == ["POST /repos/o/r/code-scanning/sarifs"]
    assert quiet.outputs == "widened=false\nrisk=\n"
    train = 'sed "s/^network: .*/network: [\'new.internal:1\']/" profiles/hello.yaml >"$NEW_PROFILE"'
    trained = Run(runner, checkout, api, token="writes", train=train)
    assert trained.told.returncode == 1
    assert "new.internal" in trained.summary
    for inputs, said in (({"profiles": "no/*.yaml"}, "names no file"), ({"base": "f" * 40}, "cannot be fetched")):
        done = _step("Compare", runner, checkout, inputs, {"GITHUB_OUTPUT": "/dev/null"})
        assert done.returncode == 64
        assert done.stdout.startswith("::error ")
        assert said in done.stdout


def test_gitlab(runner: Path, checkout: Path) -> None:
    """The job's own script writes the reports that it names, and fails unless the merge request has the label."""
    (job,) = yaml.safe_load((ROOT / "examples/ci/gitlab.yml").read_text()).values()
    base = _git(checkout, "rev-parse", "main~1")
    path = f"{runner}/sandbox/bin:{os.defpath}"
    environment = {"PATH": path, **job["variables"], "CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
    script = ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])]
    for labels, status in (("other", 1), ("other,sandbox-widening", 0)):
        more = {"CI_MERGE_REQUEST_LABELS": labels}
        done = subprocess.run(
            script, cwd=checkout, env={**environment, **more}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stdout + done.stderr
    (finding,) = json.loads((checkout / job["artifacts"]["reports"]["codequality"]).read_text())
    assert finding["location"]["path"] == "profiles/hello.yaml"
    assert finding["location"]["lines"]["begin"] > 1


def test_pre_commit_runs_the_hooks(clients: Path, checkout: Path, tmp_path: Path) -> None:
    """pre-commit takes the manifest, lints what is staged, and stops a commit that widens unless it is told to skip."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", hooks)
    _git(hooks, "init", "-q")
    _git(hooks, "add", ".")
    _git(hooks, "commit", "-qm", "hooks")
    # The hooks run from this environment: what pre-commit would install is the package that is tested here.
    used = [{"id": name, "language": "system"} for name in ("sandbox-lint", "sandbox-diff")]
    config = {"repos": [{"repo": str(hooks), "rev": _git(hooks, "rev-parse", "HEAD"), "hooks": used}]}
    (checkout / ".pre-commit-config.yaml").write_text(json.dumps(config))
    _git(checkout, "reset", "-q", "--soft", "main~1")
    environment = {
        "PATH": f"{VENV}:{os.environ['PATH']}", "HOME": str(tmp_path), "PRE_COMMIT_HOME": str(tmp_path / "home"),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
    }  # fmt: skip

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(clients / "bin" / "pre-commit"), *words]
        return subprocess.run(
            command, cwd=checkout, env={**environment, **more}, text=True, capture_output=True, timeout=120
        )

    _git(checkout, "add", ".pre-commit-config.yaml")
    for words in (
        ("validate-manifest", str(ROOT / ".pre-commit-hooks.yaml")),
        ("validate-config", str(ROOT / "examples/ci/pre-commit-config.yaml")),
    ):
        assert run(*words).returncode == 0
    done = run("run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"check sandbox profiles\.+Passed", done.stdout), done.stdout
    assert re.search(r"last commit\.+Failed", done.stdout), done.stdout
    assert "profiles/hello.yaml:" in done.stdout
    assert "SKIP=sandbox-diff" in done.stdout
    assert run("run", SKIP="sandbox-diff").returncode == 0


def test_the_files_fit_their_schemas(clients: Path) -> None:
    """The schemas that others publish take the action, the workflow and the job."""
    checks = (
        ("vendor.github-actions", "action.yml"), ("vendor.github-workflows", "examples/ci/github.yml"),
        ("vendor.gitlab-ci", "--data-transform", "gitlab-ci", "examples/ci/gitlab.yml"),
    )  # fmt: skip
    for schema, *words in checks:
        command = [str(clients / "bin" / "check-jsonschema"), "--builtin-schema", schema, *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
