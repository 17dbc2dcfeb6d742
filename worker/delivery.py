"""Delivers what may be claimed, on many lanes at once: the work behind one hint.

One greenlet claims (``claim_loop``) and one works on each lane (``lane_run``). All of them live in one thread
(``green_thread``) and share one connection to Redis (``pipeline``). A delivery ends after a slice of time, or when
there is nothing to do, so that Celery can run other tasks.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading

import gevent

from insend_relay.outbox.quarantine import QuarantineTurn
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker import descriptors
from insend_relay.worker.claim_loop import ClaimLoop
from insend_relay.worker.context import Context
from insend_relay.worker.green_thread import GreenThread
from insend_relay.worker.limiter import Limiter
from insend_relay.worker.pipeline import Pipeline
from insend_relay.worker.policy import Policy, breaker_limits
from insend_relay.worker.progress import Progress, Track
from insend_relay.worker.quarantine import Quarantine
from insend_relay.worker.settling import Settling
from insend_relay.worker.stop import Stop
from insend_relay.worker.time_slice import TimeSlice
from insend_relay.worker.tracker import Tracker

logger = logging.getLogger(__name__)

SLICE_SECONDS = 20.0  # after this it ends, and another hint begins the next slice
DRAIN_SECONDS = 0.05  # between two looks whether POSTs have to be cut
GARBAGE = 20_000  # objects between two collections: an event leaves none behind that counting references does not free
FILES = 64  # that a process has open besides its connections to the tracker


class Delivery:
    """What a process needs to deliver; made once, used for every hint.

    Args:
        outbox: Where events come from.
        settings: The numbers.
        stop: The stop request.
        track: Where it stamps its progress.
    """

    def __init__(self, outbox: Outbox, settings: Settings, stop: Stop, track: Track | None = None) -> None:
        self.stop = stop
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self._track = track or Progress().delivery(None)
        self._settings = settings
        self._outbox = outbox
        self._time_slice = TimeSlice(stop)
        most = _max_connections(settings.concurrency)
        self._limiter = Limiter(most)
        self._tracker = Tracker(settings.tracker_url, timeout_seconds=settings.post_timeout_seconds, connections=most)
        self._greenlets = GreenThread("insend-delivery")
        self._running = threading.Lock()
        self._finished = False
        self._loop: ClaimLoop | None = None

    @property
    def running(self) -> bool:
        """Whether this process delivers at this moment."""
        return self._running.locked()

    def run(self, slice_seconds: float = SLICE_SECONDS) -> bool:
        """Deliver until there is nothing to claim, the slice is over, or the process is to stop.

        POSTs that are in flight when the slice ends go on by themselves; the next slice counts them as its own, so that
        one slow answer holds up nothing else.

        Returns:
            Whether there may be more to do: the slice ended while there was work. False as well when this process
            delivers already, and after ``finish``.

        Raises:
            OutboxError: Redis cannot be asked for lanes, or a newer release has laid it out (NewerLayout).
        """
        if not self._running.acquire(blocking=False):
            return False
        if self._finished:  # Celery may begin a task that it had received before the worker was told to stop
            self._running.release()
            return False
        self._track.step()
        try:
            self._greenlets.start()
        except RuntimeError:  # no more threads
            self._track.idle()
            self._running.release()
            raise
        return self._greenlets.call(lambda: self._run(slice_seconds))

    def finish(self) -> None:
        """The process ends: nothing is delivered after this."""
        self.stop.ask()
        with self._running:  # a delivery in another thread ends now, and drains first
            self._finished = True
            if self._loop is not None:
                self._greenlets.call(self._close)
                self._greenlets.close()

    def _run(self, seconds: float) -> bool:
        """It goes on, and counts as running, even when its caller is called away (Celery's soft time limit, say)."""
        try:
            self._time_slice.begin(seconds)
            self._loop = self._loop or self._new_loop()
            return self._loop.run() and not self.stop.asked
        finally:
            if self.stop.asked:
                self._drain()
            self._track.idle()
            self._running.release()

    def _new_loop(self) -> ClaimLoop:
        """All that belongs to the greenlets' thread."""
        self._outbox.check_layout()
        gc.freeze()  # what is loaded by now will stay
        gc.set_threshold(GARBAGE)
        self._pipeline = Pipeline(self._outbox.redis)
        outbox = self._outbox.through(self._pipeline)
        context = Context(
            outbox,
            Settling(outbox),
            self._tracker,
            self._limiter,
            Policy(self._settings),
            breaker_limits(self._settings),
            self._settings,
            self.stop,
            self._time_slice,
            Quarantine(QuarantineTurn(outbox, self.worker)),
        )
        try:
            return ClaimLoop(context, self._outbox.redis, self.worker, self._track)
        except RuntimeError:  # no more threads
            self._pipeline.close()
            raise

    def _close(self) -> None:
        self._drain()
        self._tracker.close()
        if self._loop is not None:
            self._loop.close()
            self._pipeline.close()

    def _drain(self) -> None:
        """Let the POSTs in flight end, and cut them when the process can wait no longer."""
        while self._limiter.lanes:
            gevent.sleep(DRAIN_SECONDS)
            if self.stop.overdue:
                self._tracker.cut()


def _max_connections(wanted: int) -> int:
    """As many as wanted, or as the system allows a process to have open."""
    most = max(1, descriptors.enough_for(wanted + FILES) - FILES)
    if most < wanted:
        logger.warning(
            "this process may have no more than %d files open (ulimit -Hn), so it posts %d events at a time, "
            "not INSEND_CONCURRENCY=%d",
            most + FILES,
            most,
            wanted,
        )
    return most
