"""A child process that does not outlive us, however we end.

On Linux the kernel sends it SIGTERM when its parent dies (PR_SET_PDEATHSIG); elsewhere it ends only when it is told to.
The wish is made by a few lines of Python that then become the program, because code between fork and exec is not safe
in a process with threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_child(
    command: Sequence[str],
    output: IO[Any] | int,
    *,
    environ: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own: Ctrl-C in the terminal reaches us, and we end it in our order.

    Args:
        command: The program's path and its arguments.
        output: Where stdout and stderr go.
        environ: Its environment; ours when left out.
        keep_open: File descriptors that it inherits.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-c", _LAUNCH, str(os.getpid()), *command]
    return subprocess.Popen(  # noqa: S603 - the callers' own programs
        command, stdout=output, stderr=output, env=environ, start_new_session=True, pass_fds=tuple(keep_open)
    )
