"""The scripts of an erasure, each for itself: what they discard, what they leave, and what they refuse from then on."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from attempts import pause, retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    books,
    bury,
    claim,
    claim_one,
    come_due,
    due_in,
    erase,
    ledger,
    letter,
    make_newer,
    now_ms,
    put,
    replay,
    replay_counts,
    snapshot,
    tombstone,
    waiting,
)

from insend_relay.operations.audit import audit
from insend_relay.outbox import record
from insend_relay.outbox.entry import Entry, InvalidEntry, Way
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

FILE = Way(file="spool-1")
CLOCKS_MS = 300_000


def made(outbox: Outbox, *, before_ms: int) -> uuid.UUID:
    """The id of an event that was made so long ago, on Redis's clock."""
    random = record.new_id().int & ((1 << 80) - 1)
    return uuid.UUID(int=(now_ms(outbox) - before_ms) << 80 | random)


def spooled(outbox: Outbox, event_id: uuid.UUID, lane: Lane = ALICE, way: Way = FILE, **more: Any) -> bool:
    """An event comes from a spool; whether it was refused, since its person is erased."""
    return outbox.enter(Entry(lane, event_id, b"{}", **more), way).erased


def test_no_key_names_an_erased_lane_that_was_left_to_a_newer_worker(outbox: Outbox) -> None:
    put(outbox)
    make_newer(outbox)
    assert claim(outbox) == []
    assert outbox.read("ZSCORE", outbox.keys.newer, str(ALICE))
    assert erase(outbox)[0] == b"ERASED"
    assert not any(b"alice" in key or b"alice" in value for key, value in snapshot(outbox).items())


def test_what_waits_in_a_lane_is_discarded_and_no_key_names_the_lane(outbox: Outbox) -> None:
    ids = [put(outbox) for _ in range(3)]
    put(outbox, BOB)
    assert erase(outbox) == (b"ERASED", ids[::-1])
    assert books(outbox) == {"accepted": 4, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 3}
    assert not any(b"alice" in key or b"alice" in value for key, value in snapshot(outbox).items())
    assert erase(outbox) == (b"ERASED", [])


def test_a_long_lane_is_discarded_in_bounded_steps_and_the_books_balance_after_each(outbox: Outbox) -> None:
    for _ in range(250):
        put(outbox)
    statuses = []
    while True:
        status, erased = erase(outbox)
        statuses.append((status, len(erased)))
        assert books(outbox)["waiting"] + books(outbox)["discarded"] == 250
        if status == b"ERASED":
            break
    assert statuses == [(b"MORE", 100), (b"MORE", 100), (b"ERASED", 50)]


def test_the_event_that_a_worker_is_sending_stays_and_the_others_do_not(outbox: Outbox) -> None:
    first, second, third = put(outbox), put(outbox), put(outbox)
    held = claim_one(outbox)
    assert erase(outbox) == (b"SENDING", [third, second])
    assert erase(outbox) == (b"SENDING", [])
    assert waiting(outbox) == [first]
    assert outbox.settle(held, lease_ms=LEASE_MS) is None
    assert erase(outbox) == (b"ERASED", [])
    assert books(outbox) == {"accepted": 3, "delivered": 1, "waiting": 0, "dead": 0, "discarded": 2}
    assert audit(outbox).balanced


def test_a_worker_whose_lease_ran_out_is_superseded_and_its_event_may_have_been_sent(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    come_due(outbox)
    status, _, (_, possibly_sent) = outbox._run("erase", lane=str(ALICE))
    assert (status, possibly_sent) == (b"ERASED", 1)
    assert outbox.settle(held, lease_ms=LEASE_MS) is None
    assert not retry(outbox, held)
    assert bury(outbox, held) is None
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 0, "dead": 0, "discarded": 1}
    assert audit(outbox).balanced


