"""Short words for failed attempts: one that counts, one that pauses the app, one that makes a dead letter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.failed_attempt import Burial, FailedAttempt, FailReply
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

STAYS_CLOSED = BreakerLimits(unreachable=1_000_000, lanes=1_000_000)


def retry(
    outbox: Outbox, held: Claim, tried: Tried | None = None, *, delay_ms: int = 0, duplicate: bool = False
) -> bool:
    """An attempt fails and counts, and the lane waits; False when it does not.

    Args:
        outbox: Where.
        held: The lane.
        tried: What is known of the head then, as if it had failed that often before; by default one attempt more.
        delay_ms: How long the lane waits.
        duplicate: Whether the tracker may have taken the event.
    """
    before = held.attempts().attempts
    tried = tried or Tried(held.id, before + 1)
    if tried.attempts > before + 1:
        earlier = replace(tried, attempts=tried.attempts - 1)
        outbox.read("HSET", outbox.keys.trying, held.lane, earlier.pack())
    attempt = FailedAttempt("rejected", "400", tried, delay_ms, duplicate=duplicate, limits=STAYS_CLOSED)
    return outbox.fail(held, attempt).result == "RETRIED"


def pause(outbox: Outbox, held: Claim, reason: str = "answered 403", **more: Any) -> FailReply:
    """An attempt is answered 403 with no 200 in the last minute: the app is paused, and the lane is given back."""
    reply = outbox.fail(held, FailedAttempt("closed", reason, Tried(held.id, 1), 0, **more))
    assert (reply.result, reply.began) == ("NOT_COUNTED", True)
    return reply


def last_attempt(
    held: Claim, *, assumed: int = 0, reason: str = "answered 400", lease_ms: int = 60_000, **more: Any
) -> FailedAttempt:
    """The attempt after which a purchase is a dead letter, if ``assumed`` attempts are stored."""
    meta = letter_meta(outcome="answered", status=400)
    burial = Burial("purchase", reason, meta, lease_ms)
    options = {"limits": STAYS_CLOSED, **more}
    return FailedAttempt("rejected", reason, Tried(held.id, assumed + 1, 0, 1, 2, reason), 60_000, burial, **options)
