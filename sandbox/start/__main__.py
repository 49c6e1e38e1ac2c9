"""The Python side of the native launcher: `start` does all of a start in its place, `attend` supervises its child.

    python3 -I -S .../sandbox/start start LAUNCHER [COMMAND...]
    python3 -I -S .../sandbox/start attend PID,LISTENER,VARIABLES,HANDED FOLDER DIGEST COMMAND

LISTENER is -1 where the kernel gave none. VARIABLES is a pipe with the variables that are ours, each with a NUL behind
it: in the variables of this process the function could read them. HANDED is a pipe with what was done for the function
until now (sandbox/supervise/opening.py). The held signals (sandbox/supervise/start.py) come blocked.
"""

from __future__ import annotations

import os
import sys

# A folder that is run stands first on the path, and holds modules of names that others may want.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

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
    pid, listener, variables, handed = map(int, numbers.split(","))
    attend(pid, listener, variables, handed, folder, digest, command)


def attend(pid: int, listener: int, variables: int, handed: int, folder: str, digest: str, path: str) -> NoReturn:
    """Supervise the launcher's child `pid`, which runs `path`, and end like it. What stops this ends the child."""
    from sandbox.confine import parent
    from sandbox.supervise import start

    environ = dict(os.environ)
    try:
        start.protect()
        if listener >= 0:
            os.set_inheritable(listener, False)
        environ |= received(variables)
        from sandbox.supervise import opening

        done = opening.handed(handed)
        from sandbox import bundle
        from sandbox.confine import Command, started_with
        from sandbox.errors import PolicyInvalid, SandboxError
        from sandbox.kernel import abi
        from sandbox.start import launch
        from sandbox.start.settings import Settings

        settings = Settings(started_with(environ))
        try:
            policy = bundle.read(folder, abi.MACHINE)
            if policy.digest != digest:
                raise PolicyInvalid("is not the policy that the launcher installed", where=folder, todo=bundle.REBUILD)
            command = Command(path, (), {}, root=settings.task_root)
            duties = launch.duties(settings, command, audit=False)
            journal = start.early_journal(policy, duties)
            from sandbox.supervise.attend import attend as supervise

            given = listener if listener >= 0 else None
            status = supervise(pid, given, policy, duties, journal, done)
        except SandboxError as error:
            parent.end_rest()
            launch.fail(error, settings)
    except BaseException:
        # Nobody would answer for it or report on it, and it would outlive the bootstrap.
        parent.end_rest()
        raise
    sys.exit(status)


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
