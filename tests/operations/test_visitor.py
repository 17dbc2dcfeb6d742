"""A visitor's lanes, why the head of one is still there, and how an operator takes it away."""

from __future__ import annotations

import time
import uuid

import pytest
from attempts import pause, retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    books,
    claim,
    claim_one,
    come_due,
    crash,
    due_in,
    ledger,
    make_newer,
    now_ms,
    open_in,
    put,
    quarantine,
    waiting,
)

from insend_relay.operations.audit import audit
from insend_relay.operations.dead import DeadLetters, Filter
from insend_relay.operations.status import Paused
from insend_relay.operations.visitor import bury_head, discard_head, explain, look_up
from insend_relay.outbox.claim import Claim
from insend_relay.outbox.errors import Busy, NotFound
from insend_relay.outbox.heartbeat import Heartbeat
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

PURCHASE = b'{"type":"purchase"}'
AT = 1_700_000_000_000


def fail(outbox: Outbox, held: Claim, outcome: str = "answered 503: try later") -> None:
    retry(outbox, held, Tried(held.id, 3, 0, 1, 1, outcome), delay_ms=12_000)


def test_the_lanes_of_a_uid_are_found_in_every_app_for_visitors_and_guests(outbox: Outbox) -> None:
    guest = Lane("shop", "g", "alice")
    for lane in (ALICE, ALICE, OTHER, guest, BOB):
        put(outbox, lane, PURCHASE)
    views = look_up(outbox, "alice")
    assert {view.lane: view.waiting for view in views} == {ALICE: 2, OTHER: 1, guest: 1}
    assert all(view.head and view.head.payload == PURCHASE for view in views)


@pytest.mark.parametrize("uid", ["Мария / 50%", "a/v/b", "~x", "u" * 200, "\udcff"])
def test_a_uid_of_any_text_is_found_shown_and_buried_as_it_was_sent(outbox: Outbox, uid: str) -> None:
    lane, guest = Lane("shop", "v", uid), Lane("shop", "g", f"guest of {uid}")
    put(outbox, guest)
    put(outbox, lane, guest_uid=guest.uid)
    claim(outbox)
    (view,) = look_up(outbox, uid)
    assert (view.lane, view.lane.uid) == (lane, uid)
    assert view.why == f"waits for what the same person did before the login: see {guest}"
    buried = bury_head(outbox, lane)
    (letter,) = DeadLetters(outbox).scan(Filter(visitor=uid))
    assert (letter.id, letter.visitor_uid, letter.guest_uid) == (buried, uid, guest.uid)
    assert list(DeadLetters(outbox).scan(Filter(visitor=guest.uid))) == [letter]
    assert audit(outbox).balanced


@pytest.mark.parametrize("uid", ["nobody", "", "alice/v", "a b", "{", "\udcff"])
def test_a_uid_that_has_nothing_waiting_or_is_none_has_no_lanes(outbox: Outbox, uid: str) -> None:
    put(outbox, ALICE)
    assert look_up(outbox, uid) == []


def test_a_lane_in_quarantine_says_so(outbox: Outbox) -> None:
    quarantine(outbox, ALICE)
    (view,) = look_up(outbox, "alice")
    crashed = "2 workers crashed while they sent it, so it is sent with nothing beside it"
    assert (view.why, view.due_in_ms) == (f"{crashed}; waiting for a free worker", 0)


def test_a_lane_that_is_ready_says_so(outbox: Outbox) -> None:
    put(outbox, ALICE)
    (view,) = look_up(outbox, "alice")
    assert (view.attempts, view.last_outcome, view.due_in_ms, view.leased_by, view.paused) == (0, "", 0, None, None)
    assert view.why == "ready, waiting for a free worker"


def test_a_lane_that_is_being_sent_names_its_worker(outbox: Outbox) -> None:
    put(outbox, ALICE)
    claim_one(outbox, worker="web-1:4711")
    (view,) = look_up(outbox, "alice")
    assert view.leased_by == "web-1:4711"
    assert view.why == "being sent by web-1:4711 now"


def test_a_lane_that_waits_for_its_retry_says_how_the_last_attempt_ended(outbox: Outbox) -> None:
    put(outbox, ALICE)
    fail(outbox, claim_one(outbox))
    (view,) = look_up(outbox, "alice")
    assert (view.attempts, view.last_outcome) == (3, "answered 503: try later")
    assert view.due_in_ms
    assert 0 < view.due_in_ms <= 12_000
    assert view.why.startswith("attempt 3 failed (answered 503: try later), next attempt in ")


