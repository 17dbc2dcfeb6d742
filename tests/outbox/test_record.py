"""A record is read as it was written, by Python and by Lua, and what is none is refused."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lanes import ALICE, now_ms

from insend_relay.outbox import record
from insend_relay.outbox.event_type import code_of
from insend_relay.outbox.facts import Facts
from insend_relay.outbox.keys import Lane, encoded, uid_bytes, uid_text
from insend_relay.outbox.record import NotARecord, Record
from insend_relay.outbox.revenue import LIMIT
from insend_relay.outbox.scripts import piece
from insend_relay.outbox.store import Outbox

FACTS = Facts("event", 5, 11_000, order=b"12345678", trace=bytes(25))
RECORD = Record(bytes(range(16)), 7, 1_700_000_000_000, 3, "guest-1", b'{"price":1.10}', FACTS, "u" * 200)
HEADER = len(record.encode(RECORD)) - len(RECORD.payload)
numbers = st.integers(0, 2**53)
uids = st.binary(max_size=300).map(uid_text)
facts = st.builds(
    Facts,
    kind=st.sampled_from(["event", "webhook"]),
    type_code=st.integers(0, 255),
    revenue=st.none() | st.integers(0, LIMIT - 1),
    revenue_unknown=st.just(False),
    order=st.just(b"") | st.binary(min_size=8, max_size=8),
    trace=st.just(b"") | st.binary(min_size=25, max_size=25),
)
records = st.builds(
    Record,
    id=st.binary(min_size=16, max_size=16),
    seq=numbers,
    accepted_at_ms=numbers,
    barrier=numbers,
    guest_uid=uids,
    payload=st.binary(max_size=300) | st.text("abc", min_size=100, max_size=3000).map(str.encode),
    facts=facts | st.just(Facts(revenue_unknown=True)),
    uid=uids,
)
_READ_BY_LUA = (
    piece("record")
    + """
local read = ARGV[1]
local code, revenue, unknown = type_and_revenue(read)
return {version_of(read), string.format('%.0f', seq_of(read)), string.format('%.0f', accepted_at(read)), id_of(read),
  code, revenue and string.format('%.0f', revenue) or '', unknown and 1 or 0, (guest_of(read)), uid_of(read),
  guest_lane('app', read)}
"""
)


def read_by_lua(outbox: Outbox, data: bytes) -> Any:
    return outbox.read("EVAL", _READ_BY_LUA, 0, data)


@given(records)
def test_a_record_is_read_as_it_was_written(original: Record) -> None:
    assert record.decode(record.encode(original)) == original


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(original=records)
def test_lua_reads_the_header_as_python_does(outbox: Outbox, original: Record) -> None:
    revenue = "" if original.facts.revenue is None else str(original.facts.revenue)
    assert read_by_lua(outbox, record.encode(original)) == [
        record.VERSION,
        str(original.seq).encode(),
        str(original.accepted_at_ms).encode(),
        original.id,
        original.facts.type_code,
        revenue.encode(),
        int(original.facts.revenue_unknown),
        uid_bytes(original.guest_uid),
        uid_bytes(original.uid),
        f"app/g/{encoded(original.guest_uid)}".encode(),
    ]


@pytest.mark.parametrize(
    "uid", ["x" * 128, "x" * 129, "я" * 21, "я" * 22, "u" * 60_000, "~", "%2F", "a/v/b", "\n"], ids=len
)
def test_lua_names_a_lane_as_python_does_also_where_that_takes_a_hash(outbox: Outbox, uid: str) -> None:
    assert read_by_lua(outbox, record.encode(RECORD._replace(guest_uid=uid)))[-1] == f"app/g/{encoded(uid)}".encode()


def test_no_cut_of_a_record_breaks_a_script(outbox: Outbox) -> None:
    data = record.encode(RECORD)
    for length in range(17, len(data)):
        assert read_by_lua(outbox, data[:length])[3] == RECORD.id[: max(0, length - 17)]


@pytest.mark.parametrize("guest_uid", ["", "g", "G_uest.1-" * 14, "a/b c%~", "Мария", "g" * 500])
def test_the_script_stamps_what_encode_writes(outbox: Outbox, guest_uid: str) -> None:
    event_id = record.new_id()
    payload = '{"name":"Мария","price":1.10,"items":[],"zero":"\\u0000"}'.encode() + bytes(range(256))
    lane = Lane("shop", "v", "a" * 129)
    before = now_ms(outbox)
    outbox.append(lane, event_id, payload, guest_uid=guest_uid)
    after = now_ms(outbox)
    stored = outbox.read("LINDEX", outbox.keys.lane(lane), 0)
    found = record.decode(stored)
    assert before <= found.accepted_at_ms <= after
    assert found == Record(event_id.bytes, 1, found.accepted_at_ms, 0, guest_uid, payload, uid=lane.uid)
    assert record.encode(found) == stored


def test_a_lane_whose_name_gives_its_uid_back_costs_no_copy_of_the_uid(outbox: Outbox) -> None:
    outbox.append(Lane("shop", "v", "Мария / 50%"), record.new_id(), b"{}")
    (lane,) = outbox.read("ZRANGE", outbox.keys.due("shop"), 0, -1)
    stored = outbox.read("LINDEX", outbox.keys.lane(lane.decode()), 0)
    assert record.decode(stored).uid == ""
    assert Lane.parse(lane.decode()).uid == "Мария / 50%"


def test_an_invalid_events_letter_ends_in_a_record_too(outbox: Outbox) -> None:
    event_id = record.new_id()
    outbox.append(ALICE, record.new_id(), b"{}")
    outbox.bury_invalid("shop", event_id, lane=None, type="link", payload=b'{"a":1}', faults="url: missing")
    letter = outbox.read("HGET", outbox.keys.dead, event_id.bytes)
    found = record.decode(letter[-(45 + len(b'{"a":1}')) :])
    assert found == Record(event_id.bytes, 2, found.accepted_at_ms, 0, "", b'{"a":1}', Facts(type_code=code_of("link")))


def test_every_cut_within_the_header_is_refused() -> None:
    data = record.encode(RECORD)
    for length in range(HEADER):
        with pytest.raises(NotARecord):
            record.decode(data[:length])


@pytest.mark.parametrize(("offset", "value"), [(41, 2), (44, 64), (44, 255)])
def test_a_kind_or_a_part_that_this_release_does_not_know_is_refused(offset: int, value: int) -> None:
    data = bytearray(record.encode(RECORD))
    data[offset] = value
    with pytest.raises(NotARecord, match=r"no record: kind \d+, flags \d+"):
        record.decode(bytes(data))


def test_an_unknown_codec_is_refused_by_its_number() -> None:
    data = bytearray(record.encode(RECORD))
    data[42] = 9
    with pytest.raises(NotARecord, match="codec 9 is not known"):
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
