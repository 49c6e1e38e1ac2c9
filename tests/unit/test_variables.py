"""The variables that a function is given: by option, from a file, and as the caller's credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from sandbox.errors import UsageError, trace
from sandbox.runtime_api.variables import masked, variables

NOTHING: Mapping[str, str] = MappingProxyType({})
SECRET = "hunter2-and-more"


def of_options(*options: str, here: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """What --env gives."""
    return variables("f", options, (), credentials=False, here=here)


def of_file(folder: Path, text: str, here: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """What --env-file gives."""
    path = folder / "vars"
    path.write_text(text)
    return variables("f", (), (str(path),), credentials=False, here=here)


def of_credentials(here: Mapping[str, str]) -> dict[str, str]:
    """What --aws-credentials gives."""
    return variables("f", (), (), credentials=True, here=here)


def test_options_give_values_of_their_own_or_the_callers() -> None:
    """NAME=VALUE is taken as it stands, NAME has the caller's value, and the last one counts."""
    given = of_options("A=1=2", "B=", "C", "A=3", here={"C": "theirs", "D": "not asked for"})
    assert given == {"A": "3", "B": "", "C": "theirs"}


DOTENV = """
# the table
TABLE=orders
export REGION = 'eu west' # why
GREETING="two\\nlines"
EMPTY=
PASSWORD='pa${HOME}ss#x'
HANDED_ON
"""


def test_dotenv_files(tmp_path: Path) -> None:
    """Comments, quotes, escapes and `export` as dotenv has them; nothing is expanded; a name alone is the caller's."""
    assert of_file(tmp_path, DOTENV, {"HANDED_ON": "theirs", "HOME": "/root"}) == {
        "TABLE": "orders", "REGION": "eu west", "GREETING": "two\nlines", "EMPTY": "", "PASSWORD": "pa${HOME}ss#x",
        "HANDED_ON": "theirs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"TABLE": "orders", "N": 3, "F": 1.5, "ON": True}, {"TABLE": "orders", "N": "3", "F": "1.5", "ON": "true"}),
        ({"Parameters": {"A": "all", "B": "all"}, "f": {"B": "own"}, "g": {"A": "g"}}, {"A": "all", "B": "own"}),
        ({"f": {"A": "1"}}, {"A": "1"}),
        ({}, {}),
    ],
    ids=["the variables alone", "of all and of the function", "of the function", "none"],
)
def test_json_files(tmp_path: Path, document: object, expected: Mapping[str, str]) -> None:
    """What `sam local --env-vars` takes: the function's own variables win over everyone's."""
    assert of_file(tmp_path, json.dumps(document, indent=1)) == expected


def test_the_later_source_wins(tmp_path: Path) -> None:
    """Files in their order, then credentials, then options."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("A=1\nB=1\nAWS_REGION=file\nC=1")
    two.write_text('{"B": "2"}')
    here = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}
    given = variables("f", ("C=3",), (str(one), str(two)), credentials=True, here=here)
    assert given == {"A": "1", "B": "2", "C": "3", "AWS_DEFAULT_REGION": "eu-west-1", **here}


def test_credentials_of_the_environment() -> None:
    """Keys, session token and region are handed on, one region under both names, and nothing else."""
    caller = {
        "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t",
        "AWS_DEFAULT_REGION": "eu-west-1", "AWS_CONFIG_FILE": "/x", "OTHER": "o",
    }  # fmt: skip
    assert of_credentials(caller) == {
        "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
    }  # fmt: skip


def test_credentials_of_a_profile(tmp_path: Path) -> None:
    """Without keys in the environment those of AWS_PROFILE, with the region of its config."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id=d\naws_secret_access_key=e\n"
        "[staging]\naws_access_key_id = k\naws_secret_access_key = s%x\naws_session_token=t\n"
    )
    (tmp_path / ".aws/config").write_text("[default]\nregion=us-east-2\n[profile staging]\nregion=eu-west-1\n")
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s%x", "AWS_SESSION_TOKEN": "t"}
    regions = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert of_credentials({"HOME": str(tmp_path), "AWS_PROFILE": "staging"}) == keys | regions
    found = of_credentials({"HOME": str(tmp_path)})
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_REGION"]) == ("d", "us-east-2")
    with pytest.raises(UsageError, match="the profile other no keys") as caught:
        of_credentials({"HOME": str(tmp_path), "AWS_PROFILE": "other"})
    assert "export-credentials" in caught.value.todo


