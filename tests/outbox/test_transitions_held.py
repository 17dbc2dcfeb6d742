"""What the holder of a lane may do (settle, fail, release, bury), and that no other may."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attempts import last_attempt, pause, retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    books,
    buried,
    bury,
    claim,
    claim_one,
    come_due,
    discard,
    due_in,
    guard_state,
    ledger,
    now_ms,
    put,
    replay,
    snapshot,
    waiting,
)

from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim, Delivered
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

ENDINGS: dict[str, Callable[[Outbox, Claim], object]] = {
    "settle": lambda outbox, held: outbox.settle(held, lease_ms=LEASE_MS),
    "fail, retried": lambda outbox, held: retry(outbox, held, duplicate=True),
    "fail, buried": lambda outbox, held: outbox.fail(held, last_attempt(held, duplicate=True)).following,
    "release": lambda outbox, held: outbox.release(held, duplicate=True),
    "bury": bury,
}
ending = pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
GOING_ON = ("settle", "fail, buried", "bury")
going_on = pytest.mark.parametrize("end", [ENDINGS[name] for name in GOING_ON], ids=GOING_ON)
giving_back = pytest.mark.parametrize("end", [ENDINGS["fail, retried"], ENDINGS["release"]], ids=["fail", "release"])


# settle


def test_a_settled_event_is_gone_and_the_next_head_comes_under_the_same_token(outbox: Outbox) -> None:
    _, second = put(outbox), put(outbox)
    first = claim_one(outbox)
    outbox.read("ZADD", outbox.keys.due("shop"), now_ms(outbox) + 1, str(ALICE))
    following = outbox.settle(first, lease_ms=LEASE_MS)
    assert following is not None
    assert (following.id, following.token, following.lane) == (second, first.token, first.lane)
    assert following.attempts() == Tried(second)
    in_ms = due_in(outbox)
    assert in_ms is not None
    assert in_ms > LEASE_MS - 30_000, "the lease is renewed"
    assert books(outbox) == {"accepted": 2, "delivered": 1, "waiting": 1, "dead": 0, "discarded": 0}


def test_a_renewed_lease_that_is_left_behind_throws_doubt_on_the_new_head(outbox: Outbox) -> None:
    _, second = put(outbox), put(outbox)
    outbox.settle(claim_one(outbox), lease_ms=LEASE_MS)
    come_due(outbox)
    assert claim_one(outbox, worker="worker-2").attempts().abandoned == 1
    assert outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1) == [second]


def test_after_the_last_event_nothing_of_a_lane_is_left(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    retry(outbox, held)
    assert outbox.settle(claim_one(outbox), lease_ms=LEASE_MS) is None
    assert due_in(outbox) is None
    for key in (outbox.keys.lease, outbox.keys.trying, outbox.keys.failing, outbox.keys.lane(ALICE)):
        assert outbox.read("EXISTS", key) == 0


def test_a_worker_that_takes_no_more_leaves_the_lane_due_at_once(outbox: Outbox) -> None:
    _, second = put(outbox), put(outbox)
    assert outbox.settle(claim_one(outbox), lease_ms=0) is None
    assert claim_one(outbox, worker="worker-2").id == second
    assert ledger(outbox, "duplicates_possible") == [0]


def test_a_lane_of_a_paused_app_gives_out_no_next_head(outbox: Outbox) -> None:
    put(outbox)
    put(outbox)
    held = claim_one(outbox)
    outbox.pause("shop")
    assert outbox.settle(held, lease_ms=LEASE_MS) is None
    assert outbox.read("HGETALL", outbox.keys.lease) == {}


def test_a_next_head_of_a_newer_version_is_left_to_a_newer_worker(outbox: Outbox) -> None:
    put(outbox)
    put(outbox)
    held = claim_one(outbox)
    data = outbox.read("LINDEX", outbox.keys.lane(ALICE), 1)
    outbox.read("LSET", outbox.keys.lane(ALICE), 1, bytes([record.VERSION + 1]) + data[1:])
    assert outbox.settle(held, lease_ms=LEASE_MS) is None
    assert outbox.read("HGETALL", outbox.keys.lease) == {}


def test_a_record_with_a_newer_codec_waits_untouched_for_a_worker_that_knows_it(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release that adds a codec raises the version of the records that use it."""
    put(outbox, payload=b'{"type":"purchase"}')
    data = outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)
    newer = bytes([record.VERSION + 1]) + data[1:42] + b"\x07" + data[43:]
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, newer)
    assert claim(outbox) == []
    assert outbox.read("LRANGE", outbox.keys.lane(ALICE), 0, -1) == [newer]
    come_due(outbox)
    monkeypatch.setattr(record, "VERSION", record.VERSION + 1)
    assert claim_one(outbox).data == newer


