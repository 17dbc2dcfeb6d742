"""A whole lane is given up: in bounded steps, with balanced books, and never an event that is being sent."""

from __future__ import annotations

import threading

import pytest
from attempts import pause, retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    books,
    claim,
    claim_one,
    come_due,
    due_in,
    ledger,
    letter,
    put,
    replay,
    replay_counts,
)
from lanes import waiting as waiting_in

from insend_relay.operations.audit import audit
from insend_relay.operations.discard_lane import LaneDiscard, last_accepted
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried


def discard(outbox: Outbox, lane: Lane = ALICE, *, wait_seconds: float = 0) -> LaneDiscard:
    """Give up what waits in a lane now."""
    done = LaneDiscard(lane, last_accepted(outbox))
    done.run(outbox, wait_seconds=wait_seconds)
    return done


def test_all_events_of_the_lane_go_and_no_others(outbox: Outbox) -> None:
    for _ in range(3):
        put(outbox)
    put(outbox, BOB)
    done = discard(outbox)
    assert (done.discarded, done.possibly_sent, done.sending) == (3, 0, "")
    assert books(outbox) == {"accepted": 4, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 3}
    assert due_in(outbox, ALICE) is None
    assert audit(outbox).balanced
    assert discard(outbox).discarded == 0


def test_a_long_lane_goes_in_bounded_steps_and_the_books_balance_after_each(outbox: Outbox) -> None:
    for _ in range(450):
        put(outbox)
    found = []
    while True:
        status, _, count, _ = outbox._run("discard_lane", lane=str(ALICE), last_seq=450)
        found.append((status, count))
        assert books(outbox)["discarded"] == sum(count for _, count in found)
        if status != b"MORE":
            break
        assert claim(outbox) == [], "no worker takes the lane between two steps"
    assert found == [(b"MORE", 200), (b"MORE", 200), (b"DISCARDED", 50)]


def test_events_that_are_accepted_after_the_question_stay_and_can_go_at_once(outbox: Outbox) -> None:
    first = put(outbox)
    held = claim_one(outbox)
    assert retry(outbox, held, Tried(first, 1, outcome="answered 500"), delay_ms=900_000)
    done = LaneDiscard(ALICE, last_accepted(outbox))
    later = put(outbox)
    done.run(outbox, wait_seconds=0)
    assert done.discarded == 1
    assert waiting_in(outbox) == [later]
    following = claim_one(outbox)
    assert (following.id, following.attempts().attempts) == (later, 0)
    assert audit(outbox).balanced


def test_the_event_that_a_worker_is_sending_stays_and_the_others_go(outbox: Outbox) -> None:
    first = put(outbox)
    put(outbox)
    put(outbox)
    held = claim_one(outbox, worker="celery@host:1")
    done = discard(outbox)
    assert (done.discarded, done.sending) == (2, "celery@host:1")
    assert waiting_in(outbox) == [first]
    assert outbox.settle(held, lease_ms=LEASE_MS) is None
    assert books(outbox) == {"accepted": 3, "delivered": 1, "waiting": 0, "dead": 0, "discarded": 2}
    assert audit(outbox).balanced


@pytest.mark.parametrize(("delivered", "left"), [(True, (1, 2)), (False, (0, 3))])
def test_the_outcome_of_an_event_that_is_being_sent_is_waited_for(
    outbox: Outbox,
    redis_url: str,
    delivered: bool,  # noqa: FBT001 - a parameter of the test
    left: tuple[int, int],
) -> None:
    for _ in range(3):
        put(outbox)
    held = claim_one(outbox)
    waits = threading.Event()

    def end() -> None:
        waits.wait()
        with connect(redis_url) as client:
            own = Outbox(client, namespace=outbox.keys.namespace)
            if delivered:
                own.settle(held, lease_ms=LEASE_MS)
            else:
                retry(own, held, Tried(held.id, 1, outcome="answered 500"), delay_ms=900_000)

    worker = threading.Thread(target=end)
    worker.start()
    done = LaneDiscard(ALICE, last_accepted(outbox))
    done.run(outbox, wait_seconds=600, waits=waits.set)
    worker.join()
    assert (ledger(outbox, "delivered", "discarded"), done.sending) == ([*left], "")
    assert done.discarded == left[1]
    assert audit(outbox).balanced


def test_an_event_whose_worker_died_counts_as_possibly_sent(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    come_due(outbox)
    done = discard(outbox)
    assert (done.discarded, done.possibly_sent) == (1, 1)
    assert not retry(outbox, held)
    assert outbox.read("HLEN", outbox.keys.lease) == 0


def test_who_waited_for_a_guest_goes_when_the_guests_events_are_given_up(outbox: Outbox) -> None:
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    outbox.release(claim_one(outbox))
    assert discard(outbox, GUEST).discarded == 1
    assert claim_one(outbox).lane == str(ALICE)


def test_a_visitor_who_waited_for_a_guest_leaves_no_trace_there(outbox: Outbox) -> None:
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    claim(outbox)
    assert outbox.read("ZCARD", outbox.keys.behind(GUEST)) == 1
    assert discard(outbox).discarded == 1
    assert outbox.read("ZCARD", outbox.keys.behind(GUEST)) == 0


def test_a_replayed_event_that_is_given_up_is_counted_as_discarded(outbox: Outbox) -> None:
    dead = letter(outbox)
    assert replay(outbox, dead) == b"REPLAYED"
    assert discard(outbox).discarded == 1
    assert replay_counts(outbox) == {"replayed": 1, "discarded": 1}
    assert outbox.read("HLEN", outbox.keys.replaying) == 0
    assert audit(outbox).balanced


def test_a_pause_and_its_probe_end_when_the_probed_lane_is_given_up(outbox: Outbox) -> None:
    put(outbox)
    pause(outbox, claim_one(outbox), "answered 403")
    outbox.read("ZADD", outbox.keys.apps, 1, "shop")
    come_due(outbox)
    claim_one(outbox)
    come_due(outbox)
    assert discard(outbox).discarded == 1
    assert outbox.read("HGET", outbox.keys.outage("shop"), "probe") is None
