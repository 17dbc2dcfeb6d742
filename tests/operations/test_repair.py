"""A dead letter whose event a person has corrected: sent again in its place, or as a new event."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    books,
    bury,
    claim,
    claim_one,
    discard,
    ledger,
    letter,
    letter_keys,
    put,
    replay,
    replay_counts,
    snapshot,
    waiting,
)
from waiting import PATIENCE_SECONDS

from insend_relay.operations.audit import audit
from insend_relay.operations.dead import DeadLetters, Letter
from insend_relay.operations.repair import Corrected, Resent, repair, resend
from insend_relay.operations.replay import KEPT_SECONDS, Replay
from insend_relay.outbox import record
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import Changed, NotFound
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox

FIXED = Corrected(ALICE, "", b'{"fixed":1.10}')


def read(outbox: Outbox, event_id: bytes) -> Letter:
    return DeadLetters(outbox).get(uuid.UUID(bytes=event_id))


def invalid(outbox: Outbox, lane: Lane | None = None, payload: bytes = b"{}") -> bytes:
    """An event that broke the rules; its id."""
    event_id = record.new_id()
    outbox.bury_invalid("shop", event_id, lane=lane, type="purchase", payload=payload, faults="bad")
    return event_id.bytes


def resend_read(outbox: Outbox, read: Letter, event: Corrected = FIXED) -> Resent:
    return resend(outbox, read.id, read.record_sha1, event)


def records(outbox: Outbox, lane: Lane = ALICE) -> list[record.Record]:
    return [decode(data) for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)]


# Repair


def test_a_repaired_event_goes_to_the_tail_of_its_lane_with_its_id_seq_and_time_of_acceptance(outbox: Outbox) -> None:
    found = read(outbox, letter(outbox))
    newer = put(outbox)
    repair(outbox, found, FIXED)
    assert waiting(outbox) == [newer, found.id.bytes]
    assert records(outbox)[1] == record.Record(found.id.bytes, found.seq, found.accepted_at_ms, 0, "", FIXED.payload)
    for key in letter_keys(outbox):
        assert outbox.read("EXISTS", key) == 0
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 2, "dead": 0, "discarded": 0}
    assert ledger(outbox, "replayed") == [1]
    assert audit(outbox).findings == []


def test_an_invalid_letter_without_a_lane_is_sent_in_the_lane_of_the_corrected_event(outbox: Outbox) -> None:
    found = read(outbox, invalid(outbox))
    repair(outbox, found, FIXED)
    assert claim_one(outbox).id == found.id.bytes
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 0}


@pytest.mark.parametrize("lane", [BOB, GUEST, OTHER])
def test_a_corrected_event_of_another_visitor_or_app_goes_to_that_lane(outbox: Outbox, lane: Lane) -> None:
    found = read(outbox, letter(outbox))
    repair(outbox, found, Corrected(lane, "", b"{}"))
    assert (waiting(outbox), waiting(outbox, lane)) == ([], [found.id.bytes])
    assert claim_one(outbox).lane == str(lane)
    assert audit(outbox).findings == []


def test_the_groups_count_the_letters_that_are_left(outbox: Outbox) -> None:
    first, _ = invalid(outbox), invalid(outbox)
    letter(outbox)
    repair(outbox, read(outbox, first), FIXED)
    groups = {(group.type, group.reason): group.count for group in DeadLetters(outbox).groups()}
    assert groups == {("purchase", "answered 400"): 1, ("purchase", "invalid"): 1}


def test_a_run_counts_what_becomes_of_a_repaired_event(outbox: Outbox) -> None:
    run = repair(outbox, read(outbox, letter(outbox)), FIXED)
    counts = Replay.resume(outbox, run).progress()
    assert (counts.total, counts.replayed, counts.outstanding, counts.skipped) == (1, 1, 1, 0)
    assert 0 < outbox.read("TTL", outbox.keys.replay(run)) <= KEPT_SECONDS
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert Replay.resume(outbox, run).progress().delivered == 1
    assert outbox.read("EXISTS", outbox.keys.replaying) == 0


def test_a_repaired_event_that_dies_again_is_a_letter_with_the_corrected_event(outbox: Outbox) -> None:
    found = read(outbox, invalid(outbox))
    run = repair(outbox, found, FIXED)
    bury(outbox, claim_one(outbox), lease_ms=0)
    again = read(outbox, found.id.bytes)
    assert (again.payload, again.seq, again.reason) == (FIXED.payload, found.seq, "answered 400")
    assert Replay.resume(outbox, run).progress().returned == 1
    repair(outbox, again, Corrected(ALICE, "", b'{"fixed":2}'))
    assert records(outbox)[0].payload == b'{"fixed":2}'


def test_replayed_and_repaired_events_of_one_lane_are_each_counted_by_their_run(outbox: Outbox) -> None:
    first, second, third = letter(outbox), letter(outbox), letter(outbox, BOB)
    replay(outbox, first)
    run = repair(outbox, read(outbox, third), FIXED)
    replay(outbox, second)
    assert waiting(outbox) == [first, third, second]
    outbox.settle(claim_one(outbox), lease_ms=0)
    bury(outbox, claim_one(outbox), lease_ms=0)
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert replay_counts(outbox) == {"replayed": 2, "delivered": 2}
    assert Replay.resume(outbox, run).progress().returned == 1


@pytest.mark.parametrize("ends", [discard, replay])
def test_a_letter_that_went_meanwhile_is_not_repaired(outbox: Outbox, ends: Callable[..., bytes]) -> None:
    found = read(outbox, letter(outbox))
    ends(outbox, found.id.bytes)
    before = snapshot(outbox)
    with pytest.raises(NotFound, match="nothing was done"):
        repair(outbox, found, FIXED)
    assert snapshot(outbox) == before


def test_a_letter_that_another_operator_has_corrected_meanwhile_is_not_repaired(outbox: Outbox) -> None:
    found = read(outbox, letter(outbox))
    repair(outbox, found, Corrected(ALICE, "", b'{"other":1}'))
    bury(outbox, claim_one(outbox), lease_ms=0)
    before = snapshot(outbox)
    with pytest.raises(Changed, match="read it again"):
        repair(outbox, found, FIXED)
    assert resend_read(outbox, found) is Resent.CHANGED
    assert snapshot(outbox) == before


def test_a_letter_that_was_replayed_and_died_again_unchanged_is_repaired(outbox: Outbox) -> None:
    found = read(outbox, letter(outbox))
    replay(outbox, found.id.bytes)
    bury(outbox, claim_one(outbox), reason="answered 422", lease_ms=0)
    repair(outbox, found, FIXED)
    assert records(outbox)[0].payload == FIXED.payload


@pytest.mark.parametrize(
    "payload", [b'{"a":"\x00\xff"}', b"", bytes(range(256)) * 256, '{"n":1e400,"я":"\u2028"}'.encode()]
)
def test_the_bytes_of_a_corrected_event_are_stored_as_they_are(outbox: Outbox, payload: bytes) -> None:
    found = read(outbox, invalid(outbox, payload=bytes(reversed(payload))))
    repair(outbox, found, Corrected(ALICE, "guest-1", payload))
    assert decode(claim_one(outbox).data).payload == payload
    assert records(outbox)[0].guest_uid == "guest-1"


# The order across a login


def test_a_corrected_login_waits_for_what_its_guest_did_before_it(outbox: Outbox) -> None:
    before = put(outbox, GUEST)
    found = read(outbox, invalid(outbox))
    after = put(outbox, GUEST)
    repair(outbox, found, Corrected(ALICE, GUEST.uid, b"{}"))
    assert records(outbox)[0].barrier == found.seq
    held = claim_one(outbox)
    assert held.id == before
    outbox.settle(held, lease_ms=0)
    assert {one.id for one in claim(outbox)} == {found.id.bytes, after}


def test_a_resent_login_waits_for_all_that_its_guest_did_before_it(outbox: Outbox) -> None:
    found = read(outbox, invalid(outbox))
    guests = [put(outbox, GUEST), put(outbox, GUEST)]
    resend_read(outbox, found, Corrected(ALICE, GUEST.uid, b"{}"))
    for event_id in guests:
        held = claim_one(outbox)
        assert held.id == event_id
        outbox.settle(held, lease_ms=0)
    assert claim_one(outbox).lane == str(ALICE)


def test_an_event_that_names_its_guest_no_more_waits_for_none(outbox: Outbox) -> None:
    put(outbox, GUEST)
    event_id = put(outbox, ALICE, guest_uid=GUEST.uid)
    outbox.settle(claim_one(outbox), lease_ms=0)
    bury(outbox, claim_one(outbox), lease_ms=0)
    put(outbox, GUEST)
    repair(outbox, read(outbox, event_id), FIXED)
    (stored,) = records(outbox)
    assert (stored.barrier, stored.guest_uid) == (0, "")


# Resend


def test_a_resent_event_is_a_new_one_and_its_letter_is_discarded(outbox: Outbox) -> None:
    found = read(outbox, invalid(outbox))
    assert resend_read(outbox, found) is Resent.RESENT
    (stored,) = records(outbox)
    assert stored.payload == FIXED.payload
    assert (stored.id != found.id.bytes, stored.seq) == (True, 2)
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 1}
    assert audit(outbox).findings == []


def test_a_letter_is_resent_once_also_when_its_event_dies_again(outbox: Outbox) -> None:
    found = read(outbox, letter(outbox))
    assert resend_read(outbox, found) is Resent.RESENT
    bury(outbox, claim_one(outbox), lease_ms=0)
    before = snapshot(outbox)
    assert resend_read(outbox, found) is Resent.ALREADY
    assert snapshot(outbox) == before


def test_resent_events_of_a_visitor_go_in_the_order_in_which_they_were_resent(outbox: Outbox) -> None:
    found = [read(outbox, letter(outbox)) for _ in range(3)]
    for number, one in enumerate(found):
        assert resend_read(outbox, one, Corrected(ALICE, "", b"%d" % number)) is Resent.RESENT
    assert [one.payload for one in records(outbox)] == [b"0", b"1", b"2"]


# Races


def together(redis_url: str, namespace: str, *acts: Callable[[Outbox], Any]) -> Counter[str]:
    """Do all at the same moment, each by a connection of its own; how each ended, by its name."""
    barrier, ends = threading.Barrier(len(acts)), Counter[str]()

    def run(act: Callable[[Outbox], Any]) -> None:
        with connect(redis_url) as client:
            outbox = Outbox(client, namespace=namespace)
            barrier.wait(PATIENCE_SECONDS)
            try:
                done = act(outbox)
            except (Changed, NotFound) as error:
                done = type(error).__name__
            ends[getattr(done, "name", None) or (done.decode() if isinstance(done, bytes) else done)] += 1

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return ends


def edits(found: Letter, text: bytes) -> Callable[[Outbox], str]:
    def act(outbox: Outbox) -> str:
        repair(outbox, found, Corrected(ALICE, "", text))
        return "repaired"

    return act


@pytest.mark.parametrize("against", ["edit", "replay", "discard", "resend"])
def test_of_two_operators_at_the_same_letter_one_succeeds_and_the_other_changes_nothing(
    outbox: Outbox, redis_url: str, namespace: str, against: str
) -> None:
    others: dict[str, Callable[[Letter], Callable[[Outbox], Any]]] = {
        "edit": lambda found: edits(found, b'{"by":2}'),
        "replay": lambda found: lambda own: replay(own, found.id.bytes),
        "discard": lambda found: lambda own: discard(own, found.id.bytes),
        "resend": lambda found: lambda own: resend_read(own, found),
    }
    for _ in range(20):
        found = read(outbox, letter(outbox))
        ends = together(redis_url, namespace, edits(found, b'{"by":1}'), others[against](found))
        assert ends.total() == 2
        assert sum(ends[lost] for lost in ("NotFound", "GONE", "ALREADY")) == 1, ends
        assert books(outbox)["waiting"] == len(waiting(outbox)) <= 1
        for held in claim(outbox):
            outbox.settle(held, lease_ms=0)
    assert audit(outbox).findings == []


# What cannot be read


def test_a_record_of_a_newer_release_is_known_as_not_decoded(outbox: Outbox) -> None:
    event_id = put(outbox)
    data = outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, b"\x02" + data[1:])
    claimed = outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)
    assert claimed is not None
    bury(outbox, claimed, lease_ms=0)
    found = read(outbox, event_id)
    assert not found.decoded
    assert resend_read(outbox, found) is Resent.RESENT
    assert records(outbox)[0].payload == FIXED.payload


@pytest.mark.parametrize("stored", [b"", b"no record", b"\x01" * 41])
def test_bytes_that_are_no_record_can_be_resent(outbox: Outbox, stored: bytes) -> None:
    put(outbox)
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, stored)
    claimed = outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)
    assert claimed is not None
    bury(outbox, claimed, lease_ms=0)
    (found,) = DeadLetters(outbox).scan()
    assert not found.decoded
    assert resend_read(outbox, found) is Resent.RESENT
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 1}
