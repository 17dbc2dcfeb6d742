"""Celery's worker in this process: what must be there before it starts, and the exit code with which it ends.

What only a person can repair is found before the start and said in a sentence: Celery would log a traceback. What ends
by itself (a broker that is away) is left to Celery, which waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import billiard
from celery.bin.celery import celery
from celery.exceptions import ImproperlyConfigured
from celery.signals import worker_shutting_down

from insend_relay.outbox.errors import RelayError, SettingsError
from insend_relay.outbox.settings import Settings

EX_FAILURE = 1  # Celery's own, for an unrecoverable error
_MODULE = "insend_relay.worker.app"


def check_semaphores(settings: Settings) -> None:
    """SettingsError when the prefork pool's processes cannot share locks here: no /dev/shm, or a read-only one."""
    if settings.pool != "prefork":
        return
    try:
        billiard.Lock()
    except (OSError, ImportError) as error:  # ImportError: a Python that was built without semaphores
        why = getattr(error, "strerror", None) or error
        text = f"prefork needs a writable /dev/shm ({why}): mount a tmpfs there, or set threads or gevent"
        raise SettingsError([f"INSEND_POOL: {text}"]) from error


def run(arguments: Sequence[str]) -> int:
    """Run ``celery worker`` until it ends; its exit code.

    Celery's ``worker_main`` drops the code: a pid file that is taken, or a pool that cannot start, would end with 0.
    A warm shutdown ends with 0 whichever signal began it; Celery's own code is 1 after Ctrl-C.

    Raises:
        RelayError: Celery refuses its options.
    """
    shutdowns: list[str] = []

    def note(how: str, **_: object) -> None:
        shutdowns.append(how)

    worker_shutting_down.connect(note, weak=False)
    try:
        code = celery.main(args=["--app", _MODULE, *arguments], standalone_mode=False)
    except ImproperlyConfigured as error:
        raise RelayError(f"Celery refuses its options: {error}") from error
    finally:
        worker_shutting_down.disconnect(note)
    if set(shutdowns) == {"Warm"}:
        return 0
    return EX_FAILURE if code is None else int(code)  # None: it was ended at once, as without a file to open
