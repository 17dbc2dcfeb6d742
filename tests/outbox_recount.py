"""Everything that a namespace holds, read in one reply, against what ``outbox_model`` says."""

from __future__ import annotations

from collections import Counter
from typing import Any

from outbox_model import Model
from outbox_model_books import wrap

from insend_relay.outbox import record
from insend_relay.outbox.keys import Keys
from insend_relay.outbox.trying import Tried

NEVER = 9007199254740991

# Everything in the namespace in one reply: the clock, then each key with its type and content.
EVERYTHING = """
local reply = {redis.call('TIME')}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local type, content = redis.call('TYPE', key)['ok'], ''
  if type == 'list' then content = redis.call('LRANGE', key, 0, -1) end
  if type == 'set' then content = redis.call('SMEMBERS', key) end
  if type == 'set' then content = redis.call('SMEMBERS', key) end
  if type == 'hash' then content = redis.call('HGETALL', key) end
  if type == 'zset' then content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  reply[#reply + 1] = {key, content, redis.call('PTTL', key)}
end
return reply
"""


def recount(keys: Keys, model: Model, reply: list[Any]) -> None:
    """Fails when Redis holds anything else than the model."""
    (seconds, micros), *found = reply
    now = int(seconds) * 1000 + int(micros) // 1000
    lives = {key.decode(): ttl for key, _, ttl in found}
    content = {key.decode(): value for key, value, _ in found}
    assert all(keys.knows(key) for key in content)
    check_lanes(keys, model, content, now)
    check_ledger(keys, model, content)
    model.books.check(keys, content)
    check_groups(keys, model, content)
    check_letters(keys, model, content)
    replaying = {event_id: f"{run} {lane}".encode() for event_id, (run, lane) in model.replaying.items()}
    assert pairs(content, keys.replaying) == replaying
    for run, counts in model.runs.items():
        stored = pairs(content, keys.replay(run))
        names = (b"replayed", b"delivered", b"returned", b"discarded")
        assert {name: stored[name] for name in names if stored.get(name, b"0") != b"0"} == as_bytes(counts)
    scores = pairs(content, keys.apps)
    assert scores.keys() == {app.encode() for app in model.apps}
    assert {app for app in model.apps if float(scores[app.encode()]) == NEVER} == model.operator
    assert all(len(content.get(key, [])) <= 1 for key in (keys.wake, keys.wake_delivery))
    once = [key for key in content if key.startswith(keys.prefix + "once:")]
    assert len(once) == len(model.once)
    assert all(lives[key] > 0 for key in once)


def check_groups(keys: Keys, model: Model, content: dict[str, Any]) -> None:
    """Each group of dead letters has its number, its revenue and a time."""
    expected: Counter[str] = Counter()
    for event in model.dead.values():
        expected[f"{event.group}\tcount"] += 1
        expected[f"{event.group}\trevenue"] += event.kind.revenue
        expected[f"{event.group}\tunknown"] += event.kind.unknown
    found = {name.decode(): int(number) for name, number in pairs(content, keys.dead_groups).items()}
    times = {name: found.pop(name) for name in list(found) if name.endswith("\tlast_ms")}
    assert times.keys() == {f"{event.group}\tlast_ms" for event in model.dead.values()}
    assert {name: number for name, number in found.items() if number} == {
        name: wrap(number) for name, number in expected.items() if number
    }


def check_letters(keys: Keys, model: Model, content: dict[str, Any]) -> None:
    """Every dead letter is there, and in the index of its app."""
    assert pairs(content, keys.dead).keys() == model.dead.keys()
    apps = {event.lane.partition("/")[0] or "a" for event in model.dead.values()}  # one without a lane is of app a
    assert set(content.get(keys.dead_apps, [])) == {app.encode() for app in apps}
    index: dict[bytes, float] = {}
    for app in apps:
        found = {letter: float(seq) for letter, seq in pairs(content, keys.dead_index(app)).items()}
        assert all((model.dead[letter].lane.partition("/")[0] or "a") == app for letter in found)
        index.update(found)
    assert index == {letter: event.seq for letter, event in model.dead.items()}


