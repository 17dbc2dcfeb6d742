"""Short words for outages: lanes that are held, attempts that fail, a tracker that goes away."""

from __future__ import annotations

from lanes import ALICE, LEASE_MS, claim, put

from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.failed_attempt import FailedAttempt, FailReply, Failure
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

LIMITS = BreakerLimits()
NO_CALM = BreakerLimits(calm_ms=0)
HUGE = 1e12
DELAY_MS = 60_000


def lane_of(number: int) -> Lane:
    return Lane("shop", "v", f"visitor-{number:03}")


def held(outbox: Outbox, number: int) -> list[Claim]:
    """That many lanes, each with an event, claimed."""
    for at in range(number):
        put(outbox, lane_of(at))
    claims = claim(outbox)
    assert len(claims) == number
    return sorted(claims, key=lambda claim: claim.lane)


def fails(
    outbox: Outbox,
    failed: Claim,
    kind: Failure = "unreachable",
    limits: BreakerLimits = LIMITS,
    *,
    retry_after_ms: int = 0,
    sent: bool = True,
    unanswered_ms: int = 0,
) -> FailReply:
    """An attempt fails; if it counts the lane waits. A lane that was given back before is leased again first."""
    if outbox.read("HEXISTS", outbox.keys.lease, failed.lane) == 0:
        again = outbox.seize(failed.lane, "worker-1", lease_ms=LEASE_MS)
        assert again is not None
        failed = again
    before = failed.attempts()
    tried = Tried(failed.id, before.attempts + 1, before.abandoned, 1, 2, kind)
    reply = outbox.fail(
        failed,
        FailedAttempt(
            kind,
            f"was {kind}",
            tried,
            DELAY_MS,
            retry_after_ms=retry_after_ms,
            sent=sent,
            unanswered_ms=unanswered_ms,
            limits=limits,
        ),
    )
    assert reply.result in {"RETRIED", "NOT_COUNTED", "ELSEWHERE"}
    return reply


def succeed(outbox: Outbox, lane: Lane = ALICE) -> None:
    """An event of some other visitor is answered 200."""
    put(outbox, lane)
    taken = next(claim for claim in claim(outbox) if claim.lane == str(lane))
    outbox.settle(taken, lease_ms=0)


def trip(outbox: Outbox, limits: BreakerLimits = LIMITS, lanes: int = 3) -> None:
    """The tracker goes away for lanes that wait."""
    claims = held(outbox, lanes)
    replies = [fails(outbox, failed, "unreachable", limits) for failed in claims]
    assert any(reply.began for reply in replies)
