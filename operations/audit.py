"""The recount: does Redis hold what the ledger says, and does every waiting event have a way out?

Workers and producers go on meanwhile. The ledger is therefore read before and after, and a count may differ by no more
than what moved between; a single lane is looked at in one step, between which nobody can fill or empty it. Reads in
bounded batches; it holds the names of all lanes in memory, about 100 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.status import balances, read_ledger
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.replies import pairs, scan
from insend_relay.outbox.store import Outbox

NAMED = 20  # of each kind of finding so many are named


@dataclass(frozen=True, slots=True)
class Audit:
    """What the recount found.

    Attributes:
        balanced: Whether there is no finding.
        findings: A sentence each.
        counts: The ledger's counts, and the recounted ones as ``recounted_*``.
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
    unknown: set[str] = field(default_factory=set)
    waiting: int = 0


def audit(outbox: Outbox) -> Audit:
    """Recount everything; takes a while in a large outbox, and holds nobody up."""
    before = read_ledger(outbox)
    found = _count_lanes(outbox)
    after = read_ledger(outbox)
    counts = {**after, "recounted_waiting": found.waiting, "lanes": len(found.lanes), "apps": len(found.apps)}
    findings = []
    if not balances(after):
        findings.append(
            f"ledger: accepted {after['accepted']} is not delivered {after['delivered']} + waiting {after['waiting']} "
            f"+ dead {after['dead']} + discarded {after['discarded']}"
        )
    if abs(found.waiting - after["waiting"]) > moved(before, after):
        findings.append(f"waiting: the ledger says {after['waiting']}, the lanes hold {found.waiting}")
    findings += _dead(outbox, counts)
    findings += _listed(_unscheduled(outbox, found))
    findings += _listed(_left_over(outbox, found))
    findings += _listed([f"unknown key {name}" for name in sorted(found.unknown)])
    return Audit(not findings, findings, counts)


def moved(before: dict[str, int], after: dict[str, int]) -> int:
    """How many times an event entered or left a lane or the dead letters between two readings of the ledger."""
    rise = {name: abs(after[name] - before[name]) for name in ("accepted", "delivered", "replayed", "discarded")}
    buried = after["dead"] - before["dead"] + rise["replayed"] + rise["discarded"]
    return sum(rise.values()) + abs(buried)


def _count_lanes(outbox: Outbox) -> _Found:
    """Walk over all keys of the namespace; a key that moves during the walk may be met twice, and is counted once."""
    found = _Found()
    prefix = outbox.keys.prefix
    for batch in scan(outbox.redis, "SCAN", match=f"{prefix}*"):
        for key in (name.decode(errors="replace") for name in batch):
            if key.startswith(outbox.keys.lane("")):
                lane = key.removeprefix(outbox.keys.lane(""))
                if lane not in found.lanes:
                    found.lanes.add(lane)
                    found.waiting += int(outbox.read("LLEN", key))
            elif key.startswith(outbox.keys.due("")):
                found.apps.add(key.removeprefix(outbox.keys.due("")))
            elif key.startswith(outbox.keys.behind("")):
                found.guests.add(key.removeprefix(outbox.keys.behind("")))
            elif not outbox.keys.knows(key):
                found.unknown.add(key)
    return found


def _dead(outbox: Outbox, counts: dict[str, int]) -> list[str]:
    """The dead letters, the indexes of their apps and their groups must agree with the ledger."""
    keys = outbox.keys
    before = read_ledger(outbox)
    recounted = {
        "key dead has": int(outbox.read("HLEN", keys.dead)),
        "keys dead:index of the apps have": DeadLetters(outbox).count_in_indexes(),
        "key dead:groups has": sum(int(count) for _, count in pairs(outbox.read("HGETALL", keys.dead_groups))),
    }
    after = read_ledger(outbox)
    counts["recounted_dead"] = recounted["key dead has"]
    return [
        f"dead: the ledger says {after['dead']}, the {what} {count}"
        for what, count in recounted.items()
        if abs(count - after["dead"]) > moved(before, after)
    ]


_STUCK = "return redis.call('LLEN', KEYS[1]) > 0 and not redis.call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0"
_LEFT_OVER = """
local named = redis.call(ARGV[2], KEYS[2], ARGV[1])
return redis.call('LLEN', KEYS[1]) == 0 and named and named ~= 0 and 1 or 0
"""
_NOT_AN_APP = "return redis.call('ZCARD', KEYS[1]) > 0 and not redis.call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0"


def _stuck(outbox: Outbox, lane: str) -> bool:
    """Whether events wait in the lane and nobody will claim them."""
    due = outbox.keys.due(lane.partition("/")[0])
    return bool(outbox.read("EVAL", _STUCK, 2, outbox.keys.lane(lane), due, lane))


def _names_empty(outbox: Outbox, ask: str, key: str, member: str | bytes, lane: str) -> bool:
    """Whether a key has a member that speaks of a lane which holds nothing."""
    return bool(outbox.read("EVAL", _LEFT_OVER, 2, outbox.keys.lane(lane), key, member, ask))


def _unscheduled(outbox: Outbox, found: _Found) -> Iterator[str]:
    """Events that nobody will claim."""
    for lane in found.lanes:
        if not _is_lane(lane):
            yield f"lane {lane}: that is no lane's name"
        elif _stuck(outbox, lane):
            yield f"lane {lane}: holds events and is not in its app's schedule, so nobody will claim them"
    for app in found.apps:
        if outbox.read("EVAL", _NOT_AN_APP, 2, outbox.keys.due(app), outbox.keys.apps, app):
            yield f"app {app}: has a schedule and is not among the apps, so nobody will claim its events"


def _left_over(outbox: Outbox, found: _Found) -> Iterator[str]:
    """Keys that speak of a lane, though it holds no event. A lane that was seen with events is not looked at again."""
    keys = outbox.keys
    places = [
        ("HSCAN", "HEXISTS", "lease", keys.lease),
        ("HSCAN", "HEXISTS", "trying", keys.trying),
        ("ZSCAN", "ZSCORE", "failing", keys.failing),
        *(("ZSCAN", "ZSCORE", f"due:{app}", keys.due(app)) for app in found.apps),
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
