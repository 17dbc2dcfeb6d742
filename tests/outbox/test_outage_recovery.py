"""The circuit breaker while it is open: probes, Retry-After, operators; and the small start after it."""

from __future__ import annotations

from attempts import pause
from lanes import ALICE, LEASE_MS, bury, claim, guard_state, now_ms, open_in, pause_elapses, put
from outages import HUGE, fails, held, lane_of, succeed, trip
from waiting import wait_until

from insend_relay.outbox.breaker import BreakerLimits
from insend_relay.outbox.failed_attempt import FailedAttempt
from insend_relay.outbox.lease import new_token
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

# Probing


def test_there_is_one_probe_at_a_time(outbox: Outbox) -> None:
    trip(outbox, lanes=5)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    assert claim(outbox) == []
    assert open_in(outbox) > LEASE_MS - 30_000
    assert probe.probe


def test_a_claim_is_a_probe_only_while_its_app_is_paused(outbox: Outbox) -> None:
    (before,) = held(outbox, 1)
    assert not before.probe
    outbox.release(before)
    trip(outbox)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    assert probe.probe
    following = outbox.settle(probe, lease_ms=LEASE_MS)
    assert following is None or not following.probe
    put(outbox, ALICE)
    assert not any(after.probe for after in claim(outbox))


def test_a_probe_whose_worker_died_is_followed_by_another(outbox: Outbox) -> None:
    trip(outbox)
    pause_elapses(outbox)
    claim(outbox)
    pause_elapses(outbox)
    assert len(claim(outbox)) == 1


def test_a_probe_that_is_given_back_unheard_lets_the_next_one_go(outbox: Outbox) -> None:
    trip(outbox)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    assert claim(outbox) == []
    assert outbox.release(probe)
    (following,) = claim(outbox)
    bury(outbox, following)
    assert len(claim(outbox)) == 1


def test_a_probe_that_is_given_back_does_not_end_an_operators_pause(outbox: Outbox) -> None:
    trip(outbox)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    outbox.pause("shop")
    assert outbox.release(probe)
    assert claim(outbox) == []


def test_lanes_given_back_untried_after_an_outage_leave_their_tokens_to_others(outbox: Outbox) -> None:
    trip(outbox, lanes=5)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    outbox.settle(probe, lease_ms=0)
    unheard = claim(outbox, room=10)
    assert (len(unheard), claim(outbox)) == (2, [])
    outbox.unclaim(unheard[0].token)
    again = claim(outbox)
    assert len(again) == 2
    for one in again:
        outbox.release(one)
    assert len(claim(outbox)) == 2


def test_a_burial_without_a_post_leaves_its_token_to_others_when_its_lane_does_not_go_on(outbox: Outbox) -> None:
    trip(outbox, lanes=5)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    outbox.settle(probe, lease_ms=0)
    first, second = claim(outbox, room=10)
    assert claim(outbox) == []
    bury(outbox, first)
    bury(outbox, second)
    assert len(claim(outbox)) == 2


def test_only_the_claim_with_this_token_is_given_back(outbox: Outbox) -> None:
    put(outbox, ALICE)
    token = new_token()
    (kept,) = outbox.claim("worker-1", 10, token=token, lease_ms=LEASE_MS)
    outbox.unclaim(new_token())
    assert claim(outbox) == []
    outbox.unclaim(token)
    (again,) = claim(outbox)
    assert again.id == kept.id
    assert not again.attempts().abandoned


def test_a_probe_prefers_a_head_that_was_never_tried(outbox: Outbox) -> None:
    trip(outbox)
    fresh = put(outbox, ALICE)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    assert probe.id == fresh


def test_probes_rotate_over_the_lanes(outbox: Outbox) -> None:
    trip(outbox)
    wait_until(lambda: now_ms(outbox) > max(due_at(outbox, number) for number in range(3)))
    probed = []
    for _ in range(3):
        pause_elapses(outbox)
        (probe,) = claim(outbox)
        probed.append(probe.lane)
        fails(outbox, probe, "unreachable")
    assert sorted(probed) == [str(lane_of(number)) for number in range(3)]


def due_at(outbox: Outbox, number: int) -> float:
    return float(outbox.read("ZSCORE", outbox.keys.due("shop"), str(lane_of(number))))


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(outbox: Outbox) -> None:
    limits = BreakerLimits(first_ms=100_000, max_ms=600_000)
    trip(outbox, limits)
    pauses = [open_in(outbox)]
    for _ in range(4):
        pause_elapses(outbox)
        (probe,) = claim(outbox)
        fails(outbox, probe, "unreachable", limits)
        pauses.append(open_in(outbox))
    assert [round(pause / 100_000) for pause in pauses] == [1, 2, 4, 6, 6]


