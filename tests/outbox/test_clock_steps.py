"""Steps of Redis's clock, on a server whose clock can be set: what they leave in Redis, and what pulls it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from attempts import retry
from command_line import CommandLine
from faketime import HOUR, ClockedRedis, clocked_redis
from lanes import (
    ALICE,
    BOB,
    GUEST,
    books,
    bury,
    claim,
    claim_one,
    come_due,
    due_in,
    guard_state,
    letter,
    now_ms,
    open_in,
    put,
    snapshot,
)
from outages import fails

from insend_relay.console.commands.filters import Wanted
from insend_relay.console.commands.verdict import verdict
from insend_relay.operations.dead import DeadLetters
from insend_relay.operations.replay import Replay
from insend_relay.operations.status import read_paused, read_status, span
from insend_relay.outbox.clock_steps import ClockSteps, FarAhead
from insend_relay.outbox.connection import connect
from insend_relay.outbox.keys import Lane
from insend_relay.outbox.settings import MAX_LEASE_SECONDS, MAX_TURN_SECONDS, MAX_WAIT_SECONDS
from insend_relay.outbox.store import Outbox
from insend_relay.outbox.trying import Tried

MINUTE = 60
STEPS = pytest.mark.parametrize("step", [MINUTE, HOUR], ids=["a minute", "an hour"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClockedRedis]:
    """A server whose clock can be set."""
    with clocked_redis(tmp_path_factory.mktemp("clocked"), config={"appendonly": "no"}) as server:
        yield server


@pytest.fixture
def client(server: ClockedRedis) -> Iterator[redis.Redis]:
    """Its client, in the place of the one that other tests use."""
    with connect(server.url, timeout_seconds=60) as client:
        yield client


def pull_back(outbox: Outbox) -> FarAhead:
    """All steps that a pump makes of one look; the sum."""
    steps = ClockSteps(outbox)
    found = steps.pull_back()
    while steps.more:
        more = steps.pull_back()
        found = FarAhead(found.apps + more.apps, found.lanes + more.lanes)
    return found


def trouble(outbox: Outbox, lane: Lane, delay_ms: int) -> None:
    """An event of the lane was tried and failed; it is tried again after a delay."""
    event_id = put(outbox, lane)
    held = claim_one(outbox)
    last = now_ms(outbox)
    assert retry(outbox, held, Tried(event_id, 1, 0, last, last, "answered 500"), delay_ms=delay_ms)


@STEPS
def test_what_was_due_when_the_clock_is_set_back_is_due_after_one_look(
    outbox: Outbox, server: ClockedRedis, step: int
) -> None:
    put(outbox, ALICE)
    outbox.settle(claim_one(outbox), lease_ms=0)  # the app's turn is over: its score is the time of this claim
    put(outbox, ALICE)
    server.step(-step)
    put(outbox, BOB)
    assert claim(outbox) == []
    assert pull_back(outbox) == (1, 1)
    assert {held.lane for held in claim(outbox)} == {str(ALICE), str(BOB)}
    assert pull_back(outbox) == (0, 0)


def test_a_lane_in_flight_keeps_its_lease_and_is_due_after_the_longest_one(
    outbox: Outbox, server: ClockedRedis
) -> None:
    put(outbox, ALICE)
    put(outbox, ALICE)
    held = claim_one(outbox)
    server.step(-HOUR)
    assert pull_back(outbox) == (1, 1)
    assert claim(outbox) == []
    assert 0 < (due_in(outbox) or 0) <= MAX_LEASE_SECONDS * 1000
    assert outbox.settle(held, lease_ms=60_000) is not None
    assert books(outbox)["delivered"] == 1
    assert pull_back(outbox) == (0, 0), "what is leased anew has its place by the new clock"


@STEPS
def test_a_lane_that_waits_for_its_next_attempt_is_due_again_after_a_step(
    outbox: Outbox, server: ClockedRedis, step: int
) -> None:
    trouble(outbox, ALICE, delay_ms=(MAX_WAIT_SECONDS - MINUTE) * 1000)
    assert pull_back(outbox) == (0, 0), "a long wait is no sign of a step"
    server.step(-step)
    assert pull_back(outbox) == (1, 1)
    assert claim_one(outbox).attempts().attempts == 1


def test_without_a_step_nothing_is_pulled_back(outbox: Outbox) -> None:
    trouble(outbox, BOB, delay_ms=MAX_WAIT_SECONDS * 1000)
    put(outbox, GUEST)
    put(outbox, ALICE, guest_uid=GUEST.uid)
    assert [held.lane for held in outbox.claim("w", 9, lease_ms=MAX_LEASE_SECONDS * 1000)] == [str(GUEST)]
    assert (due_in(outbox, ALICE) or 0) > 0, "it waits for its guest"
    put(outbox, Lane("second", "v", "1"))
    outbox.pause("second")
    put(outbox, Lane("third", "v", "1"))
    fails(outbox, next(held for held in claim(outbox) if held.app == "third"), "closed", retry_after_ms=900_000)
    put(outbox, Lane("fourth", "v", "1"))
    fails(outbox, next(held for held in claim(outbox) if held.app == "fourth"), "closed")
    outbox.read("ZADD", outbox.keys.replays, now_ms(outbox) + MAX_TURN_SECONDS * 1000, "run-1")
    before = {key: value for key, value in snapshot(outbox).items() if key != outbox.keys.wake.encode()}
    assert pull_back(outbox) == (0, 0)
    assert {key: value for key, value in snapshot(outbox).items() if key != outbox.keys.wake.encode()} == before


@STEPS
@pytest.mark.parametrize("retry_after_ms", [0, 900_000])
def test_a_pause_of_the_circuit_breaker_lasts_once_more_at_most(
    outbox: Outbox, server: ClockedRedis, step: int, retry_after_ms: int
) -> None:
    put(outbox)
    verdict = fails(outbox, claim_one(outbox), "closed", retry_after_ms=retry_after_ms)
    pause_ms = verdict.until_ms - now_ms(outbox) + 1_000
    server.step(-step)
    pull_back(outbox)
    assert 0 < open_in(outbox) <= max(pause_ms, 2_000)
    paused = read_paused(outbox, "shop")
    assert paused is not None
    assert paused.since_ms <= now_ms(outbox)
    assert (paused.until_ms or 0) <= now_ms(outbox) + max(pause_ms, 2_000)


def test_a_probe_that_fails_after_a_step_back_begins_a_pause_of_its_own_length(
    outbox: Outbox, server: ClockedRedis
) -> None:
    put(outbox)
    fails(outbox, claim_one(outbox), "closed", retry_after_ms=100)
    outbox.read("ZADD", outbox.keys.apps, now_ms(outbox) - 1, "shop")
    outbox.read("HSET", outbox.keys.outage("shop"), "until", now_ms(outbox) - 1)
    come_due(outbox)
    probe = claim_one(outbox)
    server.step(-HOUR)
    assert fails(outbox, probe).until_ms <= now_ms(outbox) + 10_000


def test_an_operators_pause_stays(outbox: Outbox, server: ClockedRedis) -> None:
    put(outbox)
    outbox.pause("shop")
    before = outbox.read("ZSCORE", outbox.keys.apps, "shop"), guard_state(outbox)
    server.step(-HOUR)
    assert pull_back(outbox).apps == 0
    assert (outbox.read("ZSCORE", outbox.keys.apps, "shop"), guard_state(outbox)) == before


def test_a_hint_from_before_a_step_back_does_not_keep_a_pump_from_publishing(
    outbox: Outbox, server: ClockedRedis
) -> None:
    put(outbox)
    assert outbox.look(500)[0]
    server.step(-HOUR)
    pull_back(outbox)
    assert outbox.look(500)[0]


def test_a_hint_that_was_just_published_is_not_published_again(outbox: Outbox) -> None:
    put(outbox)
    assert [outbox.look(60_000)[0] for _ in range(3)] == [True, False, False]


def test_thousands_of_lanes_are_pulled_back_in_bounded_steps(outbox: Outbox, server: ClockedRedis) -> None:
    lanes = [Lane("shop", "v", str(number)) for number in range(1_200)]
    for lane in lanes:
        put(outbox, lane)
    server.step(-HOUR)
    steps = ClockSteps(outbox)
    found = [(steps.pull_back().lanes, steps.more) for _ in range(4)]
    assert found == [(500, True), (500, True), (200, False), (0, False)]


def test_many_lanes_that_wait_rightly_do_not_hide_one_that_waits_for_the_clock(
    outbox: Outbox, server: ClockedRedis
) -> None:
    lanes = [Lane("shop", "v", str(number)) for number in range(600)]
    failed = {str(lane): put(outbox, lane) for lane in lanes}
    tried_at = now_ms(outbox) - 2 * MINUTE * 1000
    for held in claim(outbox, room=1000):
        tried = Tried(failed[held.lane], 1, 0, tried_at, tried_at, "answered 500")
        retry(outbox, held, tried, delay_ms=10 * MINUTE * 1000)
    put(outbox, BOB)
    server.step(-MINUTE)
    steps = ClockSteps(outbox)
    moved = [steps.pull_back().lanes for _ in range(4)]
    assert moved == [0, 1, 0, 0], "the first 500, the rest, and both again"
    assert claim_one(outbox).lane == str(BOB)


def test_many_apps_are_looked_at_over_several_steps(outbox: Outbox, server: ClockedRedis) -> None:
    for number in range(150):
        put(outbox, Lane(f"app{number}", "v", "1"))
    server.step(-HOUR)
    steps = ClockSteps(outbox)
    assert sum(steps.pull_back().lanes for _ in range(3)) == 150


def test_a_replay_whose_message_was_lost_goes_on_after_a_step_back(outbox: Outbox, server: ClockedRedis) -> None:
    outbox.read("ZADD", outbox.keys.replays, now_ms(outbox) + MAX_TURN_SECONDS * 1000, "run-1")
    server.step(-HOUR)
    pull_back(outbox)
    assert float(outbox.read("ZSCORE", outbox.keys.replays, "run-1")) <= now_ms(outbox)


@STEPS
def test_letters_that_died_before_a_step_back_are_listed_and_replayed_and_newer_ones_are_left(
    outbox: Outbox, server: ClockedRedis, step: int
) -> None:
    before = letter(outbox)
    server.step(-step)
    meant = Wanted().filter(outbox)
    assert [found.id.bytes for found in DeadLetters(outbox).scan(meant)] == [before]
    run = Replay.start(outbox)
    pull_back(outbox)
    after = letter(outbox, BOB)
    last = run.run(per_second=1e6)
    assert (last.total, last.replayed, last.finished) == (1, 1, True)
    bury(outbox, claim_one(outbox), lease_ms=0)
    assert Replay.resume(outbox, run.id).run(per_second=1e6).replayed == 1, "a returned letter does not go twice"
    assert {found.id.bytes for found in DeadLetters(outbox).scan()} == {before, after}


@STEPS
def test_the_age_of_a_letter_that_died_before_a_step_back_is_not_negative(
    namespace: str, outbox: Outbox, server: ClockedRedis, step: int
) -> None:
    letter(outbox)
    server.step(-step)
    result = CommandLine(server.url, namespace)("dead", "list")
    assert result.exit_code == 0
    assert "0 s ago" in " ".join(result.output.split())


def test_to_look_counts_and_changes_nothing(outbox: Outbox, server: ClockedRedis) -> None:
    put(outbox)
    put(outbox, BOB)
    server.step(-HOUR)
    before = snapshot(outbox)
    assert ClockSteps(outbox).look() == (1, 2)
    assert snapshot(outbox) == before


def test_a_possible_duplicate_that_is_marked_after_a_step_back_stays_among_the_latest(
    outbox: Outbox, server: ClockedRedis
) -> None:
    marked_at = now_ms(outbox)
    outbox.read("ZADD", outbox.keys.doubtful, *(word for number in range(10_000) for word in (marked_at, number)))
    server.step(-HOUR)
    event_id = put(outbox)
    claimed = claim_one(outbox)
    outbox.release(claimed, duplicate=True)
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None
    assert outbox.read("ZCARD", outbox.keys.doubtful) == 10_000


def test_a_small_start_does_not_last_as_long_as_a_step_back(outbox: Outbox, server: ClockedRedis) -> None:
    lanes = [Lane("shop", "v", str(number)) for number in range(5)]
    for lane in lanes:
        put(outbox, lane)
    outbox.resume("shop")
    server.step(-HOUR)
    pull_back(outbox)
    assert len(claim(outbox)) == len(lanes)


def test_the_circuit_breaker_is_not_calm_for_as_long_as_a_step_back(outbox: Outbox, server: ClockedRedis) -> None:
    put(outbox)
    outbox.settle(claim_one(outbox), lease_ms=0)
    server.step(-HOUR)
    pull_back(outbox)
    put(outbox)
    assert fails(outbox, claim_one(outbox), "closed").began


@pytest.mark.parametrize("step", [-HOUR, -MINUTE, MINUTE, HOUR])
def test_no_age_is_negative_and_the_books_balance_after_a_step(outbox: Outbox, server: ClockedRedis, step: int) -> None:
    put(outbox)
    put(outbox)
    outbox.settle(claim_one(outbox), lease_ms=0)
    server.step(step)
    found = read_status(outbox)
    assert found.balanced
    assert (found.oldest_waiting_seconds or 0) >= 0
    assert "-" not in verdict(found).text.partition(":")[2]
    assert span(-HOUR) == "0 s"


def test_after_a_step_forward_a_lease_is_over_and_its_head_is_marked_before_it_is_sent_again(
    outbox: Outbox, server: ClockedRedis
) -> None:
    event_id = put(outbox)
    claim_one(outbox)
    server.step(HOUR)
    assert pull_back(outbox) == (0, 0)
    assert claim_one(outbox).id == event_id
    assert outbox.read("ZSCORE", outbox.keys.doubtful, event_id) is not None