@pytest.mark.parametrize(
    ("option", "where", "says"),
    [
        (f"={SECRET}", "--env", "name of a variable"),
        ("A B=1", "--env A B", "name of a variable"),
        ("MISSING", "--env MISSING", "not set here"),
        ("SANDBOX_MODE=off", "--env SANDBOX_MODE", "removed before the function starts"),
        ("_HANDLER=x", "--env _HANDLER", "set by the emulator"),
        ("LAMBDA_TASK_ROOT=x", "--env LAMBDA_TASK_ROOT", "set by the emulator"),
        ("AWS_LAMBDA_RUNTIME_API=x", "--env AWS_LAMBDA_RUNTIME_API", "set by the emulator"),
        (f"A={SECRET}\0", "--env A", "NUL"),
    ],
)
def test_options_that_cannot_be_given(option: str, where: str, says: str) -> None:
    """The option is named, and never its value."""
    with pytest.raises(UsageError, match=says) as caught:
        of_options(option)
    assert caught.value.where == where
    assert SECRET not in str(caught.value) + trace(caught.value)


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (f"A=1\n\n\nB='{SECRET}\n", ":4", "NAME=VALUE"),
        (f"A=1\n# c\nB C={SECRET}\n", ":3", "NAME=VALUE"),
        (f"A={SECRET}\n\nMISSING\n", ":3", "MISSING is not set here"),
        (f"A=1\nSANDBOX_MODE={SECRET}\n", ":2", "SANDBOX_MODE configures the sandbox"),
        (f'{{"A": "{SECRET}",\n "B": }}', ":2:7", "not JSON"),
        (f'{{"A": ["{SECRET}"]}}', ": A", "not a text"),
        (f'{{"g": {{"A": "{SECRET}"}}}}', "", "has variables for g, and none for f"),
        (f'{{"f": {{"A": {{"B": "{SECRET}"}}}}}}', ": f: A", "not a text"),
        (f'{{"f": {{"A": "1"}}, "Parameters": "{SECRET}"}}', ": Parameters", "not an object"),
        (f'{{"f": {{"_HANDLER": "{SECRET}"}}}}', ": f", "_HANDLER is set by the emulator"),
        ("{" * 100_000, ":1:2", "not JSON"),
    ],
)
def test_files_that_cannot_be_given(tmp_path: Path, text: str, where: str, says: str) -> None:
    """File, line and variable are named, and never a value, in the causes neither."""
    with pytest.raises(UsageError, match=says) as caught:
        of_file(tmp_path, text)
    assert caught.value.where == str(tmp_path / "vars") + where
    assert SECRET not in str(caught.value) + trace(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, another encoding and a damaged file of credentials are errors with a place."""
    (tmp_path / "latin").write_bytes(b"A=1\nB=\xe9" + SECRET.encode())
    (tmp_path / "damaged").write_text(f"[default]\naws_access_key_id = k\n{SECRET}\n")
    (tmp_path / "bare").write_text(f"\n{SECRET} = x\n")
    for name, where in (("missing", ""), (".", ""), ("latin", ":2")):
        with pytest.raises(UsageError) as caught:
            variables("f", (), (str(tmp_path / name),), credentials=False, here={})
        assert caught.value.where == str(tmp_path / name) + where
        assert SECRET not in str(caught.value) + trace(caught.value)
    for name, line in (("damaged", 3), ("bare", 2)):
        with pytest.raises(UsageError, match="not an INI file") as caught:
            of_credentials({"HOME": str(tmp_path), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / name)})
        assert caught.value.where == f"{tmp_path / name}:{line}"
        assert SECRET not in str(caught.value) + trace(caught.value)


def test_values_are_masked_by_name() -> None:
    """The longest first, so that none is left in part; short values and regions say nothing secret."""
    found = {"KEY": SECRET, "TOKEN": f"{SECRET}-token", "AWS_REGION": "eu-west-1", "STAGE": "prod"}
    text = f"{SECRET}-token, {SECRET} in prod at eu-west-1"
    assert masked(text, found) == "<TOKEN>, <KEY> in prod at eu-west-1"
