"""What producers put into the outbox: an event, or one that breaks the rules; apart from the round trip.

``Outbox.enter`` makes the round trip, and so does ``AsyncOutbox.enter`` for asyncio.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.event_type import code_of
from insend_relay.outbox.facts import Facts, facts_in
from insend_relay.outbox.idempotency import DIGEST_BYTES, content_digest
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import group, letter_meta
from insend_relay.outbox.masked import masked
from insend_relay.outbox.person import Named, named_by
from insend_relay.outbox.record import ID_BYTES, draft
from insend_relay.outbox.scripts import Call, Calls


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an entry.

    Attributes:
        id: The id under which the event is kept; the first one's when this was a duplicate.
        duplicate: True when an event with the same idempotency key had been taken before.
        mismatch: True for a duplicate whose properties differ from the first event's: the key was used for two events.
        erased: True for a spooled event that was discarded, since its person was erased after it was made.
    """

    id: uuid.UUID
    duplicate: bool
    mismatch: bool = False
    erased: bool = False


class Way(NamedTuple):
    """How an entry comes in, so that it comes in once (``lua/shared/entrance.lua``).

    Attributes:
        slot: The producer's slot that its call had; "" for none.
        file: The spool that it has lain in; "" when it comes straight from a call.
    """

    slot: str = ""
    file: str = ""


DIRECT = Way()


@masked("id")
class Entry(NamedTuple):
    """An event for its visitor's lane.

    Attributes:
        lane: The visitor's lane, or the guest's when there is no visitor.
        id: From ``record.new_id``.
        payload: The data object as it will be sent, UTF-8 JSON.
        guest_uid: The guest's uid, only when the event carries both.
        once_key: The key of its ``idempotency.Identity``: a second event with the same one is a duplicate; "" for none.
        once_seconds: How long that is remembered.
        once_digest: The digest of its ``idempotency.Identity``; read from the payload where it is not given.
        facts: What the record's header says of it; read from the payload where it is not given.
    """

    lane: Lane
    id: uuid.UUID
    payload: bytes
    guest_uid: str = ""
    once_key: str = ""
    once_seconds: int = 86_400
    once_digest: bytes = b""
    facts: Facts | None = None

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes whose earlier events go before it."""
        if not self.guest_uid:
            return (str(self.lane),)
        return str(self.lane), str(Lane(self.lane.app, "g", self.guest_uid))

    def named(self) -> Named:
        """Whom it names."""
        return named_by(self.lane.app, self.lane, self.guest_uid, self.payload)

    def call(self, scripts: Calls, way: Way = DIRECT) -> Call:
        """The script that takes it in."""
        return scripts.call(
            "append",
            lane=str(self.lane),
            app=self.lane.app,
            draft=draft(self.lane, self.id, self.guest_uid, self.payload, self.known()),
            once_key=self.once_key,
            once_digest=self._digest() if self.once_key else b"",
            once_ms=self.once_seconds * 1000,
            slot=way.slot,
            file=way.file,
        )

    def known(self) -> Facts:
        """What the record's header says of it."""
        return facts_in(self.payload) if self.facts is None else self.facts

    def _digest(self) -> bytes:
        return self.once_digest or content_digest(self.payload)

    def read(self, reply: list[Any]) -> Appended:
        """The script's answer; OutboxUnreachable when it is another's, for then nobody knows."""
        match reply:
            case [b"APPENDED", int()] | [b"ALREADY"]:
                return Appended(self.id, duplicate=False)
            case [b"ERASED"]:
                return Appended(self.id, duplicate=False, erased=True)
            case [b"DUPLICATE", bytes() as first] if len(first) == ID_BYTES + DIGEST_BYTES:
                mismatch = first[ID_BYTES:] != self._digest()
                return Appended(uuid.UUID(bytes=first[:ID_BYTES]), duplicate=True, mismatch=mismatch)
        raise _not_ours(reply)


@masked("id", "type", "faults")
class InvalidEntry(NamedTuple):
    """An event that breaks the rules, for the dead letters.

    Attributes:
        app: The application's key.
        id: From ``record.new_id``.
        lane: The visitor's lane, when the event names a usable visitor.
        type: The event type as the caller gave it.
        payload: The event as well as it can be written down.
        faults: What is wrong with it.
    """

    app: str
    id: uuid.UUID
    lane: Lane | None
    type: str
    payload: bytes
    faults: str

    @property
    def lanes(self) -> tuple[str, ...]:
        """A dead letter waits for nobody."""
        return ()

    def named(self) -> Named:
        """Whom it names, as far as its payload tells."""
        return named_by(self.app, self.lane, "", self.payload)

    def call(self, scripts: Calls, way: Way = DIRECT) -> Call:
        """The script that takes it in."""
        owner = self.named().owner if way.file else None  # only a spooled event can be from before an erasure
        return scripts.call(
            "bury_invalid",
            app=self.app,
            lane=str(self.lane or ""),
            owner=str(owner or ""),
            draft=draft(self.lane, self.id, "", self.payload, self._facts()),
            group=group(self.type, "invalid"),
            meta=letter_meta(outcome="invalid", answer=self.faults),
            slot=way.slot,
            file=way.file,
        )

    def _facts(self) -> Facts:
        """As far as its payload tells; its type is the one that its letter is counted under."""
        return facts_in(self.payload)._replace(type_code=code_of(self.type))

    def read(self, reply: list[Any]) -> Appended:
        """The script's answer; see ``Entry.read``."""
        match reply:
            case [b"BURIED", int()] | [b"ALREADY"]:
                return Appended(self.id, duplicate=False)
            case [b"ERASED"]:
                return Appended(self.id, duplicate=False, erased=True)
        raise _not_ours(reply)


def _not_ours(reply: list[Any]) -> OutboxUnreachable:
    if reply == [b"CLOSED"]:
        return OutboxUnreachable("Redis was given the event too late: it had been brought in another way by then")
    return OutboxUnreachable("what answers at INSEND_REDIS_URL is no Redis: its answer is none of ours", unknown=True)
