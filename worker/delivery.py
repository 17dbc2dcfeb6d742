"""Delivers what may be claimed, on many lanes at once: the work behind one hint.

One thread claims, as many lanes as there are free slots; each lane is worked on by a thread of a pool (under gevent
these are greenlets). While there is room it looks again every few milliseconds, so that a hint is only needed when
nobody delivers; after a slice of time, or when there is nothing to do, it ends, so that Celery gets its word in.

An event whose worker has died twice is sent with nothing beside it (``claim.lua`` says why): to make room for it no
further lane is begun and those under way are given back after their event, unless another process takes it meanwhile;
and while it is under way nothing is claimed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Claims, Outbox
from insend_relay.worker.lane_run import LaneRun, Workshop
from insend_relay.worker.policy import Policy, guard_of
from insend_relay.worker.stop import Stop
from insend_relay.worker.tracker import Tracker

LOOK_SECONDS = 0.01  # between two looks while there is room: what an event waits at most when somebody delivers
MAKE_ROOM_SECONDS = 0.1  # between two looks whether it still has to; each takes the hint back
LINGER_SECONDS = 0.25  # it goes on looking this long after the last work: a hint for every event would cost more
SLICE_SECONDS = 20.0  # after this it ends, and another hint begins the next slice


class Delivery:
    """What a process needs to deliver; made once, used for every hint.

    Args:
        outbox: Where events come from.
        settings: The numbers.
        stop: The wish to stop.
        call_for_help: Called once a slice, when all slots are taken: others may be free.
    """

    def __init__(
        self, outbox: Outbox, settings: Settings, stop: Stop, call_for_help: Callable[[], None] = lambda: None
    ) -> None:
        self.stop = stop
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self._outbox = outbox
        self._settings = settings
        self._tracker = Tracker(
            settings.tracker_url, timeout_seconds=settings.post_timeout_seconds, connections=settings.concurrency
        )
        self._call_for_help = call_for_help
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="insend-lane")
        self._under_way: set[Future[None]] = set()
        self._token = secrets.token_hex(4)  # containers may share host name and process ids
        self._claims = itertools.count(1)
        self._unheard: list[str] = []  # claims whose answer never came
        self._alone = False  # an event is under way that must have nothing beside it
        self._makes_room = False  # such an event waits until nothing is under way here, unless another process takes it
        self._asks_again_at = 0.0
        self._running = threading.Lock()
        self._slice_ends = 0.0
        self._layout_known = False
        self._workshop = Workshop(
            outbox,
            self._tracker,
            Policy(settings),
            guard_of(settings),
            settings,
            go_on=self._go_on,
            must_go=self._must_go,
            gives_way=lambda: self._alone or self._makes_room,
        )

    @property
    def running(self) -> bool:
        """Whether somebody in this process delivers at this moment."""
        return self._running.locked()

    def run(self, slice_seconds: float = SLICE_SECONDS) -> bool:
        """Deliver until there is nothing to claim, the slice is over, or the process is to stop.

        POSTs that are still under way when the slice ends go on by themselves; the next slice counts them as its own,
        so that one slow answer holds up nobody else.

        Returns:
            Whether there may be more to do: the slice ended while there was work. False as well when somebody in this
            process delivers already.

        Raises:
            OutboxError: Redis cannot be asked for lanes, or a newer release has laid it out (NewerLayout).
        """
        if not self._running.acquire(blocking=False):
            return False
        try:
            self._slice_ends = time.monotonic() + slice_seconds
            return self._run()
        finally:
            if self.stop.asked:
                self._drain()
            self._running.release()

    def _run(self) -> bool:
        if not self._layout_known:
            self._outbox.check_layout()
            self._layout_known = True
        busy_at = time.monotonic()
        helped = False
        while self._go_on():
            if not self._under_way:
                self._alone = self._makes_room = False
            claimed_at = time.monotonic()
            waits = self._alone or (self._makes_room and claimed_at < self._asks_again_at)
            room = 0 if waits else self._settings.concurrency - len(self._under_way)
            last = not self._under_way and claimed_at - busy_at > LINGER_SECONDS
            claims = self._claim(room, last=last) if room else Claims()
            if room:
                self._alone, self._makes_room = claims.alone, claims.make_room
                self._asks_again_at = claimed_at + MAKE_ROOM_SECONDS
            if last and not claims:
                return False
            for claim in claims:
                self._under_way.add(self._threads.submit(LaneRun(self._workshop, claim, claimed_at).run))
            if self._under_way:
                busy_at = time.monotonic()
            if not helped and (self._alone or self._makes_room or len(self._under_way) >= self._settings.concurrency):
                helped = True
                with contextlib.suppress(OutboxError):
                    self._call_for_help()
            self._some_done()
        return not self.stop.asked

    def _claim(self, room: int, *, last: bool) -> Claims:
        """``last`` takes the hint back in the same step that finds nothing: whoever appends next is heard."""
        while self._unheard:
            self._outbox.unclaim(self._unheard[-1])
            self._unheard.pop()
        lease_ms = round(self._settings.lease_seconds * 1000)
        linger_ms = 0 if last else round(LINGER_SECONDS * 1000)
        name = f"{self.worker}#{self._token}.{next(self._claims)}"
        try:
            return self._outbox.claim(name, room, lease_ms=lease_ms, linger_ms=linger_ms, alone=not self._under_way)
        except OutboxUnreachable as error:
            if error.unknown:  # it may have leased lanes that we do not know of
                self._unheard.append(name)
            raise

    def _some_done(self) -> None:
        """Wait a moment, or until a slot is free."""
        if not self._under_way:
            time.sleep(LOOK_SECONDS)
            return
        full = len(self._under_way) >= self._settings.concurrency
        _, self._under_way = wait(self._under_way, LOOK_SECONDS * (5 if full else 1), FIRST_COMPLETED)

    def finish(self) -> None:
        """The process ends: nothing can be delivered after this."""
        self.stop.ask()
        with self._running:  # whoever delivers in another thread ends now, and drains first
            self._drain()
            self._threads.shutdown()
            self._tracker.close()

    def _drain(self) -> None:
        """Let the POSTs under way end, and cut them when the process can wait no longer."""
        while self._under_way:
            _, self._under_way = wait(self._under_way, 0.05)
            if self.stop.overdue:
                self._tracker.cut()

    def _go_on(self) -> bool:
        return not self.stop.asked and time.monotonic() < self._slice_ends

    def _must_go(self) -> bool:
        return self.stop.overdue
