"""The books: which transition writes what, sums of revenue at their limits, and how long deliveries take."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    bury,
    claim,
    claim_one,
    come_due,
    counts_of,
    discard,
    letter,
    now_ms,
    purchase,
    put,
    replay,
    tombstone,
)

from insend_relay.operations.books import CODES, read_counts
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.latency import BOUNDS_MS, LAST, Latency, read_latency
from insend_relay.operations.repair import Corrected, repair
from insend_relay.outbox import record, scripts
from insend_relay.outbox.claim import Delivered
from insend_relay.outbox.entry import Entry, Way
from insend_relay.outbox.failed_attempt import Burial, FailedAttempt
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

LARGEST = "900719925474.0991"  # 2**53 - 1 units
PURCHASE, ORDER_UPDATE = "5", "11"


def shared(name: str) -> str:
    return (scripts.FOLDER / "shared" / f"{name}.lua").read_text(encoding="utf-8")


def test_the_scripts_know_every_type_and_the_last_bound() -> None:
    codes = re.search(r"TYPE_CODES = \{(.*)\}", shared("waiting"))
    last = re.search(r"LAST = (\d+)", shared("latency"))
    assert codes
    assert last
    assert tuple(map(int, codes.group(1).split(", "))) == CODES
    assert int(last.group(1)) == LAST


def test_an_event_is_counted_by_type_for_the_relay_and_for_its_app(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("12.5"))
    put(outbox, OTHER, purchase("0.0001"))
    put(outbox, BOB, b'{"type":"link"}')
    put(outbox, GUEST, b'{"type":"of a later day"}')
    assert counts_of(outbox, PURCHASE) == {"accepted": 2, "waiting": 2, "revenue_waiting": 125_001}
    assert counts_of(outbox, f"shop/{PURCHASE}") == {"accepted": 1, "waiting": 1, "revenue_waiting": 125_000}
    assert counts_of(outbox, f"second/{PURCHASE}") == {"accepted": 1, "waiting": 1, "revenue_waiting": 1}
    assert counts_of(outbox, "255") == counts_of(outbox, "shop/255") == {"accepted": 1, "waiting": 1}
    books = outbox.read("SMEMBERS", outbox.keys.books)
    assert set(books) == {b"shop/5", b"second/5", b"shop/8", b"shop/255"}


def test_a_purchase_takes_its_revenue_along_from_place_to_place(outbox: Outbox) -> None:
    event_id = letter(outbox, ALICE, purchase("12.5"))
    assert counts_of(outbox, PURCHASE) == {"accepted": 1, "dead": 1, "buried": 1, "revenue_dead": 125_000}
    replay(outbox, event_id)
    assert counts_of(outbox, PURCHASE) == {
        "accepted": 1,
        "waiting": 1,
        "buried": 1,
        "replayed": 1,
        "revenue_waiting": 125_000,
    }
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert counts_of(outbox, PURCHASE) == {"accepted": 1, "delivered": 1, "buried": 1, "replayed": 1}


@pytest.mark.parametrize("revenue", ["-1", "0.00001", "1e30", '"much"'])
def test_a_revenue_that_cannot_be_counted_is_unknown_and_no_reason_to_refuse(outbox: Outbox, revenue: str) -> None:
    event_id = letter(outbox, ALICE, purchase(revenue))
    assert counts_of(outbox, PURCHASE) == {"accepted": 1, "dead": 1, "buried": 1, "unknown_dead": 1}
    discard(outbox, event_id)
    assert counts_of(outbox, PURCHASE) == {"accepted": 1, "discarded": 1, "buried": 1}


def test_a_purchase_for_nothing_is_counted(outbox: Outbox) -> None:
    for lane in (ALICE, BOB, GUEST):
        put(outbox, lane, purchase("0"))
    first, *others = claim(outbox)
    bury(outbox, first, lease_ms=0)
    outbox.settle_all("shop", [Delivered(one, 0) for one in others])
    assert counts_of(outbox, PURCHASE) == {"accepted": 3, "delivered": 2, "dead": 1, "buried": 1}


@pytest.mark.parametrize("revenue", ["100000000000", LARGEST])  # Lua writes the first one's units as 1e+15
def test_large_revenues_are_added_exactly(outbox: Outbox, revenue: str) -> None:
    units = int(float(revenue) * 10_000)
    lanes = [Lane("shop", "v", f"v-{number}") for number in range(3)]
    for lane in lanes:
        put(outbox, lane, purchase(revenue))
    assert counts_of(outbox, PURCHASE)["revenue_waiting"] == 3 * units
    first, *others = claim(outbox)
    bury(outbox, first, lease_ms=0)
    outbox.settle_all("shop", [Delivered(one, 0) for one in others])
    assert counts_of(outbox, PURCHASE) == {"accepted": 3, "delivered": 2, "dead": 1, "buried": 1, "revenue_dead": units}


def test_revenues_of_one_step_are_added_exactly_where_lua_would_round(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase(LARGEST))
    put(outbox, BOB, purchase("0.0002"))  # together 2**53 + 1 units
    outbox.settle_all("shop", [Delivered(held, 0) for held in claim(outbox)])
    assert counts_of(outbox, PURCHASE) == {"accepted": 2, "delivered": 2}


@pytest.mark.parametrize("column", ["waiting", "dead"])
def test_a_sum_that_overflows_breaks_nothing_and_is_right_again_afterwards(outbox: Outbox, column: str) -> None:
    for book in (PURCHASE, f"shop/{PURCHASE}"):
        outbox.read("HSET", outbox.keys.books_of(book), f"revenue_{column}", 2**63 - 10)
    put(outbox, ALICE, purchase(LARGEST))
    put(outbox, ALICE, purchase("1"))
    if column == "dead":
        following = bury(outbox, claim_one(outbox))
        assert following
        bury(outbox, following, lease_ms=0)
    expected = 2**63 - 10 + 2**53 - 1 + 10_000 - 2**64
    for book in (PURCHASE, f"shop/{PURCHASE}"):
        assert counts_of(outbox, book)[f"revenue_{column}"] == expected
        assert read_counts(outbox, book).as_dict()[f"revenue_{column}"] is None
    if column == "dead":
        for event in list(DeadLetters(outbox).scan()):
            discard(outbox, event.id.bytes)
    else:
        following = outbox.settle(claim_one(outbox), lease_ms=LEASE_MS)
        assert following
        outbox.settle(following, lease_ms=0)
    for book in (PURCHASE, f"shop/{PURCHASE}"):
        assert counts_of(outbox, book)[f"revenue_{column}"] == 2**63 - 10


def test_a_group_whose_revenue_overflows_is_counted_on(outbox: Outbox) -> None:
    outbox.read("HSET", outbox.keys.dead_groups, "purchase\tanswered 400\trevenue", 2**63 - 1)
    letter(outbox, ALICE, purchase("1"))
    (group,) = DeadLetters(outbox).groups()
    assert (group.count, group.revenue, group.as_dict()["revenue"]) == (1, -(2**63) + 9_999, None)


def test_what_has_been_done_already_adds_nothing(outbox: Outbox) -> None:
    put(outbox, ALICE, purchase("1"))
    put(outbox, BOB, purchase("2"))
    put(outbox, GUEST, purchase("4"))
    by_lane = {held.lane: held for held in claim(outbox)}
    alice, bob, guest = (by_lane[str(lane)] for lane in (ALICE, BOB, GUEST))
    meta = letter_meta(outcome="answered", status=400)
    given_up = FailedAttempt(
        "rejected",
        "400",
        Tried(bob.id, 1, 0, 1, 1, "answered 400"),
        0,
        burial=Burial("purchase", "answered 400", meta, 0),
    )

    def everything() -> None:
        outbox.settle(alice, lease_ms=0)
        outbox.fail(bob, given_up)
        bury(outbox, guest, lease_ms=0)

    everything()
    counts = asdict(read_counts(outbox, PURCHASE))
    assert (counts["delivered"], counts["dead"], counts["revenue_dead"]) == (1, 2, 60_000)
    everything()
    assert asdict(read_counts(outbox, PURCHASE)) == counts
    assert [(group.count, group.revenue) for group in DeadLetters(outbox).groups()] == [(2, 60_000)]
    assert read_latency(outbox, "shop").delivered.count == 1


def test_a_spooled_event_that_comes_twice_is_counted_once(outbox: Outbox) -> None:
    entry = Entry(ALICE, record.new_id(), purchase("1"))
    for _ in range(2):
        outbox.enter(entry, Way("p:1", "spool-1"))
    assert counts_of(outbox, PURCHASE) == {"accepted": 1, "waiting": 1, "revenue_waiting": 10_000}


def test_a_spooled_event_of_an_erased_person_is_accepted_and_discarded(outbox: Outbox) -> None:
    outbox.read("SET", tombstone(outbox, str(ALICE)), now_ms(outbox))
    assert outbox.enter(Entry(ALICE, record.new_id(), purchase("1")), Way("", "spool-1")).erased
    assert counts_of(outbox, f"shop/{PURCHASE}") == {"accepted": 1, "discarded": 1}
    outbox.read("DEL", tombstone(outbox, str(ALICE)))


def test_a_corrected_event_is_counted_as_what_it_is_now(outbox: Outbox) -> None:
    outbox.bury_invalid("shop", record.new_id(), lane=None, type="link", payload=b"{}", faults="no url")
    (found,) = DeadLetters(outbox).scan()
    repair(outbox, found, Corrected(OTHER, "", purchase("3")))
    assert counts_of(outbox, "shop/8") == {"buried": 1, "replayed": 1}
    assert counts_of(outbox, f"second/{PURCHASE}") == {"accepted": 1, "waiting": 1, "revenue_waiting": 30_000}
    assert read_counts(outbox, "8").balanced
    assert read_counts(outbox, PURCHASE).balanced


def test_bytes_that_are_no_record_are_counted_without_a_type(outbox: Outbox) -> None:
    put(outbox, ALICE)
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, b"?")
    held = outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)
    assert held
    bury(outbox, held, lease_ms=0)
    assert counts_of(outbox, "0") == {"accepted": 1, "dead": 1, "buried": 1}


# How long deliveries take


def test_an_age_and_a_post_fall_into_the_bucket_of_the_next_power_of_two(outbox: Outbox) -> None:
    put(outbox, ALICE)
    accepted_in(outbox, -400)
    outbox.settle(claim_one(outbox), lease_ms=0, post_ms=50)
    found = read_latency(outbox, "shop")
    assert found.post.counts[BOUNDS_MS.index(64)] == found.post.count == 1
    assert (found.post.sum_ms, found.post.within_seconds(0.5)) == (50, 0.064)
    assert found.delivered.count == 1
    assert found.delivered.sum_ms >= 400
    assert sum(found.delivered.counts[: BOUNDS_MS.index(512)]) == 0


def test_an_age_after_a_step_back_of_the_clock_counts_as_none(outbox: Outbox) -> None:
    put(outbox, ALICE)
    accepted_in(outbox, 3_600_000)
    outbox.settle(claim_one(outbox), lease_ms=0)
    found = read_latency(outbox, "shop")
    assert (found.delivered.counts[0], found.delivered.sum_ms, found.post.count) == (1, 0, 0)


def test_a_replayed_event_has_no_age(outbox: Outbox) -> None:
    replay(outbox, letter(outbox, ALICE))
    put(outbox, BOB)
    outbox.settle_all("shop", [Delivered(held, 0, 7) for held in claim(outbox)])
    found = read_latency(outbox, "shop")
    assert (found.delivered.count, found.post.count) == (1, 2)


def test_what_takes_longer_than_the_last_bound_is_counted(outbox: Outbox) -> None:
    put(outbox, ALICE)
    accepted_in(outbox, -200_000_000)
    outbox.settle(claim_one(outbox), lease_ms=0, post_ms=2**40)
    found = read_latency(outbox, "shop")
    assert (found.delivered.counts[-1], found.post.counts[-1]) == (1, 1)
    assert found.delivered.within_seconds(0.5) is None
    assert found.delivered.as_dict()["buckets"]["+Inf"] == 1


def test_an_app_without_deliveries_has_empty_histograms(outbox: Outbox) -> None:
    assert read_latency(outbox, "shop") == Latency()
    assert Latency().post.within_seconds(0.5) is None


def accepted_in(outbox: Outbox, ms: int) -> None:
    """As if Alice's first event had been accepted so many ms from now."""
    key = outbox.keys.lane(ALICE)
    stored = record.decode(outbox.read("LINDEX", key, 0))
    outbox.read("LSET", key, 0, record.encode(stored._replace(accepted_at_ms=now_ms(outbox) + ms)))
    come_due(outbox, ALICE)
