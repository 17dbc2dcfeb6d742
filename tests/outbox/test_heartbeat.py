"""Workers say that they are alive, in a full Redis too; they notice when the books have jumped back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from lanes import ALICE, BOB, claim, now_ms, put

from insend_relay.console.sandbox.embedded import EmbeddedRedis
from insend_relay.operations.jumps import MOST, acknowledge, read_jumps
from insend_relay.outbox import record
from insend_relay.outbox.connection import connect
from insend_relay.outbox.heartbeat import (
    ALIVE_SECONDS,
    NO_WORKERS,
    Heartbeat,
    other_namespaces,
    read_workers,
)
from insend_relay.outbox.store import Outbox

HOUR_MS = 3_600_000


@pytest.fixture(params=["redis", "valkey"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outbox]:
    """An outbox in a server of the test's own, so that all its keys may be deleted and its memory limited."""
    with (
        EmbeddedRedis(tmp_path, server=request.param, config={"appendonly": "no"}) as server,
        connect(server.url, timeout_seconds=60) as client,
    ):
        yield Outbox(client)


def aged(outbox: Outbox, ms: int) -> None:
    """As if every heartbeat were older by that much."""
    for name, at in outbox.redis.zrange(outbox.keys.workers, 0, -1, withscores=True):  # type: ignore[attr-defined]
        outbox.read("ZADD", outbox.keys.workers, at - ms, name)


def test_without_a_heartbeat_no_worker_is_alive(outbox: Outbox) -> None:
    assert read_workers(outbox, now_ms(outbox)) == NO_WORKERS


def test_the_workers_that_are_alive_say_which_records_they_can_read(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "VERSION", 3)
    Heartbeat(outbox, "web-1:7").beat()
    assert read_workers(outbox, now_ms(outbox)).reads == 3
    outbox.read("ZADD", outbox.keys.workers, now_ms(outbox), "new:1#01234567#12", now_ms(outbox), "old:1#01234567")
    assert read_workers(outbox, now_ms(outbox)).reads == 12
    aged(outbox, 46_000)
    assert read_workers(outbox, now_ms(outbox)).reads == 0, "none is alive"
    outbox.read("ZADD", outbox.keys.workers, now_ms(outbox), "old:1#01234567")
    assert read_workers(outbox, now_ms(outbox)).reads == 1, "a release that did not say so"


def test_each_worker_counts_until_it_stops_also_two_of_the_same_name(outbox: Outbox) -> None:
    one, two = Heartbeat(outbox, "web-1:7"), Heartbeat(outbox, "web-1:7")
    for heartbeat in (one, two, one):
        heartbeat.beat()
    found = read_workers(outbox, now_ms(outbox))
    assert (found.alive, found.last) == (2, "web-1:7")
    one.leave()
    assert read_workers(outbox, now_ms(outbox)).alive == 1
    two.leave()
    assert read_workers(outbox, now_ms(outbox)) == NO_WORKERS


def test_no_heartbeat_follows_the_end_of_a_worker(outbox: Outbox) -> None:
    heartbeat = Heartbeat(outbox, "web-1:7")
    heartbeat.beat()
    heartbeat.leave()
    assert not heartbeat.beat()
    assert read_workers(outbox, now_ms(outbox)) == NO_WORKERS


