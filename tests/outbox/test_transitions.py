"""What an append and a claim do, and what they refuse, one sentence at a time, against a real Redis."""

from __future__ import annotations

from functools import partial

import pytest
from attempts import retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    PATIENCE_MS,
    books,
    claim,
    claim_one,
    come_due,
    crash,
    due_in,
    ledger,
    make_newer,
    now_ms,
    put,
    snapshot,
    waiting,
)
from waiting import wait_until

from insend_relay.outbox import record
from insend_relay.outbox.errors import OutboxRefused
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.quarantine import QuarantineTurn
from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

# append


def test_an_event_waits_in_its_lane_and_the_lane_is_due_at_once(outbox: Outbox) -> None:
    event_id = put(outbox)
    assert waiting(outbox) == [event_id]
    assert outbox.apps() == ["shop"]
    in_ms = due_in(outbox)
    assert in_ms is not None
    assert in_ms <= 0
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 0}


def test_events_of_a_lane_wait_in_the_order_in_which_they_came(outbox: Outbox) -> None:
    ids = [put(outbox) for _ in range(5)]
    assert waiting(outbox) == ids


def test_a_second_event_does_not_hurry_a_lane_that_waits_for_its_retry(outbox: Outbox) -> None:
    put(outbox)
    retry(outbox, claim_one(outbox), delay_ms=60_000)
    put(outbox)
    assert claim(outbox) == []


def test_a_second_event_with_the_same_idempotency_key_is_a_duplicate_and_changes_nothing(outbox: Outbox) -> None:
    first = put(outbox, idempotency_key="order-1")
    before = snapshot(outbox)
    again = outbox.append(BOB, record.new_id(), b"{}", idempotency_key="order-1")
    assert (again.duplicate, again.id.bytes) == (True, first)
    assert snapshot(outbox) == before


def test_an_idempotency_key_is_an_apps_own_is_forgotten_in_time_and_lies_in_redis_as_a_hash(outbox: Outbox) -> None:
    put(outbox, ALICE, idempotency_key="order-1", idempotency_seconds=90)
    other = outbox.append(OTHER, record.new_id(), b"{}", idempotency_key="order-1")
    assert not other.duplicate
    once = outbox.read("KEYS", outbox.keys.prefix + "once:*")
    assert len(once) == 2
    assert not any(b"order-1" in key for key in once)
    kept = outbox.read("PTTL", next(key for key in once if b"once:shop:" in key))
    assert 60_000 < kept <= 90_000


def test_an_event_whose_idempotency_key_has_been_delivered_is_still_a_duplicate(outbox: Outbox) -> None:
    put(outbox, idempotency_key="order-1")
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert outbox.append(ALICE, record.new_id(), b"{}", idempotency_key="order-1").duplicate


def test_many_appends_leave_one_wake_up_call(outbox: Outbox) -> None:
    for number in range(20):
        put(outbox, Lane("shop", "v", f"visitor-{number}"))
    put(outbox, OTHER)
    assert outbox.read("LLEN", outbox.keys.wake) == 1


def test_calls_that_left_no_event_are_counted_apart(outbox: Outbox) -> None:
    outbox.count("no_visitor")
    outbox.count("opted_out")
    outbox.count("opted_out")
    assert ledger(outbox, "no_visitor", "opted_out", "accepted") == [1, 2, 0]


# claim


def test_a_claim_takes_each_due_lane_with_its_head(outbox: Outbox) -> None:
    heads = {str(lane): put(outbox, lane) for lane in (ALICE, BOB, GUEST)}
    put(outbox)
    assert {held.lane: held.id for held in claim(outbox)} == heads


def test_a_claimed_lane_is_not_claimed_again_while_its_lease_lasts(outbox: Outbox) -> None:
    put(outbox)
    claim_one(outbox)
    put(outbox)
    assert claim(outbox, worker="worker-2") == []


def test_a_claim_takes_no_more_lanes_than_there_is_room_for_and_the_longest_due_first(outbox: Outbox) -> None:
    for age, lane in ((10, BOB), (30, ALICE), (20, GUEST)):
        put(outbox, lane)
        outbox.read("ZADD", outbox.keys.due("shop"), now_ms(outbox) - age * 1000, str(lane))
    assert [held.lane for held in claim(outbox, room=2)] == [str(ALICE), str(GUEST)]
    assert claim(outbox, room=0) == []


def test_claims_rotate_over_the_apps(outbox: Outbox) -> None:
    for number in range(8):
        put(outbox, Lane("a", "v", f"{number}"))
        put(outbox, Lane("b", "v", f"{number}"))
    taken = []
    for _ in range(6):
        newest = max(float(outbox.read("ZSCORE", outbox.keys.apps, app)) for app in "ab")
        wait_until(partial(is_past, outbox, newest))  # two claims within a millisecond are in no order
        taken.append(outbox.claim("worker-1", 1, lease_ms=LEASE_MS)[0].app)
    assert taken in (["a", "b"] * 3, ["b", "a"] * 3)


def is_past(outbox: Outbox, ms: float) -> bool:
    return now_ms(outbox) > ms


def test_room_that_one_app_leaves_goes_to_the_next(outbox: Outbox) -> None:
    put(outbox, ALICE)
    for number in range(3):
        put(outbox, Lane("second", "v", f"{number}"))
    outbox.read("ZADD", outbox.keys.apps, 1, "shop", 2, "second")
    assert sorted(held.app for held in claim(outbox, room=3)) == ["second", "second", "shop"]


