"""Claims lanes as there is room for them, begins a run on each, and waits for room or for work.

While it has room and nothing to claim, it lingers: an append calls it by the wake-up list (``wake_up``), so that its
event is claimed at once and no hint is needed. What comes due by itself (a retry, the end of a lease or of a pause) it
knows from its last claim.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence

import gevent.event

from insend_relay.outbox.claim import Claim, Claims
from insend_relay.outbox.connection import Executor
from insend_relay.outbox.errors import OutboxError
from insend_relay.worker.claimer import Claimer
from insend_relay.worker.context import Context
from insend_relay.worker.green_thread import Crew
from insend_relay.worker.lane_run import LaneRun
from insend_relay.worker.progress import Track
from insend_relay.worker.wake_up import WakeUp

logger = logging.getLogger(__name__)

LANES_AT_ONCE = 64  # of a claim: it takes about a millisecond, in which Redis serves nothing else
LINGER_SECONDS = 0.25  # after the last work: a hint for every event would cost more
LOOK_SECONDS = 0.01  # between two claims at least, while something is due that may not be claimed yet
STEP_SECONDS = 0.05  # between two looks at the stop request and at the clock; they cost nothing in Redis


class ClaimLoop:
    """The loop of one process; made and used in the greenlets' thread.

    Args:
        context: What the lanes are worked on with.
        redis: The client that waits for wake-up calls.
        worker: The process's name, ``HOST:PID``.
        track: Where it stamps its progress.
    """

    def __init__(self, context: Context, redis: Executor, worker: str, track: Track) -> None:
        self._context = context
        self._track = track
        self._claimer = Claimer(context.outbox, worker, context.settings.lease_seconds)
        self._crew = Crew(self._work_on)
        self._changed = gevent.event.Event()  # there may be room, or something to claim
        self._wake_up = WakeUp(redis, context.outbox, self._changed)
        self._busy_at = 0.0
        self._needs_room = False
        self._calls_others = True  # when there is no room: once, until this process has lingered again

    @property
    def lanes(self) -> int:
        """How many lanes are in flight."""
        return self._context.limiter.lanes

    def run(self) -> bool:
        """Claim until the time slice is over or there has been nothing to do for a while.

        Returns:
            Whether the slice was over first, so that there may be more to do.

        Raises:
            OutboxError: A claim has failed.
        """
        self._busy_at = time.monotonic()
        self._calls_others = True
        try:
            while not self._context.time_slice.over:
                self._track.step()
                if not self._step():
                    return False
        finally:
            self._wake_up.rest()
        self._call_others()
        return True

    def close(self) -> None:
        """End what waits for calls, and leave quarantine to other processes."""
        with contextlib.suppress(OutboxError):
            self._context.quarantine.leave()
        self._wake_up.close()

    def _step(self) -> bool:
        """One claim, and the wait after it; False when there is nothing more to do."""
        self._changed.clear()
        self._context.limiter.tick()
        now = time.monotonic()
        if now >= self._context.tracker.redial.at:
            self._claim_quarantined(now)
        room = self._room(now)
        self._needs_room = not room
        if not room:
            self._wait_for_room()
            return True
        last = not self.lanes and now - self._busy_at >= LINGER_SECONDS
        claims = self._claim(room, last=last)
        self._begin(claims, now)
        if len(claims) == room:
            return True
        if last and not claims:
            return False
        self._wait_for_work(claims)
        return True

    def _room(self, now: float) -> int:
        """How many lanes may be claimed now."""
        if self._context.quarantine.in_turn or now < self._context.tracker.redial.at:
            return 0
        return min(LANES_AT_ONCE, self._context.limiter.room)

    def _claim(self, room: int, *, last: bool) -> Claims:
        """``last`` ends the lingering in the same step that finds nothing: the next append calls a pump."""
        claims = self._claimer.claim(room, linger_seconds=0 if last else LINGER_SECONDS)
        self._context.quarantine.present = claims.quarantine
        if claims.newer:
            text = "a newer release wrote the next event of some visitors (%d): a worker of that release has to send it"
            logger.warning(text, claims.newer)
        return claims

    def _claim_quarantined(self, now: float) -> None:
        """Begin the next event from quarantine, if this process has the turn there or takes it."""
        quarantine = self._context.quarantine
        if not quarantine.may_claim(in_flight=self.lanes):
            return
        had_turn = quarantine.in_turn
        with self._claimer.token() as token:
            claim = quarantine.claim(in_flight=self.lanes, lease_ms=self._claimer.lease_ms, token=token)
        self._begin([claim] if claim else [], now)
        if quarantine.in_turn and not had_turn:
            self._calls_others = True

    def _begin(self, claims: Sequence[Claim], claimed_at: float) -> None:
        for claim in claims:
            self._crew.take(LaneRun(self._context, claim, claimed_at, self._context.limiter.slot()))
        if self.lanes:
            self._busy_at = time.monotonic()

    def _work_on(self, run: LaneRun) -> None:
        """A lane that is empty, or due at once, needs no claim: the outbox calls for what is due."""
        try:
            run.run()
        finally:
            self._busy_at = time.monotonic()
            if self._needs_room or run.failed:
                self._changed.set()

    def _wait_for_room(self) -> None:
        """Until a lane has ended; others are called, once, since there may be more than this process can take."""
        self._wake_up.rest()
        if self._calls_others:
            self._call_others()
        self._wait(STEP_SECONDS if self._context.limiter.full else LOOK_SECONDS)

    def _wait_for_work(self, claims: Claims) -> None:
        """Until an append has called, or something comes due by itself."""
        if claims.lingers:
            self._calls_others = True
            self._wake_up.listen()
        else:
            self._wake_up.rest()
        self._wait(max(LOOK_SECONDS, claims.quiet_ms / 1000))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._context.time_slice.over:
            if self._changed.wait(min(left, STEP_SECONDS)):
                return

    def _call_others(self) -> None:
        """Another process that lingers, or else a pump: there may be more than this one can take."""
        self._calls_others = False
        with contextlib.suppress(OutboxError):
            self._context.outbox.wake()
