"""The process of an environment: its variables, its process group, and the thread that sees it end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sandbox.errors import EmulatorError, HandlerNotFound
from sandbox.runtime_api.model import Function

REGION = "us-east-1"
TRACING_DAEMON = "169.254.79.129:2000"
"""Where the platform's tracing daemon listens for segments by UDP; here nobody does, and none is answered."""
Output = int | IO[Any] | None


def variables(function: Function, address: str) -> dict[str, str]:
    """Return the whole environment of a function's process.

    What the platform defines (Lambda Developer Guide, environment variables), without credentials and with
    nothing of the caller's own environment; `function.environment` wins.
    """
    stream = f"{time.strftime('%Y/%m/%d')}/[$LATEST]{uuid.uuid4().hex}"
    region = function.environment.get("AWS_REGION", REGION)
    defined = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "HOME": "/tmp",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": _initialization_type(function),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": TRACING_DAEMON,
        "LAMBDA_TASK_ROOT": str(Path(function.root).absolute()),
        "_HANDLER": function.handler,
        **({"AWS_LAMBDA_MAX_CONCURRENCY": str(function.workers)} if function.workers else {}),
    }
    return {key: value for key, value in defined.items() if key not in function.unset} | dict(function.environment)


def _initialization_type(function: Function) -> str:
    if function.workers:
        return "lambda-managed-instances"
    return "snap-start" if function.snapstart else "on-demand"


class Process:
    """A child that leads its own process group. `on_exit` is called once with its exit status, in a thread.

    The rest of the group is killed as soon as the leader has ended, as the platform's reset does.
    Raises HandlerNotFound when the command or the directory is missing, EmulatorError when no process can be
    made. Nobody else may reap the child.
    """

    def __init__(
        self,
        function: Function,
        environment: Mapping[str, str],
        *,
        stdout: Output,
        stderr: Output,
        pass_fds: Sequence[int],
        on_exit: Callable[[int], None],
    ) -> None:
        self._on_exit = on_exit
        self._reaping = threading.Lock()
        self._ended = threading.Event()
        self._child = _spawn(function, environment, stdout, stderr, pass_fds)
        self.pid: int = self._child.pid
        self._waiter = threading.Thread(
            target=self._watch, name=f"runtime-api-waiter-{self.pid}", daemon=True
        )
        try:
            self._waiter.start()
        except RuntimeError:  # no more threads
            self._signal_group(signal.SIGKILL)
            self._child.wait()
            raise

    @property
    def exit_status(self) -> int | None:
        """The status as os.waitstatus_to_exitcode gives it, None while the process lives."""
        return self._child.returncode if self._ended.is_set() else None

    def signal(self, number: int) -> None:
        """Send a signal to the process group; nothing happens once the process has been reaped."""
        with self._reaping:
            if self._child.returncode is None:
                self._signal_group(number)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process has ended and `on_exit` has returned; None after `timeout` seconds."""
        if not self._ended.wait(timeout):
            return None
        self._waiter.join()
        return self._child.returncode

    def _watch(self) -> None:
        # The zombie keeps its number until it is reaped, so that the group's number still means this group.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._reaping:
            self._signal_group(signal.SIGKILL)
            status = self._child.wait()
        self._on_exit(status)
        self._ended.set()

    def _signal_group(self, number: int) -> None:
        # EPERM: every member has taken another user's identity, and only root may signal those.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _spawn(
    function: Function,
    environment: Mapping[str, str],
    stdout: Output,
    stderr: Output,
    pass_fds: Sequence[int],
) -> subprocess.Popen[bytes]:
    if not function.command:
        raise EmulatorError(
            "the function has no command", where=function.name, todo="name the program to start"
        )
    if not Path(function.root).is_dir():
        raise HandlerNotFound(
            "the working directory does not exist",
            where=function.root,
            todo="name the function's folder (--root)",
        )
    program = function.command[0]
    try:
        return subprocess.Popen(
            function.command,
            cwd=function.root,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            process_group=0,
        )
    except FileNotFoundError as error:
        raise HandlerNotFound(
            "the command, or the interpreter in its first line, does not exist",
            where=program,
            todo=f"check the path; a relative one starts at {function.root}, a bare name is looked up in PATH",
        ) from error
    except (PermissionError, NotADirectoryError) as error:
        raise HandlerNotFound(
            f"the command cannot be executed: {error.strerror}",
            where=program,
            todo="chmod 755, and check its folder",
        ) from error
    except ValueError as error:
        raise EmulatorError(
            f"the command cannot be passed on: {error}",
            where=program,
            todo="remove the NUL byte from arguments and environment variables, and '=' from their names",
        ) from error
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise HandlerNotFound(
                "the command is not a program of this machine",
                where=program,
                todo="give a script a first line that names its interpreter, or build for this architecture",
            ) from error
        raise EmulatorError(
            f"the process cannot be started: {error.strerror}", where=program, todo="free memory or processes"
        ) from error
