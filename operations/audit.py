"""The audit: does Redis hold what the books say, and does every waiting event have a way out?

``audit_books`` compares the books with a recount. Workers and producers go on meanwhile; whether a single lane can be
claimed is therefore looked at in one step, in which its events cannot change. Reads in bounded batches; it holds the
names of all lanes and the ids of an app's dead letters in memory, about 100 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from insend_relay.operations import audit_books
from insend_relay.operations.books import total
from insend_relay.operations.dead_groups import read_groups
from insend_relay.operations.recount import recount_lanes, recount_letters
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.replies import pairs, scan
from insend_relay.outbox.store import Outbox

_COLUMNS = ("delivered", "waiting", "dead", "discarded")
NAMED = 20  # of each kind of finding so many are named


@dataclass(frozen=True, slots=True)
class Audit:
    """What the recount found.

    Attributes:
        balanced: Whether there is no finding.
        findings: A sentence each.
        counts: The sums of the books, and the recounted numbers as ``recounted_*``.
    """

    balanced: bool
    findings: list[str]
    counts: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As in ``insend audit --json``."""
        return {"balanced": self.balanced, "findings": self.findings, "counts": self.counts}


@dataclass(slots=True)
class _Found:
    """What one SCAN over the keys brought up."""

    lanes: set[str] = field(default_factory=set)
    apps: set[str] = field(default_factory=set)
    guests: set[str] = field(default_factory=set)  # for whom others wait
    books: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)  # apps with dead letters
    unknown: set[str] = field(default_factory=set)


def audit(outbox: Outbox) -> Audit:
    """Recount everything; takes a while in a large outbox, and holds nothing up."""
    before = audit_books.read(outbox)
    found = _walk(outbox)
    waiting = recount_lanes(outbox, sorted(found.lanes))
    dead = recount_letters(outbox, _letter_ids(outbox, found))
    letters = int(outbox.read("HLEN", outbox.keys.dead))
    groups = read_groups(outbox)
    after = audit_books.read(outbox)
    findings = [
        *_listed(audit_books.unbalanced(after)),
        *_listed(audit_books.miscounted(before, after, waiting, dead)),
        *_listed(audit_books.letters_differ(before, after, letters, dead)),
        *_listed(audit_books.groups_differ(before, after, groups, dead)),
        *_listed(audit_books.disagreeing(outbox)),
        *_listed(_not_indexed(outbox, found)),
        *_listed(_unscheduled(outbox, found)),
        *_listed(_left_over(outbox, found)),
        *_listed([f"unknown key {name}" for name in sorted(found.unknown)]),
    ]
    counts = total(after.relay.values())
    numbers = {name: getattr(counts, name) for name in ("accepted", *_COLUMNS, "replayed")}
    recounted = {"recounted_waiting": waiting.number, "recounted_dead": dead.number}
    names = {"lanes": len(found.lanes), "apps": len(found.apps), "app_books": len(after.apps)}
    return Audit(not findings, findings, {**numbers, **recounted, **names})


def _walk(outbox: Outbox) -> _Found:
    """Walk over all keys of the namespace."""
    found = _Found()
    keys = outbox.keys
    places = [
        (keys.lane(""), found.lanes),
        (keys.due(""), found.apps),
        (keys.quarantine(""), found.apps),
        (keys.behind(""), found.guests),
        (keys.books_of(""), found.books),
        (keys.dead_index(""), found.indexes),
    ]
    for batch in scan(outbox.redis, "SCAN", match=f"{keys.prefix}*"):
        for key in (name.decode(errors="replace") for name in batch):
            for start, names in places:
                if key.startswith(start):
                    names.add(key.removeprefix(start))
            if not keys.knows(key):
                found.unknown.add(key)
    return found


def _letter_ids(outbox: Outbox, found: _Found) -> Iterator[bytes]:
    """The ids in the indexes of dead letters."""
    for app in sorted(found.indexes):
        seen: set[bytes] = set()
        for batch in scan(outbox.redis, "ZSCAN", outbox.keys.dead_index(app)):
            new = {name for name, _ in pairs(batch)} - seen
            seen |= new
            yield from new


def _not_indexed(outbox: Outbox, found: _Found) -> Iterator[str]:
    """Books and dead letters of an app that no look at the apps can find."""
    for name in sorted(found.books):
        app, slash, _ = name.rpartition("/")
        if slash and not outbox.read("SISMEMBER", outbox.keys.books, name):
            yield f"app {app}: has the key books:{name}, which is not in books"
    for app in sorted(found.indexes):
        if outbox.read("EVAL", _NOT_IN_SET, 2, outbox.keys.dead_index(app), outbox.keys.dead_apps, app):
            yield f"app {app}: has dead letters and is not in dead:apps"


