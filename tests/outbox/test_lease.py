"""Leases: a token is unique whatever becomes of the data in Redis, and only its holder may end an event."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from lanes import ALICE, LEASE_MS, books, bury, claim_one, come_due, ledger, put, waiting
from saved import Saved

from insend_relay.outbox import lease
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.store import Outbox

ENDINGS: dict[str, Callable[[Outbox, Claim], object]] = {
    "settle": lambda outbox, held: outbox.settle(held, lease_ms=LEASE_MS),
    "bury": bury,
    "release": lambda outbox, held: outbox.release(held),
}


def stored_lease(outbox: Outbox) -> bytes:
    data: bytes = outbox.read("HGET", outbox.keys.lease, str(ALICE))
    return data


# Tokens


def test_no_two_tokens_are_the_same_and_each_has_forty_bytes() -> None:
    tokens = {new_token() for _ in range(1_000)}
    assert len(tokens) == 1_000
    assert {len(token) for token in tokens} == {lease.TOKEN_BYTES}


def test_a_forked_child_makes_tokens_of_its_own() -> None:
    ours = new_token()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_token())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 100)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == lease.TOKEN_BYTES
    assert theirs[:32] != ours[:32]


def test_a_lease_says_which_event_it_is_for_and_who_holds_it(outbox: Outbox) -> None:
    event_id = put(outbox)
    held = claim_one(outbox, worker="web-1:77")
    stored = stored_lease(outbox)
    assert stored[: lease.TOKEN_BYTES] == held.token
    assert (lease.head_of(stored), lease.holder_of(stored)) == (event_id, "web-1:77")


def test_leases_are_never_packed_however_short_the_holders_name_is(outbox: Outbox) -> None:
    put(outbox)
    claim_one(outbox, worker="w:1")
    assert len(stored_lease(outbox)) > 64
    assert outbox.read("OBJECT", "ENCODING", outbox.keys.lease) == b"hashtable"


# Data that is set back


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_after_a_failover_that_lost_a_claim_its_holder_is_superseded_by_the_next(
    outbox: Outbox, end: Callable[[Outbox, Claim], object]
) -> None:
    event_id = put(outbox)
    replica = Saved(outbox)
    old = claim_one(outbox, worker="worker-1")
    replica.put_back()
    new = claim_one(outbox, worker="worker-2")
    assert not end(outbox, old)
    assert waiting(outbox) == [event_id], "the new holder has it"
    assert outbox.settle(new, lease_ms=LEASE_MS) is None
    assert not end(outbox, old)
    assert books(outbox) == {"accepted": 1, "delivered": 1, "waiting": 0, "dead": 0, "discarded": 0}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_a_lease_from_an_old_file_marks_the_event_and_gives_nothing_to_its_later_holder(
    outbox: Outbox, end: Callable[[Outbox, Claim], object]
) -> None:
    event_id = put(outbox)
    claim_one(outbox, worker="worker-1")
    file = Saved(outbox)
    come_due(outbox)
    second = claim_one(outbox, worker="worker-2")
    file.put_back()
    assert not end(outbox, second), "the lease in the file is not its own"
    come_due(outbox)
    third = claim_one(outbox, worker="worker-3")
    assert not end(outbox, second)
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None
    assert outbox.settle(third, lease_ms=LEASE_MS) is None
    marks = 2 if end is ENDINGS["settle"] else 1  # a 200 whose event is still there is marked, too
    assert ledger(outbox, "delivered", "duplicates_possible") == [1, marks]


def test_a_200_whose_claim_redis_has_lost_marks_the_event_before_it_is_sent_again(outbox: Outbox) -> None:
    event_id = put(outbox)
    replica = Saved(outbox)
    old = claim_one(outbox)
    replica.put_back()
    for _ in range(2):
        assert outbox.settle(old, lease_ms=LEASE_MS) is None
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None
    assert ledger(outbox, "duplicates_possible") == [1]
    assert claim_one(outbox).id == event_id


def test_an_event_that_may_have_been_sent_is_marked_although_another_is_the_head(outbox: Outbox) -> None:
    first, second = put(outbox), put(outbox)
    held = claim_one(outbox)
    replica = Saved(outbox)
    following = outbox.settle(held, lease_ms=LEASE_MS)
    assert following is not None
    replica.put_back()
    assert not outbox.release(following, duplicate=True)
    assert outbox.release(held, duplicate=True)
    assert set(outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1)) == {first, second}
    assert waiting(outbox) == [first, second]
