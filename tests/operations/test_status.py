"""The status: its counts, the age of what waits, what is paused, what is left of Redis, and the line on top."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import redis
from attempts import last_attempt, pause, retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    OTHER,
    claim,
    claim_one,
    come_due,
    erase,
    letter,
    make_newer,
    now_ms,
    put,
    quarantine,
    snapshot,
)
from lanes import replay as replay_one
from sample_status import AT_0211, OK

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.operations.status import ENDS, Paused, read_paused, read_refusal, read_status, span
from insend_relay.outbox import record
from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxFull, OutboxUnreachable
from insend_relay.outbox.heartbeat import Heartbeat
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

MINUTE_MS = 60_000
DOWN = Paused("shop", AT_0211, OK.now_ms + 40_000, "503", operator=False, fault="passing")
BY_HAND = Paused("shop", AT_0211, None, "paused by an operator", operator=True)


def fail(outbox: Outbox, held: Claim, delay_ms: int = 60_000) -> None:
    retry(outbox, held, Tried(held.id, 1, 0, 1, 1, "answered 400: no"), delay_ms=delay_ms)


def pause_by_guard(outbox: Outbox, held: Claim) -> int:
    return pause(outbox, held, "403: wrong key", limits=BreakerLimits(first_ms=20_000), fault="key").until_ms


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Outbox]:
    """An outbox in a Redis that has a maxmemory."""
    limited = EmbeddedRedis(tmp_path, config={"appendonly": "no", "maxmemory": "64mb"})
    with limited as server, connect(server.url) as client:
        yield Outbox(client)


def test_an_outbox_that_was_never_used_has_a_status(outbox: Outbox) -> None:
    found = read_status(outbox)
    assert (found.accepted, found.waiting, found.oldest_waiting_seconds, found.paused) == (0, 0, None, [])
    assert found.balanced


def test_an_event_that_fails_while_nothing_of_its_app_is_delivered_is_seen(outbox: Outbox) -> None:
    put(outbox, ALICE)
    held = claim_one(outbox)
    retry(outbox, held, Tried(held.id, 1, 0, now_ms(outbox) - 7_200_000, 1, "unknown: time-out"))
    found = read_status(outbox).failing
    assert found
    assert (found.lane, found.seconds >= 7_200) == (ALICE, True)
    put(outbox, BOB)
    (delivered,) = (one for one in claim(outbox) if one.lane == str(BOB))
    outbox.settle(delivered, lease_ms=0)
    assert read_status(outbox).failing is None, "the tracker takes events: it is this event's trouble"


def test_events_that_only_a_newer_worker_can_read_are_seen_while_none_is_alive(outbox: Outbox) -> None:
    Heartbeat(outbox, "web-1:4711").beat()
    for lane, seconds_ago in ((ALICE, 90), (BOB, 600), (GUEST, 3_600)):
        put(outbox, lane)
        make_newer(outbox, lane, seconds_ago=seconds_ago)
    assert read_status(outbox).newer is None, "no worker has met them"
    assert claim(outbox) == []
    erase(outbox, GUEST)
    status = read_status(outbox)
    assert status.newer
    assert (status.newer.lanes, status.newer.version) == (2, record.VERSION + 1)
    assert 600 <= status.newer.seconds == status.oldest_waiting_seconds
    assert status.as_dict()["newer"] == asdict(status.newer)
    outbox.read("ZADD", outbox.keys.workers, now_ms(outbox), f"new:1#01234567#{record.VERSION + 1}")
    assert read_status(outbox).newer is None, "a newer worker is alive, and takes them"
    outbox.read("DEL", outbox.keys.workers)
    assert read_status(outbox).newer is None, "no worker at all is another finding"


def test_all_lanes_that_only_a_newer_worker_can_read_are_counted(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insend_relay.operations.newer.NEWER_LOOKED_AT", 2)
    Heartbeat(outbox, "web-1:4711").beat()
    for lane in (ALICE, BOB, GUEST, OTHER):
        put(outbox, lane)
        make_newer(outbox, lane)
    assert claim(outbox) == []
    found = read_status(outbox).newer
    assert found
    assert found.lanes == 4


def test_a_pause_says_when_its_app_had_last_delivered_an_event(outbox: Outbox) -> None:
    put(outbox, ALICE)
    pause_by_guard(outbox, claim_one(outbox))
    (paused,) = read_status(outbox).paused
    assert (paused.delivered_at_ms, paused.as_dict()["last_delivered"]) == (None, None)
    outbox.read("HSET", outbox.keys.outage("shop"), "last_ok", AT_0211)
    (paused,) = read_status(outbox).paused
    assert (paused.delivered_at_ms, paused.as_dict()["last_delivered"]) == (AT_0211, "2023-11-14T02:11:00.000Z")


def test_the_counts_are_the_ledgers(outbox: Outbox) -> None:
    outbox.count("no_visitor")
    put(outbox, ALICE)
    outbox.settle(claim_one(outbox), lease_ms=0)
    first = letter(outbox, ALICE)
    put(outbox, BOB)
    held = claim_one(outbox)
    outbox.fail(held, last_attempt(held, duplicate=True))
    replay_one(outbox, first)
    put(outbox, GUEST)
    found = read_status(outbox)
    assert (found.accepted, found.delivered, found.waiting, found.dead, found.discarded) == (4, 1, 2, 1, 0)
    assert (found.replayed, found.duplicates_possible, found.no_visitor, found.spooled) == (1, 1, 1, 0)
    assert found.balanced
    assert not replace(found, balanced=False).balanced
    outbox.read("HINCRBY", outbox.keys.books_of("1"), "delivered", 1)
    assert not read_status(outbox).balanced


def test_the_oldest_waiting_event_is_found_at_the_head_of_a_lane(outbox: Outbox) -> None:
    put(outbox, ALICE)
    born = int.from_bytes(outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)[9:17])
    for number in range(20):
        put(outbox, Lane("shop", "v", f"v-{number}"))
    claim(outbox, room=5)
    assert read_status(outbox, now_ms=born + 7_500).oldest_waiting_seconds == 7.5


def test_the_oldest_waiting_event_is_found_though_it_waits_for_its_retry(outbox: Outbox) -> None:
    put(outbox, ALICE)
    born = int.from_bytes(outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)[9:17])
    fail(outbox, claim_one(outbox), delay_ms=1_000)
    for number in range(2 * ENDS + 20):  # they stand at both ends of the schedule, it stands between
        put(outbox, lane := Lane("shop", "v", f"v-{number}"))
        outbox.read("ZADD", outbox.keys.due("shop"), born + (10 if number % 2 else 60_000), str(lane))
    found = read_status(outbox, now_ms=born + 7_500)
    assert found.oldest_waiting_seconds == 7.5
    assert found.held_lanes == 1


def test_lanes_in_quarantine_are_counted_and_the_age_of_their_events_too(outbox: Outbox) -> None:
    quarantine(outbox, ALICE)
    born = int.from_bytes(outbox.read("LINDEX", outbox.keys.lane(ALICE), 0)[9:17])
    put(outbox, BOB)
    found = read_status(outbox, now_ms=born + 7_500)
    assert (found.quarantined_lanes, found.held_lanes, found.oldest_waiting_seconds) == (1, 1, 7.5)
    outbox.pause("shop")
    assert [pause.held for pause in read_status(outbox).paused] == [2]


def test_reading_takes_the_same_number_of_commands_however_many_lanes_there_are(outbox: Outbox) -> None:
    def commands() -> int:
        counted = _Counting(outbox.redis)
        read_status(Outbox(counted, namespace=outbox.keys.namespace))
        return counted.commands

    for number in range(2 * ENDS):
        put(outbox, Lane("shop", "v", f"v-{number}"))
    few = commands()
    for number in range(2 * ENDS, 6 * ENDS):
        put(outbox, Lane("shop", "v", f"v-{number}"))
    assert commands() == few


class _Counting:
    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.commands = 0

    def execute_command(self, *args: Any) -> Any:
        self.commands += 1
        return self.redis.execute_command(*args)


def test_a_pause_by_the_guard_says_since_when_until_when_and_why(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, OTHER)
    until_ms = pause_by_guard(outbox, next(held for held in claim(outbox) if held.app == "shop"))
    found = read_status(outbox)
    (paused,) = found.paused
    assert paused == Paused("shop", paused.since_ms, until_ms, "403: wrong key", operator=False, held=1, fault="key")
    assert abs(found.now_ms - paused.since_ms) < MINUTE_MS
    assert read_paused(outbox, "second") is None


def test_a_pause_by_an_operator_has_no_end_whatever_the_guard_says(outbox: Outbox) -> None:
    put(outbox, ALICE)
    pause_by_guard(outbox, claim_one(outbox))
    outbox.pause("shop")
    found = read_paused(outbox, "shop")
    assert found
    assert (found.operator, found.until_ms, found.reason) == (True, None, "paused by an operator")
    outbox.resume("shop")
    assert read_paused(outbox, "shop") is None


def test_the_headroom_is_what_is_left_up_to_maxmemory(small: Outbox) -> None:
    found = read_status(small).redis_headroom_bytes
    assert found is not None
    assert 32 << 20 < found < 64 << 20


def test_the_headroom_is_unknown_without_a_limit_or_without_permission(outbox: Outbox, redis_url: str) -> None:
    assert read_status(outbox).redis_headroom_bytes is None
    outbox.read("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-info")
    try:
        with connect(redis_url.replace("redis://", "redis://reader:secret@")) as client:
            assert read_status(Outbox(client)).redis_headroom_bytes is None
    finally:
        outbox.read("ACL", "DELUSER", "reader")


def test_an_outbox_that_grows_says_when_redis_will_be_full(small: Outbox) -> None:
    for number in range(400):
        put(small, Lane("shop", "v", f"v-{number}"), random.Random(number).randbytes(700))
    now = now_ms(small)
    found = read_status(small, now_ms=now)
    assert found.redis_headroom_bytes is not None
    assert found.full_in_seconds is not None
    window = 300 + now % MINUTE_MS / 1000
    used_each = found.redis_headroom_bytes / found.full_in_seconds * window / 400
    assert 700 < used_each < 1_500
    for held in claim(small, room=390):
        small.settle(held, lease_ms=0)
    assert read_status(small).full_in_seconds is None, "so little waits that nothing can be said"


def test_an_outbox_that_shrinks_is_never_full(small: Outbox) -> None:
    for number in range(200):
        put(small, Lane("shop", "v", f"v-{number}"))
    minute = now_ms(small) // MINUTE_MS
    small.read("HSET", small.keys.pulse(minute - 1), "delivered", 1_000)
    assert read_status(small).full_in_seconds is None


def test_what_could_be_claimed_and_is_left_lying_is_called_stalled(outbox: Outbox) -> None:
    put(outbox, ALICE)
    now = now_ms(outbox)
    assert not read_status(outbox, now_ms=now).stalled
    later = now + 10 * MINUTE_MS
    assert read_status(outbox, now_ms=later).stalled
    outbox.read("HSET", outbox.keys.pulse(later // MINUTE_MS), "delivered", 1)
    assert not read_status(outbox, now_ms=later).stalled, "workers are busy: that is a backlog"
    outbox.read("DEL", outbox.keys.pulse(later // MINUTE_MS))
    fail(outbox, claim_one(outbox), delay_ms=60 * MINUTE_MS)
    assert not read_status(outbox, now_ms=later).stalled, "its time has not come"
    come_due(outbox)
    outbox.pause("shop")
    assert not read_status(outbox, now_ms=later).stalled, "it is not to be claimed"


def test_a_probe_that_no_worker_sends_for_a_minute_is_a_stall_too(outbox: Outbox) -> None:
    put(outbox, ALICE)
    until_ms = pause_by_guard(outbox, claim_one(outbox))
    assert not read_status(outbox, now_ms=until_ms + MINUTE_MS // 2).stalled
    assert read_status(outbox, now_ms=until_ms + 10 * MINUTE_MS).stalled


def test_as_a_dict_it_has_the_keys_that_programs_rely_on() -> None:
    found = replace(OK, paused=[DOWN, BY_HAND], full_in_seconds=5.0).as_dict()
    documented = {"accepted", "delivered", "waiting", "dead", "discarded", "replayed", "spooled", "duplicates_possible"}
    documented |= {"oldest_waiting_seconds", "held_lanes", "quarantined_lanes", "paused"}
    documented |= {"redis_headroom_bytes", "balanced"}
    documented |= {"spooled_oldest_seconds", "redis_refuses", "workers_alive", "last_heartbeat_seconds", "jumps"}
    documented |= {"undelivered_seconds", "newer", "types", "apps", "unused", "other_namespaces", "spool_fault"}
    assert set(found) == documented | {"no_visitor", "redis_full_in_seconds", "stalled", "far_ahead", "now_ms"}
    assert found["redis_full_in_seconds"] == 5.0
    assert found["paused"] == [
        {
            "app": "shop",
            "since": "2023-11-14T02:11:00.000Z",
            "until": "2023-11-14T22:14:00.000Z",
            "reason": "503",
            "fault": "passing",
            "last_delivered": None,
        },
        {
            "app": "shop",
            "since": "2023-11-14T02:11:00.000Z",
            "until": None,
            "reason": "paused by an operator",
            "fault": None,
            "last_delivered": None,
        },
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.3, "0.3 s"),
        (9.96, "10.0 s"),
        (40, "40 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_199, "120 min"),
        (7_200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_fitting_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_replies_of_any_client_are_read(redis_url: str, outbox: Outbox) -> None:
    """A client that does not parse gives flat lists and text where redis-py gives dicts and pairs."""
    put(outbox, ALICE)
    fail(outbox, claim_one(outbox))
    found = []
    for protocol in (2, 3):
        with redis.Redis.from_url(redis_url, protocol=protocol) as client:
            plain = _Plain(client)
            found.append(read_status(Outbox(plain, namespace=outbox.keys.namespace), now_ms=1))
    assert found[0] == found[1] == read_status(outbox, now_ms=1)


class _Plain:
    """A client without redis-py's parsing of replies."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.response_callbacks.clear()

    def execute_command(self, *args: Any) -> Any:
        return self.client.execute_command(*args)


