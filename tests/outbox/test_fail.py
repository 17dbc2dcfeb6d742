"""fail: one step decides whether a failed attempt counts, and writes down what becomes of the event."""

from __future__ import annotations

from typing import Any

import pytest
from attempts import last_attempt, pause, retry
from lanes import (
    ALICE,
    BOB,
    LEASE_MS,
    books,
    claim,
    claim_one,
    come_due,
    due_in,
    guard_state,
    ledger,
    now_ms,
    put,
    snapshot,
    waiting,
)
from outages import DELAY_MS, fails, held, lane_of, succeed
from waiting import wait_until

from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.failed_attempt import FailedAttempt
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

CLOSES_AT_ONCE = BreakerLimits(unreachable=1, lanes=1, calm_ms=0)


def stored(outbox: Outbox, event_id: bytes, lane: Lane = ALICE) -> Tried:
    """What is stored of a head's attempts."""
    return Tried.unpack(outbox.read("HGET", outbox.keys.trying, str(lane)) or b"", event_id)


def failed(claimed: Claim, **more: Any) -> FailedAttempt:
    """A first attempt that is answered 400."""
    return FailedAttempt("rejected", "400", Tried(claimed.id, 1, 0, 1, 2, "answered 400"), DELAY_MS, **more)


# An attempt that counts


def test_an_attempt_that_counts_is_one_more_than_the_stored_ones(outbox: Outbox) -> None:
    event_id = put(outbox)
    for attempts in (1, 2, 3):
        claimed = claim_one(outbox)
        assert outbox.fail(claimed, failed(claimed)).result == "RETRIED"
        assert stored(outbox, event_id) == Tried(event_id, attempts, 0, 1, 2, "answered 400")
        come_due(outbox)


def test_the_attempts_of_another_event_are_not_counted_on(outbox: Outbox) -> None:
    event_id = put(outbox)
    claimed = claim_one(outbox)
    outbox.read("HSET", outbox.keys.trying, str(ALICE), Tried(b"x" * 16, 7).pack())
    outbox.fail(claimed, failed(claimed))
    assert stored(outbox, event_id).attempts == 1


def test_more_attempts_than_can_be_stored_stay_at_the_highest_number(outbox: Outbox) -> None:
    event_id = put(outbox)
    retry(outbox, claim_one(outbox), Tried(event_id, 65_535))
    retry(outbox, claim_one(outbox))
    assert stored(outbox, event_id).attempts == 65_535


def test_the_last_attempt_makes_a_dead_letter_and_the_lane_goes_on(outbox: Outbox) -> None:
    first, second = put(outbox), put(outbox)
    claimed = claim_one(outbox)
    reply = outbox.fail(claimed, last_attempt(claimed))
    assert (reply.result, reply.until_ms, reply.began) == ("BURIED", 0, False)
    assert reply.following is not None
    assert (reply.following.id, reply.following.token) == (second, claimed.token)
    assert outbox.read("HGET", outbox.keys.dead, first).endswith(claimed.data)
    assert outbox.read("EXISTS", outbox.keys.trying, outbox.keys.failing) == 0
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 1, "dead": 1, "discarded": 0}


def test_the_dead_letter_has_the_type_and_the_reason_of_the_burial(outbox: Outbox) -> None:
    put(outbox)
    claimed = claim_one(outbox)
    outbox.fail(claimed, last_attempt(claimed, reason="answered 422"))
    (letter,) = DeadLetters(outbox).scan(Filter())
    assert (letter.type, letter.reason, letter.lane) == ("purchase", "answered 422", ALICE)


# The stored attempts are others than the worker assumed


def test_with_other_attempts_stored_than_assumed_the_event_is_tried_again_after_the_delay(outbox: Outbox) -> None:
    event_id = put(outbox)
    claimed = claim_one(outbox)
    assert outbox.fail(claimed, last_attempt(claimed, assumed=4)).result == "RETRIED"
    assert stored(outbox, event_id).attempts == 1
    assert DELAY_MS / 2 < (due_in(outbox) or 0) <= DELAY_MS
    assert books(outbox)["dead"] == 0


