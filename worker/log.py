"""What a worker's log shows: Celery's own lines where they help, and never more than a few a second."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from celery.exceptions import CDeprecationWarning, CPendingDeprecationWarning
from celery.signals import after_setup_logger, celeryd_after_setup, worker_process_shutdown, worker_shutdown

from insend_relay.worker.log_limit import Allowance, LogLimit

# Celery tells of each task received and done: a hint is not worth a line.
_QUIET = ("celery.worker.strategy", "celery.app.trace")


def connect_signals() -> None:
    """Have Celery's log set up as ours; pool processes inherit it by their fork."""
    after_setup_logger.connect(set_up)
    celeryd_after_setup.connect(ignore_notices)
    worker_process_shutdown.connect(flush)
    worker_shutdown.connect(flush)


def set_up(logger: logging.Logger, **_: Any) -> None:
    """Limit the handlers that Celery has just given to its logger."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    allowance = Allowance()
    for handler in logger.handlers:
        handler.addFilter(LogLimit(handler, allowance))


def ignore_notices(**_: Any) -> None:
    """Leave out Celery's deprecation notices, which it repeats at each reconnection; it has just asked for all of them.

    They are about defaults that change. Ours are set (``app.configuration``).
    """
    for category in (CDeprecationWarning, CPendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category)


def flush(**_: Any) -> None:
    """Write what was counted so far: this process ends."""
    for handler in logging.getLogger().handlers:
        for limit in handler.filters:
            if isinstance(limit, LogLimit):
                limit.flush()
