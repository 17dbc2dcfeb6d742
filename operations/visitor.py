"""One visitor: what waits in its lanes, why the first event has not gone yet, and an operator's way past it."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Literal

from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.iso import written
from insend_relay.operations.newer import unread_version
from insend_relay.operations.status import MOST_APPS, Paused, read_clock, read_paused, span
from insend_relay.outbox import record
from insend_relay.outbox.errors import Busy, NotFound
from insend_relay.outbox.heartbeat import read_workers
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.lease import holder_of
from insend_relay.outbox.letter import letter_meta, type_of
from insend_relay.outbox.quarantine import QUARANTINED_FROM
from insend_relay.outbox.record import NotARecord, Record
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

OPERATOR = "operator"
LANE_KINDS: tuple[Literal["v", "g"], ...] = ("v", "g")
LEASE_MS = 10_000  # for the one round trip between seizing a lane and burying its head
_OUTCOME = re.compile(r"(refused|answered|unknown)\b(?: (\d{3}))?(?:: )?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LaneView:
    """A lane as an operator sees it.

    Attributes:
        lane: Which.
        waiting: How many events wait in it.
        head: The first; None when it cannot be decoded.
        attempts: The attempts on it that counted.
        last_outcome: How the last one ended, "" before any.
        due_in_ms: When it may be claimed, from now; 0 when that time has come, None when it is not scheduled.
        leased_by: The worker that holds it, or that left it behind.
        paused: The pause of its app.
        why: A sentence that says why the first event is still here.
        unread_version: The version of the first event's record, when no worker that is alive can read it; else None.
    """

    lane: Lane
    waiting: int
    head: Record | None
    attempts: int
    last_outcome: str
    due_in_ms: int | None
    leased_by: str | None
    paused: Paused | None
    why: str
    unread_version: int | None


def look_up(outbox: Outbox, uid: str) -> list[LaneView]:
    """The lanes in which events of this visitor or guest wait, over all apps."""
    apps = outbox.read("ZRANGE", outbox.keys.apps, 0, MOST_APPS - 1)
    views = [look_at(outbox, Lane(app.decode(), kind, uid)) for app in apps for kind in LANE_KINDS]
    return [view for view in views if view]


def bury_head(outbox: Outbox, lane: Lane) -> uuid.UUID:
    """Make the lane's first event a dead letter, so that the next can go; returns the letter's id.

    Raises:
        NotFound: Nothing waits there.
        Busy: A worker is sending it right now.
    """
    claim = outbox.seize(lane, OPERATOR, lease_ms=LEASE_MS)
    if claim is None:
        raise NotFound(f"nothing waits in {lane}")
    tried = claim.attempts()
    kind = type_of(claim.data)
    outcome, status, answer = _outcome(tried)
    meta = letter_meta(
        outcome=outcome,
        status=status,
        answer=answer,
        attempts=tried.starts,
    )
    letter_id = outbox.bury(claim, type=kind, reason=OPERATOR, meta=meta, lease_ms=0).letter_id
    if not letter_id:
        raise Busy(f"the first event of {lane} was taken by a worker meanwhile: try again in a moment")
    return uuid.UUID(bytes=letter_id)


def discard_head(outbox: Outbox, lane: Lane) -> uuid.UUID:
    """Give the lane's first event up for good; returns the id that its letter had. Raises as ``bury_head`` does."""
    buried = bury_head(outbox, lane)
    if not DeadLetters(outbox).discard(buried):
        raise Busy(f"{buried} has meanwhile been replayed or discarded by another command")
    return buried


