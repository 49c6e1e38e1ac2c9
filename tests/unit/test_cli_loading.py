"""The table of commands: each loads what it needs and no more, and an argument that names a profile has one meaning."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import forked

import sandbox
from sandbox import bundle
from sandbox.cli import loading, sources, table
from sandbox.errors import ExtraMissing, ProfileError

HEAVY = ("typer", "rich", "yaml", "jsonschema", "h11", "prctl", "cyclonedx", "cryptography", "pyseccomp")
"""What takes long to load, by its first name."""
LOADED = {
    ("--version",): set[str](),
    ("-h",): {"typer"},
    ("profile", "-h"): {"typer"},
    ("profile", "show", "hello"): {"typer", "yaml", "jsonschema"},
    ("profile", "diff", "hello", "hello"): {"typer", "yaml", "jsonschema"},
    ("events", "/dev/null"): {"typer"},
    ("package", "snippet", "sam", "hello"): {"typer", "yaml", "jsonschema"},
}
"""What each of these command lines may load."""
SCRIPT = f"""
import sys
from sandbox.cli import main
before = set(sys.modules)
try:
    main()
finally:
    import json
    loaded = {{name.partition(".")[0] for name in set(sys.modules)}} & set({HEAVY!r})
    print(json.dumps(sorted(loaded)), file=sys.stderr)
"""


@pytest.mark.parametrize("words", LOADED, ids=" ".join)
def test_a_command_loads_what_it_needs(words: tuple[str, ...]) -> None:
    """Which of the libraries that take long each command loads; how long that takes is for tools/bench."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stderr.splitlines()[-1])) == LOADED[words]


def test_every_line_of_the_table_is_a_command() -> None:
    """Each command loads, and says of itself what it does; each group has commands."""
    for name, command in loading.commands():
        assert command.help, name
        example = shlex.split(loading.example_of(command))
        assert f"sandbox {name}" in " ".join(example), f"the help page of `{name}` shows no example"
        known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
        ours = example[: example.index("--")] if "--" in example else example
        assert {word for word in ours if word.startswith("-") and len(word) > 1} <= known, name
    assert {name.rpartition(" ")[0] for name in table.COMMANDS} == {"", *table.GROUPS}


def test_a_profile_may_be_named_in_each_of_its_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, a path without its suffix, a name below profiles, a bundle's folder; anything else is an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "bundle").mkdir()
    for path in ("profiles/hello.yaml", "other.yaml", "bundle/profile.yaml"):
        (tmp_path / path).write_text("schema: 2\n")
    assert sources.profile_of("hello") == "profiles/hello.yaml"
    assert sources.profile_of("profiles/hello") == "profiles/hello.yaml"
    assert sources.profile_of("profiles/hello.yaml") == "profiles/hello.yaml"
    assert sources.profile_of("other") == "other.yaml"
    assert sources.profile_of("bundle") == "bundle/profile.yaml"
    (tmp_path / "hello").mkdir()  # the function's code beside its profile
    assert sources.policy_of("hello") == sources.profile_of("hello") == "profiles/hello.yaml"
    with pytest.raises(ProfileError, match=r"did you mean profiles/hello.yaml\?"):
        sources.profile_of("helo")
    with pytest.raises(ProfileError, match="is a folder, and not a bundle"):
        sources.profile_of(".")
    (tmp_path / "bundle" / bundle.FILE).write_bytes(b"")
    assert sources.policy_of("bundle") == "bundle"
    (tmp_path / "bundle" / "profile.yaml").unlink()
    with pytest.raises(ProfileError, match=r"is a bundle without its profile.yaml"):
        sources.profile_of("bundle")


def test_only_what_starts_functions_needs_a_compiler(tmp_path: Path) -> None:
    """Without python-prctl the review of profiles works; training names the library, its extra and what builds it."""
    profiles = Path(sandbox.__file__).parent.parent / "profiles"
    hello, wordcount = str(profiles / "hello.yaml"), str(profiles / "wordcount.yaml")
    review = (
        ("show", hello), ("diff", hello, wordcount), ("lint", hello), ("export", hello), ("bom", hello),
        ("merge", hello, "--output", "merged.yaml"),
    )  # fmt: skip

    def without() -> None:
        sys.modules["prctl"] = None  # type: ignore[assignment]  # as an import that failed

    for words in review:
        ended = forked("profile", *words, cwd=tmp_path, before=without)
        assert ended.code == (words[0] == "diff"), (words, ended)
    assert (tmp_path / "merged.yaml").exists()
    for words in (("learn", "some", "--", "/bin/true"), ("probe", hello)):
        ended = forked(*words, cwd=tmp_path, before=without)
        assert (ended.code, ended.stdout) == (ExtraMissing.exit_code, "")
        assert "python-prctl" in ended.stderr
        assert "pip install 'seccomp-bootstrap[learn]'" in ended.stderr
        assert "libcap-dev" in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"merged.yaml", "profile.schema.json"}