_SCHEDULES = """
local due, quarantine = redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('ZSCORE', KEYS[3], ARGV[1])
return redis.call('LLEN', KEYS[1]) == 0 and 1 or (due and 1 or 0) + (quarantine and 1 or 0)
"""
_LEFT_OVER = """
local named = redis.call(ARGV[2], KEYS[2], ARGV[1])
return redis.call('LLEN', KEYS[1]) == 0 and named and named ~= 0 and 1 or 0
"""
_NOT_IN_SET = "return redis.call('ZCARD', KEYS[1]) > 0 and redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 and 1 or 0"
_NOT_LISTED = "return redis.call('ZCARD', KEYS[1]) > 0 and not redis.call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0"


def _schedules(outbox: Outbox, lane: str) -> int:
    """In how many schedules of its app the lane stands; 1 if it holds nothing by now."""
    keys, app = outbox.keys, lane.partition("/")[0]
    return int(outbox.read("EVAL", _SCHEDULES, 3, keys.lane(lane), keys.due(app), keys.quarantine(app), lane))


def _listed_in(outbox: Outbox, schedule: str, apps: str, app: str) -> bool:
    """Whether an app whose schedule holds lanes is in a set of apps."""
    return not outbox.read("EVAL", _NOT_LISTED, 2, schedule, apps, app)


def _names_empty(outbox: Outbox, ask: str, key: str, member: str | bytes, lane: str) -> bool:
    """Whether a key has a member that speaks of a lane which holds nothing."""
    return bool(outbox.read("EVAL", _LEFT_OVER, 2, outbox.keys.lane(lane), key, member, ask))


def _unscheduled(outbox: Outbox, found: _Found) -> Iterator[str]:
    """Events that no worker will claim."""
    for lane in found.lanes:
        if not _is_lane(lane):
            yield f"lane {lane}: that is no lane's name"
            continue
        schedules = _schedules(outbox, lane)
        if not schedules:
            yield f"lane {lane}: holds events and is not in its app's schedules, so no worker will claim them"
        elif schedules > 1:
            yield f"lane {lane}: is in due and in quarantine, so it may be claimed out of turn"
    keys = outbox.keys
    for app in found.apps:
        if not all(_listed_in(outbox, schedule, keys.apps, app) for schedule in (keys.due(app), keys.quarantine(app))):
            yield f"app {app}: has a schedule and is not among the apps, so no worker will claim its events"
        if not _listed_in(outbox, keys.quarantine(app), keys.quarantine_apps, app):
            yield f"app {app}: has lanes in quarantine and is not in quarantine_apps, so no worker will claim them"


def _left_over(outbox: Outbox, found: _Found) -> Iterator[str]:
    """Keys that speak of a lane, though it holds no event. A lane that was seen with events is not looked at again."""
    keys = outbox.keys
    places = [
        ("HSCAN", "HEXISTS", "lease", keys.lease),
        ("HSCAN", "HEXISTS", "trying", keys.trying),
        ("ZSCAN", "ZSCORE", "failing", keys.failing),
        *(("ZSCAN", "ZSCORE", f"due:{app}", keys.due(app)) for app in found.apps),
        *(("ZSCAN", "ZSCORE", f"quarantine:{app}", keys.quarantine(app)) for app in found.apps),
        *(("ZSCAN", "ZSCORE", f"behind:{guest}", keys.behind(guest)) for guest in found.guests),
    ]
    for walk, ask, name, key in places:
        for batch in scan(outbox.redis, walk, key):
            for lane in (member.decode(errors="replace") for member, _ in pairs(batch)):
                if lane not in found.lanes and _names_empty(outbox, ask, key, lane, lane):
                    yield f"lane {lane}: is in {name} and holds no event"
    for batch in scan(outbox.redis, "HSCAN", keys.replaying):
        for event_id, entry in pairs(batch):
            lane = entry.decode(errors="replace").partition(" ")[2]
            if lane not in found.lanes and _names_empty(outbox, "HEXISTS", keys.replaying, event_id, lane):
                yield f"lane {lane}: event {event_id.hex()} of it is in replaying and the lane holds no event"


def _is_lane(name: str) -> bool:
    try:
        Lane.parse(name)
    except ValueError:
        return False
    return True


def _listed(findings: Iterable[str]) -> list[str]:
    """The first findings, and how many more there are."""
    listed = list(islice(iterator := iter(findings), NAMED))
    more = sum(1 for _ in iterator)
    return [*listed, f"and {more} more of this kind"] if more else listed
