"""One lane in one greenlet: POST the head, write down how it ended, go on with the next, until the lane is given back.

What each outcome means is decided by pure functions (``outcome``, ``policy``); this module carries it out. Every step
that touches Redis is safe to repeat, so a Redis that is away for a moment is waited for, as long as the lease lasts.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import gevent
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential
from tenacity.stop import stop_base

from insend_relay.outbox import record
from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable
from insend_relay.outbox.failed_attempt import Burial, FailedAttempt, FailReply
from insend_relay.outbox.fault import Fault
from insend_relay.outbox.letter import letter_meta, type_of
from insend_relay.outbox.masking import mask_answer
from insend_relay.outbox.record import NotARecord, Record
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried
from insend_relay.worker.concurrency import Concurrency
from insend_relay.worker.form import form
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.permits import Permits
from insend_relay.worker.policy import Policy
from insend_relay.worker.quarantine import Quarantine
from insend_relay.worker.redial import MAX_SECONDS
from insend_relay.worker.settling import Settling
from insend_relay.worker.tracker import Tracker

logger = logging.getLogger(__name__)

T = TypeVar("T")
MARGIN_SECONDS = 2.0  # what writing down an outcome may take, of the lease
FAILING_SECONDS = 60.0  # an event that fails for so long is worth a line
FIRST_PAUSE_SECONDS = 0.05  # while Redis is away; it doubles
UNDECODABLE = "undecodable"
CRASHED = "crashed worker"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every lane run of a process works with.

    Attributes:
        outbox: Where events come from.
        tracker: Where they go.
        settling: How what they took leaves the outbox.
        concurrency: How many POSTs may be under way.
        permits: To each of them.
        full: Whether there is no room for more.
        policy: Whether and when to try again.
        limits: The circuit breaker's numbers.
        settings: All others.
        go_on: Whether to take a further event of a lane.
        must_go: Whether the process can wait for nothing any more.
        gives_way: Whether a lane is given back after its event, because too many lanes are in flight.
        quarantine: While it has its turn, nothing begins beside its event.
        pauses: App -> until when it is paused, on the monotonic clock, as far as we were told: for lanes that were
            claimed before that.
        faults: App -> what was wrong at its last pause or probe, as far as we were told.
    """

    outbox: Outbox
    tracker: Tracker
    settling: Settling
    concurrency: Concurrency
    permits: Permits
    full: Callable[[], bool]
    policy: Policy
    limits: BreakerLimits
    settings: Settings
    go_on: Callable[[], bool]
    must_go: Callable[[], bool]
    gives_way: Callable[[], bool]
    quarantine: Quarantine
    pauses: dict[str, float] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)


