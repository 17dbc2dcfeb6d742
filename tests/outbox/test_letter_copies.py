"""Letters of the same event id: an event that came in twice and died twice, or damaged records with equal ids."""

from __future__ import annotations

import uuid

import pytest
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    books,
    buried,
    bury,
    claim,
    claim_one,
    discard,
    replay,
    replay_counts,
    snapshot,
    waiting,
)

from insend_relay.operations.audit import audit
from insend_relay.operations.dead import DeadLetters, Letter
from insend_relay.operations.erase import Erasure
from insend_relay.operations.erase_survey import survey
from insend_relay.operations.repair import Corrected, Resent, repair, resend
from insend_relay.operations.replay import Replay
from insend_relay.operations.visitor import bury_head, discard_head
from insend_relay.outbox import record
from insend_relay.outbox.entry import Entry, Way
from insend_relay.outbox.errors import Busy
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox

FIXED = Corrected(ALICE, "", b'{"fixed":1.10}')
EVENT = uuid.UUID("01920000-0000-7000-8000-000000000001")


def copies(outbox: Outbox, *lanes: Lane) -> list[Letter]:
    """Letters of the same event id, one for each lane; no other letter is there."""
    for number, lane in enumerate(lanes):
        outbox.append(lane, EVENT, b'{"copy":%d}' % number)
        bury(outbox, claim_one(outbox), lease_ms=0)
    return list(DeadLetters(outbox).scan())


@pytest.fixture
def two(outbox: Outbox) -> list[Letter]:
    """Two copies that died in the same lane."""
    return copies(outbox, ALICE, ALICE)


def assert_sound(outbox: Outbox) -> None:
    assert audit(outbox).findings == []


def test_an_event_that_comes_twice_and_dies_twice_is_two_letters(outbox: Outbox) -> None:
    """Its call had reached Redis, and it is flushed from the spool after its slot has expired."""
    entry = Entry(ALICE, EVENT, b"{}")
    outbox.enter(entry, Way(slot="s"))
    outbox.read("DEL", f"{outbox.keys.prefix}slot:s")
    outbox.enter(entry, Way(slot="s", file="f"))
    held = claim_one(outbox)
    following = bury(outbox, held)
    assert following
    bury(outbox, following)
    first, second = DeadLetters(outbox).scan()
    assert (first.id, first.event_id, second.event_id) == (EVENT, EVENT, EVENT)
    assert second.id != EVENT
    assert books(outbox)["dead"] == 2
    assert_sound(outbox)


@pytest.mark.parametrize("lanes", [(ALICE, ALICE, ALICE), (ALICE, BOB, GUEST), (ALICE, OTHER)], ids=len)
def test_each_copy_is_listed_and_discarded_by_itself(outbox: Outbox, lanes: tuple[Lane, ...]) -> None:
    found = copies(outbox, *lanes)
    assert sorted(letter.payload for letter in found) == [b'{"copy":%d}' % number for number in range(len(lanes))]
    assert_sound(outbox)
    for letter in found:
        assert DeadLetters(outbox).get(letter.id) == letter
        assert discard(outbox, letter.id.bytes) == b"DISCARDED"
        assert_sound(outbox)
    assert books(outbox)["discarded"] == len(lanes)


def test_invalid_copies_are_letters_of_their_own_and_stay(outbox: Outbox) -> None:
    for _ in range(2):
        outbox.bury_invalid("shop", EVENT, lane=ALICE, type="purchase", payload=b"{}", faults="bad")
    found = list(DeadLetters(outbox).scan())
    assert len(found) == 2
    assert {replay(outbox, letter.id.bytes) for letter in found} == {b"INVALID"}
    assert_sound(outbox)


def test_the_name_of_a_letter_is_free_again_when_the_letter_is_gone(outbox: Outbox, two: list[Letter]) -> None:
    discard(outbox, two[0].id.bytes)
    assert replay(outbox, two[1].id.bytes) == b"REPLAYED"
    done = buried(outbox, claim_one(outbox))
    assert done.letter_id == EVENT.bytes


def test_a_copy_waits_until_the_other_has_left_its_lane(outbox: Outbox, two: list[Letter]) -> None:
    first, second = two
    assert replay(outbox, first.id.bytes, run="run-1") == b"REPLAYED"
    before = snapshot(outbox)
    assert replay(outbox, second.id.bytes, run="run-2") == b"FULL"
    assert snapshot(outbox) == before
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert replay(outbox, second.id.bytes, run="run-2") == b"REPLAYED"
    assert waiting(outbox) == [EVENT.bytes]
    bury(outbox, claim_one(outbox), lease_ms=0)
    assert replay_counts(outbox, "run-1") == {"replayed": 1, "delivered": 1}
    assert replay_counts(outbox, "run-2") == {"replayed": 1, "returned": 1}
    assert outbox.read("EXISTS", outbox.keys.replaying) == 0
    assert_sound(outbox)