def test_a_probes_failure_that_is_written_twice_doubles_the_pause_once(outbox: Outbox) -> None:
    limits = BreakerLimits(first_ms=100_000, max_ms=600_000)
    trip(outbox, limits)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    attempt = FailedAttempt("unreachable", "refused", Tried(probe.id, 1), 0, limits=limits)
    assert [outbox.fail(probe, attempt).result for _ in range(2)] == ["NOT_COUNTED", "SUPERSEDED"]
    assert 150_000 < open_in(outbox) <= 200_000


def test_the_pause_is_jittered_as_the_caller_says(outbox: Outbox) -> None:
    claims = held(outbox, 1)
    before = now_ms(outbox)
    reply = pause(outbox, claims[0], limits=BreakerLimits(first_ms=10_000), jitter=1.5)
    assert before + 15_000 <= reply.until_ms <= now_ms(outbox) + 15_000
    assert float(outbox.read("ZSCORE", outbox.keys.apps, "shop")) == reply.until_ms


def test_failures_of_posts_from_before_the_pause_do_not_lengthen_it(outbox: Outbox) -> None:
    claims = held(outbox, 9)
    for failed in claims[:3]:
        fails(outbox, failed)
    before = guard_state(outbox), outbox.read("ZSCORE", outbox.keys.apps, "shop")
    for failed in claims[3:]:
        assert fails(outbox, failed).until_ms == int(before[0]["until"])
    assert (guard_state(outbox), outbox.read("ZSCORE", outbox.keys.apps, "shop")) == before


def test_a_late_failure_from_before_the_pause_lets_no_second_probe_out(outbox: Outbox) -> None:
    limits = BreakerLimits(first_ms=100_000, max_ms=600_000)
    claims = held(outbox, 5)
    for failed in claims[:3]:
        fails(outbox, failed, "unreachable", limits)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    before = guard_state(outbox)
    assert not fails(outbox, claims[3], "server", limits).counts
    assert guard_state(outbox) == before
    assert claim(outbox) == [], "the probe is still under way"
    fails(outbox, probe, limits=limits)
    assert 150_000 < open_in(outbox) <= 200_000, "and its failure is the probe's"


# Retry-After


def test_retry_after_pauses_at_once_and_for_no_less_than_asked(outbox: Outbox) -> None:
    (only,) = held(outbox, 1)
    assert fails(outbox, only, retry_after_ms=90_000).began
    assert 60_000 < open_in(outbox) <= 90_000


def test_a_short_retry_after_does_not_shorten_the_pause(outbox: Outbox) -> None:
    claims = held(outbox, 1)
    fails(outbox, claims[0], limits=BreakerLimits(first_ms=50_000), retry_after_ms=1)
    assert open_in(outbox) > 25_000


def test_a_longer_retry_after_lengthens_a_pause_and_a_shorter_one_leaves_it(outbox: Outbox) -> None:
    claims = held(outbox, 3)
    fails(outbox, claims[0], retry_after_ms=90_000)
    fails(outbox, claims[1], retry_after_ms=5_000)
    assert open_in(outbox) > 60_000
    assert fails(outbox, claims[2], retry_after_ms=200_000).until_ms > now_ms(outbox) + 150_000
    assert open_in(outbox) > 150_000


def test_a_retry_after_that_came_while_a_probe_was_out_outlasts_its_failure(outbox: Outbox) -> None:
    claims = held(outbox, 4)
    for failed in claims[:3]:
        fails(outbox, failed, "unreachable")
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    fails(outbox, claims[3], retry_after_ms=90_000)
    fails(outbox, probe)
    assert open_in(outbox) > 60_000


def test_a_short_retry_after_from_before_lets_no_second_probe_out(outbox: Outbox) -> None:
    claims = held(outbox, 4)
    for failed in claims[:3]:
        fails(outbox, failed, "unreachable")
    pause_elapses(outbox)
    claim(outbox)
    fails(outbox, claims[3], retry_after_ms=1_000)
    assert open_in(outbox) > LEASE_MS - 30_000


# Operators


