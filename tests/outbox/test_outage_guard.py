"""The circuit breaker: what pauses an app and what does not, what it does to the counts, and what poison cannot do."""

from __future__ import annotations

import pytest
from lanes import ALICE, LEASE_MS, claim, come_due, due_in, guard_state, now_ms, open_in, put
from outages import LIMITS, NO_CALM, fails, held, lane_of, succeed, trip
from waiting import wait_until

from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.failed_attempt import FailReply, Failure
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

# What trips it


def test_three_unreachable_in_a_row_pause_the_app(outbox: Outbox) -> None:
    claims = held(outbox, 3)
    assert fails(outbox, claims[0]) == FailReply("RETRIED")
    assert fails(outbox, claims[1]).counts
    before = now_ms(outbox)
    reply = fails(outbox, claims[2])
    assert (reply.counts, reply.began) == (False, True)
    assert before + 1_000 <= reply.until_ms <= now_ms(outbox) + 1_000
    assert guard_state(outbox)["reason"] == "was unreachable"


def test_one_visitor_whose_requests_time_out_pauses_nobody(outbox: Outbox) -> None:
    (poisoned,) = held(outbox, 1)
    assert all(fails(outbox, poisoned).counts for _ in range(20))


def test_one_visitor_whose_requests_cannot_be_sent_pauses_the_app(outbox: Outbox) -> None:
    (only,) = held(outbox, 1)
    assert fails(outbox, only, sent=False).counts
    assert fails(outbox, only, sent=False).counts
    assert fails(outbox, only, sent=False).began


def test_a_different_failure_between_breaks_the_row(outbox: Outbox) -> None:
    claims = held(outbox, 4)
    kinds: list[Failure] = ["unreachable", "unreachable", "server", "unreachable"]
    assert all(fails(outbox, failed, kind).counts for failed, kind in zip(claims, kinds, strict=True))


def test_a_200_between_breaks_the_row(outbox: Outbox) -> None:
    claims = held(outbox, 4)
    assert fails(outbox, claims[0]).counts
    assert fails(outbox, claims[1]).counts
    succeed(outbox)
    assert fails(outbox, claims[2]).counts
    assert fails(outbox, claims[3]).counts


@pytest.mark.parametrize("kind", ["server", "rejected"])
def test_failures_of_five_visitors_with_no_200_between_pause_the_app(outbox: Outbox, kind: Failure) -> None:
    claims = held(outbox, 5)
    assert all(fails(outbox, failed, kind).counts for failed in claims[:4])
    assert all(fails(outbox, failed, kind).counts for failed in claims[:4]), "the same visitors again are no more"
    assert fails(outbox, claims[4], kind).began


def test_a_200_clears_the_suspects(outbox: Outbox) -> None:
    claims = held(outbox, 8)
    assert all(fails(outbox, failed, "server", NO_CALM).counts for failed in claims[:4])
    succeed(outbox)
    assert all(fails(outbox, failed, "server", NO_CALM).counts for failed in claims[4:])


def test_a_wrong_key_pauses_at_once_when_there_was_no_200_in_the_last_minute(outbox: Outbox) -> None:
    (only,) = held(outbox, 1)
    assert fails(outbox, only, "closed").began


def test_soon_after_a_200_a_403_needs_three_visitors(outbox: Outbox) -> None:
    succeed(outbox)
    claims = held(outbox, 3)
    assert fails(outbox, claims[0], "closed").counts
    assert fails(outbox, claims[0], "closed").counts
    assert fails(outbox, claims[0], "closed").counts
    assert fails(outbox, claims[1], "closed").counts
    assert fails(outbox, claims[2], "closed").began


def test_for_a_minute_after_a_200_rejections_pause_nobody(outbox: Outbox) -> None:
    succeed(outbox)
    claims = held(outbox, 12)
    assert all(fails(outbox, failed, "rejected").counts for failed in claims[:6])
    assert all(fails(outbox, failed, "server").counts for failed in claims[6:])