def test_an_outage_that_began_and_ended_during_the_post_saves_the_event_from_its_burial(outbox: Outbox) -> None:
    event_id = put(outbox)
    first = claim_one(outbox)
    outbox.fail(first, failed(first))
    come_due(outbox)
    claimed = claim_one(outbox)
    assert claimed.attempts().attempts == 1
    put(outbox, BOB)
    pause(outbox, claim_one(outbox))
    assert stored(outbox, event_id).attempts == 0, "taken back, since the tracker took nothing"
    outbox.resume("shop")
    assert outbox.fail(claimed, last_attempt(claimed, assumed=1)).result == "RETRIED"
    assert (stored(outbox, event_id).attempts, books(outbox)["dead"]) == (1, 0)


def test_no_event_is_buried_by_the_attempt_that_opens_the_breaker(outbox: Outbox) -> None:
    put(outbox)
    claimed = claim_one(outbox)
    reply = outbox.fail(claimed, last_attempt(claimed, limits=CLOSES_AT_ONCE))
    assert (reply.result, reply.began, reply.following) == ("NOT_COUNTED", True, None)
    assert books(outbox)["dead"] == 0


def test_a_pause_that_rejections_began_buries_after_a_while_and_the_lane_waits_for_a_probe(outbox: Outbox) -> None:
    put(outbox)
    put(outbox)
    put(outbox, BOB)
    claims = {one.lane: one for one in claim(outbox)}
    assert outbox.fail(claims[str(BOB)], failed(claims[str(BOB)], limits=CLOSES_AT_ONCE)).began
    since = int(guard_state(outbox)["since"])
    wait_until(lambda: now_ms(outbox) > since)
    alice = claims[str(ALICE)]
    reply = outbox.fail(alice, last_attempt(alice, limits=BreakerLimits(rejected_ms=0)))
    assert (reply.result, reply.following) == ("BURIED", None)
    assert reply.until_ms > since
    assert outbox.read("EXISTS", outbox.keys.lease) == 0


# The breaker, in the same step


def test_the_step_that_opens_the_breaker_takes_back_what_its_suspects_had_counted(outbox: Outbox) -> None:
    claims = held(outbox, 3)
    ids = [one.id for one in claims]
    assert [fails(outbox, one).result for one in claims[:2]] == ["RETRIED", "RETRIED"]
    assert [stored(outbox, ids[at], lane_of(at)).attempts for at in range(2)] == [1, 1]
    reply = fails(outbox, claims[2])
    assert (reply.result, reply.began) == ("NOT_COUNTED", True)
    assert [stored(outbox, ids[at], lane_of(at)).attempts for at in range(3)] == [0, 0, 0]
    assert all((due_in(outbox, lane_of(at)) or 0) <= 0 for at in range(3))
    assert outbox.read("EXISTS", outbox.keys.suspects("shop"), outbox.keys.lease) == 0


def test_an_attempt_that_does_not_count_is_remembered_with_the_attempts_before_it(outbox: Outbox) -> None:
    event_id = put(outbox)
    retry(outbox, claim_one(outbox), Tried(event_id, 4, 0, 1, 1, "answered 500"))
    outbox.read("DEL", outbox.keys.suspects("shop"))  # as a 200 does
    claimed = claim_one(outbox)
    attempt = FailedAttempt("server", "503", Tried(event_id, 5, 0, 1, 9, "503"), DELAY_MS, limits=CLOSES_AT_ONCE)
    assert outbox.fail(claimed, attempt).result == "NOT_COUNTED"
    assert stored(outbox, event_id) == Tried(event_id, 4, 0, 1, 9, "503")


def test_where_another_process_delivers_the_lane_is_as_it_was(outbox: Outbox) -> None:
    succeed(outbox, BOB)
    event_id = put(outbox)
    claimed = claim_one(outbox)
    assert outbox.fail(claimed, failed(claimed, sent=False, unanswered_ms=3_600_000)).result == "ELSEWHERE"
    again = claim_one(outbox)
    assert (again.id, again.tried) == (event_id, b"")


# The mark of a possible duplicate


