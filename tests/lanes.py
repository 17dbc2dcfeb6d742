"""Short words for the outbox's tests: events to append, a look at what is stored, time that passes without waiting."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from counting import counts

from insend_relay.operations import dead
from insend_relay.operations.books import read_counts
from insend_relay.outbox import record
from insend_relay.outbox.claim import Buried, Claim
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.letter import letter_meta
from insend_relay.outbox.store import Outbox

ALICE = Lane("shop", "v", "alice")
BOB = Lane("shop", "v", "bob")
GUEST = Lane("shop", "g", "guest-1")
OTHER = Lane("second", "v", "alice")
LEASE_MS = 60_000
PATIENCE_MS = 5_000  # for which an event in quarantine must have been due


def put(outbox: Outbox, lane: Lane = ALICE, payload: bytes = b"{}", **more: Any) -> bytes:
    """Append one event; its id."""
    return outbox.append(lane, record.new_id(), payload, **more).id.bytes


def claim(outbox: Outbox, room: int = 100, worker: str = "worker-1") -> list[Claim]:
    """Claim what is due."""
    return outbox.claim(worker, room, lease_ms=LEASE_MS)


def claim_one(outbox: Outbox, worker: str = "worker-1") -> Claim:
    """Claim the one lane that is due."""
    (only,) = claim(outbox, worker=worker)
    return only


def bury(outbox: Outbox, held: Claim, **more: Any) -> Claim | None:
    """Bury a claim's head as a purchase that was answered 400; the next head."""
    return buried(outbox, held, **more).following


def buried(outbox: Outbox, held: Claim, *, reason: str = "answered 400", **more: Any) -> Buried:
    """The same, with what became of it."""
    meta = letter_meta(outcome="answered", status=400)
    return outbox.bury(held, **{"type": "purchase", "reason": reason, "meta": meta, "lease_ms": LEASE_MS, **more})


def letter(outbox: Outbox, lane: Lane = ALICE, payload: bytes = b"{}", **more: Any) -> bytes:
    """Append an event and bury it; its id."""
    event_id = put(outbox, lane, payload)
    held = next(held for held in claim(outbox) if held.lane == str(lane))
    bury(outbox, held, **more)
    return event_id


def purchase(revenue: str) -> bytes:
    """The data object of a purchase."""
    return b'{"type":"purchase","properties":{"order_id":"7","revenue":%s}}' % revenue.encode()


def counts_of(outbox: Outbox, name: str) -> dict[str, int]:
    """A book's counts but those that are 0; see ``Keys.books_of``."""
    return {field: number for field, number in asdict(read_counts(outbox, name)).items() if number}


def replay(outbox: Outbox, event_id: bytes, run: str = "run-1", *, limit: int = 1_000) -> bytes:
    """Replay one letter; the status."""
    data = outbox.read("HGET", outbox.keys.dead, event_id)
    burial = dead.decode(event_id, data).burial if data else 0
    status: bytes = outbox._run("replay", id=event_id, burial=burial, run=run, limit=limit)[0]
    return status


def replay_counts(outbox: Outbox, run: str = "run-1") -> dict[str, int]:
    """What a run has counted."""
    names = ("replayed", "delivered", "returned", "discarded")
    counts = outbox.read("HMGET", outbox.keys.replay(run), *names)
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count is not None}


def letter_keys(outbox: Outbox, app: str = "shop") -> list[str]:
    """The keys that hold an app's dead letters."""
    return [outbox.keys.dead, outbox.keys.dead_index(app), outbox.keys.dead_apps, outbox.keys.dead_groups]


def discard(outbox: Outbox, event_id: bytes) -> bytes:
    """Discard one letter; the status."""
    status: bytes = outbox._run("discard", id=event_id)[0]
    return status


def erase(outbox: Outbox, lane: Lane = ALICE) -> tuple[bytes, list[bytes]]:
    """One step of an erasure of a lane; the status, and the ids that it discarded."""
    status, _, *erased = outbox._run("erase", lane=str(lane))
    return status, [data[17:33] for data, _ in erased]


