"""Dead letters, an operator's pause, the pump's look, and the counts for plots."""

from __future__ import annotations

import uuid

from attempts import retry
from lanes import (
    ALICE,
    BOB,
    GUEST,
    LEASE_MS,
    OTHER,
    books,
    bury,
    claim,
    claim_one,
    discard,
    ledger,
    letter,
    letter_keys,
    now_ms,
    open_in,
    put,
    replay,
    replay_counts,
    snapshot,
    waiting,
)
from waiting import wait_until

from insend_relay.operations.dead import DeadLetters
from insend_relay.outbox import record
from insend_relay.outbox.store import Outbox

# Dead letters


def test_a_replayed_letter_goes_to_the_tail_of_its_lane_as_it_was_accepted(outbox: Outbox) -> None:
    dead = letter(outbox)
    data = outbox.read("HGET", outbox.keys.dead, dead)
    newer = put(outbox)
    assert replay(outbox, dead) == b"REPLAYED"
    assert waiting(outbox) == [newer, dead]
    assert data.endswith(outbox.read("LINDEX", outbox.keys.lane(ALICE), -1))
    for key in letter_keys(outbox):
        assert outbox.read("EXISTS", key) == 0
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 2, "dead": 0, "discarded": 0}
    assert ledger(outbox, "replayed") == [1]


def test_a_letter_replayed_into_an_empty_lane_is_due_at_once_and_wakes_a_worker(outbox: Outbox) -> None:
    dead = letter(outbox)
    outbox.read("DEL", outbox.keys.wake, outbox.keys.apps)
    replay(outbox, dead)
    assert outbox.read("LLEN", outbox.keys.wake) == 1
    assert claim_one(outbox).id == dead


def test_letters_of_one_lane_go_behind_each_other_and_a_live_event_may_stand_between(outbox: Outbox) -> None:
    first, second = letter(outbox), letter(outbox)
    assert replay(outbox, first) == b"REPLAYED"
    live = put(outbox)
    assert replay(outbox, second) == b"REPLAYED"
    assert waiting(outbox) == [first, live, second]


def test_when_a_replayed_letter_dies_again_the_next_of_its_lane_goes_on(outbox: Outbox) -> None:
    first, second = letter(outbox), letter(outbox)
    for event_id in (first, second):
        replay(outbox, event_id, run="run-7")
    following = bury(outbox, claim_one(outbox))
    assert following
    assert following.id == second
    outbox.settle(following, lease_ms=0)
    assert replay_counts(outbox, "run-7") == {"replayed": 2, "delivered": 1, "returned": 1}


def test_a_letter_of_a_paused_app_is_not_replayed(outbox: Outbox) -> None:
    mine, other = letter(outbox), letter(outbox, OTHER)
    outbox.pause("shop")
    before = snapshot(outbox)
    assert replay(outbox, mine) == b"PAUSED"
    assert snapshot(outbox) == before
    assert replay(outbox, other) == b"REPLAYED"
    outbox.resume("shop")
    assert replay(outbox, mine) == b"REPLAYED"


def test_no_more_events_of_a_run_wait_than_its_limit(outbox: Outbox) -> None:
    letters = [letter(outbox, lane) for lane in (ALICE, BOB, GUEST, OTHER)]
    assert [replay(outbox, event_id, limit=2) for event_id in letters[:2]] == [b"REPLAYED"] * 2
    before = snapshot(outbox)
    assert replay(outbox, letters[2], limit=2) == b"FULL"
    assert snapshot(outbox) == before
    assert replay(outbox, letters[2], run="run-2", limit=1) == b"REPLAYED", "another run has a limit of its own"
    for held in claim(outbox)[:2]:
        outbox.settle(held, lease_ms=0)
    assert replay(outbox, letters[3], limit=1) == b"REPLAYED"


