"""Settles of one moment: together to Redis, each with its own answer."""

from __future__ import annotations

from collections.abc import Sequence

import gevent
import pytest
import redis
from lanes import ALICE, BOB, GUEST, LEASE_MS, OTHER, claim, ledger, put

from insend_relay.outbox.claim import Claim, Delivered
from insend_relay.outbox.errors import OutboxUnreachable
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.worker.settling import MAX_BATCH, Settling


def settled(outbox: Outbox, claims: Sequence[Claim]) -> list[Claim | None]:
    """What greenlets get that settle at the same moment."""
    settling = Settling(outbox)
    greenlets = [gevent.spawn(settling.settle, one, lease_ms=LEASE_MS) for one in claims]
    return [greenlet.get() for greenlet in greenlets]


def scripts_run(client: redis.Redis) -> int:
    """How many the server has run."""
    stats = client.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval"))


def test_what_was_answered_at_the_same_moment_is_settled_in_one_step_for_each_app(
    outbox: Outbox, client: redis.Redis
) -> None:
    for lane in (ALICE, BOB, GUEST, OTHER):
        put(outbox, lane)
    second = put(outbox, BOB)
    claims = claim(outbox)
    outbox.settle(claims[0], lease_ms=LEASE_MS)  # the server knows the script
    before = scripts_run(client)
    following = settled(outbox, claims)
    assert scripts_run(client) - before == 2
    assert [one.id for one in following if one] == [second]
    assert ledger(outbox, "delivered", "waiting") == [4, 1]


def test_a_step_has_a_most(outbox: Outbox, client: redis.Redis) -> None:
    for number in range(MAX_BATCH + 1):
        put(outbox, Lane("shop", "v", str(number)))
    claims = claim(outbox)
    outbox.settle(claims[0], lease_ms=LEASE_MS)
    before = scripts_run(client)
    assert settled(outbox, claims[1:]) == [None] * MAX_BATCH
    assert scripts_run(client) - before == 1
    assert settled(outbox, claims) == [None] * (MAX_BATCH + 1)
    assert scripts_run(client) - before == 3


def test_what_gathers_while_a_step_is_under_way_goes_in_the_next(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, BOB)
    first, second = claim(outbox)
    settling = Settling(_Slow(outbox.redis, namespace=outbox.keys.namespace))
    greenlets = [gevent.spawn(settling.settle, first, lease_ms=0)]
    gevent.sleep(0)
    gevent.sleep(0)
    greenlets.append(gevent.spawn(settling.settle, second, lease_ms=0))
    gevent.joinall(greenlets, raise_error=True)
    assert ledger(outbox, "delivered", "waiting") == [2, 0]


class _Slow(Outbox):
    """Lets the other greenlets run before it answers."""

    def settle_all(self, app: str, delivered: Sequence[Delivered]) -> list[Claim | None]:
        for _ in range(10):
            gevent.sleep(0)
        return super().settle_all(app, delivered)


def test_a_redis_that_is_away_is_everybodys_and_later_ones_begin_anew(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, BOB)
    claims = claim(outbox)
    switched = _Away(outbox.redis, namespace=outbox.keys.namespace)
    settling = Settling(switched)
    greenlets = [gevent.spawn(settling.settle, one, lease_ms=0) for one in claims]
    for greenlet in greenlets:
        with pytest.raises(OutboxUnreachable):
            greenlet.get()
    switched.away = False
    assert settling.settle(claims[0], lease_ms=0) is None
    assert ledger(outbox, "delivered") == [1]


class _Away(Outbox):
    """Cannot be reached, for a while."""

    away = True

    def settle_all(self, app: str, delivered: Sequence[Delivered]) -> list[Claim | None]:
        if self.away:
            raise OutboxUnreachable("Redis cannot be reached", unknown=True)
        return super().settle_all(app, delivered)