@going_on
def test_ending_an_event_twice_counts_it_once_and_returns_the_next_with_its_lease_renewed(
    outbox: Outbox, end: Callable[[Outbox, Claim], Claim | None]
) -> None:
    _, second = put(outbox), put(outbox)
    held = claim_one(outbox)
    end(outbox, held)
    outbox.read("ZADD", outbox.keys.due("shop"), now_ms(outbox) + 1, str(ALICE))
    counted = books(outbox)
    again = end(outbox, held)
    assert again is not None
    assert (again.id, again.token) == (second, held.token)
    in_ms = due_in(outbox)
    assert in_ms is not None
    assert in_ms > LEASE_MS - 30_000, "a holder reckons its lease from the answer it got, which is this one"
    assert books(outbox) == counted


def test_ending_an_event_twice_gives_the_lane_back_when_no_more_is_taken(outbox: Outbox) -> None:
    put(outbox)
    put(outbox)
    held = claim_one(outbox)
    outbox.settle(held, lease_ms=LEASE_MS)
    assert outbox.settle(held, lease_ms=0) is None
    assert outbox.read("HGETALL", outbox.keys.lease) == {}


def test_several_are_settled_in_one_step_and_each_lane_goes_its_own_way(outbox: Outbox) -> None:
    carol, dave = Lane("shop", "v", "carol"), Lane("shop", "g", "dave")
    put(outbox, ALICE)
    put(outbox, BOB)
    bobs_second = put(outbox, BOB)
    put(outbox, carol)
    put(outbox, dave)
    held = {one.lane: one for one in claim(outbox)}
    come_due(outbox, carol)  # somebody else has it by now
    superseding = claim_one(outbox, worker="worker-2")
    assert outbox.settle(held[str(dave)], lease_ms=LEASE_MS) is None
    alices, bobs, carols, daves = outbox.settle_all(
        "shop", [Delivered(held[str(lane)], LEASE_MS) for lane in (ALICE, BOB, carol, dave)]
    )
    assert (alices, carols, daves) == (None, None, None)
    assert bobs is not None
    assert (bobs.lane, bobs.id, bobs.token) == (str(BOB), bobs_second, held[str(BOB)].token)
    assert waiting(outbox, carol) == [superseding.id]
    assert set(outbox.read("HKEYS", outbox.keys.lease)) == {str(BOB).encode(), str(carol).encode()}
    assert books(outbox) == {"accepted": 5, "delivered": 3, "waiting": 2, "dead": 0, "discarded": 0}


def test_after_an_outage_as_many_more_may_begin_as_if_they_had_been_settled_one_by_one(outbox: Outbox) -> None:
    for lane in (ALICE, BOB, GUEST, Lane("shop", "v", "carol")):
        put(outbox, lane)
    held = claim(outbox)
    pause(outbox, held[0])
    over: list[str] = []
    told = Outbox(outbox.redis, namespace=outbox.keys.namespace, outage_over=over.append)
    told.settle_all("shop", [Delivered(one, 0) for one in held[1:]])
    assert (over, guard_state(outbox)["tokens"]) == (["shop"], "6")


