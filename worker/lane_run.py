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
from insend_relay.outbox.errors import OutboxError, OutboxUnreachable, Overtaken
from insend_relay.outbox.fault import Fault
from insend_relay.outbox.letter import letter_meta, type_of
from insend_relay.outbox.masking import mask_answer
from insend_relay.outbox.record import NotARecord, Record
from insend_relay.outbox.settings import Settings
from insend_relay.outbox.store import Claim, Guard, Outbox
from insend_relay.outbox.trying import Tried
from insend_relay.worker.concurrency import Concurrency
from insend_relay.worker.form import form
from insend_relay.worker.outcome import Outcome
from insend_relay.worker.permits import Permits
from insend_relay.worker.policy import Dead, Policy
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
        guard: The outage guard's numbers.
        settings: All others.
        go_on: Whether to take a further event of a lane.
        must_go: Whether the process can wait for nothing any more.
        gives_way: Whether a lane is given back after its event: one must be sent alone, or far too many are under way.
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
    guard: Guard
    settings: Settings
    go_on: Callable[[], bool]
    must_go: Callable[[], bool]
    gives_way: Callable[[], bool]
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
            self._next = self._keep(lambda: self._shop.settling.settle(claim, lease_ms=lease_ms))
        elif outcome.was_cut or outcome.open_connections:
            self._keep(lambda: self._shop.outbox.release(claim, doubt=outcome.doubtful))
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
            if not shop.go_on() or self._lease_rest() < shop.settings.post_timeout_seconds + MARGIN_SECONDS:
                return None
            call = shop.concurrency.begin(full=shop.full())
            outcome = shop.tracker.post(body, fresh=claim.probe)
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
        """After a 200 at once; else when the guard has been told, so that none begins that it would hold back."""
        if self._permitted:
            self._permitted = False
            self._shop.permits.release()

    def _failed(self, claim: Claim, event: Record, outcome: Outcome) -> None:
        """Ask the guard whether the attempt counts; what does not is given back as it was."""
        shop, outbox, settings = self._shop, self._shop.outbox, self._shop.settings
        asked_ms = round(min(outcome.retry_after_seconds or 0, settings.retry_after_max_seconds) * 1000)
        jitter = 1 + random.uniform(0, settings.retry_jitter)  # noqa: S311 - no secret
        reason = _for_operators(outcome, event)
        verdict = self._keep(
            lambda: outbox.report(
                claim,
                outcome.failure,
                reason,
                self._shop.guard,
                fault=outcome.fault,
                sent=outcome.kind != "refused",
                jitter=jitter,
                retry_after_ms=asked_ms,
                unanswered_ms=round(1000 * shop.tracker.unanswered_seconds) if outcome.unconnected else 0,
            )
        )
        if verdict.elsewhere:
            self._leave_to_others(claim, outcome)
            return
        if verdict.until_ms:
            self._shop.pauses[claim.app] = time.monotonic() + (verdict.until_ms - self._now_ms()) / 1000
            self._log_pause(claim, outcome.fault, reason, began=verdict.began)
        tried = self._tried(claim, outcome, counts=verdict.counts)
        _log_if_failing(claim, tried, reason)
        if not verdict.counts:
            self._keep(lambda: outbox.release(claim, tried, doubt=outcome.doubtful))
            return
        try:
            self._count(claim, event, outcome, tried, if_open=not verdict.until_ms)
        except Overtaken:  # another lane's failure has shown meanwhile that the tracker takes nothing
            self._keep(lambda: outbox.release(claim, tried, doubt=outcome.doubtful))

    def _leave_to_others(self, claim: Claim, outcome: Outcome) -> None:
        """Give the event to the processes that have a connection, and try to get one with one event at a time."""
        self._shop.concurrency.keep_to(0)
        if self._shop.tracker.redial.others_deliver():
            logger.warning(
                "this process gets no connection to the tracker (%s) while other processes deliver: it leaves the "
                "events to them and tries one connection every %.0f s",
                outcome.answer,
                MAX_SECONDS,
            )
        self._keep(lambda: self._shop.outbox.release(claim, doubt=outcome.doubtful))

    def _log_pause(self, claim: Claim, fault: Fault, reason: str, *, began: bool) -> None:
        """Log that a pause began, and when a probe then finds another fault: that may need a person."""
        if not began and not claim.probe:  # sent before the pause began
            return
        app, about = claim.app, {"subject": claim.app}
        known = self._shop.faults.get(app, "passing")
        self._shop.faults[app] = fault
        if began:
            logger.warning("app %s: the tracker takes nothing (%s); paused, nothing is lost", app, reason, extra=about)
        elif fault != known:
            logger.warning("app %s: still paused, and now the tracker answers: %s", app, reason, extra=about)

    def _count(self, claim: Claim, event: Record, outcome: Outcome, tried: Tried, *, if_open: bool) -> None:
        """An attempt that counts: tenacity says whether to try again."""
        decision = self._shop.policy.decide(
            outcome,
            attempts=tried.attempts,
            age_seconds=(tried.last_at_ms - event.accepted_at_ms) / 1000,
            tried_seconds=(tried.last_at_ms - tried.first_at_ms) / 1000,
        )
        if isinstance(decision, Dead):
            self._bury(claim, outcome, decision.reason, attempts=tried.attempts, if_open=if_open)
        else:
            asked_seconds = min(outcome.retry_after_seconds or 0, self._shop.settings.retry_after_max_seconds)
            delay_ms = round(max(decision.delay_seconds, asked_seconds) * 1000)
            self._keep(
                lambda: self._shop.outbox.retry(
                    claim, tried, delay_ms=delay_ms, doubt=outcome.doubtful, if_open=if_open
                )
            )

    def _bury(
        self, claim: Claim, outcome: Outcome, reason: str, *, attempts: int | None = None, if_open: bool = False
    ) -> None:
        """Make the head a dead letter and go on with the lane."""
        kind = type_of(claim.data)
        meta = letter_meta(
            app=claim.app,
            type=kind,
            reason=reason,
            outcome=outcome.kind,
            status=outcome.status,
            answer=outcome.answer,
            attempts=claim.attempts().attempts if attempts is None else attempts,
        )
        lease_ms = self._renewed_lease_ms()
        doubt = outcome.doubtful and reason != CRASHED  # a crash was marked when its lease was found
        self._next = self._keep(
            lambda: self._shop.outbox.bury(
                claim, type=kind, reason=reason, meta=meta, lease_ms=lease_ms, doubt=doubt, if_open=if_open
            )
        )
        logger.warning("event %s (%s) is a dead letter: %s", _name(claim), kind, reason)

    def _tried(self, claim: Claim, outcome: Outcome, *, counts: bool) -> Tried:
        """What is known of the head after this attempt."""
        before = claim.attempts()
        now_ms = self._now_ms()
        return replace(
            before,
            attempts=before.attempts + counts,
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
        if not self._shop.go_on() or self._shop.gives_way():
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


def _log_if_failing(claim: Claim, tried: Tried, reason: str) -> None:
    """Log an event that has failed for a minute, once: when the attempt is the first one after that minute."""
    before = claim.attempts()
    failing_ms = FAILING_SECONDS * 1000
    if before.last_at_ms - before.first_at_ms < failing_ms <= tried.last_at_ms - tried.first_at_ms:
        logger.warning(
            "event %s (%s) has failed for %.0f s, attempts that count: %d, the last: %s; it is tried again, and its "
            "visitor's other events wait for it",
            _name(claim),
            type_of(claim.data),
            (tried.last_at_ms - tried.first_at_ms) / 1000,
            tried.attempts,
            reason,
        )


def _name(claim: Claim) -> str:
    return str(uuid.UUID(bytes=claim.id.ljust(16, b"\0")))
