"""Programs of a profile: where they lie, how random paths become one line, and what is learned of each."""

from __future__ import annotations

import pytest

from sandbox.learn.cold_starts import ColdStart
from sandbox.learn.executables import learned
from sandbox.learn.records import Program, Start
from sandbox.profile.executables import merged_names, written_place

WRITES = frozenset({"/tmp/*", "/tmp/deep/**", "{root}/cache/*", "/srv/job-*/out/*", "/srv/one"})


@pytest.mark.parametrize(("program", "place"), [
    ("/tmp/tool", "/tmp/*"), ("/tmp/deep/er/tool", "/tmp/deep/**"), ("/tmp*/tool", ""), ("/tmpx/tool", ""),
    ("{root}/cache/tool", "{root}/cache/*"), ("{root}/tool", ""), ("/srv/tool", "/srv/job-*/out/*"),
    ("/srv/one", "/srv/one"), ("/tmp/tmp*/tool", "/tmp/*"), ("/usr/bin/tool", ""),
])  # fmt: skip
def test_where_a_program_lies(program: str, place: str) -> None:
    """By the rules that the patterns become, the innermost; a folder above a random name counts with all below."""
    assert written_place(program, WRITES) == place
    assert not written_place(program, {"/**", "/*"})


@pytest.mark.parametrize(("paths", "lines"), [
    ({"/tmp/_MEIabcdef/tool", "/tmp/_MEIqrstuv/tool"}, {"/tmp/*/tool"}),
    ({"{root}/cache/x/tool", "{root}/cache/y/tool"}, {"{root}/cache/*/tool"}),
    ({"/tmp/a/x", "/tmp/b/y"}, None), ({"/tmp/a/tool", "/opt/a/tool"}, None), ({"/tmp/a/b/tool", "/tmp/a/tool"}, None),
    ({"{root}/a/tool", "{root}/b/tool"}, None), ({"/tool"}, None),
])  # fmt: skip
def test_paths_of_one_content(paths: set[str], lines: set[str] | None) -> None:
    """Folders that differ are made up; the name of the program itself is not, nor is the first folder."""
    assert merged_names(paths) == (lines or paths)


def test_what_is_learned_of_each() -> None:
    """A link that the function made stands for its target; what it wrote has a content, or is listed without one."""
    one, two = "a" * 64, "b" * 64
    programs = frozenset({
        Program("/usr/bin/gzip", sha256=one, loader="/lib/ld.so"),
        Program("/opt/s", sha256=one, interpreters=("/bin/sh",)),
        Program("/tmp/link", real="/usr/bin/id", sha256=one), Program("/usr/bin/pager", real="/tmp/less", sha256=two),
        Program("/tmp/tmpabcdefgh/x", sha256=two, loader="/lib/ld.so", interpreters=("/tmp/i", "../sh", "/bin/sh")),
        Program("/tmp/unread"), Program("relative"),
    })  # fmt: skip
    found = learned([ColdStart("0", "x", Start(), processes=programs)], frozenset({"/tmp/*"}))
    assert found.paths == {"/usr/bin/gzip", "/opt/s", "/usr/bin/id", "/tmp/less", "/tmp/tmp*/x", "/tmp/unread"}
    assert found.digests == {("/tmp/less", two), ("/tmp/tmp*/x", two)}
    assert found.interpreters == {
        ("/opt/s", "/bin/sh"), ("/tmp/tmp*/x", "/bin/sh"), ("/tmp/tmp*/x", "/lib/ld.so"),
    }  # fmt: skip