def test_a_head_that_is_not_what_the_lease_is_for_stays(outbox: Outbox) -> None:
    first = put(outbox)
    held = claim_one(outbox)
    data = record.encode(record.decode(held.data)._replace(id=b"by somebody else"))
    outbox.read("LPUSH", outbox.keys.lane(ALICE), data)
    assert outbox.settle(held, lease_ms=0) is None
    assert waiting(outbox) == [b"by somebody else", first]
    assert ledger(outbox, "delivered") == [0]


# fail, when it is retried, and release


def test_a_retry_is_not_early_and_holds_the_whole_lane(outbox: Outbox) -> None:
    first, second = put(outbox), put(outbox)
    assert retry(outbox, claim_one(outbox), delay_ms=60_000)
    in_ms = due_in(outbox)
    assert in_ms is not None
    assert 30_000 < in_ms <= 60_000
    assert claim(outbox) == []
    come_due(outbox)
    assert claim_one(outbox).id == first
    assert waiting(outbox) == [first, second]


def test_a_retry_remembers_the_attempt_and_since_when_its_visitor_is_held(outbox: Outbox) -> None:
    event_id = put(outbox)
    (data,) = outbox.read("LRANGE", outbox.keys.lane(ALICE), 0, -1)
    accepted_long_ago = record.encode(record.decode(data)._replace(accepted_at_ms=1_700_000_000_000))
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, accepted_long_ago)
    held = claim_one(outbox)
    tried = Tried(event_id, 2, 1, 1_000, 2_000, "answered 500: später")
    retry(outbox, held, tried)
    assert outbox.read("ZSCORE", outbox.keys.failing, str(ALICE)) == 1_700_000_000_000
    assert claim_one(outbox).attempts() == tried


def test_a_possible_duplicate_is_marked_and_an_event_that_was_surely_not_taken_is_not(outbox: Outbox) -> None:
    event_id = put(outbox)
    retry(outbox, claim_one(outbox))
    assert ledger(outbox, "duplicates_possible") == [0]
    retry(outbox, claim_one(outbox), duplicate=True)
    assert ledger(outbox, "duplicates_possible") == [1]
    assert outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1) == [event_id]


def test_a_lane_given_back_for_now_wakes_a_worker_and_one_for_later_does_not(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    outbox.read("DEL", outbox.keys.wake)
    retry(outbox, held, delay_ms=60_000)
    assert outbox.read("LLEN", outbox.keys.wake) == 0
    come_due(outbox)
    outbox.release(claim_one(outbox))
    assert outbox.read("LLEN", outbox.keys.wake) == 1


def test_a_released_lane_is_as_it_was(outbox: Outbox) -> None:
    event_id = put(outbox)
    held = claim_one(outbox)
    retry(outbox, held, Tried(event_id, 4, 0, 1, 2, "answered 500"))
    assert outbox.release(claim_one(outbox))
    assert claim_one(outbox).attempts() == Tried(event_id, 4, 0, 1, 2, "answered 500")
    assert ledger(outbox, "duplicates_possible") == [0]


def test_a_release_marks_a_possible_duplicate(outbox: Outbox) -> None:
    event_id = put(outbox)
    assert outbox.release(claim_one(outbox), duplicate=True)
    assert ledger(outbox, "duplicates_possible") == [1]
    assert outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1) == [event_id]


# bury


def test_a_buried_event_is_a_dead_letter_unchanged_and_the_lane_goes_on(outbox: Outbox) -> None:
    first, second = put(outbox, payload=b'{"price":1.10,"items":[]}'), put(outbox)
    held = claim_one(outbox)
    following = bury(outbox, held)
    assert following is not None
    assert (following.id, following.token) == (second, held.token)
    assert outbox.read("HGET", outbox.keys.dead, first).endswith(held.data)
    assert outbox.read("ZSCORE", outbox.keys.dead_index("shop"), first) == record.decode(held.data).seq
    assert outbox.read("HGET", outbox.keys.dead_groups, b"purchase\tanswered 400\tcount") == b"1"
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 1, "dead": 1, "discarded": 0}


