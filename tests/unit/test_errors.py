"""The tree of errors: what its docstring says is what its classes are."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator

import pytest

from sandbox import cli, errors
from sandbox.errors import InstallRefused, SandboxError, UsageError

ERROR_TYPE = re.compile(r"^(Runtime|Function)\.[A-Z][a-zA-Z]+$")
"""What the Runtime API accepts as an error type."""


def tree(root: type[SandboxError], depth: int = 0) -> Iterator[tuple[int, type[SandboxError]]]:
    """All classes with their depth, in the order of their definition."""
    yield depth, root
    for child in root.__subclasses__():
        yield from tree(child, depth + 1)


CLASSES = [found for _, found in tree(SandboxError)]


def test_the_docstring_is_the_tree() -> None:
    """Names, depth, exit codes and error types in the docstring are those of the classes, in the same order."""
    pattern = re.compile(r"^    ( *)(\w+) +(\d+)  (\S+)$", re.MULTILINE)
    documented = [
        (len(indent) // 2, name, int(code), type_)
        for indent, name, code, type_ in pattern.findall(errors.__doc__ or "")
    ]
    found = [(depth, cls.__name__, cls.exit_code, cls.error_type) for depth, cls in tree(SandboxError)]
    assert documented == found[1:]
    assert (errors.__doc__ or "").splitlines()[2].split() == ["SandboxError", "exit", "Runtime", "API", "type"]


def test_exit_codes_are_unique_and_free() -> None:
    """Each class has its own exit code, clear of success, shells and Python's own."""
    codes = [cls.exit_code for cls in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(3 <= code < 126 for code in codes)


@pytest.mark.parametrize("cls", CLASSES)
def test_error_types_are_the_platforms(cls: type[SandboxError]) -> None:
    """Each class has an error type of its own that the Runtime API accepts, and a docstring."""
    assert ERROR_TYPE.match(cls.error_type)
    assert [other.error_type for other in CLASSES].count(cls.error_type) == 1
    assert cls.__doc__


@pytest.mark.parametrize("cls", CLASSES)
def test_a_message_says_what_where_and_what_to_do(cls: type[SandboxError]) -> None:
    """All parts of an error are in its text, and no empty ones."""
    assert str(cls("broke", where="here", todo="mend it")) == "here: broke\n  what to do: mend it"
    assert str(cls("broke")) == "broke"
    assert cls("broke").args == ("broke",)


def refused() -> InstallRefused:
    """An error that a system call is behind, over an error between the two."""
    try:
        try:
            raise PermissionError(errno.EPERM, "no")
        except OSError as error:
            raise ValueError("in between") from error
    except ValueError as error:
        try:
            raise InstallRefused("broke") from error
        except InstallRefused as found:
            return found


def test_an_error_has_the_errno_of_its_cause() -> None:
    """The errno of the system call that it was raised from, however far down; None without one."""
    assert refused().errno == errno.EPERM
    assert SandboxError("broke").errno is None
    unrelated = SandboxError("broke")
    unrelated.__context__ = OSError(errno.ENOENT, "being handled meanwhile")
    assert unrelated.errno is None


def test_a_trace_names_each_cause_and_where_it_was_raised() -> None:
    """The nearest cause first, each with its file, line and function."""
    place = re.escape(f"    at {__file__}:") + r"\d+ in refused\n"
    causes = r"  caused by: ValueError: in between\n" + place + r"  caused by: PermissionError: \[Errno 1\] no\n"
    assert re.fullmatch(place + causes + place, errors.trace(refused()))


def test_a_limit_is_a_type_or_a_status_and_no_text() -> None:
    """What a start reports or ends with says that it reached a limit; an error type of the function's own does not."""
    assert errors.limit_of(errors.LimitReached.error_type, None)
    assert errors.limit_of("Runtime.ExitError", errors.LimitReached.exit_code)
    assert errors.limit_of(f"Not{errors.LimitReached.error_type}", None) is None
    assert errors.limit_of("ValueError", 1) is None


@pytest.mark.parametrize("value", ["1", "0", "", None])
def test_the_command_shows_causes_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str | None
) -> None:
    """With SANDBOX_DEBUG=1 the chain stands behind the message; else the message is all."""
    if value is None:
        monkeypatch.delenv("SANDBOX_DEBUG", raising=False)
    else:
        monkeypatch.setenv("SANDBOX_DEBUG", value)
    monkeypatch.setattr(sys, "argv", ["sandbox", "events", "/does/not/exist"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == UsageError.exit_code
    usual = "sandbox: /does/not/exist: cannot be read: No such file or directory\n  what to do: check the name\n"
    shown = capsys.readouterr().err
    assert shown.startswith(usual)
    more = shown.removeprefix(usual)
    assert bool(more) == (value == "1")
    assert not more or re.search(r"^    at .+/cli/events.py:\d+ in ", more, re.MULTILINE)
    assert not more or "\n  caused by: FileNotFoundError: [Errno 2] " in more
