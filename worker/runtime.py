"""What a worker's processes have: the outbox, the delivery, the wish to stop, and how a hint is published.

A pool process is a fork of the main one, and neither connections nor locks may cross a fork: each process makes its own
state on first use. The main process's SIGTERM is told to all of them (``stop.Everyone``). A supervisor that signals the
whole group would kill a pool process in the middle of its POSTs; while it delivers, it takes the signal as the wish to
stop instead.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator

import gevent.util
from billiard import current_process
from celery import Celery
from gevent import monkey

from insend_relay.outbox.connection import connect
from insend_relay.outbox.process import PerProcess
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.spool.flush import Flusher
from insend_relay.spool.spool import Spool
from insend_relay.worker.delivery import Delivery
from insend_relay.worker.health import Door, Health
from insend_relay.worker.progress import Progress
from insend_relay.worker.stop import Everyone, Stop
from insend_relay.worker.systemd import Watchdog, notify, watchdog_seconds

logger = logging.getLogger(__name__)

EX_SOFTWARE = 70  # sysexits.h
LAST_SECONDS = 4.0
LOOK_SECONDS = 0.5
LAST_WORDS_SECONDS = 1.0
HINT_MS = 500  # within which nobody publishes a second hint


class Process:
    """The state of one process, never carried across a fork.

    Args:
        app: The Celery application.
        settings: The numbers.
        everyone: The wish to stop that all processes of the worker share.
        progress: Where all processes of the worker stamp their progress.
    """

    def __init__(self, app: Celery, settings: Settings, everyone: Everyone, progress: Progress) -> None:
        self.settings = settings
        self.stop = Stop(settings.stop_seconds, everyone)
        client = connect(settings.redis_url, connections=8)
        self.outbox = Outbox(client, namespace=settings.namespace, outage_over=_say_resumed)
        self.delivery = Delivery(self.outbox, settings, self.stop, progress.delivery(_pool_index()))
        self._app = app

    def publish(self) -> None:
        """Publish one hint. Raises what the broker's library raises."""
        self._app.send_task("worker.deliver", retry=False)

    def publish_replay(self, run_id: str, turn: int) -> None:
        """Publish the message that leads a replay run on; raises as ``publish`` does."""
        self._app.send_task("worker.replay", args=[run_id, turn], retry=False)


def _pool_index() -> int | None:
    """The number of this process in its pool; None in the main process."""
    return getattr(current_process(), "index", None)


def _say_what_holds_it_up(seconds: float) -> None:
    logger.critical("stopping took longer than %g s: leaving with code %d; its threads are at:", seconds, EX_SOFTWARE)
    faulthandler.dump_traceback()
    if monkey.is_module_patched("threading"):  # then Celery and its tasks run in greenlets
        gevent.util.print_run_info(thread_stacks=False)


def _say_resumed(app: str) -> None:
    logger.warning("app %s: the tracker takes events again", app, extra={"subject": app})


class Runtime:
    """One worker, in whichever of its processes it is asked.

    Args:
        app: The Celery application.
        settings: The numbers.
    """

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self.exit_code = 0
        self._everyone = Everyone()
        self.progress = Progress()
        self._processes = PerProcess(lambda _: self._new_process(), scope=os.getpid)

    def process(self) -> Process:
        """The state of the process that asks."""
        return self._processes.get()

    def _new_process(self) -> Process:
        return Process(self._app, self._settings, self._everyone, self.progress)

    def health(self) -> Health:
        """How this worker is; asked in its main process."""
        return Health(
            pid=os.getpid(),
            stopping=bool(self._everyone.asked_at),
            pump_seconds=self.progress.pump_seconds,
            delivery_seconds=self.progress.delivery_seconds(),
        )

    def show_health(self) -> None:
        """The worker has started: from now on it answers ``insend health``, and systemd gets signs of life."""
        Door(self._settings.namespace, self.health).open()
        notify("READY=1")
        if seconds := watchdog_seconds():
            Watchdog(seconds, self.health).start()

    def stop(self) -> None:
        """The worker shuts down, all of its processes. Safe in a signal handler."""
        self._everyone.ask()

    def watch_stop(self) -> None:
        """End the process, and with it its pool's, when it outlives its grace period by far; for a thread of its own.

        Whatever still holds it up then (a Redis that hangs) has nothing more to save: leases end by themselves, and
        the next claim marks what may have been sent. The log says where each thread was.
        """
        longest = self._settings.stop_seconds + LAST_SECONDS
        while not self._everyone.asked_at or time.monotonic() - self._everyone.asked_at < longest:
            time.sleep(LOOK_SECONDS)
        saying = threading.Thread(target=_say_what_holds_it_up, args=(longest,), daemon=True)
        saying.start()
        saying.join(LAST_WORDS_SECONDS)  # writing the log may hang, too
        os._exit(EX_SOFTWARE)

    def flush_spool(self) -> None:
        """Move on what producers of this machine have put into the spool, if the settings name one."""
        spool = Spool.of(self._settings)
        if spool is not None:
            Flusher(self._settings, spool, for_ever=True).wake()

    def fail(self) -> None:
        """The worker shuts down because it cannot do its work: its supervisor is to see that."""
        self.exit_code = EX_SOFTWARE
        self.stop()

    def finish(self) -> None:
        """This process ends: what it is posting may end first."""
        if (process := self._processes.peek()) is not None:
            process.delivery.finish()

    def end_pool_process(self) -> None:
        """A pool process ends. When the whole worker does, it waits for nothing more: billiard would sleep a second."""
        self.finish()
        if self._everyone.asked_at:
            os._exit(0)

    @contextlib.contextmanager
    def signals_stop(self) -> Iterator[Process]:
        """While a pool process delivers, SIGTERM asks it to stop instead of killing it."""
        process = self.process()
        if current_process()._name == "MainProcess":  # noqa: SLF001 - the way Celery itself tells them apart
            yield process
            return
        before = signal.signal(signal.SIGTERM, lambda *_: process.stop.ask())
        try:
            yield process
        finally:
            signal.signal(signal.SIGTERM, before)
            process.stop.clear()