def test_a_burial_ends_what_was_known_of_the_head(outbox: Outbox) -> None:
    event_id = put(outbox)
    put(outbox)
    held = claim_one(outbox)
    retry(outbox, held, Tried(event_id, 4))
    bury(outbox, claim_one(outbox), lease_ms=0)
    assert outbox.read("EXISTS", outbox.keys.trying, outbox.keys.failing) == 0
    assert claim_one(outbox).attempts().attempts == 0


def test_an_invalid_event_is_kept_as_a_dead_letter(outbox: Outbox) -> None:
    event_id = record.new_id()
    outbox.bury_invalid(
        "shop", event_id, lane=None, type="purchase", payload=b"{}", faults="properties.order_id: missing"
    )
    data = outbox.read("HGET", outbox.keys.dead, event_id.bytes)
    assert b"properties.order_id: missing" in data
    assert outbox.read("HGET", outbox.keys.dead_groups, b"purchase\tinvalid\tcount") == b"1"
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 0, "dead": 1, "discarded": 0}


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "\ud800", "x" * 100_000, ""])
def test_an_invalid_event_is_kept_whatever_its_caller_called_its_type(outbox: Outbox, name: str) -> None:
    event_id = record.new_id()
    outbox.bury_invalid("shop", event_id, lane=None, type=name, payload=b"{}", faults="type: unknown")
    assert replay(outbox, event_id.bytes) == b"INVALID"
    assert outbox.apps() == []
    assert discard(outbox, event_id.bytes) == b"DISCARDED"
    assert outbox.read("EXISTS", outbox.keys.dead_groups) == 0


# Refusals


@ending
def test_a_holder_whose_lane_was_claimed_anew_changes_nothing_at_all(
    outbox: Outbox, end: Callable[[Outbox, Claim], object]
) -> None:
    put(outbox)
    put(outbox)
    stale = claim_one(outbox)
    come_due(outbox)
    claim_one(outbox, worker="worker-2")
    before = snapshot(outbox)
    assert not end(outbox, stale)
    assert snapshot(outbox) == before


def test_a_burial_says_whether_the_event_is_a_dead_letter_now(outbox: Outbox) -> None:
    put(outbox)
    stale = claim_one(outbox)
    come_due(outbox)
    holder = claim_one(outbox)
    assert [buried(outbox, held).held for held in (stale, holder, holder)] == [False, True, False]
    put(outbox)
    put(outbox)
    holder = claim_one(outbox)
    assert [buried(outbox, holder).held for _ in range(2)] == [True, True], "the lane went on under the same lease"


def without_marks(outbox: Outbox) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """All keys but the ledger, and the ledger, both without what says which events may have been sent twice."""
    keys = {key: dump for key, dump in snapshot(outbox).items() if not key.endswith((b":doubtful", b":ledger"))}
    ledger = pairs(outbox.read("HGETALL", outbox.keys.ledger))
    return keys, {name: count for name, count in ledger if name != b"duplicates_possible"}


@ending
def test_a_holder_that_gave_its_lane_back_changes_nothing_but_a_mark(
    outbox: Outbox, end: Callable[[Outbox, Claim], object]
) -> None:
    put(outbox)
    stale = claim_one(outbox)
    outbox.release(stale)
    before = without_marks(outbox)
    assert not end(outbox, stale)
    assert without_marks(outbox) == before


@giving_back
def test_giving_a_lane_back_for_an_event_that_is_gone_changes_nothing_but_a_mark(
    outbox: Outbox, end: Callable[[Outbox, Claim], object]
) -> None:
    put(outbox)
    put(outbox)
    held = claim_one(outbox)
    outbox.settle(held, lease_ms=LEASE_MS)
    before = without_marks(outbox)
    assert end(outbox, held) is False
    assert without_marks(outbox) == before


def test_a_holder_past_its_lease_that_nobody_replaced_may_still_settle(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    come_due(outbox)
    outbox.settle(held, lease_ms=LEASE_MS)
    assert books(outbox)["delivered"] == 1