def test_an_operators_pause_survives_a_trip_a_probe_time_and_a_200(outbox: Outbox) -> None:
    claims = held(outbox, 4)
    outbox.pause("shop")
    for failed in claims[:3]:
        fails(outbox, failed)
    assert guard_state(outbox)["since"]
    assert open_in(outbox) > HUGE
    fails(outbox, claims[0], retry_after_ms=5_000)
    assert open_in(outbox) > HUGE
    outbox.settle(claims[3], lease_ms=LEASE_MS)
    assert open_in(outbox) > HUGE
    assert claim(outbox) == []
    assert "since" not in guard_state(outbox)
    outbox.resume("shop")
    assert open_in(outbox) <= 0


def test_an_operator_may_end_an_outage(outbox: Outbox) -> None:
    trip(outbox, BreakerLimits(first_ms=60_000))
    outbox.resume("shop")
    assert not {"since", "until", "probe", "pauses", "reason", "operator"} & guard_state(outbox).keys()
    assert len(claim(outbox)) == 2, "starting small"


def test_after_a_resume_the_guard_starts_afresh(outbox: Outbox) -> None:
    claims = held(outbox, 9)
    outbox.pause("shop")
    assert all(fails(outbox, failed, "server").counts for failed in claims[:4])
    outbox.resume("shop")
    assert "operator" not in guard_state(outbox)
    assert all(fails(outbox, failed, "server").counts for failed in claims[4:8])
    assert fails(outbox, claims[0], "server").began
    outbox.settle(claims[8], lease_ms=0)
    assert open_in(outbox) <= 0, "no operator holds it back any more"


# Recovery


def test_the_first_200_resumes_starting_with_two_lanes_and_each_200_lets_two_more_in(outbox: Outbox) -> None:
    trip(outbox, lanes=20)
    pause_elapses(outbox)
    (probe,) = claim(outbox)
    outbox.read("DEL", outbox.keys.wake)
    outbox.settle(probe, lease_ms=0)
    assert outbox.read("LLEN", outbox.keys.wake) == 1
    assert not {"since", "until", "probe", "pauses", "reason", "kind"} & guard_state(outbox).keys()
    wave, sizes = claim(outbox), []
    while wave:
        sizes.append(len(wave))
        assert claim(outbox) == []
        for one in wave:
            outbox.settle(one, lease_ms=0)
        wave = claim(outbox) if len(sizes) < 9 else []
    assert sizes == [2, 4, 8, 5]


def test_a_200_of_a_post_from_before_the_pause_resumes_too(outbox: Outbox) -> None:
    claims = held(outbox, 4)
    for failed in claims[:3]:
        fails(outbox, failed, "unreachable")
    outbox.settle(claims[3], lease_ms=0)
    assert open_in(outbox) <= 0
    assert len(claim(outbox)) == 2


def test_a_poisoned_visitor_does_not_end_the_small_start(outbox: Outbox) -> None:
    trip(outbox, lanes=20)
    pause_elapses(outbox)
    outbox.settle(claim(outbox)[0], lease_ms=0)
    first, second = claim(outbox)
    assert fails(outbox, first, "rejected").counts
    assert len(claim(outbox)) == 1, "its place goes to another visitor, and no more than that"
    assert fails(outbox, second, "rejected").counts
    assert len(claim(outbox)) == 1


def test_an_outage_during_the_small_start_begins_anew(outbox: Outbox) -> None:
    trip(outbox, lanes=20)
    pause_elapses(outbox)
    outbox.settle(claim(outbox)[0], lease_ms=0)
    first, second = claim(outbox)
    fails(outbox, first)
    fails(outbox, second)
    assert fails(outbox, first).began
    pause_elapses(outbox)
    assert len(claim(outbox)) == 1


def test_the_small_start_ends_after_many_200s(outbox: Outbox) -> None:
    outbox.resume("shop")
    outbox.read("HSET", outbox.keys.outage("shop"), "tokens", 511)
    succeed(outbox)
    assert guard_state(outbox)["tokens"] == "512"
    succeed(outbox)
    assert not {"tokens", "resumed"} & guard_state(outbox).keys()


def test_the_small_start_ends_after_half_a_minute_come_what_may(outbox: Outbox) -> None:
    trip(outbox, lanes=20)
    outbox.resume("shop")
    assert len(claim(outbox)) == 2
    assert claim(outbox) == []
    outbox.read("HSET", outbox.keys.outage("shop"), "resumed", now_ms(outbox) - 30_001)
    assert len(claim(outbox)) == 18