def test_what_is_known_of_a_failing_event_goes_with_it(outbox: Outbox) -> None:
    put(outbox)
    held = claim_one(outbox)
    retry(outbox, held, Tried(held.id, 1, outcome="unknown"), delay_ms=9_000, duplicate=True)
    assert outbox.read("HEXISTS", outbox.keys.suspects("shop"), str(ALICE))
    (_, _, (_, possibly_sent)) = outbox._run("erase", lane=str(ALICE))
    assert possibly_sent == 1, "it was marked as a possible duplicate"
    for command, key in (("HLEN", "trying"), ("ZCARD", "failing"), ("ZCARD", "doubtful"), ("HLEN", "lease")):
        assert outbox.read(command, getattr(outbox.keys, key)) == 0, key
    assert not outbox.read("HEXISTS", outbox.keys.suspects("shop"), str(ALICE))
    assert due_in(outbox) is None
    assert ledger(outbox, "duplicates_possible") == [1], "the counters stay"


def test_a_probe_that_is_erased_lets_the_next_one_go(outbox: Outbox) -> None:
    put(outbox)
    pause(outbox, claim_one(outbox))
    outbox.read("HSET", outbox.keys.outage("shop"), "probe", str(ALICE))
    come_due(outbox)
    erase(outbox)
    assert outbox.read("HGET", outbox.keys.outage("shop"), "probe") is None


def test_who_waits_for_an_erased_guest_is_due_at_once(outbox: Outbox) -> None:
    put(outbox, GUEST)
    login = put(outbox, ALICE, guest_uid=GUEST.uid)
    guest = claim_one(outbox)
    retry(outbox, guest, delay_ms=9_000)
    assert outbox.claim("worker-2", 9, lease_ms=LEASE_MS) == []
    assert outbox.read("ZCARD", outbox.keys.behind(GUEST)) == 1
    assert erase(outbox, GUEST)[0] == b"ERASED"
    assert outbox.read("EXISTS", outbox.keys.behind(GUEST)) == 0
    assert claim_one(outbox).id == login


def test_an_erased_visitor_waits_for_no_guest_any_more(outbox: Outbox) -> None:
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    outbox.claim("worker-1", 9, lease_ms=LEASE_MS)
    assert outbox.read("ZCARD", outbox.keys.behind(GUEST)) == 1
    assert erase(outbox, ALICE)[0] == b"ERASED"
    assert outbox.read("EXISTS", outbox.keys.behind(GUEST)) == 0


def test_more_lanes_than_one_step_can_wake_are_woken_by_several(outbox: Outbox) -> None:
    put(outbox, GUEST)
    members = [part for number in range(2_500) for part in (1, f"shop/v/{number}")]
    outbox.read("ZADD", outbox.keys.behind(GUEST), *members)
    assert [erase(outbox, GUEST)[0] for _ in range(3)] == [b"MORE", b"MORE", b"ERASED"]
    outbox.read("DEL", outbox.keys.due("shop"))


def test_a_replay_counts_an_event_that_was_erased_on_its_way_as_discarded(outbox: Outbox) -> None:
    event_id = letter(outbox)
    assert replay(outbox, event_id) == b"REPLAYED"
    assert erase(outbox) == (b"ERASED", [event_id])
    assert replay_counts(outbox) == {"replayed": 1, "discarded": 1}
    assert outbox.read("HLEN", outbox.keys.replaying) == 0
    assert books(outbox)["discarded"] == 1


def test_spooled_events_of_an_erased_person_are_accepted_and_discarded_in_one_step(outbox: Outbox) -> None:
    outbox._run("tombstone", owner=str(ALICE))
    old = made(outbox, before_ms=60_000)
    assert spooled(outbox, old)
    assert spooled(outbox, made(outbox, before_ms=60_000), guest_uid=GUEST.uid, once_key="key")
    assert not spooled(outbox, old), "it has come in before"
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 0, "dead": 0, "discarded": 2}
    assert not spooled(outbox, made(outbox, before_ms=60_000), BOB)
    assert not spooled(outbox, made(outbox, before_ms=60_000), BOB, guest_uid=GUEST.uid)
    assert books(outbox)["waiting"] == 2
    assert audit(outbox).balanced


