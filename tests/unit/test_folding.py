"""Folding paths: everything stays covered, the result depends on nothing but the set, and nothing becomes too wide."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.behaviour.path import covers as path_covers
from sandbox.profile.folding import FEW, LONGEST, changed, fold, named

NAMES = st.sampled_from(
    ["a", "b", "c", "d", "e", "lib", "x86", "n1", "n2", "n3", "n4", ".hidden", "with space", "%", "é"]
)
PATHS = st.lists(NAMES, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))
PLACED = st.sampled_from(["{root}/**", "{python}/**", "{venv}/**"])
MADE_UP = st.sampled_from(
    ["/tmp/tmpk2j4_x1z/x.zip", "/tmp/tmp00000000/x.zip", "/tmp/pymp-abcdefgh/y", "/var/spool/in/2026-11-28.csv",
     "/var/spool/in/2026-11-29.csv", "/var/spool/in/job-1001", "/var/spool/in/job-2002", "/var/spool/in/job-*",
     "/sys/fs/cgroup/a/" + "0a" * 32 + "/x", "/home/u/0f9e8d7c-0000-4000-8000-0123456789ab", "/etc/x/job-1001",
     "/etc/x/job-1002"]
)  # fmt: skip
MANY = st.builds(lambda parts, n: [f"{parts}/f{i}" for i in range(n)], PATHS, st.integers(0, 12))
SETS = st.tuples(st.lists(PATHS | PLACED | MADE_UP, max_size=30), st.lists(MANY, max_size=6)).map(
    lambda drawn: [*drawn[0], *(path for group in drawn[1] for path in group)]
)


def covers(pattern: str, path: str) -> bool:
    """`directory/**` covers all below it, `directory/*` all directly in it, anything else what is like it."""
    if "*" in pattern.removesuffix("/**").removesuffix("/*"):
        return path_covers(pattern, path)
    if pattern.endswith("/**"):
        return path.startswith(pattern[:-2])
    if pattern.endswith("/*"):
        return os.path.dirname(path) == pattern[:-2]
    return path == pattern


def test_the_matcher_itself() -> None:
    """What the other tests stand on."""
    assert covers("/a/**", "/a/b/c")
    assert covers("/a/*", "/a/b")
    assert covers("/a", "/a")
    assert not covers("/a/*", "/a/b/c")
    assert not covers("/a/**", "/ab/c")
    assert not covers("/a", "/a/b")


@settings(max_examples=300)
@given(SETS)
def test_every_path_is_covered(paths: list[str]) -> None:
    """No path is lost, and no pattern stands for nothing."""
    patterns = fold(paths)
    for path in paths:
        assert any(path == pattern or covers(pattern, path) for pattern in patterns), path
    for pattern in patterns:
        assert any(path == pattern or covers(pattern, path) for path in paths), pattern


@settings(max_examples=300)
@given(SETS, st.randoms(use_true_random=False))
def test_only_the_set_counts(paths: list[str], random: object) -> None:
    """Order and repetition of the paths change nothing, and the result is sorted."""
    patterns = fold(paths)
    shuffled = sorted([*paths, *paths], key=lambda _: random.random())  # type: ignore[attr-defined]
    assert fold(shuffled) == fold(iter(paths)) == patterns
    assert list(patterns) == sorted(set(patterns))


@settings(max_examples=300)
@given(SETS)
def test_folding_twice_changes_nothing(paths: list[str]) -> None:
    """Merging profiles folds what was folded before."""
    assert fold(fold(paths)) == fold(paths)


@settings(max_examples=300)
@given(SETS)
def test_nothing_folds_up_to_the_root_or_a_top_directory(paths: list[str]) -> None:
    """`/**`, `/usr/**` and `/*` would say nothing."""
    for pattern in fold(paths):
        assert pattern in paths or pattern != "/*"
        if pattern.endswith("/**") and pattern.startswith("/"):
            assert pattern.removesuffix("/**").count("/") >= 2, pattern


def test_few_files_stand_by_themselves_and_more_become_their_directory() -> None:
    """Up to FEW files of a directory are named, one more folds them."""
    files = [f"/var/data/{n}" for n in range(FEW + 1)]
    assert fold(files[:FEW]) == tuple(files[:FEW])
    assert fold(files) == ("/var/data/*",)
    assert fold([*files, "/var/data/sub/x"]) == ("/var/data/*", "/var/data/sub/x")


def test_files_in_the_root_and_devices_are_never_folded() -> None:
    """Each device, and each file of /, is a thing of its own."""
    devices = [f"/dev/{name}" for name in ("null", "zero", "random", "urandom", "tty")]
    assert fold(devices) == tuple(sorted(devices))
    assert fold(["/a", "/b", "/c", "/d", "/e"]) == ("/a", "/b", "/c", "/d", "/e")


def test_many_places_below_one_directory_become_that_directory() -> None:
    """More lines than a screen holds are folded into the deepest directory that they share."""
    paths = [f"/opt/app/part{n}/data/file" for n in range(LONGEST + 10)]
    assert fold(paths) == ("/opt/app/**",)


def test_strangers_stay_as_they_are_when_others_fold() -> None:
    """A path that shares no directory with the many is not made wider for their sake."""
    paths = [f"/opt/app/part{n}/data/file" for n in range(LONGEST + 10)]
    assert fold([*paths, "/etc/ssl/openssl.cnf"]) == ("/etc/ssl/openssl.cnf", "/opt/app/**")


def test_places_are_written_by_name() -> None:
    """The most special directory gives its name; the own process is /proc/self; relative paths are unknown places."""
    places = {"{root}": "/srv/task", "{venv}": "/srv/task/venv", "{python}": "/usr/lib/python3.11"}
    paths = ["/srv/task/app.py", "/srv/task/venv/lib/x", "/srv/task", "/srv/tasks/x", "/usr/lib/python3.11/os.py"]
    paths += ["/proc/123/status", "/proc/meminfo", "relative"]
    assert named(paths, places) == {
        "{root}/**", "{venv}/**", "/srv/tasks/x", "{python}/**", "/proc/self/status", "/proc/meminfo",
    }  # fmt: skip


def test_made_up_names_are_folded() -> None:
    """Several names in a temporary folder become one line, one or two folders of a function keep their names."""
    made_up = {f"/tmp/tmp{name}/x.zip" for name in ("a1", "b2", "c3", "d4")}
    assert fold(made_up) == ("/tmp/**",)
    assert fold({"/tmp/thumbnails/a.png", "/tmp/cache.db"}) == ("/tmp/cache.db", "/tmp/thumbnails/a.png")


def test_names_in_a_folder_that_is_listed_open_nothing_below_it() -> None:
    """Whether a made-up name looks like a word is chance, and must not decide whether folders in /tmp are open."""
    words = [f"/tmp/{word}" for word in ("able", "baker", "charlie", "dog", "easy")]
    assert fold(["/tmp/*", *words]) == ("/tmp/*",)
    assert fold(["/tmp/*", *words, "/tmp/fox/x"]) == ("/tmp/*", "/tmp/fox/x")
    assert fold(["/tmp/*", *(f"{word}/x" for word in words)]) == ("/tmp/**",)


def test_a_root_that_was_made_ends_the_way_up() -> None:
    """A hostile observation may say that / was made: the folders above an entry end there."""
    assert changed({"/", "/a", "/a/b"}) == {"/", "/a", "/a/b"}


def test_secrets_are_never_folded() -> None:
    """However many files of a folder of secrets or keys, or lines in all: they are named one by one."""
    keys = ("/run/secrets/app", "/var/run/secrets/a/b", "/root/.aws", "/home/user/.ssh")
    for place in (*keys, "/home/user", "/root", "/etc", "/etc/ssh", "/etc/ssl/private", "/sys"):
        files = [f"{place}/{n:02d}" for n in range(LONGEST + 10)]
        assert fold(files) == tuple(files)