class LaneRun:
    """Works on one claimed lane until it is empty, failing, or not ours any more.

    Args:
        workshop: What to work with.
        claim: The lane.
        claimed_at: When it was claimed, on the monotonic clock; before asking Redis, to be on the safe side.
        permitted: Whether a permit was taken for it; else it asks for one.
    """

    def __init__(self, workshop: Workshop, claim: Claim, claimed_at: float, *, permitted: bool) -> None:
        self._shop = workshop
        self._clock = (claim.now_ms, claimed_at)
        self._lease_from = claimed_at
        self._next: Claim | None = claim
        self._permitted = permitted
        self._post_ms = 0

    def run(self) -> None:
        """Deliver event by event. Nothing is raised: what cannot be written down now, the end of the lease settles."""
        while (claim := self._next) is not None:
            self._next = None
            try:
                self._one(claim)
            except OutboxError as error:
                logger.warning(
                    "event %s: its outcome is not written down (%s); its lease ends by itself", _name(claim), error
                )
            except Exception:
                logger.exception(
                    "event %s: a defect of the relay; its lane waits for the end of its lease", _name(claim)
                )
        self._give_permit_back()

    def _one(self, claim: Claim) -> None:
        """One event's attempt, from the checks before it to its outcome in Redis."""
        settings = self._shop.settings
        try:
            event = record.decode(claim.data)
            body = form(claim.lane, event)
        except NotARecord as error:
            self._bury(claim, Outcome("refused", answer=str(error)), UNDECODABLE)
            return
        if claim.tried and claim.attempts().abandoned >= settings.abandoned_starts:
            self._bury(claim, Outcome("unknown", answer=CRASHED), CRASHED)
            return
        outcome = self._post(claim, body)
        if outcome is None:
            self._keep(lambda: self._shop.outbox.release(claim))
        elif outcome.delivered:
            self._shop.pauses.pop(claim.app, None)
            self._give_permit_back()
            lease_ms = self._renewed_lease_ms()
            self._next = self._keep(lambda: self._shop.settling.settle(claim, lease_ms=lease_ms, post_ms=self._post_ms))
        elif outcome.was_cut or outcome.open_connections:
            self._keep(lambda: self._shop.outbox.release(claim, duplicate=outcome.doubtful))
        else:
            self._failed(claim, event, outcome)

    def _post(self, claim: Claim, body: bytes) -> Outcome | None:
        """Send it, and learn from the answer how many may be sent at a time; None when it must not be sent now.

        A request that was not sent because no further connection could be opened waits for one of those that are open.
        That is no failed attempt.
        """
        shop = self._shop
        while True:
            if not self._permitted:
                shop.permits.acquire()
                self._permitted = True
                if time.monotonic() < shop.pauses.get(claim.app, 0):
                    return None
            if shop.quarantine.in_turn and not claim.quarantined:
                return None
            if not shop.go_on() or self._lease_rest() < shop.settings.post_timeout_seconds + MARGIN_SECONDS:
                return None
            call = shop.concurrency.begin(full=shop.full())
            began = time.monotonic()
            outcome = shop.tracker.post(body, fresh=claim.probe)
            self._post_ms = round((time.monotonic() - began) * 1000)
            if not outcome.open_connections:
                break
            shop.concurrency.no_more_connections(call, outcome.open_connections)
            if outcome.doubtful:
                return outcome
            self._give_permit_back()
        if outcome.too_much:
            shop.concurrency.was_too_much(call)
        elif outcome.kind == "answered":
            shop.concurrency.went_well(call, full=shop.full())
        else:
            shop.concurrency.told_nothing(call)
        return outcome

    def _give_permit_back(self) -> None:
        """After a 200 at once; else when the outcome is written, so that the breaker can hold back the next POST."""
        if self._permitted:
            self._permitted = False
            self._shop.permits.release()

    def _failed(self, claim: Claim, event: Record, outcome: Outcome) -> None:
        """Write the failed attempt down in one step, and go on as the outbox has decided."""
        attempt = self._attempt(claim, event, outcome)
        reply = self._keep(lambda: self._shop.outbox.fail(claim, attempt))
        if reply.result == "ELSEWHERE":
            self._leave_to_others(outcome)
        if reply.until_ms:
            self._shop.pauses[claim.app] = time.monotonic() + (reply.until_ms - self._now_ms()) / 1000
            self._log_pause(claim, attempt, reply)
        if attempt.burial and reply.result in {"BURIED", "ALREADY"}:  # ALREADY: the answer to an earlier call was lost
            _log_burial(claim, attempt.burial.type, attempt.burial.reason)
        elif reply.result in {"RETRIED", "NOT_COUNTED"}:
            _log_if_failing(claim, attempt, reply)
        self._next = reply.following

    def _attempt(self, claim: Claim, event: Record, outcome: Outcome) -> FailedAttempt:
        """The attempt as the outbox takes it: what it was, and what follows if it counts."""
        shop, settings = self._shop, self._shop.settings
        tried = self._tried(claim, outcome)
        decision = shop.policy.decide(
            outcome,
            attempts=tried.attempts,
            age_seconds=(tried.last_at_ms - event.accepted_at_ms) / 1000,
            tried_seconds=(tried.last_at_ms - tried.first_at_ms) / 1000,
        )
        asked_seconds = min(outcome.retry_after_seconds or 0, settings.retry_after_max_seconds)
        burial = None
        if decision.burial_reason:
            burial = self._burial(claim, outcome, decision.burial_reason, attempts=tried.attempts)
        return FailedAttempt(
            outcome.failure,
            _for_operators(outcome, event),
            tried,
            delay_ms=round(max(decision.delay_seconds, asked_seconds) * 1000),
            burial=burial,
            duplicate=outcome.doubtful,
            fault=outcome.fault,
            sent=outcome.kind != "refused",
            retry_after_ms=round(asked_seconds * 1000),
            unanswered_ms=round(1000 * shop.tracker.unanswered_seconds) if outcome.unconnected else 0,
            jitter=1 + random.uniform(0, settings.retry_jitter),  # noqa: S311 - no secret
            limits=shop.limits,
        )

    def _leave_to_others(self, outcome: Outcome) -> None:
        """The event goes to the processes that have a connection; try to get one with one event at a time."""
        self._shop.concurrency.keep_to(0)
        if self._shop.tracker.redial.others_deliver():
            logger.warning(
                "this process gets no connection to the tracker (%s) while other processes deliver: it leaves the "
                "events to them and tries one connection every %.0f s",
                outcome.answer,
                MAX_SECONDS,
            )

    def _log_pause(self, claim: Claim, attempt: FailedAttempt, reply: FailReply) -> None:
        """Log that a pause began, and when a probe then finds another fault: that may need a person."""
        if not reply.began and not claim.probe:  # sent before the pause began
            return
        app, about = claim.app, {"subject": claim.app}
        known = self._shop.faults.get(app, "passing")
        self._shop.faults[app] = attempt.fault
        if reply.began:
            text = "app %s: the tracker takes nothing (%s); paused, nothing is lost"
        elif attempt.fault != known:
            text = "app %s: still paused, and now the tracker answers: %s"
        else:
            return
        logger.warning(text, app, attempt.reason, extra=about)

    def _bury(self, claim: Claim, outcome: Outcome, reason: str) -> None:
        """Make the head a dead letter without an attempt, and go on with the lane."""
        letter = self._burial(claim, outcome, reason, attempts=claim.attempts().attempts)
        self._next = self._keep(
            lambda: self._shop.outbox.bury(
                claim, type=letter.type, reason=reason, meta=letter.meta, lease_ms=letter.lease_ms
            )
        )
        _log_burial(claim, letter.type, reason)

    def _burial(self, claim: Claim, outcome: Outcome, reason: str, *, attempts: int) -> Burial:
        """The dead letter that the head becomes, and for how long the lane is held on."""
        kind = type_of(claim.data)
        meta = letter_meta(
            app=claim.app,
            type=kind,
            reason=reason,
            outcome=outcome.kind,
            status=outcome.status,
            answer=outcome.answer,
            attempts=attempts,
        )
        return Burial(kind, reason, meta, self._renewed_lease_ms())

    def _tried(self, claim: Claim, outcome: Outcome) -> Tried:
        """What is known of the head after this attempt, if it counts."""
        before = claim.attempts()
        now_ms = self._now_ms()
        return replace(
            before,
            attempts=before.attempts + 1,
            abandoned=min(before.abandoned, 1),  # its worker lives: whoever died with it, the event does not kill
            first_at_ms=before.first_at_ms or now_ms,
            last_at_ms=now_ms,
            outcome=str(outcome),
        )

    def _keep(self, write: Callable[[], T]) -> T:
        """Write an outcome down, again and again while Redis is away and the lease lasts."""
        try:
            return write()  # tenacity's loop takes longer than this; it is there for the one in a million
        except OutboxUnreachable:
            if self._shop.must_go():
                raise
        gevent.sleep(FIRST_PAUSE_SECONDS)
        patient = Retrying(
            retry=retry_if_exception_type(OutboxUnreachable),
            wait=wait_exponential(multiplier=2 * FIRST_PAUSE_SECONDS, max=1),
            stop=stop_after_delay(max(0.0, self._lease_rest())) | _stop_when(self._shop.must_go),
            sleep=gevent.sleep,
            reraise=True,
        )
        return patient(write)

    def _renewed_lease_ms(self) -> int:
        """The lease for a further event of this lane; 0 when none is wanted."""
        if not self._shop.go_on() or self._shop.gives_way() or self._shop.quarantine.in_turn:
            return 0
        self._lease_from = time.monotonic()
        return round(self._shop.settings.lease_seconds * 1000)

    def _lease_rest(self) -> float:
        return self._lease_from + self._shop.settings.lease_seconds - time.monotonic()

    def _now_ms(self) -> int:
        """Redis's clock, as far as it can be known here."""
        now_ms, at = self._clock
        return now_ms + round((time.monotonic() - at) * 1000)


