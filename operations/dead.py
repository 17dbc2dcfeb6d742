"""The dead letters: the events that were given up, kept whole until an operator replays or discards them.

Read in the order of acceptance (``dead:index:APP``), a bounded batch at a time, while workers and other operators go
on: a letter that vanishes meanwhile is left out, one that cannot be decoded is listed all the same. Nothing here ever
drops a letter by itself.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import json
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any, Self

from insend_relay.operations.dead_groups import Group, read_groups, type_and_reason
from insend_relay.operations.dead_index import START, Position, index_of
from insend_relay.operations.iso import iso
from insend_relay.outbox import record
from insend_relay.outbox.errors import NotFound
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.masked import masked
from insend_relay.outbox.replies import scan
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox

BATCH = 100  # letters read at once: at most 64 KB each, so a few MB in the worst case
MAX_IDS = 10_000  # ids of letters held in memory by a look over all apps, but MIN_IDS of each app at least
MIN_IDS = 10
INVALID = "invalid"


@masked("id", "seq", "app", "type", "reason", "outcome", "status", "attempts", "accepted_at_ms", "died_at_ms", "burial")
@dataclass(frozen=True, slots=True)
class Letter:
    """One event that was given up.

    Attributes:
        id: The letter's id: its event's, or one of its own when another letter had that, or the bytes are too short.
        seq: Its place in the order of acceptance.
        lane: Where it waited and would go back to; None when it names no usable visitor.
        app: The application's key.
        type: The event type; "?" when it could not be read.
        reason: Why it was given up, in a few words that many letters share.
        outcome: How the last attempt ended: "refused" (never sent), "answered", "unknown" (sent, no whole answer),
            "invalid" (never tried: it breaks the rules), or "none" (never tried).
        status: The tracker's status, when it answered.
        answer: What the tracker said, or the faults of an invalid event.
        attempts: How often it was sent, with the sends that crashed their worker.
        guest_uid: The guest's uid, when the event has one.
        accepted_at_ms: When the outbox took it, on Redis's clock.
        died_at_ms: When it was buried, on Redis's clock. That clock may have been set back since.
        burial: Its place in the order of burial.
        payload: The data object as it was to be sent; the whole record when that cannot be decoded.
        record: The whole record as it is stored.
        revenue: Of a purchase or an order_update, in units of 1/10,000; None without one, and when it is unknown.
        revenue_unknown: Whether it has a revenue, and it cannot be counted.
    """

    id: uuid.UUID
    seq: int
    lane: Lane | None
    app: str
    type: str
    reason: str
    outcome: str
    status: int | None
    answer: str
    attempts: int
    guest_uid: str
    accepted_at_ms: int
    died_at_ms: int
    burial: int
    payload: bytes
    record: bytes
    revenue: int | None = None
    revenue_unknown: bool = False

    @property
    def decoded(self) -> bool:
        """Whether this release can read the record, so that ``payload`` is the event alone."""
        return self.payload != self.record

    @property
    def replayable(self) -> bool:
        """Whether it may be sent again as it is: not what the tracker would refuse, has no lane, or is no record."""
        return self.lane is not None and self.reason != INVALID and len(self.record) >= record.HEADER_BYTES

    @property
    def record_sha1(self) -> str:
        """By which ``repair.lua`` and ``resend.lua`` know that the letter is still the one that was read.

        It is of the stored bytes, header and compression included: a script cannot expand a payload.
        """
        return hashlib.sha1(self.record, usedforsecurity=False).hexdigest()

    @property
    def event_id(self) -> uuid.UUID:
        """The id of the event, as its record has it; the letter's when the bytes are too short for one."""
        stored = record.id_of(self.record)
        return uuid.UUID(bytes=stored) if len(stored) == record.ID_BYTES else self.id

    @property
    def position(self) -> Position:
        """Its place among the letters of its app."""
        return Position(int(float(self.seq)), self.id.bytes)

    @property
    def visitor_uid(self) -> str:
        """The registered visitor's uid, "" for a guest's event."""
        return self.lane.uid if self.lane and self.lane.kind == "v" else ""

    def as_dict(self) -> dict[str, Any]:
        """The whole letter, for a line of NDJSON.

        ``payload_text`` is the payload to the letter (``payload_base64`` when it is no UTF-8); ``payload`` is the same
        as a JSON value, or None when a reader of JSON would lose something by it (a number too long for a float, a
        name that occurs twice).
        """
        return {
            "id": str(self.id),
            "seq": self.seq,
            "app": self.app,
            "visitor_uid": self.visitor_uid,
            "guest_uid": self.guest_uid,
            "type": self.type,
            "reason": self.reason,
            "outcome": self.outcome,
            "status": self.status,
            "answer": self.answer,
            "attempts": self.attempts,
            "accepted_at": iso(self.accepted_at_ms),
            "died_at": iso(self.died_at_ms),
            "record_sha1": self.record_sha1,
            "payload": exact_json(self.payload),
            **_as_text(self.payload),
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; what is None does not narrow.

    Attributes:
        type: The event type.
        reason: As the groups name it.
        outcome: How the last attempt ended.
        app: The application's key.
        visitor: A visitor's or a guest's uid.
        since_ms: Died at this time or later.
        until_ms: Died before this time.
        last_burial: This place in the order of burial or an earlier one: what dies later is not meant.
        id: This one letter, by its own id.
    """

    type: str | None = None
    reason: str | None = None
    outcome: str | None = None
    app: str | None = None
    visitor: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    last_burial: int | None = None
    id: uuid.UUID | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        exact = (
            (self.type, letter.type),
            (self.reason, letter.reason),
            (self.outcome, letter.outcome),
            (self.app, letter.app),
            (self.id, letter.id),
        )
        return (
            all(wanted is None or wanted == found for wanted, found in exact)
            and (self.visitor is None or self.visitor in _uids(letter))
            and (self.since_ms is None or letter.died_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.died_at_ms < self.until_ms)
            and (self.last_burial is None or letter.burial <= self.last_burial)
        )

    def as_dict(self) -> dict[str, Any]:
        """What narrows, as JSON can carry it."""
        names = ("type", "reason", "outcome", "app", "visitor", "since_ms", "until_ms", "last_burial")
        chosen: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**chosen, "id": str(self.id)} if self.id else chosen

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read ``as_dict`` back."""
        found = values.get("id")
        return cls(**{**values, "id": uuid.UUID(found) if found else None})


ALL = Filter()


class DeadLetters:
    """The dead letters of one outbox.

    Args:
        outbox: Whose.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._keys = outbox.keys
        self._scripts = Scripts(outbox.redis, outbox.keys)

    def groups(self) -> list[Group]:
        """The letters by type and reason, the largest group first."""
        return read_groups(self._outbox)

    def scan(self, filter: Filter = ALL, *, behind: Position = START) -> Iterator[Letter]:
        """The letters that are meant, in the order of acceptance; those of the same seq in that of their ids.

        Letters may be taken away meanwhile, by the caller too: none of the others is left out for that.

        Args:
            filter: Which.
            behind: Only those behind this place.
        """
        if filter.id is not None:
            found = self._read([(filter.id.bytes, None)])
        else:
            found = (letter for batch in self._index(filter.app, behind) for letter in self._read(batch))
        return (letter for letter in found if letter.position > behind and filter.matches(letter))

    def get(self, id: uuid.UUID) -> Letter:
        """One letter; NotFound when it is none (any more)."""
        for letter in self._read([(id.bytes, None)]):
            return letter
        raise NotFound(f"no dead letter {id}: it was replayed or discarded, or it never died")

    def find(self, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Letter]:
        """The letters of these ids that are there, read at once: give ``BATCH`` ids at most."""
        names: list[tuple[bytes, int | None]] = [(wanted.bytes, None) for wanted in ids]
        return {letter.id: letter for letter in self._read(names)} if names else {}

    def count(self, filter: Filter = ALL) -> int:
        """How many letters are meant; reads them all when anything narrows."""
        if filter == ALL:
            return int(self._outbox.read("HLEN", self._keys.dead))
        return sum(1 for _ in self.scan(filter))

    def last_burial(self) -> int:
        """The place of the latest letter in the order of burial; 0 when there was none."""
        return int(self._outbox.read("HGET", self._keys.ledger, "burials") or 0)

    def discard(self, id: uuid.UUID) -> bool:
        """Give a letter up for good; False when it was gone."""
        return bool(self._scripts.run("discard", id=id.bytes)[0] == b"DISCARDED")

    def apps(self) -> list[str]:
        """The apps that have letters; bytes that are no text, which no producer can send, become surrogates."""
        found = {name for batch in scan(self._outbox.redis, "SSCAN", self._keys.dead_apps) for name in batch}
        return sorted(name.decode(errors="surrogateescape") for name in found)

    def _index(self, app: str | None, behind: Position) -> Iterator[list[tuple[bytes, int]]]:
        """Ids and seqs in the order of acceptance, in batches, each read when it is wanted."""
        apps = self.apps() if app is None else [app]
        at_once = max(MIN_IDS, min(BATCH, MAX_IDS // max(1, len(apps))))
        merged = heapq.merge(*(index_of(self._outbox, app, behind, at_once) for app in apps), key=itemgetter(1))
        while batch := list(islice(merged, BATCH)):
            yield batch

    def _read(self, wanted: Iterable[tuple[bytes, int | None]]) -> Iterator[Letter]:
        """The letters of these ids that are still there."""
        batch = list(wanted)
        letters = self._outbox.read("HMGET", self._keys.dead, *(name for name, _ in batch))
        for (name, seq), letter in zip(batch, letters, strict=True):
            if letter is not None:
                yield decode(name, letter, seq)


def decode(id: bytes, data: bytes, seq: int | None = None) -> Letter:
    """Read a letter as ``put_letter`` in ``lua/shared/letter.lua`` wrote it; what cannot be read stays raw.

    Args:
        id: The letter's id.
        data: The letter.
        seq: Its score in the index, where known; else the record says.
    """
    died_at_ms, burial = struct.unpack_from(">QQ", data, 1)
    app, at = _counted(data, 17, ">H")
    name, at = _counted(data, at, ">H")
    group, at = _counted(data, at, ">H")
    meta, at = _counted(data, at, ">I")
    body = data[at:]
    about = _meta(meta)
    kind, reason = type_and_reason(group)
    try:
        event = record.decode(body)
    except record.NotARecord:
        # seq and acceptance stand at the same place in every version of the record (put_letter relies on it)
        in_index, accepted_at_ms = struct.unpack_from(">QQ", body[:17].ljust(17, b"\0"), 1)
        event = record.Record(id, in_index, accepted_at_ms, 0, "", body)
    lane = _lane(name, event.uid)
    return Letter(
        id=uuid.UUID(bytes=id),
        seq=event.seq if seq is None else seq,
        lane=lane,
        app=app.decode(errors="replace"),
        type=kind,
        reason=reason,
        outcome=str(about.get("outcome", "none")),
        status=about.get("status"),
        answer=str(about.get("answer", "")),
        attempts=int(about.get("attempts", 0)),
        guest_uid=lane.uid if lane and lane.kind == "g" else event.guest_uid,
        accepted_at_ms=event.accepted_at_ms,
        died_at_ms=died_at_ms,
        burial=burial,
        payload=event.payload,
        record=body,
        revenue=event.facts.revenue,
        revenue_unknown=event.facts.revenue_unknown,
    )


def exact_json(payload: bytes) -> Any:
    """The payload as a JSON value, None when it is none or would not come through unharmed."""
    try:
        value = json.loads(payload, parse_float=_float, parse_constant=_refuse, object_pairs_hook=_object)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _float(text: str) -> float:
    number = float(text)
    if Decimal(repr(number)) != Decimal(text):
        raise ValueError(f"{text} does not fit a float")
    return number


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(items)) != len(items):
        raise ValueError("a name occurs twice")
    return dict(items)


def _as_text(payload: bytes) -> dict[str, str]:
    try:
        return {"payload_text": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def _uids(letter: Letter) -> tuple[str, ...]:
    return tuple(uid for uid in (letter.lane.uid if letter.lane else "", letter.guest_uid) if uid)


def _counted(data: bytes, at: int, length: str) -> tuple[bytes, int]:
    """A field behind its length, and where the next one begins."""
    start = at + struct.calcsize(length)
    end = start + struct.unpack_from(length, data, at)[0]
    return data[start:end], end


def _lane(name: bytes, uid: str) -> Lane | None:
    try:
        return Lane.parse(name.decode(), uid)
    except ValueError:
        return None


def _meta(meta: bytes) -> dict[str, Any]:
    try:
        about = json.loads(meta)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
