"""A fork in C, as uWSGI does it: Python's fork hooks do not run."""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable

from waiting import PATIENCE_SECONDS

_libc = ctypes.PyDLL(None)  # holds the interpreter's lock, as os.fork does


def fork(run: Callable[[], object]) -> int:
    """Run something in a forked child, which then ends; returns the child's process id."""
    child: int = _libc.fork()
    if not child:  # pragma: no cover - coverage does not follow
        code = 1
        try:
            signal.alarm(int(PATIENCE_SECONDS))
            run()
            code = 0
        except BaseException:  # noqa: BLE001 - it must never return into the parent's stack
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    """The exit code of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
