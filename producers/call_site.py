"""Where in the application a call was made, and a warning once for each such place."""

from __future__ import annotations

import logging
import sys

_PACKAGE = __name__.partition(".")[0]
_MAX_SITES = 1_000  # of which one process remembers that it has warned

_log = logging.getLogger("insend_relay.producers")
_warned: dict[str, object] = {}


def call_site() -> str:
    """``file:line`` of the innermost frame outside of this package."""
    frame = sys._getframe(1)  # noqa: SLF001 - as logging and warnings do; inspect.stack reads source files
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def warn_once(site: str, problem: str) -> None:
    """Log a warning about a place in the application, at its first time in this process.

    There is no lock: a call may come from a signal handler or ``__del__`` in the middle of another one.
    """
    if len(_warned) >= _MAX_SITES:
        _warned.clear()  # code that is made at run time has any number of places
    mine = object()
    if _warned.setdefault(site, mine) is mine:
        _log.warning("%s: %s", site, problem)
