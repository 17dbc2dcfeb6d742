"""What the outbox is told of a failed attempt: nothing here touches Redis or the tracker."""

from __future__ import annotations

import json
import random
from dataclasses import replace

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.failed_attempt import Burial, FailedAttempt
from insend_relay.outbox.letter import letter_meta, type_of
from insend_relay.outbox.masking import mask_answer
from insend_relay.outbox.record import Record
from insend_relay.outbox.trying import Tried
from insend_relay.worker.context import Context
from insend_relay.worker.outcome import Outcome


def failed_attempt(
    context: Context, claim: Claim, event: Record, outcome: Outcome, *, now_ms: int, lease_ms: int
) -> FailedAttempt:
    """The attempt, and what follows from it if it counts: tenacity says whether that is a retry or a burial.

    Args:
        context: Its policy, limits and settings are used.
        claim: The lease, with what is known of the earlier attempts.
        event: The head.
        outcome: How the attempt ended.
        now_ms: Redis's clock.
        lease_ms: For how long the lane's next event is leased after a burial; 0: the caller takes none.
    """
    settings = context.settings
    tried = _tried(claim, outcome, now_ms)
    decision = context.policy.decide(
        outcome,
        attempts=tried.attempts,
        age_seconds=(tried.last_at_ms - event.accepted_at_ms) / 1000,
        tried_seconds=(tried.last_at_ms - tried.first_at_ms) / 1000,
    )
    asked_seconds = min(outcome.retry_after_seconds or 0, settings.retry_after_max_seconds)
    burial = None
    if decision.burial_reason:
        burial = burial_of(claim, outcome, decision.burial_reason, attempts=tried.starts, lease_ms=lease_ms)
    return FailedAttempt(
        outcome.failure,
        shown(outcome, event),
        tried,
        delay_ms=round(max(decision.delay_seconds, asked_seconds) * 1000),
        burial=burial,
        duplicate=outcome.doubtful,
        fault=outcome.fault,
        sent=outcome.kind != "refused",
        retry_after_ms=round(asked_seconds * 1000),
        unanswered_ms=round(1000 * context.tracker.unanswered_seconds) if outcome.unconnected else 0,
        jitter=1 + random.uniform(0, settings.retry_jitter),  # noqa: S311 - no secret
        limits=context.limits,
    )


def burial_of(claim: Claim, outcome: Outcome, reason: str, *, attempts: int, lease_ms: int) -> Burial:
    """The dead letter that the head becomes.

    Args:
        claim: The lease.
        outcome: How its last attempt ended.
        reason: Why, in a few words that many letters share.
        attempts: How often it was sent, crashes of the worker included.
        lease_ms: As for ``failed_attempt``.
    """
    kind = type_of(claim.data)
    meta = letter_meta(
        outcome=outcome.kind,
        status=outcome.status,
        answer=outcome.answer,
        attempts=attempts,
    )
    return Burial(kind, reason, meta, lease_ms)


def _tried(claim: Claim, outcome: Outcome, now_ms: int) -> Tried:
    """What is known of the head after this attempt, if it counts."""
    before = claim.attempts()
    return replace(
        before,
        attempts=before.attempts + 1,
        abandoned=min(before.abandoned, 1),  # its worker lives: whatever crashed earlier ones, the event did not
        first_at_ms=before.first_at_ms or now_ms,
        last_at_ms=now_ms,
        outcome=str(outcome),
    )


def shown(outcome: Outcome, event: Record) -> str:
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
