"""Every error that a user can see, in one tree.

    SandboxError                        exit  Runtime API type
      UsageError                          64  Runtime.SandboxUsage
      ProfileError                        65  Runtime.SandboxProfileInvalid
      PolicyInvalid                       66  Runtime.SandboxPolicyInvalid
      PolicyNotFound                      67  Runtime.SandboxPolicyNotFound
      PolicyUnverified                    68  Runtime.SandboxPolicyUnverified
      InstallRefused                      69  Runtime.SandboxInstallRefused
        KernelUnsupported                 70  Runtime.SandboxKernelUnsupported
        ListenerBusy                      71  Runtime.SandboxListenerBusy
        CanaryPassed                      72  Runtime.SandboxCanaryPassed
      HandlerNotFound                     73  Runtime.SandboxHandlerNotFound
      LearningFailed                      74  Runtime.SandboxLearningFailed
      ObservationError                    75  Runtime.SandboxObservationsInvalid
      EmulatorError                       76  Runtime.SandboxEmulator
      PolicyStale                         78  Runtime.SandboxPolicyStale
      FunctionTerminated                  77  Runtime.SandboxTerminated
      PackageInvalid                      79  Runtime.SandboxPackageInvalid
      PolicyWritable                      80  Runtime.SandboxPolicyWritable
      VerificationFailed                  81  Runtime.SandboxVerificationFailed
      DiskFull                            82  Runtime.SandboxDiskFull
      LimitReached                        83  Runtime.SandboxLimitReached
      CommandKilled                       84  Runtime.SandboxCommandKilled
      DeciderLost                         85  Runtime.SandboxDeciderLost
      ExtraMissing                        86  Runtime.SandboxExtraMissing

The codes avoid those of shells (126, 127, 128+n) and of the Python runtime client (1; 64 and 65 only after a snapshot
restore). A message says what happened, where, and what to do next.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEBUG = "SANDBOX_DEBUG"
"""At 1, each error is followed by its causes and by where each was raised."""


class SandboxError(Exception):
    """Base of the tree: `exit_code` for the shell, `error_type` for POST /runtime/init/error."""

    exit_code = 63
    error_type = "Runtime.SandboxError"
    excerpt = ""
    """The line of the file that `where` names, with a mark below the column; '' where none is known."""

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        self.what = what
        self.where = where
        self.todo = todo
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        text = f"{text}\n{self.excerpt}" if self.excerpt else text
        return f"{text}\n  what to do: {self.todo}" if self.todo else text

    @property
    def errno(self) -> int | None:
        """The errno of the system call that failed (man 3 errno); None where this was raised from no OSError."""
        cause = self.__cause__
        while cause is not None:
            if isinstance(cause, OSError):
                return cause.errno
            cause = cause.__cause__
        return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """What an error was raised from, the nearest cause first; `from None` ends the chain (PEP 3134, PEP 409)."""
    found = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while found is not None:
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def debugging(environ: Mapping[str, str]) -> bool:
    """Whether the causes of an error are wanted. Any value but 1 says no: it must not stop a start."""
    return environ.get(DEBUG) == "1"


def log_entry(error: SandboxError, *, debug: bool = False) -> bytes:
    """An error as a start writes it to its log: type, text and what to do; with `debug` the trace behind it."""
    return printable_lines(f"sandbox: {error.error_type}: {error}\n" + (trace(error) if debug else "")).encode()


def printable(text: str) -> str:
    """The text with everything that does not show as itself (control characters, escape sequences, direction marks)
    written as \\xNN or \\uNNNN. Whatever strangers have named goes through here before a person sees it.
    """
    return text if text.isascii() and text.isprintable() else "".join([_shown(character) for character in text])


def printable_lines(text: str) -> str:
    """The same for each line of a text of several."""
    return "\n".join([printable(line) for line in text.split("\n")])


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8 (PEP 383)
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def trace(error: BaseException) -> str:
    """Where an error was raised and each of its causes likewise, as lines, innermost call last.

    Reads no file and imports nothing: the last errors of a start come from behind Landlock, where the traceback module
    can neither be loaded nor read source lines.
    """
    lines = [*_raised_at(error)]
    for cause in causes(error):
        lines += [f"  caused by: {type(cause).__name__}: {cause}", *_raised_at(cause)]
    return "".join(f"{line}\n" for line in lines)


def _raised_at(error: BaseException) -> Iterator[str]:
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        yield f"    at {code.co_filename}:{step.tb_lineno} in {code.co_name}"
        step = step.tb_next


class UsageError(SandboxError):
    """The command line or the environment asks for something that does not exist or contradicts itself."""

    exit_code = 64
    error_type = "Runtime.SandboxUsage"


class ProfileError(SandboxError):
    """A profile (or another policy document) cannot be read, does not match the schema, or names something unknown."""

    exit_code = 65
    error_type = "Runtime.SandboxProfileInvalid"


class PolicyInvalid(SandboxError):
    """A compiled bundle is damaged, of another version, or built for another architecture."""

    exit_code = 66
    error_type = "Runtime.SandboxPolicyInvalid"


class PolicyNotFound(SandboxError):
    """The bootstrap found neither a bundle nor a profile."""

    exit_code = 67
    error_type = "Runtime.SandboxPolicyNotFound"


class PolicyUnverified(SandboxError):
    """The compiled filter does not implement the profile; nothing was written."""

    exit_code = 68
    error_type = "Runtime.SandboxPolicyUnverified"


class InstallRefused(SandboxError):
    """The kernel, or a filter above us, refused a step of the installation."""

    exit_code = 69
    error_type = "Runtime.SandboxInstallRefused"


class KernelUnsupported(InstallRefused):
    """The kernel lacks a mechanism that the policy needs."""

    exit_code = 70
    error_type = "Runtime.SandboxKernelUnsupported"


class ListenerBusy(InstallRefused):
    """A notification listener already stands above this process (seccomp(2): EBUSY)."""

    exit_code = 71
    error_type = "Runtime.SandboxListenerBusy"


class CanaryPassed(InstallRefused):
    """A call that must be refused succeeded after the installation: the filter is not in force."""

    exit_code = 72
    error_type = "Runtime.SandboxCanaryPassed"


class HandlerNotFound(SandboxError):
    """The program to start does not exist or cannot be executed."""

    exit_code = 73
    error_type = "Runtime.SandboxHandlerNotFound"


class LearningFailed(SandboxError):
    """A training run failed; no profile was written."""

    exit_code = 74
    error_type = "Runtime.SandboxLearningFailed"


class ObservationError(SandboxError):
    """An observation file is damaged or of another version."""

    exit_code = 75
    error_type = "Runtime.SandboxObservationsInvalid"


class EmulatorError(SandboxError):
    """The Runtime API emulator could not start or was used out of order."""

    exit_code = 76
    error_type = "Runtime.SandboxEmulator"


class PolicyStale(SandboxError):
    """The host or the function is not what the profile was learned on, and SANDBOX_STALE=refuse."""

    exit_code = 78
    error_type = "Runtime.SandboxPolicyStale"


class FunctionTerminated(SandboxError):
    """The supervisor ended the function because of a call whose response is `terminate`."""

    exit_code = 77
    error_type = "Runtime.SandboxTerminated"


class PackageInvalid(SandboxError):
    """A file differs from its package's manifest, or the manifest's signature does not match the key."""

    exit_code = 79
    error_type = "Runtime.SandboxPackageInvalid"


class PolicyWritable(SandboxError):
    """The function could write to its own bundle and so choose the policy of its next start."""

    exit_code = 80
    error_type = "Runtime.SandboxPolicyWritable"


class VerificationFailed(SandboxError):
    """A profile does not serve the events that it was learned from; it was written with what disagreed."""

    exit_code = 81
    error_type = "Runtime.SandboxVerificationFailed"


class DiskFull(SandboxError):
    """A file system has no room left, or the user's quota is used up; nothing half-written was left."""

    exit_code = 82
    error_type = "Runtime.SandboxDiskFull"


