"""The Python side of the native launcher: `start` does all of a start in its place, `decide` decides for its child.

    python3 -I -S .../sandbox/start/by_launcher.py start LAUNCHER [COMMAND...]
    python3 -I -S .../sandbox/start/by_launcher.py decide PID,LISTENER,VARIABLES,LINK,ENDED,RULES FOLDER DIGEST COMMAND

LISTENER is -1 where the kernel gave none. VARIABLES is a pipe with the variables that are ours, each with a NUL behind
it: in the variables of this process the function could read them. LINK leads to the attendant
(sandbox/supervise/link.py); ENDED is the wait status of a function that was reaped already, -1 for none; RULES a
descriptor that tells the rules on files (sandbox/supervise/look.py), -1 for none. The held signals
(sandbox/confine/parent.py) come blocked.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Entry. Does not return."""
    what, *rest = sys.argv[1:]
    if what == "start":
        from sandbox.start import launch

        sys.argv = rest
        launch.main()
    numbers, folder, digest, command = rest
    pid, listener, variables, link, ended, rules = map(int, numbers.split(","))
    decide(pid, listener, variables, link, None if ended < 0 else ended, rules, folder, digest, command)


def decide(
    pid: int, listener: int, variables: int, link: int, ended: int | None, rules: int, folder: str, digest: str,
    path: str,
) -> NoReturn:  # fmt: skip
    """Decide for the launcher's child `pid`, which runs `path`, and say to the attendant how to end.

    It ends the child where this ends without a word; where the attendant is gone, nobody else ends it but this.
    """
    from sandbox.confine import Command, parent, started_with
    from sandbox.supervise import start

    environ = dict(os.environ)
    start.protect()
    for fd in (listener, link, rules):
        if fd >= 0:
            os.set_inheritable(fd, False)
    environ |= received(variables)
    from sandbox import bundle
    from sandbox.confine import install
    from sandbox.errors import PolicyInvalid, SandboxError, log_entry
    from sandbox.kernel import abi, landlock
    from sandbox.start import launch
    from sandbox.start.settings import Settings
    from sandbox.supervise.link import LINK_ENDED, is_cut, say

    settings = Settings(started_with(environ))
    try:
        policy = bundle.read(folder, abi.MACHINE)
        if policy.digest != digest:
            raise PolicyInvalid("is not the policy that the launcher installed", where=folder, todo=bundle.REBUILD)
        command = Command(path, (), {}, root=settings.task_root)
        duties = launch.duties(settings, command, audit=False)
        duties.looks = install.looks_at_files(policy, landlock.abi_version(), settings.files, audit=False)
        duties.rules = rules
        journal = start.early_journal(policy, duties)
        from sandbox.supervise.decider import decide as answer

        status = answer(pid, listener, link, policy, duties, journal, ended)
    except SandboxError as error:
        parent.end_rest()
        say(link, LINK_ENDED, error.exit_code << 8)
        launch.fail(error, settings)
    except BaseException as error:
        # Not by a way out of the interpreter: threads may sleep for their tasks.
        if is_cut(link):
            parent.end_rest()
        else:
            os.write(2, log_entry(launch.internal(error), debug=settings.debug))
        os._exit(SandboxError.exit_code)
    say(link, LINK_ENDED, status)
    os._exit(0)


def received(pipe: int) -> dict[str, str]:
    """The variables that the launcher wrote."""
    with open(pipe, "rb") as file:
        entries = file.read().split(b"\0")[:-1]
    found: dict[str, str] = {}
    for entry in entries:
        key, _, value = entry.partition(b"=")
        found.setdefault(os.fsdecode(key), os.fsdecode(value))
    return found


if __name__ == "__main__":
    main()