def test_a_letter_that_died_again_after_it_was_read_is_left(outbox: Outbox) -> None:
    event_id = letter(outbox)
    burial = DeadLetters(outbox).last_burial()
    replay(outbox, event_id)
    bury(outbox, claim_one(outbox))
    assert outbox._run("replay", id=event_id, burial=burial, run="run-1", limit=9) == [b"GONE"]
    assert outbox.read("HKEYS", outbox.keys.dead) == [event_id]


def test_a_replay_counts_what_was_delivered_and_what_came_back(outbox: Outbox) -> None:
    good, bad = letter(outbox, ALICE), letter(outbox, BOB)
    for event_id in (good, bad):
        replay(outbox, event_id, run="run-7")
    for held in claim(outbox):
        if held.id == good:
            outbox.settle(held, lease_ms=0)
        else:
            bury(outbox, held, lease_ms=0)
    assert replay_counts(outbox, "run-7") == {"replayed": 2, "delivered": 1, "returned": 1}
    assert outbox.read("EXISTS", outbox.keys.replaying) == 0


def test_an_event_before_the_replayed_one_is_not_counted_as_the_replay(outbox: Outbox) -> None:
    dead = letter(outbox)
    put(outbox)
    replay(outbox, dead, run="run-7")
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert replay_counts(outbox, "run-7") == {"replayed": 1}
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert replay_counts(outbox, "run-7") == {"replayed": 1, "delivered": 1}


def test_the_counts_of_a_run_that_is_no_longer_kept_do_not_come_back(outbox: Outbox) -> None:
    replay(outbox, letter(outbox), run="run-7")
    outbox.read("DEL", outbox.keys.replay("run-7"))
    outbox.settle(claim_one(outbox), lease_ms=0)
    assert outbox.read("EXISTS", outbox.keys.replay("run-7"), outbox.keys.replaying) == 0


def test_an_invalid_event_is_not_replayed(outbox: Outbox) -> None:
    event_id = record.new_id()
    outbox.bury_invalid("shop", event_id, lane=ALICE, type="purchase", payload=b"{}", faults="bad")
    before = snapshot(outbox)
    assert replay(outbox, event_id.bytes) == b"INVALID"
    assert snapshot(outbox) == before


def test_an_invalid_event_is_known_by_its_reason_whatever_stands_before_it(outbox: Outbox) -> None:
    event_id = record.new_id().bytes
    data = record.encode(record.Record(event_id, 0, 0, 0, "", b"{}"))
    letter = {"app": "shop", "lane": "", "owner": "", "draft": data, "group": b"a\tb\tinvalid", "meta": b"{}"}
    outbox._run("bury_invalid", **letter, slot="", file="")
    assert replay(outbox, event_id) == b"INVALID"


def test_a_letter_that_is_gone_is_neither_replayed_nor_discarded_again(outbox: Outbox) -> None:
    dead = letter(outbox)
    assert discard(outbox, dead) == b"DISCARDED"
    before = snapshot(outbox)
    assert replay(outbox, dead) == b"GONE"
    assert discard(outbox, dead) == b"GONE"
    assert replay(outbox, uuid.uuid4().bytes) == b"GONE"
    assert snapshot(outbox) == before


def test_a_discarded_letter_is_gone_for_good_and_in_the_books(outbox: Outbox) -> None:
    kept, dropped = letter(outbox), letter(outbox)
    discard(outbox, dropped)
    assert outbox.read("HKEYS", outbox.keys.dead) == [kept]
    assert outbox.read("ZRANGE", outbox.keys.dead_index("shop"), 0, -1) == [kept]
    assert outbox.read("SMEMBERS", outbox.keys.dead_apps) == {b"shop"}
    assert outbox.read("HGET", outbox.keys.dead_groups, b"purchase\tanswered 400\tcount") == b"1"
    assert books(outbox) == {"accepted": 2, "delivered": 0, "waiting": 0, "dead": 1, "discarded": 1}


# Operators


def test_a_paused_app_is_not_claimed_and_the_others_are(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, OTHER)
    outbox.pause("shop")
    put(outbox, BOB)
    assert [held.app for held in claim(outbox)] == ["second"]
    outbox.resume("shop")
    assert len(claim(outbox)) == 2


