"""Short words for failing attempts: lanes that are held, a report of how one failed, a tracker that goes away."""

from __future__ import annotations

from lanes import ALICE, claim, put

from insend_relay.outbox.claim import Claim
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Failure, Guard, Outbox, Verdict
from insend_relay.outbox.trying import Tried

GUARD = Guard()
NO_CALM = Guard(calm_ms=0)
HUGE = 1e12


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
    guard: Guard = GUARD,
    *,
    retry_after_ms: int = 0,
    sent: bool = True,
    unanswered_ms: int = 0,
) -> Verdict:
    return outbox.report(
        failed, kind, f"was {kind}", guard, retry_after_ms=retry_after_ms, sent=sent, unanswered_ms=unanswered_ms
    )


def fails_and_waits(outbox: Outbox, failed: Claim, kind: Failure, guard: Guard = GUARD) -> Verdict:
    """A failed attempt as a worker handles it: reported, then given back."""
    verdict = fails(outbox, failed, kind, guard)
    tried = failed.attempts()
    counted = Tried(failed.id, tried.attempts + 1, tried.abandoned, 1, 2, kind)
    if verdict.counts:
        assert outbox.retry(failed, counted, delay_ms=60_000)
    else:
        assert outbox.release(failed, Tried(failed.id, tried.attempts, tried.abandoned, 1, 2, kind))
    return verdict


def succeed(outbox: Outbox, lane: Lane = ALICE) -> None:
    """An event of some other visitor is answered 200."""
    put(outbox, lane)
    taken = next(claim for claim in claim(outbox) if claim.lane == str(lane))
    outbox.settle(taken, lease_ms=0)


def trip(outbox: Outbox, guard: Guard = GUARD, lanes: int = 3) -> None:
    """The tracker goes away for lanes that wait."""
    claims = held(outbox, lanes)
    verdicts = [fails_and_waits(outbox, failed, "unreachable", guard) for failed in claims]
    assert any(verdict.began for verdict in verdicts)
