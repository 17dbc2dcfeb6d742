"""What an operator asks first: how much waits, since when, what is held back, and whether the books balance.

Reading it is cheap: the work is bounded by the number of apps, whatever the number of lanes and events. The oldest
waiting event is therefore looked for where it must be (lanes in trouble or left to a newer worker, both ends of each
schedule), not everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from insend_relay.operations.books import AppBooks, Book, read_apps, read_relay, whole
from insend_relay.operations.headroom import full_in, read_headroom
from insend_relay.operations.iso import iso
from insend_relay.operations.jumps import Jump, read_jumps
from insend_relay.operations.newer import Newer, read_newer
from insend_relay.outbox.clock_steps import NOTHING_AHEAD, ClockSteps, FarAhead
from insend_relay.outbox.errors import OutboxFull, OutboxRefused, OutboxUnreachable
from insend_relay.outbox.fault import Fault, fault_of
from insend_relay.outbox.heartbeat import NO_WORKERS, Workers, other_namespaces, read_workers
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.replies import pairs
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

MOST_APPS = 1_000
MAX_BOOKS = 1_000  # one for each type and app
ENDS = 100  # lanes looked at from each end of the schedules, shared out among the apps
PULSE_MINUTES = 5
STALLED_SECONDS = 60
FAILING_LOOKED_AT = 10  # lanes in trouble


@dataclass(frozen=True, slots=True)
class Paused:
    """An app whose events are held back.

    Attributes:
        app: The application's key.
        since_ms: Since when, on Redis's clock.
        until_ms: When the next probe may go; None when only an operator ends it.
        reason: The tracker's last answer, or that an operator did it.
        operator: True when an operator paused it.
        held: How many lanes wait in it.
        fault: What is wrong; None when an operator paused it.
        delivered_at_ms: When an event of the app was last delivered; None when none ever was.
    """

    app: str
    since_ms: int
    until_ms: int | None
    reason: str
    operator: bool
    held: int = 0
    fault: Fault | None = None
    delivered_at_ms: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As in ``insend status --json``."""
        until = None if self.until_ms is None else iso(self.until_ms)
        return {
            "app": self.app,
            "since": iso(self.since_ms),
            "until": until,
            "reason": self.reason,
            "fault": self.fault,
            "last_delivered": None if self.delivered_at_ms is None else iso(self.delivered_at_ms),
        }


