"""An event as it lies in Redis: a small binary header, then the payload as it will be sent, perhaps compressed.

Layout of version 1, big-endian::

    offset  bytes  field
    0       1      version of this layout
    1       8      seq: the ledger's ``accepted`` after this append, so a total order over all events
    9       8      accepted at, ms of Redis's clock
    17      16     event id, a UUIDv7
    33      8      barrier: no event of the guest up to this seq may still wait when it goes; 0 = none did
    41      1      kind: 0 event, 1 webhook
    42      1      codec of the payload (``compression``): 0 plain, 1 deflate with the first dictionary
    43      1      code of the event type (``event_type``)
    44      1      flags: which of the following parts are there
    45      8      flag 1: revenue in units of 1/10,000 (``revenue``)
                   flag 2, no bytes: the event has a revenue, and it is unknown
            8      flag 4: hash of the order id (``facts.order_hash``)
            25     flag 8: W3C trace context: trace-id (16), parent-id (8), flags (1)
            2, n   flag 16: guest uid as it is sent, behind its length; only for an event with both uids
            2, n   flag 32: uid as it is sent, behind its length; only when the lane's name is a hash of it
            ...    payload: the event's ``data`` JSON object in UTF-8

Python makes a *draft*, whose seq, time of acceptance and barrier are 0; ``lua/shared/record.lua`` sets these three,
since they are Redis's. No script changes a payload: a JSON that went through Lua would come back changed (1.10 as 1.1,
[] as {}). When an operator corrects a dead letter, ``repair.lua`` gives a new draft the letter's seq and time.

A release that adds a codec, a dictionary, a kind or a part raises the version of the records that use it, so that older
workers leave them to newer ones. The first 45 bytes and revenue keep their places in every version.
"""

from __future__ import annotations

import os
import struct
import time
import uuid
from functools import cache
from typing import NamedTuple, get_args

from insend_relay.outbox.compression import compressed, expanded
from insend_relay.outbox.facts import ORDER_BYTES, TRACE_BYTES, Facts, Kind
from insend_relay.outbox.keys import Lane, uid_bytes, uid_text
from insend_relay.outbox.masked import masked

VERSION = 1
_LAST_MS = 2**48 - 1
_HEADER = struct.Struct(">BQQ16sQBBBB")
HEADER_BYTES = _HEADER.size  # bytes that are fewer are no record of any version
ID_BYTES = 16
_REVENUE, _REVENUE_UNKNOWN, _ORDER, _TRACE, _GUEST_UID, _UID = 1, 2, 4, 8, 16, 32
_FLAGS = 63
_KINDS: tuple[Kind, ...] = get_args(Kind)
_UNITS, _LENGTH = struct.Struct(">q"), struct.Struct(">H")


@masked("seq", "accepted_at_ms", "barrier")
class Record(NamedTuple):
    """One accepted event.

    Attributes:
        id: The event's id, 16 bytes of a UUIDv7.
        seq: Its place in the order of acceptance, over all visitors.
        accepted_at_ms: When the outbox took it, ms since the epoch on Redis's clock.
        barrier: The seq up to which nothing may wait in its guest's lane when it goes; 0 when nothing did.
        guest_uid: The guest's uid when the event carries both, else "".
        payload: The event's data object as it goes over the wire, UTF-8 JSON; never compressed here.
        facts: What else the header says.
        uid: The uid of the lane when the lane's name is a hash, else "".
    """

    id: bytes
    seq: int
    accepted_at_ms: int
    barrier: int
    guest_uid: str
    payload: bytes
    facts: Facts = Facts()
    uid: str = ""


class NotARecord(ValueError):
    """The bytes are not a record that this release knows."""


def draft(lane: Lane | None, event_id: uuid.UUID, guest_uid: str, payload: bytes, facts: Facts) -> bytes:
    """The record of an event that is not accepted yet; a script sets its seq, its time of acceptance and its barrier.

    Args:
        lane: Where it will wait; None for a dead letter that names no usable visitor.
        event_id: From ``new_id``.
        guest_uid: See ``Record``.
        payload: See ``Record``.
        facts: See ``Record``.
    """
    uid = lane.uid if lane is not None and lane.named_by_hash else ""
    return encode(Record(event_id.bytes, 0, 0, 0, guest_uid, payload, facts, uid))