def check_lanes(keys: Keys, model: Model, content: dict[str, Any], now: int) -> None:
    """Every lane holds its events, is scheduled as it stands, and is leased and tried as it should."""
    lines = {name: line for name, line in model.lines.items() if line.events}
    stored = {key for key in content if key.startswith(keys.prefix + "lane:")}
    assert stored == {keys.lane(name) for name in lines}
    for name, line in lines.items():
        records = [record.decode(data) for data in content[keys.lane(name)]]
        assert [(r.id, r.seq) for r in records] == [(event.id, event.seq) for event in line.events]
        assert [(r.payload, r.barrier) for r in records] == [
            (event.kind.payload, event.barrier) for event in line.events
        ]
    due = {lane: float(s) for app in ("a", "b") for lane, s in pairs(content, keys.due(app)).items()}
    assert due.keys() == {name.encode() for name, line in lines.items() if not line.quarantined}
    quarantine = {lane: float(s) for app in ("a", "b") for lane, s in pairs(content, keys.quarantine(app)).items()}
    assert quarantine.keys() == {name.encode() for name, line in lines.items() if line.quarantined}
    assert {lane.partition(b"/")[0] for lane in quarantine} <= pairs(content, keys.quarantine_apps).keys()
    due |= quarantine
    for name, line in lines.items():
        if line.standing == "ready" and model.waits(name):
            continue  # out of the way from the moment in which somebody would have claimed it
        assert (due[name.encode()] <= now) == (line.standing in {"ready", "lapsed"}), (name, line.standing)
    behind = {key for key in content if key.startswith(keys.behind(""))}
    for key in behind:
        for lane, barrier in pairs(content, key).items():
            head = lines[lane.decode()].events[0]
            assert (keys.behind(head.guest), head.barrier) == (key, float(barrier))
            assert model.waits(lane.decode())
    held = {lane: (v[:40], v[40:56]) for lane, v in pairs(content, keys.lease).items()}
    assert held == {
        name.encode(): (line.token, line.events[0].id)
        for name, line in lines.items()
        if line.standing in {"leased", "lapsed"}
    }
    trying = pairs(content, keys.trying)
    assert trying.keys() == {name.encode() for name, line in lines.items() if line.tried}
    assert pairs(content, keys.failing).keys() == trying.keys()
    for lane, data in trying.items():
        line = lines[lane.decode()]
        tried = Tried.unpack(data, line.events[0].id)
        assert (tried.attempts, tried.abandoned) == (line.attempts, line.abandoned)


def check_ledger(keys: Keys, model: Model, content: dict[str, Any]) -> None:
    ledger = {name.decode(): int(number) for name, number in pairs(content, keys.ledger).items()}
    assert {name: number for name, number in ledger.items() if number} == {
        name: number for name, number in model.counts.items() if number
    }
    assert model.books.total("accepted") == model.counts["accepted"]
    assert model.books.total("buried") == model.counts["burials"]
    assert model.books.total("waiting") == sum(len(line.events) for line in model.lines.values())
    assert model.books.total("dead") == len(model.dead)
    beats: Counter[str] = Counter()
    for key in content:
        if key.startswith(keys.prefix + "pulse:"):
            beats.update({name.decode(): int(number) for name, number in pairs(content, key).items()})
    assert beats == model.beats


def pairs(content: dict[str, Any], key: str) -> dict[bytes, bytes]:
    """A hash, or a sorted set with its scores."""
    flat = content.get(key, [])
    return dict(zip(flat[::2], flat[1::2], strict=True))


def as_bytes(counts: Counter[str]) -> dict[bytes, bytes]:
    """Counts as a hash has them."""
    return {name.encode(): b"%d" % number for name, number in counts.items() if number}
