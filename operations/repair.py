"""A dead letter whose event a person has corrected: sent again in its place, or as a new event.

``repair`` keeps the event: the same id, seq and time of acceptance, and the books change as in a replay. ``resend``
discards the letter and accepts a new event, so a file of corrected letters may be sent twice: an event that dies again
is another letter. Either is one script, and does nothing when the letter is gone or is not the one that was read. The
payload comes from ``console/commands/correction.py``, which checks it.
"""

from __future__ import annotations

import json
import uuid
from enum import Enum
from typing import NamedTuple

from insend_relay.operations.dead import Filter, Letter
from insend_relay.operations.replay import KEPT_SECONDS
from insend_relay.outbox.errors import Busy, Changed, NotFound
from insend_relay.outbox.facts import facts_in
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.masked import masked
from insend_relay.outbox.record import draft, new_id
from insend_relay.outbox.scripts import Scripts
from insend_relay.outbox.store import Outbox


@masked()
class Corrected(NamedTuple):
    """The event that takes the place of a dead letter's event.

    Attributes:
        lane: The lane of its visitor, or of its guest when there is no visitor.
        guest_uid: The guest's uid, only when the event carries both.
        payload: The data object as it will be sent, UTF-8 JSON.
    """

    lane: Lane
    guest_uid: str
    payload: bytes


class Resent(Enum):
    """What became of a letter in ``resend``."""

    RESENT = "the letter is discarded, and the corrected event is accepted"
    ALREADY = "the letter is gone, so nothing was done"
    CHANGED = "the letter is not the one that was read, so nothing was done"


def repair(outbox: Outbox, letter: Letter, event: Corrected) -> str:
    """Replace the event of a letter and replay it, in one step.

    Args:
        outbox: Where the letter lies.
        letter: The letter as the operator has seen it; this release can read its record (``letter.decoded``).
        event: The corrected event.

    Returns:
        The id of the replay run that counts what becomes of it; ``Replay.resume`` takes it.

    Raises:
        NotFound: The letter is gone.
        Changed: It holds another event by now.
        Busy: A copy of its event, which a replay has sent, still waits in its lane.
    """
    run = uuid.uuid4().hex
    status = Scripts(outbox.redis, outbox.keys).run(
        "repair",
        id=letter.id.bytes,
        record_sha1=letter.record_sha1,
        lane=str(event.lane),
        app=event.lane.app,
        draft=_draft(event, letter.event_id),
        run=run,
        filter=json.dumps(Filter(id=letter.id, last_burial=letter.burial).as_dict()),
        kept_ms=KEPT_SECONDS * 1000,
    )[0]
    if status == b"GONE":
        raise NotFound(f"no dead letter {letter.id}: it was replayed or discarded meanwhile; nothing was done")
    if status == b"BUSY":
        raise Busy(
            f"a copy of the event of {letter.id} was sent again by a replay and still waits in its lane; nothing was "
            "done: try again when it is delivered or dead"
        )
    if status == b"CHANGED":
        raise Changed(
            f"another operator has corrected the letter {letter.id} meanwhile; nothing was done: read it again"
        )
    return run


def resend(outbox: Outbox, letter_id: uuid.UUID, record_sha1: str, event: Corrected) -> Resent:
    """Discard a letter and accept a new event in its place, in one step.

    Args:
        outbox: Where the letter lies.
        letter_id: Which letter.
        record_sha1: ``Letter.record_sha1`` when it was read.
        event: The corrected event; it gets an id of its own.
    """
    status = Scripts(outbox.redis, outbox.keys).run(
        "resend",
        letter_id=letter_id.bytes,
        record_sha1=record_sha1,
        lane=str(event.lane),
        app=event.lane.app,
        draft=_draft(event, new_id()),
    )[0]
    return Resent[status.decode()]


def _draft(event: Corrected, event_id: uuid.UUID) -> bytes:
    return draft(event.lane, event_id, event.guest_uid, event.payload, facts_in(event.payload))