def test_after_that_minute_rejections_of_five_visitors_do(outbox: Outbox) -> None:
    succeed(outbox)
    claims = held(outbox, 5)
    outbox.read("HSET", outbox.keys.outage("shop"), "last_ok", now_ms(outbox) - LIMITS.calm_ms)
    assert all(fails(outbox, failed, "rejected").counts for failed in claims[:4])
    assert fails(outbox, claims[4], "rejected").began


def test_even_soon_after_a_200_an_unreachable_tracker_pauses(outbox: Outbox) -> None:
    succeed(outbox)
    claims = held(outbox, 3)
    assert [fails(outbox, failed).began for failed in claims] == [False, False, True]


def test_a_process_without_a_connection_pauses_nothing_while_another_process_delivers(outbox: Outbox) -> None:
    succeed(outbox)
    claims = held(outbox, 30)
    before = guard_state(outbox)
    elsewhere = FailReply("ELSEWHERE")
    assert all(fails(outbox, failed, sent=False, unanswered_ms=3_600_000) == elsewhere for failed in claims)
    assert guard_state(outbox) == before
    assert outbox.read("HLEN", outbox.keys.suspects("shop")) == 0


def test_it_pauses_the_app_when_the_last_200_is_older_than_its_own_last_answer(outbox: Outbox) -> None:
    succeed(outbox)
    outbox.read("HINCRBY", outbox.keys.outage("shop"), "last_ok", -10_000)
    claims = held(outbox, 3)
    assert [fails(outbox, failed, sent=False, unanswered_ms=5_000).began for failed in claims] == [False, False, True]


def test_it_pauses_the_app_when_no_process_has_delivered_for_a_minute(outbox: Outbox) -> None:
    succeed(outbox)
    outbox.read("HINCRBY", outbox.keys.outage("shop"), "last_ok", -LIMITS.calm_ms)
    claims = held(outbox, 3)
    replies = [fails(outbox, failed, sent=False, unanswered_ms=3_600_000) for failed in claims]
    assert [reply.began for reply in replies] == [False, False, True]


def test_its_probe_lengthens_a_pause_as_any_other_does(outbox: Outbox) -> None:
    succeed(outbox)
    trip(outbox)
    come_due(outbox)
    outbox.read("ZADD", outbox.keys.apps, 0, "shop")
    (probe,) = claim(outbox)
    assert probe.probe
    reply = fails(outbox, probe, sent=False, unanswered_ms=3_600_000)
    assert (reply.result, guard_state(outbox)["pauses"]) == ("NOT_COUNTED", "1")


def test_the_apps_are_judged_apart(outbox: Outbox) -> None:
    put(outbox, Lane("second", "v", "1"))
    (other,) = claim(outbox)
    trip(outbox)
    assert fails(outbox, other).counts
    assert open_in(outbox, "second") <= 0


def test_even_soon_after_a_200_rejections_of_twenty_five_visitors_pause(outbox: Outbox) -> None:
    succeed(outbox)
    claims = held(outbox, 25)
    assert all(fails(outbox, failed, "rejected").counts for failed in claims[:24])
    assert fails(outbox, claims[24], "rejected").began
    assert outbox.read("HLEN", outbox.keys.suspects("shop")) == 0


# While it lasts


def test_a_paused_app_is_not_claimed_before_its_time(outbox: Outbox) -> None:
    trip(outbox, BreakerLimits(first_ms=60_000))
    put(outbox, ALICE)
    assert claim(outbox) == []
    assert 30_000 < open_in(outbox) <= 60_000


def test_no_attempt_is_counted_while_an_app_is_paused(outbox: Outbox) -> None:
    claims = held(outbox, 6)
    for failed in claims[:3]:
        fails(outbox, failed)
    kinds: list[Failure] = ["unreachable", "server", "rejected"]
    for failed, kind in zip(claims[3:], kinds, strict=True):
        assert not fails(outbox, failed, kind).counts


