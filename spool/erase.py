"""The part of an erasure in this machine's spool: which rows are the person's, and deleting them for good."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from insend_relay.outbox.entry import Entry, InvalidEntry
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import type_in
from insend_relay.outbox.person import Kind, Named, Person, mentions, named_by
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox
from insend_relay.spool.spool import Kept, Spool, Unreadable

BATCH = 200  # rows read at once: at most 64 KB each
POLL_SECONDS = 0.05  # between two looks whether another process has ended with moving the spool on
DISK_SECONDS = 60.0  # what deleting and rewriting may take


class ErasedRows(NamedTuple):
    """What was deleted.

    Attributes:
        events: Id and type of the events that never came into Redis. One that had come in is erased there.
        unreadable: How many rows of the person could not be read.
    """

    events: list[tuple[uuid.UUID, str]]
    unreadable: int


class SpoolErasure:
    """The rows of one person.

    Args:
        spool: This machine's spool; its file exists.
        outbox: Where the rows would have gone.

    Every method raises SpoolError when the disk or the file will not do.
    """

    def __init__(self, spool: Spool, outbox: Outbox) -> None:
        self._spool = spool
        self._scripts = Scripts(outbox.redis, outbox.keys)

    def named(self) -> Iterator[Named]:
        """Whom each event names."""
        return (kept.entry.named() for kept in self._rows() if kept.entry)

    def unreadable(self, person: Person) -> list[int]:
        """The rows that were put aside and are the person's: their numbers."""
        return [row.number for row in self._spool.unreadable() if _belongs(row, person)]

    def erase(self, person: Person, kind: Kind, *, deadline: float) -> ErasedRows | None:
        """Delete the person's rows; None when another process was moving the spool on until the deadline.

        First their dedup slots are closed, so that a late packet of a call does not bring its event into Redis.

        Args:
            person: Whose rows.
            kind: Visitors' rows or guests'.
            deadline: When to give up waiting for the process that moves them on, monotonic seconds.
        """
        with ExitStack() as held:
            while not held.enter_context(self._spool.flushing()):
                if time.monotonic() >= deadline:
                    return None
                held.close()
                time.sleep(POLL_SECONDS)
            return self._erase(person, kind)

    def wipe(self) -> None:
        """Leave no byte of a deleted row in the files."""
        disk = time.monotonic() + DISK_SECONDS
        self._spool.lower(deadline=disk)
        self._spool.wipe(deadline=disk)

    def _erase(self, person: Person, kind: Kind) -> ErasedRows:
        disk = time.monotonic() + DISK_SECONDS
        rows: list[int] = []
        events: list[tuple[uuid.UUID, str]] = []
        for kept in self._rows():
            if kept.entry is None:
                self._spool.put_aside(kept.row, deadline=disk)  # as a flush does; it is looked at below
                continue
            owner = kept.entry.named().owner
            if owner is None or owner.kind != kind or not person.owns(owner):
                continue
            rows.append(kept.row)
            way = kept.way
            status = self._scripts.run("close_slot", id=kept.entry.id.bytes, slot=way.slot, file=way.file)[0]
            if status == b"DROPPED":
                events.append((kept.entry.id, _type(kept.entry)))
        unreadable = self.unreadable(person)
        self._spool.remove(rows, unreadable, deadline=disk)
        return ErasedRows(events, len(unreadable))

    def _rows(self) -> Iterator[Kept]:
        row = 0
        while batch := self._spool.first(BATCH, after=row):
            yield from batch
            row = batch[-1].row


def _belongs(row: Unreadable, person: Person) -> bool:
    """Whether a row that cannot be read is the person's: by whom it names, or else by the uid in what is left of it."""
    try:
        lane = Lane.parse(row.lane)
    except ValueError:
        lane = None
    owner = named_by(row.app, lane, row.guest_uid, row.payload).owner
    if owner is not None:
        return person.owns(owner)
    return mentions(b"\n".join((row.lane.encode(), row.payload)), person.uid)


def _type(entry: Entry | InvalidEntry) -> str:
    return entry.type if isinstance(entry, InvalidEntry) else type_in(entry.payload)