class LimitReached(SandboxError):
    """The host gives this user no further process, thread, descriptor or memory."""

    exit_code = 83
    error_type = "Runtime.SandboxLimitReached"


class CommandKilled(SandboxError):
    """A signal that nobody can handle ended the command; what it had started was ended and removed after it."""

    exit_code = 84
    error_type = "Runtime.SandboxCommandKilled"


class DeciderLost(SandboxError):
    """The process that decides about a function's calls died or stalled; the function was ended with it."""

    exit_code = 85
    error_type = "Runtime.SandboxDeciderLost"


class ExtraMissing(SandboxError):
    """A command needs a library that an extra of this package brings, which is not installed."""

    exit_code = 86
    error_type = "Runtime.SandboxExtraMissing"

FULL = (errno.ENOSPC, errno.EDQUOT)
LIMITS = {
    errno.EMFILE: ("this process may open no more files", "raise `ulimit -n`"),
    errno.ENFILE: ("this host opens no more files", "raise fs.file-max, or close some"),
    errno.EAGAIN: ("this user may start no more processes or threads", "raise `ulimit -u` or pids.max, or end some"),
    errno.ENOMEM: ("out of memory", "free some, or raise the memory limit"),
}


def shortage(error: BaseException) -> SandboxError | None:
    """What an error is about where the host is at a limit or a disk is full; None for any other."""
    for cause in (error, *causes(error)):
        number = _number(cause)
        if number in FULL:
            file = cause.filename if isinstance(cause, OSError) else None
            where = str(file) if file else getattr(error, "where", "")
            return DiskFull(os.strerror(number), where=where, todo="make room, or choose another --output or TMPDIR")
        if number in LIMITS:
            what, todo = LIMITS[number]
            return LimitReached(what, where=getattr(error, "where", ""), todo=todo)
    return None


def missing_extra(library: str, extra: str, error: ImportError, *, more: str = "") -> ExtraMissing:
    """The error for a library that cannot be loaded: what it is for, the extra of pyproject.toml that brings it, what
    the import said, and what more there is to install.
    """
    todo = f"pip install 'seccomp-bootstrap[{extra}]'"
    return ExtraMissing(f"cannot be loaded: {error}", where=library, todo=f"{todo}; {more}" if more else todo)


def limit_of(error_type: str, exit_status: int | None) -> LimitReached | None:
    """The limit that kept a function from starting, from what its start reported or ended with; None for no limit."""
    if error_type == LimitReached.error_type or exit_status == LimitReached.exit_code:
        what = "the function could not start: a limit of this host is reached"
        todo = "raise `ulimit -n`, `ulimit -u` or pids.max; its log says which"
        return LimitReached(what, where="bootstrap", todo=todo)
    return None


def _number(error: BaseException) -> int:
    """The errno that an exception stands for, 0 for none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, RuntimeError):
        return errno.EAGAIN if "can't start new thread" in str(error) else 0
    # EAGAIN of a write to a pipe that does not wait is not a limit; such an error says how much was written.
    return error.errno or 0 if isinstance(error, OSError) and not hasattr(error, "characters_written") else 0
