"""The order across a login: an event that says who a guest is goes after all that the guest did before it."""

from __future__ import annotations

from attempts import retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    bury,
    claim,
    claim_one,
    come_due,
    due_in,
    letter,
    pause_elapses,
    put,
    replay,
    snapshot,
    waiting,
)
from outages import NO_CALM, fails

from insend_relay.operations.audit import audit
from insend_relay.operations.visitor import bury_head, look_up
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.record import decode
from insend_relay.outbox.store import Outbox


def log_in(outbox: Outbox, lane: Lane = ALICE, guest: Lane = GUEST) -> bytes:
    """The first event after a login, which carries both uids; its id."""
    return put(outbox, lane, guest_uid=guest.uid)


def lanes(claims: list[Claim]) -> set[str]:
    return {claim.lane for claim in claims}


def settle(outbox: Outbox, held: Claim) -> Claim | None:
    return outbox.settle(held, lease_ms=LEASE_MS)


def test_the_login_waits_for_the_last_of_what_the_guest_did_before(outbox: Outbox) -> None:
    put(outbox, GUEST)
    put(outbox, GUEST)
    log_in(outbox)
    (guest,) = claim(outbox)
    assert guest.lane == str(GUEST)
    assert (due_in(outbox) or 0) > 30_000, "it is out of the way"
    second = settle(outbox, guest)
    assert second
    assert claim(outbox) == []
    settle(outbox, second)
    assert claim_one(outbox).lane == str(ALICE)
    assert outbox.read("EXISTS", outbox.keys.behind(GUEST)) == 0


def test_it_waits_as_well_when_an_earlier_event_of_the_visitor_goes_before_it(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, GUEST)
    log_in(outbox)
    held = {one.lane: one for one in claim(outbox)}
    assert settle(outbox, held[str(ALICE)]) is None, "the next head has a barrier"
    assert outbox.read("HKEYS", outbox.keys.lease) == [str(GUEST).encode()]
    settle(outbox, held[str(GUEST)])
    assert claim_one(outbox).lane == str(ALICE)


