"""What a profile argument means: a path, a name as in profiles/NAME.yaml, or the folder of a compiled bundle."""

from __future__ import annotations

import difflib
import os

from sandbox import bundle
from sandbox.errors import ProfileError

FOLDER = "profiles"
"""Where `sandbox learn` writes profiles, below the current folder."""
SUFFIX = ".yaml"


def profile_of(argument: str) -> str:
    """The path of the profile that an argument of the command line means.

    It may be a path, with or without `.yaml`; a NAME of profiles/NAME.yaml, also beside a folder NAME with the
    function's code; or the folder of a bundle, which holds the profile that it was compiled from. Raises ProfileError
    where there is none.
    """
    paths = (argument, f"{argument}{SUFFIX}", os.path.join(FOLDER, f"{argument}{SUFFIX}"))
    if os.path.isdir(argument) and (_is_bundle(argument) or not any(map(os.path.isfile, paths))):
        return _of_folder(argument)
    for path in paths:
        if _exists(path) and not os.path.isdir(path):
            return path
    raise ProfileError("cannot be read: No such file or directory", where=argument, todo=_nearest(argument))


def policy_of(argument: str) -> str:
    """The same where a compiled bundle serves as well as its profile: the folder of a bundle is itself."""
    return argument if _exists(os.path.join(argument, bundle.FILE)) else profile_of(argument)


def _is_bundle(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in (bundle.PROFILE, bundle.FILE))


def _of_folder(folder: str) -> str:
    path = os.path.join(folder, bundle.PROFILE)
    if os.path.isfile(path):
        return path
    if os.path.isfile(os.path.join(folder, bundle.FILE)):
        what, todo = f"is a bundle without its {bundle.PROFILE}", "name the profile that it was compiled from"
    else:
        what, todo = "is a folder, and not a bundle", "name a profile (YAML) in it"
    raise ProfileError(what, where=folder, todo=todo)


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):  # a NUL in the name, a loop of links, a folder that is closed: reading it says which
        return True
    return True


def named(beginning: str) -> list[str]:
    """The names of profiles below `profiles/` that begin so."""
    try:
        files = sorted(os.listdir(FOLDER))
    except OSError:
        return []
    return [name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX) and name.startswith(beginning)]


def _nearest(argument: str) -> str:
    """What to do about a name that nothing has: the names that are like it, or those that there are."""
    known = named("")
    name = os.path.basename(argument).removesuffix(SUFFIX)
    if near := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {os.path.join(FOLDER, near[0])}{SUFFIX}?"
    shown = f"{FOLDER} holds {', '.join(known[:8])}{' ...' * (len(known) > 8)}; " if known else "check the name; "
    return f"{shown}`sandbox learn` makes a profile"