def test_an_app_paused_before_its_first_event_stays_paused(outbox: Outbox) -> None:
    outbox.pause("shop")
    put(outbox)
    assert claim(outbox) == []


def test_a_second_pause_remembers_since_when_the_first_was(outbox: Outbox) -> None:
    outbox.pause("shop")
    outbox.read("HSET", outbox.keys.outage("shop"), "operator", 1)
    outbox.pause("shop")
    assert outbox.read("HGET", outbox.keys.outage("shop"), "operator") == b"1"
    assert open_in(outbox) > 1e12


def test_a_resumed_app_wakes_a_worker(outbox: Outbox) -> None:
    put(outbox)
    outbox.pause("shop")
    outbox.read("DEL", outbox.keys.wake)
    outbox.resume("shop")
    outbox.resume("shop")
    assert outbox.read("LLEN", outbox.keys.wake) == 1


# The pump's look, and plots


def test_one_of_those_who_look_is_told_to_publish_until_a_claim_takes_the_hint_back(outbox: Outbox) -> None:
    put(outbox)
    assert [outbox.look(60_000)[0] for _ in range(3)] == [True, False, False]
    claim(outbox, room=0)
    assert outbox.look(60_000)[0]


def test_nobody_is_told_to_publish_when_nothing_may_be_claimed(outbox: Outbox) -> None:
    assert outbox.look(60_000) == (False, 0)
    put(outbox)
    outbox.pause("shop")
    assert outbox.look(60_000) == (False, 0)
    outbox.resume("shop")
    claim_one(outbox)
    assert outbox.look(60_000) == (False, 0)


def test_a_worker_that_lingers_needs_no_hint_unless_it_was_full(outbox: Outbox) -> None:
    put(outbox, ALICE)
    put(outbox, BOB)
    outbox.claim("worker-1", 1, lease_ms=LEASE_MS, linger_ms=9_000)
    assert outbox.look(60_000)[0]
    outbox.claim("worker-1", 2, lease_ms=LEASE_MS, linger_ms=9_000)
    put(outbox, GUEST)
    assert outbox.look(60_000)[0] is False


def test_a_look_says_for_how_long_a_lane_has_been_left_lying(outbox: Outbox) -> None:
    put(outbox)
    now = now_ms(outbox)
    outbox.read("ZADD", outbox.keys.apps, now - 90_000, "shop")
    outbox.read("ZADD", outbox.keys.due("shop"), now - 70_000, str(ALICE))
    assert 70_000 <= outbox.look(60_000)[1] < 80_000
    outbox.read("ZADD", outbox.keys.apps, now - 50_000, "shop")
    assert 50_000 <= outbox.look(60_000)[1] < 60_000, "an app that was just opened has not been left lying"


def test_a_lane_is_seen_behind_any_number_of_idle_apps(outbox: Outbox) -> None:
    idle = [item for number in range(200) for item in (1, f"idle-{number}")]
    outbox.read("ZADD", outbox.keys.apps, *idle)
    put(outbox)
    assert wait_until(lambda: outbox.look(60_000)[0])


def test_the_counts_for_plots_are_kept_for_a_day_and_a_bit(outbox: Outbox) -> None:
    dead = letter(outbox)
    replay(outbox, dead)
    held = claim_one(outbox)
    retry(outbox, held)
    outbox.settle(claim_one(outbox), lease_ms=0)
    pulses = outbox.read("KEYS", outbox.keys.prefix + "pulse:*")
    assert all(86_400_000 < outbox.read("PTTL", key) <= 93_600_000 for key in pulses)
    counted: dict[bytes, int] = {}
    for key in pulses:  # two, when the minute has just turned
        for what, number in outbox.read("HGETALL", key).items():
            counted[what] = counted.get(what, 0) + int(number)
    assert counted == {b"accepted": 1, b"dead": 1, b"replayed": 1, b"failed": 1, b"delivered": 1}