def tombstone(outbox: Outbox, owner: str) -> str:
    """The key of the tombstone that forbids a spool to bring an owner's events back."""
    return f"{outbox.keys.prefix}erased:{hashlib.sha1(owner.encode(), usedforsecurity=False).hexdigest()}"


def waiting(outbox: Outbox, lane: Lane = ALICE) -> list[bytes]:
    """The ids that wait in a lane, oldest first."""
    return [data[17:33] for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)]


def ledger(outbox: Outbox, *names: str) -> list[int]:
    """Counts of the ledger and of the books of all types together."""
    found = counts(outbox)
    return [found.get(name, 0) for name in names]


def books(outbox: Outbox) -> dict[str, int]:
    """The five counters that must balance, and they do."""
    names = ("accepted", "delivered", "waiting", "dead", "discarded")
    found = dict(zip(names, ledger(outbox, *names), strict=True))
    assert found["accepted"] == found["delivered"] + found["waiting"] + found["dead"] + found["discarded"]
    return found


def snapshot(outbox: Outbox) -> dict[bytes, bytes]:
    """Every key of the namespace with its whole content."""
    return {key: outbox.read("DUMP", key) for key in outbox.read("KEYS", outbox.keys.prefix + "*")}


def now_ms(outbox: Outbox) -> int:
    """Redis's clock."""
    seconds, micros = outbox.read("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def due_in(outbox: Outbox, lane: Lane = ALICE) -> float | None:
    """In how many ms a lane may be claimed; None when it is not scheduled."""
    scores = [outbox.read("ZSCORE", key, str(lane)) for key in schedules(outbox, lane)]
    score = next((score for score in scores if score is not None), None)
    return None if score is None else float(score) - now_ms(outbox)


def come_due(outbox: Outbox, lane: Lane = ALICE, *, ms_ago: int = 1) -> None:
    """As if the lane's delay or lease had run out."""
    for key in schedules(outbox, lane):
        outbox.read("ZADD", key, "XX", now_ms(outbox) - ms_ago, str(lane))


def make_newer(outbox: Outbox, lane: Lane = ALICE, *, seconds_ago: int = 0) -> bytes:
    """As if a newer release had written the lane's first event, so long ago; the record."""
    data: bytes = outbox.read("LINDEX", outbox.keys.lane(lane), 0)
    accepted_at = int.from_bytes(data[9:17]) - seconds_ago * 1000
    newer = bytes([record.VERSION + 1]) + data[1:9] + accepted_at.to_bytes(8) + data[17:]
    outbox.read("LSET", outbox.keys.lane(lane), 0, newer)
    return newer


def schedules(outbox: Outbox, lane: Lane) -> tuple[str, str]:
    """The schedules of a lane's app; it stands in one of them."""
    return outbox.keys.due(lane.app), outbox.keys.quarantine(lane.app)


def crash(outbox: Outbox, lane: Lane = ALICE, times: int = 2) -> None:
    """So many workers have crashed with the head of this lane, the only one that is due."""
    for _ in range(times):
        claim_one(outbox)
        come_due(outbox, lane)


def quarantine(outbox: Outbox, lane: Lane = ALICE, *, ms_ago: int = PATIENCE_MS) -> bytes:
    """An event in quarantine, due for so long, whose lane was empty; its id. No other lane may be due."""
    event_id = put(outbox, lane)
    crash(outbox, lane)
    assert claim(outbox) == []
    come_due(outbox, lane, ms_ago=ms_ago)
    return event_id


def open_in(outbox: Outbox, app: str = "shop") -> float:
    """In how many ms an app may be claimed from."""
    return float(outbox.read("ZSCORE", outbox.keys.apps, app)) - now_ms(outbox)


def pause_elapses(outbox: Outbox, app: str = "shop") -> None:
    """As if an app's pause, or the time that its probe is given, had run out."""
    past = now_ms(outbox) - 1
    outbox.read("ZADD", outbox.keys.apps, "XX", past, app)
    outbox.read("HSET", outbox.keys.outage(app), "until", past)


def guard_state(outbox: Outbox, app: str = "shop") -> dict[str, str]:
    """What the outage guard knows of an app."""
    state = outbox.read("HGETALL", outbox.keys.outage(app))
    return {name.decode(): value.decode() for name, value in state.items()}
