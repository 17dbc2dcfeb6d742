"""Whom an append calls: a delivery that lingers, or else a pump; neither takes the other's call."""

from __future__ import annotations

import pytest
from lanes import ALICE, BOB, GUEST, LEASE_MS, OTHER, now_ms, put
from waiting import wait_until

from insend_relay.outbox.claim import Claims
from insend_relay.outbox.lease import new_token, process_name
from insend_relay.outbox.store import Outbox

LINGER_MS = 9_000
ANOTHER = b"another process, of 32 characters"[:32]


def linger(outbox: Outbox, *, room: int = 9, linger_ms: int = LINGER_MS, process: bytes = b"") -> Claims:
    """A claim whose caller lingers when it has room left."""
    token = process + bytes(8) if process else new_token()
    return outbox.claim("host:1", room, lease_ms=LEASE_MS, linger_ms=linger_ms, token=token)


def calls(outbox: Outbox) -> tuple[int, int]:
    """How many calls stand on the list of deliveries, and on that of pumps; they are taken away."""
    lists = outbox.keys.wake_delivery, outbox.keys.wake
    found = [outbox.read("LLEN", name) for name in lists]
    outbox.read("DEL", *lists)
    return found[0], found[1]


def test_a_delivery_that_lingers_is_called_and_no_pump(outbox: Outbox) -> None:
    assert linger(outbox).lingers
    put(outbox, ALICE)
    put(outbox, BOB)
    assert calls(outbox) == (1, 0)
    assert outbox.look(60_000)[0] is False, "and a pump that looks all the same publishes nothing"


def test_without_a_delivery_that_lingers_a_pump_is_called(outbox: Outbox) -> None:
    put(outbox, ALICE)
    assert calls(outbox) == (0, 1)


def test_a_claim_that_does_not_linger_ends_the_lingering(outbox: Outbox) -> None:
    linger(outbox)
    assert not linger(outbox, linger_ms=0).lingers
    put(outbox, ALICE)
    assert calls(outbox) == (0, 1)
    assert outbox.look(60_000)[0]


def test_a_claim_that_has_no_room_left_ends_the_lingering(outbox: Outbox) -> None:
    linger(outbox)
    put(outbox, ALICE)
    claims = linger(outbox, room=1)
    assert (len(claims), claims.lingers) == (1, False)
    calls(outbox)
    put(outbox, BOB)
    assert calls(outbox) == (0, 1)


def test_who_can_take_no_more_calls_another_that_lingers_and_only_without_one_a_pump(outbox: Outbox) -> None:
    linger(outbox)
    linger(outbox, process=ANOTHER)
    outbox.wake()
    assert calls(outbox) == (1, 0)
    put(outbox, ALICE)
    assert calls(outbox) == (1, 0)
    linger(outbox, process=ANOTHER, linger_ms=0)
    linger(outbox)
    outbox.wake()
    assert calls(outbox) == (0, 1)


def test_one_that_was_killed_while_it_lingered_is_called_for_no_longer_than_it_said(outbox: Outbox) -> None:
    linger(outbox, linger_ms=200)
    put(outbox, ALICE)
    assert wait_until(lambda: outbox.look(60_000)[0])
    calls(outbox)
    put(outbox, BOB)
    assert calls(outbox) == (0, 1)


def test_a_lingering_from_before_a_step_back_of_the_clock_counts_for_nothing(outbox: Outbox) -> None:
    linger(outbox, process=ANOTHER)
    outbox.read("ZADD", outbox.keys.lingering, now_ms(outbox) + 3_600_000, ANOTHER)
    put(outbox, ALICE)
    assert calls(outbox) == (0, 1)
    assert outbox.look(60_000)[0]
    assert linger(outbox).lingers
    assert outbox.read("ZCARD", outbox.keys.lingering) == 1
    put(outbox, BOB)
    assert calls(outbox) == (1, 0)


def test_one_that_lingers_on_is_written_down_again_only_when_half_of_its_time_is_over(outbox: Outbox) -> None:
    def until() -> float:
        return float(outbox.read("ZSCORE", outbox.keys.lingering, process_name()))

    linger(outbox)
    first = until()
    assert linger(outbox).lingers
    assert until() == first
    outbox.read("ZINCRBY", outbox.keys.lingering, -0.6 * LINGER_MS, process_name())
    linger(outbox)
    assert until() >= first


@pytest.mark.parametrize("app", ["shop", "second"])
def test_a_claim_says_for_how_long_nothing_comes_due_by_itself(outbox: Outbox, app: str) -> None:
    assert linger(outbox).quiet_ms > LINGER_MS / 2, "as long as it lingers"
    put(outbox, ALICE)
    put(outbox, OTHER)
    linger(outbox)
    lane = ALICE if app == "shop" else OTHER
    outbox.read("ZADD", outbox.keys.due(app), now_ms(outbox) + 2_000, str(lane))
    assert 0 < linger(outbox).quiet_ms <= 2_000, "a retry, or the end of a lease"
    outbox.read("ZADD", outbox.keys.due(app), now_ms(outbox) + 60_000, str(lane))
    outbox.read("ZADD", outbox.keys.apps, now_ms(outbox) + 1_000, app)
    assert 0 < linger(outbox).quiet_ms <= 1_000, "the end of a pause"


def test_a_claim_says_so_when_something_is_due_that_it_may_not_take_yet(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, GUEST)
    seconds, _ = outbox.read("TIME")
    outbox.read("HSET", outbox.keys.outage("shop"), "tokens", 1, "resumed", int(seconds) * 1_000)
    claims = linger(outbox)
    assert (len(claims), claims.lingers, claims.quiet_ms) == (1, True, 0)
