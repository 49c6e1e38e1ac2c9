"""The shell scripts that platforms start: they choose the launcher of the machine without starting a process.

Only built-ins of a POSIX shell run before the exec. The architecture stands in /proc/cpuinfo: what `uname -m` says
would cost a fork, and a dynamic loader's name says which C library there is rather than which processor.
"""

from __future__ import annotations

from sandbox.package.contents import policy_folder

NO_GUARD = 69
"""The exit status when nothing can confine the function (sandbox/errors.py: InstallRefused)."""

_HEAD = """#!/bin/sh
# Starts the function under its policy. Made by `sandbox package`; what it calls lies in the folder {guard}.
case $0 in
/*) own=$0 ;;
*) own=$PWD/$0 ;;
esac
"""

_GUARD = """
export SANDBOX_POLICY="${{SANDBOX_POLICY:-$guard/{policy}}}"
arch=
while IFS= read -r line; do
    case $line in
    vendor_id*) arch=x86_64 && break ;;
    "CPU implementer"*) arch=aarch64 && break ;;
    esac
done < /proc/cpuinfo
if [ -x "$guard/launcher.$arch" ]; then
    exec "$guard/launcher.$arch" {command}
elif [ -n "$arch" ] && [ -e "$guard/launcher.$arch" ]; then
    echo "sandbox: $guard/launcher.$arch lost its execute bit, or is not ours to execute: Python starts the function" \\
        "more slowly; unpack the package with its modes (unzip does, Python's zipfile does not)" >&2
fi
python=${{SANDBOX_PYTHON:-}}
case ${{1##*/}} in
python3*) python=${{python:-$1}} ;;
esac
if [ -z "$python" ]; then
    python=$(command -v python3) || {{
        echo "sandbox: Runtime.SandboxInstallRefused: no launcher for ${{arch:-this machine}} and no python3:" \\
            "the function is not started without its policy" >&2
        exit {no_guard}
    }}
fi
[ -r "$guard/bootstrap" ] || {{
    echo "sandbox: Runtime.SandboxInstallRefused: neither a launcher for ${{arch:-this machine}} nor a bootstrap is" \\
        "in $guard: the function is not started without its policy; package it again" >&2
    exit {no_guard}
}}
exec "$python" -B -I -S "$guard/bootstrap" {command}
"""


def wrapper(*, shared: bool = False) -> bytes:
    """The exec wrapper or ENTRYPOINT inside the guard folder: its arguments are the command.

    In a package that several functions share, each has its policy by the name that the platform gives it.
    """
    # Another wrapper that wants to be first (SANDBOX_NEXT_WRAPPER) gets this one as its command.
    here = "guard=${own%/*}\nexport SANDBOX_ENTRY=$own\n"
    policy = policy_folder("${AWS_LAMBDA_FUNCTION_NAME:-}" if shared else "")
    text = _HEAD.format(guard="of this file") + here + _GUARD.format(policy=policy, command='"$@"', no_guard=NO_GUARD)
    return text.encode()


def runtime(folder: str, handler: str) -> bytes:
    """The `bootstrap` of a custom runtime: the guard folder and the runtime's own program lie beside it."""
    here = f'here=${{own%/*}}\nguard=$here/{folder}\nset -- "$here/{handler}" "$@"\n'
    guard = _GUARD.format(policy=policy_folder(""), command='"$@"', no_guard=NO_GUARD)
    text = _HEAD.format(guard=folder) + here + guard
    return text.encode()