def test_a_heartbeat_that_is_being_sent_while_the_worker_leaves_comes_before_the_end(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat, sending, may_go_on = Heartbeat(outbox, "web-1:7"), threading.Event(), threading.Event()
    run = heartbeat._scripts.run

    def late_run(name: str, **arguments: Any) -> Any:
        sending.set()
        may_go_on.wait()
        return run(name, **arguments)

    monkeypatch.setattr(heartbeat._scripts, "run", late_run)
    pump = threading.Thread(target=heartbeat.beat)
    pump.start()
    sending.wait()
    leaving = threading.Thread(target=heartbeat.leave)
    leaving.start()
    leaving.join(0.2)  # it has to wait for the heartbeat; without that it would have left by now
    may_go_on.set()
    for thread in (pump, leaving):
        thread.join()
    assert read_workers(outbox, now_ms(outbox)) == NO_WORKERS


def test_a_worker_whose_heartbeats_end_is_named_for_an_hour(outbox: Outbox) -> None:
    Heartbeat(outbox, "web-1:7").beat()
    aged(outbox, 240_000)
    found = read_workers(outbox, now_ms(outbox))
    assert (found.alive, found.last) == (0, "web-1:7")
    assert found.last_seconds
    assert found.last_seconds >= 240
    Heartbeat(outbox, "web-2:8").beat()
    found = read_workers(outbox, now_ms(outbox))
    assert (found.alive, found.last) == (1, "web-2:8")
    aged(outbox, HOUR_MS)
    Heartbeat(outbox, "web-3:9").beat()
    assert outbox.read("ZCARD", outbox.keys.workers) == 1


def test_a_step_of_redis_clock_hides_no_dead_worker(outbox: Outbox) -> None:
    Heartbeat(outbox, "dead:1").beat()
    aged(outbox, -10 * 60_000)  # Redis's clock was set back by ten minutes
    assert read_workers(outbox, now_ms(outbox)).alive == 0
    Heartbeat(outbox, "alive:2").beat()
    assert read_workers(outbox, now_ms(outbox)).last == "alive:2"


def test_names_are_kept_of_a_thousand_workers_at_most(outbox: Outbox) -> None:
    outbox.read("ZADD", outbox.keys.workers, *(word for n in range(1_200) for word in (now_ms(outbox) - n, f"old:{n}")))
    Heartbeat(outbox, "new:1").beat()
    assert outbox.read("ZCARD", outbox.keys.workers) == 1_000
    assert read_workers(outbox, now_ms(outbox)).last == "new:1"


def test_a_full_redis_takes_the_heartbeats_of_new_and_of_known_workers(own: Outbox) -> None:
    put(own)
    known = Heartbeat(own, "known:1")
    known.beat()
    own.read("CONFIG", "SET", "maxmemory", 1)
    for heartbeat in (known, Heartbeat(own, "new:2")):
        assert not heartbeat.beat()
    assert read_workers(own, now_ms(own)).alive == 2


def test_workers_of_other_namespaces_are_found(outbox: Outbox) -> None:
    other = Outbox(outbox.redis, namespace=f"{outbox.keys.namespace}-other")
    Heartbeat(other, "web-1:7").beat()
    Heartbeat(outbox, "web-1:8").beat()
    found = other_namespaces(outbox, now_ms(outbox))
    assert other.keys.namespace in found
    assert outbox.keys.namespace not in found
    assert other.keys.namespace not in other_namespaces(outbox, now_ms(outbox) + int(ALIVE_SECONDS * 1000) + 60_000)
    outbox.read("DEL", other.keys.workers, other.keys.epoch)


# Books that jump back


def test_books_that_grow_never_jump(outbox: Outbox) -> None:
    heartbeat = Heartbeat(outbox, "web-1:7")
    for _ in range(3):
        assert not heartbeat.beat()
        put(outbox)
    assert read_jumps(outbox) == []


def test_a_flush_is_reported_once_with_both_numbers_by_all_workers_together(own: Outbox) -> None:
    workers = [Heartbeat(own, f"web-1:{number}") for number in range(3)]
    put(own, ALICE)
    put(own, BOB)
    workers[0].beat()
    put(own, BOB)
    for worker in workers[1:]:
        worker.beat()
    own.read("FLUSHALL")
    put(own)
    assert [worker.beat() for worker in workers] == [True, True, True]
    assert [worker.beat() for worker in workers] == [False, False, False]
    (jump,) = read_jumps(own)
    assert (jump.accepted_before, jump.accepted_after, jump.waiting_before) == (3, 1, 3)
    assert abs(jump.at_ms - now_ms(own)) < HOUR_MS


def test_a_worker_that_starts_after_a_flush_does_not_hide_it(own: Outbox) -> None:
    put(own)
    old = Heartbeat(own, "old:1")
    old.beat()
    own.read("FLUSHALL")
    assert not Heartbeat(own, "new:2").beat()
    for _ in range(5):
        put(own)
    assert old.beat(), "another epoch, though more events were accepted since"
    assert [(jump.accepted_before, jump.accepted_after) for jump in read_jumps(own)] == [(1, 5)]


def test_an_old_copy_of_the_data_is_reported_once(own: Outbox) -> None:
    workers = [Heartbeat(own, f"web-1:{number}") for number in range(2)]
    put(own)
    for worker in workers:
        worker.beat()
    before = {key: own.read("DUMP", key) for key in own.read("KEYS", "*")}
    for _ in range(9):
        put(own)
    for worker in workers:
        worker.beat()
    own.read("FLUSHALL")
    for key, dump in before.items():
        own.read("RESTORE", key, 0, dump)
    assert [worker.beat() for worker in workers] == [True, True]
    assert [(jump.accepted_before, jump.accepted_after) for jump in read_jumps(own)] == [(10, 1)]


def test_jumps_stay_until_they_are_acknowledged_and_those_that_were_not_seen_stay_longer(own: Outbox) -> None:
    worker = Heartbeat(own, "web-1:7")
    for number in range(2):
        put(own)
        worker.beat()
        own.read("DEL", own.keys.ledger)
        assert worker.beat(), number
    later, first = read_jumps(own)
    assert acknowledge(own, [first]) == 1
    assert read_jumps(own) == [later]
    assert acknowledge(own, [first, later]) == 1
    assert read_jumps(own) == []


def test_the_latest_jumps_are_kept(own: Outbox) -> None:
    worker = Heartbeat(own, "web-1:7")
    for number in range(MOST + 5):
        for _ in range(number + 1):
            put(own)
        worker.beat()
        own.read("DEL", own.keys.ledger)
        worker.beat()
    found = read_jumps(own)
    assert len(found) == MOST
    assert found[0].accepted_before == MOST + 5


def test_a_full_redis_takes_the_report_of_a_jump(own: Outbox) -> None:
    put(own)
    worker = Heartbeat(own, "web-1:7")
    worker.beat()
    own.read("DEL", own.keys.ledger)
    own.read("CONFIG", "SET", "maxmemory", 1)
    assert worker.beat()
    assert len(read_jumps(own)) == 1


def test_an_entry_that_cannot_be_read_is_shown_and_can_be_acknowledged(outbox: Outbox, client: redis.Redis) -> None:
    client.lpush(outbox.keys.jumps, "of a newer release")
    found = read_jumps(outbox)
    assert [jump.at_ms for jump in found] == [0]
    assert acknowledge(outbox, found) == 1


def test_delivery_and_settling_are_no_jump(outbox: Outbox) -> None:
    worker = Heartbeat(outbox, "web-1:7")
    put(outbox)
    worker.beat()
    for held in claim(outbox):
        outbox.settle(held, lease_ms=0)
    assert not worker.beat()