class _stop_when(stop_base):  # noqa: N801 - named as tenacity names its stops
    """Stop as soon as something is so."""

    def __init__(self, so: Callable[[], bool]) -> None:
        self._so = so

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - tenacity's signature
        return self._so()


def _for_operators(outcome: Outcome, event: Record) -> str:
    """The tracker's answer as it may be logged and shown: what it repeats of a person's data and uids is masked."""
    if outcome.status is None or not outcome.text:  # our own words
        return outcome.summary(outcome.text)
    try:
        data = json.loads(event.payload)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        personal = [data.get(name) for name in ("visitor_info", "visitor_uid", "guest_uid")]
        data = {**data, "visitor_info": personal}
    return outcome.summary(mask_answer(outcome.text, data))


def _log_burial(claim: Claim, kind: str, reason: str) -> None:
    logger.warning("event %s (%s) is a dead letter: %s", _name(claim), kind, reason)


def _log_if_failing(claim: Claim, attempt: FailedAttempt, reply: FailReply) -> None:
    """Log an event that has failed for a minute, once: when the attempt is the first one after that minute."""
    before, tried = claim.attempts(), attempt.tried
    failing_ms = FAILING_SECONDS * 1000
    if before.last_at_ms - before.first_at_ms < failing_ms <= tried.last_at_ms - tried.first_at_ms:
        logger.warning(
            "event %s (%s) has failed for %.0f s, attempts that count: %d, the last: %s; it is tried again, and its "
            "visitor's other events wait for it",
            _name(claim),
            type_of(claim.data),
            (tried.last_at_ms - tried.first_at_ms) / 1000,
            before.attempts + reply.counts,
            attempt.reason,
        )


def _name(claim: Claim) -> str:
    return str(uuid.UUID(bytes=claim.id.ljust(16, b"\0")))
