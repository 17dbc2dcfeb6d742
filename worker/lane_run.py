"""One lane in one greenlet: check its head, POST it, judge the answer, acknowledge; then the next head.

Each head ends in exactly one acknowledgement: ``settle`` (200), ``fail`` (anything else), ``bury`` (unreadable, or it
crashes workers) or ``release`` (untried). What an answer means is decided by pure functions (``outcome``, ``policy``,
``attempt``).
"""

from __future__ import annotations

import contextlib
import logging
import time

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.errors import OutboxError
from insend_relay.outbox.failed_attempt import FailedAttempt, FailReply
from insend_relay.outbox.record import Record
from insend_relay.worker.attempt import burial_of, failed_attempt
from insend_relay.worker.context import Context
from insend_relay.worker.event_log import log_burial, log_if_failing, name_of
from insend_relay.worker.head import Unsendable, check
from insend_relay.worker.held_lease import HeldLease
from insend_relay.worker.limiter import Slot
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.redial import MAX_SECONDS

logger = logging.getLogger(__name__)

MARGIN_SECONDS = 2.0  # what the acknowledgement may take, of the lease


class LaneRun:
    """Works on one claimed lane until it is empty, failing, or no longer held.

    Args:
        context: What to work with.
        claim: The lane.
        claimed_at: When it was claimed, on the monotonic clock; before Redis was asked.
        slot: For the first POST.

    Attributes:
        failed: Whether an attempt has failed, so that the lane may come due by itself.
    """

    __slots__ = ("_claim", "_context", "_delivered", "_lease", "_slot", "failed")

    def __init__(self, context: Context, claim: Claim, claimed_at: float, slot: Slot) -> None:
        self._context = context
        self._claim = claim
        self._slot = slot
        self.failed = False
        self._delivered: dict[bytes, Claim] = {}  # event id -> its claim, in order
        self._lease = HeldLease(claim, claimed_at, context.settings.lease_seconds, context.stop)

    def run(self) -> None:
        """Deliver event by event. Raises nothing: an outcome that cannot be written is settled by the lease's end."""
        claim, slot = self._claim, self._slot
        while True:
            with slot:
                following = self._deliver_or_log(claim, slot)
            if following is None:
                return
            if following.id in self._delivered:
                self._mark_from(following)
                return
            if following is not claim:
                self._lease.renew()
            claim, slot = following, self._context.limiter.slot()

    def _deliver_or_log(self, claim: Claim, slot: Slot) -> Claim | None:
        try:
            return self._deliver(claim, slot)
        except OutboxError as error:
            text = "event %s: its outcome is not written down (%s); its lease ends by itself"
            logger.warning(text, name_of(claim), error)
        except Exception:
            logger.exception("event %s: a defect of the relay; its lane waits for the end of its lease", name_of(claim))
        return None

    def _deliver(self, claim: Claim, slot: Slot) -> Claim | None:
        """One attempt on a head; returns what is to be sent next in this lane."""
        head = check(claim, self._context.settings.abandoned_starts)
        if isinstance(head, Unsendable):
            return self._bury(claim, head)
        event, body = head
        if not self._may_post(claim):
            return self._release(claim)

        posted_at = time.monotonic()
        outcome = self._context.tracker.post(body, fresh=claim.probe)
        post_ms = round((time.monotonic() - posted_at) * 1000)
        if outcome.delivered:
            slot.success()
            return self._settle(claim, post_ms)

        _judge(outcome, slot)
        if outcome.was_cut or outcome.open_connections:
            return self._not_failed(claim, outcome)
        return self._fail(claim, event, outcome)

    def _may_post(self, claim: Claim) -> bool:
        """Whether there is still time for a POST, now that there is a slot for it."""
        context, lease = self._context, self._lease
        if context.time_slice.over or context.pauses.hold(claim, lease.began_at):
            return False
        if context.quarantine.in_turn and not claim.quarantined:
            return False
        return lease.left_seconds >= context.settings.post_timeout_seconds + MARGIN_SECONDS

    def _settle(self, claim: Claim, post_ms: int) -> Claim | None:
        self._context.pauses.end(claim)
        lease_ms = self._next_lease_ms()
        following = self._lease.write(lambda: self._context.settling.settle(claim, lease_ms=lease_ms, post_ms=post_ms))
        if following is not None:
            self._delivered[claim.id] = claim
        return following

    def _mark_from(self, again: Claim) -> None:
        """Redis was set back (a failover, an old file) and gives out again what it had taken for delivered.

        The lane is given back, with a mark on each of its events that will be sent again.
        """
        delivered = list(self._delivered.values())
        first = next(at for at, claim in enumerate(delivered) if claim.id == again.id)
        logger.warning("event %s: Redis has been set back; what it had settled is sent again", name_of(again))
        with contextlib.suppress(OutboxError):  # else the next claim marks the first of them
            for claim in reversed(delivered[first:]):  # the head last: that ends the lease
                self._context.outbox.release(claim, duplicate=True)

    def _bury(self, claim: Claim, why: Unsendable) -> Claim | None:
        starts = claim.attempts().starts
        burial = burial_of(claim, why.outcome, why.reason, attempts=starts, lease_ms=self._next_lease_ms())
        buried = self._lease.write(
            lambda: self._context.outbox.bury(
                claim, type=burial.type, reason=burial.reason, meta=burial.meta, lease_ms=burial.lease_ms
            )
        )
        if buried.held:
            log_burial(claim, burial)
        return buried.following

    def _release(self, claim: Claim, *, duplicate: bool = False) -> Claim | None:
        self._lease.write(lambda: self._context.outbox.release(claim, duplicate=duplicate))
        return None

    def _not_failed(self, claim: Claim, outcome: Outcome) -> Claim | None:
        """The POST was cut at shutdown, or got no connection: then its event waits for one of those that are open."""
        if outcome.open_connections and not outcome.doubtful:
            return claim
        return self._release(claim, duplicate=outcome.doubtful)

    def _fail(self, claim: Claim, event: Record, outcome: Outcome) -> Claim | None:
        self.failed = True
        now_ms, lease_ms = self._lease.now_ms, self._next_lease_ms()
        attempt = failed_attempt(self._context, claim, event, outcome, now_ms=now_ms, lease_ms=lease_ms)
        reply = self._lease.write(lambda: self._context.outbox.fail(claim, attempt))
        if reply.until_ms:
            self._learn_of_pause(claim, attempt, reply)
        if reply.result == "ELSEWHERE":
            self._leave_to_others(outcome)
        elif attempt.burial and reply.result in {"BURIED", "ALREADY"}:  # ALREADY: an earlier answer was lost
            log_burial(claim, attempt.burial)
        elif reply.result in {"RETRIED", "NOT_COUNTED"}:
            log_if_failing(claim, attempt, counts=reply.counts)
        return reply.following

    def _learn_of_pause(self, claim: Claim, attempt: FailedAttempt, reply: FailReply) -> None:
        pauses = self._context.pauses
        pauses.pause(claim.app, (reply.until_ms - self._lease.now_ms) / 1000)
        if reply.began or claim.probe:  # else it was sent before the pause began
            pauses.log(claim.app, attempt.fault, attempt.reason, began=reply.began)

    def _leave_to_others(self, outcome: Outcome) -> None:
        """Other processes have all connections: send them the events, and try to get one with one event at a time."""
        self._context.limiter.cap(0)
        if self._context.tracker.redial.others_deliver():
            logger.warning(
                "this process gets no connection to the tracker (%s) while other processes deliver: it leaves the "
                "events to them and tries one connection every %.0f s",
                outcome.answer,
                MAX_SECONDS,
            )

    def _next_lease_ms(self) -> int:
        """The lease for the lane's next event; 0 when the lane is to be given back."""
        context = self._context
        gives_back = context.time_slice.over or context.limiter.exceeded or context.quarantine.in_turn
        return 0 if gives_back else self._lease.whole_ms


def _judge(outcome: Outcome, slot: Slot) -> None:
    """What a failed attempt says of how many POSTs may be in flight."""
    if outcome.open_connections:
        slot.no_connection(outcome.open_connections)
    elif outcome.too_much:
        slot.dropped()
    elif outcome.kind == "answered":
        slot.answered()
    else:
        slot.ignored()
