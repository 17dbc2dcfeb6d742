"""Dead letters: what they say, in which order they come, how they are chosen, and how they go."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from lanes import ALICE, BOB, GUEST, LEASE_MS, OTHER, bury, claim, letter, letter_keys, put
from lanes import replay as replay_one

from insend_relay.operations import dead
from insend_relay.operations.dead import ALL, DeadLetters, Filter, Letter, decode, exact_json
from insend_relay.operations.dead_index import Position
from insend_relay.outbox import record
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.store import Outbox

LETTER = Letter(
    id=uuid.UUID(int=7),
    seq=3,
    lane=ALICE,
    app="shop",
    type="purchase",
    reason="answered 400",
    outcome="answered",
    status=400,
    answer="no such key",
    attempts=5,
    guest_uid="guest-1",
    accepted_at_ms=1_700_000_000_000,
    died_at_ms=1_700_000_060_000,
    burial=1,
    payload=b'{"type":"purchase"}',
    record=b"a record",
)


def ids(letters: Any) -> list[bytes]:
    return [found.id.bytes for found in letters]


def test_a_letter_says_all_that_is_known_of_its_event(outbox: Outbox) -> None:
    event_id = put(outbox, ALICE, b'{"type":"purchase","n":1.10}', guest_uid="guest-1")
    (held,) = claim(outbox)
    meta = letter_meta(outcome="answered", status=400, answer="é", attempts=5)
    outbox.bury(held, type="purchase", reason="answered 400", meta=meta, lease_ms=0)
    found = DeadLetters(outbox).get(uuid.UUID(bytes=event_id))
    assert found == Letter(
        id=uuid.UUID(bytes=event_id),
        seq=1,
        lane=ALICE,
        app="shop",
        type="purchase",
        reason="answered 400",
        outcome="answered",
        status=400,
        answer="é",
        attempts=5,
        guest_uid="guest-1",
        accepted_at_ms=record.decode(held.data).accepted_at_ms,
        died_at_ms=found.died_at_ms,
        burial=1,
        payload=b'{"type":"purchase","n":1.10}',
        record=held.data,
    )
    assert found.accepted_at_ms <= found.died_at_ms <= found.accepted_at_ms + 60_000
    assert found.visitor_uid == "alice"


def test_a_guests_letter_names_the_guest_and_no_visitor(outbox: Outbox) -> None:
    letter(outbox, GUEST)
    (found,) = DeadLetters(outbox).scan()
    assert (found.visitor_uid, found.guest_uid) == ("", "guest-1")


def test_an_invalid_event_without_a_usable_visitor_is_listed(outbox: Outbox) -> None:
    event_id = record.new_id()
    outbox.bury_invalid("shop", event_id, lane=None, type="purchase", payload=b"{}", faults="properties: missing")
    (found,) = DeadLetters(outbox).scan()
    assert (found.id, found.lane, found.app, found.reason) == (event_id, None, "shop", "invalid")
    assert (found.outcome, found.answer) == ("invalid", "properties: missing")


def test_letters_come_in_the_order_of_acceptance_not_of_death(outbox: Outbox) -> None:
    first, second, third = put(outbox, ALICE), put(outbox, BOB), put(outbox, GUEST)
    held = {one.id: one for one in claim(outbox)}
    for event_id in (third, first, second):
        bury(outbox, held[event_id])
    assert ids(DeadLetters(outbox).scan()) == [first, second, third]
    assert ids(DeadLetters(outbox).scan(behind=Position(1, first))) == [second, third]


def test_a_scan_reads_in_batches_and_leaves_none_out(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "BATCH", 2)
    wanted = [letter(outbox, Lane("shop", "v", f"v-{n}")) for n in range(5)]
    assert ids(DeadLetters(outbox).scan()) == wanted


def test_a_letter_that_vanishes_during_a_scan_is_left_out(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "BATCH", 2)
    first, second, third, fourth = (letter(outbox, Lane("shop", "v", f"v-{n}")) for n in range(4))
    letters = DeadLetters(outbox)
    scan = letters.scan()
    assert next(scan).id.bytes == first
    assert replay_one(outbox, third) == b"REPLAYED"
    assert ids(scan) == [second, fourth]
    outbox.read("HDEL", outbox.keys.dead, second)  # between reading the index and the letters themselves
    assert ids(letters.scan()) == [first, fourth]
    outbox.read("ZREM", outbox.keys.dead_index("shop"), second)


def same_seq(outbox: Outbox, count: int, seq: int, **more: Any) -> list[bytes]:
    """Letters whose records have the same seq, as damaged bytes may; their ids in the order of the index."""
    wanted = []
    for number in range(count):
        lane = Lane("shop", "v", f"v-{number}")
        wanted.append(put(outbox, lane))
        data = outbox.read("LINDEX", outbox.keys.lane(lane), 0)
        outbox.read("LSET", outbox.keys.lane(lane), 0, data[:1] + (seq + number % 2).to_bytes(8) + data[9:])
    for held in claim(outbox):
        bury(outbox, held, lease_ms=0, **more)
    return sorted(wanted)


@pytest.mark.parametrize("seq", [2**53, 2**60, 2**64 - 2], ids=str)
def test_letters_of_the_same_score_are_all_found(outbox: Outbox, monkeypatch: pytest.MonkeyPatch, seq: int) -> None:
    monkeypatch.setattr(dead, "BATCH", 2)
    monkeypatch.setattr(dead, "MIN_IDS", 1)
    wanted = same_seq(outbox, 7, seq)
    found = ids(DeadLetters(outbox).scan())
    assert sorted(found) == wanted
    assert found == outbox.read("ZRANGE", outbox.keys.dead_index("shop"), 0, -1)


@pytest.mark.parametrize("gone", [1, 2])
def test_letters_that_are_taken_away_during_a_scan_hide_no_other_of_the_same_score(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    monkeypatch.setattr(dead, "BATCH", 2)
    monkeypatch.setattr(dead, "MIN_IDS", 1)
    same_seq(outbox, 9, 2**60)
    letters = DeadLetters(outbox)
    found = []
    for number, each in enumerate(letters.scan()):
        found.append(each.id)
        if number % gone == 0:
            assert letters.discard(each.id)
    assert len(set(found)) == len(found) == 9


def test_a_place_in_the_order_goes_by_the_bytes_of_ids(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "BATCH", 1)
    monkeypatch.setattr(dead, "MIN_IDS", 1)
    names = [bytes([first, second]) + bytes(14) for first in (0, 1, 65, 97, 128, 255) for second in (0, 90, 255)]
    data = b"\x01" + bytes(16) + b"\0\4shop" + b"\0\0" + b"\0\3x\ty" + b"\0\0\0\0"
    for name in names:
        outbox.read("HSET", outbox.keys.dead, name, data)
        outbox.read("ZADD", outbox.keys.dead_index("shop"), 7, name)
    outbox.read("SADD", outbox.keys.dead_apps, "shop")
    assert ids(DeadLetters(outbox).scan()) == names
    assert ids(DeadLetters(outbox).scan(behind=Position(7, b"\x41\x80" + bytes(14)))) == names[8:]
    assert ids(DeadLetters(outbox).scan(behind=Position(6, b"\xff" * 16))) == names
    assert ids(DeadLetters(outbox).scan(behind=Position(8, b""))) == []


@pytest.mark.parametrize(
    "filter",
    [
        ALL,
        Filter(type="purchase"),
        Filter(reason="answered 400"),
        Filter(outcome="answered"),
        Filter(app="shop"),
        Filter(visitor="alice"),
        Filter(visitor="guest-1"),
        Filter(since_ms=1_700_000_060_000),
        Filter(until_ms=1_700_000_060_001),
        Filter(id=uuid.UUID(int=7)),
        Filter(type="purchase", app="shop", visitor="alice", since_ms=1, until_ms=1_800_000_000_000),
    ],
)
def test_a_filter_that_fits_matches_and_survives_json(filter: Filter) -> None:
    assert filter.matches(LETTER)
    assert Filter.from_dict(json.loads(json.dumps(filter.as_dict()))) == filter


@pytest.mark.parametrize(
    "filter",
    [
        Filter(type="link"),
        Filter(reason="answered"),
        Filter(outcome="unknown"),
        Filter(app="second"),
        Filter(visitor="bob"),
        Filter(visitor=""),
        Filter(since_ms=1_700_000_060_001),
        Filter(until_ms=1_700_000_060_000),
        Filter(id=uuid.UUID(int=8)),
        Filter(type="purchase", app="second"),
    ],
)
def test_a_filter_that_does_not_fit_in_one_point_does_not_match(filter: Filter) -> None:
    assert not filter.matches(replace(LETTER, guest_uid=""))


def test_scan_and_count_honour_the_filter(outbox: Outbox) -> None:
    alice, bob, other = letter(outbox, ALICE), letter(outbox, BOB, reason="answered 422"), letter(outbox, OTHER)
    letters = DeadLetters(outbox)
    assert ids(letters.scan(Filter(visitor="alice"))) == [alice, other]
    assert ids(letters.scan(Filter(reason="answered 422"))) == [bob]
    assert ids(letters.scan(Filter(id=uuid.UUID(bytes=bob)))) == [bob]
    assert ids(letters.scan(Filter(id=uuid.UUID(bytes=bob), visitor="alice"))) == []
    assert [letters.count(), letters.count(Filter(app="shop")), letters.count(Filter(app="none"))] == [3, 2, 0]


def test_groups_count_by_type_and_reason_the_most_first(outbox: Outbox) -> None:
    letter(outbox, ALICE, type="link", reason="answered 422")
    for lane in (ALICE, BOB):
        letter(outbox, lane)
    found = [(group.type, group.reason, group.count) for group in DeadLetters(outbox).groups()]
    assert found == [("purchase", "answered 400", 2), ("link", "answered 422", 1)]


def test_discarding_gives_a_letter_up_once(outbox: Outbox) -> None:
    event_id = uuid.UUID(bytes=letter(outbox))
    letters = DeadLetters(outbox)
    assert letters.discard(event_id)
    assert not letters.discard(event_id)
    assert letters.groups() == []
    with pytest.raises(NotFound, match=str(event_id)):
        letters.get(event_id)


def test_a_record_of_a_newer_version_is_listed_raw(outbox: Outbox) -> None:
    put(outbox, ALICE)
    newer = b"\x02" + outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)[1:]
    outbox.read("LSET", outbox.keys.lane(ALICE), 0, newer)
    held = outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)
    assert held
    bury(outbox, held)
    (found,) = DeadLetters(outbox).scan()
    assert (found.payload, found.seq, found.type) == (newer, 1, "purchase")
    assert found.accepted_at_ms == int.from_bytes(newer[9:17])


@pytest.mark.parametrize("meta", [b"", b"\xff{", b"[1]"])
def test_a_letter_whose_meta_cannot_be_read_is_listed_with_what_is_left(outbox: Outbox, meta: bytes) -> None:
    put(outbox, ALICE, b'{"a":1}')
    (held,) = claim(outbox)
    outbox.bury(held, type="link", reason="answered 400", meta=meta, lease_ms=0)
    (found,) = DeadLetters(outbox).scan()
    assert (found.app, found.type, found.reason, found.outcome) == ("shop", "link", "answered 400", "none")
    assert found.payload == b'{"a":1}'


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01" * 30], ids=len)
def test_each_head_that_is_no_record_is_a_letter_of_its_own_that_is_not_replayed(outbox: Outbox, data: bytes) -> None:
    for lane in (ALICE, BOB):
        put(outbox, lane)
        outbox.read("LSET", outbox.keys.lane(lane), 0, data)
    for held in claim(outbox):
        outbox.bury(held, type="?", reason="undecodable", meta=b"{}", lease_ms=0)
    found = list(DeadLetters(outbox).scan())
    assert [letter.payload for letter in found] == [data] * 2
    assert not any(letter.replayable for letter in found)
    assert {replay_one(outbox, letter.id.bytes) for letter in found} == {b"INVALID"}
    assert all(DeadLetters(outbox).discard(letter.id) for letter in found)
    assert outbox.read("EXISTS", *letter_keys(outbox)) == 0


def test_a_record_that_is_cut_short_is_still_a_letter() -> None:
    data = b"\x01" + (5).to_bytes(8) + (6).to_bytes(8) + b"\0\0" * 2 + b"\0\3x\ty" + b"\0\0\0\0" + b"\x01\x02"
    found = decode(bytes(16), data)
    assert (found.payload, found.accepted_at_ms, found.died_at_ms, found.burial) == (b"\x01\x02", 0, 5, 6)
    assert found.lane is None


def test_as_a_dict_a_letter_is_whole_and_json() -> None:
    line = json.loads(json.dumps(LETTER.as_dict()))
    assert line == {
        "id": str(LETTER.id),
        "seq": 3,
        "app": "shop",
        "visitor_uid": "alice",
        "guest_uid": "guest-1",
        "type": "purchase",
        "reason": "answered 400",
        "outcome": "answered",
        "status": 400,
        "answer": "no such key",
        "attempts": 5,
        "accepted_at": "2023-11-14T22:13:20.000Z",
        "died_at": "2023-11-14T22:14:20.000Z",
        "record_sha1": "ac4326d97469c986c7687834217856b25559220e",
        "payload": {"type": "purchase"},
        "payload_text": '{"type":"purchase"}',
    }


def test_a_payload_that_is_no_text_goes_out_as_base64() -> None:
    line = replace(LETTER, payload=b"\xff\x00").as_dict()
    assert (line["payload"], line["payload_base64"]) == (None, "/wA=")
    assert "payload_text" not in line


@pytest.mark.parametrize(
    "payload", [b"{}", b'{"price":1.10,"n":125.03}', b'{"a":[]}', b'{"big":123456789012345678901234567890}', b"1.5e3"]
)
def test_a_payload_that_json_carries_unharmed_is_given_as_json(payload: bytes) -> None:
    assert exact_json(payload) == json.loads(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"price":0.1000000000000000055511151231257827}',
        b'{"price":1e999}',
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b"\xff",
        b"{",
    ],
)
def test_a_payload_that_would_be_harmed_is_given_as_text_only(payload: bytes) -> None:
    assert exact_json(payload) is None