def test_what_the_suspects_had_counted_is_taken_back_and_they_are_due_at_once(outbox: Outbox) -> None:
    trip(outbox)
    for number in range(3):
        assert (due_in(outbox, lane_of(number)) or 0) <= 0
    outbox.resume("shop")
    taken = []
    for _ in range(3):
        taken += claim(outbox)
        outbox.read("HSET", outbox.keys.outage("shop"), "tokens", 9)
    assert [one.attempts().attempts for one in taken] == [0, 0, 0]


def test_attempts_from_before_the_last_200_stay_counted(outbox: Outbox) -> None:
    put(outbox, lane_of(0))
    (first,) = claim(outbox)
    assert fails(outbox, first, "server").counts
    succeed(outbox)
    come_due(outbox, lane_of(0))
    trip(outbox)
    (stored,) = outbox.read("HMGET", outbox.keys.trying, str(lane_of(0)))
    assert Tried.unpack(stored, first.id).attempts == 1


def test_an_attempt_that_fails_later_does_not_undo_what_was_taken_back(outbox: Outbox) -> None:
    put(outbox, lane_of(0))
    (first,) = claim(outbox)
    fails(outbox, first, "unreachable")
    come_due(outbox, lane_of(0))
    claims = held(outbox, 3)
    assert claims[0].attempts().attempts == 1
    for failed in claims[1:]:
        fails(outbox, failed)
    fails(outbox, claims[0], "unreachable")
    stored = outbox.read("HGET", outbox.keys.trying, str(lane_of(0)))
    assert Tried.unpack(stored, first.id).attempts == 0


def test_a_lane_under_way_is_not_made_due_when_its_count_is_taken_back(outbox: Outbox) -> None:
    put(outbox, lane_of(0))
    (first,) = claim(outbox)
    fails(outbox, first, "unreachable")
    come_due(outbox, lane_of(0))
    claims = held(outbox, 3)
    for failed in claims[1:]:
        fails(outbox, failed)
    assert guard_state(outbox)["since"]
    assert (due_in(outbox, lane_of(0)) or 0) > LEASE_MS - 30_000


# Poison


def test_a_pause_that_rejections_began_counts_attempts_again_after_a_while(outbox: Outbox) -> None:
    claims = held(outbox, 5)
    patient, impatient = BreakerLimits(rejected_ms=60_000), BreakerLimits(rejected_ms=0)
    for failed in claims:
        reply = fails(outbox, failed, "rejected", patient)
    assert reply.began
    assert not fails(outbox, claims[0], "rejected", patient).counts
    wait_until(lambda: fails(outbox, claims[0], "rejected", impatient).counts)


@pytest.mark.parametrize("kind", ["unreachable", "closed", "server"])
def test_any_other_pause_never_counts_attempts(outbox: Outbox, kind: Failure) -> None:
    claims = held(outbox, 5)
    limits = BreakerLimits(rejected_ms=0)
    for failed in claims:
        fails(outbox, failed, kind, limits)
    since = int(guard_state(outbox)["since"])
    wait_until(lambda: now_ms(outbox) > since + 1)
    assert not fails(outbox, claims[0], "rejected", limits).counts


@pytest.mark.parametrize("kind", ["unreachable", "server", "rejected", "closed"])
def test_a_poisoned_visitor_among_good_ones_gets_its_attempts_counted_and_nobody_waits(
    outbox: Outbox, kind: Failure
) -> None:
    succeed(outbox)
    put(outbox, lane_of(0))
    for attempt in range(8):
        come_due(outbox, lane_of(0))
        poisoned = next(one for one in claim(outbox) if one.lane == str(lane_of(0)))
        assert poisoned.attempts().attempts == attempt
        assert fails(outbox, poisoned, kind).counts
        succeed(outbox)


def test_a_poisoned_event_type_among_good_ones_pauses_nobody(outbox: Outbox) -> None:
    succeed(outbox)
    for failed in held(outbox, 20):
        assert fails(outbox, failed, "server").counts
    succeed(outbox)
