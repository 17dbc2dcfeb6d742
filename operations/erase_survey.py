"""What there is of one person, before it is erased: in Redis and in this machine's spool.

Nothing is changed. The headers of all records in visitors' lanes are looked through inside Redis, every dead letter and
every row of the spool is read, each in bounded batches, while producers and workers go on.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from redis.exceptions import RedisError

from insend_relay.operations.dead import DeadLetters, Letter
from insend_relay.outbox.connection import mapped, run_together
from insend_relay.outbox.keys import Lane, uid_text
from insend_relay.outbox.person import KINDS, Links, Named, Person, mentions, named_by
from insend_relay.outbox.replies import scan
from insend_relay.outbox.scripts import piece
from insend_relay.outbox.store import Outbox
from insend_relay.spool.erase import SpoolErasure

LANES_AT_ONCE = 100  # looked through in one packet
RECORDS_AT_ONCE = 500  # looked through in one step
Place = Literal["waiting", "dead", "spooled"]

# The uid of some records of a lane, if they hold it, and the guests that they name. The payloads stay in Redis.
_UIDS = (
    piece("record")
    + """
local uid, seen, guests = '', {}, {}
local records = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])
for _, record in ipairs(records) do
  local guest = guest_of(record)
  uid = uid == '' and uid_of(record) or uid
  if guest ~= '' and not seen[guest] then
    seen[guest] = true
    guests[#guests + 1] = guest
  end
end
return {#records, uid, guests}
"""
)


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is of a person.

    Attributes:
        person: Everything that belongs to the person.
        counts: Owner -> how many events of theirs there are in each place.
        unclear: Dead letters that mention the uid and name no usable visitor or guest. They may be the person's
            (``visitor_uid=user`` instead of ``user.id``), or not, so they stay for the operator to look at.
        unreadable: Rows of the spool that cannot be read and are the person's.
    """

    person: Person
    counts: dict[Lane, Counter[Place]]
    unclear: tuple[uuid.UUID, ...]
    unreadable: int


def survey(outbox: Outbox, spool: SpoolErasure | None, uid: str, app: str | None = None) -> Survey:
    """Look everything through.

    Args:
        outbox: The outbox.
        spool: This machine's spool, when it has one.
        uid: A visitor's or a guest's uid.
        app: The one app that is meant; None for all.
    """
    links = Links()
    owners: dict[Lane, Counter[Place]] = defaultdict(Counter)
    for visitor, guests in _waiting_guests(outbox):
        links.guests[visitor] |= guests
    unclear: list[uuid.UUID] = []
    letters: Iterator[tuple[Named, Place]] = ((named, "dead") for named in _named_by_letters(outbox, uid, app, unclear))
    rows: Iterator[tuple[Named, Place]] = ((named, "spooled") for named in (spool.named() if spool else ()))
    for named, place in chain(letters, rows):
        links.add(named)
        if named.owner:
            owners[named.owner][place] += 1
    person = Person(uid, app).linked(links)
    counts = {owner: found for owner, found in owners.items() if person.owns(owner)}
    apps = outbox.apps()
    for lane in chain.from_iterable(person.lanes(kind, apps) for kind in KINDS):
        waiting = int(outbox.read("LLEN", outbox.keys.lane(lane)))
        if waiting:
            counts.setdefault(lane, Counter())["waiting"] = waiting
    return Survey(person, counts, tuple(unclear), len(spool.unreadable(person)) if spool else 0)


def _named_by_letters(outbox: Outbox, uid: str, app: str | None, unclear: list[uuid.UUID]) -> Iterator[Named]:
    """Whom each dead letter names; adds to ``unclear`` those that mention the uid and name no usable one."""
    for letter in DeadLetters(outbox).scan():
        named = named_by_letter(letter)
        usable = named.owner is not None and (named.owner.well_formed or named.owner.uid == uid)
        if not usable and app in {None, letter.app} and mentions(letter.payload, uid):
            unclear.append(letter.id)
        yield named


def named_by_letter(letter: Letter) -> Named:
    """Whom a dead letter names."""
    guest_uid = letter.guest_uid if letter.lane and letter.lane.kind == "v" else ""
    return named_by(letter.app, letter.lane, guest_uid, letter.payload)


def _waiting_guests(outbox: Outbox) -> Iterator[tuple[Lane, set[Lane]]]:
    """The visitors in whose lanes guests are named, and these guests."""
    prefix = outbox.keys.lane("")
    for batch in scan(outbox.redis, "SCAN", match=f"{prefix}*/v/*"):
        lanes = [lane for key in batch if (lane := _lane(key.decode(errors="replace").removeprefix(prefix)))]
        for at in range(0, len(lanes), LANES_AT_ONCE):
            yield from _guests_of(outbox, lanes[at : at + LANES_AT_ONCE])


def _guests_of(outbox: Outbox, lanes: list[Lane], start: int = 0) -> Iterator[tuple[Lane, set[Lane]]]:
    last = start + RECORDS_AT_ONCE - 1
    replies = run_together(outbox.redis, *(("EVAL", _UIDS, 1, outbox.keys.lane(lane), start, last) for lane in lanes))
    longer = []
    for lane, reply in zip(lanes, replies, strict=True):
        if isinstance(reply, RedisError):
            raise mapped(reply)
        looked_at, uid, guests = reply
        if guests:
            known = Lane(lane.app, lane.kind, uid_text(uid)) if uid else lane
            yield known, {Lane(lane.app, "g", uid_text(guest)) for guest in guests}
        if looked_at == RECORDS_AT_ONCE:
            longer.append(lane)
    if longer:
        yield from _guests_of(outbox, longer, start + RECORDS_AT_ONCE)


def _lane(name: str) -> Lane | None:
    """A lane; None for a key that is no lane's, which ``insend audit`` reports."""
    try:
        return Lane.parse(name)
    except ValueError:
        return None
