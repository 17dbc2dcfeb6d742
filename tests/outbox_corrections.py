"""Corrected dead letters in the random lives of ``test_state_machine``: repaired, or sent as new events."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from outbox_model import Event, Model
from outbox_model_books import corrected

from insend_relay.operations.dead import DeadLetters, Letter
from insend_relay.operations.repair import Corrected, Resent, repair, resend
from insend_relay.outbox import record
from insend_relay.outbox.errors import Busy, Changed, NotFound
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox

LANES = [Lane("a", "v", "1"), Lane("a", "v", "2"), Lane("a", "g", "1"), Lane("b", "v", "1"), Lane("b", "g", "1")]

lanes = st.sampled_from(LANES)
picks = st.integers(0, 999)
yes_or_no = st.booleans()


class Corrections:
    """The rules for two operators: one corrects what is there, the other what was there some time ago."""

    outbox: Outbox
    model: Model
    seen: list[bytes]

    def __init__(self) -> None:
        super().__init__()
        self.letters_read: list[Letter] = []
        self.corrections = 0

    @precondition(lambda self: self.model.dead)
    @rule(pick=picks, lane=lanes, login=yes_or_no)
    def repair(self, *, pick: int, lane: Lane, login: bool) -> None:
        found, event = self.letter_read(pick), self.corrected(lane, login=login)
        dead = self.model.dead.get(found.id.bytes)
        if dead is None:
            with pytest.raises(NotFound):
                repair(self.outbox, found, event)
        elif is_another(dead, found):
            with pytest.raises(Changed):
                repair(self.outbox, found, event)
        elif dead.id in self.model.replaying:
            with pytest.raises(Busy):
                repair(self.outbox, found, event)
        else:
            run = repair(self.outbox, found, event)
            self.model.books.move(dead.app, dead.kind, "dead", "corrected")
            self.model.replayed(self.place(dead, event, dead.seq), run, corrected=True)

    @precondition(lambda self: self.model.dead)
    @rule(pick=picks, lane=lanes, login=yes_or_no)
    def resend(self, *, pick: int, lane: Lane, login: bool) -> None:
        found, event = self.letter_read(pick), self.corrected(lane, login=login)
        dead = self.model.dead.get(found.id.bytes)
        done = resend(self.outbox, found.id, found.record_sha1, event)
        if dead is None:
            assert done is Resent.ALREADY
        elif is_another(dead, found):
            assert done is Resent.CHANGED
        else:
            assert done is Resent.RESENT
            self.model.take_letter(dead)
            self.model.books.move(dead.app, dead.kind, "dead", "discarded")
            stored = record.decode(self.outbox.read("LINDEX", self.outbox.keys.lane(lane), -1))
            assert stored.id not in self.seen
            self.seen.append(stored.id)
            seq = self.model.counts["accepted"] + 1
            self.model.accept(self.place(Event(stored.id, seq, str(lane)), event, seq))

    def letter_read(self, pick: int) -> Letter:
        """A letter as an operator has read it: just now, or before another one corrected it, or before it went."""
        dead = list(self.model.dead)  # as they died: the order of ids is another one each time, and picks must repeat
        now = DeadLetters(self.outbox).get(uuid.UUID(bytes=dead[pick % len(dead)]))
        before = self.letters_read
        corrected = [read for read in before if self.is_corrected(read)]
        self.letters_read = [*before, now]
        among = corrected if corrected and pick % 2 else self.letters_read if pick % 4 == 0 else [now]
        return among[pick % len(among)]

    def is_corrected(self, read: Letter) -> bool:
        """Whether a letter holds another event by now."""
        event = self.model.dead.get(read.id.bytes)
        return event is not None and is_another(event, read)

    def corrected(self, lane: Lane, *, login: bool) -> Corrected:
        """An event that no other correction has."""
        self.corrections += 1
        return Corrected(lane, "1" if login and lane.kind == "v" else "", corrected(self.corrections).payload)

    def place(self, event: Event, correction: Corrected, seq: int) -> Event:
        """The event as it is with its correction, before it enters its lane."""
        event.lane = str(correction.lane)
        kinds = (corrected(number) for number in range(1, self.corrections + 1))
        event.kind = next(kind for kind in kinds if kind.payload == correction.payload)
        event.guest = f"{correction.lane.app}/g/1" if correction.guest_uid else ""
        event.barrier = seq if event.guest and self.model.lines[event.guest].events else 0
        return event


def is_another(event: Event, read: Letter) -> bool:
    """Whether the letter's event is not the one that was read: it was corrected, or is another copy."""
    return (event.seq, event.kind.payload) != (read.seq, read.payload)