@dataclass(frozen=True, slots=True)
class Failing:
    """An event that fails while no event of its app is delivered, and the app is not paused (yet).

    Attributes:
        lane: The lane in which it waits.
        seconds: How long ago its first attempt was.
    """

    lane: Lane
    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Redis does not take producers' events at present.

    Attributes:
        full: Whether that is because ``maxmemory`` is reached.
        text: Why, in a sentence.
    """

    full: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of one outbox.

    Attributes:
        accepted: Events taken since the beginning.
        delivered: Those answered 200.
        waiting: Those in their lanes now.
        dead: Those in the dead letters now.
        discarded: Those that an operator gave up.
        replayed: How often a dead letter went back to its lane.
        spooled: Events in this machine's spool, not yet in Redis.
        duplicates_possible: Events that may have reached the tracker once more than we know.
        no_visitor: Calls that named no visitor and left no event.
        oldest_waiting_seconds: The age of the oldest waiting event; None when none waits.
        held_lanes: Visitors whose first event is being tried again.
        quarantined_lanes: Those of them whose first event has crashed two workers, so that it is sent alone.
        paused: The apps that are held back as a whole.
        redis_headroom_bytes: What is left up to maxmemory; None when unlimited or unknown.
        full_in_seconds: When that is used up at the pace of the last minutes; None when it is not in sight.
        balanced: Whether accepted = delivered + waiting + dead + discarded, for each type.
        now_ms: When this was read, on Redis's clock.
        stalled: Whether an event or a probe could have been sent for a minute, and no worker has done anything.
        spooled_seconds: The age of the oldest spooled event; None when there is none.
        spool_fault: Why this machine's spool cannot be read, so that ``spooled`` is unknown; None when it can be, and
            without one.
        failing: The event that has failed longest while no other of its app was delivered; None when there is none.
        newer: What only a worker of a newer release can read, while none is alive; None when there is nothing.
        refusal: Why Redis takes no events of producers; None when it takes them.
        workers: The workers of this namespace.
        unused: Whether this namespace never accepted an event and never had a worker; then it may be mistyped.
        elsewhere: Other namespaces of this Redis with a worker that is alive; looked for only in an unused one.
        jumps: When the books have jumped back, until an operator acknowledges it.
        far_ahead: What a step back of Redis's clock has left scheduled too far ahead.
        types: The books of the whole relay, by type.
        apps: The books of each app.
    """

    accepted: int
    delivered: int
    waiting: int
    dead: int
    discarded: int
    replayed: int
    spooled: int
    duplicates_possible: int
    no_visitor: int
    oldest_waiting_seconds: float | None
    held_lanes: int
    paused: list[Paused]
    redis_headroom_bytes: int | None
    full_in_seconds: float | None
    balanced: bool
    now_ms: int
    stalled: bool = False
    spooled_seconds: float | None = None
    spool_fault: str | None = None
    failing: Failing | None = None
    newer: Newer | None = None
    refusal: Refusal | None = None
    workers: Workers = NO_WORKERS
    jumps: list[Jump] = field(default_factory=list)
    far_ahead: FarAhead = NOTHING_AHEAD
    types: Book = field(default_factory=dict)
    apps: list[AppBooks] = field(default_factory=list)
    quarantined_lanes: int = 0
    unused: bool = False
    elsewhere: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As in ``insend status --json``."""
        return {
            "accepted": self.accepted,
            "delivered": self.delivered,
            "waiting": self.waiting,
            "dead": self.dead,
            "discarded": self.discarded,
            "replayed": self.replayed,
            "spooled": None if self.spool_fault else self.spooled,
            "duplicates_possible": self.duplicates_possible,
            "no_visitor": self.no_visitor,
            "oldest_waiting_seconds": self.oldest_waiting_seconds,
            "held_lanes": self.held_lanes,
            "quarantined_lanes": self.quarantined_lanes,
            "paused": [paused.as_dict() for paused in self.paused],
            "redis_headroom_bytes": self.redis_headroom_bytes,
            "redis_full_in_seconds": self.full_in_seconds,
            "balanced": self.balanced,
            "stalled": self.stalled,
            "spooled_oldest_seconds": self.spooled_seconds,
            "spool_fault": self.spool_fault,
            "undelivered_seconds": self.failing.seconds if self.failing else None,
            "newer": asdict(self.newer) if self.newer else None,
            "redis_refuses": self.refusal.text if self.refusal else None,
            "workers_alive": self.workers.alive,
            "last_heartbeat_seconds": self.workers.last_seconds,
            "unused": self.unused,
            "other_namespaces": self.elsewhere,
            "jumps": [jump.as_dict() for jump in self.jumps],
            "far_ahead": self.far_ahead._asdict(),
            "types": {name: counts.as_dict() for name, counts in self.types.items()},
            "apps": [app.as_dict() for app in self.apps],
            "now_ms": self.now_ms,
        }


def read_status(
    outbox: Outbox, *, spooled: int = 0, spooled_seconds: float | None = None, now_ms: int | None = None
) -> Status:
    """Read it all.

    Args:
        outbox: The outbox.
        spooled: How many events lie in this machine's spool.
        spooled_seconds: The age of the oldest of them.
        now_ms: Stands in for Redis's clock.
    """
    now_ms = read_clock(outbox) if now_ms is None else now_ms
    types = read_relay(outbox)
    counts = whole(types)
    apps = [name.decode() for name in outbox.read("ZRANGE", outbox.keys.apps, 0, MOST_APPS - 1)]
    paused = [pause for app in apps if (pause := read_paused(outbox, app))]
    heads = _heads(outbox, apps) if counts.waiting else []
    workers = read_workers(outbox, now_ms)
    newer = read_newer(outbox, workers, now_ms)
    births = [int.from_bytes(head[9:17]) for head in heads] + _births_in_trouble(outbox)
    if newer:
        births.append(now_ms - round(newer.seconds * 1000))
    grown, busy = _pulse(outbox, now_ms)
    headroom = read_headroom(outbox)
    unused = not outbox.read("EXISTS", outbox.keys.ledger, outbox.keys.epoch)
    return Status(
        accepted=counts.accepted,
        delivered=counts.delivered,
        waiting=counts.waiting,
        dead=counts.dead,
        discarded=counts.discarded,
        replayed=counts.replayed,
        duplicates_possible=_count(outbox, "duplicates_possible"),
        no_visitor=_count(outbox, "no_visitor"),
        spooled=spooled,
        oldest_waiting_seconds=max(0, now_ms - min(births)) / 1000 if births else None,
        held_lanes=int(outbox.read("ZCARD", outbox.keys.failing)),
        paused=paused,
        redis_headroom_bytes=headroom,
        full_in_seconds=full_in(headroom, grown, heads, counts.waiting),
        balanced=all(book.balanced for book in types.values()),
        stalled=not busy and _unclaimed_seconds(outbox, apps, now_ms) > STALLED_SECONDS,
        now_ms=now_ms,
        spooled_seconds=spooled_seconds,
        failing=_failing(outbox, {pause.app for pause in paused}, now_ms),
        newer=newer,
        refusal=read_refusal(outbox),
        workers=read_workers(outbox, now_ms),
        jumps=read_jumps(outbox),
        far_ahead=_far_ahead(outbox),
        types=types,
        apps=read_apps(outbox, MAX_BOOKS),
        quarantined_lanes=_quarantined(outbox),
        unused=unused,
        elsewhere=_elsewhere(outbox, now_ms) if unused else [],
    )


def read_refusal(outbox: Outbox) -> Refusal | None:
    """Why Redis takes no events of producers at present (full, read-only, its disk); None when it takes them.

    The command changes nothing, and Redis refuses it whenever it refuses an append.
    """
    try:
        outbox.read("SETRANGE", outbox.keys.hint, 0, "")
    except OutboxFull as error:
        return Refusal(full=True, text=str(error))
    except OutboxUnreachable as error:
        if error.unknown:  # not an answer
            raise
        return Refusal(full=False, text=str(error))
    except OutboxRefused:  # this user may not ask
        return None
    return None


def read_clock(outbox: Outbox) -> int:
    """Redis's clock, ms since the epoch."""
    seconds, micros = outbox.read("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def _count(outbox: Outbox, name: str) -> int:
    """A count of the ledger."""
    return int(outbox.read("HGET", outbox.keys.ledger, name) or 0)


def read_paused(outbox: Outbox, app: str) -> Paused | None:
    """Why an app is held back; None when it is not."""
    names = ("operator", "since", "until", "reason", "fault", "last_ok")
    operator, since, until, reason, fault, last_ok = outbox.read("HMGET", outbox.keys.outage(app), *names)
    if operator is None and since is None:
        return None
    held = sum(int(outbox.read("ZCARD", key)) for key in (outbox.keys.due(app), outbox.keys.quarantine(app)))
    if operator is not None:
        return Paused(app, int(operator), None, "paused by an operator", operator=True, held=held)
    return Paused(
        app,
        int(since),
        None if until is None else int(until),
        (reason or b"").decode(errors="replace"),
        operator=False,
        held=held,
        fault=fault_of((fault or b"").decode(errors="replace")),
        delivered_at_ms=None if last_ok is None else int(last_ok),
    )


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit: ``0.3 s``, ``40 s``, ``10 min``, ``6 h``, ``3 d``.

    A negative one, which is an age after a step back of Redis's clock, counts as 0.
    """
    seconds = max(0.0, seconds)
    for limit, size, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            number = seconds / size
            return f"{number:.1f} {unit}" if 0 < number < 10 and unit == "s" else f"{number:.0f} {unit}"  # noqa: PLR2004
    return f"{seconds / 86_400:.0f} d"


def _heads(outbox: Outbox, apps: list[str]) -> list[bytes]:
    """The heads of the lanes at both ends of each app's schedule."""
    share = max(1, ENDS // max(1, len(apps)))
    heads = []
    for app in apps:
        due = outbox.keys.due(app)
        lanes = {*outbox.read("ZRANGE", due, 0, share - 1), *outbox.read("ZRANGE", due, -share, -1)}
        heads += [outbox.read("LINDEX", outbox.keys.lane(lane.decode()), 0) for lane in lanes]
    return [head for head in heads if head]


def _births_in_trouble(outbox: Outbox) -> list[int]:
    """When the oldest head that has failed was accepted, if there is one."""
    oldest = pairs(outbox.read("ZRANGE", outbox.keys.failing, 0, 0, "WITHSCORES"))
    return [int(float(accepted_at)) for _, accepted_at in oldest]


def _elsewhere(outbox: Outbox, now_ms: int) -> list[str]:
    """Other namespaces with a worker that is alive; none when this user may not look into them."""
    try:
        return other_namespaces(outbox, now_ms)
    except OutboxRefused:
        return []


def _quarantined(outbox: Outbox) -> int:
    """How many lanes are in quarantine. ``_births_in_trouble`` knows their heads."""
    apps = [name.decode() for name in outbox.read("ZRANGE", outbox.keys.quarantine_apps, 0, MOST_APPS - 1)]
    return sum(int(outbox.read("ZCARD", outbox.keys.quarantine(app))) for app in apps)


def _failing(outbox: Outbox, paused: set[str], now_ms: int) -> Failing | None:
    """Among the oldest heads that have failed, the first whose app has delivered nothing since its first attempt."""
    for name in outbox.read("ZRANGE", outbox.keys.failing, 0, FAILING_LOOKED_AT - 1):
        lane = Lane.parse(name.decode())
        tried = outbox.read("HGET", outbox.keys.trying, name)
        if lane.app in paused or not tried:
            continue
        first_at_ms = Tried.unpack(tried, tried[:16]).first_at_ms
        last_ok = int(outbox.read("HGET", outbox.keys.outage(lane.app), "last_ok") or 0)
        if first_at_ms > last_ok:
            return Failing(lane, max(0, now_ms - first_at_ms) / 1000)
    return None


def _unclaimed_seconds(outbox: Outbox, apps: list[str], now_ms: int) -> float:
    """For how long something could have been claimed and was not."""
    longest = 0.0
    for app in apps:
        for _, due_at in pairs(outbox.read("ZRANGE", outbox.keys.due(app), 0, 0, "WITHSCORES")):
            open_from = float(outbox.read("ZSCORE", outbox.keys.apps, app) or 0)
            longest = max(longest, now_ms - max(float(due_at), open_from))
    return longest / 1000


def _pulse(outbox: Outbox, now_ms: int) -> tuple[float, bool]:
    """How many events a second came to stay in the last minutes, and whether any was worked on in this or the last."""
    minute = now_ms // 60_000
    came = 0
    busy = False
    for past in range(PULSE_MINUTES + 1):
        names = ("accepted", "delivered", "dead", "failed")
        counts = outbox.read("HMGET", outbox.keys.pulse(minute - past), *names)
        accepted, delivered, dead, failed = (int(count or 0) for count in counts)
        came += accepted - delivered  # a dead letter stays in Redis too
        busy = busy or (past <= 1 and delivered + dead + failed > 0)
    return came / (PULSE_MINUTES * 60 + now_ms % 60_000 / 1000), busy


def _far_ahead(outbox: Outbox) -> FarAhead:
    try:
        return ClockSteps(outbox).look()
    except OutboxRefused:  # this user may not run scripts
        return NOTHING_AHEAD
