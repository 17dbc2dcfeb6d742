"""A record is read as it was written, and what is none is refused."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lanes import ALICE, now_ms

from insend_relay.outbox import record
from insend_relay.outbox.record import NotARecord, Record
from insend_relay.outbox.store import Outbox

RECORD = Record(bytes(range(16)), 7, 1_700_000_000_000, 3, "guest-1", b'{"price":1.10}')
numbers = st.integers(0, 2**64 - 1)
records = st.builds(
    Record,
    id=st.binary(min_size=16, max_size=16),
    seq=numbers,
    accepted_at_ms=numbers,
    barrier=numbers,
    guest_uid=st.text("0123456789abcXYZ_.-", max_size=128),
    payload=st.binary(max_size=300),
)


@given(records)
def test_a_record_is_read_as_it_was_written(original: Record) -> None:
    assert record.decode(record.encode(original)) == original


@pytest.mark.parametrize("guest_uid", ["", "g", "G_uest.1-" * 14])
def test_the_script_writes_what_encode_writes(outbox: Outbox, guest_uid: str) -> None:
    event_id = record.new_id()
    payload = '{"name":"Мария","price":1.10,"items":[],"zero":"\\u0000"}'.encode() + bytes(range(256))
    before = now_ms(outbox)
    outbox.append(ALICE, event_id, payload, guest_uid=guest_uid)
    after = now_ms(outbox)
    stored = outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)
    found = record.decode(stored)
    assert before <= found.accepted_at_ms <= after
    assert found == Record(event_id.bytes, 1, found.accepted_at_ms, 0, guest_uid, payload)
    assert record.encode(found) == stored


def test_an_invalid_events_letter_ends_in_a_record_too(outbox: Outbox) -> None:
    event_id = record.new_id()
    outbox.append(ALICE, record.new_id(), b"{}")
    outbox.bury_invalid("shop", event_id, lane=None, type="link", payload=b'{"a":1}', faults="url: missing")
    letter = outbox.read("HGET", outbox.keys.dead, event_id.bytes)
    found = record.decode(letter[-(42 + len(b'{"a":1}')) :])
    assert found == Record(event_id.bytes, 2, found.accepted_at_ms, 0, "", b'{"a":1}')


def test_every_cut_within_the_header_is_refused() -> None:
    data = record.encode(RECORD)
    for length in range(len(data) - len(RECORD.payload)):
        with pytest.raises(NotARecord):
            record.decode(data[:length])


def test_a_guest_uid_that_is_no_ascii_is_refused() -> None:
    data = bytearray(record.encode(RECORD))
    data[42] = 0xFF
    with pytest.raises(NotARecord, match="no record"):
        record.decode(bytes(data))


def test_a_newer_version_is_refused_by_its_number() -> None:
    with pytest.raises(NotARecord, match="version 2; this release reads version 1"):
        record.decode(b"\x02" + record.encode(RECORD)[1:])


def test_ids_are_uuids_of_version_7_and_carry_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = record.new_id()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_ids_do_not_repeat() -> None:
    assert len({record.new_id() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize("seconds", [-1, -315_619_200, -62_135_596_800, 253_402_300_799, 10**12])
def test_an_id_is_made_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """As under freezegun and time-machine, whose users set dates before 1970."""
    monkeypatch.setattr(time, "time_ns", lambda: seconds * 1_000_000_000)
    ids = {record.new_id() for _ in range(10)}
    assert len(ids) == 10
    assert {each.version for each in ids} == {7}
    assert {each.int >> 80 for each in ids} == {min(max(seconds * 1000, 0), 2**48 - 1)}
