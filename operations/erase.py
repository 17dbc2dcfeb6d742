"""Erase one person: discard every event of theirs that Redis or this machine's spool still holds.

``person`` says what belongs to the person. Each step leaves the books balanced, and each may be the last: to run the
erasure again goes on with it, and finds nothing when it was complete. The order:

1. Tombstones. Spooled events from before now are discarded when they come in, from whichever machine.
2. What belongs to the person's guests, then what belongs to the visitors, since only the visitors' events say who the
   guests are. Each time the rows of the spool go first, with their dedup slots: an event that a late packet brings in
   until then is found in its lane. Then the lanes and the dead letters.
3. The spool's file is rewritten.

An event that a worker is sending is waited for. Idempotency keys, dedup slots and the spools' lists hold hashes and
event ids only; they stay until they expire.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import NamedTuple

from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.erase_survey import Place, named_by_letter
from insend_relay.operations.replay import forget_filters
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import shown
from insend_relay.outbox.letter import type_of
from insend_relay.outbox.person import KINDS, Kind, Person
from insend_relay.outbox.record import id_of
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox
from insend_relay.spool.erase import SpoolErasure

POLL_SECONDS = 0.05  # between two looks whether a worker has ended with an event
EMPTY_PASSES = 2  # that find nothing in a row, before a place counts as empty


class ErasedEvent(NamedTuple):
    """One event that was discarded.

    Attributes:
        id: The event's id.
        type: Its type; "?" when it cannot be read.
        place: Where it was: waiting in a lane, a dead letter, or in this machine's spool. The last were never in
            ``accepted``.
        possibly_sent: Whether the tracker may have received it.
    """

    id: uuid.UUID
    type: str
    place: Place
    possibly_sent: bool


@dataclass(slots=True)
class Report:
    """What an erasure did so far.

    Attributes:
        events: The events that were discarded.
        unreadable: How many rows of the spool were the person's, could not be read and were deleted.
        in_flight: Events that a worker was sending meanwhile.
        sending: Lanes whose first event is still being sent -> the worker that sends it.
        spool_busy: Whether rows of the spool were left, because another process was moving them on.
    """

    events: list[ErasedEvent] = field(default_factory=list)
    unreadable: int = 0
    in_flight: set[uuid.UUID] = field(default_factory=set)
    sending: dict[Lane, str] = field(default_factory=dict)
    spool_busy: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing was left for another run."""
        return not self.sending and not self.spool_busy

    def possibly_sent(self) -> list[uuid.UUID]:
        """The events that the tracker may have: marked as possible duplicates, or in flight and not discarded here."""
        marked = [event.id for event in self.events if event.possibly_sent]
        return marked + sorted(self.in_flight - {event.id for event in self.events})


class Erasure:
    """The erasure of one person.

    Args:
        outbox: The outbox.
        spool: This machine's spool, when it has one.

    Attributes:
        report: What was done so far; valid after an exception too.
    """

    def __init__(self, outbox: Outbox, spool: SpoolErasure | None) -> None:
        self.report = Report()
        self._outbox = outbox
        self._spool = spool
        self._scripts = Scripts(outbox.redis, outbox.keys)
        self._letters = DeadLetters(outbox)

    def run(self, person: Person, *, wait_seconds: float) -> Report:
        """Erase the person.

        Args:
            person: From ``survey``.
            wait_seconds: How long to wait for events that are being sent, and for a process that moves the spool on.

        Raises:
            OutboxError: Redis failed; run it again.
            SpoolError: The spool's file failed; run it again.
        """
        deadline = time.monotonic() + wait_seconds
        for owner in person.tombstones():
            self._scripts.run("tombstone", owner=owner)
        forget_filters(self._outbox, {person.uid, *(lane.uid for lane in person.found)})
        for kind in KINDS:
            self._erase_rows(person, kind, deadline)
            self._erase_in_redis(person, kind, deadline)
        if self._spool and not self.report.spool_busy:
            self._spool.wipe()
        return self.report

    def _erase_rows(self, person: Person, kind: Kind, deadline: float) -> None:
        """Erase what lies in the spool."""
        if self._spool is None:
            return
        rows = self._spool.erase(person, kind, deadline=deadline)
        if rows is None:
            self.report.spool_busy = True
            return
        self.report.unreadable += rows.unreadable
        self.report.events += [ErasedEvent(*event, "spooled", possibly_sent=False) for event in rows.events]

    def _erase_in_redis(self, person: Person, kind: Kind, deadline: float) -> None:
        """Erase what waits and what is dead, until two passes in a row find nothing.

        An event may change its place meanwhile: one that was being sent may be a dead letter now, and a replay moves a
        letter into a lane. One pass can miss an event that moves once between its two looks; a second pass finds it.
        """
        passes = empty = 0
        while empty < EMPTY_PASSES and (passes <= EMPTY_PASSES or time.monotonic() < deadline):
            before = len(self.report.events)
            self._erase_lanes(person.lanes(kind, self._outbox.apps()), deadline)
            self._erase_letters(person, kind)
            passes += 1
            empty = 0 if len(self.report.events) > before else empty + 1

    def _erase_lanes(self, lanes: list[Lane], deadline: float) -> None:
        while lanes := [lane for lane in lanes if not self._erase_lane(lane)]:
            if time.monotonic() >= deadline:
                return
            time.sleep(POLL_SECONDS)

    def _erase_lane(self, lane: Lane) -> bool:
        """Erase one lane; False when its first event is being sent."""
        self.report.sending.pop(lane, None)
        while True:
            status, lease, *erased = self._scripts.run("erase", lane=str(lane))
            for record, possibly_sent in erased:
                event_id = _id(id_of(record))
                self.report.events.append(
                    ErasedEvent(event_id, type_of(record), "waiting", possibly_sent=bool(possibly_sent))
                )
            if status == b"SENDING":
                self.report.in_flight.add(_id(lease[:16]))
                self.report.sending[lane] = shown(lease[16:])
                return False
            if status == b"ERASED":
                return True

    def _erase_letters(self, person: Person, kind: Kind) -> None:
        for letter in self._letters.scan():
            owner = named_by_letter(letter).owner
            if owner and owner.kind == kind and person.owns(owner) and self._letters.discard(letter.id):
                marked = self._outbox.read("ZREM", self._outbox.keys.doubtful, letter.event_id.bytes)
                possibly_sent = bool(marked) or letter.outcome == "unknown"
                self.report.events.append(
                    ErasedEvent(letter.event_id, letter.type, "dead", possibly_sent=possibly_sent)
                )


def _id(stored: bytes) -> uuid.UUID:
    """An event's id; bytes that are no record may be too short for one."""
    return uuid.UUID(bytes=stored.ljust(16, b"\0"))