def test_a_lane_of_a_paused_app_says_since_when_and_why(outbox: Outbox) -> None:
    put(outbox, ALICE)
    held = claim_one(outbox)
    pause(outbox, held, "answered 403: wrong key")
    (view,) = look_up(outbox, "alice")
    assert view.paused
    assert view.why.startswith("the app is paused since 2")
    assert view.why.endswith(" UTC (answered 403: wrong key)")
    outbox.pause("shop")
    (view,) = look_up(outbox, "alice")
    assert view.why == "an operator paused the app"


def test_a_head_of_a_newer_version_is_shown_without_its_content(outbox: Outbox) -> None:
    put(outbox, ALICE)
    make_newer(outbox)
    (view,) = look_up(outbox, "alice")
    assert (view.head, view.waiting) == (None, 1)


def test_a_head_that_only_a_newer_worker_can_read_says_so_while_none_is_alive(outbox: Outbox) -> None:
    put(outbox, ALICE)
    version = make_newer(outbox)[0]
    Heartbeat(outbox, "web-1:4711").beat()
    assert claim(outbox) == []
    (view,) = look_up(outbox, "alice")
    assert view.unread_version == version
    assert view.why == f"a newer release wrote it (record version {version}), and no worker that is alive can read it"
    outbox.read("ZADD", outbox.keys.workers, now_ms(outbox), f"new:1#01234567#{version}")
    (view,) = look_up(outbox, "alice")
    assert view.unread_version is None
    assert view.why.startswith("given back by a worker, next attempt in ")


GUARD = Paused("shop", AT, None, "answered 503", operator=False)
HAND = Paused("shop", AT, None, "paused by an operator", operator=True)
FRESH = Tried(bytes(16))
FAILED = Tried(bytes(16), 2, outcome="answered 500: oops")


@pytest.mark.parametrize(
    ("tried", "leased_by", "due_in_ms", "paused", "why"),
    [
        (FRESH, None, 0, None, "ready, waiting for a free worker"),
        (FRESH, None, None, None, "ready, waiting for a free worker"),
        (FRESH, None, 5_000, None, "given back by a worker, next attempt in 5.0 s"),
        (FAILED, None, 90_000, None, "attempt 2 failed (answered 500: oops), next attempt in 90 s"),
        (FAILED, None, 0, None, "attempt 2 failed (answered 500: oops), waiting for a free worker"),
        (
            Tried(bytes(16), outcome="refused: no route"),
            None,
            0,
            None,
            "an attempt failed and was not counted (refused: no route), waiting for a free worker",
        ),
        (FAILED, "w-1", 9_000, HAND, "being sent by w-1 now"),
        (FAILED, "w-1", 0, HAND, "an operator paused the app"),
        (FAILED, "w-1", 0, GUARD, "the app is paused since 2023-11-14 22:13:20 UTC (answered 503)"),
        (
            FAILED,
            "w-1",
            0,
            None,
            "left by w-1, which never said how the sending ended; waiting for a free worker",
        ),
    ],
)
def test_why_a_head_is_still_there_is_told_in_a_sentence(
    tried: Tried, leased_by: str | None, due_in_ms: int | None, paused: Paused | None, why: str
) -> None:
    assert explain(tried, leased_by=leased_by, due_in_ms=due_in_ms, paused=paused) == why


def test_burying_the_head_makes_it_a_letter_and_lets_the_next_go(outbox: Outbox) -> None:
    first, second = put(outbox, ALICE, PURCHASE), put(outbox, ALICE)
    fail(outbox, claim_one(outbox))
    assert bury_head(outbox, ALICE).bytes == first
    (found,) = DeadLetters(outbox).scan()
    assert (found.type, found.reason, found.outcome, found.status) == ("purchase", "operator", "answered", 503)
    assert (found.answer, found.attempts, found.payload) == ("try later", 3, PURCHASE)
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 1, "dead": 1, "discarded": 0}
    assert claim_one(outbox).id == second


@pytest.mark.parametrize(
    ("outcome", "kind", "status", "answer"),
    [
        ("refused: no route", "refused", None, "no route"),
        ("unknown: cut", "unknown", None, "cut"),
        ("answered 422", "answered", 422, ""),
        ("something else", "none", None, "something else"),
    ],
)
def test_the_letter_keeps_how_the_last_attempt_ended(
    outbox: Outbox, outcome: str, kind: str, status: int | None, answer: str
) -> None:
    put(outbox, ALICE)
    fail(outbox, claim_one(outbox), outcome)
    found = DeadLetters(outbox).get(bury_head(outbox, ALICE))
    assert (found.outcome, found.status, found.answer) == (kind, status, answer)