def test_shells_complete_commands_options_and_profiles(tmp_path: Path) -> None:
    """What bash asks for each word; zsh and fish get a script, and the same answers in their own form."""
    (tmp_path / "profiles").mkdir()
    for name in ("hello", "help", "other"):
        (tmp_path / "profiles" / f"{name}.yaml").write_text("")
    answers = {
        "sandbox comp": ["compile", "completion"], "sandbox profile sh": ["show"],
        "sandbox profile show hel": ["hello", "help"],
        "sandbox compile hello --ar": ["--arch"], "sandbox package snippet terr": ["terraform"],
        "sandbox profile show ./hel": [],
    }  # fmt: skip
    bash = subprocess.run(
        ["bash", "-c", COMPLETED, "-", *answers], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )  # fmt: skip
    assert [line.split() for line in bash.stdout.splitlines()] == list(answers.values()), bash.stderr
    for shell, words in (("zsh", "compdef _sandbox_completion sandbox"), ("fish", "complete --command sandbox")):
        script = forked("completion", shell, cwd=tmp_path)
        assert words in script.stdout
        assert f"_SANDBOX_COMPLETE=complete_{shell}" in script.stdout


COMPLETED = """
eval "$(sandbox completion bash)"
function=$(complete -p sandbox | sed 's/.*-F \\([^ ]*\\).*/\\1/')
for line; do
    read -ra COMP_WORDS <<<"$line"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    $function sandbox
    echo "${COMPREPLY[*]}"
done
"""


def test_a_snippet_takes_name_and_handler_from_the_profile(tmp_path: Path) -> None:
    """By its name or its path, and what is given by hand goes first; any other name is taken as it is."""
    (tmp_path / "profiles").mkdir()
    text = "schema: 2\nfunction: {name: hello, handler: web.serve}\npromises: []\nsyscalls: {}\n"
    (tmp_path / "profiles" / "hello.yaml").write_text(text)
    for words, handler in (
        (("hello",), "web.serve"), (("profiles/hello.yaml",), "web.serve"), (("other",), "app.handler"),
        (("hello", "--handler", "a.b"), "a.b"),
    ):  # fmt: skip
        ended = forked("package", "snippet", "sam", *words, "--arch", "arm64", cwd=tmp_path)
        assert f'Handler: "{handler}"' in ended.stdout, ended.stderr
        assert f'FunctionName: "{"other" if words == ("other",) else "hello"}"' in ended.stdout
        assert 'Architectures: ["arm64"]' in ended.stdout


ELSEWHERE = """
import os, shutil, signal, socket, subprocess, sys, tempfile, typer, importlib.metadata
for name in ("fcntl", "grp", "prctl", "pwd", "resource", "syslog", "termios"):
    sys.modules[name] = None
for name in ("fchmod", "fork", "geteuid", "getuid", "memfd_create", "sched_getaffinity", "uname", "O_PATH"):
    delattr(os, name)
for name in ("SIGCHLD", "SIGHUP", "SIGKILL", "pthread_sigmask", "sigwaitinfo"):
    delattr(signal, name)
del socket.AF_UNIX, socket.AF_NETLINK
from sandbox.cli import main
sys.platform = "win32"
main()
"""
"""Python as it is where there is no Linux, once what it imports itself is there."""


def test_profiles_are_reviewed_without_linux(tmp_path: Path) -> None:
    """What Linux alone has is missing: profiles are shown, compared and checked; what needs it says that."""
    profiles = Path(sandbox.__file__).parent.parent / "profiles"
    hello = str(profiles / "hello.yaml")
    for words, code, said in (
        (("profile", "show", hello), 0, "promise stdio"), (("profile", "lint", hello), 0, "info"),
        (("profile", "diff", hello, str(profiles / "wordcount.yaml")), 1, "thread"), (("-h",), 0, "Commands:"),
        (("events", "/dev/null"), 0, ""), (("doctor",), 70, "sandbox doctor: needs Linux"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
        assert done.returncode == code, (words, done.stderr)
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