@pytest.mark.parametrize("owner", ["/v/alice", "shop/v/alice"])
def test_an_event_that_breaks_the_rules_is_refused_too(outbox: Outbox, owner: str) -> None:
    outbox._run("tombstone", owner=owner)
    old = made(outbox, before_ms=60_000)
    in_lane = InvalidEntry("shop", old, ALICE, "link", b"{}", "url: missing")
    nowhere = InvalidEntry("shop", made(outbox, before_ms=9), None, "?", b'{"visitor_uid":"alice"}', "x")
    assert [outbox.enter(entry, FILE).erased for entry in (in_lane, nowhere)] == [True, True]
    others = InvalidEntry("shop", made(outbox, before_ms=9), None, "?", b'{"visitor_uid":"bob"}', "x")
    unknown = InvalidEntry("shop", made(outbox, before_ms=9), None, "?", b"{}", "x")
    assert [outbox.enter(entry, FILE).erased for entry in (others, unknown)] == [False, False]
    assert books(outbox) == {"accepted": 4, "delivered": 0, "waiting": 0, "dead": 2, "discarded": 2}


def test_what_the_person_causes_after_the_erasure_is_taken(outbox: Outbox) -> None:
    outbox._run("tombstone", owner="/v/alice")
    assert not spooled(outbox, made(outbox, before_ms=-CLOCKS_MS - 60_000))
    put(outbox)
    outbox.bury_invalid("shop", record.new_id(), lane=ALICE, type="link", payload=b"{}", faults="url: missing")
    assert books(outbox) == {"accepted": 3, "delivered": 0, "waiting": 2, "dead": 1, "discarded": 0}


def test_clocks_that_differ_by_minutes_bring_nothing_back(outbox: Outbox) -> None:
    outbox._run("tombstone", owner="/v/alice")
    assert spooled(outbox, made(outbox, before_ms=-CLOCKS_MS + 60_000))


def test_a_late_packet_of_a_refused_event_is_refused_as_well(outbox: Outbox) -> None:
    outbox._run("tombstone", owner="/v/alice")
    old = made(outbox, before_ms=60_000)
    assert spooled(outbox, old, way=Way("p:1", "spool-1"))
    with pytest.raises(OutboxUnreachable, match="too late"):
        outbox.enter(Entry(ALICE, old, b"{}"), Way("p:1"))
    assert books(outbox)["accepted"] == 1


def test_a_tombstone_holds_a_hash_and_lasts_for_90_days(outbox: Outbox) -> None:
    before = now_ms(outbox)
    status, at_ms = outbox._run("tombstone", owner="/v/alice")
    assert (status, before <= at_ms <= now_ms(outbox)) == (b"MARKED", True)
    key = tombstone(outbox, "/v/alice")
    assert outbox.read("GET", key) == b"%d" % at_ms
    left_ms = outbox.read("PTTL", key)
    assert 90 * 86_400_000 - 600_000 < left_ms <= 90 * 86_400_000
    assert not any(b"alice" in key for key in snapshot(outbox))


def test_the_slot_of_a_spooled_event_that_is_given_up_lets_no_late_packet_in(outbox: Outbox) -> None:
    event_id = record.new_id()
    assert outbox._run("close_slot", id=event_id.bytes, slot="p:1", file="spool-1") == [b"DROPPED"]
    with pytest.raises(OutboxUnreachable, match="too late"):
        outbox.enter(Entry(ALICE, event_id, b"{}"), Way("p:1"))
    assert ledger(outbox, "accepted") == [0]
    assert 0 < outbox.read("PTTL", outbox.keys.slot("p:1")) <= 7 * 86_400_000


@pytest.mark.parametrize("way", [Way("p:1"), Way("p:1", "spool-1"), Way("", "spool-1")])
def test_a_spooled_event_that_had_come_in_is_not_given_up(outbox: Outbox, way: Way) -> None:
    event_id = record.new_id()
    outbox.enter(Entry(ALICE, event_id, b"{}"), way)
    before = snapshot(outbox)
    assert outbox._run("close_slot", id=event_id.bytes, slot=way.slot, file="spool-1") == [b"ENTERED"]
    assert snapshot(outbox) == before


def test_an_event_without_a_slot_is_given_up_without_a_trace(outbox: Outbox) -> None:
    before = snapshot(outbox)
    assert outbox._run("close_slot", id=record.new_id().bytes, slot="", file="spool-1") == [b"DROPPED"]
    assert snapshot(outbox) == before