def test_a_letter_counts_the_sends_that_crashed_their_workers(outbox: Outbox) -> None:
    put(outbox, ALICE)
    fail(outbox, claim_one(outbox))
    come_due(outbox, ALICE)
    crash(outbox, ALICE, times=2)
    found = DeadLetters(outbox).get(bury_head(outbox, ALICE))
    assert (found.outcome, found.answer, found.attempts) == ("unknown", "try later", 5)


def test_a_head_that_was_never_tried_and_cannot_be_read_is_buried_too(outbox: Outbox) -> None:
    put(outbox, ALICE, b"[")
    found = DeadLetters(outbox).get(bury_head(outbox, ALICE))
    assert (found.type, found.outcome, found.attempts) == ("?", "none", 0)


def test_discarding_the_head_leaves_no_letter(outbox: Outbox) -> None:
    first = put(outbox, ALICE)
    assert discard_head(outbox, ALICE) == uuid.UUID(bytes=first)
    assert books(outbox) == {"accepted": 1, "delivered": 0, "waiting": 0, "dead": 0, "discarded": 1}


@pytest.mark.parametrize("uid", ["alice", "u" * 200])
@pytest.mark.parametrize("head", [b"?", bytes(32)])
def test_a_head_that_is_too_short_to_have_an_id_is_buried_or_discarded_too(
    outbox: Outbox, head: bytes, uid: str
) -> None:
    lane, other = Lane("shop", "v", uid), Lane("shop", "v", "another")
    for one in (other, lane):
        put(outbox, one)
        outbox.read("LSET", outbox.keys.lane(one), 0, head)
    put(outbox, lane)
    discard_head(outbox, lane)
    assert books(outbox) == {"accepted": 3, "delivered": 0, "waiting": 2, "dead": 0, "discarded": 1}
    assert [len(data) > len(head) for data in outbox.read("LRANGE", outbox.keys.lane(lane), 0, -1)] == [True]
    found = DeadLetters(outbox).get(bury_head(outbox, other))
    assert (str(found.lane), found.record) == (str(other), head)


@pytest.mark.parametrize("take", [bury_head, discard_head])
def test_nothing_is_taken_from_an_empty_lane_or_from_a_worker(outbox: Outbox, take: object) -> None:
    assert callable(take)
    with pytest.raises(NotFound, match="nothing waits in shop/v/alice"):
        take(outbox, ALICE)
    put(outbox, ALICE)
    held = claim_one(outbox, worker="web-1")
    with pytest.raises(Busy, match="web-1 is sending"):
        take(outbox, ALICE)
    assert outbox.settle(held, lease_ms=0) is None
    assert books(outbox)["delivered"] == 1


def test_a_head_can_be_taken_while_its_app_is_paused(outbox: Outbox) -> None:
    put(outbox, GUEST)
    outbox.pause("shop")
    bury_head(outbox, GUEST)
    assert waiting(outbox, GUEST) == []
    assert open_in(outbox) > LEASE_MS, "the pause stays"


def test_a_lease_that_was_left_behind_makes_the_head_doubtful(outbox: Outbox) -> None:
    event_id = put(outbox, ALICE)
    stale = claim_one(outbox)
    come_due(outbox)
    found = DeadLetters(outbox).get(bury_head(outbox, ALICE))
    assert found.outcome == "unknown"
    assert ledger(outbox, "duplicates_possible") == [1]
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None
    assert outbox.settle(stale, lease_ms=0) is None
    assert books(outbox)["dead"] == 1


def test_a_seized_lane_belongs_to_the_operator_until_the_lease_is_over(outbox: Outbox) -> None:
    put(outbox, ALICE)
    stale = claim_one(outbox)
    come_due(outbox)
    held = outbox.seize(ALICE, "operator", lease_ms=LEASE_MS)
    assert held
    assert held.token != stale.token
    assert held.attempts().abandoned == 1
    assert abs(held.now_ms - time.time() * 1000) < LEASE_MS
    assert claim(outbox) == []
    left = due_in(outbox)
    assert left
    assert 0 < left <= LEASE_MS
    with pytest.raises(Busy, match="operator is sending"):
        outbox.seize(ALICE, "another", lease_ms=LEASE_MS)
    assert outbox.release(held)
    assert claim_one(outbox).attempts().abandoned == 1
