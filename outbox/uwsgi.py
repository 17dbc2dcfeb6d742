"""What is special about a process of uWSGI: it forks its workers in C, without Python's fork hooks.

Nothing is imported: uWSGI puts its module into ``sys.modules``, and an application may have a ``uwsgi.py`` of its own.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

_log = logging.getLogger("insend_relay.producers")
_warned: list[int] = []


def forks_workers() -> bool:
    """Whether this process may fork uWSGI's workers: its master, or the first process before it forks the others."""
    uwsgi = _uwsgi()
    return uwsgi is not None and uwsgi.worker_id() == 0 and not _has_other_work(uwsgi)


def _has_other_work(uwsgi: Any) -> bool:
    """Whether this process is a mule or a spooler, which are no workers either; older ones cannot say."""
    mule_id = getattr(uwsgi, "mule_id", None)
    is_spooler = getattr(uwsgi, "i_am_the_spooler", None)
    return bool((mule_id and mule_id()) or (is_spooler and is_spooler()))


def warn_without_threads() -> None:
    """Say once in the log that this uWSGI runs Python threads only while a request runs."""
    uwsgi = _uwsgi()
    if uwsgi is not None and not getattr(uwsgi, "has_threads", 1) and not _warned:
        _warned.append(1)
        _log.warning(
            "uWSGI runs threads only while it serves a request: set enable-threads = true, "
            "or the events in the spool wait for the next requests"
        )


def _uwsgi() -> Any:
    module = sys.modules.get("uwsgi")
    return module if hasattr(module, "masterpid") and hasattr(module, "worker_id") else None