def test_the_lanes_of_a_dead_worker_come_due_and_their_heads_are_marked_doubtful(outbox: Outbox) -> None:
    event_id = put(outbox)
    first = claim_one(outbox, worker="worker-1")
    come_due(outbox)
    second = claim_one(outbox, worker="worker-2")
    assert (second.id, second.attempts().abandoned, second.attempts().attempts) == (event_id, 1, 0)
    assert second.token != first.token
    assert ledger(outbox, "duplicates_possible") == [1]
    assert outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1) == [event_id]
    accepted_at_ms = record.decode(second.data).accepted_at_ms
    assert outbox.read("ZSCORE", outbox.keys.failing, str(ALICE)) == accepted_at_ms


def test_abandoned_starts_add_up_and_leave_the_attempts_as_they_were(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    retry(outbox, held, Tried(held.id, 3, 0, 111, 222, "answered 500"))
    crash(outbox, times=2)
    assert claim(outbox) == []
    turn = QuarantineTurn(outbox, "host:1")
    for abandoned in (2, 3):
        come_due(outbox, ms_ago=PATIENCE_MS)
        quarantined = turn.claim(lease_ms=LEASE_MS, idle=True)
        assert quarantined is not None
        assert quarantined.attempts() == Tried(held.id, 3, abandoned, 111, 222, "answered 500")


def test_a_lane_given_back_in_order_is_no_doubt(outbox: Outbox) -> None:
    put(outbox)
    outbox.release(claim_one(outbox))
    assert claim_one(outbox).attempts().abandoned == 0
    assert ledger(outbox, "duplicates_possible") == [0]


def test_the_list_of_doubtful_ids_is_bounded_and_loses_the_oldest(outbox: Outbox) -> None:
    old = [item for number in range(10_000) for item in (number, number.to_bytes(16))]
    outbox.read("ZADD", outbox.keys.doubtful, *old)
    event_id = put(outbox)
    outbox.release(claim_one(outbox), duplicate=True)
    assert outbox.read("ZCARD", outbox.keys.doubtful) == 10_000
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None
    assert outbox.read("ZSCORE", outbox.keys.doubtful, bytes(16)) is None


def test_a_head_of_a_newer_version_is_left_to_a_newer_worker_for_five_seconds(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, BOB)
    make_newer(outbox, ALICE)
    before = now_ms(outbox)
    assert claim_one(outbox).lane == str(BOB)
    due_ms = float(outbox.read("ZSCORE", outbox.keys.due("shop"), str(ALICE)))
    assert before + 5_000 <= due_ms <= now_ms(outbox) + 5_000
    assert outbox.read("HGET", outbox.keys.lease, str(ALICE)) is None
    assert books(outbox)["waiting"] == 2


def test_a_lease_that_a_newer_worker_left_on_a_newer_head_counts_once_and_ends(outbox: Outbox) -> None:
    put(outbox)
    (data,) = outbox.read("LRANGE", outbox.keys.lane(ALICE), 0, -1)
    claim_one(outbox, worker="newer")
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, bytes([record.VERSION + 1]) + data[1:])
    for _ in range(3):
        come_due(outbox)
        assert claim(outbox) == []
    assert outbox.read("HGET", outbox.keys.lease, str(ALICE)) is None
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, data)
    come_due(outbox)
    assert claim_one(outbox).attempts().abandoned == 1
    assert ledger(outbox, "duplicates_possible") == [1]


def test_a_claim_that_finds_only_newer_records_leaves_the_ledger_alone(outbox: Outbox) -> None:
    put(outbox)
    before = outbox.read("HGETALL", outbox.keys.ledger)
    old = {"worker": "old", "token": new_token(), "version": 0}
    assert outbox._run("claim", room=9, lease_ms=LEASE_MS, linger_ms=0, **old)[3:] == [1]
    assert outbox.read("HGETALL", outbox.keys.ledger) == before


def test_a_claim_notes_the_lanes_that_it_leaves_to_a_newer_worker(outbox: Outbox) -> None:
    newer = outbox.keys.newer
    put(outbox, BOB)
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert not outbox.read("EXISTS", newer), "a claim that can read what it finds pays nothing"
    outbox.read("ZADD", newer, now_ms(outbox) - 600_001, "shop/v/long-ago", now_ms(outbox) + 3_600_000, "shop/v/ahead")
    for lane in (ALICE, GUEST):
        put(outbox, lane)
        make_newer(outbox, lane)
    before = now_ms(outbox)
    assert outbox.claim("worker-1", 9, lease_ms=LEASE_MS).newer == 2
    assert outbox.claim("worker-1", 9, lease_ms=LEASE_MS).newer == 0
    met = dict(pairs(outbox.read("ZRANGE", newer, 0, -1, "WITHSCORES")))
    assert set(met) == {str(ALICE).encode(), str(GUEST).encode()}
    assert all(before <= float(at) <= now_ms(outbox) for at in met.values())
    assert 0 < outbox.read("PTTL", newer) <= 600_000


def test_a_lane_that_is_scheduled_but_empty_is_healed(outbox: Outbox) -> None:
    put(outbox)
    claim_one(outbox)
    come_due(outbox)
    outbox.read("DEL", outbox.keys.lane(ALICE))
    assert claim(outbox) == []
    assert due_in(outbox) is None
    assert outbox.read("HGETALL", outbox.keys.lease) == {}


def test_an_idempotency_key_that_cannot_be_remembered_leaves_nothing_behind(outbox: Outbox) -> None:
    with pytest.raises(OutboxRefused, match="refused the command"):
        put(outbox, idempotency_key="order-1", idempotency_seconds=-1)
    assert snapshot(outbox) == {}