@pytest.mark.parametrize("result", ["RETRIED", "BURIED", "NOT_COUNTED", "ELSEWHERE"])
def test_a_possible_duplicate_is_marked_whatever_becomes_of_the_attempt(outbox: Outbox, result: str) -> None:
    if result == "ELSEWHERE":
        succeed(outbox, BOB)
    event_id = put(outbox)
    claimed = claim_one(outbox)
    attempts = {
        "RETRIED": failed(claimed, duplicate=True),
        "BURIED": last_attempt(claimed, duplicate=True),
        "NOT_COUNTED": failed(claimed, duplicate=True, limits=CLOSES_AT_ONCE),
        "ELSEWHERE": failed(claimed, duplicate=True, unanswered_ms=3_600_000),
    }
    assert outbox.fail(claimed, attempts[result]).result == result
    assert outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1) == [event_id]
    assert ledger(outbox, "duplicates_possible") == [1]


# A call that is repeated, or comes too late


@pytest.mark.parametrize("result", ["RETRIED", "NOT_COUNTED"])
def test_repeating_a_call_whose_answer_was_lost_changes_nothing(outbox: Outbox, result: str) -> None:
    put(outbox)
    claimed = claim_one(outbox)
    limits = CLOSES_AT_ONCE if result == "NOT_COUNTED" else BreakerLimits()
    attempt = failed(claimed, duplicate=True, retry_after_ms=0, limits=limits)
    assert outbox.fail(claimed, attempt).result == result
    before = snapshot(outbox)
    assert outbox.fail(claimed, attempt) == ("SUPERSEDED", 0, False, None)
    assert snapshot(outbox) == before


def test_repeating_a_burial_counts_it_once_and_returns_the_next_event_again(outbox: Outbox) -> None:
    put(outbox)
    second = put(outbox)
    claimed = claim_one(outbox)
    attempt = last_attempt(claimed, duplicate=True)
    outbox.fail(claimed, attempt)
    counted, breaker = books(outbox), guard_state(outbox)
    reply = outbox.fail(claimed, attempt)
    assert reply.result == "ALREADY"
    assert reply.following is not None
    assert (reply.following.id, reply.following.token) == (second, claimed.token)
    assert (books(outbox), guard_state(outbox)) == (counted, breaker)
    assert ledger(outbox, "duplicates_possible", "burials") == [1, 1]


def test_repeating_the_burial_of_a_lanes_last_event_changes_nothing(outbox: Outbox) -> None:
    put(outbox)
    claimed = claim_one(outbox)
    attempt = last_attempt(claimed)
    assert outbox.fail(claimed, attempt).result == "BURIED"
    before = snapshot(outbox)
    assert outbox.fail(claimed, attempt).result == "SUPERSEDED"
    assert snapshot(outbox) == before


@pytest.mark.parametrize("breaker", ["closed", "open"])
def test_a_holder_that_was_superseded_changes_nothing_the_breaker_included(outbox: Outbox, breaker: str) -> None:
    event_id = put(outbox)
    stale = claim_one(outbox)
    come_due(outbox)
    claim_one(outbox, worker="worker-2")
    if breaker == "open":
        put(outbox, BOB)
        pause(outbox, claim_one(outbox))
    before = snapshot(outbox)
    attempt = last_attempt(stale, limits=CLOSES_AT_ONCE, duplicate=True, retry_after_ms=500_000)
    assert outbox.fail(stale, attempt) == ("SUPERSEDED", 0, False, None)
    assert snapshot(outbox) == before
    assert waiting(outbox) == [event_id]


@pytest.mark.parametrize("breaker", ["closed", "open"])
def test_a_failure_of_an_event_that_has_gone_changes_neither_breaker_nor_books(outbox: Outbox, breaker: str) -> None:
    put(outbox)
    second = put(outbox)
    first = claim_one(outbox)
    outbox.settle(first, lease_ms=LEASE_MS)
    if breaker == "open":
        put(outbox, BOB)
        outbox.read("HDEL", outbox.keys.outage("shop"), "last_ok")
        pause(outbox, claim_one(outbox))
    before = guard_state(outbox), books(outbox), outbox.read("HGETALL", outbox.keys.suspects("shop"))
    attempt = last_attempt(first, limits=CLOSES_AT_ONCE, duplicate=True, retry_after_ms=500_000)
    reply = outbox.fail(first, attempt)
    assert (reply.result, reply.until_ms, reply.began) == ("ALREADY", 0, False)
    assert (guard_state(outbox), books(outbox), outbox.read("HGETALL", outbox.keys.suspects("shop"))) == before
    assert waiting(outbox) == [second]
    assert ledger(outbox, "duplicates_possible") == [0]
