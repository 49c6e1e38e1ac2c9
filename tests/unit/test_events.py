"""Sample events from disk: folders, single files and JSON lines, and what is said about anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import UsageError
from sandbox.runtime_api.events import load_events


def test_a_folder_gives_its_json_files_by_name(tmp_path: Path) -> None:
    """Names order the events; other files and hidden folders are not events; the bytes arrive as they lie."""
    (tmp_path / "2-b.json").write_text('{"n": 2}')
    (tmp_path / "1-a.json").write_bytes(b' {"n":\t1}\n')
    (tmp_path / "10-c.json").write_text("[]")
    (tmp_path / "README.md").write_text("no event")
    found = load_events(str(tmp_path))
    assert [(event.name, event.payload) for event in found] == [
        ("1-a.json", b' {"n":\t1}\n'), ("10-c.json", b"[]"), ("2-b.json", b'{"n": 2}'),
    ]  # fmt: skip


def test_json_lines_are_named_by_their_line(tmp_path: Path) -> None:
    """Empty lines are skipped and still counted; the last line needs no end."""
    (tmp_path / "events.jsonl").write_text('{"n": 1}\n\n"two"\n3')
    found = load_events(str(tmp_path / "events.jsonl"))
    assert [(event.name, event.payload) for event in found] == [
        ("events.jsonl:1", b'{"n": 1}'), ("events.jsonl:3", b'"two"'), ("events.jsonl:4", b"3"),
    ]  # fmt: skip


def test_a_single_file_is_a_single_event(tmp_path: Path) -> None:
    """Whatever its suffix."""
    (tmp_path / "one.txt").write_text("{\n}\n")
    assert [event.name for event in load_events(str(tmp_path / "one.txt"))] == ["one.txt"]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("bad.json", "{", "bad.json"),
        ("bad.jsonl", '{"n": 1}\n{"n": \n', "bad.jsonl:2"),
        ("deep.json", "[" * 100_000, "deep.json"),
        ("bytes.json", "\udcff", "bytes.json"),
    ],
)
def test_what_is_no_json_is_named_with_file_and_line(tmp_path: Path, name: str, text: str, place: str) -> None:
    """No traceback, and the place is the one to look at."""
    (tmp_path / name).write_text(text, errors="surrogateescape")
    with pytest.raises(UsageError) as caught:
        load_events(str(tmp_path / name))
    assert caught.value.where == str(tmp_path / place)
    assert "is not JSON" in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "missing.jsonl", "missing.json"])
def test_a_path_that_is_not_there(tmp_path: Path, name: str) -> None:
    """It is said what was looked for."""
    with pytest.raises(UsageError) as caught:
        load_events(str(tmp_path / name))
    assert caught.value.where == str(tmp_path / name)


def test_a_folder_without_events(tmp_path: Path) -> None:
    """No events is a mistake, not a training of nothing."""
    (tmp_path / "note.txt").write_text("{}")
    with pytest.raises(UsageError) as caught:
        load_events(str(tmp_path))
    assert "no events" in str(caught.value)
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(UsageError):
        load_events(str(tmp_path / "empty.jsonl"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(JSON, min_size=1, max_size=6))
def test_json_lines_survive(tmp_path_factory: pytest.TempPathFactory, values: list[object]) -> None:
    """Every JSON value comes through a .jsonl file unchanged and in order."""
    path = tmp_path_factory.mktemp("events") / "all.jsonl"
    path.write_text("\n".join(json.dumps(value) for value in values))
    assert [json.loads(event.payload) for event in load_events(str(path))] == values


@given(st.binary(max_size=40))
def test_any_bytes_are_events_or_a_located_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Fuzz: nothing but UsageError comes out of a damaged file."""
    path = tmp_path_factory.mktemp("events") / "fuzz.jsonl"
    path.write_bytes(data)
    where = str(path)
    try:
        load_events(str(path))
    except UsageError as error:
        where = error.where
    assert where.startswith(str(path))