def encode(record: Record) -> bytes:
    """Write a record; its payload is compressed when that makes it smaller."""
    facts = record.facts
    codec, payload = compressed(record.payload)
    flags = 0
    parts = [b""]
    if facts.revenue is not None:
        flags |= _REVENUE
        parts.append(_UNITS.pack(facts.revenue))
    elif facts.revenue_unknown:
        flags |= _REVENUE_UNKNOWN
    if facts.order:
        flags |= _ORDER
        parts.append(facts.order)
    if facts.trace:
        flags |= _TRACE
        parts.append(facts.trace)
    for flag, uid in ((_GUEST_UID, record.guest_uid), (_UID, record.uid)):
        if uid:
            flags |= flag
            sent = uid_bytes(uid)
            parts += (_LENGTH.pack(len(sent)), sent)
    kind = 0 if facts.kind == "event" else 1
    parts[0] = _HEADER.pack(
        VERSION, record.seq, record.accepted_at_ms, record.id, record.barrier, kind, codec, facts.type_code, flags
    )
    parts.append(payload)
    return b"".join(parts)


def decode(data: bytes) -> Record:
    """Read a record; raises NotARecord when the bytes are none."""
    try:
        version, seq, accepted_at_ms, event_id, barrier, kind, codec, type_code, flags = _HEADER.unpack_from(data)
    except struct.error as error:
        raise NotARecord(f"{len(data)} bytes that are no record: {error}") from error
    if version != VERSION:
        raise NotARecord(f"a record of version {version}; this release reads version {VERSION}")
    if kind >= len(_KINDS) or flags > _FLAGS:
        raise NotARecord(f"{len(data)} bytes that are no record: kind {kind}, flags {flags}")
    if flags:
        parts = _Parts(data)
        facts, guest_uid, uid = (
            parts.facts(_KINDS[kind], type_code, flags),
            parts.uid(flags & _GUEST_UID),
            parts.uid(flags & _UID),
        )
        at = parts.at
    else:
        facts, guest_uid, uid, at = _facts_without_parts(_KINDS[kind], type_code), "", "", _HEADER.size
    try:
        payload = expanded(codec, data[at:])
    except ValueError as error:
        raise NotARecord(f"{len(data)} bytes that are no record: {error}") from error
    return Record(event_id, seq, accepted_at_ms, barrier, guest_uid, payload, facts, uid)


def id_of(data: bytes) -> bytes:
    """The event's id as a stored record has it; fewer than 16 bytes when the record is too short for one."""
    return data[17:33]


class _Parts:
    """Reads the parts behind the fixed header one after the other."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = _HEADER.size

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self._data):
            raise NotARecord(f"{len(self._data)} bytes, cut short within the header")
        return self._data[start : self.at]

    def facts(self, kind: Kind, type_code: int, flags: int) -> Facts:
        """Revenue, order and trace context, as the flags say."""
        revenue = _UNITS.unpack(self.take(_UNITS.size))[0] if flags & _REVENUE else None
        order = self.take(ORDER_BYTES) if flags & _ORDER else b""
        trace = self.take(TRACE_BYTES) if flags & _TRACE else b""
        return Facts(kind, type_code, revenue, bool(flags & _REVENUE_UNKNOWN), order, trace)

    def uid(self, present: int) -> str:
        """A uid behind its length; "" when it is not present."""
        if not present:
            return ""
        (length,) = _LENGTH.unpack(self.take(_LENGTH.size))
        return uid_text(self.take(length))


@cache
def _facts_without_parts(kind: Kind, type_code: int) -> Facts:
    """Those of most events; making an object for each would be half of the time that reading a record takes."""
    return Facts(kind, type_code)


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562): 48 bits of ms since the epoch, then random bits. A name, not an order: that is ``seq``.

    A clock before 1970 or after the year 10889, as a test may set it, counts as the nearest time that an id can have.
    """
    now_ms = min(max(time.time_ns() // 1_000_000, 0), _LAST_MS)
    value = (now_ms << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)