def test_a_dead_letter_of_the_guest_lets_it_pass(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    (guest,) = claim(outbox)
    bury(outbox, guest)
    assert claim_one(outbox).lane == str(ALICE)


def test_a_guest_who_goes_on_browsing_does_not_hold_it_back(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    put(outbox, GUEST)
    (guest,) = claim(outbox)
    assert settle(outbox, guest), "what came after the login"
    assert claim_one(outbox).lane == str(ALICE)


def test_without_an_earlier_event_of_the_guest_there_is_no_barrier(outbox: Outbox) -> None:
    log_in(outbox)
    assert decode(claim_one(outbox).data).barrier == 0


def test_the_retry_of_a_guests_event_holds_the_login_back_with_it(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    (guest,) = claim(outbox)
    retry(outbox, guest, delay_ms=60_000)
    assert claim(outbox) == []
    come_due(outbox, GUEST)
    (again,) = claim(outbox)
    settle(outbox, again)
    assert claim_one(outbox).lane == str(ALICE)


def test_a_visitor_of_the_guests_own_name_is_another_lane(outbox: Outbox) -> None:
    guest, visitor = Lane("shop", "g", "same"), Lane("shop", "v", "same")
    put(outbox, guest)
    log_in(outbox, visitor, guest)
    (first,) = claim(outbox)
    assert first.lane == str(guest)
    settle(outbox, first)
    assert claim_one(outbox).lane == str(visitor)


def test_crossing_pairs_do_not_wait_in_a_circle(outbox: Outbox) -> None:
    guests = [Lane("shop", "g", "g-1"), Lane("shop", "g", "g-2")]
    for guest in guests:
        put(outbox, guest)
    for visitor, guest in ((ALICE, guests[0]), (BOB, guests[1]), (ALICE, guests[1]), (BOB, guests[0])):
        log_in(outbox, visitor, guest)
    order: list[str] = []
    while claims := claim(outbox, room=1):
        while held := claims.pop() if claims else None:
            order.append(held.lane)
            claims = [more] if (more := settle(outbox, held)) else []
    assert len(order) == 6
    assert {order.index(str(guest)) for guest in guests} == {0, 1}


def test_one_guest_who_became_many_visitors_lets_them_all_pass(outbox: Outbox) -> None:
    put(outbox, GUEST)
    visitors = [Lane("shop", "v", f"visitor-{number}") for number in range(30)]
    for visitor in visitors:
        log_in(outbox, visitor)
    (guest,) = claim(outbox)
    settle(outbox, guest)
    assert lanes(claim(outbox)) == {str(visitor) for visitor in visitors}


def test_lanes_that_wait_take_no_room_from_others(outbox: Outbox) -> None:
    put(outbox, GUEST)
    claim_one(outbox)
    log_in(outbox, ALICE)
    put(outbox, BOB)
    assert lanes(claim(outbox, room=1)) == {str(BOB)}


def test_a_probe_is_not_wasted_on_a_lane_that_waits(outbox: Outbox) -> None:
    put(outbox, GUEST)
    (guest,) = claim(outbox)
    log_in(outbox, ALICE)
    put(outbox, BOB)
    fails(outbox, guest, "closed", NO_CALM)
    pause_elapses(outbox)
    assert lanes(claim(outbox)) == {str(BOB)}


def test_what_was_let_pass_and_failed_is_not_made_due_early_by_the_guest(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    put(outbox, GUEST)
    (guest,) = claim(outbox)
    following = settle(outbox, guest)
    login = claim_one(outbox)
    retry(outbox, login, delay_ms=60_000)
    assert following
    settle(outbox, following)
    assert (due_in(outbox) or 0) > 30_000


def test_a_lease_that_was_left_on_a_lane_that_waits_is_marked_and_ends(outbox: Outbox) -> None:
    put(outbox, GUEST)
    login = log_in(outbox)
    outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)  # who does not ask for the guest, and was never heard of again
    come_due(outbox, ALICE)
    assert lanes(claim(outbox)) == {str(GUEST)}
    assert outbox.read("HKEYS", outbox.keys.lease) == [str(GUEST).encode()]
    assert outbox.read("ZRANGE", outbox.keys.doubtful, 0, -1) == [login]
    assert look_up(outbox, ALICE.uid)[0].leased_by is None


def test_when_redis_has_lost_the_guests_lane_the_recheck_lets_it_pass(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    claim(outbox)
    outbox.read("DEL", outbox.keys.lane(GUEST))
    come_due(outbox, ALICE)
    assert claim_one(outbox).lane == str(ALICE)
    assert outbox.read("EXISTS", outbox.keys.behind(GUEST)) == 0


def test_a_replayed_letter_of_the_guest_goes_before_a_login_that_still_waits(outbox: Outbox) -> None:
    dead = letter(outbox, GUEST)
    put(outbox, GUEST)
    login = log_in(outbox)
    (guest,) = claim(outbox)
    assert replay(outbox, dead) == b"REPLAYED"
    following = settle(outbox, guest)
    assert following
    assert (following.id, claim(outbox)) == (dead, [])
    settle(outbox, following)
    assert claim_one(outbox).id == login


def test_an_operator_may_take_a_head_away_that_waits(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    claim(outbox)
    bury_head(outbox, ALICE)
    assert waiting(outbox, ALICE) == []
    assert outbox.read("EXISTS", outbox.keys.behind(GUEST)) == 0
    assert audit(outbox).balanced


def test_an_operator_is_told_whom_it_waits_for(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    (guest,) = claim(outbox)
    (view,) = look_up(outbox, ALICE.uid)
    assert view.why == "waits for what the same person did before the login: see shop/g/guest-1"
    settle(outbox, guest)
    (view,) = look_up(outbox, ALICE.uid)
    assert view.why == "ready, waiting for a free worker"


def test_the_audit_finds_who_waits_and_has_nothing_to_send(outbox: Outbox) -> None:
    put(outbox, GUEST)
    log_in(outbox)
    claim(outbox)
    assert audit(outbox).balanced
    outbox.read("ZADD", outbox.keys.behind(GUEST), 1, str(BOB))
    assert audit(outbox).findings == ["lane shop/v/bob: is in behind:shop/g/guest-1 and holds no event"]


def test_bytes_that_are_no_record_neither_wait_nor_break_those_that_wait(outbox: Outbox) -> None:
    outbox.read("RPUSH", outbox.keys.lane(GUEST), b"\x01")
    outbox.read("ZADD", outbox.keys.due("shop"), 0, str(GUEST))
    log_in(outbox)
    (broken,) = claim(outbox)
    assert broken.lane == str(GUEST)
    before = snapshot(outbox)
    assert claim(outbox) == []
    assert snapshot(outbox).keys() == before.keys()
