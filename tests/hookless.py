"""Forks: in C, as uWSGI does it, so that Python's fork hooks do not run; and with the hooks."""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable

from waiting import PATIENCE_SECONDS

_libc = ctypes.PyDLL(None)  # holds the interpreter's lock, as os.fork does


def fork(run: Callable[[], object], *, hooks: bool = False) -> int:
    """Run something in a forked child, which then ends, with 1 after an exception; returns the child's process id."""
    child: int = os.fork() if hooks else _libc.fork()
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