def explain(
    tried: Tried,
    *,
    leased_by: str | None,
    due_in_ms: int | None,
    paused: Paused | None,
    unread_version: int | None = None,
    waits_for: Lane | None = None,
) -> str:
    """Why a head is still here, in a sentence.

    Args:
        tried: What is known of its attempts.
        leased_by: The holder of its lease, if there is one.
        due_in_ms: When its lane is due; a lease with a lane that is due was left behind.
        paused: The pause of its app.
        unread_version: The version of its record, when no worker that is alive can read it.
        waits_for: The guest's lane that still holds events from before the login.
    """
    due = due_in_ms is None or due_in_ms <= 0
    if leased_by is not None and not due:
        return f"being sent by {leased_by} now"
    if paused and paused.operator:
        return "an operator paused the app"
    if paused:
        return f"the app is paused since {written(paused.since_ms)} UTC ({paused.reason})"
    if leased_by is not None:
        return f"left by {leased_by}, which never said how the sending ended; waiting for a free worker"
    if waits_for is not None:
        return f"waits for what the same person did before the login: see {waits_for}"
    return _why_again(tried, 0 if due_in_ms is None else due_in_ms, unread_version)


def _why_again(tried: Tried, due_in_ms: int, unread_version: int | None) -> str:
    if unread_version is not None:
        return f"a newer release wrote it (record version {unread_version}), and no worker that is alive can read it"
    wait = f"next attempt in {span(due_in_ms / 1000)}" if due_in_ms > 0 else "waiting for a free worker"
    if tried.abandoned >= QUARANTINED_FROM:
        return f"{tried.abandoned} workers crashed while they sent it, so it is sent with nothing beside it; {wait}"
    if tried.attempts or tried.outcome:
        count = f"attempt {tried.attempts} failed" if tried.attempts else "an attempt failed and was not counted"
        return f"{count} ({tried.outcome or 'no outcome known'}), {wait}"
    return f"given back by a worker, {wait}" if due_in_ms > 0 else f"ready, {wait}"


def look_at(outbox: Outbox, lane: Lane) -> LaneView | None:
    """One lane; None when nothing waits in it."""
    keys, name = outbox.keys, str(lane)
    waiting = int(outbox.read("LLEN", keys.lane(lane)))
    data = outbox.read("LINDEX", keys.lane(lane), 0)
    if not waiting or data is None:
        return None
    head = _decoded(data)
    if head and head.uid:
        lane = Lane.parse(name, head.uid)
    tried = Tried.unpack(outbox.read("HGET", keys.trying, name) or b"", record.id_of(data))
    lease = outbox.read("HGET", keys.lease, name)
    leased_by = None if lease is None else holder_of(lease)
    due_at = outbox.read("ZSCORE", keys.due(lane.app), name) or outbox.read("ZSCORE", keys.quarantine(lane.app), name)
    now_ms = read_clock(outbox)
    due_in_ms = None if due_at is None else max(0, int(float(due_at)) - now_ms)
    paused = read_paused(outbox, lane.app)
    unread = unread_version(data, read_workers(outbox, now_ms))
    return LaneView(
        lane=lane,
        waiting=waiting,
        head=head,
        attempts=tried.attempts,
        last_outcome=tried.outcome,
        due_in_ms=due_in_ms,
        leased_by=leased_by,
        paused=paused,
        why=explain(
            tried,
            leased_by=leased_by,
            due_in_ms=due_in_ms,
            paused=paused,
            unread_version=unread,
            waits_for=_waits_for(outbox, lane, head) if head else None,
        ),
        unread_version=unread,
    )


def _decoded(data: bytes) -> Record | None:
    try:
        return record.decode(data)
    except NotARecord:
        return None


def _waits_for(outbox: Outbox, lane: Lane, head: Record) -> Lane | None:
    """The guest's lane, while it holds an event from before this one."""
    if not head.barrier:
        return None
    guest = Lane(lane.app, "g", head.guest_uid)
    first = outbox.read("LINDEX", outbox.keys.lane(guest), 0)
    return guest if first is not None and int.from_bytes(first[1:9]) <= head.barrier else None


def _outcome(tried: Tried) -> tuple[str, int | None, str]:
    """Outcome, status and answer for a letter; one abandoned start is enough for "unknown"."""
    found = _OUTCOME.match(tried.outcome)
    kind, status, answer = found.groups() if found else ("none", None, tried.outcome)
    return ("unknown" if tried.abandoned else kind), (int(status) if status else None), answer
