"""Where no filter can be installed: the variables that make the dynamic loader set the tripwire in the function.

SANDBOX_TRIPWIRE tells the library (sandbox/tripwire) in lines of a letter and a value:

    p  the folder of the bundle
    a  the Runtime API's host:port
    m  e or a: enforce, audit
    f  1 in the first process, which says what is set
    i  1 behind the init phase
    o  the program that is started
    1 2 3  a folder that {root}, {python} or {venv} stands for, by the place of the name in bundle.BASES
"""

from __future__ import annotations

import os

from sandbox import bundle
from sandbox.confine import landlock_rules
from sandbox.confine.tripwire import VARIABLE, asks_for_each, library, loader_of, missing
from sandbox.errors import InstallRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.confine import Command

TIER = "tier: detects, does not contain"
TUNABLES, STATIC_TLS = "GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384"
"""A loader that takes auditors counts the thread-local memory of a program's libraries only after it has laid out the
block, so that jemalloc and others do not fit (glibc 2.32 and newer know the name)."""


def variables(command: Command, folder: str, api: str, *, audit: bool) -> Mapping[str, str]:
    """What to add to the function's variables. `folder` is the bundle's, `api` host:port or ''.

    Raises InstallRefused where the tripwire cannot be set for this command.
    """
    loader = loader_of(command.path, command.search)
    why = missing(loader)
    if not why and not os.path.isdir(folder):
        why = f"{folder} is a profile, and only a bundle can be read by it"
    mode = "a" if audit else "e"
    lines = [f"p {os.path.abspath(folder)}", f"a {api}", f"m {mode}", "f 1", "i 0", f"o {command.path}"]
    lines += [f"{bundle.BASES.index(name)} {place}" for place, name in landlock_rules.named(command)]
    if any("\n" in line for line in lines):
        why = "a path has a line break in it"
    if why:
        raise _refused(why)
    found = {VARIABLE: "\n".join(lines), "LD_AUDIT": library()}
    others = dict(command.environ).get("LD_AUDIT", "")
    if others:
        found["LD_AUDIT"] += f":{others}"
    tunables = dict(command.environ).get(TUNABLES, "")
    if "optional_static_tls" not in tunables:
        found[TUNABLES] = f"{tunables}:{STATIC_TLS}" if tunables else STATIC_TLS
    if not asks_for_each(loader):
        found["LD_BIND_NOW"] = "1"  # bound late, each call of every function would go through the loader
    return found


def check_readable(wired: Mapping[str, str]) -> None:
    """Raise InstallRefused where the library could not read what it needs: Landlock may be in force, and hide it."""
    folder = wired[VARIABLE].partition("\n")[0].removeprefix("p ")
    for path in (library(), f"{folder}/{bundle.FILE}", "/proc/self/stat"):
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            raise _refused(f"{path} cannot be read: {error.strerror}") from error


def _refused(why: str) -> InstallRefused:
    return InstallRefused(
        f"the tripwire cannot be set: {why}", where="SANDBOX_ON_UNAVAILABLE",
        todo="put it in place, or set SANDBOX_ON_UNAVAILABLE=warn to run with nothing in force, knowing so",
    )  # fmt: skip
