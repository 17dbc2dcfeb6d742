"""A head whose workers die is sent alone, so that nobody is buried for what another has done."""

from __future__ import annotations

from lanes import ALICE, BOB, LEASE_MS, OTHER, claim, claim_one, come_due, ledger, now_ms, put

from insend_relay.outbox.claim import Claims
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox


def worker_dies(outbox: Outbox, claims: Claims) -> None:
    """Nobody says how these ended, and their leases run out together."""
    for held in claims:
        come_due(outbox, Lane.parse(held.lane))


def died_with(outbox: Outbox, lane: Lane, times: int) -> None:
    """So many workers have died with the head of this lane, the only one; the last of them just now."""
    put(outbox, lane)
    for _ in range(times):
        claim_one(outbox)
        come_due(outbox, lane)


def test_who_is_in_flight_with_an_event_that_kills_its_worker_dies_twice_with_it_and_never_again(
    outbox: Outbox,
) -> None:
    people = [Lane("shop", "v", f"{number}") for number in range(20)]
    killer = str(people[7])
    for lane in people:
        put(outbox, lane)
    deaths: dict[str, int] = {}
    while deaths.get(killer, 0) < 5 or ledger(outbox, "delivered") < [19]:
        claims = outbox.claim("worker-1", 32, lease_ms=LEASE_MS)
        deaths |= {held.lane: held.attempts().abandoned for held in claims}
        if killer in {held.lane for held in claims}:
            worker_dies(outbox, claims)
        else:
            for held in claims:
                outbox.settle(held, lease_ms=0)
    assert {lane: times for lane, times in deaths.items() if times > 2} == {killer: 5}


def test_a_head_that_two_workers_died_with_goes_alone_and_who_is_behind_it_goes_next(outbox: Outbox) -> None:
    died_with(outbox, ALICE, 2)
    put(outbox, BOB)
    first = outbox.claim("worker-1", 9, lease_ms=LEASE_MS)
    assert ([held.lane for held in first], first.alone, first.make_room) == ([str(ALICE)], True, False)
    then = outbox.claim("worker-2", 9, lease_ms=LEASE_MS)
    assert ([held.lane for held in then], then.alone, then.make_room) == ([str(BOB)], False, False)


def test_one_worker_that_died_is_no_reason_to_send_its_lanes_one_by_one(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, BOB)
    worker_dies(outbox, outbox.claim("worker-1", 9, lease_ms=LEASE_MS))
    assert len(claim(outbox)) == 2


def test_a_caller_with_something_under_way_is_told_to_make_room_and_the_deadly_head_keeps_its_place(
    outbox: Outbox,
) -> None:
    died_with(outbox, ALICE, 2)
    put(outbox, BOB)
    for _ in range(3):  # its end is counted once
        claims = outbox.claim("worker-1", 9, lease_ms=LEASE_MS, alone=False)
        assert (claims, claims.make_room) == ([], True)
    (held,) = outbox.claim("worker-1", 9, lease_ms=LEASE_MS)
    assert (held.lane, held.attempts().abandoned) == (str(ALICE), 2)


def test_what_is_before_a_deadly_head_goes_first_and_nothing_that_is_behind_it(outbox: Outbox) -> None:
    died_with(outbox, ALICE, 2)
    for at, lane in enumerate((BOB, ALICE, Lane("shop", "v", "last")), start=1):
        put(outbox, lane)
        outbox.read("ZADD", outbox.keys.due("shop"), at, str(lane))
    claims = outbox.claim("worker-1", 9, lease_ms=LEASE_MS)
    assert ([held.lane for held in claims], claims.make_room) == ([str(BOB)], True)


def test_another_app_that_is_busy_does_not_keep_a_deadly_head_from_its_turn(outbox: Outbox) -> None:
    died_with(outbox, ALICE, 2)
    put(outbox, OTHER)
    outbox.read("ZADD", outbox.keys.apps, 1, "shop", now_ms(outbox), "second")
    assert outbox.claim("worker-1", 9, lease_ms=LEASE_MS, alone=False).make_room
    assert [held.lane for held in claim(outbox)] == [str(ALICE)]


def test_a_deadly_head_leaves_no_hint_that_there_is_room_for_others(outbox: Outbox) -> None:
    died_with(outbox, ALICE, 2)
    put(outbox, BOB)
    for alone in (False, True):
        outbox.claim("worker-1", 9, lease_ms=LEASE_MS, linger_ms=60_000, alone=alone)
        assert outbox.look(60_000)[0]