def test_a_redis_that_takes_events_refuses_none_and_asking_changes_nothing(outbox: Outbox) -> None:
    put(outbox, ALICE)
    before = snapshot(outbox)
    assert read_refusal(outbox) is None
    assert read_refusal(Outbox(outbox.redis, namespace=f"{outbox.keys.namespace}-unused")) is None
    assert snapshot(outbox) == before
    assert not outbox.read("EXISTS", f"{{{outbox.keys.namespace}-unused:1}}:hint")


def test_a_full_redis_refuses_events_though_info_is_forbidden(small: Outbox) -> None:
    put(small, ALICE)
    small.read("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(OutboxFull):
        put(small, ALICE)
    refused = read_status(small).refusal
    assert refused
    assert refused.full
    small.read("ACL", "SETUSER", "default", "-info")
    found = read_status(small)
    assert (found.redis_headroom_bytes, found.refusal) == (None, refused)


def test_a_redis_with_too_few_replicas_refuses_events(small: Outbox) -> None:
    small.read("CONFIG", "SET", "min-replicas-to-write", 1)
    found = read_status(small).refusal
    assert found
    assert not found.full
    assert "too few replicas" in found.text


def test_a_replica_refuses_events(small: Outbox) -> None:
    small.read("REPLICAOF", "127.0.0.1", 1)
    found = read_status(small).refusal
    assert found
    assert "read-only replica" in found.text


def test_a_redis_that_is_gone_is_unreachable_and_no_refusal() -> None:
    with connect("redis://127.0.0.1:1/0") as client, pytest.raises(OutboxUnreachable):
        read_refusal(Outbox(client))


def test_a_namespace_is_unused_until_an_event_was_accepted_or_a_worker_ran(outbox: Outbox, client: redis.Redis) -> None:
    other = Outbox(client, namespace=f"{outbox.keys.namespace}-other")
    Heartbeat(other, "web-1:4711").beat()
    found = read_status(outbox)
    assert (found.unused, other.keys.namespace in found.elsewhere) == (True, True)
    put(outbox)
    for used in (outbox, other):
        found = read_status(used)
        assert (found.unused, found.elsewhere) == (False, []), "there is no reason to look elsewhere"
