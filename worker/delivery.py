"""Delivers what may be claimed, on many lanes at once: the work behind one hint.

One greenlet claims, as many lanes as there are permits left; each lane is worked on by a greenlet of its own. All of
them live in a thread of their own (``GreenThread``) and share a line to Redis (``Line``). While there is room it looks
again every few milliseconds, so that a hint is only needed when nobody delivers; after a slice of time, or when there
is nothing to do, it ends, so that Celery gets its word in.

An event that has crashed two workers is sent with nothing beside it: ``quarantine`` says when.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import gevent
import gevent.event

from insend_relay.outbox.claim import Claim, Claims
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.quarantine import QuarantineTurn
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.worker import descriptors
from insend_relay.worker.concurrency import Concurrency
from insend_relay.worker.green_thread import Crew, GreenThread
from insend_relay.worker.lane_run import LaneRun, Workshop
from insend_relay.worker.line import Line
from insend_relay.worker.permits import Permits
from insend_relay.worker.policy import Policy, breaker_limits
from insend_relay.worker.progress import Progress, Track
from insend_relay.worker.quarantine import Quarantine
from insend_relay.worker.settling import Settling
from insend_relay.worker.stop import Stop
from insend_relay.worker.tracker import Tracker

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.01  # between two looks while there is room: what an event waits at most when somebody delivers
AT_ONCE = 64  # lanes of a claim: it takes about a millisecond, in which Redis serves nobody else
LINGER_SECONDS = 0.25  # it goes on looking this long after the last work: a hint for every event would cost more
GARBAGE = 20_000  # objects between two collections: an event leaves none behind that counting references does not free
FILES = 64  # that a process has open besides its connections to the tracker
SLICE_SECONDS = 20.0  # after this it ends, and another hint begins the next slice


class Delivery:
    """What a process needs to deliver; made once, used for every hint.

    Args:
        outbox: Where events come from.
        settings: The numbers.
        stop: The wish to stop.
        track: Where it stamps its progress.
    """

    def __init__(self, outbox: Outbox, settings: Settings, stop: Stop, track: Track | None = None) -> None:
        self.stop = stop
        self._track = track or Progress().delivery(None)
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        self._settings = settings
        self._outbox = outbox
        most = _most_connections(settings.concurrency)
        self._tracker = Tracker(settings.tracker_url, timeout_seconds=settings.post_timeout_seconds, connections=most)
        self._greenlets = GreenThread("insend-delivery")
        self._line: Line | None = None
        self._concurrency = Concurrency(most)
        self._under_way = 0  # lanes
        self._lease_ms = round(settings.lease_seconds * 1000)
        self._unheard: list[bytes] = []  # the tokens of claims whose answer never came
        self._running = threading.Lock()
        self._slice_ends = 0.0
        self._layout_known = False

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
        self._track.step()
        try:
            self._greenlets.start()
        except RuntimeError:  # no more threads
            self._track.idle()
            self._running.release()
            raise
        return self._greenlets.call(lambda: self._slice(slice_seconds))

    def _slice(self, seconds: float) -> bool:
        """It goes on, and counts as running, though its caller be called away (Celery's soft time limit, say)."""
        try:
            if self._line is None:
                self._open_line()
            self._slice_ends = time.monotonic() + seconds
            return self._run()
        finally:
            if self.stop.asked:
                self._drain()
            self._track.idle()
            self._running.release()

    def _open_line(self) -> None:
        """All that belongs to the greenlets' thread."""
        gc.freeze()  # what is loaded by now will stay
        gc.set_threshold(GARBAGE)
        self._line = Line(self._outbox.redis)
        self._outbox = self._outbox.through(self._line)
        self._lane_ended = gevent.event.Event()
        self._crew = Crew(self._work_on)
        self._permits = Permits(self._concurrency)
        self._quarantine = Quarantine(QuarantineTurn(self._outbox, self.worker))
        self._workshop = Workshop(
            self._outbox,
            self._tracker,
            Settling(self._outbox),
            self._concurrency,
            self._permits,
            self._full,
            Policy(self._settings),
            breaker_limits(self._settings),
            self._settings,
            go_on=self._go_on,
            must_go=self._must_go,
            gives_way=self._gives_way,
            quarantine=self._quarantine,
        )

    def _run(self) -> bool:
        if not self._layout_known:
            self._outbox.check_layout()
            self._layout_known = True
        busy_at = time.monotonic()
        helped = False
        while self._go_on():
            self._track.step()
            self._lane_ended.clear()
            self._concurrency.look()
            claimed_at = time.monotonic()
            redials = claimed_at < self._tracker.redial.at
            waits = redials or self._quarantine.in_turn
            room = 0 if waits else self._room()
            last = not waits and not self._under_way and claimed_at - busy_at > LINGER_SECONDS
            claims = self._claim(room, last=last) if room else Claims()
            if room:
                self._quarantine.present = claims.quarantine
            self._begin(claims, claimed_at)
            if not redials and self._turn_at_quarantine():
                helped = False
            if last and not self._under_way and not self._quarantine.in_turn:
                return False
            if self._under_way:
                busy_at = time.monotonic()
            if not helped and (self._quarantine.in_turn or self._full()):
                helped = True
                with contextlib.suppress(OutboxError):
                    self._outbox.wake()  # others may be free
            if not room or len(claims) < room:
                self._some_done()
        return not self.stop.asked

    def _claim(self, room: int, *, last: bool) -> Claims:
        """``last`` takes the hint back in the same step that finds nothing: whoever appends next is heard."""
        linger_ms = 0 if last else round(LINGER_SECONDS * 1000)
        with self._claiming() as token:
            return self._outbox.claim(self.worker, room, token=token, lease_ms=self._lease_ms, linger_ms=linger_ms)

    def _turn_at_quarantine(self) -> bool:
        """Begin the next event from quarantine, if it is this process's turn; whether the turn begins."""
        had = self._quarantine.in_turn
        if not self._quarantine.may_claim(in_flight=self._under_way):
            return False
        claimed_at = time.monotonic()
        with self._claiming() as token:
            claim = self._quarantine.claim(in_flight=self._under_way, lease_ms=self._lease_ms, token=token)
        if claim is not None:
            self._begin([claim], claimed_at)
        return self._quarantine.in_turn and not had

    @contextlib.contextmanager
    def _claiming(self) -> Iterator[bytes]:
        """A token for a claim; should its answer not come, the next claim first gives back what this one leased."""
        while self._unheard:
            self._outbox.unclaim(self._unheard[-1])
            self._unheard.pop()
        token = new_token()
        try:
            yield token
        except OutboxUnreachable as error:
            if error.unknown:  # it may have leased lanes that we do not know of
                self._unheard.append(token)
            raise

    def _begin(self, claims: Sequence[Claim], claimed_at: float) -> None:
        self._under_way += len(claims)
        permitted = self._permits.take(len(claims))
        for number, claim in enumerate(claims):
            self._crew.take(LaneRun(self._workshop, claim, claimed_at, permitted=number < permitted))

    def _work_on(self, lane: LaneRun) -> None:
        try:
            lane.run()
        finally:
            self._under_way -= 1
            self._lane_ended.set()

    def _some_done(self) -> None:
        """Wait a moment, or until a lane has ended."""
        if not self._under_way:
            gevent.sleep(LOOK_SECONDS)
            return
        self._lane_ended.wait(LOOK_SECONDS * (5 if self._full() else 1))

    def finish(self) -> None:
        """The process ends: nothing can be delivered after this."""
        self.stop.ask()
        with self._running:  # whoever delivers in another thread ends now, and drains first
            if self._line is not None:
                self._greenlets.call(self._close)
                self._greenlets.close()

    def _close(self) -> None:
        self._drain()
        with contextlib.suppress(OutboxError):
            self._quarantine.leave()
        self._tracker.close()
        if self._line is not None:
            self._line.close()

    def _drain(self) -> None:
        """Let the POSTs under way end, and cut them when the process can wait no longer."""
        while self._under_way:
            self._lane_ended.clear()
            self._lane_ended.wait(0.05)
            if self.stop.overdue:
                self._tracker.cut()

    @property
    def _most(self) -> int:
        """Lanes under way: as many as may post at a time, and as many again whose last POST is being settled."""
        return 2 * self._concurrency.limit

    def _room(self) -> int:
        """How many lanes to claim."""
        return min(AT_ONCE, self._permits.left, max(0, self._most - self._under_way))

    def _full(self) -> bool:
        return self._permits.exhausted or self._under_way >= self._most

    def _gives_way(self) -> bool:
        return self._under_way > self._most

    def _go_on(self) -> bool:
        return not self.stop.asked and time.monotonic() < self._slice_ends

    def _must_go(self) -> bool:
        return self.stop.overdue


def _most_connections(wanted: int) -> int:
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