def test_one_run_sends_all_copies_and_counts_each(outbox: Outbox) -> None:
    copies(outbox, ALICE, BOB, ALICE)
    sent: list[bytes] = []

    def work() -> bool:
        for held in claim(outbox):
            sent.append(record.decode(held.data).payload)
            outbox.settle(held, lease_ms=0)
        return False

    run = Replay.start(outbox)
    assert run.run(per_second=100_000.0, stop=work, step_seconds=0.001).finished
    work()
    last = run.progress()
    assert (last.total, last.replayed, last.delivered, last.outstanding, last.skipped) == (3, 3, 3, 0, 0)
    assert sent == [b'{"copy":0}', b'{"copy":1}', b'{"copy":2}']
    assert_sound(outbox)


@pytest.mark.parametrize("way", ["discard_lane", "erase"])
def test_copies_that_leave_a_lane_together_are_one_event_of_the_run(
    outbox: Outbox, two: list[Letter], way: str
) -> None:
    replay(outbox, two[0].id.bytes, run="run-7")
    outbox.append(ALICE, EVENT, b"{}")
    more = {"last_seq": 99} if way == "discard_lane" else {}
    outbox._run(way, lane=str(ALICE), **more)
    assert waiting(outbox) == []
    assert replay_counts(outbox, "run-7") == {"replayed": 1, "discarded": 1}
    assert_sound(outbox)


def test_a_corrected_copy_keeps_the_events_id(outbox: Outbox, two: list[Letter]) -> None:
    run = repair(outbox, two[1], FIXED)
    assert waiting(outbox) == [EVENT.bytes]
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert replay_counts(outbox, run) == {"replayed": 1, "delivered": 1}
    assert [letter.id for letter in DeadLetters(outbox).scan()] == [EVENT]
    assert_sound(outbox)


@pytest.mark.parametrize("sent", [0, 1])
def test_a_copy_is_not_corrected_while_a_replay_has_the_other_in_its_lane(
    outbox: Outbox, two: list[Letter], sent: int
) -> None:
    replay(outbox, two[sent].id.bytes, run="run-7")
    before = snapshot(outbox)
    with pytest.raises(Busy, match=r"a copy of the event of .* nothing was done: try again"):
        repair(outbox, two[1 - sent], FIXED)
    assert snapshot(outbox) == before
    outbox.settle(claim_one(outbox), lease_ms=0)
    repair(outbox, two[1 - sent], FIXED)
    assert replay_counts(outbox, "run-7") == {"replayed": 1, "delivered": 1}


def test_a_copy_is_sent_as_a_new_event_and_the_other_stays(outbox: Outbox, two: list[Letter]) -> None:
    assert resend(outbox, two[1].id, two[1].record_sha1, FIXED) is Resent.RESENT
    assert resend(outbox, two[1].id, two[1].record_sha1, FIXED) is Resent.ALREADY
    assert list(DeadLetters(outbox).scan()) == two[:1]
    assert_sound(outbox)


def test_an_erasure_takes_all_copies_and_names_the_event(outbox: Outbox, two: list[Letter]) -> None:
    outbox.read("ZADD", outbox.keys.doubtful, 1, EVENT.bytes)
    discard(outbox, two[0].id.bytes)
    report = Erasure(outbox, None).run(survey(outbox, None, "alice").person, wait_seconds=0)
    assert [(event.id, event.possibly_sent) for event in report.events] == [(EVENT, True)]
    assert outbox.read("EXISTS", outbox.keys.dead, outbox.keys.doubtful) == 0


def test_an_operators_burial_says_the_letters_id(outbox: Outbox) -> None:
    for _ in range(3):
        outbox.append(ALICE, EVENT, b"{}")
    assert bury_head(outbox, ALICE) == EVENT
    second = bury_head(outbox, ALICE)
    assert second != EVENT
    discarded = discard_head(outbox, ALICE)
    assert discarded not in {EVENT, second}
    assert {letter.id for letter in DeadLetters(outbox).scan()} == {EVENT, second}
    assert_sound(outbox)


def test_a_burial_that_changed_nothing_names_no_letter(outbox: Outbox) -> None:
    outbox.append(ALICE, EVENT, b"{}")
    held = claim_one(outbox)
    assert buried(outbox, held, lease_ms=LEASE_MS).letter_id == EVENT.bytes
    assert buried(outbox, held).letter_id == b""
