"""An event as it lies in Redis: a small binary header, then the payload exactly as it will be sent.

Layout of version 1, big-endian::

    offset  bytes  field
    0       1      version of this layout
    1       8      seq: the ledger's ``accepted`` after this append, so a total order over all events
    9       8      accepted at, ms of Redis's clock
    17      16     event id, a UUIDv7
    33      8      barrier: no event of the guest up to this seq may still wait when it goes; 0 = none did
    41      1      length of the guest uid
    42      n      guest uid, only for an event with both uids (the visitor's lane holds it)
    42+n    ...    payload: the event's ``data`` JSON object in UTF-8

``lua/shared/record.lua`` writes it (seq and clock are Redis's). No script changes a payload: a JSON that went through
Lua would come back changed (1.10 as 1.1, [] as {}). When an operator corrects a dead letter, ``repair.lua`` writes a
record with the same seq, time of acceptance and id around the payload that Python made.
"""

from __future__ import annotations

import os
import struct
import time
import uuid
from typing import NamedTuple

from insend_relay.outbox.masked import masked

VERSION = 1
_LAST_MS = 2**48 - 1
_HEADER = struct.Struct(">BQQ16sQB")


@masked("seq", "accepted_at_ms", "barrier")
class Record(NamedTuple):
    """One accepted event.

    Attributes:
        id: The event's id, 16 bytes of a UUIDv7.
        seq: Its place in the order of acceptance, over all visitors.
        accepted_at_ms: When the outbox took it, ms since the epoch on Redis's clock.
        barrier: The seq up to which nothing may wait in its guest's lane when it goes; 0 when nothing did.
        guest_uid: The guest's uid when the event carries both, else "".
        payload: The event's data object as it goes over the wire, UTF-8 JSON.
    """

    id: bytes
    seq: int
    accepted_at_ms: int
    barrier: int
    guest_uid: str
    payload: bytes


class NotARecord(ValueError):
    """The bytes are not a record of a version that this release knows."""


def decode(data: bytes) -> Record:
    """Read a record; raises NotARecord when the bytes are none."""
    try:
        version, seq, accepted_at_ms, event_id, barrier, guest_length = _HEADER.unpack_from(data)
        start = _HEADER.size + guest_length
        if len(data) < start:
            raise NotARecord(f"{len(data)} bytes, cut short within the guest uid")
        guest_uid = data[_HEADER.size : start].decode("ascii")
    except (struct.error, UnicodeDecodeError) as error:
        raise NotARecord(f"{len(data)} bytes that are no record: {error}") from error
    if version != VERSION:
        raise NotARecord(f"a record of version {version}; this release reads version {VERSION}")
    return Record(event_id, seq, accepted_at_ms, barrier, guest_uid, data[start:])


def encode(record: Record) -> bytes:
    """Write a record as ``append.lua`` does: for tests, and for what was never appended by a script."""
    guest = record.guest_uid.encode("ascii")
    header = _HEADER.pack(VERSION, record.seq, record.accepted_at_ms, record.id, record.barrier, len(guest))
    return header + guest + record.payload


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562): 48 bits of ms since the epoch, then random bits. A name, not an order: that is ``seq``.

    A clock before 1970 or after the year 10889, as a test may set it, counts as the nearest time that an id can have.
    """
    now_ms = min(max(time.time_ns() // 1_000_000, 0), _LAST_MS)
    value = (now_ms << 80) | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return uuid.UUID(int=value)
